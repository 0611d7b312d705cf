//! Reading and growing a pod that is JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The lists of a pod that hold containers.
pub(super) const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// `metadata.labels` or `metadata.annotations` as a map; entries that are not text are passed over.
pub(super) fn strings(pod: &Value, field: &str) -> BTreeMap<String, String> {
    let entries = pod.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// A text of the pod's `spec`, when it is not empty.
pub(super) fn spec_text<'a>(pod: &'a Value, field: &str) -> Option<&'a str> {
    pod.pointer("/spec")?
        .get(field)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// The items of a list in the pod's `spec`.
pub(super) fn spec_list<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    pod.pointer("/spec")
        .and_then(|spec| spec.get(field))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Every container of the pod, init containers first.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    CONTAINER_LISTS.into_iter().flat_map(|list| spec_list(pod, list))
}

/// The name of a container, volume or the like.
pub(super) fn name(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// A list in the pod's `spec`, made when it is absent. `None` only for a pod whose `spec` is not an object.
pub(super) fn spec_list_mut<'a>(pod: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    let list = object_mut(pod, "spec")?.entry(field).or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut()
}

/// A map under the pod's `metadata`, made when it is absent.
pub(super) fn metadata_mut<'a>(pod: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let map = object_mut(pod, "metadata")?.entry(field).or_insert_with(|| json!({}));
    if map.is_null() {
        *map = json!({});
    }
    map.as_object_mut()
}

fn object_mut<'a>(pod: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    pod.as_object_mut()?
        .entry(field)
        .or_insert_with(|| json!({}))
        .as_object_mut()
}
