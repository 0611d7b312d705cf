//! The index, tested by feeding it Kubernetes' objects as the API server writes them.

mod candidates;
mod enforced;
mod places;
mod routes;
mod scopes;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mesh_core::destination::{Destination, Query, Resolution};
use mesh_core::destination_rule::Rule;
use mesh_core::identity::TrustDomain;
use mesh_core::labels::Selector;
use mesh_core::peer_authentication::{Mode, Policy};
use mesh_core::protocol::Declared;
use mesh_core::request::Normalization;
use mesh_wire::convert::AccessLog;
use mesh_wire::query;
use mesh_wire::resources as wire;
use prost::Message;
use serde_json::json;

use super::changes::Key;
use super::records::{PodRecord, ServiceRecord, SliceRecord};
use super::resolve::{depends_on, named};
use super::{Changed, Index, MeshFacts};
use crate::metrics::Metrics;

fn index() -> Index {
    let mesh = MeshFacts {
        trust_domain: TrustDomain::new("cluster.local").unwrap(),
        aliases: Vec::new(),
        providers: mesh_core::ext_authz::Providers::new(),
        root_namespace: "istio-system".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        auto_mtls: true,
        allow_any: true,
        access_log: AccessLog::default(),
        paths: Normalization::Base,
        trusted_proxies: 0,
        traffic: mesh_core::traffic::MeshDefaults::default(),
        roots: Vec::new(),
    };
    Index::new(mesh, Arc::new(Metrics::new()))
}

fn pod(name: &str, addresses: &[&str], account: &str, injected: bool) -> PodRecord {
    let mut labels = json!({"app": name});
    if injected {
        labels["security.istio.io/tlsMode"] = "istio".into();
    }
    let ips: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "app"}],
            "initContainers": if injected { json!([{"name": "istio-proxy"}]) } else { json!([]) },
            "volumes": [{"name": "istio-certs"}],
        },
        "status": {"phase": "Running", "podIPs": ips},
    }))
    .unwrap();
    PodRecord::new(&pod)
}

fn service(addresses: &[&str], port: u16, name: &str) -> Option<ServiceRecord> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "reviews", "namespace": "shop"},
        "spec": {"clusterIP": addresses[0], "clusterIPs": addresses, "ports": [
            {"name": name, "port": port, "targetPort": 8080},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]},
    }))
    .unwrap();
    ServiceRecord::new(&service)
}

fn slice(port_name: &str, endpoints: &[(&str, bool, bool)]) -> Option<SliceRecord> {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(ip, ready, serving)| json!({"addresses": [ip], "conditions": {"ready": ready, "serving": serving}}))
        .collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "reviews-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "reviews"}},
        "addressType": "IPv4",
        "ports": [{"name": port_name, "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .unwrap();
    SliceRecord::new(&slice)
}

fn policy(namespace: &str, selector: &[(&str, &str)], mode: Mode, ports: &[(u16, Mode)]) -> Policy {
    Policy {
        namespace: namespace.to_owned(),
        name: "p".to_owned(),
        created: 1,
        selector: Selector(
            selector
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        ),
        mode,
        ports: ports.iter().copied().collect(),
    }
}

/// An index with a Service of one port and two pods, the first injected.
fn shop() -> Index {
    let index = index();
    index.apply(|world, _| {
        world.pod(
            &named("shop", "one"),
            Some(pod("one", &["10.0.0.1", "fd00::1"], "sa", true)),
        )
    });
    index.apply(|world, _| world.pod(&named("shop", "two"), Some(pod("two", &["10.0.0.2"], "default", false))));
    index.apply(|world, _| {
        world.service(
            &named("shop", "reviews"),
            service(&["10.96.0.1", "fd00:96::1"], 80, "http"),
        )
    });
    let endpoints = [
        ("10.0.0.1", true, true),
        ("10.0.0.2", true, true),
        ("10.0.0.3", false, true),
    ];
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), slice("http", &endpoints)));
    index
}

