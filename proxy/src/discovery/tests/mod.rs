//! A proxy's client against an operator over loopback.

mod operator;

use std::sync::Arc;
use std::time::Duration;

use mesh_core::authorization::policy::{Action, Policy, Rule};
use mesh_core::destination::{Destination, Endpoint, Resolution};
use mesh_core::jwt::{self, KeySource};
use mesh_core::peer_authentication::{Effective, PortMode};
use mesh_core::protocol::Declared;
use mesh_core::request::Normalization;
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::convert::{TrustBundle, Workload};
use mesh_wire::request_authentication::{Jwks, RequestAuthentication, RequestAuthentications};
use mesh_wire::resources::type_url::{
    AUTHORIZATION_POLICIES, CANDIDATE_SETS, DESTINATION, INBOUND_POLICY, REQUEST_AUTHENTICATIONS, TRUST_BUNDLE,
    WORKLOAD,
};
use mesh_wire::resources::{self as wire, SELF_NAME};
use rustls::ClientConfig;
use tokio::sync::watch;

use super::{Answer, Backoff, Client, Limits, Lookup, Mesh};
use operator::{Ca, OPERATOR, Operator, Stream, WEB, raw, resource};

/// The types of which a proxy has one resource, in the order in which it subscribes to them.
const OWN: [&str; 6] = [
    TRUST_BUNDLE,
    WORKLOAD,
    INBOUND_POLICY,
    AUTHORIZATION_POLICIES,
    REQUEST_AUTHENTICATIONS,
    CANDIDATE_SETS,
];

/// A key set (the key of RFC 8037, appendix A.2).
pub(super) const JWKS: &str =
    r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

const HOUR: Duration = Duration::from_secs(3600);

/// A proxy's client on its way to `operator`.
struct Proxy {
    mesh: Mesh,
    tls: watch::Sender<Option<Arc<ClientConfig>>>,
    shutdown: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

fn start(operator: &Operator, tls: Option<Arc<ClientConfig>>, limits: Limits) -> Proxy {
    let (mesh, requests) = Mesh::new(limits);
    let client = Client {
        namespace: "shop".into(),
        pod_name: "web-1".into(),
        version: "test".into(),
        address: operator.address.to_string(),
        operator: OPERATOR.parse().unwrap(),
        backoff: Backoff {
            least: Duration::from_millis(10),
            most: Duration::from_millis(100),
        },
        connection: watch::Sender::new(None),
    };
    let (tls, configurations) = watch::channel(tls);
    let (shutdown, stop) = watch::channel(false);
    let running = tokio::spawn(client.run(mesh.clone(), requests, configurations, stop));
    Proxy {
        mesh,
        tls,
        shutdown,
        running,
    }
}

/// A proxy and an operator whose stream has gone through the subscriptions to the proxy's own resources.
async fn connected(limits: Limits) -> (Ca, Operator, Stream, Proxy) {
    let ca = Ca::new();
    let mut operator = Operator::start(&ca, OPERATOR).await;
    let proxy = start(&operator, Some(ca.client(WEB, HOUR)), limits);
    let mut stream = operator.stream().await;
    for type_url in OWN {
        assert_eq!(stream.request().await.type_url, type_url);
    }
    (ca, operator, stream, proxy)
}

fn destination(host: &str, address: &str) -> wire::Destination {
    let identity: mesh_core::identity::SpiffeId = "spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap();
    wire::Destination::from(&Destination {
        host: host.into(),
        namespace: "shop".into(),
        port: 9080,
        protocol: Declared::Http,
        resolution: Resolution::Balanced,
        endpoints: vec![Endpoint {
            address: address.parse().unwrap(),
            mutual_tls: true,
            identity: Some(identity.clone()),
            workload: "reviews".into(),
            locality: None,
            weight: 1,
            ranks: Box::default(),
        }],
        unready: Vec::new(),
        identities: vec![identity],
        tls: None,
        ..Destination::default()
    })
}

fn policy(mode: PortMode) -> wire::InboundPolicy {
    wire::InboundPolicy::from(&Effective {
        mode,
        ..Effective::default()
    })
}

fn calls(action: Action) -> wire::AuthorizationPolicies {
    wire::AuthorizationPolicies::from(&AuthorizationPolicies {
        policies: vec![Policy {
            namespace: "shop".into(),
            name: "web".into(),
            action,
            rules: vec![Rule::default()],
            dry_run: false,
        }],
        paths: Normalization::Base,
        trusted_proxies: 1,
        trust_domain: "cluster.local".parse().unwrap(),
        aliases: Vec::new(),
        providers: mesh_core::ext_authz::Providers::new(),
    })
}

fn tokens(jwks: &str) -> wire::RequestAuthentications {
    wire::RequestAuthentications::from(&RequestAuthentications {
        policies: vec![RequestAuthentication {
            namespace: "shop".into(),
            name: "jwt".into(),
            rules: vec![(
                jwt::Rule::new("https://issuer.example", KeySource::Discovery),
                Jwks::Known(jwks.into()),
            )],
        }],
    })
}

/// Sends the one resource of a type; the reason where it is refused.
async fn say(stream: &mut Stream, type_url: &str, version: &str, message: &impl prost::Message) -> Option<String> {
    let resource = resource(type_url, SELF_NAME, version, message);
    stream.say(type_url, vec![resource], &[]).await
}

/// Waits for what another task does.
async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not in 5 s");
}

