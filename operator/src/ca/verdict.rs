//! The verdict on a certificate, one pure function: exactly the names and usages of its subject, no power to sign, and
//! a time within the limits. It is asked before a certificate leaves the authority, and again when a Secret is read
//! back, so that what is kept is never more than what would be issued.

use std::time::{Duration, SystemTime};

use mesh_core::certificate::BACK_DATING;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authority::system_time;
use super::subject::Subject;

/// The slack in times, since certificates count in whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// What a certificate is held against.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest lifetime from issue.
    pub ttl: Duration,
    /// The end of the authority's own validity.
    pub authority_end: SystemTime,
    /// The time of the verdict.
    pub now: SystemTime,
}

/// Why a certificate is unfit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not parse.
    #[error("the certificate does not parse")]
    Unreadable,
    /// The alternative names are not exactly the subject's.
    #[error("its names are not exactly those of its subject")]
    Names,
    /// There is a subject name, which nothing in the mesh looks at.
    #[error("it has a subject name")]
    SubjectName,
    /// It could sign others.
    #[error("it is a certificate authority")]
    Authority,
    /// Key usages differ from what is needed.
    #[error("its key usages are not the ones needed")]
    Usages,
    /// It lives longer than allowed.
    #[error("it is valid for longer than allowed")]
    Lifetime,
    /// It outlives the authority.
    #[error("it outlives its authority")]
    OutlivesAuthority,
    /// It is not valid now.
    #[error("it is not valid now")]
    OutOfDate,
}

/// Judges a certificate in DER.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub fn certificate(der: &[u8], subject: &Subject, limits: &Limits) -> Result<(), Refusal> {
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| Refusal::Unreadable)?;
    if !rest.is_empty() {
        return Err(Refusal::Unreadable);
    }
    if parsed.subject().iter().next().is_some() {
        return Err(Refusal::SubjectName);
    }
    if parsed.is_ca() {
        return Err(Refusal::Authority);
    }
    names(&parsed, subject)?;
    usages(&parsed, subject)?;
    let (from, until) = (
        system_time(parsed.validity().not_before),
        system_time(parsed.validity().not_after),
    );
    if until > limits.authority_end {
        return Err(Refusal::OutlivesAuthority);
    }
    if from > limits.now || until <= limits.now {
        return Err(Refusal::OutOfDate);
    }
    match until.duration_since(from) {
        Ok(length) if length <= limits.ttl + BACK_DATING + SLACK => Ok(()),
        _ => Err(Refusal::Lifetime),
    }
}

fn names(parsed: &X509Certificate<'_>, subject: &Subject) -> Result<(), Refusal> {
    let found = parsed
        .subject_alternative_name()
        .map_err(|_| Refusal::Unreadable)?
        .ok_or(Refusal::Names)?;
    // RFC 5280, 4.2.1.6: critical, since the subject is empty.
    if !found.critical {
        return Err(Refusal::Names);
    }
    let right = match subject {
        Subject::Workload(id) => {
            matches!(&found.value.general_names[..], [GeneralName::URI(uri)] if *uri == id.to_string())
        }
        Subject::Server(names) => {
            found.value.general_names.len() == names.len()
                && found
                    .value
                    .general_names
                    .iter()
                    .zip(names)
                    .all(|(found, name)| matches!(found, GeneralName::DNSName(dns) if dns == name))
        }
    };
    if right { Ok(()) } else { Err(Refusal::Names) }
}

