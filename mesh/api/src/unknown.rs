//! Fields that a resource's schema does not know. The API server drops them without a word; who looks at files can say so.

use serde_json::{Map, Value};

use crate::Invalid;

/// The fields of an API object beside those of its kind.
const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
/// The fields of ObjectMeta.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Every field of an object that neither Kubernetes nor the CRD knows, by its path.
pub(crate) fn fields(crd: &Value, object: &Value) -> Vec<Invalid> {
    let mut found = Vec::new();
    let Some(fields) = object.as_object() else {
        return found;
    };
    listed("", fields, OBJECT, &mut found);
    if let Some(metadata) = fields.get("metadata").and_then(Value::as_object) {
        listed("metadata", metadata, METADATA, &mut found);
    }
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for part in ["spec", "status"] {
        if let Some(value) = fields.get(part) {
            walk(&schema[part], value, part, &mut found);
        }
    }
    found
}

fn listed(path: &str, fields: &Map<String, Value>, known: &[&str], found: &mut Vec<Invalid>) {
    for (name, value) in fields.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        found.push(unknown(join(path, name), value, known.iter().copied()));
    }
}

fn walk(schema: &Value, value: &Value, path: &str, found: &mut Vec<Invalid>) {
    match value {
        Value::Object(fields) => {
            let known = schema["properties"].as_object();
            let any = &schema["additionalProperties"];
            for (name, value) in fields {
                let path = join(path, name);
                if let Some(schema) = known.and_then(|known| known.get(name)) {
                    walk(schema, value, &path, found);
                } else if any.is_object() {
                    walk(any, value, &path, found);
                } else if let Some(known) = known
                    && schema["x-kubernetes-preserve-unknown-fields"] != Value::Bool(true)
                {
                    found.push(unknown(path, value, known.keys().map(String::as_str)));
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

fn unknown<'a>(path: String, value: &Value, known: impl Iterator<Item = &'a str>) -> Invalid {
    let known: Vec<&str> = known.collect();
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Invalid::new(path, value, format!("no such field, but one of {}", known.join(", ")))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(crd: &Value, object: &Value) -> Vec<String> {
        fields(crd, object).into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_field_that_no_schema_has_is_found_wherever_it_stands() {
        let crd = crate::crd::authorization_policy();
        let known = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "labels": {"any": "label"}, "annotations": {"any": "annotation"}},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "rules": [{"from": [{"source": {"principals": ["a"]}}]}]},
            "status": {"conditions": [{"type": "T"}], "ofAnother": {"writer": 1}}
        });
        assert_eq!(found(&crd, &known), [""; 0]);
        let object = json!({
            "spek": {}, "metadata": {"nmae": "p"},
            "spec": {
                "selektor": {}, "selector": {"matchLables": {}},
                "rules": [{}, {"from": [{"source": {"principal": ["a"]}}, {"namespaces": ["a"]}]}]
            }
        });
        assert_eq!(
            found(&crd, &object),
            [
                "spek",
                "metadata.nmae",
                "spec.rules[1].from[0].source.principal",
                "spec.rules[1].from[1].namespaces",
                "spec.selector.matchLables",
                "spec.selektor",
            ]
        );
        let errors = fields(&crd, &object);
        assert_eq!(
            errors[3].to_string(),
            "spec.rules[1].from[1].namespaces: \"[\\\"a\\\"]\" is not accepted, expected no such field, but one of source"
        );
    }

    #[test]
    fn the_values_of_maps_are_looked_at_by_their_schema() {
        let crd = crate::crd::peer_authentication();
        let object = json!({"spec": {"portLevelMtls": {"80": {"mode": "STRICT", "mod": 1}}}});
        assert_eq!(found(&crd, &object), ["spec.portLevelMtls.80.mod"]);
        assert_eq!(found(&crd, &json!([])), [""; 0]);
    }
}
