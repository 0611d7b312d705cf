//! AuthorizationPolicies and RequestAuthentications.

use super::*;
use crate::feeds::{take_authorization_policy, take_request_authentication};
use mesh_core::authorization::policy::Action;
use mesh_core::jwt::{KeyOrigin, KeyPlace};
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::delta::Encoded;
use mesh_wire::request_authentication::{Jwks, RequestAuthentications};
use serde_json::Value;

/// A key set (the key of RFC 8037, appendix A.2).
const JWKS: &str =
    r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn authorization(index: &Index, key: &str, spec: Value) {
    let (namespace, name) = key.split_once('/').unwrap();
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    let resource = mesh_api::authorization_policy::read(object).unwrap();
    take_authorization_policy(index, &named(namespace, name), Some(&resource));
}

fn tokens(index: &Index, key: &str, spec: Value) {
    let (namespace, name) = key.split_once('/').unwrap();
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    let resource = mesh_api::request_authentication::read(object).unwrap();
    take_request_authentication(index, &named(namespace, name), Some(&resource));
}

/// An index with pods in two namespaces.
fn two_namespaces() -> Index {
    let index = index();
    for (namespace, name, address) in [
        ("shop", "web", "10.0.0.1"),
        ("shop", "cart", "10.0.0.2"),
        ("shop", "web-2", "10.0.0.3"),
        ("bank", "web", "10.0.1.1"),
    ] {
        let mut record = pod(name, &[address], name, true);
        if name == "web-2" {
            record.labels.insert("app".into(), "web".into());
        }
        index.apply(|world, _| world.pod(&named(namespace, name), Some(record)));
    }
    index
}

fn encoded(index: &Index, pod: (&str, &str)) -> Encoded {
    index.authorization_policies(&named(pod.0, pod.1)).unwrap()
}

fn enforced(index: &Index, pod: (&str, &str)) -> AuthorizationPolicies {
    let message = wire::AuthorizationPolicies::decode(encoded(index, pod).body).unwrap();
    AuthorizationPolicies::try_from(&message).unwrap()
}

fn names(index: &Index, pod: (&str, &str)) -> Vec<String> {
    enforced(index, pod)
        .policies
        .iter()
        .map(mesh_core::authorization::policy::Policy::key)
        .collect()
}

fn believed(index: &Index, pod: (&str, &str)) -> Vec<(String, Jwks)> {
    let encoded = index.request_authentications(&named(pod.0, pod.1)).unwrap();
    let message = wire::RequestAuthentications::decode(encoded.body).unwrap();
    let all = RequestAuthentications::try_from(&message).unwrap();
    let rules = all.policies.into_iter().flat_map(|policy| policy.rules);
    rules.map(|(rule, keys)| (rule.issuer, keys)).collect()
}

/// The pods whose proxies a change concerns.
fn concerned(index: &Index, change: impl FnOnce()) -> Vec<String> {
    let pods = [("shop", "web"), ("shop", "cart"), ("shop", "web-2"), ("bank", "web")];
    let before = pods.map(|pod| {
        (
            encoded(index, pod).version,
            index.request_authentications(&named(pod.0, pod.1)),
        )
    });
    change();
    let after = pods.map(|pod| {
        (
            encoded(index, pod).version,
            index.request_authentications(&named(pod.0, pod.1)),
        )
    });
    let all = pods.iter().zip(before.iter().zip(&after));
    all.filter(|(_, (before, after))| before != after)
        .map(|(pod, _)| format!("{}/{}", pod.0, pod.1))
        .collect()
}

#[test]
fn policies_of_all_scopes_that_match_add_up() {
    let index = two_namespaces();
    authorization(&index, "istio-system/mesh", json!({}));
    authorization(
        &index,
        "istio-system/webs",
        json!({"selector": {"matchLabels": {"app": "web"}}, "rules": [{}]}),
    );
    authorization(&index, "shop/b", json!({"action": "DENY", "rules": [{}]}));
    authorization(&index, "shop/a", json!({"selector": {"matchLabels": {"app": "cart"}}}));
    let refs = json!([{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "g"}]);
    authorization(&index, "shop/gateway", json!({"targetRefs": refs}));
    for (pod, expected) in [
        (
            ("shop", "web"),
            vec!["istio-system/mesh", "istio-system/webs", "shop/b"],
        ),
        (("shop", "cart"), vec!["istio-system/mesh", "shop/a", "shop/b"]),
        (("bank", "web"), vec!["istio-system/mesh", "istio-system/webs"]),
    ] {
        assert_eq!(names(&index, pod), expected, "{pod:?}");
    }
    assert_eq!(index.authorization_policies(&named("shop", "nobody")), None);
    let (workloads, selected) = index.read(|world, mesh| {
        let count = |name: &crate::index::changes::Named| {
            let target = &world.enforced().authorization().get(name).unwrap().target;
            world.workloads(name, target, &mesh.root_namespace)
        };
        (count(&named("istio-system", "mesh")), count(&named("shop", "a")))
    });
    assert_eq!((workloads, selected), (4, 1));
}