#[tokio::test]
async fn a_proxy_is_ready_once_it_knows_itself_and_whom_to_trust() {
    let ca = Ca::new();
    let mut operator = Operator::start(&ca, OPERATOR).await;
    let Proxy {
        mesh,
        tls,
        shutdown,
        running,
    } = start(&operator, None, Limits::default());
    assert!(
        operator.no_stream(Duration::from_millis(100)).await,
        "without a certificate there is nothing to dial with"
    );
    tls.send_replace(Some(ca.client(WEB, HOUR)));
    let mut stream = operator.stream().await;

    let first = stream.request().await;
    let node = first.node.unwrap();
    let metadata = node.metadata.unwrap().fields;
    assert_eq!(metadata.len(), 3);
    assert!(format!("{:?}", metadata["POD_NAME"]).contains("web-1"), "{metadata:?}");
    assert_eq!(
        (first.type_url.as_str(), first.resource_names_subscribe),
        (TRUST_BUNDLE, vec![SELF_NAME.to_owned()])
    );
    for type_url in &OWN[1..] {
        assert_eq!(stream.request().await.type_url, *type_url);
    }
    assert_eq!(mesh.inbound().mode, PortMode::Strict, "what is not known is refused");

    let workload = Workload {
        pod: "web-1".into(),
        ports: [(80, Declared::Http)].into(),
        ..Workload::default()
    };
    let message = wire::Workload::from(&workload);
    assert_eq!(
        stream
            .say(WORKLOAD, vec![resource(WORKLOAD, SELF_NAME, "1", &message)], &[])
            .await,
        None
    );
    let message = policy(PortMode::Permissive);
    assert_eq!(
        stream
            .say(
                INBOUND_POLICY,
                vec![resource(INBOUND_POLICY, SELF_NAME, "1", &message)],
                &[]
            )
            .await,
        None
    );
    let message = calls(Action::Deny);
    assert_eq!(say(&mut stream, AUTHORIZATION_POLICIES, "1", &message).await, None);
    assert!(
        mesh.authorization().is_none(),
        "the one without the other is half of it"
    );
    let message = tokens(JWKS);
    assert_eq!(say(&mut stream, REQUEST_AUTHENTICATIONS, "1", &message).await, None);
    assert!(mesh.authorization().is_some());
    assert!(!mesh.is_ready());
    let bundle = TrustBundle {
        trust_domain: "cluster.local".parse().unwrap(),
        aliases: Vec::new(),
        roots: vec![bytes::Bytes::copy_from_slice(&ca.root())],
    };
    let message = wire::TrustBundle::from(&bundle);
    assert_eq!(
        stream
            .say(
                TRUST_BUNDLE,
                vec![resource(TRUST_BUNDLE, SELF_NAME, "1", &message)],
                &[]
            )
            .await,
        None
    );
    assert!(mesh.is_ready() && mesh.connected() && mesh.last_update().is_some());
    assert_eq!(*mesh.workload(), workload);
    assert_eq!(mesh.inbound_policy().unwrap().mode, PortMode::Permissive);
    assert_eq!(mesh.trust().borrow().as_deref(), Some(&bundle));
    assert_eq!(stream.say(WORKLOAD, Vec::new(), &[SELF_NAME]).await, None);
    assert_eq!(*mesh.workload(), workload, "a pod that lives keeps what it was told");
    let shown = mesh.snapshot();
    assert_eq!(
        (&shown["inbound_policy"]["mode"], &shown["workload"]["ports"]["80"]),
        (&"PERMISSIVE".into(), &"http".into())
    );

    shutdown.send_replace(true);
    running.await.unwrap();
    assert!(!mesh.connected() && mesh.is_ready());
}

