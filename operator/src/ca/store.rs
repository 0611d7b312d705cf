//! The two Secrets that an authority may live in: `cacerts`, which the mesh's owner makes and nobody else writes, and
//! `istio-ca-secret`, which the lease holder makes when there is neither. `cacerts` goes before, as in Istio.
//!
//! An annotation of `istio-ca-secret` says what has become of it, so that an operator that starts anew knows which root the
//! running pods trust: [`Mark::InForce`], or [`Mark::Superseded`] once certificates come from `cacerts`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::json;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::authority::Authority;
use super::error::CaError;
use super::files::{Files, ISTIO, Names, TLS};
use super::load::Loaded;
use crate::kubernetes::leader::Leadership;

/// The Secret that the mesh's owner makes, Istio's name.
pub const GIVEN: &str = "cacerts";

/// The Secret of the self-signed root and its type, Istio's.
pub const OWN: &str = "istio-ca-secret";
const OWN_TYPE: &str = "istio.io/ca-root";

/// The annotation of [`OWN`] that says what has become of it.
const MARK: &str = "security.pinnace.dev/authority";

/// A revocation list in [`GIVEN`], which newer Istios read and nothing here does.
const CRL: &str = "ca-crl.pem";

/// How often the lease holder looks whether the Secret is there: before there is an authority, and after.
const FIRST_PERIOD: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(10);

/// What has become of the self-signed root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Certificates are issued from it.
    InForce,
    /// Certificates come from `cacerts`.
    Superseded,
}

impl Mark {
    fn text(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Superseded => "superseded-by-cacerts",
        }
    }

    /// What a Secret's annotation says.
    #[must_use]
    pub fn of(secret: &Secret) -> Option<Self> {
        let text = secret.annotations().get(MARK)?;
        [Self::InForce, Self::Superseded]
            .into_iter()
            .find(|mark| mark.text() == text)
    }
}

/// Reads an authority from its Secret, in Istio's keys, or in those of a `kubernetes.io/tls` Secret where they are not there.
///
/// # Errors
/// What [`Authority::from_files`] says, or the key that is missing.
pub fn read(secret: &Secret, now: SystemTime) -> Result<Authority, CaError> {
    let data = secret.data.as_ref();
    let value = |key: &str| data.and_then(|data| data.get(key)).map_or(&b""[..], |bytes| &bytes.0);
    let there = |key| !value(key).is_empty();
    let tls = !there(ISTIO.certificate) && there(TLS.certificate) && there(TLS.key) && there(TLS.roots);
    let names: Names = if tls { TLS } else { ISTIO };
    for key in [names.certificate, names.key, names.roots] {
        if !there(key) {
            return Err(CaError::Missing(key));
        }
    }
    if there(CRL) {
        warn!(
            secret = secret.name_any(),
            "{CRL} is not read: certificates that it revokes are still accepted"
        );
    }
    let files = Files {
        names,
        certificate: value(names.certificate),
        key: value(names.key),
        chain: value(names.chain),
        roots: value(names.roots),
    };
    Authority::from_files(&files, now)
}

