//! The chart's NetworkPolicies, where the cluster enforces any: sidecars, the API server and metrics still reach the control
//! plane, and what is not allowed does not. It changes the release, so it has the cluster to itself. Needs a cluster with the
//! mesh, installed by helm as `pinnace` (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::manifests::{echo, echo_with_service, pod, service_account};
use tests::cluster::{Cluster, Namespace, Release, START, SYSTEM, must, skipped, until};

/// How long a policy controller may take.
const ENFORCED: Duration = Duration::from_secs(20);

/// Whether a new connection to HOST:PORT of a server that sends nothing can be made.
fn reaches(from: &Namespace, pod: &str, url: &str) -> bool {
    from.bookshop(pod, &["get", url, "--timeout", "2000"]).good
}

/// Whether anything here enforces NetworkPolicies: tried, since a name says nothing.
fn enforces() -> bool {
    let namespace = Namespace::plain("enforced");
    namespace.apply(["client", "server"].into_iter().flat_map(echo_with_service));
    namespace.ready("client", START);
    let url = format!("http://{}:9080/", namespace.address("server"));
    until(
        "the server is reached without a policy",
        Duration::from_secs(20),
        || {
            reaches(&namespace, "client", &url)
                .then_some(())
                .ok_or_else(|| "no answer".to_owned())
        },
    );
    namespace.apply([json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]},
    })]);
    let began = std::time::Instant::now();
    while began.elapsed() < ENFORCED {
        if !reaches(&namespace, "client", &url) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    false
}

/// The address of a replica.
fn replica(app: &str) -> String {
    let pods = must(&[
        "--namespace",
        SYSTEM,
        "get",
        "pods",
        "--selector",
        &format!("app={app}"),
        "-o",
        "json",
    ]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    pods["items"][0]["status"]["podIP"].as_str().unwrap().to_owned()
}

#[test]
fn the_control_plane_is_reached_by_those_who_need_it_alone() {
    let Some(_cluster) = Cluster::alone() else { return };
    let Some(mut release) = Release::now() else { return };
    if !enforces() {
        return skipped("nothing in this cluster enforces NetworkPolicies: a pod was reached that none may reach");
    }
    let friends = Namespace::plain("monitoring");
    let others = Namespace::plain("others");
    for namespace in [&friends, &others] {
        namespace.apply([service_account("client"), echo("client")]);
        namespace.ready("client", START);
    }
    let allowed = format!(
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name={}",
        friends.name
    );
    release.upgrade(&["--set", "networkPolicy.enabled=true", "--set", &allowed]);
    for app in ["pinnace-operator", "pinnace-webhook"] {
        let metrics = format!("http://{}:15014/metrics", replica(app));
        until(&format!("{app}: others do not read metrics"), ENFORCED, || {
            (!reaches(&others, "client", &metrics))
                .then_some(())
                .ok_or_else(|| "an answer".to_owned())
        });
        assert!(
            reaches(&friends, "client", &metrics),
            "{app}: who may read metrics does"
        );
    }
    // The webhook is called by the API server, the new sidecar reaches discovery, the operator writes its Secret.
    let mesh = Namespace::injected("policies");
    mesh.apply(echo_with_service("a"));
    mesh.apply([pod("b", &["echo"])]);
    for name in ["a", "b"] {
        mesh.ready(name, START);
    }
    assert_eq!(mesh.get("secret", "istio.a").unwrap()["type"], "kubernetes.io/tls");
}
