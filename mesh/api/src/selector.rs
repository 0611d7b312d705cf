//! Istio's `WorkloadSelector`, which resources of several kinds have.

use std::collections::BTreeMap;

use mesh_core::labels::Selector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Istio's `type.v1beta1.WorkloadSelector`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// One or more labels that indicate a specific set of pods on which a policy should be applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, LabelValue>>", extend(
        "maxProperties" = 4096,
        "x-kubernetes-validations" = [
            {
                "message": "wildcard not allowed in label key match",
                "rule": "self.all(key, !key.contains(\"*\"))"
            },
            {
                "message": "key must not be empty",
                "rule": "self.all(key, key.size() != 0)"
            }
        ]
    ))]
    pub match_labels: Option<BTreeMap<String, String>>,
}

/// The value that the label must have.
#[derive(JsonSchema)]
#[schemars(extend(
    "maxLength" = 63,
    "x-kubernetes-validations" = [{
        "message": "wildcard not allowed in label value match",
        "messageExpression": "'wildcard not allowed in label value match, found ' + self",
        "rule": "!self.contains(\"*\")"
    }]
))]
struct LabelValue(#[allow(dead_code, reason = "only its schema is used")] String);

/// Parses a selector at a path; what is wrong with it is added to `errors`.
pub(crate) fn parse(path: &str, selector: Option<&WorkloadSelector>, errors: &mut Vec<Invalid>) -> Selector {
    let labels = selector
        .and_then(|selector| selector.match_labels.clone())
        .unwrap_or_default();
    let path = format!("{path}.matchLabels");
    for (key, value) in &labels {
        if key.is_empty() {
            errors.push(Invalid::new(&path, key, "keys that are not empty"));
        } else if key.contains('*') {
            errors.push(Invalid::new(&path, key, "keys without a wildcard"));
        }
        let path = || format!("{path}[{key}]");
        if value.contains('*') {
            errors.push(Invalid::new(path(), value, "a value without a wildcard"));
        } else if value.chars().count() > 63 {
            errors.push(Invalid::new(path(), value, "at most 63 characters"));
        }
    }
    Selector(labels)
}
