//! AuthorizationPolicy's action CUSTOM: an external authorizer is asked, over gRPC and HTTP, inside of the mesh and outside.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::authorizer::Authorizer;
use super::http::{Connection, Message, application};
use super::http2;
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::world::{CLIENT_ID, FIXTURES, OTHER, SERVER, SERVER_ID, World, eventually};

/// A pod without a sidecar, with an authorizer too.
const PLAIN: &str = "10.77.0.4";

/// A pod that calls and has no sidecar.
const OUTSIDE: &str = "10.77.0.5";

const PROVIDERS: &str = "
mesh:
  extensionProviders:
  - name: grpc
    envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000}
  - name: http
    envoyExtAuthzHttp: &http
      service: shop/authz
      port: 8000
      pathPrefix: /check
      includeRequestHeadersInCheck: [x-ext-authz]
      includeAdditionalHeadersInCheck: {x-mesh: test}
      headersToUpstreamOnAllow: [x-user]
      headersToDownstreamOnAllow: ['x-ext-authz-*']
      headersToDownstreamOnDeny: [x-why]
  - name: plain-grpc
    envoyExtAuthzGrpc: {service: plain.shop.svc.cluster.local, port: 9000}
  - name: plain-http
    envoyExtAuthzHttp: {service: plain.shop.svc.cluster.local, port: 8000, includeRequestHeadersInCheck: [x-ext-authz]}
  - name: hurried-grpc
    envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000, timeout: 500ms, statusOnError: '503'}
  - name: hurried-http
    envoyExtAuthzHttp: {service: shop/authz, port: 8000, timeout: 500ms, statusOnError: '503', includeRequestHeadersInCheck: [x-ext-authz]}
  - name: open-grpc
    envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000, timeout: 500ms, failOpen: true}
  - name: open-http
    envoyExtAuthzHttp: {service: shop/authz, port: 8000, timeout: 500ms, failOpen: true, includeRequestHeadersInCheck: [x-ext-authz]}
  - name: nobody
    envoyExtAuthzGrpc: {service: nobody.shop.svc.cluster.local, port: 80}
  - name: nobody-open
    envoyExtAuthzGrpc: {service: nobody.shop.svc.cluster.local, port: 80, failOpen: true}
  - name: unknown
    envoyExtAuthzHttp: {service: unknown.shop.svc.cluster.local, port: 80}
  - name: foreign
    envoyExtAuthzHttp: {service: authz.example.org, port: 80, failOpen: true}
  - name: whole
    envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000, includeRequestBodyInCheck: {maxRequestBytes: 10}}
  - name: bytes
    envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000, includeRequestBodyInCheck: {maxRequestBytes: 10, packAsBytes: true}}
  - name: part
    envoyExtAuthzHttp: {service: shop/authz, port: 8000, includeRequestHeadersInCheck: [x-ext-authz], includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true}}
";

/// A client, a server about whose calls an authorizer is asked, and authorizers with a sidecar and without.
struct Scene {
    world: World,
    runtime: Runtime,
    client: Pod,
    server: Pod,
    outside: Pod,
    authorizer: Authorizer,
    plain: Authorizer,
}

fn mesh(more: &str) -> String {
    let more_pods = format!(
        "- {{name: shop/authz-1, serviceAccount: authz, addresses: [{OTHER}], labels: {{app: authz}}}}\n\
         - {{name: shop/plain-1, serviceAccount: plain, addresses: [{PLAIN}], injected: false}}\n\
         services:\n\
         - name: shop/authz\n  addresses: [10.96.0.3]\n  endpoints: [{OTHER}]\n  ports: [{{port: 8000, name: http}}, {{port: 9000, name: grpc}}]\n\
         - name: shop/plain\n  addresses: [10.96.0.4]\n  endpoints: [{PLAIN}]\n  ports: [{{port: 8000, name: http}}, {{port: 9000, name: grpc}}]\n"
    );
    format!(
        "{PROVIDERS}{}\n---\n{more}\n",
        FIXTURES.replacen("services:\n", &more_pods, 1)
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{selector: {{matchLabels: {{app: server}}}}, {spec}}}\n---\n"
    )
}

/// A policy that asks a provider about paths that begin with `/asked`.
fn asks(provider: &str) -> String {
    let rules = "rules: [{to: [{operation: {paths: [/asked*]}}]}]";
    policy(
        "asked",
        &format!("action: CUSTOM, provider: {{name: {provider}}}, {rules}"),
    )
}