#[test]
fn pods_for_which_the_same_policies_are_share_the_bytes() {
    let index = two_namespaces();
    authorization(
        &index,
        "shop/web",
        json!({"selector": {"matchLabels": {"app": "web"}}, "rules": [{}]}),
    );
    let [web, web_2, cart] = ["web", "web-2", "cart"].map(|pod| encoded(&index, ("shop", pod)));
    assert_eq!(web.body.as_ptr(), web_2.body.as_ptr());
    assert_ne!(web, cart);
    assert_eq!(
        cart.body.as_ptr(),
        encoded(&index, ("bank", "web")).body.as_ptr(),
        "nothing is for either"
    );
    // What is for others leaves it as it is.
    authorization(
        &index,
        "shop/cart",
        json!({"selector": {"matchLabels": {"app": "cart"}}}),
    );
    assert_eq!(web.body.as_ptr(), encoded(&index, ("shop", "web")).body.as_ptr());
}

#[test]
fn a_change_concerns_the_workloads_that_it_is_or_was_for() {
    let index = two_namespaces();
    let of = |app: &str| json!({"selector": {"matchLabels": {"app": app}}, "rules": [{}]});
    let put = |key: &'static str, spec: Value| concerned(&index, || authorization(&index, key, spec));
    assert_eq!(put("shop/one", of("web")), ["shop/web", "shop/web-2"]);
    assert_eq!(put("shop/one", of("web")), [""; 0]);
    assert_eq!(put("shop/one", of("cart")), ["shop/web", "shop/cart", "shop/web-2"]);
    assert_eq!(
        put("istio-system/one", of("web")),
        ["shop/web", "shop/web-2", "bank/web"]
    );
    assert_eq!(put("elsewhere/one", of("web")), [""; 0]);
    let gone = concerned(&index, || {
        take_authorization_policy(&index, &named("shop", "one"), None)
    });
    assert_eq!(gone, ["shop/cart"]);
    let relabelled = concerned(&index, || {
        index.apply(|world, _| world.pod(&named("shop", "cart"), Some(pod("web", &["10.0.0.2"], "cart", true))));
    });
    assert_eq!(relabelled, ["shop/cart"]);

    // The streams look again at those alone.
    let mut touched = Changed::default();
    index.apply(|world, mesh| {
        touched = world.authorization_policy(&named("istio-system", "one"), None, &mesh.root_namespace);
        touched.clone()
    });
    assert!(!touched.all && touched.keys.len() == 4, "{touched:?}");
    assert!(touched.touches(&Key::Enforced(named("bank", "web"))));
    assert!(!touched.touches(&Key::Pod(named("bank", "web"))));
}

#[test]
fn the_mesh_configuration_reaches_everybody() {
    let index = two_namespaces();
    let changed = concerned(&index, || {
        let mut mesh = index.read(|_, mesh| mesh.clone());
        mesh.paths = Normalization::DecodeAndMergeSlashes;
        mesh.trusted_proxies = 2;
        mesh.aliases = vec![TrustDomain::new("old.example").unwrap()];
        index.set_mesh(mesh);
    });
    assert_eq!(changed.len(), 4);
    let found = enforced(&index, ("bank", "web"));
    assert_eq!(
        (found.paths, found.trusted_proxies),
        (Normalization::DecodeAndMergeSlashes, 2)
    );
    assert_eq!(found.trust_domain.as_str(), "cluster.local");
    assert_eq!(found.aliases, [TrustDomain::new("old.example").unwrap()]);
}

#[test]
fn what_does_not_parse_leaves_the_last_good_one_or_refuses() {
    let index = two_namespaces();
    let bad = json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["x"]}}]}]});
    authorization(&index, "shop/good", json!({"action": "AUDIT", "rules": [{}]}));
    authorization(&index, "shop/good", bad.clone());
    assert_eq!(enforced(&index, ("shop", "web")).policies[0].action, Action::Audit);

    authorization(&index, "bank/never", bad);
    let found = enforced(&index, ("bank", "web"));
    assert_eq!(
        (&found.policies[0].action, found.policies[0].rules.len()),
        (&Action::Deny, 1)
    );
    assert_eq!(
        found.policies[0].rules[0],
        mesh_core::authorization::policy::Rule::default()
    );
    authorization(&index, "bank/never", json!({"action": "ALLOW", "rules": [{}]}));
    assert_eq!(enforced(&index, ("bank", "web")).policies[0].action, Action::Allow);
    authorization(&index, "bank/never", json!({"action": "BLOCK"}));
    assert_eq!(enforced(&index, ("bank", "web")).policies[0].action, Action::Allow);

    tokens(&index, "shop/jwt", json!({"jwtRules": [{"issuer": ""}]}));
    assert!(matches!(believed(&index, ("shop", "web"))[..], [(_, Jwks::Missing(_))]));
}

