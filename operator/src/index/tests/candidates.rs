//! Candidate sets: what they are made of, for which pods, and that nothing of them is in force.

use super::*;
use crate::feeds::{take_authorization_policy, take_policy, take_request_authentication};
use crate::index::candidates::is_evaluated;
use mesh_core::candidates::MOST_SETS;
use mesh_core::jwt::{KeyOrigin, KeyPlace};
use mesh_core::peer_authentication::PortMode;
use mesh_wire::candidates::{CandidateSet, CandidateSets};
use mesh_wire::request_authentication::Jwks;
use serde_json::Value;

const PODS: [(&str, &str, &str); 3] = [
    ("shop", "web", "10.0.0.1"),
    ("shop", "cart", "10.0.0.2"),
    ("bank", "web", "10.0.1.1"),
];

fn pods() -> Index {
    let index = index();
    for (namespace, name, address) in PODS {
        let record = pod(name, &[address], name, true);
        index.apply(|world, _| world.pod(&named(namespace, name), Some(record)));
    }
    index
}

/// Puts a resource into the index: `candidate` is its set, with what it replaces after a `:`.
fn take(index: &Index, kind: &str, key: &str, candidate: &str, spec: Value) {
    let (namespace, name) = key.split_once('/').unwrap();
    let mut metadata = json!({"namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"});
    if !candidate.is_empty() {
        let (set, replaces) = candidate.split_once(':').unwrap_or((candidate, ""));
        metadata["labels"] = json!({"policy.pinnace.dev/candidate": set});
        if !replaces.is_empty() {
            metadata["annotations"] = json!({"policy.pinnace.dev/replaces": replaces});
        }
    }
    let object = json!({"metadata": metadata, "spec": spec});
    let name = named(namespace, name);
    match kind {
        "PeerAuthentication" => {
            let resource = mesh_api::peer_authentication::read(object).unwrap();
            take_policy(index, &name, Some(&resource));
        }
        "AuthorizationPolicy" => {
            let resource = mesh_api::authorization_policy::read(object).unwrap();
            take_authorization_policy(index, &name, Some(&resource));
        }
        _ => {
            let resource = mesh_api::request_authentication::read(object).unwrap();
            take_request_authentication(index, &name, Some(&resource));
        }
    }
}

fn sets(index: &Index, pod: (&str, &str)) -> Vec<CandidateSet> {
    let encoded = index.candidate_sets(&named(pod.0, pod.1)).unwrap();
    let message = wire::CandidateSets::decode(encoded.body).unwrap();
    CandidateSets::try_from(&message).unwrap().sets
}

fn members(index: &Index, pod: (&str, &str)) -> Vec<String> {
    let sets = sets(index, pod);
    let told = |set: &CandidateSet| {
        let members: Vec<String> = set.members.iter().map(ToString::to_string).collect();
        format!("{}: {}", set.name, members.join(" "))
    };
    sets.iter().map(told).collect()
}

fn mode(index: &Index, pod: &str) -> PortMode {
    let encoded = index.inbound(&named("shop", pod)).unwrap();
    let message = wire::InboundPolicy::decode(encoded.body).unwrap();
    mesh_core::peer_authentication::Effective::try_from(&message)
        .unwrap()
        .mode
}

fn strict() -> Value {
    json!({"mtls": {"mode": "STRICT"}})
}

fn selecting(app: &str, mut spec: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": app}});
    spec
}