#[tokio::test]
async fn a_destination_is_asked_for_once_and_then_kept_up_to_date() {
    let (
        _ca,
        _operator,
        mut stream,
        Proxy {
            mesh,
            tls: _tls,
            shutdown: _shutdown,
            ..
        },
    ) = connected(Limits::default()).await;
    assert!(matches!(mesh.lookup_host("reviews", 9080), Lookup::Unknown));
    let asking: Vec<_> = ["reviews", "Reviews", "reviews"]
        .map(|host| {
            let mesh = mesh.clone();
            tokio::spawn(async move { mesh.host(host, 9080).await })
        })
        .into();
    let request = stream.request().await;
    assert_eq!(request.resource_names_subscribe, ["host/reviews:9080"]);
    let message = destination("reviews.shop.svc.cluster.local", "10.0.0.1:9080");
    let named = |name: &str, version: &str, message| resource(DESTINATION, name, version, message);
    assert_eq!(
        stream
            .say(DESTINATION, vec![named("host/reviews:9080", "1", &message)], &[])
            .await,
        None
    );
    for asking in asking {
        assert!(matches!(asking.await.unwrap(), Answer::Found(_)));
    }
    assert!(stream.quiet().await, "one subscription for all of them");

    // Another name of the same destination shares it.
    let asking = tokio::spawn({
        let mesh = mesh.clone();
        async move { mesh.address("10.96.0.1:9080".parse().unwrap()).await }
    });
    assert_eq!(stream.request().await.resource_names_subscribe, ["addr/10.96.0.1:9080"]);
    assert_eq!(
        stream
            .say(DESTINATION, vec![named("addr/10.96.0.1:9080", "1", &message)], &[])
            .await,
        None
    );
    let (Answer::Found(by_address), Lookup::Found(by_host)) =
        (asking.await.unwrap(), mesh.lookup_host("REVIEWS", 9080))
    else {
        panic!("both are known");
    };
    assert!(Arc::ptr_eq(&by_address, &by_host));

    // A change of one name leaves what a reader holds; then it ends.
    let message = destination("reviews.shop.svc.cluster.local", "10.0.0.2:9080");
    assert_eq!(
        stream
            .say(DESTINATION, vec![named("host/reviews:9080", "2", &message)], &[])
            .await,
        None
    );
    let Lookup::Found(changed) = mesh.lookup_host("reviews", 9080) else {
        panic!("it is known")
    };
    assert_eq!(changed.endpoints[0].address, "10.0.0.2:9080".parse().unwrap());
    assert_eq!(by_host.endpoints[0].address, "10.0.0.1:9080".parse().unwrap());
    assert_eq!(stream.say(DESTINATION, Vec::new(), &["host/reviews:9080"]).await, None);
    assert!(matches!(mesh.host("reviews", 9080).await, Answer::Absent));

    // A name that no mesh can know is not asked for; one that nobody asks for any more is given up.
    assert!(matches!(mesh.host("a b", 80).await, Answer::Absent));
    let verdict = stream
        .verdict(DESTINATION, vec![named("host/other:1", "1", &message)], &[])
        .await;
    assert_eq!(
        (verdict.resource_names_unsubscribe, verdict.error_detail),
        (vec!["host/other:1".to_owned()], None)
    );
}

