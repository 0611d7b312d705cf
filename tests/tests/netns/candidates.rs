//! Candidate sets at the server's proxy: what they would deny passes and is counted, by policy and by caller.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use super::authorization::Issuer;
use super::http::{Connection, application, fetch};
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::world::{CLIENT_ID, FIXTURES, OTHER, SERVER, World, eventually};

/// A resource of namespace shop; a `set` makes it a candidate.
fn resource(kind: &str, name: &str, set: &str, spec: &str) -> String {
    let labels = match set {
        "" => String::new(),
        set => format!(", labels: {{policy.pinnace.dev/candidate: {set}}}"),
    };
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop{labels}}}\nspec: {spec}\n"
    )
}

struct Scene {
    world: World,
    client: Pod,
    server: Pod,
    outside: Pod,
}

impl Scene {
    fn new() -> Option<Self> {
        let (mut world, client, server) = World::pair(FIXTURES)?;
        let outside = world.pod("outside", OTHER);
        application(&server, 8080);
        serve(&server, 9000, echo);
        Some(Self {
            world,
            client,
            server,
            outside,
        })
    }

    /// Serves these resources, and waits until the sets that are evaluated are these.
    fn apply(&self, resources: &str, sets: &[&str]) {
        self.world.fixtures(&format!("{FIXTURES}{resources}"));
        eventually(&format!("the sets are {sets:?}"), || {
            let page = self.page("/policies");
            let names = page["candidate_sets"].as_array().cloned().unwrap_or_default();
            names
                .iter()
                .map(|set| set["name"].as_str().unwrap())
                .eq(sets.iter().copied())
        });
    }

    fn page(&self, path: &str) -> Value {
        let (status, page) = self.server.page(15000, path).unwrap();
        assert_eq!(status, 200, "{page}");
        serde_json::from_str(&page).unwrap()
    }

    /// How many calls of a caller, to port 8080 unless another one is said, were put down to a policy.
    fn counted(&self, set: &str, policy: &str, principal: &str, port: u16) -> f64 {
        self.server.metric(&format!(
            "pinnace_proxy_candidate_denials_total{{destination_port=\"{port}\",policy=\"{policy}\",set=\"{set}\",source_principal=\"{principal}\"}}"
        ))
    }

    fn total(&self) -> u64 {
        self.page("/denials")["tried_total"].as_u64().unwrap()
    }

