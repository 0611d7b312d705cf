//! Which workloads a policy is for, as several kinds say it: `selector`, or `targetRef` and `targetRefs`, of which one may
//! be given.

use mesh_core::authorization::policy::Target;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::{self, WorkloadSelector};
use crate::{Invalid, schema};

/// The most references of one policy (Istio's CRD).
const MOST_REFERENCES: usize = 16;
/// What may be referred to: group and kind (istio/istio pkg/config/validation, `allowedTargetRefs`).
const REFERABLE: &[(&str, &str)] = &[
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];
const ACCEPTED: &str = "Service, ServiceEntry of networking.istio.io, or Gateway or GatewayClass of \
                        gateway.networking.k8s.io";

/// Istio's `type.v1beta1.PolicyTargetReference`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct TargetReference {
    /// The group of the target resource; empty for the core group.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxLength" = 253,
        "pattern" = "^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    ))]
    pub group: Option<String>,
    /// The kind of the target resource.
    #[schemars(extend("minLength" = 1, "maxLength" = 63, "pattern" = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    #[serde(default)]
    pub kind: String,
    /// The name of the target resource.
    #[schemars(extend("minLength" = 1, "maxLength" = 253))]
    #[serde(default)]
    pub name: String,
    /// Must be empty: the target is in the policy's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::same_namespace")]
    pub namespace: Option<String>,
}

/// Parses the three fields; what is wrong with them is added to `errors`.
pub(crate) fn parse(
    selector: Option<&WorkloadSelector>,
    reference: Option<&TargetReference>,
    references: Option<&[TargetReference]>,
    errors: &mut Vec<Invalid>,
) -> Target {
    let references = references.unwrap_or_default();
    let given = [
        ("spec.selector", selector.is_some()),
        ("spec.targetRef", reference.is_some()),
        ("spec.targetRefs", !references.is_empty()),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, there)| *there)
        .map(|(path, _)| *path)
        .collect();
    if let [first, others @ ..] = &given[..]
        && !others.is_empty()
    {
        errors.push(Invalid::new(
            *first,
            format!("{first} beside {}", others.join(" and ")),
            "only one of selector, targetRef and targetRefs",
        ));
    }
    if references.len() > MOST_REFERENCES {
        errors.push(Invalid::new(
            "spec.targetRefs",
            format!("{} references", references.len()),
            format!("at most {MOST_REFERENCES}"),
        ));
    }
    if let Some(reference) = reference {
        check("spec.targetRef", reference, errors);
    }
    for (at, reference) in references.iter().enumerate() {
        check(&format!("spec.targetRefs[{at}]"), reference, errors);
    }
    Target {
        refs: selector.is_none() && !given.is_empty(),
        selector: selector::parse("spec.selector", selector, errors),
    }
}

fn check(path: &str, reference: &TargetReference, errors: &mut Vec<Invalid>) {
    let group = reference.group.as_deref().unwrap_or_default();
    if !REFERABLE.contains(&(group, &reference.kind)) {
        let is = if group.is_empty() {
            reference.kind.clone()
        } else {
            format!("{} of {group}", reference.kind)
        };
        errors.push(Invalid::new(format!("{path}.kind"), is, ACCEPTED));
    }
    if reference.name.is_empty() || reference.name.chars().count() > 253 {
        let accepted = "a name of 1 to 253 characters";
        errors.push(Invalid::new(format!("{path}.name"), &reference.name, accepted));
    }
    if let Some(namespace) = reference.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        let accepted = "no namespace: what is referred to is in the policy's own";
        errors.push(Invalid::new(format!("{path}.namespace"), namespace, accepted));
    }
}

/// The sentence about a policy that refers to something, as long as sidecars are all that policies are for.
pub(crate) const NO_SIDECAR: &str = "targetRefs are for gateways and waypoints, of which there are none here: no sidecar \
                                     follows the policy";
