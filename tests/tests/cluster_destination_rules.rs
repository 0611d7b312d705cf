//! DestinationRules as their authors meet them: refused with field and reason, or taken with a status, and followed by the
//! sidecars of those whom they are for. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::cluster::manifests::{destination_rule, echo_with_service};
use tests::cluster::{Cluster, Namespace, POLICY, START, Sidecar, until};

fn tls(settings: &Value) -> Value {
    json!({"tls": settings})
}

#[test]
fn a_bad_rule_is_refused_with_field_and_value() {
    let Some(_cluster) = Cluster::shared() else { return };
    let namespace = Namespace::plain("rules");
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let mut rule = destination_rule("bad", "reviews", &tls(&json!({"mode": "ON"})));
        rule["apiVersion"] = json!(format!("networking.istio.io/{version}"));
        let refusal = namespace.would_create(&rule).expect_err(version);
        for word in ["spec.trafficPolicy.tls.mode", "ON", "ISTIO_MUTUAL"] {
            assert!(refusal.contains(word), "{version}: no {word:?} in: {refusal}");
        }
    }
    let none = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "r"}, "spec": {}});
    assert!(namespace.would_create(&none).unwrap_err().contains("spec.host"));
    for (what, host, policy, words) in [
        (
            "a key that is missing",
            "reviews",
            tls(&json!({"mode": "MUTUAL", "clientCertificate": "/c"})),
            &[
                "validation.pinnace.dev",
                "spec.trafficPolicy.tls.privateKey",
                "a file in the proxy",
            ][..],
        ),
        ("a host that is none", "a..b", tls(&json!({})), &["spec.host", "a..b"]),
        (
            "a duration that is too short",
            "reviews",
            json!({"connectionPool": {"tcp": {"connectTimeout": "1us"}}}),
            &["spec.trafficPolicy.connectionPool.tcp.connectTimeout", "1ms"],
        ),
        (
            "two ways to balance",
            "reviews",
            json!({"loadBalancer": {"simple": "RANDOM", "consistentHash": {"useSourceIp": true}}}),
            &["spec.trafficPolicy.loadBalancer"],
        ),
        (
            "a percentage beyond all",
            "reviews",
            json!({"outlierDetection": {"maxEjectionPercent": 101}}),
            &["validation.pinnace.dev", "maxEjectionPercent", "101", "0 to 100"],
        ),
    ] {
        let refusal = namespace
            .would_create(&destination_rule("bad", host, &policy))
            .expect_err(what);
        for word in words {
            assert!(refusal.contains(word), "{what}: no {word:?} in: {refusal}");
        }
    }
}

#[test]
fn a_rule_is_followed_by_the_clients_that_it_is_for() {
    let Some(_cluster) = Cluster::shared() else { return };
    let (shop, other) = (Namespace::injected("rules"), Namespace::injected("others"));
    for namespace in [&shop, &other] {
        namespace.apply(["web", "reviews"].into_iter().flat_map(echo_with_service));
    }
    for namespace in [&shop, &other] {
        namespace.ready("web", START);
        namespace.ready("reviews", START);
    }
    let host = format!("reviews.{}.svc.cluster.local", shop.name);
    let url = format!("http://reviews.{}:9080/", shop.name);
    let identified = |from: &Namespace| -> Result<bool, String> {
        Ok(from
            .echoed("web", &url)?
            .to_string()
            .contains("x-forwarded-client-cert"))
    };
    let until_identified = |from: &Namespace, expected: bool| {
        until(
            &format!("{} is identified: {expected}", from.name),
            POLICY,
            || match identified(from)? {
                is if is == expected => Ok(()),
                is => Err(is.to_string()),
            },
        );
    };
    until_identified(&shop, true);
    until_identified(&other, true);
    // The Service's namespace keeps its rule to itself: others go on under automatic mutual TLS.
    let mut own = destination_rule("own", "reviews", &tls(&json!({"mode": "DISABLE"})));
    own["spec"]["exportTo"] = json!(["."]);
    shop.apply([own]);
    let (holds, why) = shop.condition("destinationrule", "own", "InForce", "Governs");
    assert!(
        holds && why.contains(&host) && why.contains(&format!("clients in {}", shop.name)),
        "{why}"
    );
    shop.condition("destinationrule", "own", "Complete", "AllFields");
    until_identified(&shop, false);
    until_identified(&other, true);
    // A file that is not there refuses what is under the rule, and says so.
    let missing = tls(&json!({"mode": "SIMPLE", "caCertificates": "/no/such/file.pem"}));
    other.apply([destination_rule("own", &host, &missing)]);
    until("the connection is refused", POLICY, || match identified(&other) {
        Err(why) if why.contains("503") => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    let sidecar = Sidecar::of(&other, "web");
    let dump = sidecar.page("/config_dump").unwrap();
    let reason = format!(
        "DestinationRule {}/own: caCertificates /no/such/file.pem: No such file",
        other.name
    );
    assert!(dump.contains(&reason), "no {reason} in {dump}");
    assert!(
        sidecar.metric(
            "pinnace_proxy_connections_refused_total",
            &[("reason", "destination_rule")]
        ) >= 1.0
    );
    other.must(&["delete", "destinationrule", "own"]);
    until_identified(&other, true);

    // Of two the older one counts; what is without effect is said.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let tunnel = json!({"targetHost": "a.example", "targetPort": 443});
    let policy = json!({"tls": {"mode": "SIMPLE"}, "tunnel": tunnel});
    let mut second = destination_rule("second", "reviews", &policy);
    second["spec"]["exportTo"] = json!(["."]);
    shop.apply([second]);
    let (holds, why) = shop.condition("destinationrule", "second", "InForce", "Shadowed");
    assert!(!holds && why.contains(&format!("{}/own", shop.name)), "{why}");
    let (holds, why) = shop.condition("destinationrule", "second", "Complete", "FieldsWithoutEffect");
    assert!(!holds && why.contains("spec.trafficPolicy.tunnel"), "{why}");
    until_identified(&shop, false);
}
