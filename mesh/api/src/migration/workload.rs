//! Workloads and namespaces: annotations and labels of pods, and what asks for ambient mode.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Found, Level};
use crate::annotations::{self, surface};

/// Labels that ask for ambient mode, and the values that do not.
const AMBIENT: [(&str, &str); 2] = [("istio.io/dataplane-mode", "none"), ("istio.io/use-waypoint", "none")];

pub(super) fn look(group: &str, object: &Value, found: &mut Found) {
    let metadata = &object["metadata"];
    of_ambient("metadata.labels", &metadata["labels"], found);
    let (path, pod) = match (group, object["kind"].as_str().unwrap_or_default()) {
        ("", "Pod") => ("metadata", Some(metadata)),
        ("apps" | "batch" | "argoproj.io", "CronJob") => (
            "spec.jobTemplate.spec.template.metadata",
            object.pointer("/spec/jobTemplate/spec/template/metadata"),
        ),
        ("", "ReplicationController") | ("apps" | "batch" | "argoproj.io" | "serving.knative.dev", _) => {
            ("spec.template.metadata", object.pointer("/spec/template/metadata"))
        }
        _ => return,
    };
    let Some(pod) = pod else { return };
    for (name, value) in texts(&pod["annotations"]) {
        let field = format!("{path}.annotations[{name}]");
        match annotations::Sidecar::parse(&BTreeMap::from([(name.to_owned(), value.to_owned())])) {
            Ok(parsed) => {
                for warning in parsed.warnings {
                    let what = warning.trim_start_matches("annotation ").to_owned();
                    found.add(
                        Level::Unsupported,
                        &field,
                        what,
                        "take it out, or leave it: it does nothing",
                    );
                }
            }
            Err(errors) => {
                for error in errors {
                    found.add(
                        Level::Refused,
                        &field,
                        format!("{:?} is not accepted, and the pod is not created", error.value),
                        format!("write {}", error.accepted),
                    );
                }
            }
        }
    }
    for (name, _) in texts(&pod["labels"]) {
        if let Some(warning) = surface::label_warning(name) {
            let what = warning.trim_start_matches("label ").to_owned();
            found.add(
                Level::Unsupported,
                &format!("{path}.labels[{name}]"),
                what,
                "take it out, or leave it: it does nothing",
            );
        }
    }
    if path != "metadata" {
        of_ambient(&format!("{path}.labels"), &pod["labels"], found);
    }
}

fn of_ambient(path: &str, labels: &Value, found: &mut Found) {
    for (name, without) in AMBIENT {
        if labels[name].as_str().is_some_and(|value| value != without) {
            found.add(
                Level::Unsupported,
                &format!("{path}[{name}]"),
                "there is no ambient mode here: without sidecars these pods are not in the mesh",
                "label the namespace istio-injection=enabled, and restart its workloads",
            );
        }
    }
}

fn texts(map: &Value) -> impl Iterator<Item = (&str, &str)> {
    let fields = map.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_annotation_without_effect_is_found() {
        for entry in surface::ANNOTATIONS {
            let pod = serde_json::json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {entry.name: "true"}}
            });
            let mut found = Found::of(&pod);
            look("", &pod, &mut found);
            if entry.treatment == surface::Treatment::Ignored {
                assert_eq!(found.list.len(), 1, "{}", entry.name);
                assert_eq!(found.list[0].level, Level::Unsupported);
            }
        }
    }
}