fn ask(index: &Index, name: &str, namespace: &str) -> Option<Destination> {
    let encoded = index
        .destination(&query::parse(name).unwrap(), &named(namespace, "client"))
        .encoded?;
    let message = wire::Destination::decode(encoded.body).unwrap();
    Some(Destination::try_from(&message).unwrap())
}

#[test]
fn every_name_and_address_of_a_service_means_the_same_bytes() {
    let index = shop();
    let get = |name: &str, namespace: &str| {
        index
            .destination(&query::parse(name).unwrap(), &named(namespace, "client"))
            .encoded
    };
    let first = get("host/reviews:80", "shop").unwrap();
    for (name, namespace) in [
        ("host/reviews.shop:80", "other"),
        ("host/reviews.shop.svc:80", "other"),
        ("host/reviews.shop.svc.cluster.local:80", "other"),
        ("addr/10.96.0.1:80", "other"),
        ("addr/[fd00:96::1]:80", "other"),
    ] {
        let same = get(name, namespace).unwrap();
        assert_eq!(same, first, "{name}");
        assert_eq!(same.body.as_ptr(), first.body.as_ptr(), "{name} is encoded once");
    }
    for (name, namespace) in [
        ("host/reviews:80", "other"),
        ("host/reviews:81", "shop"),
        ("host/reviews.shop:53", "shop"),
        ("host/one.reviews.shop.svc:80", "shop"),
        ("host/example.com:80", "shop"),
        ("addr/10.96.0.1:81", "shop"),
        ("addr/10.0.0.9:80", "shop"),
    ] {
        assert_eq!(get(name, namespace), None, "{name}");
    }
}

#[test]
fn endpoints_carry_identity_and_mutual_tls_of_their_pods() {
    let found = ask(&shop(), "host/reviews:80", "shop").unwrap();
    assert_eq!(
        (&*found.host, found.protocol),
        ("reviews.shop.svc.cluster.local", Declared::Http)
    );
    assert_eq!(found.resolution, Resolution::Balanced);
    let summary: Vec<_> = found
        .endpoints
        .iter()
        .map(|e| {
            (
                e.address.to_string(),
                e.mutual_tls,
                e.identity.as_ref().map(ToString::to_string),
            )
        })
        .collect();
    let sa = "spiffe://cluster.local/ns/shop/sa/sa".to_owned();
    assert_eq!(
        summary,
        [
            ("10.0.0.1:8080".to_owned(), true, Some(sa.clone())),
            ("10.0.0.2:8080".to_owned(), false, None)
        ]
    );
    assert_eq!(
        found.identities.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [sa]
    );
}

#[test]
fn policies_decide_mutual_tls_by_the_workloads_port() {
    let cases = [
        ("istio-system", vec![], Mode::Disable, vec![], false),
        ("istio-system", vec![("app", "one")], Mode::Disable, vec![], true),
        ("shop", vec![], Mode::Disable, vec![], false),
        ("other", vec![], Mode::Disable, vec![], true),
        (
            "shop",
            vec![("app", "one")],
            Mode::Strict,
            vec![(8080, Mode::Disable)],
            false,
        ),
        (
            "shop",
            vec![("app", "one")],
            Mode::Disable,
            vec![(8080, Mode::Strict)],
            true,
        ),
        ("shop", vec![("app", "two")], Mode::Disable, vec![], true),
        // The Service's port is not the workload's.
        (
            "shop",
            vec![("app", "one")],
            Mode::Strict,
            vec![(80, Mode::Disable)],
            true,
        ),
    ];
    for (namespace, selector, mode, ports, mutual_tls) in cases {
        let index = shop();
        ask(&index, "host/reviews:80", "shop").unwrap();
        let policy = policy(namespace, &selector, mode, &ports);
        index.apply(|world, mesh| world.policy(&named(namespace, "p"), Some(policy.clone()), &mesh.root_namespace));
        let found = ask(&index, "host/reviews:80", "shop").unwrap();
        assert_eq!(found.endpoints[0].mutual_tls, mutual_tls, "{policy:?}");
    }
}