#[test]
fn a_set_is_for_the_workloads_of_its_candidates() {
    let index = pods();
    for pod in [("shop", "web"), ("bank", "web")] {
        assert_eq!(members(&index, pod), Vec::<String>::new());
    }
    assert_eq!(index.candidate_sets(&named("shop", "nobody")), None);
    take(&index, "PeerAuthentication", "shop/go", "a", strict());
    take(
        &index,
        "PeerAuthentication",
        "istio-system/ignored",
        "a",
        selecting("web", strict()),
    );
    take(
        &index,
        "AuthorizationPolicy",
        "shop/cart",
        "b",
        selecting("cart", json!({})),
    );
    take(
        &index,
        "AuthorizationPolicy",
        "istio-system/webs",
        "b",
        selecting("web", json!({})),
    );
    take(
        &index,
        "RequestAuthentication",
        "bank/jwt",
        "a",
        json!({"jwtRules": [{"issuer": "https://i"}]}),
    );
    for (pod, expected) in [
        (
            ("shop", "web"),
            vec![
                "a: PeerAuthentication/shop/go",
                "b: AuthorizationPolicy/istio-system/webs",
            ],
        ),
        (
            ("shop", "cart"),
            vec!["a: PeerAuthentication/shop/go", "b: AuthorizationPolicy/shop/cart"],
        ),
        (
            ("bank", "web"),
            vec![
                "a: RequestAuthentication/bank/jwt",
                "b: AuthorizationPolicy/istio-system/webs",
            ],
        ),
    ] {
        assert_eq!(members(&index, pod), expected, "{pod:?}");
    }
    // What a set has no candidate of is what is in force, and is not repeated.
    let [a, b] = &sets(&index, ("shop", "web"))[..] else {
        panic!()
    };
    assert_eq!(a.inbound.as_ref().map(|inbound| inbound.mode), Some(PortMode::Strict));
    assert!(a.authorization.is_none() && a.tokens.is_none() && b.inbound.is_none());
    // None of it is in force.
    assert_eq!(mode(&index, "web"), PortMode::Permissive);
    index.read(|world, _| {
        assert_eq!(world.policies().count(), 0);
        assert_eq!(world.enforced().authorization().names().count(), 0);
        assert_eq!(world.enforced().tokens().names().count(), 0);
    });
}

#[test]
fn candidates_join_or_replace_what_is_in_force() {
    let index = pods();
    let allow = |path: &str| json!({"rules": [{"to": [{"operation": {"paths": [path]}}]}]});
    take(&index, "AuthorizationPolicy", "shop/old", "", allow("/old"));
    take(&index, "AuthorizationPolicy", "shop/stays", "", allow("/stays"));
    take(&index, "AuthorizationPolicy", "istio-system/old", "", allow("/root"));
    take(&index, "AuthorizationPolicy", "shop/joins", "a", allow("/joins"));
    take(
        &index,
        "AuthorizationPolicy",
        "shop/new",
        "b:old",
        selecting("web", allow("/new")),
    );
    let names = |pod: &str, set: usize| -> Vec<String> {
        let set = sets(&index, ("shop", pod)).remove(set);
        let policies = set.authorization.unwrap().policies;
        policies
            .iter()
            .map(mesh_core::authorization::policy::Policy::key)
            .collect()
    };
    assert_eq!(
        names("web", 0),
        ["istio-system/old", "shop/old", "shop/stays", "shop/joins"]
    );
    assert_eq!(names("web", 1), ["istio-system/old", "shop/stays", "shop/new"]);
    // What is replaced goes for everybody it was for, by a policy that is not for them too.
    assert_eq!(names("cart", 1), ["istio-system/old", "shop/stays"]);
    assert_eq!(members(&index, ("shop", "cart"))[1], "b: AuthorizationPolicy/shop/new");

    // A change of what is in force changes the sets that repeat it.
    let before = index.candidate_sets(&named("shop", "web")).unwrap().version;
    take(&index, "AuthorizationPolicy", "shop/stays", "", allow("/changed"));
    assert_ne!(index.candidate_sets(&named("shop", "web")).unwrap().version, before);
}

