use super::*;
use mesh_core::client_tls::{ClientCertificate, Origination, ServerCheck};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn counters() -> Counters {
    Counters {
        loaded: IntCounter::new("loaded", "-").unwrap(),
        refused: IntCounter::new("refused", "-").unwrap(),
    }
}

/// A folder of a test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pinnace-origination-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> Arc<str> {
        let path = self.0.join(name);
        // Another inode, as a mounted Secret's files are.
        let new = self.0.join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        shown(&path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shown(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(issuer: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap(), key)
}

fn rule(tls: ClientTls) -> TlsRule {
    TlsRule {
        rule: "shop/r".into(),
        tls: Arc::new(tls),
    }
}

fn simple(ca: Option<&Arc<str>>, names: &[&str]) -> ClientTls {
    ClientTls::Simple(Origination {
        sni: None,
        server: ServerCheck::Verified {
            ca_certificates: ca.cloned(),
            ca_crl: None,
            subject_alt_names: names.iter().map(|name| (*name).into()).collect(),
        },
    })
}

async fn after_the_next_look(all: &Originations, rule: &TlsRule) -> Result<Arc<Originated>, Problem> {
    tokio::time::sleep(LOOK + Duration::from_millis(100)).await;
    all.get(rule).await
}

#[test]
fn a_server_is_verified_by_the_names_asked_for() {
    let (ca, other) = (authority("one"), authority("other"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let check = |certificate: &CertificateDer<'_>, called: &str, names: &[&str]| {
        let check = verify::Check::Names {
            roots: roots.clone(),
            crls: Vec::new(),
            names: names.iter().map(|name| (*name).into()).collect(),
        };
        let name = ServerName::try_from(called.to_owned()).unwrap();
        verify::Verifier::new(check, provider())
            .verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
            .map(drop)
            .map_err(|error| mesh_wire::tls::verify::explain(&error))
    };
    let names = ["web.example", "*.wild.example", "10.0.0.1", "spiffe://td/ns/a/sa/b"];
    let (good, _) = leaf(&ca, &names);
    let (foreign, _) = leaf(&other, &names);
    for (called, names, good_is) in [
        ("web.example", &[][..], true),
        ("a.wild.example", &[], true),
        ("10.0.0.1", &[], true),
        ("other.example", &[], false),
        ("10.0.0.2", &[], false),
        ("other.example", &["web.example"], true),
        ("other.example", &["a.wild.example"], true),
        ("other.example", &["10.0.0.1"], true),
        ("other.example", &["no.example", "spiffe://td/ns/a/sa/b"], true),
        ("web.example", &["no.example"], false),
        ("web.example", &["spiffe://td/ns/a/sa"], false),
    ] {
        assert_eq!(check(good.der(), called, names).is_ok(), good_is, "{called} {names:?}");
        assert!(check(foreign.der(), called, names).is_err(), "{called} {names:?}");
    }
    let why = check(good.der(), "web.example", &["no.example"]).unwrap_err();
    assert!(why.contains("no.example") && why.contains("web.example"), "{why}");
    let nothing = verify::Verifier::new(verify::Check::Nothing, provider());
    let name = ServerName::try_from("anything").unwrap();
    assert!(
        nothing
            .verify_server_cert(foreign.der(), &[], &name, &[], UnixTime::now())
            .is_ok()
    );
}

#[tokio::test]
async fn public_roots_need_no_file_and_names_have_numbers_of_their_own() {
    let all = Originations::new(provider(), false, counters());
    let made = all.get(&rule(simple(None, &[]))).await.unwrap();
    assert!(Arc::ptr_eq(&made, &all.get(&rule(simple(None, &[]))).await.unwrap()));
    let [a, b] = ["a.example", "b.example."].map(|host| made.name(host).unwrap());
    assert_ne!(made.id(&a), made.id(&b));
    assert_eq!(made.id(&a), made.id(&made.name("a.example").unwrap()));
    assert_eq!(made.name("[fd00::1]").unwrap().to_str(), "fd00::1");
    assert!(made.name("").is_none() && made.name("a b").is_none());
    let named = all
        .get(&rule(ClientTls::Simple(Origination {
            sni: Some("sni.example".into()),
            server: ServerCheck::Skipped,
        })))
        .await
        .unwrap();
    assert_eq!(named.name("a.example").unwrap().to_str(), "sni.example");
    assert_ne!(named.id(&a), made.id(&a));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_and_one_that_was_good_stays() {
    let folder = Folder::new("files");
    let counters = counters();
    let all = Originations::new(provider(), false, counters.clone());
    let absent = shown(&folder.0.join("absent.pem"));
    let why = all
        .get(&rule(simple(Some(&absent), &[])))
        .await
        .unwrap_err()
        .to_string();
    assert!(why.starts_with(&format!("caCertificates {absent}: ")), "{why}");
    assert_eq!(counters.refused.get(), 1);

    let (one, other) = (authority("one"), authority("other"));
    let path = folder.write("ca.pem", "no certificate");
    let rule = rule(simple(Some(&path), &[]));
    assert_eq!(
        all.get(&rule).await.unwrap_err().to_string(),
        format!("caCertificates {path}: holds no certificate")
    );
    folder.write("ca.pem", &one.pem());
    let first = after_the_next_look(&all, &rule).await.unwrap();
    assert!(Arc::ptr_eq(&first, &after_the_next_look(&all, &rule).await.unwrap()));
    // Damaged: the loaded one stays, said once. Replaced: the new one, with numbers of its own.
    folder.write("ca.pem", "-----BEGIN CERTIFICATE-----\n%%%");
    let refused = counters.refused.get();
    for _ in 0..2 {
        assert!(Arc::ptr_eq(&first, &after_the_next_look(&all, &rule).await.unwrap()));
    }
    assert_eq!(counters.refused.get(), refused + 1);
    std::fs::remove_file(&*path).unwrap();
    assert!(after_the_next_look(&all, &rule).await.is_ok());
    folder.write("ca.pem", &other.pem());
    let second = after_the_next_look(&all, &rule).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    let name = first.name("a.example").unwrap();
    assert_ne!(first.id(&name), second.id(&name));
}

#[tokio::test]
async fn a_clients_certificate_and_key_must_belong_together() {
    let folder = Folder::new("client");
    let ca = authority("one");
    let (certificate, key) = leaf(&ca, &["client.example"]);
    let all = Originations::new(provider(), false, counters());
    let certificate = folder.write("c.pem", &certificate.pem());
    let mutual = |key: &Arc<str>| {
        let client = ClientCertificate {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        rule(ClientTls::Mutual(Origination::default(), client))
    };
    let good = folder.write("k.pem", &key.serialize_pem());
    assert!(all.get(&mutual(&good)).await.is_ok());
    for (name, text, reason) in [
        (
            "foreign.pem",
            KeyPair::generate().unwrap().serialize_pem(),
            "does not belong to the certificate in",
        ),
        ("none.pem", "none".to_owned(), "not a PEM private key"),
    ] {
        let path = folder.write(name, &text);
        let why = all.get(&mutual(&path)).await.unwrap_err().to_string();
        assert!(why.contains(&format!("privateKey {path}: {reason}")), "{why}");
    }
}
