//! OpenSSL as the other side.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::namespaces::shown;
use super::pod::Pod;
use super::secrets::Secret;
use super::world::World;

/// What `openssl s_client` printed. `arguments` come after the address; without `-ign_eof` it ends with what it sends.
pub(crate) fn client(pod: &Pod, to: &str, arguments: &[&str], sends: &str) -> String {
    let mut command = pod.command("timeout");
    command
        .args(["15", "openssl", "s_client", "-connect", to])
        .args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A peer that refuses at once closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(sends.as_bytes());
    shown(&child.wait_with_output().unwrap())
}

/// As [`client`], as a peer of the mesh: Istio's SNI and ALPN, and a certificate.
pub(crate) fn mesh_client(world: &World, pod: &Pod, to: &str, secret: &Secret, sends: &str) -> String {
    let files = Files::new(world, "client", secret);
    let [crt, key, ca] = files.arguments();
    let arguments = [
        "-servername",
        "outbound_.80_._.server.shop.svc.cluster.local",
        "-ign_eof",
        "-alpn",
        "istio-http/1.1,istio,http/1.1",
        "-cert",
        &crt,
        "-key",
        &key,
        "-CAfile",
        &ca,
    ];
    client(pod, to, &arguments, sends)
}

/// Starts `openssl s_server` in a pod.
pub(crate) fn server(world: &mut World, pod: &Pod, port: u16, secret: &Secret, arguments: &[&str]) {
    let name = format!("openssl-{}-{port}", pod.name);
    let files = Files::new(world, &name, secret);
    let [crt, key, ca] = files.arguments();
    let mut command = pod.command("openssl");
    command
        .args([
            "s_server",
            "-port",
            &port.to_string(),
            "-cert",
            &crt,
            "-key",
            &key,
            "-CAfile",
            &ca,
        ])
        .args(arguments);
    world.spawn(&name, command);
    world.logged(&name, "ACCEPT");
}

/// A Secret as files.
struct Files(PathBuf);

impl Files {
    fn new(world: &World, name: &str, secret: &Secret) -> Self {
        let folder = world.folder.join(format!("{name}-files"));
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in [
            ("tls.crt", &secret.crt),
            ("tls.key", &secret.key),
            ("ca.crt", &secret.ca),
        ] {
            fs::write(folder.join(file), text).unwrap();
        }
        Self(folder)
    }

    fn arguments(&self) -> [String; 3] {
        ["tls.crt", "tls.key", "ca.crt"].map(|file| self.0.join(file).display().to_string())
    }
}

/// The first certificate of a text: its names and its serial number, in lower-case hexadecimal.
pub(crate) fn certificate(folder: &Path, text: &str) -> (String, String) {
    const END: &str = "-----END CERTIFICATE-----";
    let Some((begin, end)) = text.find("-----BEGIN CERTIFICATE-----").zip(text.find(END)) else {
        panic!("no certificate: {text}")
    };
    let file = folder.join("shown.crt");
    fs::write(&file, &text[begin..end + END.len()]).unwrap();
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-ext", "subjectAltName", "-in"])
        .arg(&file)
        .output()
        .unwrap();
    let text = shown(&output);
    let serial = text.lines().find_map(|line| line.strip_prefix("serial=")).unwrap();
    (text.clone(), serial.trim_start_matches('0').to_lowercase())
}
