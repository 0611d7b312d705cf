//! Policies and requests by chance, from a fixed seed: `pinnace eval authz` and a live sidecar are asked the same, and must give
//! the same answer, by the same policy and rule.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::authorization::Issuer;
use super::caller::{ALIASES, Asked, IDENTITIES, SNI, SOURCES, Scene};
use super::direct;
use super::world::{World, binary};

/// So many sets of resources, and so many requests to each.
const SETS: usize = 25;
const REQUESTS: usize = 20;

const ISSUERS: [&str; 2] = ["https://one.example", "https://two.example"];
const SETTINGS: [&str; 4] = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];

/// Chance that is the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap()
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() % limit
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// One to three of them.
    fn some(&mut self, all: &[&str]) -> Vec<String> {
        (0..=self.below(3)).map(|_| self.of(all).to_owned()).collect()
    }
}

/// The fields of `source`, what goes into them, and whether a CUSTOM policy may have them.
const SOURCE: [(&str, &[&str], bool); 7] = [
    (
        "rincipals",
        &[
            "cluster.local/ns/shop/sa/client",
            "cluster.local/ns/payments/*",
            "*/sa/batch",
            "old.td/ns/shop/sa/client",
            "*",
        ],
        false,
    ),
    (
        "equestPrincipals",
        &["https://one.example/alice", "https://two.example/*", "*/bob", "*"],
        false,
    ),
    ("amespaces", &["shop", "payments", "sho*", "nowhere"], false),
    ("erviceAccounts", &["client", "shop/batch", "payments/foreign"], false),
    ("rustDomains", &["cluster.local", "old.td", "*.local"], false),
    (
        "pBlocks",
        &["10.77.0.3", "10.77.0.31/32", "10.77.0.32/31", "10.77.0.0/24"],
        true,
    ),
    (
        "emoteIpBlocks",
        &["10.77.0.3", "203.0.113.0/24", "198.51.100.7", "10.77.0.0/24"],
        true,
    ),
];

/// The first letters that were cut off above, plain and after `not`.
const INITIALS: [(&str, &str); 7] = [
    ("p", "P"),
    ("r", "R"),
    ("n", "N"),
    ("s", "S"),
    ("t", "T"),
    ("i", "I"),
    ("r", "R"),
];

const OPERATION: [(&str, &str, &[&str]); 4] = [
    (
        "hosts",
        "notHosts",
        &["server", "SERVER", "api.example", "api.example:*", "*.example", "*"],
    ),
    ("ports", "notPorts", &["8080", "8082", "9000"]),
    ("methods", "notMethods", &["GET", "POST", "PUT", "DELE*", "OPTIONS"]),
    (
        "paths",
        "notPaths",
        &[
            "/api/data",
            "/api/*",
            "*/x",
            "/admin",
            "/admin/x",
            "/api/{*}",
            "/api/{**}",
            "/health",
            "//admin/x",
            "*",
        ],
    ),
];

const CONDITIONS: [(&str, &[&str], bool); 18] = [
    ("request.headers[x-role]", &["admin", "guest", "ad*", "*"], true),
    ("request.headers[X-Forwarded-Proto]", &["http", "https"], true),
    ("request.headers[x-envoy-internal]", &["true", "*"], true),
    ("request.headers[x-forwarded-client-cert]", &["By=*", "*client"], true),
    ("request.headers[x-sub]", &["alice", "*"], true),
    ("source.ip", &["10.77.0.3", "10.77.0.31/32"], true),
    ("remote.ip", &["203.0.113.0/24", "10.77.0.0/24"], true),
    ("source.namespace", &["shop", "pay*"], false),
    ("source.serviceAccount", &["client", "payments/foreign"], false),
    ("source.trustDomain", &["cluster.local", "old.td"], false),
    ("source.principal", &["cluster.local/ns/shop/sa/client", "*"], false),
    ("request.auth.principal", &["https://one.example/alice", "*"], false),
    ("request.auth.audiences", &["shop", "other"], false),
    ("request.auth.presenter", &["app", "*"], false),
    ("request.auth.claims[groups]", &["dev", "ops", "o*"], false),
    ("request.auth.claims[realm][role]", &["reader", "*"], false),
    ("destination.ip", &["10.77.0.2", "10.96.0.0/16"], true),
    ("connection.sni", &["server.example", "outbound_*", "*"], true),
];

