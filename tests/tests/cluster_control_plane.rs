//! The control plane itself: what it counts, how it keeps the API server's trust in its webhook, and that the loss of the
//! replica that writes is made good. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::manifests::{echo, pod, service_account};
use tests::cluster::{Certificate, Cluster, Namespace, START, SYSTEM, Sidecar, leader, must, until};

fn read(kind: &str, name: &str) -> Value {
    serde_json::from_str(&must(&["--namespace", SYSTEM, "get", kind, name, "-o", "json"])).unwrap()
}

#[test]
fn metrics_tell_what_the_control_plane_does() {
    let Some(_cluster) = Cluster::shared() else { return };
    let leader = Sidecar::port(SYSTEM, &format!("pod/{}", leader()), 15014);
    for page in ["/healthz", "/readyz"] {
        leader.page(page).unwrap();
    }
    let issued = || leader.metric("pinnace_certificates_issued_total", &[("kind", "workload")]);
    let before = issued();
    let mesh = Namespace::injected("metrics");
    mesh.apply([service_account("a"), echo("a")]);
    mesh.ready("a", START);
    assert!(issued() > before, "a certificate is counted");
    let page = leader.page("/metrics").unwrap();
    for name in [
        "pinnace_reconcile_total",
        "pinnace_reconcile_errors_total",
        "pinnace_reconcile_duration_seconds_bucket",
        "pinnace_reconcile_queue_depth",
        "pinnace_certificates_issued_total",
        "pinnace_certificates_rotated_total",
        "pinnace_certificates_failed_total",
        "pinnace_certificate_nearest_expiry_seconds",
        "pinnace_discovery_streams",
        "pinnace_discovery_pushes_total",
        "pinnace_discovery_rejections_total",
    ] {
        assert!(page.lines().any(|line| line.starts_with(name)), "no {name} in\n{page}");
    }
    assert!(leader.metric("pinnace_certificate_nearest_expiry_seconds", &[]) > 0.0);
    assert_eq!(leader.metric("pinnace_leader", &[]), 1.0);
    // A stream is served by either replica.
    let pods = must(&["--namespace", SYSTEM, "get", "pods", "-o", "name"]);
    let streams = |pod: &str| Sidecar::port(SYSTEM, pod, 15014).metric("pinnace_discovery_streams", &[]);
    let all: f64 = pods
        .lines()
        .filter(|pod| pod.starts_with("pod/pinnace-operator"))
        .map(streams)
        .sum();
    assert!(all >= 1.0, "{all} streams");

    let webhook = Sidecar::port(SYSTEM, "deployment/pinnace-webhook", 15014);
    for page in ["/healthz", "/readyz"] {
        webhook.page(page).unwrap();
    }
    let page = webhook.page("/metrics").unwrap();
    assert!(page.contains("sidecar_injection_requests_total"), "{page}");
}

#[test]
fn a_ca_bundle_that_is_edited_is_put_right() {
    let Some(_cluster) = Cluster::alone() else { return };
    for (kind, name) in [
        ("mutatingwebhookconfiguration", "pinnace-sidecar-injector"),
        ("validatingwebhookconfiguration", "pinnace-validator"),
    ] {
        let bundle = || read(kind, name)["webhooks"][0]["clientConfig"]["caBundle"].clone();
        let before = bundle();
        let patch = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]).to_string();
        must(&["patch", kind, name, "--type=json", "--patch", &patch]);
        until(
            &format!("the caBundle of {name} is back"),
            Duration::from_secs(10),
            || {
                let now = bundle();
                if now == before { Ok(()) } else { Err(now.to_string()) }
            },
        );
    }
    let mesh = Namespace::injected("bundle");
    until("the API server trusts the webhook", Duration::from_secs(10), || {
        mesh.would_create(&pod("a", &["echo"]))
    });
}

#[test]
fn another_replica_goes_on_when_the_one_that_writes_is_lost() {
    let Some(_cluster) = Cluster::alone() else { return };
    let mesh = Namespace::injected("leader");
    let first = leader();
    // Lost without a farewell: the lease is not given back.
    must(&[
        "--namespace",
        SYSTEM,
        "delete",
        "pod",
        &first,
        "--grace-period=0",
        "--force",
    ]);
    mesh.apply([service_account("a"), echo("a")]);
    mesh.ready("a", START);
    Certificate::of(&mesh.get("secret", "istio.a").unwrap()).unwrap();
    assert_ne!(leader(), first);
}

#[test]
fn a_new_mesh_configuration_takes_effect_without_a_restart() {
    let Some(_cluster) = Cluster::alone() else { return };
    let mesh = Namespace::injected("config");
    let restore = MeshConfig(read("configmap", "istio")["data"]["mesh"].as_str().unwrap().to_owned());
    let shown = |pod: &Value| pod["spec"]["initContainers"][1]["env"].to_string();
    let wanted = |text: &str| {
        until(&format!("PROXY_CONCURRENCY is {text}"), Duration::from_secs(15), || {
            let env = shown(&mesh.would_create(&pod("a", &["echo"]))?);
            let entry = format!("{{\"name\":\"PROXY_CONCURRENCY\",\"value\":\"{text}\"}}");
            if env.contains(&entry) { Ok(()) } else { Err(env) }
        });
    };
    wanted("2");
    MeshConfig::set(
        &restore
            .0
            .replace("defaultConfig: {}", "defaultConfig: {concurrency: 3}"),
    );
    wanted("3");
    drop(restore);
    wanted("2");
}

/// The mesh's configuration as it was, put back at the end.
struct MeshConfig(String);

impl MeshConfig {
    fn set(text: &str) {
        let patch = json!({"data": {"mesh": text}}).to_string();
        must(&[
            "--namespace",
            SYSTEM,
            "patch",
            "configmap",
            "istio",
            "--type=merge",
            "--patch",
            &patch,
        ]);
    }
}

impl Drop for MeshConfig {
    fn drop(&mut self) {
        Self::set(&self.0);
    }
}