#[tokio::test]
async fn what_is_declared_is_asked_for_before_it_is_called() {
    let (_ca, _operator, mut stream, proxy) = connected(Limits::default()).await;
    let declares = |names: &[&str]| {
        let ahead = names.iter().map(|name| mesh_wire::query::parse(name).unwrap());
        wire::Workload::from(&Workload {
            pod: "web-1".into(),
            ahead: ahead.collect(),
            ..Workload::default()
        })
    };
    let first = declares(&["host/reviews:80"]);
    assert_eq!(say(&mut stream, WORKLOAD, "1", &first).await, None);
    assert_eq!(stream.request().await.resource_names_subscribe, ["host/reviews:80"]);
    let second = declares(&["host/reviews:80", "addr/10.96.0.1:80"]);
    assert_eq!(say(&mut stream, WORKLOAD, "2", &second).await, None);
    assert_eq!(stream.request().await.resource_names_subscribe, ["addr/10.96.0.1:80"]);
    assert_eq!(say(&mut stream, WORKLOAD, "3", &declares(&[])).await, None);
    assert!(stream.quiet().await, "what is held stays");
    drop(proxy);
}

#[tokio::test]
async fn what_does_not_decode_is_refused_with_the_reason_and_the_last_good_one_stays() {
    let limits = Limits {
        first_use: Duration::from_millis(300),
        ..Limits::default()
    };
    let (
        _ca,
        _operator,
        mut stream,
        Proxy {
            mesh,
            tls: _tls,
            shutdown: _shutdown,
            ..
        },
    ) = connected(limits).await;
    let strict = resource(INBOUND_POLICY, SELF_NAME, "1", &policy(PortMode::Strict));
    assert_eq!(stream.say(INBOUND_POLICY, vec![strict], &[]).await, None);
    let permissive = policy(PortMode::Permissive);
    for (case, resources, reason) in [
        (
            "no mode",
            vec![resource(
                INBOUND_POLICY,
                SELF_NAME,
                "2",
                &wire::InboundPolicy::default(),
            )],
            "self: mode: 0",
        ),
        (
            "no message",
            vec![raw(INBOUND_POLICY, SELF_NAME, "2", vec![255; 9])],
            "self: not a message of its type",
        ),
        (
            "another name",
            vec![resource(INBOUND_POLICY, "x", "2", &permissive)],
            "x: the only resource of its type",
        ),
        (
            "another type",
            vec![resource(WORKLOAD, SELF_NAME, "2", &permissive)],
            "self: holds a resource of type",
        ),
        (
            "half of it",
            vec![
                resource(INBOUND_POLICY, SELF_NAME, "2", &permissive),
                resource(INBOUND_POLICY, SELF_NAME, "2", &wire::InboundPolicy::default()),
            ],
            "self: mode: 0",
        ),
    ] {
        let refused = stream.say(INBOUND_POLICY, resources, &[]).await.unwrap();
        assert!(refused.starts_with(reason), "{case}: {refused}");
        assert_eq!(mesh.inbound_policy().unwrap().mode, PortMode::Strict, "{case}");
    }
    let roots = wire::TrustBundle {
        trust_domain: "cluster.local".into(),
        roots: vec![bytes::Bytes::from_static(b"no certificate")],
        ..wire::TrustBundle::default()
    };
    let refused = stream
        .say(TRUST_BUNDLE, vec![resource(TRUST_BUNDLE, SELF_NAME, "1", &roots)], &[])
        .await
        .unwrap();
    assert!(refused.contains("not a CA certificate"), "{refused}");
    assert!(mesh.trust().borrow().is_none());
    assert!(
        stream
            .say("type.googleapis.com/x", Vec::new(), &[])
            .await
            .unwrap()
            .contains("was not asked for")
    );

    // Destinations stand alone.
    let asking = ["good", "bad"].map(|host| {
        let mesh = mesh.clone();
        tokio::spawn(async move { mesh.host(host, 80).await })
    });
    let mut asked = 0;
    while asked < 2 {
        asked += stream.request().await.resource_names_subscribe.len();
    }
    let bad = wire::Destination {
        port: 0,
        ..destination("bad", "10.0.0.1:80")
    };
    let resources = vec![
        resource(DESTINATION, "host/bad:80", "1", &bad),
        resource(DESTINATION, "host/good:80", "1", &destination("good", "10.0.0.1:80")),
    ];
    let refused = stream.say(DESTINATION, resources, &[]).await.unwrap();
    assert_eq!(refused, "host/bad:80: port: port 0 is not in 1..65535");
    let [good, bad] = asking;
    assert!(matches!(good.await.unwrap(), Answer::Found(_)));
    assert!(
        matches!(bad.await.unwrap(), Answer::Unavailable),
        "what is refused is not known to be absent"
    );
}

