//! Routes of VirtualServices, as clients get them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mesh_core::destination::Destination;
use mesh_core::routing::{Action, InSubset, Leads, Routes, Target, Weighted};
use mesh_wire::query;
use mesh_wire::resources as wire;
use prost::Message;
use serde_json::{Value, json};

use super::index;
use crate::index::changes::{Changed, Key, Named};
use crate::index::records::{PodRecord, ServiceRecord, SliceRecord};
use crate::index::resolve::{depends_on, named};
use crate::index::{Found, Index};

/// Makes or changes a Service of a namespace with one port, 80, and its pods: name, address and version.
pub(super) fn deploy(index: &Index, key: &str, address: &str, pods: &[(&str, &str, &str)]) -> Changed {
    let name = key_of(key);
    let mut changed = Changed::default();
    for (pod, ip, version) in pods {
        changed.merge(run(index, &format!("{}/{pod}", name.0), ip, &[("version", version)]));
    }
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": &*name.1, "namespace": &*name.0},
        "spec": {"clusterIP": address, "ports": [{"name": "http", "port": 80}]},
    }))
    .unwrap();
    changed.merge(apply(index, |world| world.service(&name, ServiceRecord::new(&service))));
    let endpoints: Vec<_> = pods
        .iter()
        .map(|(pod, ip, _)| json!({"addresses": [ip], "targetRef": {"kind": "Pod", "name": pod}}))
        .collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": &*name.1, "namespace": &*name.0, "labels": {"kubernetes.io/service-name": &*name.1}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints,
    }))
    .unwrap();
    changed.merge(apply(index, |world| world.slice(&name, SliceRecord::new(&slice))));
    changed
}

pub(super) fn run(index: &Index, key: &str, ip: &str, labels: &[(&str, &str)]) -> Changed {
    let name = key_of(key);
    let labels: std::collections::BTreeMap<_, _> = labels.iter().copied().collect();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": &*name.1, "namespace": &*name.0, "labels": labels},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    }))
    .unwrap();
    apply(index, |world| world.pod(&name, Some(PodRecord::new(&pod))))
}

pub(super) fn apply(index: &Index, event: impl FnOnce(&mut crate::index::World) -> Changed) -> Changed {
    let mut seen = Changed::default();
    index.apply(|world, _| {
        seen = event(world);
        seen.clone()
    });
    seen
}

pub(super) fn key_of(key: &str) -> Named {
    let (namespace, name) = key.split_once('/').unwrap();
    named(namespace, name)
}

/// Puts a VirtualService into the index; `age` is a day of January, and the older prevails.
pub(super) fn route(index: &Index, key: &str, age: u8, spec: Value) -> Changed {
    let name = key_of(key);
    let resource = mesh_api::virtual_service::read(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": &*name.1, "namespace": &*name.0, "creationTimestamp": format!("2026-01-{age:02}T00:00:00Z")},
        "spec": spec,
    }));
    let parsed = mesh_api::virtual_service::parse(&resource.unwrap()).unwrap();
    apply(index, |world| {
        world.virtual_service(&name, Some(parsed), "cluster.local")
    })
}

fn remove(index: &Index, key: &str) -> Changed {
    apply(index, |world| {
        world.virtual_service(&key_of(key), None, "cluster.local")
    })
}

/// Puts a DestinationRule with a subset for each of these versions into the index.
fn subsets(index: &Index, key: &str, host: &str, versions: &[&str]) -> Changed {
    let name = key_of(key);
    let subsets: Vec<_> = versions
        .iter()
        .map(|version| json!({"name": version, "labels": {"version": version}}))
        .collect();
    let resource = mesh_api::destination_rule::read(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": &*name.1, "namespace": &*name.0, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"host": host, "subsets": subsets},
    }));
    let rule = mesh_api::destination_rule::parse(&resource.unwrap()).unwrap();
    apply(index, |world| {
        world.destination_rule(&name, Some(rule), "cluster.local")
    })
}

/// `reviews` with two versions, and `ratings`, in `shop`.
pub(super) fn shop() -> Index {
    let index = index();
    deploy(
        &index,
        "shop/reviews",
        "10.96.0.1",
        &[("r1", "10.0.0.1", "v1"), ("r2", "10.0.0.2", "v2")],
    );
    deploy(&index, "shop/ratings", "10.96.0.2", &[("a1", "10.0.1.1", "v1")]);
    index
}

fn found(index: &Index, name: &str, client: &str) -> Found {
    index.destination(&query::parse(name).unwrap(), &key_of(client))
}

pub(super) fn ask(index: &Index, name: &str, client: &str) -> Option<Destination> {
    let encoded = found(index, name, client).encoded?;
    Some(Destination::try_from(&wire::Destination::decode(encoded.body).unwrap()).unwrap())
}

