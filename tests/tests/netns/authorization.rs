//! AuthorizationPolicy and RequestAuthentication at the server's proxy: who may do what, over every protocol.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, StatusCode};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::http::{Connection, application, get};
use super::http2;
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::secrets::write_secret;
use super::world::{FIXTURES, OTHER, SERVER, World, eventually};

/// The pod of another namespace.
const FOREIGN: &str = "10.77.0.4";
const FOREIGN_ID: &str = "spiffe://cluster.local/ns/payments/sa/foreign";

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The application answered.
    Allowed,
    /// 403, gRPC's PERMISSION_DENIED, or a reset.
    Denied,
    /// 401, gRPC's UNAUTHENTICATED.
    Unauthenticated,
    /// 400.
    Malformed,
}
use Answer::{Allowed, Denied, Malformed, Unauthenticated};

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Grpc,
}
use Protocol::{Grpc, Http1, Http2};

const PROTOCOLS: [Protocol; 3] = [Http1, Http2, Grpc];

/// A request.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    method: &'a str,
    path: &'a str,
    host: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

/// A plain one.
const CALL: Call<'static> = Call {
    method: "POST",
    path: "/api/data",
    host: "server",
    headers: &[],
};

/// Client, server, a pod of another namespace and one outside of the mesh.
struct Scene {
    world: World,
    runtime: Runtime,
    client: Pod,
    server: Pod,
    foreign: Pod,
    outside: Pod,
}

/// The mesh of a scene, with more resources.
fn mesh(more: &str) -> String {
    let workloads = format!(
        "- {{name: payments/foreign-1, serviceAccount: foreign, addresses: [{FOREIGN}], labels: {{app: foreign}}}}\nservices:"
    );
    format!("{}\n---\n{more}\n", FIXTURES.replacen("services:", &workloads, 1))
}

/// An AuthorizationPolicy of the server's namespace.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{selector: {{matchLabels: {{app: server}}}}, {spec}}}\n---\n"
    )
}

impl Scene {
    fn new() -> Option<Self> {
        Self::with(&mesh(""))
    }

    fn with(fixtures: &str) -> Option<Self> {
        let (mut world, client, server) = World::pair(fixtures)?;
        let outside = world.pod("outside", OTHER);
        let foreign = world.pod("foreign", FOREIGN);
        write_secret(&foreign.certificates, &world.issue(FOREIGN_ID));
        world.sidecar(&foreign, &[("POD_NAMESPACE", "payments")]);
        world.ready(&foreign);
        application(&server, 8080);
        serve(&server, 9000, echo);
        serve(&server, 9001, echo);
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async { http2::serve(&server, 8082, http2::echo) });
        Some(Self {
            world,
            runtime,
            client,
            server,
            foreign,
            outside,
        })
    }

    /// Puts resources in force.
    fn apply(&self, more: &str) {
        let version = || {
            let (_, page) = self.server.page(15000, "/discovery").unwrap();
            let page: Value = serde_json::from_str(&page).unwrap();
            ["AuthorizationPolicies", "RequestAuthentications"].map(|kind| page["versions"][kind].clone())
        };
        let before = version();
        self.world.fixtures(&mesh(more));
        eventually("other policies are in force", || version() != before);
    }

    /// Makes a request: from within the mesh to the Service, from outside to the pod.
    fn call(&self, from: &Pod, protocol: Protocol, call: Call<'_>) -> Answer {
        let outside = from.name == self.outside.name;
        let to = match (protocol, outside) {
            (Http1, false) => "10.96.0.2:80".to_owned(),
            (Http1, true) => format!("{SERVER}:8080"),
            (_, false) => "10.96.0.2:82".to_owned(),
            (_, true) => format!("{SERVER}:8082"),
        };
        match protocol {
            Http1 => http1(from, &to, call),
            Http2 | Grpc => self.runtime.block_on(over_http2(from, &to, call, protocol == Grpc)),
        }
    }

    /// Sends opaque bytes.
    fn bytes(&self, from: &Pod, port: u16) -> Answer {
        let to = match from.name == self.outside.name {
            true => format!("{SERVER}:{port}"),
            false => format!("10.96.0.2:{port}"),
        };
        let Ok(mut stream) = from.try_connect(&to) else {
            return Denied;
        };
        match stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut [0; 4])) {
            Ok(()) => Allowed,
            Err(_) => Denied,
        }
    }

    fn denials(&self) -> Value {
        let (status, page) = self.server.page(15000, "/denials").unwrap();
        assert_eq!(status, 200);
        serde_json::from_str(&page).unwrap()
    }

    fn last_denial(&self) -> Value {
        self.denials()["denials"].as_array().unwrap().last().unwrap().clone()
    }
}