/// The sentence about a selector without labels.
pub(crate) const SELECTS_ALL: &str = "spec.selector has no labels: the policy is for every workload of its namespace, or \
                                      of the whole mesh in the root namespace";

/// Where a policy that refers to nothing counts: in a word, and in words.
pub(crate) fn scope(target: &Target, namespace: &str, root_namespace: &str) -> (&'static str, String) {
    match (namespace == root_namespace, target.selector.is_empty()) {
        (true, true) => ("Mesh", "workloads of the whole mesh".to_owned()),
        (true, false) => ("SelectedOfMesh", "the selected workloads of every namespace".to_owned()),
        (false, true) => ("Namespace", format!("workloads of namespace {namespace}")),
        (false, false) => ("Workload", format!("the selected workloads of namespace {namespace}")),
    }
}

/// What is worth a word about a target.
pub(crate) fn warnings(selector: Option<&WorkloadSelector>, target: &Target) -> Vec<String> {
    let mut warnings = Vec::new();
    if selector.is_some() && target.selector.is_empty() {
        warnings.push(SELECTS_ALL.to_owned());
    }
    if target.refs {
        warnings.push(NO_SIDECAR.to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(spec: &Value) -> Result<Target, String> {
        let selector: Option<WorkloadSelector> = serde_json::from_value(spec["selector"].clone()).unwrap();
        let reference: Option<TargetReference> = serde_json::from_value(spec["targetRef"].clone()).unwrap();
        let references: Option<Vec<TargetReference>> = serde_json::from_value(spec["targetRefs"].clone()).unwrap();
        let mut errors = Vec::new();
        let target = parse(
            selector.as_ref(),
            reference.as_ref(),
            references.as_deref(),
            &mut errors,
        );
        if errors.is_empty() {
            Ok(target)
        } else {
            Err(crate::join(&errors))
        }
    }

    #[test]
    fn one_of_selector_and_references() {
        for (spec, refs, labels) in [
            (json!({}), false, 0),
            (json!({"selector": {"matchLabels": {"a": "b"}}}), false, 1),
            (json!({"selector": {}, "targetRefs": []}), false, 0),
            (json!({"targetRef": {"kind": "Service", "name": "s"}}), true, 0),
            (
                json!({"targetRefs": [{"group": "core", "kind": "Service", "name": "s", "namespace": ""}]}),
                true,
                0,
            ),
            (
                json!({"targetRefs": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"},
                    {"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "g"},
                    {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "e"}
                ]}),
                true,
                0,
            ),
        ] {
            let target = parsed(&spec).unwrap();
            assert_eq!((target.refs, target.selector.0.len()), (refs, labels), "{spec}");
        }
    }

    #[test]
    fn every_error_is_named() {
        let reference = |name: &str, value: Value| {
            let mut reference = json!({"kind": "Service", "name": "s"});
            reference[name] = value;
            json!({ "targetRefs": [reference] })
        };
        for (spec, expected) in [
            (
                json!({"selector": {}, "targetRef": {"kind": "Service", "name": "s"}}),
                "spec.selector: \"spec.selector beside spec.targetRef\" is not accepted, expected only one of selector, \
                 targetRef and targetRefs",
            ),
            (
                reference("kind", json!("Pod")),
                "spec.targetRefs[0].kind: \"Pod\" is not accepted, expected Service, ServiceEntry of",
            ),
            (
                reference("group", json!("apps")),
                "spec.targetRefs[0].kind: \"Service of apps\" is not accepted",
            ),
            (
                reference("name", json!("")),
                "spec.targetRefs[0].name: \"\" is not accepted, expected a name",
            ),
            (
                reference("namespace", json!("other")),
                "spec.targetRefs[0].namespace: \"other\" is not accepted, expected no namespace",
            ),
            (
                json!({"targetRefs": vec![json!({"kind": "Service", "name": "s"}); 17]}),
                "spec.targetRefs: \"17 references\" is not accepted, expected at most 16",
            ),
        ] {
            let message = parsed(&spec).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
