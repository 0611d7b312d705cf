//! What a Secret holds, judged against what it should.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use mesh_api::labels::{MANAGED_BY, MANAGED_BY_PINNACE, SERVICE_ACCOUNT_UID};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::secret::{CA, CERTIFICATE, KEY, TYPE};
use crate::ca::authority::hex;
use crate::ca::verdict::{self, Limits};
use crate::ca::{Authority, Subject, pem};

/// What a Secret should hold.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Whom the certificate is for.
    pub subject: &'a Subject,
    /// The UID of the ServiceAccount that owns it, where there is one.
    pub owner: Option<&'a str>,
    /// Who should have signed it.
    pub authority: &'a Authority,
    /// The lifetime of certificates.
    pub ttl: Duration,
}

/// A certificate that is fit for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Start of validity, seconds since the epoch.
    pub not_before: i64,
    /// End of validity, seconds since the epoch.
    pub not_after: i64,
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
}

/// What is wrong with a Secret of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// Its type is another, or it is marked immutable; neither can be changed.
    #[error("its type is not kubernetes.io/tls, or it is immutable")]
    Fixed,
    /// A key is missing or cannot be read.
    #[error("{0} is missing or cannot be read")]
    Unreadable(&'static str),
    /// Key and certificate do not belong together.
    #[error("tls.key is not the key of tls.crt")]
    KeyMismatch,
    /// The certificate is not what would be issued.
    #[error("{0}")]
    Unfit(verdict::Refusal),
    /// It is not signed by the present authority.
    #[error("tls.crt is not signed by the mesh's certificate authority")]
    OtherAuthority,
    /// What follows the leaf are not the present intermediates.
    #[error("tls.crt does not carry the intermediates of the mesh's certificate authority")]
    Chain,
    /// The trusted roots are not the present ones.
    #[error("ca.crt does not hold the mesh's roots")]
    Roots,
    /// It belongs to an earlier ServiceAccount of that name.
    #[error("it was made for another ServiceAccount object of this name")]
    Owner,
}

/// What there is under a Secret's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// Something that the mesh did not make.
    Foreign,
    /// A Secret of ours with a defect.
    Defective(Defect),
    /// A Secret of ours that is as it should be.
    Good(Pair),
}

impl Held {
    /// Judges what was read.
    #[must_use]
    pub fn new(secret: Option<&Secret>, expected: &Expected<'_>, provider: &CryptoProvider, now: SystemTime) -> Self {
        let Some(secret) = secret else { return Self::Nothing };
        if secret.labels().get(MANAGED_BY).map(String::as_str) != Some(MANAGED_BY_PINNACE) {
            return Self::Foreign;
        }
        match judge(secret, expected, provider, now) {
            Ok(pair) => Self::Good(pair),
            Err(defect) => Self::Defective(defect),
        }
    }
}

fn judge(secret: &Secret, expected: &Expected<'_>, provider: &CryptoProvider, now: SystemTime) -> Result<Pair, Defect> {
    if secret.type_.as_deref() != Some(TYPE) || secret.immutable == Some(true) {
        return Err(Defect::Fixed);
    }
    if let Some(uid) = expected.owner {
        let labelled = secret
            .labels()
            .get(SERVICE_ACCOUNT_UID)
            .is_some_and(|label| label == uid);
        if !labelled || !secret.owner_references().iter().any(|owner| owner.uid == uid) {
            return Err(Defect::Owner);
        }
    }
    let value = |key: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|bytes| bytes.0.as_slice()).ok_or(Defect::Unreadable(key))
    };
    let chain = pem::certificates(value(CERTIFICATE)?).map_err(|_| Defect::Unreadable(CERTIFICATE))?;
    let key = pem::private_key(value(KEY)?).map_err(|_| Defect::Unreadable(KEY))?;
    if value(CA)? != expected.authority.roots_pem().as_bytes() {
        return Err(Defect::Roots);
    }
    let leaf = chain.first().cloned().ok_or(Defect::Unreadable(CERTIFICATE))?;
    let intermediates = chain[1..].to_vec();
    let signing = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| Defect::Unreadable(KEY))?;
    if CertifiedKey::new(chain, signing).keys_match().is_err() {
        return Err(Defect::KeyMismatch);
    }
    let limits = Limits {
        ttl: expected.ttl,
        authority_end: expected.authority.not_after(),
        now,
    };
    verdict::certificate(&leaf, expected.subject, &limits).map_err(Defect::Unfit)?;
    let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| Defect::Unreadable(CERTIFICATE))?;
    let signed = X509Certificate::from_der(expected.authority.signing())
        .is_ok_and(|(_, signing)| parsed.verify_signature(Some(signing.public_key())).is_ok());
    if !signed {
        return Err(Defect::OtherAuthority);
    }
    if intermediates != expected.authority.intermediates() {
        return Err(Defect::Chain);
    }
    Ok(Pair {
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        serial: hex(parsed.raw_serial()),
    })
}

/// A clock's time in seconds since the epoch.
#[must_use]
pub fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}