fn http1(from: &Pod, to: &str, call: Call<'_>) -> Answer {
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", call.method, call.path, call.host);
    for (name, value) in call.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let answer = Connection::new(from.connect(to)).ask(format!("{head}\r\n"));
    match answer.status() {
        200 => Allowed,
        400 => Malformed,
        401 => {
            assert!(
                answer
                    .header("www-authenticate")
                    .unwrap()
                    .starts_with("Bearer realm=\"http://")
            );
            Unauthenticated
        }
        403 => {
            assert_eq!(answer.text(), "RBAC: access denied");
            Denied
        }
        other => panic!("{call:?}: {other} {}", answer.text()),
    }
}

async fn over_http2(from: &Pod, to: &str, call: Call<'_>, grpc: bool) -> Answer {
    let (mut sender, _connection) = http2::client(from, to).await;
    let mut request = Request::builder()
        .method(call.method)
        .uri(format!("http://{}{}", call.host, call.path));
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    if grpc {
        request = request.header("content-type", "application/grpc");
    }
    let (answer, mut body) = http2::begin(&mut sender, request.body(()).unwrap()).await;
    // A refused call may have ended by then.
    let _ = body.send_data(Bytes::new(), true);
    let answer = answer.await.unwrap();
    let status = answer
        .headers()
        .get("grpc-status")
        .map(|status| status.to_str().unwrap());
    match (grpc, answer.status(), status) {
        (_, StatusCode::OK, None) => Allowed,
        (true, StatusCode::OK, Some("7")) => Denied,
        (true, StatusCode::OK, Some("16")) => Unauthenticated,
        (true, StatusCode::OK, Some("13")) | (false, StatusCode::BAD_REQUEST, None) => Malformed,
        (false, StatusCode::FORBIDDEN, None) => Denied,
        (false, StatusCode::UNAUTHORIZED, None) => Unauthenticated,
        other => panic!("{call:?}: {other:?}"),
    }
}

