//! MeshConfig, in Istio's ConfigMap or in what installs it.

use serde_json::Value;

use super::{Found, Level};
use crate::mesh_config::{CONFIG_MAP, KEY, MeshConfig};

const NO_EFFECT: &str = "it has no effect";

pub(super) fn of_config_map(object: &Value, found: &mut Found) {
    let rest = found.name.strip_prefix(CONFIG_MAP).map(str::to_owned);
    if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
        return;
    }
    if let Some(text) = object["data"][KEY].as_str() {
        parse("", text, found);
    }
    let networks = object["data"]["meshNetworks"].as_str().unwrap_or_default();
    if networks.contains(':') && !matches!(networks.trim(), "networks: {}" | "") {
        found.add(
            Level::Unsupported,
            "meshNetworks",
            "endpoints of all networks are called directly",
            "keep meshes of several networks with Istio",
        );
    }
}

/// An IstioOperator, or an Istio of the Sail operator.
pub(super) fn of_installation(object: &Value, found: &mut Found) {
    found.add(
        Level::Unsupported,
        "",
        "this kind is not read",
        "install the chart charts/pinnace; what of it counts is below",
    );
    for path in ["/spec/meshConfig", "/spec/values/meshConfig"] {
        let Some(config) = object.pointer(path).filter(|value| value.is_object()) else {
            continue;
        };
        // The YAML that the ConfigMap would have.
        if let Ok(text) = serde_yaml::to_string(config) {
            parse(
                &format!("{}.", path.trim_start_matches('/').replace('/', ".")),
                &text,
                found,
            );
        }
    }
}

fn parse(prefix: &str, text: &str, found: &mut Found) {
    match MeshConfig::parse(text) {
        Ok(config) => {
            for path in config.ignored {
                let todo = todo(&path);
                found.add(Level::Unsupported, &format!("{prefix}{path}"), NO_EFFECT, todo);
            }
        }
        Err(errors) => {
            for mut error in errors {
                error.field = format!("{prefix}{}", error.field);
                found.refused(&error);
            }
        }
    }
}

/// What to do about a field that does nothing.
fn todo(path: &str) -> &'static str {
    const BY_NAME: &[(&str, &str)] = &[
        (
            "racing",
            "keep the application's own tracing, whose headers are passed on: proxies make no spans",
        ),
        ("ingress", "keep gateways with Istio"),
        (
            "caCertificates",
            "put roots into the Secret cacerts, or mount them for a DestinationRule",
        ),
        (
            "discoverySelectors",
            "take it out: a proxy fetches what it calls, and needs no namespaces left out to stay small",
        ),
        (
            "defaultProviders",
            "write accessLogFile for logs; metrics are always there",
        ),
        (
            "extensionProviders",
            "providers of logs, metrics and traces are not asked; write accessLogFile for logs",
        ),
        (
            "holdApplicationUntilProxyStarts",
            "take it out where sidecars are native: they start before the application anyway",
        ),
    ];
    BY_NAME
        .iter()
        .find(|(word, _)| path.contains(word))
        .map_or("see whether the mesh can do without it; it may stay", |(_, todo)| todo)
}
