//! Places, ranks, subsets and traffic of destinations.

use super::*;
use crate::index::resolve::Target;
use crate::index::{compile, places};
use mesh_api::DestinationRule;
use mesh_api::destination_rule;
use mesh_core::destination::Subset;
use mesh_core::traffic::{Balancer, Distribution, Locality};
use std::collections::BTreeSet;

fn node(name: &str, zone: &str) -> (Arc<str>, Locality) {
    let labels = [
        ("topology.kubernetes.io/region".to_owned(), "eu".to_owned()),
        ("topology.kubernetes.io/zone".to_owned(), zone.to_owned()),
        ("other".to_owned(), "x".to_owned()),
    ];
    (name.into(), places::of_node(&labels.into()).unwrap())
}

fn labelled(name: &str, address: &str, on: &str, labels: &[(&str, &str)]) -> PodRecord {
    let mut record = pod(name, &[address], "sa", true);
    record.node = Some(on.into());
    let pairs = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    record.labels.extend(pairs);
    record
}

fn rule(index: &Index, spec: serde_json::Value) {
    let resource: DestinationRule = destination_rule::read(json!({
        "metadata": {"name": "r", "namespace": "shop"}, "spec": spec
    }))
    .unwrap();
    let rule = destination_rule::parse(&resource).unwrap();
    index.apply(|world, mesh| world.destination_rule(&named("shop", "r"), Some(rule), &mesh.cluster_domain));
}

/// A Service with v1 in zone a, v2 in zone b, and a third pod, not ready, that says itself where it is.
fn placed() -> Index {
    let index = shop();
    let (a, b) = (node("n1", "a"), node("n2", "b"));
    index.apply(|world, _| world.set_node(&a.0, Some(a.1)));
    index.apply(|world, _| world.set_node(&b.0, Some(b.1)));
    for (name, record) in [
        ("one", labelled("one", "10.0.0.1", "n1", &[("version", "v1")])),
        ("two", labelled("two", "10.0.0.2", "n2", &[("version", "v2")])),
        (
            "three",
            labelled(
                "three",
                "10.0.0.3",
                "n1",
                &[("version", "v2"), ("istio-locality", "us.c.rack")],
            ),
        ),
    ] {
        index.apply(|world, _| world.pod(&named("shop", name), Some(record)));
    }
    index
}

/// The destination with subsets, as it is where routes lead to them.
fn with_subsets(index: &Index, names: &[&str]) -> Destination {
    index.read(|world, mesh| {
        let target = Target::Service {
            name: named("shop", "reviews"),
            port: 80,
        };
        let rules = compile::governing(world, mesh, &target, &named("shop", "client")).unwrap();
        let mut destination = compile::destination(world, mesh, &target, Some(rules)).unwrap();
        for name in names {
            let subset = compile::subset(world, mesh, &target, rules, name, &mut destination);
            destination.subsets.extend(subset);
        }
        destination
    })
}

fn places_of(destination: &Destination) -> Vec<String> {
    let place = |it: &mesh_core::destination::Endpoint| it.locality.as_deref().map(ToString::to_string);
    destination
        .endpoints
        .iter()
        .map(|it| place(it).unwrap_or_default())
        .collect()
}

#[test]
fn endpoints_are_where_their_nodes_are_or_where_they_say() {
    let index = placed();
    let asked = || places_of(&ask(&index, "host/reviews:80", "shop").unwrap());
    assert_eq!(asked(), ["eu/a", "eu/b"]);
    let own = |name: &str| {
        let encoded = index.workload(&named("shop", name)).unwrap();
        mesh_wire::convert::Workload::try_from(&wire::Workload::decode(encoded.body).unwrap()).unwrap()
    };
    let three = own("three");
    assert_eq!(three.locality.unwrap().to_string(), "us/c/rack");
    for (label, value) in [
        ("version", "v2"),
        ("topology.kubernetes.io/region", "us"),
        ("topology.istio.io/subzone", "rack"),
        ("kubernetes.io/hostname", "n1"),
        ("topology.istio.io/cluster", "Kubernetes"),
    ] {
        assert_eq!(three.labels.get(label).map(String::as_str), Some(value), "{label}");
    }

    // What a node says changes what is on it, and nothing else.
    let (name, moved) = node("n2", "z");
    let mut changed = None;
    index.apply(|world, _| {
        let touched = world.set_node(&name, Some(moved.clone()));
        changed = Some(touched.clone());
        touched
    });
    let changed = changed.unwrap();
    assert!(changed.touches(&Key::Service(named("shop", "reviews"))));
    assert!(changed.touches(&Key::Pod(named("shop", "two"))) && !changed.touches(&Key::Pod(named("shop", "one"))));
    assert_eq!(asked(), ["eu/a", "eu/z"]);
    index.apply(|world, _| {
        let same = world.set_node(&name, Some(moved));
        assert!(same.is_empty());
        world.set_node(&name, None)
    });
    assert_eq!(asked(), ["eu/a", ""]);
}

