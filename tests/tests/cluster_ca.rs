//! A certificate authority of one's own: an intermediate under the mesh's root takes over and goes again while requests
//! pass, and one that cannot be used changes nothing. It has the cluster to itself. Needs a cluster with the mesh
//! (KUBECONFIG) whose root is the self-signed one, and PINNACE_LONG=1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tests::cluster::manifests::{calls, echo_with_service, mode, pod, pod_of, service_account};
use tests::cluster::{
    Cluster, Load, Namespace, START, SYSTEM, Sidecar, field, kubectl, leader, long, must, must_with, skipped, until,
};

/// How long until every certificate is of another authority.
const REISSUED: Duration = Duration::from_secs(30);

fn secret(name: &str) -> Option<Value> {
    let said = kubectl(&["--namespace", SYSTEM, "get", "secret", name, "-o", "json"], "");
    said.good.then(|| serde_json::from_str(&said.out).unwrap())
}

/// The Secret `cacerts`, which goes whatever becomes of the test.
struct Given;

impl Given {
    /// With an intermediate under the mesh's own root.
    fn set(own: &Value, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let root = field(own, "root-cert.pem").unwrap();
        let key = KeyPair::from_pem(&field(own, "ca-key.pem").unwrap()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&field(own, "ca-cert.pem").unwrap(), key).unwrap();
        let mut parameters = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        parameters.distinguished_name = subject;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.use_authority_key_identifier_extension = true;
        parameters.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        parameters.not_after = (SystemTime::now() + Duration::from_secs(86_400)).into();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap().pem();
        let given = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": SYSTEM},
            "stringData": {
                "ca-cert.pem": certificate, "ca-key.pem": key.serialize_pem(),
                "cert-chain.pem": format!("{certificate}{root}"), "root-cert.pem": root,
            },
        });
        must_with(&["apply", "-f", "-"], &given.to_string());
        Self
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let _ = kubectl(
            &[
                "--namespace",
                SYSTEM,
                "delete",
                "secret",
                "cacerts",
                "--ignore-not-found",
            ],
            "",
        );
    }
}

#[test]
fn an_intermediate_comes_and_goes_unnoticed() {
    if !long() {
        return;
    }
    let Some(_cluster) = Cluster::alone() else { return };
    if secret("cacerts").is_some() {
        return skipped("the mesh has a Secret cacerts already");
    }
    let own = secret("istio-ca-secret").expect("the mesh's own root");
    let mesh = Namespace::injected("ca");
    mesh.apply([mode("STRICT")]);
    mesh.apply(echo_with_service("server"));
    mesh.apply(["http", "kept"].map(service_account));
    mesh.ready("server", START);
    let load = |more: &[&'static str]| calls("http://server:9080/", "20", more);
    mesh.apply([
        pod_of("http", "http", &load(&[])),
        pod_of("kept", "kept", &load(&["--keepalive"])),
    ]);
    let loads = ["http", "kept"].map(|pod| Load::follow(&mesh, pod));
    let started = Instant::now();
    let text = |name: &str| field(&mesh.get("secret", "istio.server").unwrap(), name).unwrap();
    let certificates = || text("tls.crt").matches("BEGIN CERTIFICATE").count();
    let before = (text("tls.crt"), text("ca.crt"));
    assert_eq!(certificates(), 1);

    // One that has expired is refused by name.
    let given = Given::set(&own, "too late", |p| {
        p.not_after = (SystemTime::now() - Duration::from_secs(60)).into()
    });
    let holder = leader();
    let leader = Sidecar::port(SYSTEM, &format!("pod/{holder}"), 15014);
    until("the Secret is refused", REISSUED, || {
        match leader.metric("pinnace_ca_usable", &[]) {
            0.0 => Ok(()),
            usable => Err(usable.to_string()),
        }
    });
    let log = must(&["--namespace", SYSTEM, "logs", &holder]);
    assert!(
        log.contains("ca-cert.pem: the certificate") && log.contains("CN=too late"),
        "{log}"
    );
    assert_eq!(text("tls.crt"), before.0, "nothing is issued anew");
    std::mem::forget(given);

    let given = Given::set(&own, "intermediate", |_| ());
    until("certificates carry the intermediate", REISSUED, || {
        match certificates() {
            2 => Ok(()),
            other => Err(other.to_string()),
        }
    });
    assert_eq!(text("ca.crt"), before.1, "the root stays");
    Sidecar::of(&mesh, "server").uses(
        &tests::cluster::Certificate::of(&mesh.get("secret", "istio.server").unwrap())
            .unwrap()
            .serial,
        REISSUED,
    );
    assert_eq!(leader.metric("pinnace_ca_usable", &[]), 1.0);
    until("the webhook is trusted", REISSUED, || {
        mesh.would_create(&pod("new", &["echo"])).map(|_| ())
    });

    drop(given);
    until(
        "certificates come from the root again",
        REISSUED,
        || match certificates() {
            1 => Ok(()),
            other => Err(other.to_string()),
        },
    );
    let mark = || {
        let own = secret("istio-ca-secret").unwrap();
        own["metadata"]["annotations"]["security.pinnace.dev/authority"].to_string()
    };
    until("the root's Secret says so", REISSUED, || match mark() {
        mark if mark.contains("in-force") => Ok(()),
        mark => Err(mark),
    });
    let time = started.elapsed();
    for load in loads {
        load.end().without("failed", "requests", 15, time);
    }
}
