//! Authorities for tests: roots and intermediates, right ones and ones with a fault.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use x509_parser::time::ASN1Time;

use super::files::{Files, ISTIO};
use super::{Authority, CaError};

/// A time at which the authorities of tests are valid.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Wide enough for the clock of whoever runs the tests.
const LIFE: i64 = 20 * 365 * 86_400;

/// A certificate with its key.
pub(crate) struct Made {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
    parameters: CertificateParams,
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    parameters.distinguished_name = subject;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters.use_authority_key_identifier_extension = true;
    valid(&mut parameters, -LIFE, LIFE);
    parameters
}

/// Sets validity, in seconds from [`now`].
pub(crate) fn valid(parameters: &mut CertificateParams, from: i64, until: i64) {
    let time = |offset: i64| ASN1Time::from_timestamp(1_800_000_000 + offset).unwrap().to_datetime();
    (parameters.not_before, parameters.not_after) = (time(from), time(until));
}

impl Made {
    /// A self-signed root.
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| ())
    }

    /// A self-signed root that differs.
    pub(crate) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut parameters = parameters(name);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            certificate,
            key,
            parameters,
        }
    }

    /// The same name and key in another certificate.
    pub(crate) fn renewed(&self) -> Self {
        let mut parameters = self.parameters.clone();
        valid(&mut parameters, -LIFE, 2 * LIFE);
        let key = KeyPair::try_from(self.key.serialize_der()).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            certificate,
            key,
            parameters,
        }
    }

    /// An intermediate below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, |_| ())
    }

    /// An intermediate below this one that differs.
    pub(crate) fn intermediate_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut parameters = parameters(name);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let above = Issuer::from_params(&self.parameters, &self.key);
        let certificate = parameters.signed_by(&key, &above).unwrap();
        Self {
            certificate,
            key,
            parameters,
        }
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// An authority that signs with this certificate, directly below one of `roots` or one of them.
    pub(crate) fn authority(&self, roots: &[&Self], now: SystemTime) -> Result<Authority, CaError> {
        self.authority_over(&[], roots, now)
    }

    /// The same with intermediates in between.
    pub(crate) fn authority_over(
        &self,
        chain: &[&Self],
        roots: &[&Self],
        now: SystemTime,
    ) -> Result<Authority, CaError> {
        let texts = |list: &[&Self]| list.iter().map(|made| made.pem()).collect::<String>();
        let (certificate, key, chain, roots) = (self.pem(), self.key.serialize_pem(), texts(chain), texts(roots));
        let files = Files {
            names: ISTIO,
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            chain: chain.as_bytes(),
            roots: roots.as_bytes(),
        };
        Authority::from_files(&files, now)
    }
}
