//! A real Keycloak as the issuer of tokens. Its signing key is replaced under load, and tokens of the new key, which no
//! sidecar knows yet, pass at once, without a 401 for any valid one. Then it is gone for five minutes, over fetches that
//! fail, and its tokens go on, even under operators that have never seen its keys; and it comes back with other ones.
//! The operator's values are changed for that, so this test has the cluster to itself. Needs a cluster with the mesh
//! (KUBECONFIG), installed by helm as the release `pinnace`, the image of `hack/keycloak`, and PINNACE_LONG=1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tests::cluster::manifests::{calls, echo_with_service, pod, pod_of, service_account};
use tests::cluster::{Cluster, Load, Namespace, POLICY, Release, START, SYSTEM, Sidecar, long, until};

const ISSUER: &str = "http://keycloak/realms/shop";

/// How long Keycloak may take to start: Java, on a machine that does other things.
const KEYCLOAK: Duration = Duration::from_secs(240);

/// How often its signing key is replaced.
const ROTATIONS: u32 = 3;

/// How long it is gone; five minutes, which OUTAGE_SECONDS changes.
fn gone() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").map_or(300, |text| text.parse().expect("OUTAGE_SECONDS is a number"));
    Duration::from_secs(seconds)
}

/// How often the operator fetches keys by itself while it is gone.
const REFRESH: &str = "10s";

/// Requests in a second of each load, which calls every 20 ms; far below, as the machine is shared.
const PER_SECOND: u64 = 15;

/// Keycloak in the pod `keycloak`, outside of the mesh, as providers are.
struct Keycloak<'a>(&'a Namespace);

impl Keycloak<'_> {
    fn start(&self) {
        let realm = json!({
            "realm": "shop", "enabled": true, "sslRequired": "none", "accessTokenLifespan": 3600,
            "clients": [{
                "clientId": "frontend", "secret": "frontend", "protocol": "openid-connect", "publicClient": false,
                "serviceAccountsEnabled": true, "standardFlowEnabled": false,
            }],
        });
        let hub = std::env::var("HUB").unwrap_or_else(|_| "localhost/pinnace".to_owned());
        let mut keycloak = pod(
            "keycloak",
            &[
                "start-dev",
                "--import-realm",
                "--hostname=http://keycloak",
                "--http-port=8080",
            ],
        );
        keycloak["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
        keycloak["spec"]["volumes"] = json!([{"name": "realm", "configMap": {"name": "keycloak"}}]);
        let container = &mut keycloak["spec"]["containers"][0];
        container["image"] = json!(format!("{hub}/keycloak:26.4.0"));
        container["securityContext"]["readOnlyRootFilesystem"] = json!(false);
        container["env"] = json!([
            {"name": "KC_BOOTSTRAP_ADMIN_USERNAME", "value": "admin"},
            {"name": "KC_BOOTSTRAP_ADMIN_PASSWORD", "value": "admin"},
        ]);
        container["volumeMounts"] = json!([{"name": "realm", "mountPath": "/keycloak/data/import"}]);
        container["readinessProbe"] = json!({
            "httpGet": {"path": "/realms/shop", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5,
        });
        self.0.apply([
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keycloak"},
                "data": {"shop.json": realm.to_string()},
            }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "keycloak"},
                "spec": {"selector": {"app": "keycloak"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            }),
            keycloak,
        ]);
        self.0.ready("keycloak", KEYCLOAK);
    }

    /// What it answers to a POST.
    fn post(&self, path: &str, headers: &[&str], body: &str) -> String {
        let url = format!("http://127.0.0.1:8080{path}");
        let mut arguments = vec!["exec", "keycloak", "--", "wget", "-q", "-O", "-", "-T", "30"];
        for header in headers {
            arguments.extend(["--header", header]);
        }
        arguments.extend(["--post-data", body, &url]);
        self.0.must(&arguments)
    }

    fn token_of(&self, realm: &str, grant: &str) -> String {
        let answer = self.post(&format!("/realms/{realm}/protocol/openid-connect/token"), &[], grant);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A token of the realm.
    fn token(&self) -> String {
        let grant = "grant_type=client_credentials&client_id=frontend&client_secret=frontend";
        self.token_of("shop", grant)
    }

    /// Gives it a new key, with which it signs from now on. It goes on publishing the ones before.
    fn rotate(&self, priority: u32) {
        let grant = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
        let admin = format!("Authorization: Bearer {}", self.token_of("master", grant));
        let key = json!({
            "name": format!("key-{priority}"), "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider", "config": {"priority": [priority.to_string()]},
        });
        let headers = [admin.as_str(), "Content-Type: application/json"];
        self.post("/admin/realms/shop/components", &headers, &key.to_string());
    }
}

