//! The Secret that a certificate is kept in.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use mesh_api::labels::{MANAGED_BY, MANAGED_BY_PINNACE, SERVICE_ACCOUNT_UID};

use crate::ca::Leaf;

/// The Secret's type.
pub const TYPE: &str = "kubernetes.io/tls";
/// The key of the leaf, intermediates after it.
pub const CERTIFICATE: &str = "tls.crt";
/// The key of the private key.
pub const KEY: &str = "tls.key";
/// The key of all trusted roots.
pub const CA: &str = "ca.crt";

/// The annotation that says whom the certificate is for.
const SPIFFE_ID: &str = "security.pinnace.dev/spiffe-id";

/// The prefix of the Secrets of service accounts.
const PREFIX: &str = "istio.";

/// The name of a service account's Secret.
#[must_use]
pub fn name(service_account: &str) -> String {
    format!("{PREFIX}{service_account}")
}

/// The service account that a Secret's name is for.
#[must_use]
pub fn account(secret: &str) -> Option<&str> {
    secret.strip_prefix(PREFIX).filter(|name| !name.is_empty())
}

/// The ServiceAccount that a Secret belongs to and goes with.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The SPIFFE ID of its workloads.
    pub spiffe_id: &'a str,
}

/// Makes the Secret, to be created, or to replace `before`, whose identity and foreign labels and annotations it keeps.
#[must_use]
pub fn make(
    namespace: &str,
    name: &str,
    leaf: &Leaf,
    roots: &str,
    owner: Option<Owner<'_>>,
    before: Option<&Secret>,
) -> Secret {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    let before = before.map(|secret| &secret.metadata);
    let mut labels = before.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGED_BY_PINNACE.to_owned());
    let mut annotations = before
        .and_then(|metadata| metadata.annotations.clone())
        .unwrap_or_default();
    if let Some(owner) = owner {
        labels.insert(SERVICE_ACCOUNT_UID.to_owned(), owner.uid.to_owned());
        annotations.insert(SPIFFE_ID.to_owned(), owner.spiffe_id.to_owned());
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: owner.map(|owner| {
                vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "ServiceAccount".to_owned(),
                    name: owner.name.to_owned(),
                    uid: owner.uid.to_owned(),
                    ..OwnerReference::default()
                }]
            }),
            resource_version: before.and_then(|metadata| metadata.resource_version.clone()),
            uid: before.and_then(|metadata| metadata.uid.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), text(&leaf.certificate_pem)),
            (KEY.to_owned(), text(&leaf.key_pem)),
            (CA.to_owned(), text(roots)),
        ])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::verdict::Refusal;
    use crate::ca::{Authority, Subject};
    use crate::certificates::{Defect, Expected, Held};
    use std::time::{Duration, SystemTime};

    const DAY: Duration = Duration::from_secs(86_400);

    type Change = fn(&mut Secret);

    #[test]
    fn names_with_dots_go_both_ways() {
        assert_eq!(name("a.b"), "istio.a.b");
        assert_eq!(account("istio.a.b"), Some("a.b"));
        assert_eq!(account("istio."), None);
        assert_eq!(account("istio-ca-secret"), None);
    }

    #[test]
    fn what_was_written_is_judged_good_and_every_edit_is_found() {
        let now = SystemTime::now();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let (authority, other) = (Authority::generate(now).unwrap(), Authority::generate(now).unwrap());
        let id = "spiffe://cluster.local/ns/a/sa/b";
        let subject = Subject::Workload(id.parse().unwrap());
        let leaf = authority.issue(&subject, DAY, now).unwrap();
        let owner = Owner {
            name: "b",
            uid: "u",
            spiffe_id: id,
        };
        let secret = make("a", "istio.b", &leaf, authority.roots_pem(), Some(owner), None);
        let judge = |secret: &Secret, subject: &Subject, authority: &Authority, owner: &str, now| {
            let expected = Expected {
                subject,
                owner: Some(owner),
                authority,
                ttl: DAY,
            };
            Held::new(Some(secret), &expected, &provider, now)
        };
        assert!(
            matches!(judge(&secret, &subject, &authority, "u", now), Held::Good(pair) if pair.serial == leaf.serial)
        );

        let changes: [(Change, Held); 8] = [
            (|s| s.metadata.labels = None, Held::Foreign),
            (|s| s.type_ = Some("Opaque".to_owned()), Held::Defective(Defect::Fixed)),
            (|s| s.immutable = Some(true), Held::Defective(Defect::Fixed)),
            (|s| s.metadata.owner_references = None, Held::Defective(Defect::Owner)),
            (|s| s.data = None, Held::Defective(Defect::Unreadable("tls.crt"))),
            (
                |s| {
                    s.data
                        .as_mut()
                        .unwrap()
                        .insert("tls.key".to_owned(), ByteString(b"x".to_vec()));
                },
                Held::Defective(Defect::Unreadable("tls.key")),
            ),
            (
                |s| {
                    s.data.as_mut().unwrap().remove("tls.crt");
                },
                Held::Defective(Defect::Unreadable("tls.crt")),
            ),
            (
                |s| {
                    s.data
                        .as_mut()
                        .unwrap()
                        .insert("ca.crt".to_owned(), ByteString(b"x".to_vec()));
                },
                Held::Defective(Defect::Roots),
            ),
        ];
        for (change, want) in changes {
            let mut edited = secret.clone();
            change(&mut edited);
            assert_eq!(judge(&edited, &subject, &authority, "u", now), want);
        }

        let defect = |held: Held| match held {
            Held::Defective(defect) => Some(defect),
            _ => None,
        };
        let stranger = Subject::Workload("spiffe://other/ns/a/sa/b".parse().unwrap());
        assert_eq!(
            defect(judge(&secret, &stranger, &authority, "u", now)),
            Some(Defect::Unfit(Refusal::Names))
        );
        assert_eq!(defect(judge(&secret, &subject, &other, "u", now)), Some(Defect::Roots));
        assert_eq!(
            defect(judge(&secret, &subject, &authority, "v", now)),
            Some(Defect::Owner)
        );
        assert_eq!(
            defect(judge(&secret, &subject, &authority, "u", now + DAY)),
            Some(Defect::Unfit(Refusal::OutOfDate))
        );

        let foreign = make(
            "a",
            "istio.b",
            &other.issue(&subject, DAY, now).unwrap(),
            authority.roots_pem(),
            Some(owner),
            None,
        );
        assert_eq!(
            defect(judge(&foreign, &subject, &authority, "u", now)),
            Some(Defect::OtherAuthority)
        );
        let mut swapped = secret.clone();
        let key = authority.issue(&subject, DAY, now).unwrap().key_pem;
        swapped
            .data
            .as_mut()
            .unwrap()
            .insert(KEY.to_owned(), ByteString(key.into_bytes()));
        assert_eq!(
            defect(judge(&swapped, &subject, &authority, "u", now)),
            Some(Defect::KeyMismatch)
        );
    }
}