#[test]
fn a_pods_address_means_that_pod() {
    let index = shop();
    for (name, mutual_tls) in [
        ("addr/10.0.0.1:8080", true),
        ("addr/[fd00::1]:9", true),
        ("addr/10.0.0.2:8080", false),
    ] {
        let found = ask(&index, name, "anywhere").unwrap();
        assert_eq!(found.resolution, Resolution::OriginalDestination);
        assert_eq!(
            (found.endpoints.len(), found.endpoints[0].mutual_tls),
            (1, mutual_tls),
            "{name}"
        );
    }
    assert_eq!(ask(&index, "addr/10.0.0.1:8080", "x").unwrap().protocol, Declared::Http);
    assert_eq!(ask(&index, "addr/10.0.0.1:9", "x").unwrap().protocol, Declared::Detect);
}

#[test]
fn names_have_the_addresses_that_dns_gives() {
    let index = shop();
    let addresses = |name: &str, namespace: &str| -> Vec<String> {
        let found = ask(&index, name, namespace)
            .map(|found| found.endpoints)
            .unwrap_or_default();
        found.iter().map(|endpoint| endpoint.address.ip().to_string()).collect()
    };
    for (name, namespace) in [
        ("dns/reviews", "shop"),
        ("dns/reviews.shop", "other"),
        ("dns/reviews.shop.svc", "other"),
        ("dns/reviews.shop.svc.cluster.local", "other"),
    ] {
        assert_eq!(addresses(name, namespace), ["10.96.0.1", "fd00:96::1"], "{name}");
    }
    for (name, namespace) in [
        ("dns/reviews", "other"),
        ("dns/one.reviews.shop.svc.cluster.local", "shop"),
        ("dns/www.example.com", "shop"),
    ] {
        assert!(ask(&index, name, namespace).is_none(), "{name}");
    }

    // A headless Service's name has its ready pods' addresses, and each of them that has a hostname a name of its own.
    let headless: Service = serde_json::from_value(json!({
        "metadata": {"name": "reviews", "namespace": "shop"},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    }))
    .unwrap();
    index.apply(|world, _| world.service(&named("shop", "reviews"), ServiceRecord::new(&headless)));
    let endpoint = |ip: &str, hostname: &str, ready: bool| json!({"addresses": [ip], "hostname": hostname, "conditions": {"ready": ready}});
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "reviews-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "reviews"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [endpoint("10.0.0.1", "db-0", true), endpoint("10.0.0.2", "db-1", true), endpoint("10.0.0.3", "db-2", false)],
    }))
    .unwrap();
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), SliceRecord::new(&slice)));
    assert_eq!(addresses("dns/reviews", "shop"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(
        addresses("dns/db-1.reviews.shop.svc.cluster.local", "other"),
        ["10.0.0.2"]
    );
    assert!(addresses("dns/db-2.reviews.shop.svc.cluster.local", "other").is_empty());
    assert!(addresses("dns/db-7.reviews.shop.svc.cluster.local", "other").is_empty());
    let query = query::parse("dns/reviews.shop").unwrap();
    let depends = depends_on(&query, "other", "cluster.local");
    assert!(depends.contains(&Key::Service(named("shop", "reviews"))), "{depends:?}");
}

#[test]
fn a_headless_service_answers_to_its_pods_ports_and_names() {
    let index = shop();
    index.apply(|world, _| world.service(&named("shop", "reviews"), service(&["None"], 80, "http")));
    for name in [
        "host/reviews:8080",
        "host/reviews:80",
        "host/one.reviews.shop.svc.cluster.local:8080",
    ] {
        let found = ask(&index, name, "shop").unwrap();
        assert_eq!(found.resolution, Resolution::OriginalDestination, "{name}");
        assert_eq!(found.endpoints.len(), 2, "{name}");
    }
}

#[test]
fn endpoints_that_go_away_serve_while_none_is_ready() {
    let index = shop();
    let endpoints = [("10.0.0.1", false, true), ("10.0.0.2", false, false)];
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), slice("http", &endpoints)));
    let found = ask(&index, "host/reviews:80", "shop").unwrap();
    assert_eq!(
        found
            .endpoints
            .iter()
            .map(|e| e.address.to_string())
            .collect::<Vec<_>>(),
        ["10.0.0.1:8080"]
    );
}

