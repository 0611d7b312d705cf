//! The status that tells a policy's owner whether it is in force and why not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_core::authorization::policy::{Action, Policy, Target};

use super::{AuthorizationPolicy, parse};
use crate::status::{COMPLETE, Generation, IN_FORCE, Status, Verdict};
use crate::target;

/// Builds a resource's status. `workloads` is how many the policy is for, where that is known; `problem` is why the provider
/// that it names cannot be asked.
///
/// Conditions of other types, messages and fields of other writers are kept. The result equals the resource's present
/// status when nothing is to be written.
#[must_use]
pub fn status(
    resource: &AuthorizationPolicy,
    workloads: Option<usize>,
    problem: Option<&str>,
    root_namespace: &str,
    now: &Time,
) -> Status {
    let generation = resource.metadata.generation.map(Generation);
    let mut status = resource.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.set_workloads(workloads);
    let (in_force, complete) = match parse(resource) {
        Ok((target, policy)) => (verdict(&target, &policy, root_namespace), complete(&policy, problem)),
        Err(errors) => {
            let message = format!(
                "{}; the last good one stays in force; where there was none, what does not parse allows nothing and denies everything",
                crate::join(&errors)
            );
            (Verdict::no("Invalid", message), all_fields())
        }
    };
    status.set(IN_FORCE, in_force, generation, now);
    status.set(COMPLETE, complete, generation, now);
    status
}

fn verdict(target: &Target, policy: &Policy, root_namespace: &str) -> Verdict {
    if target.refs {
        return Verdict::no("TargetRefs", target::NO_SIDECAR);
    }
    if policy.dry_run {
        let message = "tells what it would do, and does nothing (annotation istio.io/dry-run)";
        return Verdict::no("DryRun", message);
    }
    let (reason, scope) = target::scope(target, &policy.namespace, root_namespace);
    let does = match (&policy.action, policy.rules.is_empty()) {
        (Action::Allow, true) => "allows nothing by itself to",
        (Action::Allow, false) => "allows what its rules match, of all that goes to",
        (Action::Deny, _) => "denies what its rules match, of all that goes to",
        (Action::Audit, _) => "notes what its rules match, of all that goes to",
        (Action::Custom(_), _) => "asks its provider about what its rules match, of all that goes to",
    };
    Verdict::yes(reason, format!("{does} {scope}"))
}

fn complete(policy: &Policy, problem: Option<&str>) -> Verdict {
    match (&policy.action, problem) {
        (Action::Custom(provider), Some(problem)) => Verdict::no(
            "ProviderNotAsked",
            format!("provider {provider}: {problem}; what a rule matches is denied"),
        ),
        _ => all_fields(),
    }
}

fn all_fields() -> Verdict {
    Verdict::yes("AllFields", "every field has an effect")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::read;
    use super::*;

    fn at(second: u8) -> Time {
        serde_json::from_value(json!(format!("2026-02-01T00:00:{second:02}Z"))).unwrap()
    }

    fn resource(namespace: &str, annotations: Value, spec: Value) -> AuthorizationPolicy {
        read(json!({
            "metadata": {"name": "p", "namespace": namespace, "generation": 3, "annotations": annotations}, "spec": spec
        }))
        .unwrap()
    }

    #[test]
    fn says_whether_it_is_in_force_and_why_not() {
        let selected = json!({"selector": {"matchLabels": {"app": "web"}}, "action": "DENY", "rules": [{}]});
        for (namespace, annotations, spec, expected) in [
            (
                "istio-system",
                json!({}),
                json!({}),
                "True Mesh: allows nothing by itself to workloads of the whole mesh",
            ),
            (
                "istio-system",
                json!({}),
                selected.clone(),
                "True SelectedOfMesh: denies what its rules match, of all that goes to the selected workloads of every \
                 namespace",
            ),
            (
                "a",
                json!({}),
                json!({"rules": [{}]}),
                "True Namespace: allows what its rules match, of all that goes to workloads of namespace a",
            ),
            (
                "a",
                json!({}),
                selected.clone(),
                "True Workload: denies what its rules match, of all that goes to the selected workloads of namespace a",
            ),
            (
                "a",
                json!({"istio.io/dry-run": "true"}),
                selected,
                "False DryRun: tells what it would do",
            ),
            (
                "a",
                json!({}),
                json!({"targetRef": {"kind": "Service", "name": "s"}}),
                "False TargetRefs: targetRefs are for gateways",
            ),
            (
                "a",
                json!({}),
                json!({"action": "PERMIT"}),
                "False Invalid: spec.action: \"PERMIT\" is not accepted",
            ),
        ] {
            let status = status(
                &resource(namespace, annotations, spec),
                Some(2),
                None,
                "istio-system",
                &at(0),
            );
            let condition = status.condition(IN_FORCE).unwrap();
            let said = format!(
                "{} {}: {}",
                condition.status.as_deref().unwrap(),
                condition.reason.as_deref().unwrap(),
                condition.message.as_deref().unwrap()
            );
            assert!(said.starts_with(expected), "{said}");
            assert_eq!(status.other["workloads"], json!(2));
            assert_eq!(status.observed_generation, Some(Generation(3)));
        }
    }

    #[test]
    fn a_provider_that_cannot_be_asked_is_said() {
        let spec = json!({"action": "CUSTOM", "provider": {"name": "opa"}, "rules": [{}]});
        let resource = resource("a", json!({}), spec);
        let asked = status(&resource, None, None, "istio-system", &at(0));
        let reason = |status: &Status| status.condition(COMPLETE).unwrap().reason.clone();
        assert_eq!(reason(&asked).as_deref(), Some("AllFields"));
        let status = status(&resource, None, Some("no such"), "istio-system", &at(0));
        assert_eq!(status.condition(IN_FORCE).unwrap().status.as_deref(), Some("True"));
        let complete = status.condition(COMPLETE).unwrap();
        assert_eq!(complete.reason.as_deref(), Some("ProviderNotAsked"));
        let expected = "provider opa: no such; what a rule matches is denied";
        assert_eq!(complete.message.as_deref(), Some(expected));
        assert!(!status.other.contains_key("workloads"));
    }

    #[test]
    fn a_status_that_holds_is_not_written_again() {
        let mut resource = resource("a", json!({}), json!({"rules": [{}]}));
        let first = status(&resource, Some(1), None, "istio-system", &at(1));
        resource.status = Some(first.clone());
        assert_eq!(status(&resource, Some(1), None, "istio-system", &at(2)), first);
        assert_eq!(status(&resource, None, None, "istio-system", &at(2)), first);
        assert_ne!(status(&resource, Some(2), None, "istio-system", &at(2)), first);
    }
}