#[test]
fn who_may_do_what() {
    let Some(scene) = Scene::new() else { return };
    let Scene {
        client,
        foreign,
        outside,
        ..
    } = &scene;
    let other = Call { path: "/other", ..CALL };
    let put = Call { method: "PUT", ..CALL };
    let elsewhere = Call {
        host: "server.shop",
        ..CALL
    };
    let shouting = Call { host: "SERVER", ..CALL };
    let role = Call {
        headers: &[("x-role", "admin")],
        ..CALL
    };
    let roles = Call {
        headers: &[("x-role", "guest"), ("x-role", "admin")],
        ..CALL
    };
    let guest = Call {
        headers: &[("x-role", "guest")],
        ..CALL
    };
    let forwarded = Call {
        headers: &[("x-forwarded-for", "203.0.113.9, 198.51.100.7")],
        ..CALL
    };
    type Rows<'a> = &'a [(&'a Pod, Call<'a>, Answer)];
    let allow = |rule: &str| policy("p", &format!("action: ALLOW, rules: [{rule}]"));
    let deny = |rule: &str| policy("p", &format!("action: DENY, rules: [{rule}]"));
    let matrix: &[(String, Rows<'_>)] = &[
        (
            allow(
                "{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}], to: [{operation: {paths: [/api/data]}}]}",
            ),
            &[
                (client, CALL, Allowed),
                (client, other, Denied),
                (foreign, CALL, Denied),
                (outside, CALL, Denied),
            ],
        ),
        (
            allow("{from: [{source: {namespaces: [payments]}}]}"),
            &[
                (client, CALL, Denied),
                (foreign, CALL, Allowed),
                (outside, CALL, Denied),
            ],
        ),
        (
            allow("{from: [{source: {notNamespaces: [payments]}}]}"),
            &[(client, CALL, Allowed), (foreign, CALL, Denied)],
        ),
        (
            deny("{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/client]}}]}"),
            &[
                (client, CALL, Allowed),
                (foreign, CALL, Denied),
                (outside, CALL, Denied),
            ],
        ),
        (
            allow("{from: [{source: {ipBlocks: [10.77.0.3, 10.77.0.4/32]}}]}"),
            &[
                (client, CALL, Denied),
                (foreign, CALL, Allowed),
                (outside, CALL, Allowed),
            ],
        ),
        (
            allow("{from: [{source: {remoteIpBlocks: [198.51.100.0/24]}}]}"),
            &[
                (client, CALL, Denied),
                (client, forwarded, Allowed),
                (outside, forwarded, Allowed),
            ],
        ),
        (
            allow("{to: [{operation: {methods: [PUT]}}]}"),
            &[(client, CALL, Denied), (client, put, Allowed)],
        ),
        (
            allow("{to: [{operation: {paths: ['/api/*'], notPaths: [/api/data]}}]}"),
            &[
                (client, CALL, Denied),
                (
                    client,
                    Call {
                        path: "/api/more?x=/api/data",
                        ..CALL
                    },
                    Allowed,
                ),
            ],
        ),
        (
            allow("{to: [{operation: {paths: ['/api/{*}']}}]}"),
            &[
                (client, CALL, Allowed),
                (
                    client,
                    Call {
                        path: "/api/a/b",
                        ..CALL
                    },
                    Denied,
                ),
            ],
        ),
        (
            deny("{to: [{operation: {hosts: [server]}}]}"),
            &[
                (client, CALL, Denied),
                (client, shouting, Denied),
                (client, elsewhere, Allowed),
            ],
        ),
        (
            allow("{when: [{key: 'request.headers[x-role]', values: [admin]}]}"),
            &[
                (client, CALL, Denied),
                (client, role, Allowed),
                (client, guest, Denied),
                (client, roles, Allowed),
            ],
        ),
        (
            deny("{when: [{key: 'request.headers[x-role]', values: [admin]}]}"),
            &[(client, CALL, Allowed), (client, role, Denied), (client, roles, Denied)],
        ),
        // What lets through nothing, and what everything.
        (policy("p", "{}").replace(", {}", ""), &[(client, CALL, Denied)]),
        (allow("{}"), &[(client, CALL, Allowed), (outside, CALL, Allowed)]),
        (deny("{}"), &[(client, CALL, Denied)]),
    ];
    for (policies, rows) in matrix {
        scene.apply(policies);
        for (from, call, expected) in *rows {
            for protocol in PROTOCOLS {
                // gRPC has one method, and one name for its server.
                if protocol == Grpc && call.method != "POST" {
                    continue;
                }
                let answer = scene.call(from, protocol, *call);
                assert_eq!(answer, *expected, "{policies}{} {protocol:?} {call:?}", from.name);
            }
        }
    }
}

#[test]
fn opaque_connections_are_decided_about_before_a_byte_passes() {
    let Some(scene) = Scene::new() else { return };
    let Scene {
        client,
        foreign,
        outside,
        ..
    } = &scene;
    let heard = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let hears = heard.clone();
    serve(&scene.server, 9002, move |mut stream| {
        hears.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _ = stream.write_all(b"220 ready\r\n");
        echo(stream);
    });
    let greeted = |pod: &Pod| {
        let mut stream = pod.connect(&format!("{SERVER}:9002"));
        // Who may not even ask is kept waiting for a while, since it could still make a request.
        stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        stream.read_exact(&mut [0; 11]).is_ok()
    };
    assert!(greeted(client) && greeted(outside));
    let rows: &[(&str, [Answer; 3])] = &[
        (
            "action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}]",
            [Allowed, Denied, Denied],
        ),
        (
            "action: DENY, rules: [{from: [{source: {namespaces: [payments]}}]}]",
            [Allowed, Denied, Allowed],
        ),
        (
            "action: DENY, rules: [{to: [{operation: {ports: ['9000', '9001', '9002']}}]}]",
            [Denied, Denied, Denied],
        ),
        (
            "action: ALLOW, rules: [{to: [{operation: {ports: ['9000', '9001', '9002']}}]}]",
            [Allowed, Allowed, Allowed],
        ),
        // What is known of HTTP alone counts as matched where it denies, and never allows.
        (
            "action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
            [Denied, Denied, Denied],
        ),
        (
            "action: ALLOW, rules: [{to: [{operation: {paths: ['*']}}]}]",
            [Denied, Denied, Denied],
        ),
        (
            "action: ALLOW, rules: [{from: [{source: {ipBlocks: [10.77.0.3]}}]}]",
            [Denied, Denied, Allowed],
        ),
    ];
    for (spec, expected) in rows {
        scene.apply(&policy("p", spec));
        let before = heard.load(std::sync::atomic::Ordering::SeqCst);
        for (from, expected) in [client, foreign, outside].into_iter().zip(*expected) {
            for port in [9000, 9001] {
                assert_eq!(scene.bytes(from, port), expected, "{spec} {} {port}", from.name);
            }
            assert_eq!(greeted(from), expected == Allowed, "{spec} {}", from.name);
        }
        let greetings = expected.iter().filter(|answer| **answer == Allowed).count();
        let more = heard.load(std::sync::atomic::Ordering::SeqCst) - before;
        assert_eq!(more, greetings, "{spec}: nobody else was asked");
    }
    let denial = scene.last_denial();
    assert_eq!(denial["status"], 0);
    assert!(denial["request"].is_null(), "{denial}");
}

#[test]
fn a_change_ends_what_is_open() {
    let Some(scene) = Scene::new() else { return };
    let client = &scene.client;
    let mut raw = client.connect("10.96.0.2:9000");
    let mut in_the_clear = scene.outside.connect(&format!("{SERVER}:9000"));
    for stream in [&mut raw, &mut in_the_clear] {
        stream.write_all(b"open").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    let mut http = Connection::new(client.connect("10.96.0.2:80"));
    assert_eq!(http.ask(get("server", "/")).status(), 200);
    let upgrade = "GET /upgrade HTTP/1.1\r\nhost: server\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let mut upgraded = Connection::new(client.connect("10.96.0.2:80"));
    assert_eq!(upgraded.ask(upgrade).status(), 101);
    assert_eq!(upgraded.exactly(6).unwrap(), b"hello ");

    // What is still allowed goes on.
    scene.apply(&policy(
        "p",
        "action: DENY, rules: [{from: [{source: {namespaces: [nowhere]}}]}]",
    ));
    for stream in [&mut raw, &mut in_the_clear] {
        stream.write_all(b"still").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    }
    upgraded.send("x");
    assert_eq!(upgraded.exactly(1).unwrap(), b"x");

    scene.apply(&policy(
        "p",
        "action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]",
    ));
    let ended = |read: io::Result<usize>| matches!(read, Ok(0) | Err(_));
    assert!(ended(raw.read(&mut [0; 1])));
    assert_eq!(upgraded.rest().unwrap_or_default(), b"");
    assert_eq!(http.ask(get("server", "/")).status(), 403);
    in_the_clear.write_all(b"still").unwrap();
    in_the_clear.read_exact(&mut [0; 5]).unwrap();

    // Another path's denial does not end what a request to this one has opened.
    scene.apply("");
    let mut upgraded = Connection::new(client.connect("10.96.0.2:80"));
    assert_eq!(upgraded.ask(upgrade).status(), 101);
    assert_eq!(upgraded.exactly(6).unwrap(), b"hello ");
    scene.apply(&policy(
        "p",
        "action: DENY, rules: [{to: [{operation: {paths: [/other]}}]}]",
    ));
    upgraded.send("x");
    assert_eq!(upgraded.exactly(1).unwrap(), b"x");
    scene.apply(&policy(
        "p",
        "action: DENY, rules: [{to: [{operation: {paths: [/upgrade]}}]}]",
    ));
    assert_eq!(upgraded.rest().unwrap_or_default(), b"");
}

#[test]
fn a_denial_explains_itself() {
    let Some(scene) = Scene::new() else { return };
    let deny = policy(
        "no-admin",
        "action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}, {to: [{operation: {paths: ['/admin*']}}]}]",
    );
    let allow = policy(
        "front",
        "action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/frontend]}}], to: [{operation: {paths: ['/api/*']}}]}, {to: [{operation: {paths: [/health]}}]}]",
    );
    let audit = policy(
        "watch",
        "action: AUDIT, rules: [{to: [{operation: {paths: ['/health']}}]}]",
    );
    scene.apply(&format!("{deny}{allow}{audit}"));
    let secret = Call {
        path: "/admin/x?token=secret",
        headers: &[("authorization", "Bearer secret"), ("x-request-id", "id-1")],
        ..CALL
    };
    assert_eq!(scene.call(&scene.client, Http1, secret), Denied);
    let denial = scene.last_denial();
    let detail = "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[1]]";
    assert_eq!(denial["detail"], detail);
    assert_eq!(
        (&denial["action"], &denial["policy"], &denial["rule"]),
        (&json!("DENY"), &json!("shop/no-admin"), &json!(1))
    );
    assert_eq!(denial["identity"], "spiffe://cluster.local/ns/shop/sa/client");
    let request = json!({"method": "POST", "host": "server", "path": "/admin/x", "id": "id-1"});
    assert_eq!(denial["request"], request);
    assert_eq!((&denial["port"], &denial["status"]), (&json!(8080), &json!(403)));
    assert!(!scene.denials().to_string().contains("secret"));

    assert_eq!(scene.call(&scene.client, Http2, CALL), Denied);
    let denial = scene.last_denial();
    assert_eq!(
        (&denial["action"], &denial["detail"]),
        (&json!("ALLOW"), &json!("rbac_access_denied_matched_policy[none]"))
    );
    assert_eq!(denial["nearest"]["policy"], "shop/front");
    assert_eq!(denial["nearest"]["rule"], 0);
    assert!(
        denial["nearest"]["field"].as_str().unwrap().contains("principals"),
        "{denial}"
    );
    assert_eq!(
        denial["nearest"]["expected"],
        json!(["cluster.local/ns/shop/sa/frontend"])
    );
    assert_eq!(denial["nearest"]["seen"], "cluster.local/ns/shop/sa/client");

    assert_eq!(
        scene.call(
            &scene.client,
            Http1,
            Call {
                path: "/health",
                ..CALL
            }
        ),
        Allowed
    );
    for (labels, least) in [
        ("action=\"DENY\",policy=\"shop/no-admin\",result=\"denied\"", 1.0),
        ("action=\"ALLOW\",policy=\"none\",result=\"denied\"", 1.0),
        ("action=\"AUDIT\",policy=\"shop/watch\",result=\"audited\"", 1.0),
    ] {
        let counted = scene
            .server
            .metric(&format!("pinnace_proxy_authorization_total{{{labels}}}"));
        assert!(counted >= least, "{labels}: {counted}");
    }
    eventually("the access log has the detail", || {
        scene.world.log("server-sidecar").contains(&format!(" 403 - {detail} "))
    });
    let log = scene.world.log("server-sidecar");
    assert!(!log.contains("Bearer"), "no token is logged");

    // A dry run denies nobody, and is counted.
    let dry = policy("try", "action: DENY, rules: [{}]").replacen(
        "namespace: shop",
        "namespace: shop, annotations: {istio.io/dry-run: 'true'}",
        1,
    );
    scene.apply(&dry);
    assert_eq!(scene.call(&scene.client, Http1, CALL), Allowed);
    assert!(scene.server.metric("istio_dry_run_deny_shadow_denied") >= 1.0);
    let labels = "action=\"DENY\",policy=\"shop/try\",result=\"would_deny\"";
    assert!(
        scene
            .server
            .metric(&format!("pinnace_proxy_authorization_total{{{labels}}}"))
            >= 1.0
    );
}

/// An issuer with one key.
pub(crate) struct Issuer {
    key: KeyPair,
    id: &'static str,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self::named("a")
    }

    /// Whose key has that `kid`.
    pub(crate) fn named(id: &'static str) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Self { key, id }
    }

    /// The key as a JWK.
    pub(crate) fn key(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.der_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.id, "x": x})
    }

    pub(crate) fn keys(&self) -> String {
        json!({"keys": [self.key()]}).to_string()
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        let head = json!({"alg": "EdDSA", "kid": self.id, "typ": "JWT"});
        let [head, claims] = [&head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{head}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{signature}")
    }
}