impl Scene {
    fn new() -> Option<Self> {
        let (mut world, client, server) = World::pair(&mesh(""))?;
        let authz = world.pod("authz", OTHER);
        world.sidecar(&authz, &[]);
        world.ready(&authz);
        let plain_pod = world.pod("plain", PLAIN);
        let outside = world.pod("outside", OUTSIDE);
        application(&server, 8080);
        serve(&server, 9000, echo);
        let runtime = Runtime::new().unwrap();
        let (authorizer, plain) = runtime.block_on(async {
            http2::serve(&server, 8082, http2::echo);
            (Authorizer::serve(&authz), Authorizer::serve(&plain_pod))
        });
        Some(Self {
            world,
            runtime,
            client,
            server,
            outside,
            authorizer,
            plain,
        })
    }

    /// Puts policies in force.
    fn apply(&self, more: &str) {
        let version = || {
            let (_, page) = self.server.page(15000, "/discovery").unwrap();
            let page: Value = serde_json::from_str(&page).unwrap();
            page["versions"]["AuthorizationPolicies"].clone()
        };
        let before = version();
        self.world.fixtures(&mesh(more));
        eventually("other policies are in force", || version() != before);
    }

    /// A request over HTTP/1.1.
    fn ask(&self, method: &str, target: &str, headers: &str, body: &str) -> Message {
        let mut connection = Connection::new(self.client.connect("10.96.0.2:80"));
        let length = match body.is_empty() {
            true => String::new(),
            false => format!("content-length: {}\r\n", body.len()),
        };
        connection.ask(format!(
            "{method} {target} HTTP/1.1\r\nhost: server\r\n{headers}{length}\r\n{body}"
        ))
    }

    /// The status of a request over HTTP/2, and gRPC's.
    fn over_http2(&self, path: &str, word: &str, grpc: bool) -> (u16, Option<String>) {
        self.runtime.block_on(async {
            let (mut sender, _connection) = http2::client(&self.client, "10.96.0.2:82").await;
            let mut request = Request::post(format!("http://server{path}")).header("x-ext-authz", word);
            if grpc {
                request = request.header("content-type", "application/grpc");
            }
            let (answer, mut body) = http2::begin(&mut sender, request.body(()).unwrap()).await;
            // A refused call may have ended by then.
            let _ = body.send_data(Bytes::new(), true);
            let answer = answer.await.unwrap();
            let status = answer.headers().get("grpc-status");
            (
                answer.status().as_u16(),
                status.map(|status| status.to_str().unwrap().to_owned()),
            )
        })
    }

    fn last_denial(&self) -> Value {
        let (status, page) = self.server.page(15000, "/denials").unwrap();
        assert_eq!(status, 200);
        let page: Value = serde_json::from_str(&page).unwrap();
        page["denials"].as_array().unwrap().last().unwrap().clone()
    }
}

const ALLOW: &str = "x-ext-authz: allow\r\n";
const DENY: &str = "x-ext-authz: deny\r\n";

#[test]
fn a_provider_decides_about_requests_of_every_protocol() {
    let Some(scene) = Scene::new() else { return };
    for (provider, denied) in [("grpc", 401), ("http", 403), ("plain-grpc", 401), ("plain-http", 403)] {
        scene.apply(&asks(provider));
        let authorizer = if provider.starts_with("plain") {
            &scene.plain
        } else {
            &scene.authorizer
        };
        assert_eq!(scene.ask("GET", "/other", DENY, "").status(), 200, "{provider}");
        assert!(
            authorizer.asked().is_empty(),
            "{provider} is asked about what no rule matches"
        );
        assert_eq!(scene.ask("GET", "/asked", ALLOW, "").status(), 200, "{provider}");
        let answer = scene.ask("GET", "/asked", DENY, "");
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (denied, "denied by ext_authz"),
            "{provider}"
        );
        assert_eq!(answer.header("x-why"), Some("no"), "{provider}");
        for grpc in [false, true] {
            assert_eq!(scene.over_http2("/asked", "allow", grpc), (200, None), "{provider}");
        }
        assert_eq!(scene.over_http2("/asked", "deny", false), (denied, None), "{provider}");
        let expected = if denied == 401 { "16" } else { "7" };
        assert_eq!(
            scene.over_http2("/asked", "deny", true),
            (200, Some(expected.to_owned())),
            "{provider}"
        );
        assert_eq!(authorizer.asked().len(), 6, "{provider}");
        let denial = scene.last_denial();
        assert_eq!(
            json!([
                denial["action"],
                denial["detail"],
                denial["policy"],
                denial["rule"],
                denial["status"],
                denial["identity"]
            ]),
            json!(["CUSTOM", "ext_authz_denied", "shop/asked", 0, denied, CLIENT_ID])
        );
        for (result, count) in [("allowed", 3.0), ("denied", 3.0)] {
            let sample = format!("pinnace_proxy_ext_authz_total{{provider=\"{provider}\",result=\"{result}\"}}");
            assert!((scene.server.metric(&sample) - count).abs() < 0.1, "{sample}");
        }
    }
    let sample = "pinnace_proxy_authorization_total{action=\"CUSTOM\",policy=\"shop/asked\",result=\"denied\"}";
    assert!((scene.server.metric(sample) - 12.0).abs() < 0.1);
}

