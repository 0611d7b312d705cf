//! The keys of a CA's Secret, checked together: the signing certificate, its key, the intermediates and the roots. What
//! does not fit is refused by name, before anything is issued from it.

use std::time::SystemTime;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::system_time;
use super::error::{CaError, Fault};
use super::pem;

/// Certificates from the signing one to the root; more are a mistake, or an attempt to keep us busy.
const LONGEST_PATH: usize = 8;

/// The names of a Secret's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// The signing certificate, first in its text.
    pub certificate: &'static str,
    /// Its private key.
    pub key: &'static str,
    /// Certificates between the signing one and a root. May hold the signing certificate and roots too, and may be absent.
    pub chain: &'static str,
    /// The trusted roots.
    pub roots: &'static str,
}

/// Istio's names, in `cacerts` and `istio-ca-secret`.
pub const ISTIO: Names = Names {
    certificate: "ca-cert.pem",
    key: "ca-key.pem",
    chain: "cert-chain.pem",
    roots: "root-cert.pem",
};

/// The names of a `kubernetes.io/tls` Secret, as cert-manager writes one; Istio takes it as `cacerts` too.
pub const TLS: Names = Names {
    certificate: "tls.crt",
    key: "tls.key",
    chain: "tls.crt",
    roots: "ca.crt",
};

/// The texts under those names.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// What the keys are called.
    pub names: Names,
    /// The signing certificate, PEM.
    pub certificate: &'a [u8],
    /// Its private key, PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: &'a [u8],
    /// The intermediates, PEM; may be empty.
    pub chain: &'a [u8],
    /// The roots, PEM.
    pub roots: &'a [u8],
}

/// What fits together.
pub struct Checked {
    /// The private key.
    pub key: KeyPair,
    /// From the signing certificate up, the last one issued by `anchor`; empty where the signing certificate is a root.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// The signing certificate.
    pub signing: CertificateDer<'static>,
    /// The root that all of it hangs on.
    pub anchor: CertificateDer<'static>,
    /// All trusted roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// The first end of validity from the signing certificate to the root.
    pub not_after: SystemTime,
}