#[test]
fn subsets_have_the_endpoints_whose_pods_have_their_labels() {
    let index = placed();
    rule(
        &index,
        json!({
            "host": "reviews", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}, "tls": {"mode": "DISABLE"}},
            "subsets": [
                {"name": "v1", "labels": {"version": "v1"}},
                {"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": {
                    "loadBalancer": {"simple": "ROUND_ROBIN"}, "tls": {"mode": "ISTIO_MUTUAL"}}},
                {"name": "zone", "labels": {"topology.kubernetes.io/zone": "b"}},
                {"name": "all"}
            ]
        }),
    );
    let found = with_subsets(&index, &["v1", "v2", "zone", "all", "none"]);
    assert_eq!(found.traffic.balancer, Balancer::Random);
    assert_eq!(found.rule.as_deref(), Some("shop/r"));
    let seen: Vec<_> = found
        .subsets
        .iter()
        .map(|it| (&*it.name, it.endpoints.clone(), it.tls.as_ref().unwrap().tls.mode()))
        .collect();
    assert_eq!(
        seen,
        [
            ("v1", vec![0], "DISABLE"),
            ("v2", vec![1], "ISTIO_MUTUAL"),
            ("zone", vec![1], "DISABLE"),
            ("all", vec![0, 1], "DISABLE")
        ]
    );
    let balancers: BTreeSet<_> = found
        .subsets
        .iter()
        .filter(|it| it.traffic.balancer == Balancer::RoundRobin)
        .map(|it| &*it.name)
        .collect();
    assert_eq!(balancers, ["v2"].into());
    assert!(Arc::ptr_eq(&found.traffic, &found.subsets[0].traffic));

    // Where none is ready the subsets tell those that are not apart too.
    let endpoints = [("10.0.0.1", false, false), ("10.0.0.2", false, false)];
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), slice("http", &endpoints)));
    let found = with_subsets(&index, &["v2"]);
    let Subset { endpoints, unready, .. } = &found.subsets[0];
    assert_eq!((endpoints.as_slice(), unready.as_slice()), (&[][..], &[1][..]));
}

#[test]
fn a_subset_may_be_left_to_automatic_mutual_tls() {
    let index = placed();
    let left = json!({"portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}]});
    rule(
        &index,
        json!({
            "host": "reviews", "trafficPolicy": {"tls": {"mode": "DISABLE"}},
            "subsets": [{"name": "left", "trafficPolicy": left}, {"name": "same"}]
        }),
    );
    for (names, automatic) in [(&["same"][..], false), (&["same", "left"], true), (&[], false)] {
        let found = with_subsets(&index, names);
        assert_eq!(found.endpoints[0].mutual_tls, automatic, "{names:?}");
        assert!(found.tls.is_some(), "the rule decides for all others");
        for subset in &found.subsets {
            assert_eq!(subset.tls.is_none(), &*subset.name == "left");
        }
    }
}

#[test]
fn endpoints_on_their_nodes_network_are_of_subsets_too() {
    let index = placed();
    rule(
        &index,
        json!({"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
    );
    let mut record = labelled("host", "192.168.0.1", "n2", &[("version", "v1")]);
    record.host_addresses = std::mem::take(&mut record.addresses);
    record.injected = false;
    index.apply(|world, _| world.pod(&named("shop", "host"), Some(record)));
    let mut with = slice("http", &[("10.0.0.2", true, true), ("192.168.0.1", true, true)]).unwrap();
    with.endpoints[1].pod = Some(named("shop", "host"));
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), Some(with)));
    let found = with_subsets(&index, &["v1"]);
    assert_eq!(found.subsets[0].endpoints, [1]);
    assert_eq!(places_of(&found), ["eu/b", "eu/b"]);
}

#[test]
fn endpoints_have_the_values_of_the_labels_of_failover_priority() {
    let index = placed();
    let balancer = |labels: &[&str]| json!({"localityLbSetting": {"failoverPriority": labels}});
    let own = balancer(&["version=v1", "kubernetes.io/hostname"]);
    rule(
        &index,
        json!({
            "host": "reviews", "trafficPolicy": {"loadBalancer": own, "outlierDetection": {}},
            "subsets": [
                {"name": "same"},
                {"name": "other", "trafficPolicy": {"loadBalancer": balancer(&["app"])}}
            ]
        }),
    );
    let found = with_subsets(&index, &["same", "other"]);
    let ranks: Vec<Vec<&str>> = found
        .endpoints
        .iter()
        .map(|it| it.ranks.iter().map(|value| &**value).collect())
        .collect();
    assert_eq!(ranks, [["v1", "n1"], ["v2", "n2"]]);
    let priority = |at: usize| {
        let setting = found.subsets[at].traffic.locality.as_ref().unwrap();
        setting.failover_priority.len()
    };
    assert_eq!((priority(0), priority(1)), (2, 0));
}

#[test]
fn a_service_may_ask_for_what_is_near() {
    let index = placed();
    for (spec, annotation, expected) in [
        (None, None, Distribution::Any),
        (Some("PreferClose"), Some("PreferSameNode"), Distribution::SameZone),
        (None, Some("prefersamenode"), Distribution::SameNode),
        (Some("Unheard"), None, Distribution::Any),
    ] {
        let service: Service = serde_json::from_value(json!({
            "metadata": {
                "name": "reviews", "namespace": "shop",
                "annotations": annotation.map(|it| json!({"networking.istio.io/traffic-distribution": it})),
            },
            "spec": {"clusterIP": "10.96.0.1", "trafficDistribution": spec, "ports": [{"name": "http", "port": 80}]},
        }))
        .unwrap();
        index.apply(|world, _| world.service(&named("shop", "reviews"), ServiceRecord::new(&service)));
        let found = ask(&index, "host/reviews:80", "shop").unwrap();
        assert_eq!(found.traffic.locality, expected.setting(), "{spec:?} {annotation:?}");
        let ranked = found.endpoints[0].ranks.len();
        assert_eq!(ranked, expected.setting().map_or(0, |it| it.failover_priority.len()));
    }
}
