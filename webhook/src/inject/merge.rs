//! A container of the pod's own that is named like one of the mesh's: it is laid over the injected one, field by field,
//! as Istio does, so that a pod can say about its sidecar what no annotation says.
//!
//! Lists whose items have a key (variables, ports, mounts) are joined by it, others replaced; a hook or a probe of another
//! kind replaces the injected one whole.

use serde_json::{Map, Value};

use super::{INIT_CONTAINER, PROXY_CONTAINER, Refusal, pod};

/// The image that stands for the one that would be injected.
const AUTO: &str = "auto";

/// Where the API server's admission of ServiceAccounts mounts a token into every container; the sidecar needs none.
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the pod has in place of the injected containers.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) proxy: Option<Value>,
    pub(super) init: Option<Value>,
}

/// Takes these containers out of the pod.
///
/// # Errors
/// One of them is there twice, or where it cannot be.
pub(super) fn take(pod: &mut Value) -> Result<Own, Refusal> {
    let mut own = Own::default();
    for list in pod::CONTAINER_LISTS {
        let Some(items) = pod
            .get_mut("spec")
            .and_then(|spec| spec.get_mut(list))
            .and_then(Value::as_array_mut)
        else {
            continue;
        };
        for (name, place) in [(PROXY_CONTAINER, &mut own.proxy), (INIT_CONTAINER, &mut own.init)] {
            while let Some(at) = items.iter().position(|item| pod::name(item) == name) {
                let taken = items.remove(at);
                let misplaced = name == INIT_CONTAINER && list != "initContainers";
                if misplaced || place.replace(taken).is_some() {
                    return Err(Refusal::ContainerName { list, name });
                }
            }
        }
    }
    Ok(own)
}

/// Whether the container names an image of its own.
pub(super) fn own_image(container: &Value) -> Option<&str> {
    container
        .get("image")
        .and_then(Value::as_str)
        .filter(|image| !["", AUTO].contains(image))
}

/// A number of the container's security context that takes the place of the injected one.
pub(super) fn identity(own: Option<&Value>, field: &str) -> Option<u64> {
    own?.get("securityContext")?.get(field)?.as_u64()
}

/// Lays a container of the pod's own over the injected one.
pub(super) fn lay(own: Value, over: &mut Value) {
    let auto = own_image(&own).is_none();
    let (Value::Object(own), Some(over)) = (own, over.as_object_mut()) else {
        return;
    };
    for (field, value) in own {
        match field.as_str() {
            // The name is the same; whether it is an init container that restarts is not the container's to say.
            "name" | "restartPolicy" => {}
            "image" if auto => {}
            // An image without a tag is pulled always, says the API server of "auto".
            "imagePullPolicy" if auto && value == "Always" => {}
            "env" => join(over, &field, value, |item| item.get("name").cloned()),
            "volumeDevices" => join(over, &field, value, |item| item.get("devicePath").cloned()),
            "volumeMounts" => {
                let path = |item: &Value| item.get("mountPath").cloned();
                join(over, &field, without_token(value), path);
            }
            "ports" => join(over, &field, value, |item| {
                let protocol = item.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
                Some(format!("{}/{protocol}", item.get("containerPort")?).into())
            }),
            "lifecycle" => each(over, field, value, |_, hook| hook),
            "readinessProbe" | "livenessProbe" | "startupProbe" => probe(over, field, value),
            _ => deep(over, field, value),
        }
    }
}

/// Joins a list by its items' key: an item of the pod's own takes the place of the one of the same key.
fn join(over: &mut Map<String, Value>, field: &str, own: Value, key: impl Fn(&Value) -> Option<Value>) {
    let Value::Array(own) = own else { return };
    let mut items = match over.remove(field) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    for item in own {
        let same = items
            .iter()
            .position(|there| key(there).is_some() && key(there) == key(&item));
        match same.and_then(|at| items.get_mut(at)) {
            Some(there) => *there = item,
            None => items.push(item),
        }
    }
    if !items.is_empty() {
        over.insert(field.to_owned(), Value::Array(items));
    }
}

