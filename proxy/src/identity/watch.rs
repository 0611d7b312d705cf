//! Follows the mounted Secret and the trust bundle of the stream, and puts each new pair in force.
//!
//! The kubelet replaces all files of a Secret at once by renaming a symbolic link, which the directory's watch shows. A slow
//! poll stands behind it for file systems that do not notify.

use super::Identity;
use super::configs::{Handling, Tls, Trust};
use mesh_wire::convert::TrustBundle;
use mesh_wire::tls::material::Material;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How often the files are looked at without a notification.
const POLL: Duration = Duration::from_secs(5);

/// How long after a notification the files are read: the kubelet makes several changes in a row.
const SETTLE: Duration = Duration::from_millis(20);

/// The most that is read of one file. A Secret holds at most 1 MiB.
const MOST_BYTES: u64 = 1 << 20;

/// Counts of what became of the files.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Certificates put in force.
    pub loaded: prometheus::IntCounter,
    /// Sets of files refused.
    pub refused: prometheus::IntCounter,
    /// When the certificate in use ends, in seconds since the epoch.
    pub expiry: prometheus::Gauge,
}

/// Whose certificate it must be, and how it is used.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's service account.
    pub service_account: String,
    /// How connections are made with it.
    pub handling: Handling,
}

#[derive(PartialEq, Eq)]
struct Files {
    tls_crt: Vec<u8>,
    tls_key: Vec<u8>,
    ca_crt: Vec<u8>,
}

/// Runs until the trust's sender is gone, which is at the proxy's end.
pub async fn run(
    directory: PathBuf,
    holder: Holder,
    identity: Identity,
    mut trust: watch::Receiver<Option<Arc<TrustBundle>>>,
    provider: Arc<CryptoProvider>,
    counters: Counters,
) {
    let (notified, mut notifications) = tokio::sync::mpsc::channel::<()>(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| only_read(event.kind)) {
            return;
        }
        // A full queue already holds the news.
        let _ = notified.try_send(());
    });
    let mut watcher = watcher
        .map_err(|error| tracing::warn!(%error, "cannot watch files, polling alone"))
        .ok();
    let mut watching = false;
    let mut seen: Option<Files> = None;
    let mut material: Option<Arc<Material>> = None;
    let mut unreadable = false;
    loop {
        // The directory of an optional Secret exists from the start; that of a developer may come later.
        if let Some(watcher) = watcher.as_mut().filter(|_| !watching) {
            watching = watcher.watch(&directory, RecursiveMode::NonRecursive).is_ok();
        }
        let mut changed = trust.has_changed().unwrap_or(false);
        let read = read(&directory).await;
        unreadable &= read.is_err();
        match read {
            Ok(files) if seen.as_ref() != Some(&files) => {
                match load(&files, &holder, &provider) {
                    Ok(parsed) => {
                        material = Some(Arc::new(parsed));
                        changed = true;
                    }
                    Err(error) => {
                        counters.refused.inc();
                        tracing::error!(%error, directory = %directory.display(), "certificate refused, the loaded one stays");
                    }
                }
                seen = Some(files);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && material.is_none() => {}
            Err(error) => {
                // Once for as long as it lasts: they are looked at every few seconds.
                if !unreadable {
                    counters.refused.inc();
                    tracing::error!(%error, directory = %directory.display(), "certificate files unreadable, the loaded one stays");
                }
                unreadable = true;
            }
        }
        if changed && let Some(material) = &material {
            let bundle = trust.borrow_and_update().as_deref().map(trust_of);
            match Tls::new(material.clone(), bundle, holder.handling, &provider) {
                Ok(tls) => {
                    counters.loaded.inc();
                    let expiry = tls.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                    counters.expiry.set(expiry.as_secs_f64());
                    tracing::info!(identity = %tls.material.identity, generation = tls.generation, "certificate in use");
                    identity.replace(Arc::new(tls));
                }
                Err(error) => {
                    counters.refused.inc();
                    tracing::error!(%error, "certificate or trust bundle refused, the loaded ones stay");
                }
            }
        }
        tokio::select! {
            _ = notifications.recv() => tokio::time::sleep(SETTLE).await,
            changed = trust.changed() => {
                if changed.is_err() {
                    return;
                }
                trust.mark_changed();
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Whether an event tells of reading alone. Files that lie in the directory itself are opened at each look, and an answer to
/// that would be the next look.
fn only_read(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn load(files: &Files, holder: &Holder, provider: &Arc<CryptoProvider>) -> Result<Material, String> {
    let material = Material::parse(&files.tls_crt, &files.tls_key, &files.ca_crt, UnixTime::now(), provider)
        .map_err(|error| error.to_string())?;
    let whose = &material.identity;
    if whose.namespace() != holder.namespace || whose.service_account() != holder.service_account {
        let Holder {
            namespace,
            service_account,
            ..
        } = holder;
        return Err(format!(
            "tls.crt belongs to {whose}, expected that of ns/{namespace}/sa/{service_account}"
        ));
    }
    Ok(material)
}

fn trust_of(bundle: &TrustBundle) -> Trust {
    Trust {
        trust_domain: bundle.trust_domain.clone(),
        aliases: bundle.aliases.clone(),
        roots: bundle
            .roots
            .iter()
            .map(|root| CertificateDer::from(root.to_vec()))
            .collect(),
    }
}

/// Reads the files of one version.
async fn read(directory: &Path) -> io::Result<Files> {
    // One version of a mounted Secret is one directory behind this link: resolved once, so that the three files belong
    // together. It may be replaced and removed meanwhile: then the next one is read.
    let link = directory.join("..data");
    let mut version = tokio::fs::canonicalize(&link).await.ok();
    loop {
        let files = read_version(version.as_deref().unwrap_or(directory)).await;
        let now = tokio::fs::canonicalize(&link).await.ok();
        if files.is_ok() || now == version {
            return files;
        }
        version = now;
    }
}

async fn read_version(directory: &Path) -> io::Result<Files> {
    let file = |name: &'static str| {
        let path = directory.join(name);
        async move {
            let size = tokio::fs::metadata(&path).await?.len();
            if size > MOST_BYTES {
                return Err(io::Error::other(format!(
                    "{name}: {size} bytes, at most {MOST_BYTES} are read"
                )));
            }
            tokio::fs::read(&path).await
        }
    };
    Ok(Files {
        tls_crt: file("tls.crt").await?,
        tls_key: file("tls.key").await?,
        ca_crt: file("ca.crt").await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind, RemoveKind};

    #[test]
    fn reading_is_no_change() {
        let any = AccessMode::Any;
        for (kind, expected) in [
            (EventKind::Access(AccessKind::Open(any)), true),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), true),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), false),
            (EventKind::Create(CreateKind::File), false),
            (EventKind::Modify(ModifyKind::Any), false),
            (EventKind::Remove(RemoveKind::File), false),
            (EventKind::Other, false),
        ] {
            assert_eq!(only_read(kind), expected, "{kind:?}");
        }
    }
}
