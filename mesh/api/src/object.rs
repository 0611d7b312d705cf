//! From an API object of whatever version to a resource's type.

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Invalid;

/// Reads a resource. Unknown fields and an absent `spec` are fine, as for the API server.
///
/// # Errors
/// One that names the kind when the object is not of the resource's shape at all.
pub(crate) fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(
    mut object: Value,
    accepted: &str,
) -> Result<K, Invalid> {
    let shape = |what: String| Invalid::new(K::kind(&()), what, accepted);
    let Some(fields) = object.as_object_mut() else {
        return Err(shape("not an object".to_owned()));
    };
    let spec = fields.entry("spec").or_insert_with(|| json!({}));
    if spec.is_null() {
        *spec = json!({});
    }
    fields.entry("metadata").or_insert_with(|| json!({}));
    serde_json::from_value(object).map_err(|error| shape(error.to_string()))
}
