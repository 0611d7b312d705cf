//! The kubelet's probes and hooks of the application, sent through the sidecar.
//!
//! The kubelet has no certificate, so under STRICT its probes would be refused. Each becomes a plain GET to the sidecar's
//! status port, which asks the application from inside; the originals go to the sidecar as `ISTIO_KUBE_APP_PROBERS`, in
//! Istio's form (pilot-agent's KubeAppProbers).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::pod;

const PROBES: [(&str, &str); 3] = [
    ("readinessProbe", "readyz"),
    ("livenessProbe", "livez"),
    ("startupProbe", "startupz"),
];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Rewrites every probe and hook, and returns the originals as JSON; `None` when there are none.
pub(super) fn rewrite(pod: &mut Value, status_port: u16, warnings: &mut Vec<String>) -> Option<String> {
    let mut originals = BTreeMap::new();
    for list in pod::CONTAINER_LISTS {
        // Not made when absent: a pod without init containers stays one.
        let containers = pod
            .get_mut("spec")
            .and_then(|spec| spec.get_mut(list))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            rewrite_container(container, status_port, &mut originals, warnings);
        }
    }
    (!originals.is_empty()).then(|| json!(originals).to_string())
}

fn rewrite_container(
    container: &mut Value,
    status_port: u16,
    originals: &mut BTreeMap<String, Value>,
    warnings: &mut Vec<String>,
) {
    let name = pod::name(container).to_owned();
    let ports = named_ports(container);
    for (field, last) in PROBES {
        let Some(probe) = container.get_mut(field).and_then(Value::as_object_mut) else {
            continue;
        };
        let path = format!("/app-health/{name}/{last}");
        match replace(probe, (&path, status_port), &ports, &["httpGet", "tcpSocket", "grpc"]) {
            Replaced::Yes(mut original) => {
                if let Some(timeout) = probe.get("timeoutSeconds") {
                    original.insert("timeoutSeconds".to_owned(), timeout.clone());
                }
                originals.insert(path, sorted(&Value::Object(original)));
            }
            Replaced::UnknownPort(port) => warnings.push(unknown_port(&name, field, &port)),
            Replaced::No => {}
        }
    }
    for (field, last) in HOOKS {
        let hook = container
            .get_mut("lifecycle")
            .and_then(|lifecycle| lifecycle.get_mut(field));
        let Some(hook) = hook.and_then(Value::as_object_mut) else {
            continue;
        };
        let path = format!("/app-lifecycle/{name}/{last}");
        match replace(hook, (&path, status_port), &ports, &["httpGet"]) {
            Replaced::Yes(original) => {
                originals.insert(path, sorted(&Value::Object(original)));
            }
            Replaced::UnknownPort(port) => warnings.push(unknown_port(&name, field, &port)),
            Replaced::No => {}
        }
    }
}

enum Replaced {
    /// With what the sidecar has to do instead of the kubelet.
    Yes(Map<String, Value>),
    /// It is left as it is: the kubelet will not find the port either.
    UnknownPort(String),
    /// There is nothing of the kind, or it does not concern the pod's own address.
    No,
}

/// Replaces a probe's or hook's action by a GET to the sidecar.
fn replace(
    handler: &mut Map<String, Value>,
    (path, status_port): (&str, u16),
    ports: &BTreeMap<String, u64>,
    kinds: &[&str],
) -> Replaced {
    let Some(kind) = kinds
        .iter()
        .find(|kind| handler.get(**kind).is_some_and(Value::is_object))
    else {
        return Replaced::No;
    };
    let Some(mut original) = handler.get(*kind).cloned() else {
        return Replaced::No;
    };
    // Another host than the pod is asked from the node, past this pod's sidecar.
    if original
        .get("host")
        .and_then(Value::as_str)
        .is_some_and(|host| !host.is_empty())
    {
        return Replaced::No;
    }
    let number = match original.get("port") {
        Some(Value::String(port)) => ports.get(port).copied().or_else(|| port.parse().ok()),
        Some(port) => port.as_u64(),
        None => return Replaced::No,
    };
    let Some(port) = number.filter(|port| (1..=u64::from(u16::MAX)).contains(port)) else {
        let port = original.get("port").unwrap_or(&Value::Null);
        return Replaced::UnknownPort(port.as_str().map_or_else(|| port.to_string(), str::to_owned));
    };
    if port == u64::from(status_port) {
        return Replaced::No;
    }
    original["port"] = json!(port);

    let mut action = if *kind == "httpGet" {
        original.clone()
    } else {
        json!({})
    };
    action["path"] = json!(path);
    action["port"] = json!(status_port);
    // The sidecar is asked in the clear and speaks TLS to the application, as the kubelet would: without verifying it.
    if action.get("scheme").and_then(Value::as_str) == Some("HTTPS") {
        action["scheme"] = json!("HTTP");
    }
    handler.remove(*kind);
    handler.insert("httpGet".to_owned(), action);
    Replaced::Yes(Map::from_iter([((*kind).to_owned(), original)]))
}

fn named_ports(container: &Value) -> BTreeMap<String, u64> {
    let ports = container.get("ports").and_then(Value::as_array);
    let named = ports.into_iter().flatten().filter_map(|port| {
        let name = pod::name(port);
        Some((name.to_owned(), port.get("containerPort")?.as_u64()?)).filter(|(name, _)| !name.is_empty())
    });
    named.collect()
}

fn unknown_port(container: &str, field: &str, port: &str) -> String {
    format!("container {container}: {field} asks for the port {port:?}, which is no port of the container")
}

/// The same value with its keys in order, so that the same pod always gives the same text.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<&String, Value> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().map(|(key, value)| (key.clone(), value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