impl Files<'_> {
    /// Checks everything against each other and against the clock.
    ///
    /// # Errors
    /// The first [`CaError`] that applies; it names the key of the Secret and the certificate.
    pub fn check(&self, now: SystemTime) -> Result<Checked, CaError> {
        let names = self.names;
        let read = |key, text| pem::certificates(text).map_err(|reason| CaError::Unreadable { key, reason });
        let signing = first(read(names.certificate, self.certificate)?, names.certificate)?;
        let chain = if self.chain.iter().all(u8::is_ascii_whitespace) {
            Vec::new()
        } else {
            read(names.chain, self.chain)?
        };
        let mut roots = Vec::new();
        for root in read(names.roots, self.roots)? {
            authority(names.roots, &parse(names.roots, &root)?)?;
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        let key = self.key_of(&signing)?;

        let path = self.path(&signing, &chain, &roots)?;
        let mut not_after = None::<SystemTime>;
        for (below, (file, certificate)) in path.iter().enumerate() {
            let parsed = parse(file, certificate)?;
            let end = usable(file, &parsed, below, now)?;
            not_after = Some(not_after.map_or(end, |before| before.min(end)));
        }
        let (_, anchor) = path.last().cloned().ok_or(CaError::Missing(names.certificate))?;
        let intermediates = path.into_iter().map(|(_, certificate)| certificate);
        Ok(Checked {
            key,
            intermediates: intermediates.filter(|certificate| *certificate != anchor).collect(),
            signing,
            anchor,
            roots,
            not_after: not_after.unwrap_or(now),
        })
    }

    fn key_of(&self, signing: &CertificateDer<'_>) -> Result<KeyPair, CaError> {
        let names = self.names;
        let unreadable = |reason: String| CaError::Unreadable { key: names.key, reason };
        let key = pem::private_key(self.key).map_err(unreadable)?;
        let key = KeyPair::try_from(&key).map_err(|_| {
            unreadable("the private key is of a kind that cannot be used (RSA, ECDSA and Ed25519 can)".into())
        })?;
        let parsed = parse(names.certificate, signing)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(CaError::KeyMismatch {
                key: names.key,
                certificate: names.certificate,
                subject: parsed.subject().to_string(),
            });
        }
        Ok(key)
    }

    /// The certificates from the signing one to a root, each with the key of the Secret that it came from.
    fn path(
        &self,
        signing: &CertificateDer<'static>,
        chain: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
    ) -> Result<Vec<(&'static str, CertificateDer<'static>)>, CaError> {
        let names = self.names;
        let mut path = vec![(names.certificate, signing.clone())];
        loop {
            let Some((file, last)) = path.last().cloned() else {
                return Err(CaError::Missing(names.certificate));
            };
            if roots.contains(&last) {
                return Ok(path);
            }
            let child = parse(file, &last)?;
            let issued = |candidate: &&CertificateDer<'static>| {
                X509Certificate::from_der(candidate).is_ok_and(|(_, parent)| {
                    parent.subject().as_raw() == child.issuer().as_raw()
                        && child.verify_signature(Some(parent.public_key())).is_ok()
                })
            };
            let root = roots.iter().find(issued).map(|root| (names.roots, root));
            let fresh = chain.iter().filter(|held| path.iter().all(|(_, taken)| taken != *held));
            let next = root.or_else(|| fresh.clone().find(issued).map(|held| (names.chain, held)));
            match next {
                Some((file, parent)) if path.len() < LONGEST_PATH => path.push((file, parent.clone())),
                _ => {
                    return Err(CaError::NoPath {
                        key: file,
                        subject: child.subject().to_string(),
                        issuer: child.issuer().to_string(),
                        intermediates: names.chain,
                        roots: names.roots,
                    });
                }
            }
        }
    }
}

fn first(list: Vec<CertificateDer<'static>>, key: &'static str) -> Result<CertificateDer<'static>, CaError> {
    list.into_iter().next().ok_or(CaError::Missing(key))
}

fn parse<'a>(key: &'static str, der: &'a [u8]) -> Result<X509Certificate<'a>, CaError> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| CaError::Unreadable {
        key,
        reason: format!("a certificate in it does not parse: {error}"),
    })?;
    Ok(parsed)
}

/// Whether a certificate may stand above others at all.
fn authority(key: &'static str, certificate: &X509Certificate<'_>) -> Result<(), CaError> {
    let unfit = |fault| CaError::Unfit {
        key,
        subject: certificate.subject().to_string(),
        fault,
    };
    if !certificate.is_ca() {
        return Err(unfit(Fault::NotAuthority));
    }
    let usage = certificate.key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(unfit(Fault::MayNotSign));
    }
    Ok(())
}

/// Whether a certificate may stand above `below` other authorities now; answers with its end.
fn usable(
    key: &'static str,
    certificate: &X509Certificate<'_>,
    below: usize,
    now: SystemTime,
) -> Result<SystemTime, CaError> {
    authority(key, certificate)?;
    let unfit = |fault| CaError::Unfit {
        key,
        subject: certificate.subject().to_string(),
        fault,
    };
    let constraints = certificate.basic_constraints().ok().flatten();
    if let Some(allowed) = constraints.and_then(|constraints| constraints.value.path_len_constraint)
        && usize::try_from(allowed).is_ok_and(|allowed| below > allowed)
    {
        return Err(unfit(Fault::PathTooLong { allowed, found: below }));
    }
    let validity = certificate.validity();
    let (from, until) = (system_time(validity.not_before), system_time(validity.not_after));
    if now < from || now >= until {
        return Err(unfit(Fault::OutOfDate {
            not_before: validity.not_before.to_string(),
            not_after: validity.not_after.to_string(),
        }));
    }
    Ok(until)
}