#[tokio::test]
async fn policies_that_are_not_understood_leave_the_last_good_ones() {
    let (
        _ca,
        _operator,
        mut stream,
        Proxy {
            mesh,
            tls: _tls,
            shutdown: _shutdown,
            ..
        },
    ) = connected(Limits::default()).await;
    let mut changes = mesh.inbound_changes();
    let good = (calls(Action::Allow), tokens(JWKS));
    assert_eq!(say(&mut stream, AUTHORIZATION_POLICIES, "1", &good.0).await, None);
    assert_eq!(say(&mut stream, REQUEST_AUTHENTICATIONS, "1", &good.1).await, None);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let resources = mesh.authorization_resources().unwrap();

    let mut unknown = calls(Action::Deny);
    unknown.policies[0].action = 9;
    let refused = say(&mut stream, AUTHORIZATION_POLICIES, "2", &unknown).await.unwrap();
    assert_eq!(refused, "self: policies.action: 9 is not one of its values");
    let refused = say(&mut stream, REQUEST_AUTHENTICATIONS, "2", &tokens("no keys"))
        .await
        .unwrap();
    assert!(
        refused.starts_with("self: RequestAuthentication shop/jwt: keys of issuer \"https://issuer.example\":"),
        "{refused}"
    );
    assert_eq!(mesh.authorization_resources().unwrap(), resources);
    let held = mesh.own_versions();
    assert_eq!((held.authorization.as_str(), held.tokens.as_str()), ("1", "1"));
    assert!(!changes.has_changed().unwrap());

    assert_eq!(
        say(&mut stream, AUTHORIZATION_POLICIES, "3", &calls(Action::Deny)).await,
        None
    );
    assert!(changes.has_changed().unwrap());
    assert_eq!(
        mesh.authorization_resources().unwrap().0.policies[0].action,
        Action::Deny
    );
    // Whoever decides by what was in force goes on with it.
    let before = mesh.authorization().unwrap();
    assert_eq!((before.trusted_proxies, before.paths), (1, Normalization::Base));
}

#[tokio::test]
async fn candidate_sets_are_waited_for_by_nobody_and_harm_nothing_else() {
    let (
        _ca,
        _operator,
        mut stream,
        Proxy {
            mesh,
            tls: _tls,
            shutdown: _shutdown,
            ..
        },
    ) = connected(Limits::default()).await;
    assert_eq!(
        say(&mut stream, AUTHORIZATION_POLICIES, "1", &calls(Action::Allow)).await,
        None
    );
    assert_eq!(
        say(&mut stream, REQUEST_AUTHENTICATIONS, "1", &tokens(JWKS)).await,
        None
    );
    assert!(mesh.authorization().is_some() && mesh.trying().is_none());
    let resources = mesh.authorization_resources().unwrap();

    let set = |name: &str| wire::CandidateSet {
        name: name.to_owned(),
        members: vec!["AuthorizationPolicy/shop/a".to_owned()],
        authorization: Some(calls(Action::Deny)),
        ..wire::CandidateSet::default()
    };
    let sets = |names: &[&str]| wire::CandidateSets {
        sets: names.iter().map(|name| set(name)).collect(),
    };
    let refused = say(&mut stream, CANDIDATE_SETS, "1", &sets(&[""])).await.unwrap();
    assert_eq!(refused, "self: sets.name: empty");
    assert!(mesh.authorization().is_some() && mesh.trying().is_none());
    assert_eq!(say(&mut stream, CANDIDATE_SETS, "2", &sets(&["a", "b"])).await, None);
    let trying = mesh.trying().unwrap();
    assert_eq!(trying.candidates.as_ref().unwrap().sets.len(), 2);
    let mut bad = sets(&["a"]);
    bad.sets[0].tokens = Some(tokens("no keys"));
    let refused = say(&mut stream, CANDIDATE_SETS, "3", &bad).await.unwrap();
    assert!(
        refused.starts_with("self: RequestAuthentication shop/jwt: keys"),
        "{refused}"
    );
    assert_eq!(mesh.candidates().unwrap().sets.len(), 2, "the last good ones stay");
    assert_eq!(mesh.authorization_resources().unwrap(), resources);
    assert_eq!(say(&mut stream, CANDIDATE_SETS, "4", &sets(&[])).await, None);
    assert!(mesh.trying().is_none() && mesh.candidates().is_none());
}