/// The Secret for a self-signed root.
fn secret(authority: &Authority, namespace: &str) -> Secret {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(OWN.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([(
                mesh_api::labels::MANAGED_BY.to_owned(),
                mesh_api::labels::MANAGED_BY_PINNACE.to_owned(),
            )])),
            annotations: Some(BTreeMap::from([(MARK.to_owned(), Mark::InForce.text().to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(OWN_TYPE.to_owned()),
        data: Some(BTreeMap::from([
            (ISTIO.certificate.to_owned(), text(authority.certificate_pem())),
            (ISTIO.key.to_owned(), text(authority.key_pem())),
            (ISTIO.roots.to_owned(), text(authority.roots_pem())),
        ])),
        ..Secret::default()
    }
}

/// Sees to the self-signed root while this replica holds the lease: that it exists where there is no `cacerts`, and that
/// its mark is right. One that is loaded is put back when its Secret was deleted, since a new root would cut every running
/// pod off.
pub async fn keep(
    secrets: Api<Secret>,
    namespace: String,
    loaded: watch::Receiver<Option<Loaded>>,
    leadership: Leadership,
) {
    loop {
        if let Err(reason) = look(&secrets, &namespace, &loaded, &leadership).await {
            warn!(secret = OWN, %reason, "the certificate authority's Secret cannot be kept");
        }
        let period = if loaded.borrow().is_some() {
            PERIOD
        } else {
            FIRST_PERIOD
        };
        tokio::time::sleep(period).await;
    }
}

async fn look(
    secrets: &Api<Secret>,
    namespace: &str,
    loaded: &watch::Receiver<Option<Loaded>>,
    leadership: &Leadership,
) -> Result<(), kube::Error> {
    let found = secrets.get_opt(OWN).await?;
    let given = secrets.get_metadata_opt(GIVEN).await?.is_some();
    if !leadership.held() {
        return Ok(());
    }
    let held = loaded.borrow().clone();
    match (found, held) {
        (Some(found), Some(held)) => {
            let mark = if held.given { Mark::Superseded } else { Mark::InForce };
            if Mark::of(&found) != Some(mark) {
                let patch = Patch::Merge(json!({"metadata": {"annotations": {MARK: mark.text()}}}));
                secrets.patch(OWN, &PatchParams::default(), &patch).await?;
            }
        }
        (Some(_), None) => {}
        (None, Some(held)) => {
            if !held.given {
                make(secrets, &held.authority, namespace).await?;
                warn!(
                    secret = OWN,
                    "the certificate authority's Secret was gone and is restored"
                );
            }
        }
        // One that cannot be used is no reason for a root of our own.
        (None, None) if given => {}
        (None, None) => match Authority::generate(SystemTime::now()) {
            Ok(root) => {
                make(secrets, &Arc::new(root), namespace).await?;
                info!(secret = OWN, "made a certificate authority");
            }
            Err(reason) => error!(%reason, "no certificate authority can be made"),
        },
    }
    Ok(())
}

async fn make(secrets: &Api<Secret>, authority: &Authority, namespace: &str) -> Result<(), kube::Error> {
    let new = secret(authority, namespace);
    match secrets.create(&PostParams::default(), &new).await {
        // Somebody was faster; the watch tells of it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ca::fixtures::{Made, now};

    /// A Secret of these keys.
    pub(in crate::ca) fn of(name: &str, values: &[(&str, String)]) -> Secret {
        let data = values
            .iter()
            .map(|(key, text)| ((*key).to_owned(), ByteString(text.clone().into_bytes())));
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let now = SystemTime::now();
        let authority = Authority::generate(now).unwrap();
        let stored = secret(&authority, "istio-system");
        let again = read(&stored, now).unwrap();
        assert_eq!(again.signing(), authority.signing());
        assert_eq!(stored.type_.as_deref(), Some("istio.io/ca-root"));
        assert_eq!(Mark::of(&stored), Some(Mark::InForce));
        assert!(again.intermediates().is_empty());
    }

    #[test]
    fn a_missing_key_is_named() {
        let now = SystemTime::now();
        for key in [ISTIO.certificate, ISTIO.key, ISTIO.roots] {
            let mut stored = secret(&Authority::generate(now).unwrap(), "istio-system");
            stored.data.as_mut().unwrap().remove(key);
            assert_eq!(read(&stored, now).map(|_| ()), Err(CaError::Missing(key)));
        }
    }

    #[test]
    fn both_of_istios_forms_are_read() {
        let root = Made::root("root");
        let upper = root.intermediate("upper");
        let lower = upper.intermediate("lower");
        let key = lower.key.serialize_pem();
        // As Istio's own scripts make it: the chain holds the signing certificate and the root too.
        let whole = [lower.pem(), upper.pem(), root.pem()].concat();
        for values in [
            vec![
                ("ca-cert.pem", lower.pem()),
                ("ca-key.pem", key.clone()),
                ("cert-chain.pem", whole.clone()),
                ("root-cert.pem", root.pem()),
            ],
            vec![
                ("tls.crt", [lower.pem(), upper.pem()].concat()),
                ("tls.key", key.clone()),
                ("ca.crt", root.pem()),
            ],
        ] {
            let authority = read(&of(GIVEN, &values), now()).unwrap();
            assert_eq!(authority.intermediates(), [lower.der().clone(), upper.der().clone()]);
            assert_eq!(authority.roots(), [root.der().clone()]);
        }
    }
}
