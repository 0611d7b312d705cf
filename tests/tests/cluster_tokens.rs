//! The manifest that names nothing but an issuer, byte for byte (`acceptance/08-jwt-issuer.yaml`), against an OpenID provider
//! at that address: its keys are found, fetched under a private authority and put into force, and outlive the provider. The
//! operator is given that authority by the chart, so this test has the cluster to itself. Needs a cluster with the mesh
//! (KUBECONFIG), installed by helm as the release `pinnace`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};
use tests::cluster::manifests::{echo_with_service, pod_of, service_account};
use tests::cluster::{Cluster, Namespace, POLICY, Release, START, must, until};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/acceptance/08-jwt-issuer.yaml");
const ISSUER: &str = "https://keycloak/auth";

/// How often the operator fetches keys in this test.
const REFRESH: Duration = Duration::from_secs(10);

/// How long after the manifest a token may still be refused: the keys are fetched first, with a wait after a failure.
const FETCHED: Duration = Duration::from_secs(60);

/// A key that signs tokens.
struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    /// Its key set (RFC 7517; RFC 8037, section 2).
    fn keys(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key_raw());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "alg": "EdDSA", "x": x}]})
    }

    /// A token for a subject that ends that many seconds from now.
    fn token(&self, subject: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let ends = i64::try_from(now).unwrap() + seconds;
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"alg": "EdDSA", "kid": "one", "typ": "JWT"}));
        let payload = part(json!({"iss": ISSUER, "sub": subject, "exp": ends}));
        let signed = format!("{head}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{signature}")
    }
}

/// The provider: a root of its own, a server's certificate for `keycloak`, and the two documents that matter.
struct Provider {
    root: String,
    objects: [Value; 5],
}

impl Provider {
    fn new(signer: &Signer) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = root.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["keycloak".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let discovery = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")});
        let mut pod = pod_of(
            "keycloak",
            "keycloak",
            &[
                "files",
                "--folder",
                "/files",
                "--tls-certificate",
                "/tls/tls.crt",
                "--tls-key",
                "/tls/tls.key",
            ],
        );
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "files", "mountPath": "/files"}, {"name": "tls", "mountPath": "/tls"}]);
        pod["spec"]["volumes"] = json!([
            {"name": "files", "configMap": {"name": "keycloak"}},
            {"name": "tls", "secret": {"secretName": "keycloak"}},
        ]);
        let documents = json!({
            "auth_.well-known_openid-configuration": discovery.to_string(),
            "auth_keys": signer.keys().to_string(),
        });
        let objects = [
            service_account("keycloak"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keycloak"}, "data": documents}),
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keycloak"}, "type": "kubernetes.io/tls",
                "stringData": {"tls.crt": leaf.pem(), "tls.key": key.serialize_pem()},
            }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "keycloak"},
                "spec": {"selector": {"app": "keycloak"}, "ports": [{"name": "https", "port": 443, "targetPort": 9443}]},
            }),
            pod,
        ];
        Self { root: pem, objects }
    }
}

/// The status of an answer to a request with these headers.
fn status(mesh: &Namespace, token: Option<&str>) -> String {
    let header = token.map(|token| format!("authorization: Bearer {token}"));
    let mut arguments = vec!["get", "http://server:9080/", "--timeout", "5000"];
    if let Some(header) = &header {
        arguments.extend(["--header", header]);
    }
    mesh.bookshop("client", &arguments).all()
}

#[test]
fn tokens_of_an_issuer_are_verified_by_the_keys_that_it_publishes() {
    let Some(_cluster) = Cluster::alone() else { return };
    let Some(mut release) = Release::now() else { return };
    let (signer, stranger) = (Signer::new(), Signer::new());
    let provider = Provider::new(&signer);
    let root = format!("jwks.extraRootCA={}", provider.root);
    let refresh = format!("jwks.refreshInterval={}s", REFRESH.as_secs());
    release.upgrade(&["--set-string", &root, "--set", &refresh]);

    let mesh = Namespace::injected("tokens");
    mesh.apply(provider.objects);
    mesh.apply(["server", "client"].into_iter().flat_map(echo_with_service));
    for pod in ["keycloak", "server", "client"] {
        mesh.ready(pod, START);
    }
    let answers = |what: &str, token: Option<&str>, expected: &str, limit: Duration| {
        until(&format!("{what}: {expected}"), limit, || {
            let said = status(&mesh, token);
            if said.contains(expected) { Ok(()) } else { Err(said) }
        });
    };
    let (alice, bob) = (signer.token("alice", 3600), signer.token("bob", 3600));
    let (expired, forged) = (signer.token("alice", -3600), stranger.token("alice", 3600));

    answers("no policy", Some(&forged), "200", POLICY);
    must(&["--namespace", &mesh.name, "apply", "-f", MANIFEST]);
    answers("a forged token", Some(&forged), "401", POLICY);
    answers("a good token", Some(&alice), "200", FETCHED);
    answers("a forged token, with keys", Some(&forged), "401", POLICY);
    answers("an expired token", Some(&expired), "401", POLICY);
    answers("no token", None, "200", POLICY);

    mesh.apply([json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "alice"},
        "spec": {
            "selector": {"matchLabels": {"app": "server"}},
            "rules": [{"from": [{"source": {"requestPrincipals": [format!("{ISSUER}/alice")]}}]}],
        },
    })]);
    answers("alice, who is asked for", Some(&alice), "200", POLICY);
    answers("nobody", None, "403", POLICY);
    answers("bob", Some(&bob), "403", POLICY);

    // The last good keys outlive the provider, over fetches that fail.
    mesh.must(&["delete", "pod", "keycloak", "--wait"]);
    std::thread::sleep(REFRESH * 2);
    answers("alice, without a provider", Some(&alice), "200", Duration::ZERO);
    answers(
        "a forged token, without a provider",
        Some(&forged),
        "401",
        Duration::ZERO,
    );
    release.roll_back();
}