#[tokio::test]
async fn an_operator_of_before_is_asked_for_no_candidate_sets() {
    let ca = Ca::new();
    let mut operator = Operator::of_before(&ca).await;
    let proxy = start(&operator, Some(ca.client(WEB, HOUR)), Limits::default());
    let mut stream = operator.stream().await;
    for type_url in &OWN[..OWN.len() - 1] {
        assert_eq!(stream.request().await.type_url, *type_url);
    }
    assert!(stream.quiet().await);
    assert!(proxy.mesh.candidates().is_none());
}

#[tokio::test]
async fn a_reconnecting_proxy_says_what_it_holds_and_serves_from_it_meanwhile() {
    let limits = Limits {
        first_use: Duration::from_millis(300),
        hosts: 3,
        forget_after: Duration::ZERO,
        ..Limits::default()
    };
    let (
        ca,
        operator,
        mut stream,
        Proxy {
            mesh,
            tls: _tls,
            shutdown: _shutdown,
            ..
        },
    ) = connected(limits).await;
    let strict = resource(INBOUND_POLICY, SELF_NAME, "7", &policy(PortMode::Strict));
    assert_eq!(stream.say(INBOUND_POLICY, vec![strict], &[]).await, None);
    let denied = calls(Action::Deny);
    assert_eq!(say(&mut stream, AUTHORIZATION_POLICIES, "8", &denied).await, None);
    for (host, found) in [("reviews", true), ("nobody", false)] {
        let asking = tokio::spawn({
            let mesh = mesh.clone();
            async move { mesh.host(host, 80).await }
        });
        let name = stream.request().await.resource_names_subscribe.remove(0);
        let message = destination(host, "10.0.0.1:80");
        let answer = if found {
            vec![resource(DESTINATION, &name, "3", &message)]
        } else {
            Vec::new()
        };
        let removed = if found { Vec::new() } else { vec![name.as_str()] };
        assert_eq!(stream.say(DESTINATION, answer, &removed).await, None);
        assert_eq!(matches!(asking.await.unwrap(), Answer::Found(_)), found);
    }

    let address = operator.address;
    operator.stop();
    drop(stream);
    eventually("disconnected", || !mesh.connected()).await;
    assert!(matches!(mesh.host("reviews", 80).await, Answer::Found(_)));
    assert!(matches!(mesh.host("nobody", 80).await, Answer::Absent));
    assert!(matches!(mesh.host("new", 80).await, Answer::Unavailable));
    // The table is full, and while nobody could be asked again nothing is forgotten.
    assert!(matches!(mesh.host("newer", 80).await, Answer::Unavailable));
    assert!(matches!(mesh.lookup_host("reviews", 80), Lookup::Found(_)));

    let mut operator = Operator::start_at(&ca, OPERATOR, address).await;
    let mut stream = operator.stream().await;
    let mut versions = Vec::new();
    for _ in OWN {
        let request = stream.request().await;
        versions.push(request.initial_resource_versions.into_values().next());
    }
    let [policy, calls] = ["7", "8"].map(|version| Some(version.to_owned()));
    assert_eq!(versions, [None, None, policy, calls, None, None]);
    let mut request = stream.request().await;
    request.resource_names_subscribe.sort();
    assert_eq!(
        request.resource_names_subscribe,
        ["host/new:80", "host/nobody:80", "host/reviews:80"]
    );
    assert_eq!(
        request.initial_resource_versions,
        [("host/reviews:80".to_owned(), "3".to_owned())].into()
    );
    let resources = vec![resource(
        DESTINATION,
        "host/new:80",
        "1",
        &destination("new", "10.0.0.3:80"),
    )];
    assert_eq!(stream.say(DESTINATION, resources, &["host/reviews:80"]).await, None);
    assert!(matches!(mesh.lookup_host("new", 80), Lookup::Found(_)));
    assert!(matches!(mesh.lookup_host("reviews", 80), Lookup::Absent));
}