    fn last(&self) -> Value {
        self.page("/denials")["tried"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone()
    }

    /// A request from within the mesh; it must be answered.
    fn ask_in_the_mesh(&self, path: &str) {
        let answer = fetch(&self.client, "10.96.0.2:80", "server", path).unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }

    /// A request in the clear; it must be answered.
    fn in_the_clear(&self) {
        let answer = fetch(&self.outside, &format!("{SERVER}:8080"), "server", "/").unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}

#[test]
fn who_calls_in_the_clear_passes_under_a_strict_candidate_and_is_counted() {
    let Some(scene) = Scene::new() else { return };
    let strict = "PeerAuthentication/shop/go";
    let candidate = resource("PeerAuthentication", "go", "go-strict", "{mtls: {mode: STRICT}}");
    scene.in_the_clear();
    assert_eq!(scene.total(), 0);

    scene.apply(&candidate, &["go-strict"]);
    let policies = scene.page("/policies");
    assert_eq!(policies["policies"][0]["mode"], "PERMISSIVE", "it is not in force");
    assert_eq!(policies["candidate_sets"][0]["policies"][0]["mode"], "STRICT");
    for _ in 0..3 {
        scene.ask_in_the_mesh("/");
    }
    assert_eq!(scene.total(), 0, "a caller under mutual TLS would not be denied");
    // Two requests of one connection are two calls.
    let mut connection = Connection::new(scene.outside.connect(&format!("{SERVER}:8080")));
    for _ in 0..2 {
        assert_eq!(connection.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").status(), 200);
    }
    assert_eq!(scene.counted("go-strict", strict, "unknown", 8080), 2.0);
    let record = scene.last();
    assert_eq!(
        (&record["set"], &record["action"]),
        (&json!("go-strict"), &json!("STRICT"))
    );
    assert_eq!(record["candidates"], json!([strict]));
    assert!(
        record["source"].as_str().unwrap().starts_with(&format!("{OTHER}:")),
        "{record}"
    );
    assert_eq!(scene.page("/denials")["denials"], json!([]), "nothing was denied");

    // Opaque bytes count by connection.
    let mut stream = scene.outside.connect(&format!("{SERVER}:9000"));
    for _ in 0..3 {
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    assert_eq!(scene.counted("go-strict", strict, "unknown", 9000), 1.0);

    // A connection that is open when a set comes counts too, and outlives the set.
    scene.apply("", &[]);
    let before = scene.total();
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    scene.in_the_clear();
    assert_eq!(scene.total(), before, "without a set nothing is tried");
    scene.apply(&candidate, &["go-strict"]);
    eventually("the open connection counts", || {
        scene.counted("go-strict", strict, "unknown", 9000) == 2.0
    });

    // One port alone, of selected workloads; and what another port says stays.
    let port = "{selector: {matchLabels: {app: server}}, portLevelMtls: {9000: {mode: STRICT}}}";
    scene.apply(&resource("PeerAuthentication", "one-port", "port", port), &["port"]);
    let before = scene.total();
    scene.in_the_clear();
    assert_eq!(scene.total(), before);
    drop(stream);

    // Without the label it is in force.
    scene.world.fixtures(&format!(
        "{FIXTURES}{}",
        candidate.replace("policy.pinnace.dev/candidate", "was")
    ));
    eventually("plaintext is refused", || {
        fetch(&scene.outside, &format!("{SERVER}:8080"), "server", "/").is_err()
    });
    scene.ask_in_the_mesh("/");
}

#[test]
fn calls_that_candidate_policies_would_deny_pass_and_are_counted() {
    let Some(scene) = Scene::new() else { return };
    let server = "selector: {matchLabels: {app: server}}";
    let deny = format!("{{{server}, action: DENY, rules: [{{to: [{{operation: {{paths: [/admin]}}}}]}}]}}");
    let allow = format!("{{{server}, rules: [{{to: [{{operation: {{paths: [/api*]}}}}]}}]}}");
    let elsewhere = "{selector: {matchLabels: {app: another}}}";
    let resources = resource("AuthorizationPolicy", "no-admin", "a", &deny)
        + &resource("AuthorizationPolicy", "api", "b", &allow)
        + &resource("AuthorizationPolicy", "nothing", "c", elsewhere);
    scene.apply(&resources, &["a", "b"]);
    let counted = || {
        [
            scene.counted("a", "AuthorizationPolicy/shop/no-admin", CLIENT_ID, 8080),
            scene.counted("b", "AuthorizationPolicy/shop/api", CLIENT_ID, 8080),
        ]
    };
    for (path, expected) in [
        ("/api/x", [0.0, 0.0]),
        ("/admin", [1.0, 1.0]),
        ("/other", [1.0, 2.0]),
        ("/%61dmin", [2.0, 3.0]),
    ] {
        scene.ask_in_the_mesh(path);
        assert_eq!(counted(), expected, "{path}");
    }
    let record = scene.last();
    assert_eq!((&record["action"], &record["set"]), (&json!("ALLOW"), &json!("b")));
    assert_eq!(record["identity"], CLIENT_ID);
    assert_eq!(record["request"]["path"], "/admin");

    // What is denied already is no finding of a set.
    let in_force = resource("AuthorizationPolicy", "none", "", &format!("{{{server}}}"));
    let before = scene.total();
    scene.apply(&format!("{resources}{in_force}"), &["a", "b"]);
    eventually("everything is denied", || {
        fetch(&scene.client, "10.96.0.2:80", "server", "/admin")
            .unwrap()
            .status()
            == 403
    });
    let after = scene.total();
    assert_eq!(
        fetch(&scene.client, "10.96.0.2:80", "server", "/admin")
            .unwrap()
            .status(),
        403
    );
    assert_eq!(scene.total(), after);
    assert!(after >= before);
}

#[test]
fn tokens_that_candidate_rules_would_refuse_pass_and_are_counted() {
    let Some(scene) = Scene::new() else { return };
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let server = "selector: {matchLabels: {app: server}}";
    let rule = format!("{{issuer: https://issuer.example, jwks: '{}'}}", issuer.keys());
    let required = format!("{{{server}, rules: [{{from: [{{source: {{requestPrincipals: ['*']}}}}]}}]}}");
    let resources = resource(
        "RequestAuthentication",
        "jwt",
        "tokens",
        &format!("{{{server}, jwtRules: [{rule}]}}"),
    ) + &resource("AuthorizationPolicy", "required", "tokens", &required);
    scene.apply(&resources, &["tokens"]);
    let claims = json!({"iss": "https://issuer.example", "sub": "alice", "exp": 4_000_000_000_u32});
    let call = |token: Option<String>| {
        let header = token
            .map(|token| format!("authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let request = format!("GET / HTTP/1.1\r\nhost: server\r\n{header}\r\n");
        let answer = Connection::new(scene.client.connect("10.96.0.2:80")).ask(request);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        // The rules are not in force: the token goes on to the application.
        assert_eq!(
            answer.text().contains("authorization: Bearer"),
            !header.is_empty(),
            "{}",
            answer.text()
        );
    };
    let counted = || {
        [
            scene.counted("tokens", "RequestAuthentication/shop/jwt", CLIENT_ID, 8080),
            scene.counted("tokens", "AuthorizationPolicy/shop/required", CLIENT_ID, 8080),
        ]
    };
    call(Some(issuer.token(&claims)));
    assert_eq!(counted(), [0.0, 0.0], "a good token");
    call(Some(stranger.token(&claims)));
    assert_eq!(counted(), [1.0, 0.0], "a forged token");
    call(None);
    assert_eq!(counted(), [1.0, 1.0], "none");
    let page = scene.server.page(15000, "/denials").unwrap().1;
    assert!(!page.contains("Bearer"), "{page}");
}
