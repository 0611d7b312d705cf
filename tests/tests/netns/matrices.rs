//! What AuthorizationPolicies know of a call, each of it where it lets pass and where it does not, over every protocol: a caller
//! that says every byte meets a live sidecar.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use super::authorization::Issuer;
use super::caller::{ALIASES, Asked, IDENTITIES, SNI, SOURCES, Scene};
use super::direct::PATIENCE;
use super::world::{SERVER, eventually};

const PROTOCOLS: [&str; 4] = ["http", "http2", "grpc", "tcp"];

/// A call that most rows begin with.
fn call(protocol: &'static str) -> Asked {
    let http1 = protocol == "http";
    let headers: &[(&'static str, &str)] = match protocol {
        "http" => &[("connection", "close")],
        "grpc" => &[("te", "trailers"), ("content-type", "application/grpc")],
        _ => &[],
    };
    Asked {
        protocol,
        source: SOURCES[0],
        identity: Some(IDENTITIES[0]),
        server_name: Some(SNI[0]),
        port: match protocol {
            "http" => 8080,
            "tcp" => 9000,
            _ => 8082,
        },
        method: if http1 { "GET" } else { "POST" },
        path: "/api/data".to_owned(),
        hosts: vec!["server"],
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        token: None,
    }
}

/// A policy of another name each time, so that it is known when it is in force.
fn policy(name: &str, action: &str, rule: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "server"}}, "action": action, "rules": [rule]},
    })
}

fn mesh(more: &str) -> String {
    format!("mesh: {{{ALIASES}, {more}}}\n")
}

/// Asks, and sees to it that what is denied says the id of its record to callers of the mesh, and to nobody else.
#[track_caller]
fn passes(scene: &Scene, asked: &Asked, why: &str) -> bool {
    let told = scene.tell(asked, PATIENCE).expect("a connection");
    let id = told
        .headers
        .get("x-pinnace-denial-id")
        .map(|id| id.to_str().unwrap().to_owned());
    let status = told.status;
    let denied = match (asked.protocol, status) {
        ("tcp", status) => status.is_none(),
        ("grpc", Some(200)) => told.headers.contains_key("grpc-status"),
        (_, Some(200)) => false,
        (_, Some(401 | 403)) => true,
        _ => panic!("{why}: {asked:?}: {told:?}"),
    };
    if !denied {
        assert_eq!(id, None, "{why}: {asked:?}");
    } else if asked.protocol != "tcp" {
        let (_, last) = scene.denials();
        let expected = asked.identity.map(|_| last["id"].as_str().unwrap().to_owned());
        assert_eq!(id, expected, "{why}: {asked:?}");
    }
    !denied
}

