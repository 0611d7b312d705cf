//! The authority in memory: made, read back from PEM, and signing leaves. Every leaf is judged by [`verdict`] before it
//! leaves.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::certificate::BACK_DATING;
use mesh_core::identity::{SpiffeId, TrustDomain};
use mesh_wire::tls::material::Material;
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::ASN1Time;

use super::error::{CaError, signing};
use super::files::{Checked, Files, ISTIO};
use super::subject::Subject;
use super::{pem, verdict};
use crate::certificates::Pair;
use crate::certificates::held::seconds;

/// How long a self-signed root is valid: ten years, as Istio's.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The organization and common name of a root made here.
const ROOT_ORGANIZATION: &str = "Pinnace";
const ROOT_COMMON_NAME: &str = "Pinnace mesh root";

/// A certificate with its key, as it goes into a Secret.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate and the intermediates above it, in PEM.
    pub certificate_pem: String,
    /// The certificate and the intermediates above it, in DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key, PKCS #8 in PEM.
    pub key_pem: String,
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// The end of validity.
    pub not_after: SystemTime,
}

impl Leaf {
    /// What is known of a certificate that was issued at `now`, as it would be read back from its Secret.
    #[must_use]
    pub fn pair(&self, now: SystemTime) -> Pair {
        Pair {
            not_before: seconds(now - BACK_DATING),
            not_after: seconds(self.not_after),
            serial: self.serial.clone(),
        }
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("serial", &self.serial)
            .field("key", &"<redacted>")
            .finish_non_exhaustive()
    }
}