#[test]
fn endpoints_that_are_not_ready_are_told_where_none_is() {
    let index = shop();
    let mut record = slice("http", &[("10.0.0.1", false, false), ("10.0.0.2", false, false)]).unwrap();
    record.endpoints[1].terminating = true;
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), Some(record.clone())));
    let unready = || {
        let found = ask(&index, "host/reviews:80", "shop").unwrap();
        let list = |endpoints: &[mesh_core::destination::Endpoint]| {
            endpoints.iter().map(|e| e.address.to_string()).collect::<Vec<_>>()
        };
        (list(&found.endpoints), list(&found.unready))
    };
    assert_eq!(unready(), (vec![], vec!["10.0.0.1:8080".to_owned()]));
    record.endpoints[1].ready = true;
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), Some(record.clone())));
    assert_eq!(unready(), (vec!["10.0.0.2:8080".to_owned()], vec![]));
}

#[test]
fn a_server_may_have_the_identity_of_an_alias() {
    let index = shop();
    let mut mesh = index.read(|_, mesh| mesh.clone());
    mesh.aliases = vec![TrustDomain::new("old.example").unwrap()];
    index.set_mesh(mesh);
    let found = ask(&index, "host/reviews:80", "shop").unwrap();
    let identities: Vec<_> = found.identities.iter().map(ToString::to_string).collect();
    assert_eq!(
        identities,
        [
            "spiffe://cluster.local/ns/shop/sa/sa",
            "spiffe://old.example/ns/shop/sa/sa"
        ]
    );
}

#[test]
fn a_change_touches_what_depends_on_it_and_nothing_else() {
    let index = shop();
    let touched = |event: &dyn Fn(&mut super::World) -> Changed| {
        let mut seen = Changed::default();
        index.apply(|world, _| {
            seen = event(world);
            seen.clone()
        });
        seen
    };
    let host = query::parse("host/reviews:80").unwrap();
    let vip = query::parse("addr/10.96.0.1:80").unwrap();
    let direct = query::parse("addr/10.0.0.1:8080").unwrap();
    let other = query::parse("host/ratings:80").unwrap();
    let reaches = |changed: &Changed, query: &Query| {
        depends_on(query, "shop", "cluster.local")
            .iter()
            .any(|key| changed.touches(key))
    };

    let same = touched(&|world| {
        world.pod(
            &named("shop", "one"),
            Some(pod("one", &["10.0.0.1", "fd00::1"], "sa", true)),
        )
    });
    assert!(same.is_empty(), "the same object again is no change");
    let mut told = pod("one", &["10.0.0.1", "fd00::1"], "sa", true);
    told.told_serial = Some("1".into());
    assert!(touched(&|world| world.pod(&named("shop", "one"), Some(told.clone()))).is_empty());

    let relabelled = touched(&|world| world.pod(&named("shop", "one"), Some(pod("one", &["10.0.0.1"], "other", true))));
    for query in [&host, &vip, &direct] {
        assert!(reaches(&relabelled, query), "{query:?}");
    }
    assert!(!reaches(&relabelled, &other));
    assert!(relabelled.touches(&Key::Pod(named("shop", "one"))));
    assert!(!relabelled.touches(&Key::Pod(named("shop", "two"))));

    let made = touched(&|world| world.service(&named("shop", "ratings"), service(&["10.96.0.2"], 80, "http")));
    assert!(
        reaches(&made, &other) && !reaches(&made, &host),
        "what was unknown is told of when it appears"
    );

    let gone = touched(&|world| world.service(&named("shop", "reviews"), None));
    assert!(reaches(&gone, &host) && reaches(&gone, &vip));
    assert_eq!(ask(&index, "host/reviews:80", "shop"), None);
}

