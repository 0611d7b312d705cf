//! Real handshakes in memory between what the mesh believes and what it must refuse.

use super::material::{Material, MaterialError, root_store};
use super::verify::{PeerVerifier, TrustDomains, explain, peer_identity};
use mesh_core::identity::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::OrganizationName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Leaf and key, PEM.
fn leaf(ca: &Ca, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()))
        .collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const DB: &str = "spiffe://cluster.local/ns/shop/sa/db";

fn material(ca: &Ca, uri: &str) -> Material {
    let (crt, key) = leaf(ca, &[uri], |_| {});
    Material::parse(
        crt.as_bytes(),
        key.as_bytes(),
        ca.pem().as_bytes(),
        UnixTime::now(),
        &provider(),
    )
    .unwrap()
}

fn verifier(trusts: &Ca, domain: &str) -> Arc<PeerVerifier> {
    let domains = TrustDomains::new(TrustDomain::new(domain).unwrap(), []);
    Arc::new(PeerVerifier::new(
        root_store(&[trusts.der().clone()]).unwrap(),
        domains,
        provider(),
    ))
}

/// Shakes hands in memory; the error is the one that a side met first.
fn handshake(
    client: &Material,
    client_believes: Arc<PeerVerifier>,
    server: &Material,
    server_believes: Arc<PeerVerifier>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let resolver = |material: &Material| Arc::new(rustls::sign::SingleCertAndKey::from(material.certified_key.clone()));
    let client_config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(client_believes)
        .with_client_cert_resolver(resolver(client));
    let server_config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(server_believes)
        .with_cert_resolver(resolver(server));
    let name = ServerName::try_from("outbound_.9080_._.reviews.shop.svc.cluster.local").unwrap();
    let mut client = ClientConnection::new(Arc::new(client_config), name)?;
    let mut server = ServerConnection::new(Arc::new(server_config))?;
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok((client, server))
}

#[test]
fn peers_of_the_mesh_learn_each_others_identity() {
    let ca = ca("ours");
    let believes = verifier(&ca, "cluster.local");
    let (client, server) = handshake(&material(&ca, WEB), believes.clone(), &material(&ca, DB), believes).unwrap();
    assert_eq!(peer_identity(&client).unwrap().to_string(), DB);
    assert_eq!(peer_identity(&server).unwrap().to_string(), WEB);
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn a_certificate_of_another_ca_or_trust_domain_is_refused() {
    let (ours, theirs, namesake) = (ca("ours"), ca("theirs"), ca("ours"));
    let believes = verifier(&ours, "cluster.local");
    let db = material(&ours, DB);
    let error = handshake(&material(&namesake, WEB), believes.clone(), &db, believes.clone()).unwrap_err();
    assert!(error.to_string().contains("BadSignature"), "{error}");
    let stranger = handshake(&material(&theirs, WEB), believes.clone(), &db, believes.clone()).unwrap_err();
    assert!(stranger.to_string().contains("UnknownIssuer"), "{stranger}");
    let foreign = material(&ours, "spiffe://other.domain/ns/shop/sa/web");
    let foreign = handshake(&foreign, believes.clone(), &db, believes.clone()).unwrap_err();
    assert_eq!(
        explain(&foreign),
        "the peer's trust domain other.domain is neither the mesh's nor an alias of it"
    );
    let server = handshake(&db, believes.clone(), &material(&theirs, DB), believes).unwrap_err();
    assert!(server.to_string().contains("UnknownIssuer"), "{server}");
}

#[test]
fn material_that_does_not_fit_together_is_refused_by_name() {
    let (ours, theirs) = (ca("ours"), ca("theirs"));
    let (crt, key) = leaf(&ours, &[WEB], |_| {});
    let (_, other_key) = leaf(&ours, &[WEB], |_| {});
    let (two, two_key) = leaf(&ours, &[WEB, DB], |_| {});
    let (none, none_key) = leaf(&ours, &[], |_| {});
    let ca_pem = ours.pem();
    let (later, now) = (UnixTime::now().as_secs() + 366 * 86_400 * 4000, UnixTime::now());
    let later = UnixTime::since_unix_epoch(Duration::from_secs(later));
    let parse = |crt: &str, key: &str, ca: &str, at| {
        Material::parse(crt.as_bytes(), key.as_bytes(), ca.as_bytes(), at, &provider()).map(|_| ())
    };
    assert_eq!(parse(&crt, &key, &ca_pem, now), Ok(()));
    assert_eq!(parse(&crt, &other_key, &ca_pem, now), Err(MaterialError::KeyMismatch));
    for (what, result, expected) in [
        (
            "no certificate",
            parse("", &key, &ca_pem, now),
            "tls.crt: holds no certificate",
        ),
        (
            "no key",
            parse(&crt, "x", &ca_pem, now),
            "tls.key: not a PEM private key",
        ),
        ("no roots", parse(&crt, &key, "", now), "ca.crt: holds no certificate"),
        (
            "another CA",
            parse(&crt, &key, &theirs.pem(), now),
            "does not verify under ca.crt",
        ),
        ("expired", parse(&crt, &key, &ca_pem, later), "Expired"),
        ("two URIs", parse(&two, &two_key, &ca_pem, now), "2 URI names"),
        ("no URI", parse(&none, &none_key, &ca_pem, now), "0 URI names"),
        (
            "half a file",
            parse(&crt[..crt.len() / 2], &key, &ca_pem, now),
            "tls.crt:",
        ),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
}
