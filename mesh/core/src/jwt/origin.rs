//! Where the keys of a rule come from, where they are not in the rule itself.

use super::algorithm::Algorithm;
use super::cache::{Digest, digest};
use super::rule::{KeySource, Rule};
use std::fmt;
use std::sync::Arc;

/// Where a rule's keys are fetched, as its policy's namespace sees it: short names resolve there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyOrigin {
    /// The policy's namespace.
    pub namespace: Arc<str>,
    /// The address.
    pub place: KeyPlace,
}

/// An address of keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyPlace {
    /// A JWKS (`jwksUri`).
    Uri(Arc<str>),
    /// An issuer, whose OpenID discovery document names the JWKS.
    Issuer(Arc<str>),
}

impl KeyOrigin {
    /// Where a rule's keys are fetched; `None` where they are in the rule.
    #[must_use]
    pub fn of(namespace: &str, rule: &Rule) -> Option<Self> {
        let place = match &rule.keys {
            KeySource::Inline(_) => return None,
            KeySource::Uri(uri) => KeyPlace::Uri(uri.as_str().into()),
            KeySource::Discovery => KeyPlace::Issuer(rule.issuer.as_str().into()),
        };
        Some(Self {
            namespace: namespace.into(),
            place,
        })
    }

    /// The name under which sidecar and operator speak of it: `NAMESPACE/uri/ADDRESS` or `NAMESPACE/issuer/ADDRESS`. Two
    /// origins never share one, since a namespace's name has no slash.
    #[must_use]
    pub fn name(&self) -> String {
        let (kind, address) = match &self.place {
            KeyPlace::Uri(address) => ("uri", address),
            KeyPlace::Issuer(address) => ("issuer", address),
        };
        format!("{}/{kind}/{address}", self.namespace)
    }
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (KeyPlace::Uri(address) | KeyPlace::Issuer(address)) = &self.place;
        write!(f, "{address} (namespace {})", self.namespace)
    }
}

/// A key that a token asks for and that is not among those that were fetched for a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// [`KeyOrigin::name`] of where the rule's keys are fetched.
    pub origin: Arc<str>,
    /// Which key it is.
    pub id: KeyId,
}

/// A key by its algorithm and `kid`. Both are a caller's words, so that nothing of them but a digest is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(Digest);

impl KeyId {
    pub(super) fn new(algorithm: Algorithm, id: Option<&str>) -> Self {
        Self(digest(&match id {
            Some(id) => format!("{algorithm:?} {id}"),
            None => format!("{algorithm:?}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_origin_has_a_name_of_its_own() {
        let rule = |keys| Rule::new("https://a.example", keys);
        let uri = |uri: &str| rule(KeySource::Uri(uri.to_owned()));
        let origins = [
            KeyOrigin::of("shop", &uri("https://a.example")),
            KeyOrigin::of("shop", &rule(KeySource::Discovery)),
            KeyOrigin::of("other", &uri("https://a.example")),
            KeyOrigin::of("shop", &uri("https://a.example/")),
        ];
        let names: Vec<String> = origins.iter().flatten().map(KeyOrigin::name).collect();
        assert_eq!(
            names,
            [
                "shop/uri/https://a.example",
                "shop/issuer/https://a.example",
                "other/uri/https://a.example",
                "shop/uri/https://a.example/",
            ]
        );
        assert_eq!(KeyOrigin::of("shop", &rule(KeySource::Inline("{}".into()))), None);
    }

    #[test]
    fn a_key_is_its_algorithm_and_id() {
        let ids = [
            KeyId::new(Algorithm::Rs256, Some("a")),
            KeyId::new(Algorithm::Rs256, Some("b")),
            KeyId::new(Algorithm::Es256, Some("a")),
            KeyId::new(Algorithm::Rs256, None),
            KeyId::new(Algorithm::Rs256, Some("")),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == id), Some(at));
        }
    }
}