#[test]
fn an_address_that_was_taken_over_belongs_to_the_new_pod() {
    let index = index();
    index.apply(|world, _| world.pod(&named("shop", "old"), Some(pod("old", &["10.0.0.1"], "old", true))));
    index.apply(|world, _| world.pod(&named("shop", "new"), Some(pod("new", &["10.0.0.1"], "new", true))));
    index.apply(|world, _| world.pod(&named("shop", "old"), None));
    let found = ask(&index, "addr/10.0.0.1:80", "shop").unwrap();
    assert_eq!(found.identities[0].service_account(), "new");
}

#[test]
fn a_finished_pod_has_no_address_and_needs_no_certificate() {
    let mut finished: Pod = serde_json::from_value(json!({
        "metadata": {"name": "job", "namespace": "shop", "annotations": {"sidecar.istio.io/status": "{}"}},
        "spec": {"containers": []},
        "status": {"phase": "Succeeded", "podIP": "10.0.0.1"},
    }))
    .unwrap();
    let record = PodRecord::new(&finished);
    assert!(record.addresses.is_empty() && !record.uses_certificate);
    assert_eq!(
        &*record.service_account, "default",
        "a pod without serviceAccountName runs as default"
    );
    finished.status.as_mut().unwrap().phase = Some("Running".to_owned());
    assert!(PodRecord::new(&finished).uses_certificate);
}

#[test]
fn the_pods_own_resources_say_what_services_declare() {
    let index = shop();
    let encoded = index.workload(&named("shop", "one")).unwrap();
    let workload = mesh_wire::convert::Workload::try_from(&wire::Workload::decode(encoded.body).unwrap()).unwrap();
    assert_eq!(
        (workload.service_account.as_str(), workload.canonical_name.as_str()),
        ("sa", "one")
    );
    assert_eq!(workload.ports.get(&8080), Some(&Declared::Http));
    assert!(index.inbound(&named("shop", "one")).is_some());
    assert_eq!(index.workload(&named("shop", "none")), None);
    assert_eq!(index.trust_bundle(), None, "no roots, no bundle");
}

#[test]
fn users_of_a_certificate_are_known_by_their_account() {
    let index = shop();
    let users = |account: &str| {
        index.read(|world, _| {
            world
                .users(&named("shop", account))
                .map(|(name, _)| name.to_string())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(users("sa"), ["one"]);
    assert!(
        users("default").is_empty(),
        "a volume of that name without a sidecar is no use"
    );
    index.apply(|world, _| world.pod(&named("shop", "one"), None));
    assert!(users("sa").is_empty());
}

#[test]
fn an_endpoint_waits_for_its_pod() {
    let index = index();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "reviews-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "reviews"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "one"}},
            {"addresses": ["172.30.0.2"], "targetRef": {"kind": "Pod", "name": "node-agent"}},
            {"addresses": ["10.9.9.9"]},
        ],
    }))
    .unwrap();
    index.apply(|world, _| world.service(&named("shop", "reviews"), service(&["10.96.0.1"], 80, "http")));
    index.apply(|world, _| world.slice(&named("shop", "reviews-1"), SliceRecord::new(&slice)));
    let endpoints = || {
        let found = ask(&index, "host/reviews:80", "shop").unwrap();
        found
            .endpoints
            .iter()
            .map(|e| (e.address.ip().to_string(), e.mutual_tls))
            .collect::<Vec<_>>()
    };
    // Only what is no pod is called in the clear before the pods are known.
    assert_eq!(endpoints(), [("10.9.9.9".to_owned(), false)]);

    let on_host: Pod = serde_json::from_value(json!({
        "metadata": {"name": "node-agent", "namespace": "shop"},
        "spec": {"hostNetwork": true, "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": "172.30.0.2"}]},
    }))
    .unwrap();
    for (name, record) in [
        ("one", pod("one", &["10.0.0.1"], "sa", true)),
        ("node-agent", PodRecord::new(&on_host)),
    ] {
        let mut changed = Changed::default();
        index.apply(|world, _| {
            changed = world.pod(&named("shop", name), Some(record));
            changed.clone()
        });
        assert!(changed.keys.contains(&Key::Service(named("shop", "reviews"))), "{name}");
    }
    let ours = [
        ("10.0.0.1".to_owned(), true),
        ("10.9.9.9".to_owned(), false),
        ("172.30.0.2".to_owned(), false),
    ];
    assert_eq!(endpoints(), ours);
}

