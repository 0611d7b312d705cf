//! A namespace that turns STRICT once nobody calls it in the clear: who still does is named, and after it has gone mutual TLS
//! is required, without a failed request of those that use it. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::cluster::manifests::{calls, echo, echo_with_service, pod, service_account};
use tests::cluster::{Cluster, Load, Namespace, POLICY, START, holds, must, until};

/// The operator's own PeerAuthentication.
const NAME: &str = "pinnace-strict-when-ready";

/// For how long nobody may have called.
const QUIET: Duration = Duration::from_secs(20);

/// How long after that it may take: sidecars that see nothing report every 30 s, and the status follows within 10 s.
const NOTICED: Duration = Duration::from_secs(90);

/// The resource's mode and its condition `Strict`.
fn standing(mesh: &Namespace) -> Result<(String, Value, Value), String> {
    let policy = mesh.get("peerauthentication", NAME)?;
    let conditions = policy["status"]["conditions"].as_array().ok_or("no conditions")?;
    let strict = conditions.iter().find(|condition| condition["type"] == "Strict");
    let strict = strict.ok_or_else(|| policy["status"].to_string())?.clone();
    let mode = policy["spec"]["mtls"]["mode"].as_str().unwrap_or_default().to_owned();
    Ok((mode, strict, policy["status"].clone()))
}

#[test]
fn a_namespace_turns_strict_after_its_last_plaintext_caller_has_gone() {
    let Some(_cluster) = Cluster::shared() else { return };
    let (mesh, plain) = (Namespace::injected("ready"), Namespace::plain("outside"));
    let url = format!("http://server.{}:9080/", mesh.name);
    mesh.apply(echo_with_service("server"));
    mesh.ready("server", START);
    mesh.apply([pod("load", &calls(&url, "20", &[]))]);
    plain.apply([
        service_account("prober"),
        echo("prober"),
        pod("legacy", &calls(&url, "500", &[])),
    ]);
    plain.ready("prober", START);
    plain.ready("legacy", START);
    let load = Load::follow(&mesh, "load");
    let began = Instant::now();

    let quiet = format!("policy.pinnace.dev/quiet-period={}s", QUIET.as_secs());
    must(&["annotate", "namespace", &mesh.name, &quiet]);
    must(&["label", "namespace", &mesh.name, "policy.pinnace.dev/strict=when-ready"]);
    let named = format!("pod {}/legacy", plain.name);
    until("the caller is named in the status", NOTICED, || {
        let (_, strict, status) = standing(&mesh)?;
        let is = strict["status"] == "False" && strict["reason"] == "PlaintextCallers";
        let callers = status["plaintextCallers"].to_string();
        (is && callers.contains(&named) && callers.contains("\"server\""))
            .then_some(())
            .ok_or_else(|| status.to_string())
    });
    until("the caller is named in an event", POLICY, || {
        let events = mesh.kubectl(&["get", "events", "-o", "json"]).ok()?;
        (events.contains("still called in the clear") && events.contains(&named))
            .then_some(())
            .ok_or(events)
    });
    holds(
        "it does not turn STRICT while it is called",
        QUIET + POLICY,
        || match standing(&mesh)? {
            (mode, ..) if mode == "UNSET" => Ok(()),
            (mode, strict, _) => Err(format!("{mode}: {strict}")),
        },
    );

    plain.must(&["delete", "pod", "legacy", "--wait"]);
    until("it turns STRICT", QUIET + NOTICED, || match standing(&mesh)? {
        (mode, strict, status) if mode == "STRICT" && strict["status"] == "True" => {
            let callers = status["plaintextCallers"].as_array().map(Vec::len);
            (callers == Some(0)).then_some(()).ok_or_else(|| status.to_string())
        }
        (mode, strict, _) => Err(format!("{mode}: {strict}")),
    });
    let call = || plain.bookshop("prober", &["get", &url, "--timeout", "3000"]);
    until("a caller in the clear is refused", POLICY, || {
        let said = call();
        if said.all().contains("200") {
            Err(said.all())
        } else {
            Ok(())
        }
    });
    load.end().without("failed", "requests", 5, began.elapsed());

    // Without its label the namespace is what it was.
    must(&["label", "namespace", &mesh.name, "policy.pinnace.dev/strict-"]);
    until("the operator's PeerAuthentication goes", POLICY, || {
        match mesh.get("peerauthentication", NAME) {
            Ok(policy) => Err(policy.to_string()),
            Err(_) => Ok(()),
        }
    });
    until("a caller in the clear is taken again", POLICY, || {
        let said = call();
        if said.all().contains("200") {
            Ok(())
        } else {
            Err(said.all())
        }
    });
}

#[test]
fn what_its_owner_wrote_stands_and_is_told_of() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("ready");
    mesh.apply([tests::cluster::manifests::mode("PERMISSIVE")]);
    mesh.apply(echo_with_service("server"));
    mesh.ready("server", START);
    must(&["label", "namespace", &mesh.name, "policy.pinnace.dev/strict=when-ready"]);
    let own = format!("{}/default", mesh.name);
    until("the conflict is told", NOTICED, || {
        let (mode, strict, _) = standing(&mesh)?;
        let told = strict["reason"] == "Conflict" && strict["message"].as_str().unwrap_or_default().contains(&own);
        (mode == "UNSET" && told)
            .then_some(())
            .ok_or_else(|| strict.to_string())
    });
    let policy = mesh.get("peerauthentication", "default").unwrap();
    assert_eq!(policy["spec"]["mtls"]["mode"], "PERMISSIVE");
}
