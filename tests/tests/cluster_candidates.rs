//! Going STRICT on the bookshop: a candidate lists exactly those who call it in the clear, the list empties once they are gone,
//! and then STRICT fails no request of a load. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::cluster::manifests::{calls, echo_with_service, peer_authentication, pod, pod_of, service_account};
use tests::cluster::{Cluster, Load, Namespace, POLICY, START, holds, until};

/// How long after its call a caller may be missing from the status: a report, and the writing of the status.
const TOLD: Duration = Duration::from_secs(60);

/// How long after its last call a caller may still count as a present one: a minute, and what telling takes.
const FORGOTTEN: Duration = Duration::from_secs(150);

const NAME: &str = "go-strict";
const BOOKSHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bookshop/bookshop.yaml");

fn candidate(mesh: &Namespace) -> Result<Value, String> {
    let status = mesh.get("peerauthentication", NAME)?["status"]["candidate"].clone();
    if status.is_object() {
        Ok(status)
    } else {
        Err(status.to_string())
    }
}

/// Who calls now, as the status says it.
fn current(mesh: &Namespace) -> Result<BTreeSet<String>, String> {
    let status = candidate(mesh)?;
    let callers = status["currentCallers"].as_array().ok_or_else(|| status.to_string())?;
    Ok(callers
        .iter()
        .map(|caller| caller.as_str().unwrap().to_owned())
        .collect())
}

fn are_current(what: &str, mesh: &Namespace, limit: Duration, expected: &BTreeSet<String>) {
    until(&format!("{what}: the present callers are {expected:?}"), limit, || {
        let callers = current(mesh)?;
        if callers == *expected {
            Ok(())
        } else {
            Err(format!("{callers:?}"))
        }
    });
}

#[test]
fn strict_is_tried_on_the_bookshop_and_then_put_into_force() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("candidates");
    let outside = Namespace::plain("candidates-legacy");
    mesh.must(&["apply", "-f", BOOKSHOP]);
    mesh.apply(echo_with_service("client"));
    mesh.must(&[
        "wait",
        "--for=condition=Available",
        "deployment",
        "--all",
        "--timeout=120s",
    ]);
    mesh.ready("client", START);
    let page = "http://productpage:9080/api/v1/products/0";
    until("the page that needs every service", POLICY, || {
        mesh.bookshop("client", &["get", page]).ok()
    });

    // Callers of the mesh, who are to notice nothing, and two without a sidecar.
    mesh.apply(["http", "kept"].map(service_account));
    mesh.apply([
        pod_of("http", "http", &calls(page, "100", &[])),
        pod_of("kept", "kept", &calls(page, "100", &["--keepalive"])),
    ]);
    let loads = ["http", "kept"].map(|name| Load::follow(&mesh, name));
    let url = |service: &str| format!("http://{service}.{}:9080/health", mesh.name);
    outside.apply([
        pod("cron", &calls(&url("productpage"), "500", &[])),
        pod("report", &calls(&url("details"), "500", &["--keepalive"])),
    ]);
    outside.ready("cron", START);
    outside.ready("report", START);

    let mut strict = peer_authentication(NAME, &serde_json::json!({"mtls": {"mode": "STRICT"}}));
    strict["metadata"]["labels"] = serde_json::json!({"policy.pinnace.dev/candidate": "strict"});
    mesh.apply([strict]);
    let (holds_now, why) = mesh.condition("peerauthentication", NAME, "InForce", "Candidate");
    assert!(!holds_now && why.contains("set strict"), "{why}");
    let row = |pod: &str, service: &str| format!("{}/{pod} -> {}/{service}-v1:9080", outside.name, mesh.name);
    let both = BTreeSet::from([row("cron", "productpage"), row("report", "details")]);
    are_current("both call", &mesh, TOLD, &both);
    // Nobody of the mesh comes to the list, however often it is looked at.
    holds("exactly both are listed", Duration::from_secs(12), || {
        let callers = current(&mesh)?;
        if callers == both {
            Ok(())
        } else {
            Err(format!("{callers:?}"))
        }
    });
    let status = candidate(&mesh).unwrap();
    assert_eq!(status["callers"].as_array().unwrap().len(), 2, "{status}");
    assert!(status["callsLastHour"].as_u64().unwrap() >= 20, "{status}");
    let answered = outside.bookshop("cron", &["get", &url("productpage")]);
    assert!(answered.good, "it is not in force: {}", answered.all());

    outside.must(&["delete", "pod", "cron", "report", "--timeout=60s"]);
    are_current("both are gone", &mesh, FORGOTTEN, &BTreeSet::new());
    let status = candidate(&mesh).unwrap();
    assert_eq!(
        status["callers"].as_array().unwrap().len(),
        2,
        "the last hour remembers them: {status}"
    );

    // Into force.
    let began = Instant::now();
    mesh.must(&["label", "peerauthentication", NAME, "policy.pinnace.dev/candidate-"]);
    mesh.condition("peerauthentication", NAME, "InForce", "Namespace");
    outside.apply(echo_with_service("late"));
    outside.ready("late", START);
    until("a caller in the clear is refused", POLICY, || {
        let said = outside.bookshop("late", &["get", &url("productpage")]);
        if said.good { Err(said.all()) } else { Ok(()) }
    });
    let status = &mesh.get("peerauthentication", NAME).unwrap()["status"];
    assert!(status["candidate"].is_null(), "it is a candidate no more: {status}");
    std::thread::sleep(Duration::from_secs(5));
    let time = began.elapsed();
    for load in loads {
        load.end().without("failed", "requests", 1, time);
    }
}