#[test]
fn a_peer_is_described_by_its_address() {
    let index = shop();
    let peer = ask(&index, "peer/10.0.0.1", "other").unwrap();
    let workload = &peer.endpoints[0].workload;
    assert_eq!(
        (
            &*workload.name,
            &*workload.namespace,
            &*workload.app,
            &*workload.cluster
        ),
        ("one", "shop", "one", "Kubernetes")
    );
    assert_eq!((&*workload.canonical_revision, &*workload.version), ("latest", ""));
    assert_eq!(ask(&index, "peer/10.96.0.1", "other"), None, "a Service is no peer");
    let keys = depends_on(&query::parse("peer/10.0.0.1").unwrap(), "other", "cluster.local");
    assert_eq!(keys, [Key::Address("10.0.0.1".parse().unwrap())]);
}

#[test]
fn a_pod_knows_the_services_of_its_ports() {
    let index = shop();
    let encoded = index.workload(&named("shop", "one")).unwrap();
    let workload = mesh_wire::convert::Workload::try_from(&wire::Workload::decode(encoded.body).unwrap()).unwrap();
    assert_eq!(&*workload.services[&8080], "reviews.shop.svc.cluster.local");
    assert_eq!(&*workload.metadata.name, "one");
}

fn destination_rule(key: &str, host: &str, policy: serde_json::Value) -> Rule {
    let (namespace, name) = key.split_once('/').unwrap();
    let resource = mesh_api::destination_rule::read(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"host": host, "trafficPolicy": policy},
    }));
    mesh_api::destination_rule::parse(&resource.unwrap()).unwrap()
}

fn put(index: &Index, rule: Rule) {
    let name = (rule.namespace.clone(), rule.name.clone());
    index.apply(|world, mesh| world.destination_rule(&name, Some(rule), &mesh.cluster_domain));
}

/// The rule and mode of a destination, and which of its endpoints are called under the mesh's mutual TLS.
fn secured(index: &Index, name: &str, namespace: &str) -> (String, Vec<bool>) {
    let found = ask(index, name, namespace).unwrap();
    let rule = found
        .tls
        .as_ref()
        .map_or("automatic".to_owned(), |tls| format!("{} {}", tls.rule, tls.tls));
    (
        rule,
        found.endpoints.iter().map(|endpoint| endpoint.mutual_tls).collect(),
    )
}

