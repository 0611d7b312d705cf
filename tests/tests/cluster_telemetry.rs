//! What the sidecars of real workloads tell of a call, on both sides. Needs the local cluster with the mesh.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::json;
use tests::cluster::manifests::{echo, echo_with_service, service, service_account};
use tests::cluster::{Cluster, Namespace, START, Sidecar, until};

/// Of a Deployment, whose ReplicaSet owns the pods.
fn deployment(name: &str) -> serde_json::Value {
    let mut template = echo(name);
    let labels = json!({"app": name, "version": "v7"});
    template["metadata"] = json!({"labels": labels});
    template["spec"]["restartPolicy"] = json!("Always");
    for gone in ["apiVersion", "kind"] {
        template.as_object_mut().unwrap().remove(gone);
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": format!("{name}-of-deployment")},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
    })
}

#[test]
fn both_reporters_name_the_workloads() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("telemetry");
    mesh.apply(echo_with_service("client"));
    mesh.apply([service_account("server"), service("server"), deployment("server")]);
    mesh.must(&["rollout", "status", "deployment/server-of-deployment", "--timeout=120s"]);
    mesh.ready("client", START);
    let url = format!("http://server.{}:9080/told", mesh.name);
    until("the server answers", Duration::from_secs(30), || {
        let said = mesh.bookshop("client", &["get", &url, "--count", "1"]);
        if said.good { Ok(()) } else { Err(said.all()) }
    });
    let said = mesh.bookshop("client", &["get", &url, "--count", "5", "--interval", "20"]);
    assert!(said.good, "{}", said.all());

    let (from, to) = (
        format!("spiffe://cluster.local/ns/{}/sa/client", mesh.name),
        format!("spiffe://cluster.local/ns/{}/sa/server", mesh.name),
    );
    let host = format!("server.{}.svc.cluster.local", mesh.name);
    let labels = [
        ("source_workload", "client"),
        ("source_workload_namespace", &mesh.name),
        ("source_principal", &from),
        ("source_canonical_service", "client"),
        ("source_canonical_revision", "latest"),
        ("destination_workload", "server-of-deployment"),
        ("destination_workload_namespace", &mesh.name),
        ("destination_principal", &to),
        ("destination_app", "server"),
        ("destination_version", "v7"),
        ("destination_canonical_revision", "v7"),
        ("destination_service", &host),
        ("destination_service_name", "server"),
        ("destination_service_namespace", &mesh.name),
        ("destination_cluster", "Kubernetes"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
    ];
    let sides = [
        (Sidecar::port(&mesh.name, "pod/client", 15090), "source", "unknown"),
        (
            Sidecar::port(&mesh.name, "deployment/server-of-deployment", 15090),
            "destination",
            "mutual_tls",
        ),
    ];
    let counts = sides.map(|(sidecar, reporter, security)| {
        let own = [("reporter", reporter), ("connection_security_policy", security)];
        let labels = [&labels[..], &own].concat();
        until("the requests are counted", Duration::from_secs(10), || {
            let counted = sidecar.metric("istio_requests_total", &labels);
            if counted >= 6.0 {
                Ok(())
            } else {
                Err(counted.to_string())
            }
        });
        sidecar.metric("istio_requests_total", &labels)
    });
    assert!(
        (counts[0] - counts[1]).abs() < 0.5,
        "both sides count the same: {counts:?}"
    );
}
