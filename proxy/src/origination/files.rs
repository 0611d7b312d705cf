//! The files that a DestinationRule names, in the sidecar's file system.

use mesh_core::client_tls::{ClientTls, ServerCheck};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// The most that is read of one file.
const MOST_BYTES: u64 = 1 << 20;

/// Why files cannot be used. The text never holds key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {path}: {reason}")]
pub struct Problem {
    /// The field that names the file.
    pub field: &'static str,
    /// The file.
    pub path: Arc<str>,
    /// What is wrong with it.
    pub reason: Arc<str>,
}

impl Problem {
    pub(super) fn new(file: (&'static str, &Arc<str>), reason: impl Into<Arc<str>>) -> Self {
        Self {
            field: file.0,
            path: file.1.clone(),
            reason: reason.into(),
        }
    }
}

/// The files' contents; empty where the rule names none.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) ca_certificates: Vec<u8>,
    pub(super) ca_crl: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Files {
    pub(super) async fn read(tls: &ClientTls) -> Result<Self, Problem> {
        let mut files = Self::default();
        for (file, path) in named(tls) {
            let bytes = read(path)
                .await
                .map_err(|error| Problem::new((file, path), error.to_string()))?;
            match file {
                CA_CERTIFICATES => files.ca_certificates = bytes,
                CA_CRL => files.ca_crl = bytes,
                CERTIFICATE => files.certificate = bytes,
                _ => files.key = bytes,
            }
        }
        Ok(files)
    }
}

async fn read(path: &str) -> std::io::Result<Vec<u8>> {
    let file = tokio::fs::File::open(path).await?;
    if !file.metadata().await?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other("more than 1 MiB"));
    }
    Ok(bytes)
}

pub(super) const CA_CERTIFICATES: &str = "caCertificates";
pub(super) const CA_CRL: &str = "caCrl";
pub(super) const CERTIFICATE: &str = "clientCertificate";
pub(super) const KEY: &str = "privateKey";

/// The files that a rule names, by field.
fn named(tls: &ClientTls) -> Vec<(&'static str, &Arc<str>)> {
    let (origination, client) = match tls {
        ClientTls::Simple(origination) => (origination, None),
        ClientTls::Mutual(origination, client) => (origination, Some(client)),
        ClientTls::Disable | ClientTls::IstioMutual(_) | ClientTls::Refused(_) => return Vec::new(),
    };
    let (roots, crl) = match &origination.server {
        ServerCheck::Verified {
            ca_certificates,
            ca_crl,
            ..
        } => (ca_certificates.as_ref(), ca_crl.as_ref()),
        ServerCheck::Skipped => (None, None),
    };
    [
        (CA_CERTIFICATES, roots),
        (CA_CRL, crl),
        (CERTIFICATE, client.map(|client| &client.certificate)),
        (KEY, client.map(|client| &client.key)),
    ]
    .into_iter()
    .filter_map(|(field, path)| Some((field, path?)))
    .collect()
}

/// Tells one version of the files from another: of each its inode, size and time of change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamp(Option<Vec<Option<Version>>>);

/// Inode, size, and seconds and nanoseconds of the last change.
type Version = (u64, u64, i64, i64);

impl Stamp {
    pub(super) async fn of(tls: &ClientTls) -> Self {
        let mut files = Vec::new();
        for (_, path) in named(tls) {
            let metadata = tokio::fs::metadata(&**path).await.ok();
            files.push(metadata.map(|it| (it.ino(), it.len(), it.mtime(), it.mtime_nsec())));
        }
        Self(Some(files))
    }
}