fn source(dice: &mut Dice, custom: bool) -> Value {
    let mut fields = serde_json::Map::new();
    for _ in 0..=dice.below(2) {
        let at = dice.below(SOURCE.len());
        let (name, values, anywhere) = SOURCE[at];
        if custom && !anywhere {
            continue;
        }
        let name = if dice.once_in(3) {
            format!("not{}{name}", INITIALS[at].1)
        } else {
            format!("{}{name}", INITIALS[at].0)
        };
        fields.insert(name, json!(dice.some(values)));
    }
    let account = fields.keys().any(|name| name.ends_with("erviceAccounts"));
    if account {
        fields.retain(|name, _| {
            !matches!(
                name.as_str(),
                "principals" | "notPrincipals" | "namespaces" | "notNamespaces"
            )
        });
    }
    if fields.is_empty() {
        fields.insert("ipBlocks".to_owned(), json!(["10.77.0.0/24"]));
    }
    json!({ "source": fields })
}

fn operation(dice: &mut Dice) -> Value {
    let mut fields = serde_json::Map::new();
    for _ in 0..=dice.below(2) {
        let (plain, not, values) = OPERATION[dice.below(OPERATION.len())];
        let name = if dice.once_in(3) { not } else { plain };
        fields.insert(name.to_owned(), json!(dice.some(values)));
    }
    json!({ "operation": fields })
}

fn condition(dice: &mut Dice, custom: bool) -> Value {
    loop {
        let (key, values, anywhere) = CONDITIONS[dice.below(CONDITIONS.len())];
        if custom && !anywhere {
            continue;
        }
        let name = if dice.once_in(3) { "notValues" } else { "values" };
        return json!({"key": key, name: dice.some(values)});
    }
}

fn rule(dice: &mut Dice, custom: bool) -> Value {
    let mut rule = serde_json::Map::new();
    let which = 1 + dice.below(7);
    if which & 1 != 0 {
        let sources: Vec<Value> = (0..=dice.below(2)).map(|_| source(dice, custom)).collect();
        rule.insert("from".to_owned(), json!(sources));
    }
    if which & 2 != 0 {
        let operations: Vec<Value> = (0..=dice.below(2)).map(|_| operation(dice)).collect();
        rule.insert("to".to_owned(), json!(operations));
    }
    if which & 4 != 0 {
        let conditions: Vec<Value> = (0..=dice.below(2)).map(|_| condition(dice, custom)).collect();
        rule.insert("when".to_owned(), json!(conditions));
    }
    Value::Object(rule)
}

