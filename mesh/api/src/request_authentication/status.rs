//! The status that tells a policy's owner whether it is in force and why not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{RequestAuthentication, parse};
use crate::status::{Generation, IN_FORCE, Status, Verdict};
use crate::target;

/// The type of the condition that says whether the keys of every issuer are known.
pub const KEYS_KNOWN: &str = "KeysKnown";

/// Builds a resource's status. `workloads` is how many the policy is for, and `missing` a sentence about each issuer whose
/// keys are not known, where those are known.
///
/// Conditions of other types, messages and fields of other writers are kept. The result equals the resource's present
/// status when nothing is to be written.
#[must_use]
pub fn status(
    resource: &RequestAuthentication,
    workloads: Option<usize>,
    missing: Option<&[String]>,
    root_namespace: &str,
    now: &Time,
) -> Status {
    let generation = resource.metadata.generation.map(Generation);
    let mut status = resource.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.set_workloads(workloads);
    status.set(IN_FORCE, verdict(resource, root_namespace), generation, now);
    if let Some(missing) = missing {
        keys_known(resource, missing, &mut status, now);
    }
    status
}

/// Says in a status, of a resource in force or of a candidate, whether the keys of every issuer are known; `missing` as in
/// [`status`].
pub fn keys_known(resource: &RequestAuthentication, missing: &[String], status: &mut Status, now: &Time) {
    let keys = if missing.is_empty() {
        Verdict::yes("Known", "the keys of every issuer are known")
    } else {
        Verdict::no(
            "Missing",
            format!("{}; until they are, tokens are refused", missing.join("; ")),
        )
    };
    status.set(KEYS_KNOWN, keys, resource.metadata.generation.map(Generation), now);
}

fn verdict(resource: &RequestAuthentication, root_namespace: &str) -> Verdict {
    let (target, policy) = match parse(resource) {
        Ok(parsed) => parsed,
        Err(errors) => {
            let message = format!(
                "{}; the last good one stays in force; where there was none, tokens for a rule that does not parse are refused",
                crate::join(&errors)
            );
            return Verdict::no("Invalid", message);
        }
    };
    if target.refs {
        return Verdict::no("TargetRefs", target::NO_SIDECAR);
    }
    if policy.rules.is_empty() {
        return Verdict::no("NoRules", "there is no rule, so that tokens are not looked at");
    }
    let (reason, scope) = target::scope(&target, &policy.namespace, root_namespace);
    let issuers: Vec<&str> = policy.rules.iter().map(|rule| rule.issuer.as_str()).collect();
    Verdict::yes(
        reason,
        format!("tokens of {} are verified for {scope}", issuers.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::read;
    use super::*;

    fn at(second: u8) -> Time {
        serde_json::from_value(json!(format!("2026-02-01T00:00:{second:02}Z"))).unwrap()
    }

    fn resource(namespace: &str, spec: Value) -> RequestAuthentication {
        read(json!({"metadata": {"name": "p", "namespace": namespace, "generation": 3}, "spec": spec})).unwrap()
    }

    #[test]
    fn says_whether_it_is_in_force_and_why_not() {
        let rules = json!([{"issuer": "https://a"}, {"issuer": "https://b"}]);
        for (namespace, spec, expected) in [
            (
                "istio-system",
                json!({"jwtRules": rules}),
                "True Mesh: tokens of https://a, https://b are verified for workloads of the whole mesh",
            ),
            (
                "a",
                json!({"jwtRules": rules, "selector": {"matchLabels": {"app": "web"}}}),
                "True Workload: tokens of https://a, https://b are verified for the selected workloads of namespace a",
            ),
            ("a", json!({}), "False NoRules: there is no rule"),
            (
                "a",
                json!({"jwtRules": rules, "targetRefs": [{"kind": "Service", "name": "s"}]}),
                "False TargetRefs: targetRefs are for gateways",
            ),
            (
                "a",
                json!({"jwtRules": [{"issuer": ""}]}),
                "False Invalid: spec.jwtRules[0].issuer: \"\" is not accepted",
            ),
        ] {
            let status = status(&resource(namespace, spec), Some(2), None, "istio-system", &at(0));
            let condition = status.condition(IN_FORCE).unwrap();
            let said = format!(
                "{} {}: {}",
                condition.status.as_deref().unwrap(),
                condition.reason.as_deref().unwrap(),
                condition.message.as_deref().unwrap()
            );
            assert!(said.starts_with(expected), "{said}");
            assert_eq!(status.other["workloads"], json!(2));
            assert_eq!(status.condition(KEYS_KNOWN), None);
        }
    }

    #[test]
    fn says_whose_keys_are_missing() {
        let mut resource = resource("a", json!({"jwtRules": [{"issuer": "https://a"}]}));
        let missing = ["https://a: connection refused".to_owned()];
        let first = status(&resource, None, Some(&missing), "istio-system", &at(1));
        let keys = first.condition(KEYS_KNOWN).unwrap();
        assert_eq!(keys.status.as_deref(), Some("False"));
        assert_eq!(
            keys.message.as_deref(),
            Some("https://a: connection refused; until they are, tokens are refused")
        );
        resource.status = Some(first.clone());
        assert_eq!(status(&resource, None, Some(&missing), "istio-system", &at(2)), first);
        let mut of_a_candidate = Status::default();
        keys_known(&resource, &missing, &mut of_a_candidate, &at(1));
        assert_eq!(of_a_candidate.condition(KEYS_KNOWN), Some(keys));
        let known = status(&resource, None, Some(&[]), "istio-system", &at(3));
        assert_eq!(known.condition(KEYS_KNOWN).unwrap().status.as_deref(), Some("True"));
    }
}