/// A certificate authority that is ready to sign.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// What its Secret holds, for putting it back.
    certificate_pem: String,
    key_pem: String,
    signing: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    intermediates_pem: String,
    anchor: CertificateDer<'static>,
    roots_pem: String,
    roots: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("intermediates", &self.intermediates.len())
            .field("roots", &self.roots.len())
            .field("key", &"<redacted>")
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a self-signed root: ECDSA P-256, valid for [`ROOT_LIFETIME`].
    ///
    /// # Errors
    /// [`CaError::Signing`] when no key can be made.
    pub fn generate(now: SystemTime) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)?;
        let mut parameters = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, ROOT_ORGANIZATION);
        name.push(DnType::CommonName, ROOT_COMMON_NAME);
        parameters.distinguished_name = name;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.serial_number = Some(serial_number());
        set_validity(&mut parameters, now - BACK_DATING, now + ROOT_LIFETIME)?;
        let certificate = parameters.self_signed(&key).map_err(signing)?.pem();
        let key = key.serialize_pem();
        let files = Files {
            names: ISTIO,
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            chain: b"",
            roots: certificate.as_bytes(),
        };
        Self::from_files(&files, now)
    }

    /// Reads an authority from the keys of its Secret. Beyond the files' own checks, a certificate is issued for trial and
    /// verified as a sidecar would, so that what no peer would accept is never put in force.
    ///
    /// # Errors
    /// Any [`CaError`]; none holds a part of the key.
    pub fn from_files(files: &Files<'_>, now: SystemTime) -> Result<Self, CaError> {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let Checked {
            key,
            intermediates,
            signing: certificate,
            anchor,
            roots,
            not_after,
        } = files.check(now)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| CaError::Unreadable {
            key: files.names.certificate,
            reason: error.to_string(),
        })?;
        let authority = Self {
            issuer: Arc::new(issuer),
            certificate_pem: text(files.certificate),
            key_pem: text(files.key),
            signing: certificate,
            intermediates_pem: pem::encode(&intermediates),
            intermediates,
            anchor,
            roots_pem: text(files.roots),
            roots,
            not_after,
        };
        authority.trial(now)?;
        Ok(authority)
    }

    fn trial(&self, now: SystemTime) -> Result<(), CaError> {
        let domain = TrustDomain::new("cluster.local").map_err(signing)?;
        let id = SpiffeId::new(domain, "trial", "trial").map_err(signing)?;
        let leaf = self.issue(&Subject::Workload(id), Duration::from_secs(60), now)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).map_err(signing)?);
        Material::parse(
            leaf.certificate_pem.as_bytes(),
            leaf.key_pem.as_bytes(),
            self.roots_pem.as_bytes(),
            time,
            &provider,
        )
        .map_err(|error| CaError::Trial(error.to_string()))?;
        Ok(())
    }

    /// This authority with the roots of another one: what is published before that one issues.
    #[must_use]
    pub fn trusting(&self, other: &Self) -> Self {
        Self {
            roots_pem: other.roots_pem.clone(),
            roots: other.roots.clone(),
            ..self.clone()
        }
    }

    /// Issues a leaf with a fresh key: ECDSA P-256, valid from [`BACK_DATING`] before `now` until `now` plus `ttl`, but
    /// never beyond the authority's own end.
    ///
    /// # Errors
    /// [`CaError::Signing`], or [`CaError::Refused`] when the result is not what may be issued for this subject.
    pub fn issue(&self, subject: &Subject, ttl: Duration, now: SystemTime) -> Result<Leaf, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)?;
        let not_after = (now + ttl).min(self.not_after);
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        let serial = serial_number();
        let serial_hex = hex(&serial.to_bytes());
        parameters.serial_number = Some(serial);
        let name = |text: &str| text.to_owned().try_into().map_err(signing);
        match subject {
            Subject::Workload(id) => {
                parameters.subject_alt_names = vec![SanType::URI(name(&id.to_string())?)];
                parameters.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            }
            Subject::Server(names) => {
                parameters.subject_alt_names = names
                    .iter()
                    .map(|dns| name(dns).map(SanType::DnsName))
                    .collect::<Result<_, _>>()?;
                parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
        }
        set_validity(&mut parameters, now - BACK_DATING, not_after)?;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(signing)?;
        verdict::certificate(
            certificate.der(),
            subject,
            &verdict::Limits {
                ttl,
                authority_end: self.not_after,
                now,
            },
        )
        .map_err(|reason| CaError::Refused {
            subject: subject.to_string(),
            reason,
        })?;
        Ok(Leaf {
            certificate_pem: certificate.pem() + &self.intermediates_pem,
            chain: std::iter::once(certificate.into())
                .chain(self.intermediates.iter().cloned())
                .collect(),
            key_pem: key.serialize_pem(),
            serial: serial_hex,
            not_after,
        })
    }

    /// The trust bundle in PEM, as it goes into `ca.crt` and into a webhook's `caBundle`.
    #[must_use]
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The trust bundle's certificates.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The signing certificate.
    #[must_use]
    pub fn signing(&self) -> &CertificateDer<'static> {
        &self.signing
    }

    /// The certificates between a leaf and a root, the signing one first; none where that is a root itself.
    #[must_use]
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// The root that its certificates hang on.
    #[must_use]
    pub fn anchor(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    /// The first end of validity from the signing certificate to the root.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The signing certificate in PEM, as it was read.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key in PEM, for the Secret that it is kept in and for nothing else.
    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

/// A random positive serial number of 128 bits (RFC 5280, 4.1.2.2: at most 20 octets, not negative).
fn serial_number() -> SerialNumber {
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    // The highest bit is cleared so that DER needs no padding octet; the next is set so that the length is constant.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn set_validity(parameters: &mut CertificateParams, from: SystemTime, until: SystemTime) -> Result<(), CaError> {
    parameters.not_before = asn1_time(from)?.to_datetime();
    parameters.not_after = asn1_time(until)?.to_datetime();
    Ok(())
}

fn asn1_time(time: SystemTime) -> Result<ASN1Time, CaError> {
    let seconds = time.duration_since(UNIX_EPOCH).map_err(signing)?.as_secs();
    let seconds = i64::try_from(seconds).map_err(signing)?;
    ASN1Time::from_timestamp(seconds).map_err(signing)
}

/// A certificate's time as a clock's.
#[must_use]
pub fn system_time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_workload_leaf_holds_exactly_what_a_sidecar_needs() {
        let authority = Authority::generate(now()).unwrap();
        let id = "spiffe://cluster.local/ns/shop/sa/reviews.v1";
        let leaf = authority
            .issue(&Subject::Workload(id.parse().unwrap()), DAY, now())
            .unwrap();
        let (_, parsed) = X509Certificate::from_der(&leaf.chain[0]).unwrap();

        assert_eq!(parsed.subject().iter().count(), 0);
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical);
        assert_eq!(names.value.general_names, vec![GeneralName::URI(id)]);
        assert_eq!(system_time(parsed.validity().not_before), now() - BACK_DATING);
        assert_eq!(system_time(parsed.validity().not_after), now() + DAY);
        let usage = parsed.key_usage().unwrap().unwrap();
        assert_eq!((usage.critical, usage.value.flags), (true, 1));
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth && !extended.any);
        assert!(!parsed.basic_constraints().unwrap().unwrap().value.ca);
        assert_eq!(parsed.raw_serial().len(), 16);
        assert_eq!(hex(parsed.raw_serial()), leaf.serial);

        let (_, root) = X509Certificate::from_der(&authority.roots()[0]).unwrap();
        let of = |certificate: &X509Certificate<'_>| {
            certificate
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                })
        };
        let authority_key = parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
                _ => None,
            });
        assert!(of(&parsed).is_some());
        assert_eq!(authority_key, of(&root));
    }

    #[test]
    fn the_root_is_a_ten_year_authority_with_a_name() {
        let authority = Authority::generate(now()).unwrap();
        let (_, root) = X509Certificate::from_der(&authority.roots()[0]).unwrap();
        assert_eq!(root.subject().to_string(), "O=Pinnace, CN=Pinnace mesh root");
        assert_eq!(system_time(root.validity().not_after), now() + ROOT_LIFETIME);
        assert!(root.is_ca() && root.key_usage().unwrap().unwrap().value.key_cert_sign());
    }

    #[test]
    fn two_leaves_share_neither_key_nor_serial() {
        let authority = Authority::generate(now()).unwrap();
        let subject = Subject::Workload("spiffe://cluster.local/ns/a/sa/b".parse().unwrap());
        let (one, two) = (
            authority.issue(&subject, DAY, now()).unwrap(),
            authority.issue(&subject, DAY, now()).unwrap(),
        );
        assert_ne!(one.key_pem, two.key_pem);
        assert_ne!(one.serial, two.serial);
    }

    #[test]
    fn a_leaf_ends_with_its_authority() {
        let authority = Authority::generate(now()).unwrap();
        let late = now() + ROOT_LIFETIME - Duration::from_secs(60);
        let leaf = authority
            .issue(&Subject::Server(vec!["a.b.svc".to_owned()]), DAY, late)
            .unwrap();
        assert_eq!(leaf.not_after, authority.not_after());
    }

    #[test]
    fn no_key_is_ever_printed() {
        let authority = Authority::generate(now()).unwrap();
        let leaf = authority
            .issue(&Subject::Server(vec!["a.b".to_owned()]), DAY, now())
            .unwrap();
        for text in [format!("{authority:?}"), format!("{leaf:?}")] {
            assert!(text.contains("<redacted>") && !text.contains("PRIVATE KEY"), "{text}");
        }
    }
}