#[test]
fn what_is_asked_and_what_the_answer_changes() {
    let Some(scene) = Scene::new() else { return };
    let headers = "x-ext-authz: allow\r\nx-user: forged\r\nx-groups: own\r\nx-secret: s\r\nauthorization: Bearer t\r\n";

    scene.apply(&asks("grpc"));
    let answer = scene.ask("GET", "/asked/a//b?q=1&secret=2", headers, "");
    let asked = scene.authorizer.asked().remove(0);
    assert_eq!(
        json!([asked["source"], asked["destination"], asked["sni"]]),
        json!([CLIENT_ID, SERVER_ID, "outbound_.80_._.server.shop.svc.cluster.local"])
    );
    let http = &asked["http"];
    assert_eq!(
        json!([
            http["method"],
            http["path"],
            http["host"],
            http["protocol"],
            http["size"]
        ]),
        json!(["GET", "/asked/a//b?q=1&secret=2", "server", "HTTP/1.1", 0])
    );
    assert_eq!(
        json!([
            http["headers"]["x-user"],
            http["headers"][":authority"],
            http["headers"]["authorization"]
        ]),
        json!(["forged", "server", "Bearer t"])
    );
    assert_eq!((answer.status(), answer.header("x-checked")), (200, Some("yes")));
    // The application answers with what it got.
    let got = answer.text();
    assert!(got.starts_with("GET /asked/a//b?q=1&checked=yes HTTP/1.1\n"), "{got}");
    let count = |line: &str| got.lines().filter(|it| it.eq_ignore_ascii_case(line)).count();
    assert_eq!(
        (count("x-user: ann"), count("x-user: forged"), count("x-secret: s")),
        (1, 0, 0),
        "{got}"
    );
    assert_eq!(
        (count("x-groups: own"), count("x-groups: staff"), count("host: server")),
        (1, 1, 1),
        "{got}"
    );

    // What is decided about afterwards is what the application would get.
    let deny = "action: DENY, rules: [{when: [{key: 'request.headers[x-user]', values: [ann]}]}]";
    scene.apply(&(asks("grpc") + &policy("deny", deny)));
    assert_eq!(scene.ask("GET", "/asked", headers, "").status(), 403);
    assert_eq!(scene.last_denial()["action"], "DENY");
    assert_eq!(scene.ask("GET", "/other", headers, "").status(), 200);

    scene.apply(&asks("http"));
    scene.authorizer.asked();
    let answer = scene.ask("GET", "/asked?q", headers, "");
    let head = scene.authorizer.asked().remove(0)["head"]
        .as_str()
        .unwrap()
        .to_ascii_lowercase();
    assert!(head.starts_with("get /check/asked?q http/1.1\n"), "{head}");
    let has = |line: &str| head.lines().any(|it| it.starts_with(line));
    for line in [
        "host: server",
        "content-length: 0",
        "x-ext-authz: allow",
        "x-mesh: test",
        "authorization: bearer t",
    ] {
        assert!(has(line), "{line}: {head}");
    }
    assert!(!has("x-user") && !has("x-secret"), "{head}");
    // It came under mutual TLS, from the workload that asks.
    assert!(head.contains("uri=spiffe://cluster.local/ns/shop/sa/server"), "{head}");
    assert_eq!(answer.header("x-ext-authz-check-result"), Some("200 OK"));
    let got = answer.text();
    let count = |line: &str| got.lines().filter(|it| it.eq_ignore_ascii_case(line)).count();
    assert_eq!(
        (count("x-user: ann"), count("x-user: forged"), count("x-secret: s")),
        (1, 0, 0),
        "{got}"
    );
    let answer = scene.ask("GET", "/asked", "x-ext-authz: login\r\n", "");
    assert_eq!(
        (answer.status(), answer.header("location"), answer.header("x-user")),
        (302, Some("/login"), None)
    );
}

