//! Certificates of no mesh: an authority and what it signs, made by OpenSSL.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::namespaces::shown;

/// An authority and its files.
pub(crate) struct TlsAuthority {
    folder: PathBuf,
    name: &'static str,
}

impl TlsAuthority {
    /// Makes an authority whose files lie in a folder.
    pub(crate) fn new(folder: &Path, name: &'static str) -> Self {
        let authority = Self {
            folder: folder.to_owned(),
            name,
        };
        let (key, certificate) = (authority.path("ca.key"), authority.path("ca.pem"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name} authority"),
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        authority
    }

    fn path(&self, file: &str) -> String {
        self.folder.join(format!("{}-{file}", self.name)).display().to_string()
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> String {
        self.path("ca.pem")
    }

    /// The files of a certificate and its key, which every user may read. `names` are subjectAltName's, as OpenSSL writes them.
    pub(crate) fn issue(&self, name: &str, names: &str) -> [String; 2] {
        let [certificate, key, request, extensions] =
            ["pem", "key", "csr", "ext"].map(|end| self.path(&format!("{name}.{end}")));
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        fs::write(&extensions, format!("subjectAltName={names}\n")).unwrap();
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &self.path("ca.pem"),
            "-CAkey",
            &self.path("ca.key"),
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ]);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        [certificate, key]
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", shown(&output));
}
