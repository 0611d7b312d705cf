//! Certificates, and how the kubelet mounts them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use mesh_core::identity::SpiffeId;
use operator::ca::{Authority, Subject};

/// tls.crt, tls.key and ca.crt.
#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) crt: String,
    pub(crate) key: String,
    pub(crate) ca: String,
    pub(crate) serial: String,
}

/// Issues an identity.
pub(crate) fn issue(authority: &Authority, id: &str, ttl: Duration, now: SystemTime) -> Secret {
    let id: SpiffeId = id.parse().unwrap();
    let leaf = authority.issue(&Subject::Workload(id), ttl, now).unwrap();
    Secret {
        crt: leaf.certificate_pem,
        key: leaf.key_pem,
        ca: authority.roots_pem().to_owned(),
        serial: leaf.serial,
    }
}

/// Writes a Secret into its mount as the kubelet does: a new directory behind a link that is renamed.
pub(crate) fn write_secret(mount: &Path, secret: &Secret) {
    let files = [
        ("tls.crt", &secret.crt),
        ("tls.key", &secret.key),
        ("ca.crt", &secret.ca),
    ];
    write_files(mount, &files.map(|(name, text)| (name, text.as_str())));
}

/// As [`write_secret`], with any files.
pub(crate) fn write_files(mount: &Path, files: &[(&str, &str)]) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let version = format!("..version-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let before = fs::read_link(mount.join("..data")).ok();
    fs::create_dir(mount.join(&version)).unwrap();
    for (name, text) in files {
        fs::write(mount.join(&version).join(name), text).unwrap();
    }
    symlink(&version, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let link = mount.join(name);
        let there = files.iter().any(|(file, _)| *file == name);
        match (there, link.is_symlink()) {
            (true, false) => symlink(Path::new("..data").join(name), link).unwrap(),
            (false, true) => fs::remove_file(link).unwrap(),
            _ => {}
        }
    }
    if let Some(before) = before {
        fs::remove_dir_all(mount.join(before)).unwrap();
    }
}
