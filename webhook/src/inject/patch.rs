//! The patch between a pod and its injected self: items that were put into a list are added where they are, so that no
//! operation touches what the pod's owner wrote; a container that was merged is taken out and added again.

use json_patch::Patch;
use serde_json::{Value, json};

use super::{INIT_CONTAINER, PROXY_CONTAINER, pod};

/// Lists whose items have names, into which injection puts items.
const LISTS: [&str; 4] = ["initContainers", "containers", "volumes", "imagePullSecrets"];

/// The operations that lead from one pod to the other (RFC 6902).
pub(super) fn between(before: &Value, after: &Value) -> Result<Patch, serde_json::Error> {
    let mut operations = Vec::new();
    let spec = |pod: &Value| pod.get("spec").cloned().unwrap_or_else(|| json!({}));
    let without_lists = |pod: &Value| {
        let mut pod = pod.clone();
        for list in LISTS {
            if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
                spec.remove(list);
            }
        }
        pod
    };
    append(&mut operations, "", &without_lists(before), &without_lists(after));
    let (before, after) = (spec(before), spec(after));
    for name in LISTS {
        let path = format!("/spec/{name}");
        match (before.get(name), after.get(name)) {
            (Some(Value::Array(old)), Some(Value::Array(new))) => {
                let merged = |item: &&Value| [PROXY_CONTAINER, INIT_CONTAINER].contains(&pod::name(item));
                for (index, _) in old.iter().enumerate().rev().filter(|(_, item)| merged(item)) {
                    operations.push(json!({"op": "remove", "path": format!("{path}/{index}")}));
                }
                let mut old = old.iter().filter(|item| !merged(item));
                let mut next = old.next();
                for (index, item) in new.iter().enumerate() {
                    let path = format!("{path}/{index}");
                    match next {
                        Some(same) if same.get("name") == item.get("name") => {
                            append(&mut operations, &path, same, item);
                            next = old.next();
                        }
                        _ => operations.push(json!({"op": "add", "path": path, "value": item})),
                    }
                }
            }
            (None, Some(new)) => operations.push(json!({"op": "add", "path": path, "value": new})),
            (Some(old), Some(new)) if old != new => {
                operations.push(json!({"op": "replace", "path": path, "value": new}));
            }
            _ => {}
        }
    }
    serde_json::from_value(Value::Array(operations))
}

/// Adds the operations between two values that stand at `path`.
fn append(operations: &mut Vec<Value>, path: &str, before: &Value, after: &Value) {
    if let Value::Array(inner) = json!(json_patch::diff(before, after)) {
        operations.extend(inner.into_iter().map(|mut operation| {
            let within = operation.get("path").and_then(Value::as_str).unwrap_or_default();
            let whole = format!("{path}{within}");
            operation["path"] = json!(whole);
            operation
        }));
    }
}