#[test]
fn tokens_are_verified_before_policies_decide() {
    let Some(scene) = Scene::new() else { return };
    let issuer = Issuer::new();
    let rules = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: jwt, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: server}}}}\n  jwtRules:\n  - issuer: https://issuer.example\n    jwks: '{}'\n    outputClaimToHeaders: [{{header: x-sub, claim: sub}}]\n---\n",
        issuer.keys()
    );
    let claims = json!({"iss": "https://issuer.example", "sub": "alice", "aud": "shop", "exp": 4_000_000_000_u64, "groups": ["dev", "ops"]});
    let token = issuer.token(&claims);
    let mut bob = claims.clone();
    bob["sub"] = json!("bob");
    bob["groups"] = json!(["dev"]);
    let bob = issuer.token(&bob);
    let mut expired = claims.clone();
    expired["exp"] = json!(1_000_000_000);
    let expired = issuer.token(&expired);
    let forged = Issuer::new().token(&claims);
    let bearer = |token: &str| format!("Bearer {token}");
    let (alice, bob, expired, forged) = (bearer(&token), bearer(&bob), bearer(&expired), bearer(&forged));
    let ask = |authorization: Option<&str>, protocol| {
        let headers: Vec<_> = authorization
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        scene.call(
            &scene.client,
            protocol,
            Call {
                headers: &headers,
                ..CALL
            },
        )
    };
    let principal = policy(
        "p",
        "action: ALLOW, rules: [{from: [{source: {requestPrincipals: ['https://issuer.example/alice']}}]}]",
    );
    let group = policy(
        "p",
        "action: ALLOW, rules: [{when: [{key: 'request.auth.claims[groups]', values: [ops]}]}]",
    );
    let required = policy(
        "p",
        "action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]",
    );
    for (policies, expected) in [
        ("", [Allowed, Allowed, Allowed]),
        (principal.as_str(), [Denied, Allowed, Denied]),
        (group.as_str(), [Denied, Allowed, Denied]),
        (required.as_str(), [Denied, Allowed, Allowed]),
    ] {
        scene.apply(&format!("{rules}{policies}"));
        for protocol in PROTOCOLS {
            let said = [None, Some(alice.as_str()), Some(bob.as_str())];
            assert_eq!(
                said.map(|token| ask(token, protocol)),
                expected,
                "{policies} {protocol:?}"
            );
            for bad in [expired.as_str(), forged.as_str(), "Bearer a.b.c"] {
                assert_eq!(
                    ask(Some(bad), protocol),
                    Unauthenticated,
                    "{policies} {protocol:?} {bad}"
                );
            }
        }
    }
    // A browser asks without a token whether it may call. It is not asked for one, and has no principal.
    let headers = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "PUT"),
        ("authorization", "Bearer a.b.c"),
    ];
    let options = |headers| Call {
        method: "OPTIONS",
        headers,
        ..CALL
    };
    let preflights = policy(
        "preflights",
        "action: ALLOW, rules: [{to: [{operation: {methods: [OPTIONS]}}]}]",
    );
    for (policies, expected) in [
        (String::new(), Allowed),
        (principal.clone(), Denied),
        (required.clone(), Denied),
        (format!("{principal}{preflights}"), Allowed),
    ] {
        scene.apply(&format!("{rules}{policies}"));
        for protocol in [Http1, Http2] {
            let ask = |headers| scene.call(&scene.client, protocol, options(headers));
            assert_eq!(ask(&headers[..2]), expected, "{policies} {protocol:?}");
            assert_eq!(ask(&headers), expected, "{policies} {protocol:?}");
            assert_eq!(
                ask(&headers[1..]),
                Unauthenticated,
                "no preflight: {policies} {protocol:?}"
            );
        }
    }
    let denial = scene.denials()["denials"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .find(|denial| denial["action"] == "JWT")
        .unwrap()
        .clone();
    assert!(
        denial["detail"]
            .as_str()
            .unwrap()
            .starts_with("jwt_authn_access_denied{"),
        "{denial}"
    );
    // The application gets the claim and not the token, and nobody else can say it.
    let mut connection = Connection::new(scene.client.connect("10.96.0.2:80"));
    let answer = connection.ask(format!(
        "GET / HTTP/1.1\r\nhost: server\r\nx-sub: mallory\r\nauthorization: {alice}\r\n\r\n"
    ));
    let text = answer.text();
    assert!(
        text.contains("x-sub: alice\n") && !text.contains("mallory") && !text.contains(&token),
        "{text}"
    );
    // No token is told anywhere.
    let log = scene.world.log("server-sidecar");
    assert!(!log.contains(&token) && !scene.denials().to_string().contains(&token));
}