#[test]
fn without_an_answer_a_request_is_denied_unless_its_provider_fails_open() {
    let Some(scene) = Scene::new() else { return };
    for (provider, word, expected, problem) in [
        ("grpc", "fail", 403, "it answered grpc-status 14"),
        (
            "grpc",
            "bend",
            403,
            "its answer sets the header \"x user\" to what is none",
        ),
        ("http", "fail", 403, "answered 500"),
        ("hurried-grpc", "think", 503, "no answer within 500ms"),
        ("hurried-http", "think", 503, "no answer within 500ms"),
        ("nobody", "allow", 403, "no healthy upstream"),
        (
            "unknown",
            "allow",
            403,
            "there is no Service unknown.shop.svc.cluster.local with port 80",
        ),
        ("foreign", "allow", 403, "hosts of ServiceEntries are not supported"),
        (
            "missing",
            "allow",
            403,
            "meshConfig.extensionProviders has none of this name",
        ),
        ("open-grpc", "fail", 200, ""),
        ("open-grpc", "think", 200, ""),
        ("open-grpc", "deny", 401, ""),
        ("open-http", "fail", 200, ""),
        ("open-http", "think", 200, ""),
        ("nobody-open", "allow", 200, ""),
    ] {
        // Of another name each time, so that each is another version.
        let rules = "rules: [{to: [{operation: {paths: [/asked*]}}]}]";
        let name = format!("asked-{provider}-{word}");
        scene.apply(&policy(
            &name,
            &format!("action: CUSTOM, provider: {{name: {provider}}}, {rules}"),
        ));
        let answer = scene.ask("GET", "/asked", &format!("x-ext-authz: {word}\r\n"), "");
        assert_eq!(answer.status(), expected, "{provider} {word}");
        if !problem.is_empty() {
            let denial = scene.last_denial();
            let told = denial["problem"].as_str().unwrap_or_default();
            assert_eq!(
                json!([denial["detail"], denial["policy"]]),
                json!(["ext_authz_error", format!("shop/{name}")])
            );
            assert!(
                told.starts_with(&format!("provider {provider}: ")) && told.contains(problem),
                "{told}"
            );
        }
    }
    let sample = "pinnace_proxy_ext_authz_total{provider=\"open-grpc\",result=\"failed_open\"}";
    assert!((scene.server.metric(sample) - 2.0).abs() < 0.1);

    let other = policy(
        "other",
        "action: CUSTOM, provider: {name: http}, rules: [{to: [{operation: {paths: [/too]}}]}]",
    );
    scene.apply(&(asks("grpc") + &other));
    for path in ["/asked", "/too"] {
        assert_eq!(scene.ask("GET", path, ALLOW, "").status(), 403, "{path}");
        let denial = scene.last_denial();
        assert!(
            denial["problem"].as_str().unwrap().contains("name several providers"),
            "{denial}"
        );
    }
    assert_eq!(scene.ask("GET", "/other", ALLOW, "").status(), 200);
}

#[test]
fn bodies_are_shown_up_to_a_bound() {
    let Some(scene) = Scene::new() else { return };
    scene.apply(&asks("whole"));
    let answer = scene.ask("POST", "/asked", ALLOW, "0123456789");
    assert!(answer.text().ends_with("0123456789"), "{}", answer.text());
    let http = scene.authorizer.asked().remove(0)["http"].clone();
    assert_eq!(
        json!([http["body"], http["size"], http["headers"]["x-envoy-auth-partial-body"]]),
        json!(["0123456789", 10, "false"])
    );
    // Chunked, and after being asked for it.
    let chunked = "transfer-encoding: chunked\r\nexpect: 100-continue\r\nx-ext-authz: allow\r\n";
    let mut connection = Connection::new(scene.client.connect("10.96.0.2:80"));
    let answer = connection.ask(format!(
        "POST /asked HTTP/1.1\r\nhost: server\r\n{chunked}\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    ));
    assert!(answer.text().ends_with("abcde"), "{}", answer.text());
    assert_eq!(scene.authorizer.asked().remove(0)["http"]["body"], "abcde");
    // More than that is nobody's to see.
    let answer = scene.ask("POST", "/asked", ALLOW, "0123456789a");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "Payload Too Large"));
    assert!(scene.authorizer.asked().is_empty());
    assert_eq!(scene.ask("GET", "/asked", ALLOW, "").status(), 200);
    let http = scene.authorizer.asked().remove(0)["http"].clone();
    assert_eq!(
        json!([http["body"], http["headers"]["x-envoy-auth-partial-body"]]),
        json!(["", null])
    );

    scene.apply(&asks("bytes"));
    assert_eq!(scene.ask("POST", "/asked", ALLOW, "0123").status(), 200);
    let http = scene.authorizer.asked().remove(0)["http"].clone();
    assert_eq!(json!([http["body"], http["raw"]]), json!(["", 4]));

    scene.apply(&asks("part"));
    let long = "0123456789".repeat(20_000);
    let answer = scene.ask("POST", "/asked", ALLOW, &long);
    assert!(answer.text().ends_with(&long), "{} bytes", answer.body.len());
    let asked = scene.authorizer.asked().remove(0);
    let head = asked["head"].as_str().unwrap().to_ascii_lowercase();
    assert_eq!(asked["body"], "0123456789");
    assert!(
        head.contains("x-envoy-auth-partial-body: true") && head.contains("content-length: 10"),
        "{head}"
    );
}

