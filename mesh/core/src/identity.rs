//! SPIFFE identities as Istio forms them: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
//!
//! Everything that names a peer (a certificate's URI SAN, a destination's accepted servers, a policy's principal) is parsed
//! here once; code behind the edge holds only [`SpiffeId`]s.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest SPIFFE ID that an implementation must take, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_SPIFFE_ID_BYTES: usize = 2048;

/// Why a text is not an identity of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a trust domain name (SPIFFE-ID, section 2.1).
    #[error("trust domain {0:?}: use lower-case letters, digits, '.', '-' and '_', at most 255 characters")]
    TrustDomain(String),
    /// Not a URI of the form that the mesh issues.
    #[error("identity {0:?}: expected spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    Form(String),
    /// Longer than [`MAX_SPIFFE_ID_BYTES`].
    #[error("identity of {0} bytes: at most {MAX_SPIFFE_ID_BYTES} are allowed")]
    TooLong(usize),
}

/// The name of a root of trust, `cluster.local` unless the mesh says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a trust domain name (SPIFFE-ID, section 2.1).
    ///
    /// # Errors
    /// [`IdentityError::TrustDomain`] when it is empty, too long or has a character outside `a-z0-9.-_`.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
            return Err(IdentityError::TrustDomain(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name, as in `cluster.local`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

/// The identity of a workload: its trust domain, namespace and service account. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl SpiffeId {
    /// Makes the identity of a service account.
    ///
    /// # Errors
    /// [`IdentityError::Form`] when a name is not one that Kubernetes allows (lower-case letters, digits, `-` and, in a
    /// service account, `.`).
    pub fn new(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        if !is_dns_name(namespace, false) || !is_dns_name(service_account, true) {
            return Err(IdentityError::Form(format!(
                "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
            )));
        }
        Ok(Self {
            trust_domain,
            namespace: namespace.into(),
            service_account: service_account.into(),
        })
    }

    /// The root of trust that vouches for this identity.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The form in which policies write it: the SPIFFE ID without its scheme (AuthorizationPolicy `principals`).
    #[must_use]
    pub fn principal(&self) -> String {
        // For each request that policies decide about: in one piece of memory, of the right size.
        [
            self.trust_domain.as_str(),
            "/ns/",
            &self.namespace,
            "/sa/",
            &self.service_account,
        ]
        .concat()
    }

    /// The same service account under another trust domain.
    #[must_use]
    pub fn in_trust_domain(&self, trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            ..self.clone()
        }
    }

    /// Whether both name the same namespace and service account, whatever their trust domains.
    #[must_use]
    pub fn same_account(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.service_account == other.service_account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.len() > MAX_SPIFFE_ID_BYTES {
            return Err(IdentityError::TooLong(s.len()));
        }
        let form = || IdentityError::Form(s.to_owned());
        let rest = s.strip_prefix("spiffe://").ok_or_else(form)?;
        let mut parts = rest.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some(td), Some("ns"), Some(ns), Some("sa"), Some(sa), None) => Self::new(TrustDomain::new(td)?, ns, sa),
            _ => Err(form()),
        }
    }
}

/// RFC 1123 label, or (with `dots`) subdomain; at most 253 characters.
fn is_dns_name(name: &str, dots: bool) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        let b = l.as_bytes();
        match (b.first(), b.last()) {
            (Some(&first), Some(&last)) => edge(first) && edge(last) && b.iter().all(|&c| edge(c) || c == b'-'),
            _ => false,
        }
    };
    name.len() <= 253
        && if dots {
            name.split('.').all(label)
        } else {
            name.len() <= 63 && label(name)
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_what_the_mesh_issues() {
        for text in [
            "spiffe://cluster.local/ns/default/sa/default",
            "spiffe://td.example-1.org/ns/a-b/sa/with.dots.and-dashes",
        ] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
        let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        assert_eq!(id.principal(), "cluster.local/ns/shop/sa/web");
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "cluster.local/ns/default/sa/default",
            "spiffe://cluster.local",
            "spiffe:///ns/default/sa/default",
            "spiffe://Cluster.Local/ns/default/sa/default",
            "spiffe://cluster.local/ns/default/sa/",
            "spiffe://cluster.local/ns//sa/default",
            "spiffe://cluster.local/ns/default/sa/default/",
            "spiffe://cluster.local/ns/default/sa/default/x",
            "spiffe://cluster.local/sa/default/ns/default",
            "spiffe://cluster.local:80/ns/default/sa/default",
            "spiffe://u@cluster.local/ns/default/sa/default",
            "spiffe://cluster.local/ns/de.fault/sa/default",
            "spiffe://cluster.local/ns/default/sa/Default",
            "spiffe://cluster.local/ns/default/sa/%64efault",
            "spiffe://cluster.local/ns/default/sa/default?x",
            "SPIFFE://cluster.local/ns/default/sa/default",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?} must be refused");
        }
        let long = format!(
            "spiffe://cluster.local/ns/default/sa/{}",
            "a".repeat(MAX_SPIFFE_ID_BYTES)
        );
        assert!(matches!(long.parse::<SpiffeId>(), Err(IdentityError::TooLong(_))));
    }
}
