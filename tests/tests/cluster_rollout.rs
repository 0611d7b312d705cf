//! Rollouts under load: four replicas are replaced three times while both kinds of HTTP carry 500 requests a second each,
//! and no request fails: neither of an application that drains, nor of one that exits at once and sleeps before it by
//! annotation. Needs a cluster with the mesh (KUBECONFIG) and PINNACE_LONG=1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use serde_json::{Value, json};
use tests::cluster::manifests::{calls, echo, mode, pod, service_account};
use tests::cluster::{Cluster, Load, Namespace, START, Sidecar, long, until};

/// How often the Deployments are replaced.
const ROLLOUTS: usize = 3;

const REPLICAS: usize = 4;

/// The annotation that makes an application sleep before it is asked to end.
const SLEEP: &str = "policy.pinnace.dev/pre-stop-sleep";

/// A Service with a port for each kind of HTTP, and the Deployment behind it.
fn application(name: &str, arguments: &[&str], annotations: &Value) -> [Value; 3] {
    let mut template = echo(name);
    let spec = template["spec"].as_object_mut().unwrap();
    for field in ["restartPolicy", "terminationGracePeriodSeconds"] {
        spec.remove(field);
    }
    template["spec"]["containers"][0]["args"] = json!(arguments);
    template["metadata"]["annotations"] = annotations.clone();
    [
        service_account(name),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {
                "selector": {"app": name},
                "ports": [
                    {"name": "http", "port": 9080},
                    {"name": "http2", "port": 9082, "targetPort": 9080},
                ],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": {"app": name}},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 2}},
                "template": {"metadata": template["metadata"], "spec": template["spec"]},
            },
        }),
    ]
}

/// 500 requests a second, over connections that are kept.
fn load(name: &str, url: &str, http2: bool) -> Value {
    let mut arguments = calls(url, "20", &["--parallel", "10", "--keepalive"]);
    if http2 {
        arguments.push("--http2");
    }
    pod(name, &arguments)
}

fn roll(application: &str, arguments: &[&str], annotations: &Value) {
    if !long() {
        return;
    }
    let Some(_cluster) = Cluster::alone() else { return };
    let mesh = Namespace::injected("rollouts");
    mesh.apply([mode("STRICT")]);
    mesh.apply(self::application(application, arguments, annotations));
    let rolled_out = || {
        let deployment = format!("deployment/{application}");
        mesh.must(&["rollout", "status", &deployment, "--timeout=120s"]);
    };
    rolled_out();
    mesh.apply([
        load("one", &format!("http://{application}:9080/"), false),
        load("two", &format!("http://{application}:9082/"), true),
    ]);
    let loads = ["one", "two"].map(|pod| Load::follow(&mesh, pod));
    let started = Instant::now();
    for _ in 0..ROLLOUTS {
        mesh.must(&["rollout", "restart", &format!("deployment/{application}")]);
        rolled_out();
    }
    until("the old pods are gone", START, || {
        let pods = mesh.must(&["get", "pods", "--selector", &format!("app={application}"), "-o", "name"]);
        if pods.lines().count() == REPLICAS {
            Ok(())
        } else {
            Err(pods)
        }
    });
    let time = started.elapsed();
    for client in ["one", "two"] {
        let retries = Sidecar::of(&mesh, client).metric("pinnace_proxy_retries_total", &[]);
        eprintln!("{application}, {client}: {retries} requests went to another endpoint before any was answered");
    }
    for load in loads {
        // The machine starts and ends pods meanwhile: some fewer requests are no fault of the mesh.
        let account = load.end();
        eprintln!("{application}: {} requests in {time:?}", account.number("requests"));
        account.without("failed", "requests", 300, time);
    }
}

#[test]
fn an_application_that_drains_is_rolled_without_a_failed_request() {
    roll("drains", &["echo"], &json!({}));
}

#[test]
fn an_application_that_exits_at_once_is_rolled_without_one_if_it_sleeps_before() {
    roll("exits", &["echo", "--exit"], &json!({SLEEP: "5s"}));
}