/// Whether bytes come back.
fn echoes(stream: &mut TcpStream) -> bool {
    stream
        .write_all(b"ping")
        .and_then(|()| stream.read_exact(&mut [0; 4]))
        .is_ok()
}

#[test]
fn a_provider_decides_about_connections() {
    let Some(scene) = Scene::new() else { return };
    let on_port = |name: &str, provider: &str| {
        let rules = "rules: [{to: [{operation: {ports: ['9000']}}]}]";
        policy(
            name,
            &format!("action: CUSTOM, provider: {{name: {provider}}}, {rules}"),
        )
    };
    let from_client = || scene.client.connect("10.96.0.2:9000");
    let from_outside = || scene.outside.connect(&format!("{SERVER}:9000"));
    scene.apply(&on_port("a", "grpc"));
    let mut standing = from_client();
    assert!(echoes(&mut standing));
    let asked = scene.authorizer.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(json!([asked[0]["source"], asked[0]["http"]]), json!([CLIENT_ID, null]));
    assert!(!echoes(&mut from_outside()));
    let denial = scene.last_denial();
    assert_eq!(
        json!([denial["action"], denial["detail"], denial["status"]]),
        json!(["CUSTOM", "ext_authz_denied", 0])
    );

    // The same provider has said so already; another one has not.
    scene.authorizer.asked();
    scene.apply(&on_port("b", "grpc"));
    assert!(echoes(&mut standing));
    assert!(scene.authorizer.asked().is_empty());
    scene.apply(&on_port("b", "nobody"));
    eventually("the connection ends", || !echoes(&mut standing));
    assert!(!echoes(&mut from_client()));
    scene.apply(&on_port("b", "nobody-open"));
    assert!(echoes(&mut from_client()) && echoes(&mut from_outside()));

    // Over HTTP nobody is asked about connections: what is of HTTP alone does not concern them, and anything else is denied.
    scene.apply(&on_port("b", "http"));
    assert!(!echoes(&mut from_client()));
    assert!(
        scene.last_denial()["problem"]
            .as_str()
            .unwrap()
            .contains("it is asked about HTTP alone")
    );
    scene.apply(&asks("http"));
    assert!(echoes(&mut from_client()));
    scene.apply(&asks("nobody"));
    assert!(!echoes(&mut from_client()));
}

#[test]
fn what_a_request_opens_is_asked_about_once_by_each_provider() {
    let Some(scene) = Scene::new() else { return };
    let upgrade = |provider: &str| {
        let rules = "rules: [{to: [{operation: {paths: [/upgrade]}}]}]";
        policy(
            provider,
            &format!("action: CUSTOM, provider: {{name: {provider}}}, {rules}"),
        )
    };
    scene.apply(&upgrade("http"));
    let mut connection = Connection::new(scene.client.connect("10.96.0.2:80"));
    connection.send(format!(
        "GET /upgrade HTTP/1.1\r\nhost: server\r\nconnection: upgrade\r\nupgrade: echo\r\n{ALLOW}\r\n"
    ));
    assert!(connection.head().unwrap().starts_with("HTTP/1.1 101 "));
    assert_eq!(connection.exactly(6).unwrap(), b"hello ");
    assert_eq!(scene.authorizer.asked().len(), 1);
    connection.send("x");
    assert_eq!(connection.exactly(1).unwrap(), b"x");
    scene.apply(&upgrade("nobody"));
    eventually("the tunnel ends", || {
        connection.stream.write_all(b"x").is_err() || connection.exactly(1).is_err()
    });
}
