//! What an authority's Secret is refused for, and by which name.

use std::time::Duration;

use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{Files, ISTIO};
use super::fixtures::{Made, now, valid};
use super::{Authority, Subject};

fn read(certificate: &str, key: &str, chain: &str, roots: &str) -> Result<Authority, String> {
    let files = Files {
        names: ISTIO,
        certificate: certificate.as_bytes(),
        key: key.as_bytes(),
        chain: chain.as_bytes(),
        roots: roots.as_bytes(),
    };
    Authority::from_files(&files, now()).map_err(|error| error.to_string())
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (root, other) = (Made::root("root"), Made::root("other"));
    let upper = root.intermediate("upper");
    let signing = upper.intermediate("signing");
    let key = signing.key.serialize_pem();
    let no_ca = root.intermediate_with("no ca", |p| p.is_ca = IsCa::ExplicitNoCa);
    let no_sign = root.intermediate_with("no sign", |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let old = root.intermediate_with("old", |p| valid(p, -9000, -60));
    let early = root.intermediate_with("early", |p| valid(p, 60, 9000));
    let old_root = Made::root_with("old root", |p| valid(p, -9000, -60));
    let below_old = old_root.intermediate("below old");
    let short = root.intermediate_with("short", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below_short = short.intermediate("below short");
    let forged = Made::root("upper");
    let no_root = Made::root_with("no root", |p| p.is_ca = IsCa::ExplicitNoCa);
    let alone = |made: &Made| (made.pem(), made.key.serialize_pem(), String::new(), root.pem());
    let table = [
        (
            "no certificate",
            ("x".into(), key.clone(), String::new(), root.pem()),
            "ca-cert.pem cannot be read",
        ),
        (
            "no key",
            (signing.pem(), "x".into(), upper.pem(), root.pem()),
            "ca-key.pem cannot be read",
        ),
        (
            "no root",
            (signing.pem(), key.clone(), upper.pem(), "x".into()),
            "root-cert.pem cannot be read",
        ),
        (
            "broken chain",
            (signing.pem(), key.clone(), "x".into(), root.pem()),
            "cert-chain.pem cannot be read",
        ),
        (
            "another key",
            (signing.pem(), upper.key.serialize_pem(), upper.pem(), root.pem()),
            "ca-key.pem is not the key of the first certificate of ca-cert.pem, \"CN=signing\"",
        ),
        (
            "no intermediate",
            (signing.pem(), key.clone(), String::new(), root.pem()),
            "ca-cert.pem: the certificate \"CN=signing\" does not verify: its issuer, \"CN=upper\"",
        ),
        (
            "another root",
            (signing.pem(), key.clone(), upper.pem(), other.pem()),
            "cert-chain.pem: the certificate \"CN=upper\" does not verify: its issuer, \"CN=root\"",
        ),
        (
            "an issuer of the name with another key",
            (signing.pem(), key.clone(), forged.pem(), root.pem()),
            "ca-cert.pem: the certificate \"CN=signing\" does not verify: its issuer, \"CN=upper\", did not sign it",
        ),
        (
            "no CA",
            alone(&no_ca),
            "ca-cert.pem: the certificate \"CN=no ca\" is no certificate authority",
        ),
        (
            "may not sign",
            alone(&no_sign),
            "ca-cert.pem: the certificate \"CN=no sign\" may not sign certificates",
        ),
        (
            "expired",
            alone(&old),
            "ca-cert.pem: the certificate \"CN=old\" is valid from ",
        ),
        (
            "not yet",
            alone(&early),
            "ca-cert.pem: the certificate \"CN=early\" is valid from ",
        ),
        (
            "expired root",
            (
                below_old.pem(),
                below_old.key.serialize_pem(),
                String::new(),
                old_root.pem(),
            ),
            "root-cert.pem: the certificate \"CN=old root\" is valid from ",
        ),
        (
            "expired intermediate",
            {
                let below = old.intermediate("below");
                (below.pem(), below.key.serialize_pem(), old.pem(), root.pem())
            },
            "cert-chain.pem: the certificate \"CN=old\" is valid from ",
        ),
        (
            "path too long",
            (
                below_short.pem(),
                below_short.key.serialize_pem(),
                short.pem(),
                root.pem(),
            ),
            "cert-chain.pem: the certificate \"CN=short\" allows 0 authorities below it (pathLenConstraint), and there are 1",
        ),
        (
            "no CA among the roots",
            (signing.pem(), key.clone(), upper.pem(), root.pem() + &no_root.pem()),
            "root-cert.pem: the certificate \"CN=no root\" is no certificate authority",
        ),
    ];
    for (case, (certificate, key, chain, roots), start) in table {
        let error = read(&certificate, &key, &chain, &roots).unwrap_err();
        assert!(error.starts_with(start), "{case}: {error}");
        assert!(!error.contains("PRIVATE"), "{case}");
    }
    read(&signing.pem(), &key, &upper.pem(), &root.pem()).unwrap();
}

#[test]
fn a_leaf_carries_the_intermediates_and_ends_with_the_first_of_them() {
    let root = Made::root("root");
    let upper = root.intermediate_with("upper", |p| valid(p, -9000, 1800));
    let signing = upper.intermediate("signing");
    let authority = signing.authority_over(&[&upper], &[&root], now()).unwrap();
    let subject = Subject::Workload("spiffe://cluster.local/ns/a/sa/b".parse().unwrap());
    let leaf = authority.issue(&subject, Duration::from_secs(86_400), now()).unwrap();
    assert_eq!(leaf.chain[1..], [signing.der().clone(), upper.der().clone()]);
    assert_eq!(
        super::pem::certificates(leaf.certificate_pem.as_bytes()).unwrap(),
        leaf.chain
    );
    assert_eq!(leaf.not_after, now() + Duration::from_secs(1800));
    let (_, parsed) = X509Certificate::from_der(&leaf.chain[0]).unwrap();
    assert_eq!(parsed.issuer().to_string(), "CN=signing");
}

/// OpenSSL's older forms, which Istio's scripts still make on some machines.
#[test]
fn keys_of_every_form_are_read() {
    let (certificate, sec1) = (include_str!("testdata/ec.crt"), include_str!("testdata/ec.key"));
    read(certificate, sec1, "", certificate).unwrap();
    let (certificate, pkcs1) = (include_str!("testdata/rsa.crt"), include_str!("testdata/rsa.key"));
    let authority = read(certificate, pkcs1, "", certificate).unwrap();
    assert!(authority.intermediates().is_empty());
}