fn routes(index: &Index, name: &str, client: &str) -> Arc<Routes> {
    ask(index, name, client).unwrap().routes.unwrap_or_default()
}

/// The addresses to which a target leads.
fn addresses(destination: &Destination, target: Target) -> String {
    let routes = destination.routes.as_ref().unwrap();
    let to = match target.leads {
        Leads::Own => destination,
        Leads::Other(at) => &routes.destinations[at as usize],
        Leads::Nowhere => return "nowhere".to_owned(),
    };
    let endpoints: Vec<_> = match target.subset {
        InSubset::All => to.endpoints.iter().collect(),
        InSubset::Of(at) => {
            let members = &to.subsets[at as usize].endpoints;
            members.iter().map(|at| &to.endpoints[*at as usize]).collect()
        }
        InSubset::Unknown => return "unknown subset".to_owned(),
    };
    let addresses = endpoints.iter().map(|endpoint| endpoint.address.ip().to_string());
    addresses.collect::<Vec<_>>().join(",")
}

/// Where each route leads, with its weight.
pub(super) fn leads(index: &Index, name: &str, client: &str) -> Vec<String> {
    let destination = ask(index, name, client).unwrap();
    let Some(routes) = &destination.routes else {
        return vec!["itself".to_owned()];
    };
    let forward = |to: &[Weighted]| {
        let one = |to: &Weighted| format!("{}:{}", to.weight, addresses(&destination, to.target));
        to.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let http = routes.http.iter().map(|route| match &route.action {
        Action::Forward { to, .. } => forward(to),
        Action::Redirect(_) => "redirect".to_owned(),
        Action::Direct(direct) => format!("direct {}", direct.status),
    });
    let tcp = routes.tcp.iter().map(|route| format!("tcp {}", forward(&route.to)));
    http.chain(tcp).collect()
}

fn to(host: &str, subset: &str, weight: u32) -> Value {
    let mut destination = json!({"host": host});
    if !subset.is_empty() {
        destination["subset"] = subset.into();
    }
    json!({"destination": destination, "weight": weight})
}

fn canary(v1: u32, v2: u32) -> Value {
    json!({"hosts": ["reviews"], "http": [{"route": [to("reviews", "v1", v1), to("reviews", "v2", v2)]}]})
}

#[test]
fn a_canary_in_any_order() {
    let changes: [fn(&Index) -> Changed; 2] = [
        |index| route(index, "shop/canary", 1, canary(90, 10)),
        |index| subsets(index, "shop/reviews", "reviews", &["v1", "v2"]),
    ];
    for order in [[0, 1], [1, 0]] {
        let index = shop();
        assert_eq!(leads(&index, "host/reviews:80", "shop/web"), ["itself"]);
        for change in order {
            let before = found(&index, "host/reviews:80", "shop/web");
            let changed = changes[change](&index);
            assert!(changed.touches(&Key::Service(named("shop", "reviews"))));
            let after = found(&index, "host/reviews:80", "shop/web");
            // A DestinationRule whose subsets no route names changes nothing.
            assert_eq!(before == after, order == [1, 0] && change == 1);
        }
        assert_eq!(
            leads(&index, "host/reviews:80", "shop/web"),
            ["90:10.0.0.1 10:10.0.0.2"]
        );
        let of_address = found(&index, "addr/10.96.0.1:80", "shop/web");
        assert_eq!(of_address, found(&index, "host/reviews:80", "shop/web"));
        let destination = ask(&index, "host/reviews:80", "shop/web").unwrap();
        let routes = destination.routes.unwrap();
        assert_eq!(routes.sources, ["shop/canary".into()]);
        let Action::Forward { to, .. } = &routes.http[0].action else {
            panic!()
        };
        assert_eq!(&*to[1].cluster, "outbound|80|v2|reviews.shop.svc.cluster.local");
        let changed = remove(&index, "shop/canary");
        assert!(changed.touches(&Key::Address("10.96.0.1".parse().unwrap())));
        assert_eq!(leads(&index, "host/reviews:80", "shop/web"), ["itself"]);
    }
}

#[test]
fn what_is_not_there_is_told() {
    let index = shop();
    route(&index, "shop/canary", 1, canary(90, 10));
    assert_eq!(
        leads(&index, "host/reviews:80", "shop/web"),
        ["90:unknown subset 10:unknown subset"]
    );
    subsets(&index, "shop/reviews", "reviews", &["v1", "v3"]);
    assert_eq!(
        leads(&index, "host/reviews:80", "shop/web"),
        ["90:10.0.0.1 10:unknown subset"]
    );
    let spec = json!({"hosts": ["reviews"], "http": [
        {"match": [{"uri": {"prefix": "/a"}}], "route": [to("reviews", "v3", 1)]},
        {"match": [{"uri": {"prefix": "/b"}}], "route": [to("nobody", "", 1)]},
        {"route": [{"destination": {"host": "ratings", "port": {"number": 81}}}]},
    ]});
    route(&index, "shop/canary", 1, spec);
    assert_eq!(
        leads(&index, "host/reviews:80", "shop/web"),
        ["1:", "1:nowhere", "0:nowhere"]
    );
    let found = found(&index, "host/reviews:80", "shop/web");
    for service in ["reviews", "nobody", "ratings"] {
        assert!(
            found.dependencies.contains(&Key::Service(named("shop", service))),
            "{service}"
        );
    }
    deploy(&index, "shop/nobody", "10.96.0.9", &[("n", "10.0.9.1", "v1")]);
    assert_eq!(leads(&index, "host/reviews:80", "shop/web")[1], "1:10.0.9.1");
}

#[test]
fn clients_for_whom_the_same_counts_share_the_bytes() {
    let index = shop();
    for (pod, ip, app) in [
        ("w1", "10.0.2.1", "web"),
        ("w2", "10.0.2.2", "web"),
        ("t", "10.0.2.3", "test"),
    ] {
        run(&index, &format!("shop/{pod}"), ip, &[("app", app)]);
    }
    subsets(&index, "shop/reviews", "reviews", &["v1", "v2"]);
    let spec = json!({"hosts": ["reviews"], "http": [
        {"match": [{"sourceLabels": {"app": "test"}}], "route": [to("reviews", "v2", 1)]},
        {"route": [to("reviews", "v1", 1)]},
    ]});
    route(&index, "shop/by-label", 1, spec);
    assert_eq!(leads(&index, "host/reviews:80", "shop/t"), ["1:10.0.0.2"]);
    assert_eq!(leads(&index, "host/reviews:80", "shop/w1"), ["1:10.0.0.1"]);
    assert_eq!(leads(&index, "host/reviews.shop:80", "other/unknown"), ["1:10.0.0.1"]);
    let body = |client: &str| found(&index, "host/reviews.shop:80", client).encoded.unwrap().body;
    assert_eq!(body("shop/w1").as_ptr(), body("shop/w2").as_ptr());
    assert_eq!(body("shop/w1").as_ptr(), body("other/unknown").as_ptr());
    assert_ne!(body("shop/w1"), body("shop/t"));
    // The label of the client's own pod changes.
    run(&index, "shop/w1", "10.0.2.1", &[("app", "test")]);
    assert_eq!(leads(&index, "host/reviews:80", "shop/w1"), ["1:10.0.0.2"]);
    // A DestinationRule of one namespace alone.
    subsets(&index, "other/reviews", "reviews.shop.svc.cluster.local", &["v2"]);
    assert_eq!(
        leads(&index, "host/reviews.shop:80", "other/unknown"),
        ["1:unknown subset"]
    );
    assert_eq!(leads(&index, "host/reviews:80", "shop/w2"), ["1:10.0.0.1"]);
}

#[test]
fn an_export_is_for_whom_it_names() {
    let index = shop();
    let spec = |to: &[&str]| json!({"hosts": ["reviews.shop.svc.cluster.local"], "exportTo": to, "http": [{"directResponse": {"status": 418}}]});
    let asked = |client: &str| leads(&index, "host/reviews.shop:80", client).remove(0);
    for (export, of_shop, of_web, of_other) in [
        (&["*"][..], "direct 418", "direct 418", "direct 418"),
        (&["."], "direct 418", "itself", "itself"),
        (&["web"], "itself", "direct 418", "itself"),
        (&[".", "web"], "direct 418", "direct 418", "itself"),
    ] {
        route(&index, "shop/teapot", 1, spec(export));
        let found = [asked("shop/a"), asked("web/a"), asked("other/a")];
        assert_eq!(found, [of_shop, of_web, of_other], "{export:?}");
    }
}

#[test]
fn delegates_lead_where_they_say() {
    let index = shop();
    deploy(&index, "teams/details", "10.96.3.1", &[("d", "10.0.3.1", "v1")]);
    let root = json!({"hosts": ["reviews"], "http": [
        {"match": [{"uri": {"prefix": "/details"}}], "delegate": {"name": "details", "namespace": "teams"}},
        {"route": [to("ratings", "", 1)]},
    ]});
    route(&index, "shop/root", 1, root);
    assert_eq!(leads(&index, "host/reviews:80", "shop/web"), ["1:10.0.1.1"]);
    let leaf = json!({"http": [{"route": [to("details", "", 1)]}]});
    let changed = route(&index, "teams/details", 2, leaf);
    assert!(changed.touches(&Key::Service(named("shop", "reviews"))));
    assert_eq!(
        leads(&index, "host/reviews:80", "shop/web"),
        ["1:10.0.3.1", "1:10.0.1.1"]
    );
    let held = routes(&index, "host/reviews:80", "shop/web");
    assert_eq!(held.sources, ["shop/root".into(), "teams/details".into()]);
    remove(&index, "teams/details");
    assert_eq!(leads(&index, "host/reviews:80", "shop/web"), ["1:10.0.1.1"]);
}

#[test]
fn another_destinations_change_is_a_change_once() {
    let index = shop();
    let spec = json!({"hosts": ["reviews"], "http": [
        {"match": [{"uri": {"prefix": "/r"}}], "route": [to("ratings", "", 1)]},
        {"route": [to("reviews", "", 1)]},
    ]});
    route(&index, "shop/split", 1, spec);
    let before = found(&index, "host/reviews:80", "shop/web");
    assert!(before.dependencies.contains(&Key::Service(named("shop", "ratings"))));
    let more = [("a1", "10.0.1.1", "v1"), ("a2", "10.0.1.2", "v1")];
    let changed = deploy(&index, "shop/ratings", "10.96.0.2", &more);
    assert!(before.dependencies.iter().any(|key| changed.touches(key)));
    let after = found(&index, "host/reviews:80", "shop/web");
    assert_ne!(before.encoded, after.encoded);
    assert_eq!(
        leads(&index, "host/reviews:80", "shop/web"),
        ["1:10.0.1.1,10.0.1.2", "1:10.0.0.1,10.0.0.2"]
    );
    // The same again, and what has nothing to do with it.
    assert!(deploy(&index, "shop/ratings", "10.96.0.2", &more).is_empty());
    deploy(&index, "shop/other", "10.96.0.8", &[("o", "10.0.8.1", "v1")]);
    let again = found(&index, "host/reviews:80", "shop/web").encoded.unwrap();
    assert_eq!(again.body.as_ptr(), after.encoded.unwrap().body.as_ptr());
    // A pod's mutual TLS, which is a change of the other destination.
    let strict = mesh_core::peer_authentication::Policy {
        namespace: "shop".to_owned(),
        name: "p".to_owned(),
        created: 1,
        selector: mesh_core::labels::Selector::default(),
        mode: mesh_core::peer_authentication::Mode::Disable,
        ports: [].into(),
    };
    let changed = apply(&index, |world| {
        world.policy(&named("shop", "p"), Some(strict), "istio-system")
    });
    assert!(changed.touches(&Key::Service(named("shop", "ratings"))));
}

#[test]
fn a_host_that_only_a_virtual_service_names() {
    let index = shop();
    let query = |name: &str| ask(&index, name, "shop/web");
    assert_eq!(query("host/books.example:80"), None);
    let keys = depends_on(&query::parse("host/books.example:80").unwrap(), "shop", "cluster.local");
    let spec = json!({"hosts": ["books.example", "reviews"], "http": [{"route": [to("ratings", "", 1)]}]});
    let changed = route(&index, "shop/books", 1, spec);
    assert!(keys.iter().any(|key| changed.touches(key)));
    let books = query("host/books.example:80").unwrap();
    assert_eq!(
        (&*books.host, &*books.namespace, books.endpoints.len()),
        ("books.example", "shop", 0)
    );
    assert_eq!(leads(&index, "host/books.example:80", "shop/web"), ["1:10.0.1.1"]);
    assert_eq!(query("host/books.example:81"), None);
    assert_eq!(query("host/toys.example:80"), None);
    // On other ports it is known for as long as a Service that the same VirtualService names has that port.
    let unknown = found(&index, "host/books.example:81", "shop/web");
    assert!(unknown.dependencies.contains(&Key::Service(named("shop", "reviews"))));
    let wild = json!({"hosts": ["*.example"], "http": [{"directResponse": {"status": 204}}]});
    let changed = route(&index, "shop/wild", 2, wild);
    assert!(changed.touches(&Key::Wildcards));
    assert_eq!(leads(&index, "host/toys.example:80", "shop/web"), ["direct 204"]);
    assert_eq!(leads(&index, "host/books.example:80", "shop/web"), ["1:10.0.1.1"]);
    let changed = remove(&index, "shop/books");
    assert!(keys.iter().any(|key| changed.touches(key)));
    assert_eq!(leads(&index, "host/books.example:80", "shop/web"), ["direct 204"]);
}

#[test]
fn connections_have_routes_too() {
    let index = shop();
    let spec = json!({"hosts": ["reviews"], "tcp": [{"match": [{"port": 80}], "route": [to("ratings", "", 0)]}]});
    route(&index, "shop/tcp", 1, spec);
    assert_eq!(leads(&index, "addr/10.96.0.1:80", "shop/web"), ["tcp 0:10.0.1.1"]);
    // A pod that is called by its own address has no routes.
    assert_eq!(leads(&index, "addr/10.0.0.1:8080", "shop/web"), ["itself"]);
}
