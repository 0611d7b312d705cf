//! What Sidecar resources let clients see.

use mesh_core::destination::Query;
use mesh_wire::convert::Workload;
use mesh_wire::query;
use mesh_wire::resources as wire;
use prost::Message;
use serde_json::{Value, json};

use super::routes::{apply, ask, deploy, key_of, leads, route, run, shop};
use crate::index::changes::{Changed, Key};
use crate::index::resolve::named;
use crate::index::{Index, scopes};

fn sidecar(index: &Index, key: &str, spec: Value) -> Changed {
    let name = key_of(key);
    let resource = mesh_api::sidecar_resource::read(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": &*name.1, "namespace": &*name.0, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }));
    let scope = mesh_api::sidecar_resource::parse(&resource.unwrap()).unwrap();
    apply(index, |world| world.sidecar(&name, Some(scope), "istio-system"))
}

fn hosts(hosts: &[&str]) -> Value {
    json!({"egress": [{"hosts": hosts}]})
}

/// `shop` with a client in `web`.
fn mesh() -> Index {
    let index = shop();
    run(&index, "web/w", "10.0.5.1", &[("app", "w")]);
    index
}

fn workload(index: &Index, key: &str) -> Workload {
    let encoded = index.workload(&key_of(key)).unwrap();
    Workload::try_from(&wire::Workload::decode(encoded.body).unwrap()).unwrap()
}

#[test]
fn what_is_not_shown_is_unknown() {
    let index = mesh();
    let knows = |client: &str| {
        [
            "host/reviews.shop:80",
            "addr/10.96.0.1:80",
            "addr/10.0.0.1:8080",
            "host/ratings.shop:80",
            "peer/10.0.0.1",
        ]
        .map(|name| ask(&index, name, client).is_some())
    };
    assert_eq!(knows("web/w"), [true; 5]);
    let changed = sidecar(&index, "web/default", hosts(&["shop/reviews.shop.svc.cluster.local"]));
    assert!(changed.touches(&Key::Pod(named("web", "w"))) && !changed.touches(&Key::Pod(named("shop", "r1"))));
    assert_eq!(knows("web/w"), [true, true, true, false, true]);
    assert_eq!(knows("shop/r1"), [true; 5]);
    sidecar(&index, "web/default", hosts(&["./*"]));
    assert_eq!(knows("web/w"), [false, false, false, false, true]);
    // A port of its own.
    let on_port = json!({"egress": [{"port": {"number": 81, "protocol": "HTTP", "name": "x"}, "hosts": ["*/*"]}, {"hosts": ["./*"]}]});
    sidecar(&index, "web/default", on_port);
    assert_eq!(knows("web/w"), [false, false, false, false, true]);
    // The root namespace's is for all that have none.
    let changed = sidecar(&index, "istio-system/default", hosts(&["shop/*"]));
    assert!(changed.touches(&Key::Pod(named("shop", "r1"))));
    assert_eq!(knows("shop/r1"), [true; 5]);
    apply(&index, |world| {
        world.sidecar(&named("web", "default"), None, "istio-system")
    });
    assert_eq!(knows("web/w"), [true; 5]);
}

#[test]
fn routes_are_shown_like_hosts_and_lead_where_they_lead() {
    let index = mesh();
    let spec = |to: &str| json!({"hosts": ["reviews.shop.svc.cluster.local"], "http": [{"route": [{"destination": {"host": to}}]}]});
    route(&index, "shop/reviews", 1, spec("ratings.shop.svc.cluster.local"));
    assert_eq!(leads(&index, "host/reviews.shop:80", "web/w"), ["0:10.0.1.1"]);
    // Where they lead need not be shown.
    sidecar(&index, "web/default", hosts(&["shop/reviews.shop.svc.cluster.local"]));
    assert_eq!(leads(&index, "host/reviews.shop:80", "web/w"), ["0:10.0.1.1"]);
    // One of a namespace that is not shown does not speak.
    route(&index, "shop/reviews", 2, spec("ratings.shop.svc.cluster.local"));
    route(&index, "other/reviews", 1, spec("nobody.shop.svc.cluster.local"));
    assert_eq!(leads(&index, "host/reviews.shop:80", "web/w"), ["0:10.0.1.1"]);
    assert_eq!(leads(&index, "host/reviews.shop:80", "shop/r1"), ["0:nowhere"]);
}

#[test]
fn a_pods_own_policy_of_what_is_unknown() {
    let index = mesh();
    assert!(workload(&index, "web/w").allow_any);
    let registry_only =
        json!({"workloadSelector": {"labels": {"app": "w"}}, "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
    let changed = sidecar(&index, "web/w", registry_only);
    assert!(changed.touches(&Key::Pod(named("web", "w"))));
    assert!(!workload(&index, "web/w").allow_any && workload(&index, "shop/r1").allow_any);
    let mut mesh = index.read(|_, mesh| mesh.clone());
    mesh.allow_any = false;
    index.set_mesh(mesh);
    assert!(!workload(&index, "shop/r1").allow_any);
    sidecar(
        &index,
        "shop/any",
        json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}}),
    );
    assert!(workload(&index, "shop/r1").allow_any);
}

#[test]
fn what_is_declared_is_fetched_ahead() {
    let index = mesh();
    sidecar(
        &index,
        "web/default",
        hosts(&[
            "./*",
            "shop/reviews.shop.svc.cluster.local",
            "*/later.web.svc.cluster.local",
        ]),
    );
    let ahead = |key: &str| -> Vec<String> { workload(&index, key).ahead.iter().map(query::name).collect() };
    let reviews = [
        "host/reviews.shop:80",
        "host/reviews.shop.svc.cluster.local:80",
        "addr/10.96.0.1:80",
    ];
    assert_eq!(ahead("web/w"), reviews);
    assert!(ahead("shop/r1").is_empty());
    deploy(&index, "web/later", "10.96.5.1", &[]);
    let touched = index.read(|world, mesh| scopes::declaring(world, mesh, &named("web", "later")));
    assert!(touched.touches(&Key::Pod(named("web", "w"))));
    assert!(
        index
            .read(|world, mesh| scopes::declaring(world, mesh, &named("shop", "ratings")))
            .is_empty()
    );
    assert!(ahead("web/w").contains(&"host/later:80".to_owned()));
    assert!(
        workload(&index, "web/w")
            .ahead
            .contains(&Query::Address("10.96.5.1:80".parse().unwrap()))
    );
}