/// A change of a call, and whether the changed call passes.
type Row = (&'static str, fn(&mut Asked), bool);

#[test]
fn what_is_known_of_a_connection_decides_over_every_protocol() {
    let Some(scene) = Scene::new(&[("DENIAL_ID_HEADER", "on")]) else {
        return;
    };
    let as_is: fn(&mut Asked) = |_| {};
    let in_the_clear: fn(&mut Asked) = |asked| {
        asked.identity = None;
        asked.server_name = None;
    };
    let foreign: fn(&mut Asked) = |asked| asked.identity = Some(IDENTITIES[1]);
    let batch: fn(&mut Asked) = |asked| asked.identity = Some(IDENTITIES[2]);
    let old: fn(&mut Asked) = |asked| asked.identity = Some(IDENTITIES[3]);
    let other_name: fn(&mut Asked) = |asked| asked.server_name = Some(SNI[1]);
    let no_name: fn(&mut Asked) = |asked| asked.server_name = None;
    let elsewhere: fn(&mut Asked) = |asked| asked.source = SOURCES[1];
    let source = |fields: Value| json!({"from": [{"source": fields}]});
    let when = |key: &str, field: &str, values: &[&str]| json!({"when": [{"key": key, field: values}]});
    let rows: &[(Value, &[Row])] = &[
        (
            when("destination.ip", "values", &[SERVER]),
            &[("as is", as_is, true), ("in the clear", in_the_clear, true)],
        ),
        (
            when("destination.ip", "values", &["10.96.0.0/16"]),
            &[("as is", as_is, false)],
        ),
        (
            when("destination.ip", "notValues", &["10.77.0.0/24"]),
            &[("as is", as_is, false)],
        ),
        (
            when("connection.sni", "values", &["outbound_*"]),
            &[
                ("as is", as_is, true),
                ("another name", other_name, false),
                ("no name", no_name, false),
                ("in the clear", in_the_clear, false),
            ],
        ),
        (
            when("connection.sni", "notValues", &["server.example"]),
            &[
                ("as is", as_is, true),
                ("another name", other_name, false),
                ("no name", no_name, true),
            ],
        ),
        (
            source(json!({"serviceAccounts": ["client", "payments/foreign"]})),
            &[
                ("as is", as_is, true),
                ("foreign", foreign, true),
                ("batch", batch, false),
                ("in the clear", in_the_clear, false),
            ],
        ),
        (
            source(json!({"notServiceAccounts": ["shop/batch"]})),
            &[
                ("as is", as_is, true),
                ("batch", batch, false),
                ("in the clear", in_the_clear, true),
            ],
        ),
        (
            when("source.serviceAccount", "values", &["payments/foreign"]),
            &[("as is", as_is, false), ("foreign", foreign, true)],
        ),
        // The mesh's trust domain and its aliases are one, whichever is written and whichever is the caller's.
        (
            source(json!({"principals": ["cluster.local/ns/shop/sa/client"]})),
            &[
                ("as is", as_is, true),
                ("of the alias", old, true),
                ("batch", batch, false),
            ],
        ),
        (
            source(json!({"principals": ["old.td/ns/shop/sa/client"]})),
            &[
                ("as is", as_is, true),
                ("of the alias", old, true),
                ("foreign", foreign, false),
            ],
        ),
        (
            source(json!({"principals": ["other.td/ns/shop/sa/client"]})),
            &[("as is", as_is, false), ("of the alias", old, false)],
        ),
        (
            source(json!({"namespaces": ["payments"]})),
            &[
                ("as is", as_is, false),
                ("foreign", foreign, true),
                ("in the clear", in_the_clear, false),
            ],
        ),
        (
            source(json!({"ipBlocks": [SOURCES[0]]})),
            &[
                ("as is", as_is, true),
                ("elsewhere", elsewhere, false),
                ("in the clear", in_the_clear, true),
            ],
        ),
        (
            source(json!({"notIpBlocks": ["10.77.0.31/32"]})),
            &[("as is", as_is, true), ("elsewhere", elsewhere, false)],
        ),
        (
            when("destination.port", "values", &["8080", "8082", "9000"]),
            &[("as is", as_is, true)],
        ),
        (
            when("destination.port", "values", &["80", "82"]),
            &[("as is", as_is, false)],
        ),
    ];
    for (at, (rule, calls)) in rows.iter().enumerate() {
        for action in ["ALLOW", "DENY"] {
            let resource = policy(&format!("{}-{at}", action.to_lowercase()), action, rule);
            scene.apply(&mesh(""), &[resource], &["AuthorizationPolicies"]);
            for protocol in PROTOCOLS {
                for (case, change, allowed) in *calls {
                    let mut asked = call(protocol);
                    change(&mut asked);
                    let expected = *allowed == (action == "ALLOW");
                    let why = format!("{action} {rule} {protocol} {case}");
                    assert_eq!(passes(&scene, &asked, &why), expected, "{why}");
                }
            }
        }
    }
}

#[test]
fn trusted_proxies_tell_the_client() {
    let Some(scene) = Scene::new(&[("DENIAL_ID_HEADER", "on")]) else {
        return;
    };
    let rule = json!({"from": [{"source": {"remoteIpBlocks": ["203.0.113.0/24"]}}]});
    let forwarded: [(&[&str], [bool; 3]); 6] = [
        // Under none, one and two trusted proxies.
        (&["203.0.113.9"], [true, false, false]),
        (&["203.0.113.9, 198.51.100.7"], [false, true, false]),
        (&["203.0.113.9", "198.51.100.7, 198.51.100.8"], [false, false, true]),
        (&["198.51.100.7, 203.0.113.9"], [true, false, false]),
        (&["203.0.113.9, who knows"], [false, true, false]),
        (&[], [false; 3]),
    ];
    for trusted in 0..3 {
        let resource = policy(&format!("remote-{trusted}"), "ALLOW", &rule);
        scene.apply(
            &mesh(&format!("trustedProxies: {trusted}")),
            &[resource],
            &["AuthorizationPolicies"],
        );
        for protocol in PROTOCOLS {
            for (values, expected) in forwarded {
                let mut asked = call(protocol);
                let values = values.iter().map(|value| ("x-forwarded-for", (*value).to_owned()));
                asked.headers.extend(values);
                let why = format!("{trusted} trusted, {protocol}");
                // An opaque connection's client is who connects.
                let expected = protocol != "tcp" && expected[trusted];
                assert_eq!(passes(&scene, &asked, &why), expected, "{why} {:?}", asked.headers);
            }
        }
    }
}

/// Everything that a rule may ask for, in one rule; each change is of one of them.
#[test]
fn a_rule_matches_when_all_of_it_does() {
    let Some(scene) = Scene::new(&[("DENIAL_ID_HEADER", "on")]) else {
        return;
    };
    let issuer = Issuer::new();
    let claims = |groups: &str| json!({"iss": "https://one.example", "sub": "alice", "exp": 4_000_000_000_u64, "groups": [groups]});
    let (good, other) = (issuer.token(&claims("ops")), issuer.token(&claims("dev")));
    let authentication = |name: &str| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"jwtRules": [{"issuer": "https://one.example", "jwks": issuer.keys()}]},
        })
    };
    let rule = json!({
        "from": [{"source": {
            "principals": ["cluster.local/ns/shop/sa/client"], "namespaces": ["shop"],
            "ipBlocks": [SOURCES[0]], "requestPrincipals": ["https://one.example/alice"],
        }}],
        "to": [{"operation": {"paths": ["/api/*"], "methods": ["GET", "POST"], "hosts": ["server"]}}],
        "when": [
            {"key": "request.headers[x-role]", "values": ["admin"]},
            {"key": "request.auth.claims[groups]", "values": ["ops"]},
        ],
    });
    type Change<'a> = (&'a str, Box<dyn Fn(&mut Asked) + 'a>);
    let changes: Vec<Change<'_>> = vec![
        ("identity", Box::new(|asked| asked.identity = Some(IDENTITIES[2]))),
        ("namespace", Box::new(|asked| asked.identity = Some(IDENTITIES[1]))),
        (
            "in the clear",
            Box::new(|asked| (asked.identity, asked.server_name) = (None, None)),
        ),
        ("address", Box::new(|asked| asked.source = SOURCES[1])),
        ("path", Box::new(|asked| asked.path = "/admin".to_owned())),
        ("method", Box::new(|asked| asked.method = "PUT")),
        ("host", Box::new(|asked| asked.hosts = vec!["other"])),
        (
            "header",
            Box::new(|asked| asked.headers.retain(|(name, _)| *name != "x-role")),
        ),
        ("claims", Box::new(|asked| asked.token = Some(other.clone()))),
        ("no token", Box::new(|asked| asked.token = None)),
    ];
    for action in ["ALLOW", "DENY"] {
        let name = action.to_lowercase();
        let kinds = ["AuthorizationPolicies", "RequestAuthentications"];
        scene.apply(
            &mesh(""),
            &[policy(&name, action, &rule), authentication(&name)],
            &kinds,
        );
        let allow = action == "ALLOW";
        for protocol in ["http", "http2", "grpc"] {
            let mut whole = call(protocol);
            whole.headers.push(("x-role", "admin".to_owned()));
            whole.token = Some(good.clone());
            assert_eq!(passes(&scene, &whole, action), allow, "{action} {protocol}");
            // A host is the same in any case.
            let shouted = Asked {
                hosts: vec!["SERVER"],
                ..whole.clone()
            };
            assert_eq!(passes(&scene, &shouted, action), allow, "{action} {protocol}");
            for (case, change) in &changes {
                // gRPC has one method.
                if (protocol, *case) == ("grpc", "method") {
                    continue;
                }
                let mut asked = whole.clone();
                change(&mut asked);
                let why = format!("{action} {protocol} another {case}");
                assert_eq!(passes(&scene, &asked, &why), !allow, "{why}");
            }
        }
        // What only HTTP has is never there to allow, and always to deny: then identity and address decide.
        for (case, change, expected) in [
            ("whole", None, false),
            ("identity", Some(0), !allow),
            ("in the clear", Some(2), !allow),
            ("address", Some(3), !allow),
        ] {
            let mut asked = call("tcp");
            if let Some(at) = change {
                let (_, change): &Change<'_> = &changes[at];
                change(&mut asked);
            }
            let why = format!("{action} tcp {case}");
            assert_eq!(passes(&scene, &asked, &why), expected, "{why}");
        }
    }
}

/// h2 cuts a fragment off before anybody sees it: whoever sends one gains nothing by it.
#[test]
fn a_fragment_in_http2_is_no_way_round() {
    let Some(scene) = Scene::new(&[]) else { return };
    let rule = json!({"to": [{"operation": {"paths": ["/admin/x"]}}]});
    scene.apply(&mesh(""), &[policy("p", "DENY", &rule)], &["AuthorizationPolicies"]);
    let path = b"/admin/x#y";
    // GET and http from HPACK's static table; :path and :authority in plain letters (RFC 7541, appendix A and section 6.2.2).
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path);
    block.extend_from_slice(b"\x01\x06server");
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    sent.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 0x01, 0x05, 0, 0, 0, 1]);
    sent.extend(block);
    let mut stream = scene.caller.connect(&format!("{SERVER}:8082"));
    stream.write_all(&sent).unwrap();
    let _ = stream.read(&mut [0; 1024]).unwrap();
    eventually("it is denied", || scene.denials().0 == 1);
    let (_, denial) = scene.denials();
    assert_eq!(denial["request"]["path"], "/admin/x");
    assert_eq!(denial["policy"], "shop/p");
}