/// The `kid` of a token.
fn key_of(token: &str) -> String {
    let head = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let head: Value = serde_json::from_slice(&head).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

/// The same claims with another signature.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    signature[9] ^= 1;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

/// Many requests with a token at the same time; each must pass.
fn all_pass(mesh: &Namespace, token: &str) {
    let header = bearer(token);
    let arguments = [
        "get",
        "http://server:9080/",
        "--quiet",
        "--expect",
        "200",
        "--header",
        &header,
    ];
    let many = ["--parallel", "8", "--count", "10", "--interval", "20"];
    let said = mesh.bookshop("client", &[&arguments[..], &many].concat());
    assert!(said.good, "{}", said.all());
}

/// Waits until a request is answered so.
fn answers(mesh: &Namespace, what: &str, token: Option<&str>, expected: &str, limit: Duration) {
    let header = token.map(bearer);
    let mut arguments = vec!["get", "http://server:9080/", "--timeout", "8000"];
    if let Some(header) = &header {
        arguments.extend(["--header", header]);
    }
    until(&format!("{what}: {expected}"), limit, || {
        let said = mesh.bookshop("client", &arguments).all();
        if said.contains(expected) { Ok(()) } else { Err(said) }
    });
}

/// A pod that calls all the time with a token, each time on a new connection.
fn load<'a>(mesh: &'a Namespace, name: &str, token: &str) -> Load<'a> {
    let header = bearer(token);
    let more = ["--expect", "200", "--header", &header];
    mesh.apply([
        service_account(name),
        pod_of(name, name, &calls("http://server:9080/", "20", &more)),
    ]);
    Load::follow(mesh, name)
}

#[test]
fn keys_change_and_the_provider_goes_without_a_valid_token_refused() {
    if !long() {
        return;
    }
    let Some(_cluster) = Cluster::alone() else { return };
    let Some(mut release) = Release::now() else { return };
    let mesh = Namespace::injected("keycloak");
    let keycloak = Keycloak(&mesh);
    mesh.apply(["server", "client"].into_iter().flat_map(echo_with_service));
    keycloak.start();
    for pod in ["server", "client"] {
        mesh.ready(pod, START);
    }
    let selector = json!({"matchLabels": {"app": "server"}});
    mesh.apply([
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": {"name": "keycloak"},
            "spec": {"selector": selector, "jwtRules": [{"issuer": ISSUER}]},
        }),
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "users"},
            "spec": {
                "selector": selector,
                "rules": [{"from": [{"source": {"requestPrincipals": [format!("{ISSUER}/*")]}}]}],
            },
        }),
    ]);
    let first = keycloak.token();
    answers(&mesh, "the first token", Some(&first), "200", 2 * START);
    answers(&mesh, "no token", None, "403", POLICY);
    answers(&mesh, "a forged token", Some(&forged(&first)), "401", Duration::ZERO);

    // New keys, of which the operator would learn by itself within 20 minutes.
    let started = Instant::now();
    let old = load(&mesh, "old", &first);
    let waited = || {
        let sidecar = Sidecar::port(&mesh.name, "pod/server", 15090);
        sidecar.metric("pinnace_proxy_key_waits_total", &[("result", "known")])
    };
    let before = waited();
    let mut newest = first.clone();
    for rotation in 1..=ROTATIONS {
        keycloak.rotate(200 + rotation);
        let token = keycloak.token();
        assert_ne!(key_of(&token), key_of(&newest), "the key is another one");
        all_pass(&mesh, &token);
        newest = token;
    }
    all_pass(&mesh, &first);
    let waits = waited() - before;
    assert!(waits >= f64::from(ROTATIONS), "{waits} requests waited for a key");
    eprintln!("{ROTATIONS} new keys: {waits} requests waited for one, none was refused");

    // It is gone.
    let new = load(&mesh, "new", &newest);
    let refresh = format!("jwks.refreshInterval={REFRESH}");
    release.upgrade(&["--set", &refresh]);
    // Of one of its replicas: each fetches for itself.
    let failures = || {
        let operator = Sidecar::port(SYSTEM, "deployment/pinnace-operator", 15014);
        operator.metric("pinnace_jwks_fetches_total", &[("result", "failure")])
    };
    mesh.must(&["delete", "pod", "keycloak", "--wait"]);
    std::thread::sleep(gone());
    let failures = failures();
    assert!(failures >= 3.0, "{failures} fetches failed meanwhile");
    all_pass(&mesh, &first);
    all_pass(&mesh, &newest);
    answers(
        &mesh,
        "a forged token, without a provider",
        Some(&forged(&newest)),
        "401",
        Duration::ZERO,
    );
    mesh.condition("requestauthentication", "keycloak", "KeysKnown", "Known");
    // An operator that starts meanwhile knows no keys, and cannot fetch any.
    release.roll_back();
    all_pass(&mesh, &newest);
    new.end().without("failed", "requests", PER_SECOND, gone());
    old.end().without("failed", "requests", PER_SECOND, started.elapsed());

    // Its database was its pod's: it comes back with keys that nobody has seen.
    keycloak.start();
    let token = keycloak.token();
    all_pass(&mesh, &token);
}