#[test]
fn rules_come_with_their_keys() {
    let index = two_namespaces();
    let rules = json!([
        {"issuer": "inline", "jwks": JWKS},
        {"issuer": "uri", "jwksUri": "http://keys/jwks"},
        {"issuer": "https://found.example"},
    ]);
    tokens(
        &index,
        "shop/jwt",
        json!({"selector": {"matchLabels": {"app": "web"}}, "jwtRules": rules}),
    );
    let web = ("shop", "web");
    let missing = || Jwks::Missing("they are not fetched yet".into());
    let known = || Jwks::Known(JWKS.into());
    let is = |uri: Jwks, found: Jwks| {
        let expected = [("inline", known()), ("uri", uri), ("https://found.example", found)];
        assert_eq!(
            believed(&index, web),
            expected.map(|(issuer, keys)| (issuer.to_owned(), keys))
        );
    };
    is(missing(), missing());
    assert_eq!(believed(&index, ("shop", "cart")), []);
    let origin = |namespace: &str, place: KeyPlace| KeyOrigin {
        namespace: namespace.into(),
        place,
    };
    let uri = origin("shop", KeyPlace::Uri("http://keys/jwks".into()));
    let issuer = origin("shop", KeyPlace::Issuer("https://found.example".into()));
    let origins = index.read(|world, _| world.enforced().key_origins());
    assert!(origins.into_keys().eq([uri.clone(), issuer.clone()]));

    let fetched = |origin: &KeyOrigin, keys: Option<Jwks>| {
        concerned(&index, || {
            index.apply(|world, mesh| world.keys(origin, keys, &mesh.root_namespace))
        })
    };
    assert_eq!(fetched(&uri, Some(known())), ["shop/web", "shop/web-2"]);
    is(known(), missing());
    assert_eq!(fetched(&uri, Some(known())), [""; 0]);
    // Another namespace's short names are others.
    assert_eq!(fetched(&origin("bank", uri.place.clone()), Some(known())), [""; 0]);
    let refused = || Jwks::Missing("refused".into());
    assert_eq!(fetched(&issuer, Some(refused())), ["shop/web", "shop/web-2"]);
    is(known(), refused());
    assert_eq!(fetched(&issuer, None), ["shop/web", "shop/web-2"]);
    is(known(), missing());
}

#[test]
fn providers_go_to_the_pods_whose_policies_name_them() {
    use mesh_core::ext_authz::{Protocol, Provider, Settings};

    let provider = |host: &str, port| Provider {
        host: format!("{host}.shop.svc.cluster.local"),
        port,
        settings: Settings {
            protocol: Protocol::Grpc,
            timeout: std::time::Duration::from_secs(1),
            fail_open: false,
            status_on_error: 403,
            body: None,
        },
    };
    let index = two_namespaces();
    let mut mesh = index.read(|_, mesh| mesh.clone());
    mesh.providers = [
        ("good", Ok(provider("reviews", 9000))),
        ("gone", Ok(provider("nobody", 9000))),
        ("port", Ok(provider("reviews", 1))),
        ("bad", Err("is bad".to_owned())),
    ]
    .map(|(name, provider)| (name.to_owned(), provider))
    .into();
    index.set_mesh(mesh);
    index.apply(|world, _| world.service(&named("shop", "reviews"), service(&["10.96.0.1"], 9000, "grpc")));
    let custom = |provider: &str, selector: Value| json!({"selector": selector, "action": "CUSTOM", "provider": {"name": provider}, "rules": [{}]});
    let problem = |key: &str| {
        let (namespace, name) = key.split_once('/').unwrap();
        index.read(|world, mesh| crate::index::providers::problem(world, mesh, &named(namespace, name)))
    };
    let web = json!({"matchLabels": {"app": "web"}});
    for (name, expected) in [
        ("good", None),
        ("gone", Some("there is no Service nobody.shop.svc.cluster.local")),
        ("port", Some("Service reviews.shop.svc.cluster.local has no port 1")),
        ("bad", Some("is bad")),
        ("none", Some("meshConfig.extensionProviders has none of this name")),
    ] {
        authorization(&index, "shop/ask", custom(name, web.clone()));
        assert_eq!(problem("shop/ask").as_deref(), expected);
        let sent = enforced(&index, ("shop", "web")).providers;
        assert_eq!(sent.keys().collect::<Vec<_>>(), [name]);
        assert_eq!(sent[name].is_ok(), !matches!(name, "bad" | "none"));
        assert!(enforced(&index, ("shop", "cart")).providers.is_empty());
    }
    authorization(&index, "shop/ask", custom("good", web.clone()));
    authorization(
        &index,
        "shop/other",
        custom("gone", json!({"matchLabels": {"app": "cart"}})),
    );
    assert_eq!(problem("shop/ask"), None);
    authorization(&index, "istio-system/other", custom("gone", web));
    let expected = "istio-system/other names another provider for pod shop/web, and a workload may have one";
    assert_eq!(problem("shop/ask").as_deref(), Some(expected));
}
