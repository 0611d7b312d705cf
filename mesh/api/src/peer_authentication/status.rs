//! The status that tells a resource's owner whether it is in force and why not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_core::peer_authentication::{Policy, Scope, Standing, standing};

use super::{PeerAuthentication, parse};
use crate::status::{Generation, IN_FORCE, Status, Verdict};

/// Builds a resource's status among all policies of the mesh.
///
/// Conditions of other types, messages and fields of other writers are kept; `lastTransitionTime` moves only when the
/// condition's status changes. The result equals the resource's present status when nothing is to be written.
#[must_use]
pub fn status<'a>(
    resource: &PeerAuthentication,
    all: impl IntoIterator<Item = &'a Policy>,
    root_namespace: &str,
    now: &Time,
) -> Status {
    let generation = resource.metadata.generation.map(Generation);
    let mut status = resource.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.set(IN_FORCE, verdict(resource, all, root_namespace), generation, now);
    status
}

fn verdict<'a>(
    resource: &PeerAuthentication,
    all: impl IntoIterator<Item = &'a Policy>,
    root_namespace: &str,
) -> Verdict {
    let policy = match parse(resource) {
        Ok(policy) => policy,
        Err(errors) => return Verdict::no("Invalid", crate::join(&errors)),
    };
    match standing(&policy, all, root_namespace) {
        Standing::InForce(Scope::Mesh) => Verdict::yes("Mesh", "governs the whole mesh"),
        Standing::InForce(Scope::Namespace) => Verdict::yes(
            "Namespace",
            format!("governs the workloads of namespace {}", policy.namespace),
        ),
        Standing::InForce(Scope::Workload) => Verdict::yes(
            "Workload",
            format!("governs the selected workloads of namespace {}", policy.namespace),
        ),
        Standing::SelectorInRootNamespace => Verdict::no(
            "SelectorInRootNamespace",
            format!(
                "ignored: in the root namespace {root_namespace} a PeerAuthentication governs the whole mesh and takes no \
                 selector; move it to the workloads' namespace or remove spec.selector"
            ),
        ),
        Standing::Shadowed { by } => Verdict::no(
            "Shadowed",
            format!("ignored: {by} is older and has the same scope; of several the oldest wins"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::status::Condition;

    fn resource(namespace: &str, name: &str, second: u8, spec: serde_json::Value) -> PeerAuthentication {
        super::super::read(json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {
                "name": name, "namespace": namespace, "generation": 3,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")
            },
            "spec": spec
        }))
        .unwrap()
    }

    fn at(second: i64) -> Time {
        serde_json::from_value(json!(format!("2026-02-01T00:00:{second:02}Z"))).unwrap()
    }

    fn in_force(status: &Status) -> &Condition {
        status.condition(IN_FORCE).unwrap()
    }

    #[test]
    fn says_whether_it_is_in_force_and_why_not() {
        let strict = json!({"mtls": {"mode": "STRICT"}});
        let selected = json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "STRICT"}});
        let resources = [
            resource("istio-system", "default", 1, strict.clone()),
            resource("a", "default", 1, strict.clone()),
            resource("a", "newer", 2, strict.clone()),
            resource("a", "web", 1, selected.clone()),
            resource("istio-system", "web", 1, selected),
            resource("a", "bad", 0, json!({"mtls": {"mode": "ON"}})),
        ];
        let all: Vec<Policy> = resources.iter().filter_map(|resource| parse(resource).ok()).collect();
        let expected = [
            ("True", "Mesh", "whole mesh"),
            ("True", "Namespace", "namespace a"),
            ("False", "Shadowed", "a/default"),
            ("True", "Workload", "selected workloads"),
            ("False", "SelectorInRootNamespace", "remove spec.selector"),
            ("False", "Invalid", "spec.mtls.mode: \"ON\""),
        ];
        for (resource, (holds, reason, message)) in resources.iter().zip(expected) {
            let status = status(resource, &all, "istio-system", &at(0));
            let condition = in_force(&status);
            assert_eq!(condition.status.as_deref(), Some(holds), "{reason}");
            assert_eq!(condition.reason.as_deref(), Some(reason));
            assert!(condition.message.as_deref().unwrap().contains(message), "{condition:?}");
            assert_eq!(status.observed_generation, Some(Generation(3)));
        }
    }

    #[test]
    fn a_status_that_holds_is_not_written_again_and_others_conditions_stay() {
        let mut resource = resource("a", "default", 1, json!({"mtls": {"mode": "STRICT"}}));
        resource.status = serde_json::from_value(json!({
            "conditions": [{"type": "PassedAnalysis", "status": "True", "observedGeneration": "2"}],
            "observedGeneration": "2", "field": "of another"
        }))
        .unwrap();
        let all = [parse(&resource).unwrap()];
        let first = status(&resource, &all, "istio-system", &at(1));
        assert_eq!(first.conditions.as_ref().unwrap().len(), 2);
        assert_eq!(first.other["field"], json!("of another"));
        resource.status = Some(first.clone());
        let second = status(&resource, &all, "istio-system", &at(2));
        assert_eq!(second, first, "nothing changed, so nothing is to be written");
        resource.spec.mtls = Some(super::super::MutualTls {
            mode: Some("ON".to_owned()),
        });
        let third = status(&resource, [], "istio-system", &at(3));
        assert_eq!(in_force(&third).last_transition_time, Some(at(3)));
    }
}
