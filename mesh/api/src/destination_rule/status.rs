//! The status that tells a rule's owner whether it is in force, and which of its fields are not yet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use mesh_core::client_tls::ClientTls;
use mesh_core::destination_rule::{Merged, Rule, Rules, resolve_host};

use super::{DestinationRule, later, parse};
use crate::status::{COMPLETE, Generation, IN_FORCE, Status, Verdict};

/// Builds a resource's status among all rules of the mesh. `known` says whether there is a Service of a host, or any at all
/// that a wildcard matches.
///
/// Conditions of other types, messages and fields of other writers are kept. The result equals the resource's present
/// status when nothing is to be written.
#[must_use]
pub fn status(
    resource: &DestinationRule,
    all: &Rules,
    cluster_domain: &str,
    known: impl Fn(&str) -> bool,
    now: &Time,
) -> Status {
    let generation = resource.metadata.generation.map(Generation);
    let mut status = resource.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    let verdict = match parse(resource) {
        Ok(rule) => in_force(resource, &rule, all, cluster_domain, known),
        Err(errors) => Verdict::no("Invalid", crate::join(&errors)),
    };
    status.set(IN_FORCE, verdict, generation, now);
    let later = later(&resource.spec);
    let complete = if later.is_empty() {
        Verdict::yes("AllFields", "every field has an effect")
    } else {
        Verdict::no(
            "FieldsWithoutEffect",
            format!("accepted, and without effect in this version: {}", later.join(", ")),
        )
    };
    status.set(COMPLETE, complete, generation, now);
    status
}

fn in_force(
    resource: &DestinationRule,
    rule: &Rule,
    all: &Rules,
    cluster_domain: &str,
    known: impl Fn(&str) -> bool,
) -> Verdict {
    let (namespace, name) = (&*rule.namespace, resource.name_any());
    let host = resolve_host(&rule.host, namespace, cluster_domain);
    if let Some(Merged { parts, policy, .. }) = all.merged(namespace, &name)
        && let Some(part) = parts.iter().skip(1).find(|part| *part.name == *name)
    {
        let oldest = &parts[0].name;
        let takes = match policy {
            Some((from, _)) if rule.policy.is_some() && !part.policy => {
                format!("; its trafficPolicy is ignored, since {namespace}/{from} has one")
            }
            _ => String::new(),
        };
        let repeated = match &part.repeated[..] {
            [] => String::new(),
            names => format!(
                "; its subsets {} are ignored, since an older rule has them",
                names.join(", ")
            ),
        };
        let message = format!("{namespace}/{oldest} is older and has the same host {host}{takes}{repeated}");
        return if part.policy || part.subsets > 0 {
            Verdict::yes("Merged", format!("merged: {message}"))
        } else {
            Verdict::no("Shadowed", format!("ignored: {message}"))
        };
    }
    if let Some(reason) = refused(rule) {
        return Verdict::no(
            "CredentialNotSupported",
            format!("sidecars refuse connections to {host}: {reason}"),
        );
    }
    let clients = match (&rule.selector, rule.export_to.public) {
        (Some(_), _) => format!("selected clients in namespace {namespace}"),
        (None, true) => "clients of every namespace".to_owned(),
        (None, false) => {
            let own = rule.export_to.own.then_some(namespace);
            let names: Vec<&str> = own
                .into_iter()
                .chain(rule.export_to.namespaces.iter().map(String::as_str))
                .collect();
            format!("clients in {}", names.join(", "))
        }
    };
    let absent = if known(&host) {
        ""
    } else if host.starts_with('*') {
        "; no Service's name ends so now"
    } else {
        "; there is no Service of that name now"
    };
    Verdict::yes("Governs", format!("governs connections to {host} by {clients}{absent}"))
}