fn usages(parsed: &X509Certificate<'_>, subject: &Subject) -> Result<(), Refusal> {
    /// RFC 5280, 4.2.1.3: bit 0, digitalSignature.
    const DIGITAL_SIGNATURE: u16 = 1;
    let usage = parsed
        .key_usage()
        .map_err(|_| Refusal::Unreadable)?
        .ok_or(Refusal::Usages)?;
    let extended = parsed
        .extended_key_usage()
        .map_err(|_| Refusal::Unreadable)?
        .ok_or(Refusal::Usages)?
        .value;
    let client = matches!(subject, Subject::Workload(_));
    let right = usage.value.flags == DIGITAL_SIGNATURE
        && extended.server_auth
        && extended.client_auth == client
        && !extended.any
        && !extended.code_signing
        && !extended.email_protection
        && !extended.time_stamping
        && !extended.ocsp_signing
        && extended.other.is_empty();
    if right { Ok(()) } else { Err(Refusal::Usages) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
    use std::time::UNIX_EPOCH;
    use x509_parser::time::ASN1Time;

    const START: i64 = 1_800_000_000;
    const ID: &str = "spiffe://cluster.local/ns/a/sa/b";

    fn time(offset: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(START + offset).unwrap())
    }

    fn right() -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.not_before = ASN1Time::from_timestamp(START - 120).unwrap().to_datetime();
        parameters.not_after = ASN1Time::from_timestamp(START + 3600).unwrap().to_datetime();
        parameters
    }

    type Change = fn(&mut CertificateParams);

    #[test]
    fn only_the_exact_certificate_passes() {
        let cases: [(&str, Change, Result<(), Refusal>); 12] = [
            ("right", |_| (), Ok(())),
            (
                "other identity",
                |p| p.subject_alt_names = vec![SanType::URI("spiffe://x/ns/a/sa/b".try_into().unwrap())],
                Err(Refusal::Names),
            ),
            (
                "second name",
                |p| {
                    p.subject_alt_names
                        .push(SanType::URI("spiffe://x/ns/a/sa/c".try_into().unwrap()))
                },
                Err(Refusal::Names),
            ),
            (
                "DNS name added",
                |p| p.subject_alt_names.push(SanType::DnsName("a.b".try_into().unwrap())),
                Err(Refusal::Names),
            ),
            ("no name", |p| p.subject_alt_names.clear(), Err(Refusal::Names)),
            (
                "subject",
                |p| p.distinguished_name.push(DnType::CommonName, "x"),
                Err(Refusal::SubjectName),
            ),
            (
                "CA",
                |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
                Err(Refusal::Authority),
            ),
            (
                "signs certificates",
                |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign),
                Err(Refusal::Usages),
            ),
            (
                "server only",
                |p| {
                    p.extended_key_usages.pop();
                },
                Err(Refusal::Usages),
            ),
            (
                "any usage",
                |p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any),
                Err(Refusal::Usages),
            ),
            (
                "too long",
                |p| p.not_before = ASN1Time::from_timestamp(START - 300).unwrap().to_datetime(),
                Err(Refusal::Lifetime),
            ),
            (
                "outlives",
                |p| p.not_after = ASN1Time::from_timestamp(START + 999_999).unwrap().to_datetime(),
                Err(Refusal::OutlivesAuthority),
            ),
        ];
        let limits = Limits {
            ttl: Duration::from_secs(3600),
            authority_end: time(99_999),
            now: time(0),
        };
        for (name, change, want) in cases {
            let mut parameters = right();
            change(&mut parameters);
            let der = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(
                certificate(der.der(), &Subject::Workload(ID.parse().unwrap()), &limits),
                want,
                "{name}"
            );
        }
    }

    #[test]
    fn a_certificate_is_judged_by_the_clock() {
        let der = right().self_signed(&KeyPair::generate().unwrap()).unwrap();
        for (now, want) in [
            (-121, Err(Refusal::OutOfDate)),
            (0, Ok(())),
            (3599, Ok(())),
            (3600, Err(Refusal::OutOfDate)),
        ] {
            let limits = Limits {
                ttl: Duration::from_secs(3600),
                authority_end: time(99_999),
                now: time(now),
            };
            assert_eq!(
                certificate(der.der(), &Subject::Workload(ID.parse().unwrap()), &limits),
                want,
                "{now}"
            );
        }
        assert_eq!(
            certificate(
                b"junk",
                &Subject::Workload(ID.parse().unwrap()),
                &Limits {
                    ttl: Duration::ZERO,
                    authority_end: time(0),
                    now: time(0)
                }
            ),
            Err(Refusal::Unreadable)
        );
    }
}