#[test]
fn a_resource_goes_in_and_out_of_force_by_its_label() {
    let index = pods();
    take(&index, "PeerAuthentication", "shop/go", "a", strict());
    assert_eq!(
        (mode(&index, "web"), members(&index, ("shop", "web")).len()),
        (PortMode::Permissive, 1)
    );
    take(&index, "PeerAuthentication", "shop/go", "", strict());
    assert_eq!(
        (mode(&index, "web"), members(&index, ("shop", "web")).len()),
        (PortMode::Strict, 0)
    );
    // A label that names no set changes nothing.
    take(
        &index,
        "PeerAuthentication",
        "shop/go",
        "NO SET",
        json!({"mtls": {"mode": "DISABLE"}}),
    );
    assert_eq!(
        (mode(&index, "web"), members(&index, ("shop", "web")).len()),
        (PortMode::Strict, 0)
    );
    take(&index, "PeerAuthentication", "shop/go", "b", strict());
    assert_eq!(
        (mode(&index, "web"), members(&index, ("shop", "web")).len()),
        (PortMode::Permissive, 1)
    );
    take_policy(&index, &named("shop", "go"), None);
    assert_eq!(
        (mode(&index, "web"), members(&index, ("shop", "web")).len()),
        (PortMode::Permissive, 0)
    );

    // A candidate that does not parse denies nothing.
    take(
        &index,
        "AuthorizationPolicy",
        "shop/bad",
        "a",
        json!({"action": "PERMIT"}),
    );
    take(
        &index,
        "RequestAuthentication",
        "shop/bad",
        "a",
        json!({"jwtRules": [{"issuer": ""}]}),
    );
    assert_eq!(members(&index, ("shop", "web")), Vec::<String>::new());
    index.read(|world, _| assert_eq!(world.enforced().authorization().names().count(), 0));
}

#[test]
fn keys_are_fetched_for_candidates_too() {
    let index = pods();
    let spec = json!({"jwtRules": [{"issuer": "https://i", "jwksUri": "http://keys/jwks"}]});
    take(&index, "RequestAuthentication", "shop/jwt", "a", spec);
    let origins = index.read(|world, _| world.enforced().key_origins());
    let origin = KeyOrigin {
        namespace: "shop".into(),
        place: KeyPlace::Uri("http://keys/jwks".into()),
    };
    assert!(origins.contains_key(&origin), "{origins:?}");
    let keys = || {
        let tokens = sets(&index, ("shop", "web")).remove(0).tokens.unwrap();
        tokens.policies[0].rules[0].1.clone()
    };
    assert!(matches!(keys(), Jwks::Missing(_)));
    let known = Jwks::Known("{\"keys\": []}".into());
    let mut concerned = Changed::default();
    index.apply(|world, mesh| {
        concerned = world.keys(&origin, Some(known.clone()), &mesh.root_namespace);
        concerned.clone()
    });
    assert_eq!(keys(), known);
    assert!(concerned.touches(&Key::Enforced(named("shop", "web"))));
}

#[test]
fn a_change_concerns_the_pods_of_its_namespace_and_more_sets_than_there_may_be_are_left_out() {
    let index = pods();
    let changed = |key: &str| {
        let (namespace, name) = key.split_once('/').unwrap();
        let candidate = mesh_core::candidates::Candidacy {
            candidate: mesh_core::candidates::Candidate {
                set: "s".into(),
                replaces: None,
            },
            policy: policy(namespace, &[], Mode::Strict, &[]),
        };
        let mut changed = Changed::default();
        index.apply(|world, mesh| {
            changed = world.candidate_policy(&named(namespace, name), Some(candidate), &mesh.root_namespace);
            changed.clone()
        });
        let touched = PODS
            .iter()
            .filter(|(namespace, name, _)| changed.touches(&Key::Enforced(named(namespace, name))));
        (touched.count(), changed.all)
    };
    assert_eq!(changed("shop/a"), (2, false));
    assert_eq!(changed("shop/a"), (0, false), "the same again");
    assert_eq!(changed("istio-system/a"), (3, false));

    for at in 0..MOST_SETS + 2 {
        take(
            &index,
            "PeerAuthentication",
            &format!("bank/p{at}"),
            &format!("set-{at}"),
            strict(),
        );
    }
    let evaluated = sets(&index, ("bank", "web"));
    assert_eq!(evaluated.len(), MOST_SETS);
    assert_eq!(evaluated[0].name, "s");
    let labels = index.read(|world, _| world.pod_named(&named("bank", "web")).unwrap().labels.clone());
    let is = |set: &str| index.read(|world, mesh| is_evaluated(world, mesh, set, "bank", &labels));
    assert!(is("set-0") && !is("set-9"));
}
