//! PeerAuthentications as their authors meet them: refused with field and reason, or taken with a status that says
//! whether they are in force. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::cluster::manifests::{mode, peer_authentication};
use tests::cluster::{Cluster, Namespace, POLICY, SYSTEM, kubectl, must_with, unique, until};

/// Whether it is in force, the reason and the message, once the status speaks of the present specification.
fn status(namespace: &str, name: &str, reason: &str) -> (String, String) {
    until(&format!("{namespace}/{name} is {reason}"), POLICY, || {
        let text = kubectl(
            &[
                "--namespace",
                namespace,
                "get",
                "peerauthentication",
                name,
                "-o",
                "json",
            ],
            "",
        )
        .ok()?;
        let policy: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let conditions = policy["status"]["conditions"].as_array().ok_or("no conditions")?;
        let condition = conditions
            .iter()
            .find(|c| c["type"] == "InForce")
            .ok_or("no condition InForce")?;
        let (is, why) = (condition["status"].as_str(), condition["message"].as_str());
        match (is, why) {
            (Some(is), Some(why)) if condition["reason"] == reason => Ok((is.to_owned(), why.to_owned())),
            _ => Err(condition.to_string()),
        }
    })
}

#[test]
fn a_bad_policy_is_refused_with_field_and_reason() {
    let Some(_cluster) = Cluster::shared() else { return };
    let namespace = Namespace::plain("policy");
    let selector = json!({"matchLabels": {"app": "web"}});
    for (what, spec, words) in [
        (
            "an unknown mode",
            json!({"mtls": {"mode": "ON"}}),
            &["spec.mtls.mode", "ON", "STRICT"][..],
        ),
        (
            "ports without a selector",
            json!({"portLevelMtls": {"80": {"mode": "STRICT"}}}),
            &["portLevelMtls requires selector"],
        ),
        (
            "a port that is none",
            json!({"selector": selector, "portLevelMtls": {"70000": {"mode": "STRICT"}}}),
            &["spec.portLevelMtls", "1-65535"],
        ),
        // What the CRD's own rules cannot say is the webhook's to refuse.
        (
            "a port twice",
            json!({"selector": selector, "portLevelMtls": {"80": {"mode": "STRICT"}, "080": {"mode": "DISABLE"}}}),
            &["validation.pinnace.dev", "spec.portLevelMtls", "80", "each port once"],
        ),
        (
            "a selector with a wildcard",
            json!({"selector": {"matchLabels": {"app": "web*"}}}),
            &["spec.selector.matchLabels", "web*", "wildcard"],
        ),
        (
            "a selector of another shape",
            json!({"selector": {"matchLabels": {"app": 7}}}),
            &["spec.selector.matchLabels"],
        ),
    ] {
        let refusal = namespace
            .would_create(&peer_authentication("bad", &spec))
            .expect_err(what);
        for word in words {
            assert!(refusal.contains(word), "{what}: no {word:?} in: {refusal}");
        }
    }
}

#[test]
fn a_policy_that_became_bad_can_be_repaired_and_removed() {
    let Some(_cluster) = Cluster::shared() else { return };
    let namespace = Namespace::plain("policy");
    namespace.apply([mode("STRICT")]);
    let change = |mode: &str| {
        let patch = json!({"spec": {"mtls": {"mode": mode}}}).to_string();
        namespace.kubectl(&[
            "patch",
            "peerauthentication",
            "default",
            "--type=merge",
            "--patch",
            &patch,
        ])
    };
    assert!(!change("ON").good, "an update is judged as a creation is");
    assert!(change("PERMISSIVE").good);
    namespace.must(&["label", "peerauthentication", "default", "a=b"]);
    namespace.must(&["delete", "peerauthentication", "default"]);
}

#[test]
fn the_status_says_whether_a_policy_is_in_force() {
    let Some(_cluster) = Cluster::shared() else { return };
    let namespace = Namespace::plain("policy");
    let selected = |name: &str| {
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "STRICT"}});
        peer_authentication(name, &spec)
    };
    namespace.apply([mode("PERMISSIVE"), selected("web")]);
    let (is, why) = status(&namespace.name, "default", "Namespace");
    assert!(is == "True" && why.contains(&namespace.name), "{is}: {why}");
    let (is, why) = status(&namespace.name, "web", "Workload");
    assert!(is == "True" && why.contains("selected"), "{is}: {why}");

    // Creation times have seconds: a moment later is a second later.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    namespace.apply([peer_authentication("second", &json!({"mtls": {"mode": "STRICT"}}))]);
    let (is, why) = status(&namespace.name, "second", "Shadowed");
    assert!(
        is == "False" && why.contains(&format!("{}/default", namespace.name)),
        "{is}: {why}"
    );
    namespace.must(&["delete", "peerauthentication", "default"]);
    let (is, _) = status(&namespace.name, "second", "Namespace");
    assert_eq!(is, "True", "it steps in when the older one goes");
}

/// Removed whatever becomes of the test.
struct InRoot(String);

impl Drop for InRoot {
    fn drop(&mut self) {
        let _ = kubectl(&["--namespace", SYSTEM, "delete", "peerauthentication", &self.0], "");
    }
}

#[test]
fn a_selector_in_the_root_namespace_is_ignored_and_says_so() {
    let Some(_cluster) = Cluster::shared() else { return };
    let name = unique("selected");
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "STRICT"}});
    let policy = peer_authentication(&name, &spec).to_string();
    let _remove = InRoot(name.clone());
    let said = kubectl(&["--namespace", SYSTEM, "create", "-f", "-"], &policy);
    assert!(said.good, "{}", said.all());
    assert!(
        said.err.contains("ignored in the root namespace"),
        "a warning on the way in: {}",
        said.err
    );
    let (is, why) = status(SYSTEM, &name, "SelectorInRootNamespace");
    assert!(is == "False" && why.contains("spec.selector"), "{is}: {why}");
    must_with(&["--namespace", SYSTEM, "delete", "-f", "-"], &policy);
}