/// The first reason for which connections under a rule are refused.
fn refused(rule: &Rule) -> Option<&str> {
    let policy = rule.policy.as_ref()?;
    let ports = policy.ports.values().filter_map(|port| port.tls.as_deref());
    policy
        .tls
        .as_deref()
        .into_iter()
        .chain(ports)
        .find_map(|tls| match tls {
            ClientTls::Refused(reason) => Some(&**reason),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::read;
    use super::*;

    fn resource(namespace: &str, name: &str, second: u8, spec: Value) -> DestinationRule {
        read(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {
                "name": name, "namespace": namespace, "generation": 3,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")
            },
            "spec": spec
        }))
        .unwrap()
    }

    fn at(second: u8) -> Time {
        serde_json::from_value(json!(format!("2026-02-01T00:00:{second:02}Z"))).unwrap()
    }

    fn built(resource: &DestinationRule, all: &Rules, second: u8) -> Status {
        let known = |host: &str| host == "*.local" || host.starts_with("reviews.");
        status(resource, all, "cluster.local", known, &at(second))
    }

    #[test]
    fn says_whether_it_is_in_force_and_what_of_it_is_not() {
        let tls = |mode: &str| json!({"tls": {"mode": mode}});
        let subset = |name: &str| json!([{"name": name, "labels": {"version": name}}]);
        let resources = [
            (
                resource(
                    "a",
                    "oldest",
                    1,
                    json!({"host": "reviews", "trafficPolicy": tls("SIMPLE")}),
                ),
                "True Governs",
                "reviews.a.svc.cluster.local by clients of every namespace",
            ),
            (
                resource(
                    "a",
                    "shadowed",
                    2,
                    json!({"host": "reviews", "trafficPolicy": tls("DISABLE")}),
                ),
                "False Shadowed",
                "its trafficPolicy is ignored, since a/oldest has one",
            ),
            (
                resource("a", "subsets", 3, json!({"host": "reviews", "subsets": subset("v1")})),
                "True Merged",
                "a/oldest is older",
            ),
            (
                resource("a", "repeated", 4, json!({"host": "reviews", "subsets": subset("v1")})),
                "False Shadowed",
                "its subsets v1 are ignored",
            ),
            (
                resource("a", "elsewhere", 1, json!({"host": "ratings", "exportTo": [".", "b"]})),
                "True Governs",
                "by clients in a, b; there is no Service of that name now",
            ),
            (
                resource(
                    "a",
                    "wild",
                    1,
                    json!({"host": "*.local", "workloadSelector": {"matchLabels": {"a": "b"}}}),
                ),
                "True Governs",
                "*.local by selected clients in namespace a",
            ),
            (
                resource("a", "bad", 1, json!({"host": "reviews", "trafficPolicy": tls("ON")})),
                "False Invalid",
                "spec.trafficPolicy.tls.mode: \"ON\"",
            ),
            (
                resource(
                    "b",
                    "gateway",
                    1,
                    json!({"host": "reviews.a.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "SIMPLE", "credentialName": "s"}}}),
                ),
                "False CredentialNotSupported",
                "is for gateways",
            ),
        ];
        let mut all = Rules::default();
        for rule in resources.iter().filter_map(|(resource, ..)| parse(resource).ok()) {
            all.set(&rule.namespace.clone(), &rule.name.clone(), Some(rule), "cluster.local");
        }
        for (resource, verdict, message) in &resources {
            let status = built(resource, &all, 0);
            let condition = status.condition(IN_FORCE).unwrap();
            let (is, why) = (
                condition.status.as_deref().unwrap(),
                condition.reason.as_deref().unwrap(),
            );
            assert_eq!(format!("{is} {why}"), *verdict, "{condition:?}");
            assert!(condition.message.as_deref().unwrap().contains(message), "{condition:?}");
            let complete = status.condition(COMPLETE).unwrap();
            assert_eq!(complete.status.as_deref(), Some("True"), "{complete:?}");
            assert_eq!(status.observed_generation, Some(Generation(3)));
        }
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let policy = json!({
            "tls": {"mode": "DISABLE"}, "loadBalancer": {"simple": "RANDOM"}, "retryBudget": {"percent": 1},
            "tunnel": {"targetHost": "a.b", "targetPort": 1},
            "portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"zoneAwareLbSetting": {}}}]
        });
        let resource = resource("a", "r", 1, json!({"host": "reviews", "trafficPolicy": policy}));
        let status = built(&resource, &Rules::default(), 0);
        assert_eq!(
            status.condition(COMPLETE).unwrap().message.as_deref(),
            Some(
                "accepted, and without effect in this version: \
                 spec.trafficPolicy.portLevelSettings[0].loadBalancer.zoneAwareLbSetting, spec.trafficPolicy.tunnel, \
                 spec.trafficPolicy.retryBudget"
            )
        );
    }

    #[test]
    fn a_status_that_holds_is_not_written_again() {
        let mut resource = resource(
            "a",
            "r",
            1,
            json!({"host": "reviews", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
        );
        let first = built(&resource, &Rules::default(), 1);
        resource.status = Some(first.clone());
        assert_eq!(built(&resource, &Rules::default(), 2), first);
    }
}