/// Joins two objects, entry by entry.
fn each(over: &mut Map<String, Value>, field: String, own: Value, joined: impl Fn(Option<Value>, Value) -> Value) {
    let Value::Object(own) = own else { return };
    let there = over.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if let Some(there) = there.as_object_mut() {
        for (name, value) in own {
            let before = there.remove(&name);
            there.insert(name, joined(before, value));
        }
    }
}

/// Joins objects to the bottom; anything else takes the place of what was there.
fn deep(over: &mut Map<String, Value>, field: String, own: Value) {
    match (over.get_mut(&field), own) {
        (Some(Value::Object(there)), Value::Object(own)) => {
            for (name, value) in own {
                deep(there, name, value);
            }
        }
        (_, own) => {
            over.insert(field, own);
        }
    }
}

/// A probe that asks otherwise replaces the injected one; one that does not say what it asks changes its timing.
fn probe(over: &mut Map<String, Value>, field: String, own: Value) {
    let asks = ["httpGet", "tcpSocket", "grpc", "exec"]
        .iter()
        .any(|kind| own.get(kind).is_some_and(|action| !action.is_null()));
    if asks {
        over.insert(field, own);
    } else {
        deep(over, field, own);
    }
}

fn without_token(mounts: Value) -> Value {
    match mounts {
        Value::Array(mut mounts) => {
            mounts.retain(|mount| mount.get("mountPath").and_then(Value::as_str) != Some(TOKEN_FOLDER));
            Value::Array(mounts)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_joined_as_their_kind_asks() {
        let mut container = json!({
            "name": "istio-proxy", "image": "hub/proxy:1", "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always",
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [{"name": "m", "containerPort": 15090, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "40Mi"}},
            "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsUser": 1337},
            "lifecycle": {"postStart": {"exec": {"command": ["x"]}}},
            "readinessProbe": {"httpGet": {"port": 15021}, "periodSeconds": 15},
            "startupProbe": {"httpGet": {"port": 15021}},
            "volumeMounts": [{"name": "istio-certs", "mountPath": "/etc/certs"}],
        });
        lay(
            json!({
                "name": "istio-proxy", "image": "auto", "imagePullPolicy": "Always",
                "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
                "ports": [{"containerPort": 15090, "name": "n"}, {"containerPort": 9, "protocol": "UDP"}],
                "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
                "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 9}}},
                "readinessProbe": {"periodSeconds": 3},
                "startupProbe": {"tcpSocket": {"port": 1}},
                "terminationMessagePolicy": "File",
                "volumeMounts": [
                    {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
                    {"name": "ca", "mountPath": "/etc/ca"},
                ],
            }),
            &mut container,
        );
        assert_eq!(
            container,
            json!({
                "name": "istio-proxy", "image": "hub/proxy:1", "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
                "ports": [{"containerPort": 15090, "name": "n"}, {"containerPort": 9, "protocol": "UDP"}],
                "resources": {"requests": {"cpu": "1", "memory": "40Mi"}, "limits": {"memory": "1Gi"}},
                "securityContext": {"capabilities": {"add": ["SYS_PTRACE"], "drop": ["ALL"]}, "runAsUser": 1337},
                "lifecycle": {"postStart": {"exec": {"command": ["x"]}}, "preStop": {"sleep": {"seconds": 9}}},
                "readinessProbe": {"httpGet": {"port": 15021}, "periodSeconds": 3},
                "startupProbe": {"tcpSocket": {"port": 1}},
                "terminationMessagePolicy": "File",
                "volumeMounts": [
                    {"name": "istio-certs", "mountPath": "/etc/certs"},
                    {"name": "ca", "mountPath": "/etc/ca"},
                ],
            })
        );
    }

    #[test]
    fn odd_values_change_nothing_that_is_needed() {
        for odd in [
            json!(null),
            json!(1),
            json!("x"),
            json!([1]),
            json!({"env": 1, "ports": {}, "lifecycle": []}),
        ] {
            let mut container = json!({"name": "istio-proxy", "env": [], "ports": []});
            lay(odd, &mut container);
            assert_eq!(container["name"], "istio-proxy");
        }
    }
}