#[tokio::test]
async fn a_full_table_gives_up_the_subscriptions_that_it_forgets() {
    let limits = Limits {
        addresses: 1,
        forget_after: Duration::ZERO,
        ..Limits::default()
    };
    let (
        _ca,
        _operator,
        mut stream,
        Proxy {
            mesh,
            tls: _tls,
            shutdown: _shutdown,
            ..
        },
    ) = connected(limits).await;
    for (address, name, forgotten) in [
        ("10.0.0.1:80", "addr/10.0.0.1:80", None),
        ("10.0.0.2:80", "addr/10.0.0.2:80", Some("addr/10.0.0.1:80")),
    ] {
        let asking = tokio::spawn({
            let mesh = mesh.clone();
            async move { mesh.address(address.parse().unwrap()).await }
        });
        let (mut subscribed, mut unsubscribed) = (Vec::new(), Vec::new());
        while subscribed.is_empty() || unsubscribed.len() < usize::from(forgotten.is_some()) {
            let request = stream.request().await;
            subscribed.extend(request.resource_names_subscribe);
            unsubscribed.extend(request.resource_names_unsubscribe);
        }
        assert_eq!(subscribed, [name]);
        assert_eq!(unsubscribed.first().map(String::as_str), forgotten);
        assert_eq!(stream.say(DESTINATION, Vec::new(), &[name]).await, None);
        assert!(matches!(asking.await.unwrap(), Answer::Absent));
    }
    assert!(matches!(
        mesh.lookup_address("10.0.0.1:80".parse().unwrap()),
        Lookup::Unknown
    ));
}

#[tokio::test]
async fn only_the_operator_is_believed() {
    let ca = Ca::new();
    let mut impostor = Operator::start(&ca, "spiffe://cluster.local/ns/shop/sa/reviews").await;
    let proxy = start(&impostor, Some(ca.client(WEB, HOUR)), Limits::default());
    assert!(impostor.no_stream(Duration::from_millis(300)).await);
    let mut stranger = Operator::start(&Ca::new(), OPERATOR).await;
    let other = start(&stranger, Some(ca.client(WEB, HOUR)), Limits::default());
    assert!(stranger.no_stream(Duration::from_millis(300)).await);
    assert!(!proxy.mesh.connected() && !other.mesh.connected());
}

#[tokio::test]
async fn a_stream_is_made_anew_with_the_next_certificate_but_not_for_every_one() {
    let ca = Ca::new();
    let mut operator = Operator::start(&ca, OPERATOR).await;
    let proxy = start(
        &operator,
        Some(ca.client(WEB, Duration::from_secs(6))),
        Limits::default(),
    );
    let stream = operator.stream().await;
    proxy.tls.send_replace(Some(ca.client(WEB, HOUR)));
    assert!(
        operator.no_stream(Duration::from_secs(1)).await,
        "its certificate is good for a while"
    );
    let renewed = operator.stream().await;
    drop(stream);
    proxy.tls.send_replace(Some(ca.client(WEB, HOUR)));
    assert!(
        operator.no_stream(Duration::from_millis(500)).await,
        "the new one is good for long"
    );
    drop(renewed);
    operator.stream().await;
}