/// A resource; every set's has another name, so that it is known when the set is in force.
fn resource(kind: &str, name: &str, namespace: &str, mut spec: Value, selector: Option<&str>) -> Value {
    if let Some(app) = selector {
        spec["selector"] = json!({"matchLabels": {"app": app}});
    }
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

fn authorization(dice: &mut Dice, set: usize) -> Vec<Value> {
    let mut policies = Vec::new();
    for at in 0..1 + dice.below(4) {
        let action = dice.of(&["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM"]);
        // Providers that nobody has configured: rarely, since what such a rule matches is denied.
        let action = if action == "CUSTOM" && !dice.once_in(3) {
            "ALLOW"
        } else {
            action
        };
        let custom = action == "CUSTOM";
        let most = if action == "ALLOW" { 5 } else { 2 };
        let rules: Vec<Value> = (0..1 + dice.below(most)).map(|_| rule(dice, custom)).collect();
        let mut spec = json!({"action": action, "rules": rules});
        if custom {
            spec["provider"] = json!({"name": "nobody"});
        }
        let (namespace, selector) = match dice.below(8) {
            0 => ("istio-system", None),
            1 => ("istio-system", Some("server")),
            2 => ("shop", None),
            3 => ("shop", Some("other")),
            _ => ("shop", Some("server")),
        };
        let mut policy = resource(
            "AuthorizationPolicy",
            &format!("p{set}-{at}"),
            namespace,
            spec,
            selector,
        );
        if matches!(action, "ALLOW" | "DENY") && dice.once_in(8) {
            policy["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
        }
        policies.push(policy);
    }
    // By which it is known that the set is in force.
    let spec = json!({"action": "AUDIT", "rules": [{"to": [{"operation": {"methods": ["NONE"]}}]}]});
    policies.push(resource(
        "AuthorizationPolicy",
        &format!("seen-{set}"),
        "shop",
        spec,
        None,
    ));
    policies
}

fn tokens(dice: &mut Dice, set: usize, issuers: &[Issuer; 2]) -> Option<Value> {
    if dice.once_in(6) {
        return None;
    }
    let rules: Vec<Value> = (0..=dice.below(2))
        .map(|at| {
            let mut rule = json!({"issuer": ISSUERS[at], "jwks": issuers[at].keys()});
            match dice.below(5) {
                0 => rule["fromHeaders"] = json!([{"name": "x-token", "prefix": "Token "}]),
                1 => rule["fromParams"] = json!(["access_token"]),
                2 => rule["fromCookies"] = json!(["session"]),
                _ => {}
            }
            if dice.once_in(2) {
                rule["audiences"] = json!(["shop"]);
            }
            if dice.once_in(2) {
                rule["forwardOriginalToken"] = json!(true);
            }
            if dice.once_in(2) {
                rule["outputClaimToHeaders"] = json!([{"header": "x-sub", "claim": "sub"}]);
            }
            rule
        })
        .collect();
    let spec = json!({ "jwtRules": rules });
    Some(resource(
        "RequestAuthentication",
        &format!("jwt-{set}"),
        "shop",
        spec,
        Some("server"),
    ))
}

fn peer(dice: &mut Dice, set: usize) -> Value {
    let mode = dice.of(&[
        "PERMISSIVE",
        "PERMISSIVE",
        "PERMISSIVE",
        "PERMISSIVE",
        "STRICT",
        "STRICT",
        "DISABLE",
        "UNSET",
    ]);
    let mut spec = json!({"mtls": {"mode": mode}});
    if dice.once_in(4) {
        let port = dice.of(&["8080", "8082", "9000"]);
        spec["portLevelMtls"] = json!({port: {"mode": dice.of(&["PERMISSIVE", "STRICT", "DISABLE"])}});
    }
    resource(
        "PeerAuthentication",
        &format!("peer-{set}"),
        "shop",
        spec,
        Some("server"),
    )
}

/// Whether a port's mode is DISABLE.
fn disabled(peer: &Value, port: u16) -> bool {
    let spec = &peer["spec"];
    let of_port = spec["portLevelMtls"].get(port.to_string());
    of_port.unwrap_or(&spec["mtls"])["mode"] == "DISABLE"
}

/// Tokens, good and bad.
struct Tokens(Vec<String>);

impl Tokens {
    fn new(issuers: &[Issuer; 2]) -> Self {
        let claims = |issuer: &str, sub: &str, exp: u64, aud: Value| {
            json!({"iss": issuer, "sub": sub, "exp": exp, "aud": aud, "azp": "app",
                   "groups": if sub == "alice" { json!(["dev", "ops"]) } else { json!("dev") },
                   "realm": {"role": ["reader"]}})
        };
        let good = 4_000_000_000;
        let [one, two] = ISSUERS;
        let mut not_yet = claims(one, "alice", good, json!("shop"));
        not_yet["nbf"] = json!(good - 1);
        Self(vec![
            issuers[0].token(&claims(one, "alice", good, json!("shop"))),
            issuers[0].token(&claims(one, "alice", good, json!(["shop", "other"]))),
            issuers[0].token(&claims(one, "bob", good, json!("shop"))),
            issuers[1].token(&claims(two, "bob", good, json!("shop"))),
            issuers[0].token(&claims(one, "alice", good, json!("other"))),
            issuers[0].token(&claims(one, "alice", 1_000_000_000, json!("shop"))),
            issuers[0].token(&not_yet),
            // Another's key, an issuer that nobody knows, and what is no token.
            issuers[1].token(&claims(one, "alice", good, json!("shop"))),
            issuers[0].token(&claims("https://three.example", "alice", good, json!("shop"))),
            "a.b.c".to_owned(),
        ])
    }

    /// Good ones more often.
    fn one(&self, dice: &mut Dice) -> &str {
        let most = if dice.once_in(2) { 4 } else { self.0.len() };
        &self.0[dice.below(most)]
    }
}

const PATHS: [&str; 22] = [
    "/api/data",
    "/api/data",
    "/api/data?x=/admin",
    "/api/a/b",
    "/api/",
    "/health",
    "/admin",
    "/admin/x",
    "//admin/x",
    "/admin//x",
    "/./admin/x",
    "/public/../admin/x",
    "/public/..;/admin/x",
    "/admin%2fx",
    "/admin%2Fx",
    "/%61dmin/x",
    "/admin/x;a=b",
    "/admin/%78",
    "/api/%2e%2e/admin/x",
    "/api%5cdata",
    "/api/data%00",
    "/",
];

fn request(dice: &mut Dice, tokens: &Tokens) -> Asked {
    let protocol = dice.of(&["http", "http", "http2", "grpc", "tcp"]);
    let http1 = protocol == "http";
    let identity = (!dice.once_in(4)).then(|| dice.of(&IDENTITIES));
    let mut asked = Asked {
        protocol,
        source: dice.of(&SOURCES),
        identity,
        server_name: identity.and_then(|_| (!dice.once_in(3)).then(|| dice.of(&SNI))),
        port: match protocol {
            "http" => 8080,
            "tcp" => 9000,
            _ => 8082,
        },
        method: match protocol {
            "grpc" => "POST",
            _ => dice.of(&["GET", "GET", "POST", "PUT", "DELETE", "OPTIONS"]),
        },
        path: dice.of(&PATHS).to_owned(),
        hosts: vec![dice.of(&["server", "SERVER", "api.example", "API.example:8080", "server:8080"])],
        headers: Vec::new(),
        token: None,
    };
    if http1 && dice.once_in(12) {
        // A fragment, a second host, the absolute form: HTTP/2 has none of these.
        match dice.below(4) {
            0 => asked.path += "#y",
            1 => asked.hosts.push("api.example"),
            2 => asked.hosts = vec!["a@server"],
            _ => asked.path = format!("http://api.example{}", asked.path),
        }
    }
    match dice.below(6) {
        0 => asked.headers.push(("x-role", "admin".to_owned())),
        1 => asked.headers.push(("x-role", "guest".to_owned())),
        2 => {
            asked.headers.push(("x-role", "guest".to_owned()));
            asked.headers.push(("x-role", "admin".to_owned()));
        }
        _ => {}
    }
    match dice.below(6) {
        0 => asked
            .headers
            .push(("x-forwarded-for", "203.0.113.9, 198.51.100.7".to_owned())),
        1 => {
            asked.headers.push(("x-forwarded-for", "203.0.113.9".to_owned()));
            asked.headers.push(("x-forwarded-for", "10.77.0.3".to_owned()));
        }
        2 => asked.headers.push(("x-forwarded-for", "who knows".to_owned())),
        _ => {}
    }
    if dice.once_in(6) {
        asked.headers.push(("x-envoy-internal", "true".to_owned()));
    }
    if dice.once_in(8) {
        asked.headers.push((
            "x-forwarded-client-cert",
            "By=x;URI=spiffe://cluster.local/ns/shop/sa/client".to_owned(),
        ));
    }
    if dice.once_in(8) {
        asked.headers.push(("x-sub", "alice".to_owned()));
    }
    if asked.method == "OPTIONS" && dice.once_in(2) {
        asked.headers.push(("origin", "https://a.example".to_owned()));
        asked.headers.push(("access-control-request-method", "GET".to_owned()));
    }
    if http1 {
        // A header that is named here ends at this hop.
        let value = if dice.once_in(6) { "close, x-role" } else { "close" };
        asked.headers.push(("connection", value.to_owned()));
    }
    if protocol == "grpc" {
        asked.headers.push(("te", "trailers".to_owned()));
        asked.headers.push(("content-type", "application/grpc".to_owned()));
    }
    if !dice.once_in(3) {
        let token = tokens.one(dice).to_owned();
        match dice.below(8) {
            0 => asked.headers.push(("x-token", format!("Token {token}"))),
            1 => asked.headers.push(("cookie", format!("a=b; session={token}"))),
            2 if !asked.path.contains(['#', '?']) => asked.path += &format!("?a=b&access_token={token}"),
            _ => asked.token = Some(token),
        }
    }
    asked
}

/// Asks `pinnace eval authz`.
fn evaluate(world: &World, set: usize, settings: &str, resources: &[Value], asked: &[Asked]) -> Vec<Value> {
    let [manifests, requests] = ["yaml", "jsonl"].map(|end| world.folder.join(format!("set-{set}.{end}")));
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": settings},
    });
    let documents: Vec<String> = resources.iter().chain([&config]).map(Value::to_string).collect();
    fs::write(&manifests, documents.join("\n---\n")).unwrap();
    let lines: Vec<String> = asked
        .iter()
        .enumerate()
        .map(|(id, it)| it.line(id).to_string())
        .collect();
    fs::write(&requests, lines.join("\n")).unwrap();
    let output = std::process::Command::new(binary("pinnace"))
        .args(["eval", "authz", "-o", "json", "-f"])
        .arg(&manifests)
        .arg("--requests")
        .arg(&requests)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn eval_and_a_sidecar_give_the_same_answers() {
    let Some(scene) = Scene::new(&[]) else { return };
    let issuers = [Issuer::new(), Issuer::new()];
    let good_and_bad = Tokens::new(&issuers);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    let mut had_tokens = false;
    for set in 0..SETS {
        let setting = dice.of(&SETTINGS);
        let trusted = dice.below(3);
        let mut resources = authorization(&mut dice, set);
        let modes = peer(&mut dice, set);
        resources.push(modes.clone());
        let tokens = tokens(&mut dice, set, &issuers);
        let mut kinds = vec!["AuthorizationPolicies", "InboundPolicy"];
        if tokens.is_some() || had_tokens {
            kinds.push("RequestAuthentications");
        }
        had_tokens = tokens.is_some();
        resources.extend(tokens);
        let served = format!(
            "mesh: {{{ALIASES}, pathNormalization: {{normalization: {setting}}}, trustedProxies: {trusted}}}\n"
        );
        let configured = format!(
            "{{{ALIASES}, pathNormalization: {{normalization: {setting}}}, defaultConfig: {{gatewayTopology: {{numTrustedProxies: {trusted}}}}}}}"
        );
        scene.apply(&served, &resources, &kinds);
        let asked: Vec<Asked> = (0..REQUESTS).map(|_| request(&mut dice, &good_and_bad)).collect();
        let answers = evaluate(&scene.world, set, &configured, &resources, &asked);
        assert_eq!(answers.len(), asked.len());
        for (asked, answer) in asked.iter().zip(&answers) {
            let why = || format!("set {set}\n{configured}\n{}\n{asked:?}\n{answer}", json!(resources));
            let (before, _) = scene.denials();
            let expected = answer["status"].as_u64();
            let decision = answer["decision"].as_str().unwrap();
            // Under DISABLE mutual TLS is bytes to the application, which makes nothing of them.
            let unheard =
                decision == "allow" && expected.is_none() && asked.identity.is_some() && disabled(&modes, asked.port);
            let patience = if unheard {
                Duration::from_millis(500)
            } else {
                direct::PATIENCE
            };
            let status = scene.ask(asked, patience);
            let (after, last) = scene.denials();
            let denied = (after > before).then_some(last);
            match (decision, asked.protocol) {
                ("allow", _) if unheard => assert_eq!(denied, None, "{}", why()),
                ("allow", "tcp") => assert_eq!((status, &denied), (Some(0), &None), "{}", why()),
                ("allow", _) => assert_eq!((status, &denied), (Some(200), &None), "{}", why()),
                _ => assert_eq!(status.map(u64::from), expected, "{} but {denied:?}", why()),
            }
            if decision != "allow" {
                // Plaintext under STRICT and what is malformed reach no policy.
                let reason = answer["reason"].as_str().unwrap();
                let of_policies = reason.contains("rbac_") || reason.contains("jwt_") || reason.contains("ext_authz");
                assert_eq!(denied.is_some(), of_policies, "{} but {denied:?}", why());
            }
            if let Some(denied) = denied {
                for (ours, theirs) in [("reason", "detail"), ("policy", "policy"), ("rule", "rule")] {
                    assert_eq!(answer[ours], denied[theirs], "{} but {denied}", why());
                }
                if !denied["nearest"].is_null() {
                    for field in ["policy", "rule", "field"] {
                        assert_eq!(
                            answer["nearest"][field],
                            denied["nearest"][field],
                            "{} but {denied}",
                            why()
                        );
                    }
                }
            }
            *counted.entry(format!("{} {decision}", asked.protocol)).or_default() += 1;
        }
    }
    println!("{counted:?}");
    // Chance must not have left out what the test is for.
    for protocol in ["http", "http2", "grpc", "tcp"] {
        for (decision, least) in [("allow", 10), ("deny", 10)] {
            let held = counted
                .get(&format!("{protocol} {decision}"))
                .copied()
                .unwrap_or_default();
            assert!(held >= least, "{protocol} {decision}: {counted:?}");
        }
    }
    let unauthenticated: usize = counted
        .iter()
        .filter(|(name, _)| name.contains("unauth"))
        .map(|(_, n)| n)
        .sum();
    assert!(unauthenticated >= 20, "{counted:?}");
}