/// Ways to write a path, and what each of the four settings makes of it where `/admin/x` is denied: NONE, BASE,
/// MERGE_SLASHES, DECODE_AND_MERGE_SLASHES.
const TRICKS: [(&str, [Answer; 4]); 14] = [
    ("/admin/x", [Denied; 4]),
    ("/admin/x?q", [Denied; 4]),
    ("/admin/x?/../y", [Denied; 4]),
    ("//admin/x", [Allowed, Allowed, Denied, Denied]),
    ("/admin//x", [Allowed, Allowed, Denied, Denied]),
    ("/admin/./x", [Allowed, Denied, Denied, Denied]),
    ("/public/../admin/x", [Allowed, Denied, Denied, Denied]),
    ("/admin/%2e/x", [Allowed, Denied, Denied, Denied]),
    ("/public/%2E%2e/admin/x", [Allowed, Denied, Denied, Denied]),
    ("/admin%2fx", [Allowed, Allowed, Allowed, Denied]),
    ("/admin%2Fx", [Allowed, Allowed, Allowed, Denied]),
    ("/%61dmin/x", [Allowed, Denied, Denied, Denied]),
    ("/admin/x;a=b", [Allowed; 4]),
    ("/admin/x#y", [Malformed; 4]),
];

#[test]
fn paths_are_decided_about_as_they_are_sent_on() {
    for (at, setting) in ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]
        .into_iter()
        .enumerate()
    {
        let settings = format!("mesh: {{pathNormalization: {{normalization: {setting}}}}}\n---\n");
        let Some(scene) = Scene::with(&mesh(&format!(
            "{settings}{}",
            policy("p", "action: DENY, rules: [{to: [{operation: {paths: [/admin/x]}}]}]")
        ))) else {
            return;
        };
        for (path, expected) in TRICKS {
            for from in [&scene.client, &scene.outside] {
                let call = Call { path, ..CALL };
                assert_eq!(
                    scene.call(from, Http1, call),
                    expected[at],
                    "{setting} {path} {}",
                    from.name
                );
                // h2 sends no fragment.
                if expected[at] != Malformed {
                    assert_eq!(
                        scene.call(from, Http2, call),
                        expected[at],
                        "{setting} {path} {} in HTTP/2",
                        from.name
                    );
                }
            }
        }
        // Whom a target names in absolute form counts, and no second host, other case or repeated header helps.
        let of_name = policy(
            "name",
            "action: DENY, rules: [{to: [{operation: {hosts: [secret.example]}}]}]",
        );
        let of_header = policy(
            "header",
            "action: DENY, rules: [{when: [{key: 'request.headers[x-role]', values: [admin]}]}]",
        );
        let path = policy("p", "action: DENY, rules: [{to: [{operation: {paths: [/admin/x]}}]}]");
        scene.apply(&format!("{settings}{path}{of_name}{of_header}"));
        for (request, expected) in [
            ("GET http://server/admin/x HTTP/1.1\r\nhost: other\r\n\r\n", 403),
            (
                "GET http://server/admin/./x HTTP/1.1\r\nhost: other\r\n\r\n",
                if at == 0 { 200 } else { 403 },
            ),
            ("GET http://secret.example/x HTTP/1.1\r\nhost: server\r\n\r\n", 403),
            ("GET HTTP://SECRET.example/x HTTP/1.1\r\nhost: server\r\n\r\n", 403),
            ("GET /x HTTP/1.1\r\nhost: Secret.EXAMPLE\r\n\r\n", 403),
            (
                "GET /x HTTP/1.1\r\nhost: server\r\nx-role: guest\r\nX-Role: admin\r\n\r\n",
                403,
            ),
            (
                "GET /x HTTP/1.1\r\nhost: server\r\nx-role: admin\r\nx-role: guest\r\n\r\n",
                403,
            ),
            ("GET /x HTTP/1.1\r\nhost: server\r\nx-role: guest\r\n\r\n", 200),
            ("GET http://x@server/admin/x HTTP/1.1\r\nhost: server\r\n\r\n", 400),
            ("GET /admin/x HTTP/1.1\r\nhost: server\r\nhost: server\r\n\r\n", 400),
        ] {
            let mut connection = Connection::new(scene.outside.connect(&format!("{SERVER}:8080")));
            assert_eq!(connection.ask(request).status(), expected, "{setting} {request}");
        }
    }
}
