//! The Secret that the root lives in: the lease holder makes it when it is absent, everyone reads it, nobody overwrites
//! it. A damaged or expired Secret is an error that is shown; the authority that was loaded before stays in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::watcher;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::authority::{Authority, CaError};
use crate::kubernetes::leader::Leadership;
use crate::kubernetes::watch::{Change, follow};
use crate::metrics::Metrics;

/// The Secret's name and type, Istio's.
pub const SECRET_NAME: &str = "istio-ca-secret";
const SECRET_TYPE: &str = "istio.io/ca-root";

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOTS: &str = "root-cert.pem";

/// How often the lease holder looks whether the Secret is there: before there is an authority, and after.
const FIRST_PERIOD: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(10);

/// Reads the authority from its Secret.
///
/// # Errors
/// What [`Authority::from_pem`] says, or the key that is missing.
pub fn read(secret: &Secret, now: SystemTime) -> Result<Authority, CaError> {
    let value = |key: &'static str| {
        let data = secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice());
        data.filter(|bytes| !bytes.is_empty()).ok_or(CaError::Missing(key))
    };
    Authority::from_pem(value(CERTIFICATE)?, value(KEY)?, value(ROOTS)?, now)
}

/// The Secret for an authority.
fn secret(authority: &Authority, namespace: &str) -> Secret {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET_NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([(
                mesh_api::labels::MANAGED_BY.to_owned(),
                mesh_api::labels::MANAGED_BY_PINNACE.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), text(authority.certificate_pem())),
            (KEY.to_owned(), text(&authority.key_pem())),
            (ROOTS.to_owned(), text(authority.roots_pem())),
        ])),
        ..Secret::default()
    }
}

/// Follows the Secret and publishes the authority. Runs until the process ends.
pub async fn load(
    secrets: Api<DeserializeGuard<Secret>>,
    publish: watch::Sender<Option<Arc<Authority>>>,
    metrics: Arc<Metrics>,
) {
    let only = watcher::Config::default().fields(&format!("metadata.name={SECRET_NAME}"));
    follow(secrets, only, metrics.clone(), |change| {
        if let Change::Applied(found) = change {
            match read(&found, SystemTime::now()) {
                Ok(authority) => {
                    let same = publish.borrow().as_ref().is_some_and(|held| {
                        held.certificate_pem() == authority.certificate_pem() && held.roots_pem() == authority.roots_pem()
                    });
                    metrics.ca_usable.set(1);
                    if !same {
                        info!(roots = authority.roots().len(), "the certificate authority is loaded");
                        publish.send_replace(Some(Arc::new(authority)));
                    }
                }
                Err(reason) => {
                    metrics.ca_usable.set(0);
                    error!(secret = SECRET_NAME, %reason, "the certificate authority's Secret cannot be used and is left as it is");
                }
            }
        }
    })
    .await;
}

/// Sees to it that the Secret exists, while this replica holds the lease. An authority that is loaded is put back when
/// its Secret was deleted, since a new root would cut every running pod off.
pub async fn keep(
    secrets: Api<Secret>,
    namespace: String,
    authority: watch::Receiver<Option<Arc<Authority>>>,
    leadership: Leadership,
) {
    loop {
        match secrets.get_opt(SECRET_NAME).await {
            Ok(Some(_)) => {}
            Ok(None) if !leadership.held() => {}
            Ok(None) => {
                let held = authority.borrow().clone();
                let restored = held.is_some();
                match held.map_or_else(|| Authority::generate(SystemTime::now()).map(Arc::new), Ok) {
                    Ok(root) => match secrets.create(&PostParams::default(), &secret(&root, &namespace)).await {
                        Ok(_) if restored => warn!(
                            secret = SECRET_NAME,
                            "the certificate authority's Secret was gone and is restored"
                        ),
                        Ok(_) => info!(secret = SECRET_NAME, "made a certificate authority"),
                        Err(reason) => {
                            warn!(secret = SECRET_NAME, %reason, "the certificate authority's Secret cannot be made")
                        }
                    },
                    Err(reason) => error!(%reason, "no certificate authority can be made"),
                }
            }
            Err(reason) => warn!(secret = SECRET_NAME, %reason, "the certificate authority's Secret cannot be read"),
        }
        let loaded = authority.borrow().is_some();
        tokio::time::sleep(if loaded { PERIOD } else { FIRST_PERIOD }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let now = SystemTime::now();
        let authority = Authority::generate(now).unwrap();
        let stored = secret(&authority, "istio-system");
        assert_eq!(
            read(&stored, now).unwrap().certificate_pem(),
            authority.certificate_pem()
        );
        assert_eq!(stored.type_.as_deref(), Some("istio.io/ca-root"));
    }

    #[test]
    fn a_missing_key_is_named() {
        let now = SystemTime::now();
        for key in [CERTIFICATE, KEY, ROOTS] {
            let mut stored = secret(&Authority::generate(now).unwrap(), "istio-system");
            stored.data.as_mut().unwrap().remove(key);
            assert_eq!(read(&stored, now).map(|_| ()), Err(CaError::Missing(key)));
        }
    }
}