#[test]
fn destination_rules_are_compiled_for_the_clients_that_they_govern() {
    let index = shop();
    let is = |name: &str, namespace: &str, rule: &str, mutual: [bool; 2]| {
        assert_eq!(
            secured(&index, name, namespace),
            (rule.to_owned(), mutual.to_vec()),
            "{name} from {namespace}"
        );
    };
    is("host/reviews.shop:80", "other", "automatic", [true, false]);
    put(
        &index,
        destination_rule("istio-system/all", "*.local", json!({"tls": {"mode": "ISTIO_MUTUAL"}})),
    );
    is(
        "host/reviews.shop:80",
        "other",
        "istio-system/all ISTIO_MUTUAL",
        [true, true],
    );
    put(
        &index,
        destination_rule(
            "other/own",
            "reviews.shop.svc.cluster.local",
            json!({"tls": {"mode": "SIMPLE"}}),
        ),
    );
    is("host/reviews.shop:80", "other", "other/own SIMPLE", [false, false]);
    is("addr/10.96.0.1:80", "other", "other/own SIMPLE", [false, false]);
    is("host/reviews:80", "shop", "istio-system/all ISTIO_MUTUAL", [true, true]);
    // A port's settings stand alone: without TLS in them it is automatic again.
    let of_ports = json!({"tls": {"mode": "DISABLE"}, "portLevelSettings": [
        {"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}
    ]});
    put(&index, destination_rule("shop/own", "reviews", of_ports));
    is("host/reviews:80", "shop", "automatic", [true, false]);
    // A pod that is called by its own address is no Service's.
    is_automatic(&index, "addr/10.0.0.1:8080");
    // Without a rule that says anything of TLS, the bytes are the same for everybody for whom the same rules count.
    let bytes = |namespace: &str| {
        let query = query::parse("host/reviews.shop:80").unwrap();
        index
            .destination(&query, &named(namespace, "client"))
            .encoded
            .unwrap()
            .body
    };
    assert_eq!(bytes("third").as_ptr(), bytes("fourth").as_ptr());
}

#[track_caller]
fn is_automatic(index: &Index, name: &str) {
    assert_eq!(
        secured(index, name, "shop"),
        ("automatic".to_owned(), vec![true]),
        "{name}"
    );
}

#[test]
fn a_change_of_a_destination_rule_touches_the_services_that_it_names() {
    let index = shop();
    let touched = |rule: Option<Rule>| {
        let mut changed = Changed::default();
        index.apply(|world, mesh| {
            changed = world.destination_rule(&named("shop", "r"), rule, &mesh.cluster_domain);
            changed.clone()
        });
        (
            changed.touches(&Key::Service(named("shop", "reviews"))),
            changed.touches(&Key::Address("10.96.0.1".parse().unwrap())),
        )
    };
    let rule = |host: &str, mode: &str| Some(destination_rule("shop/r", host, json!({"tls": {"mode": mode}})));
    assert_eq!(touched(rule("ratings", "DISABLE")), (false, false));
    assert_eq!(touched(rule("reviews", "DISABLE")), (true, true));
    assert_eq!(secured(&index, "host/reviews:80", "shop").0, "shop/r DISABLE");
    assert_eq!(touched(rule("reviews", "DISABLE")), (false, false), "nothing changed");
    assert_eq!(touched(rule("*.shop.svc.cluster.local", "SIMPLE")), (true, true));
    assert_eq!(secured(&index, "host/reviews:80", "shop").0, "shop/r SIMPLE");
    // What it named before is touched too.
    assert_eq!(touched(rule("*.other.svc.cluster.local", "SIMPLE")), (true, true));
    assert_eq!(touched(rule("*.local", "SIMPLE")), (true, true));
    assert_eq!(touched(None), (true, true));
    assert_eq!(secured(&index, "host/reviews:80", "shop").0, "automatic");
}

#[test]
fn a_workload_selector_selects_clients_by_their_pods() {
    let index = shop();
    let mut rule = destination_rule("shop/selected", "reviews", json!({"tls": {"mode": "DISABLE"}}));
    rule.selector = Some(Selector([("app".to_owned(), "one".to_owned())].into()));
    put(&index, rule);
    let under = |client: &str| {
        let query = query::parse("host/reviews:80").unwrap();
        let encoded = index.destination(&query, &named("shop", client)).encoded.unwrap();
        let found = Destination::try_from(&wire::Destination::decode(encoded.body).unwrap()).unwrap();
        found.tls.map(|tls| tls.rule.to_string())
    };
    assert_eq!(under("one").as_deref(), Some("shop/selected"));
    assert_eq!(under("two"), None);
    assert_eq!(under("unknown"), None);
}
