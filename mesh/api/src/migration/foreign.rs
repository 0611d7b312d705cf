//! Kinds of Istio's, and of those that Istio reads, which the mesh does not read.

use serde_json::Value;

use super::{Found, Level};

const NOT_READ: &str = "this kind is not read";

pub(super) fn look(group: &str, object: &Value, found: &mut Found) {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    match (group, &*kind) {
        ("telemetry.istio.io", "Telemetry") => telemetry(object, found),
        ("networking.istio.io", "ProxyConfig") => proxy_config(object, found),
        ("networking.k8s.io", "Ingress") => ingress(object, found),
        _ if group.ends_with(".istio.io") || group == "gateway.networking.k8s.io" => {
            found.add(Level::Unsupported, "", NOT_READ, whole(group, &kind));
        }
        _ => {}
    }
}

/// What to do about a whole object.
fn whole(group: &str, kind: &str) -> &'static str {
    match (group, kind) {
        ("networking.istio.io", "Gateway") => "keep the gateway with Istio: there are none here yet",
        ("networking.istio.io", "WorkloadGroup") => {
            "keep virtual machines with Istio, or call them as hosts outside the mesh"
        }
        ("extensions.istio.io", _) => {
            "move it into the application, or for decisions behind a CUSTOM authorizer (meshConfig.extensionProviders)"
        }
        ("gateway.networking.k8s.io", _) => {
            "for calls within the mesh write a VirtualService; keep gateways and their routes with what serves them"
        }
        _ => "take it out, or keep it with Istio",
    }
}

fn telemetry(object: &Value, found: &mut Found) {
    for (field, todo) in [
        (
            "accessLogging",
            "write meshConfig.accessLogFile, accessLogFormat and accessLogEncoding, which are for the whole mesh",
        ),
        (
            "tracing",
            "keep the application's own tracing, whose headers are passed on: proxies make no spans",
        ),
        (
            "metrics",
            "Istio's standard metrics are there with all their labels; drop or rename labels where they are scraped \
             (metric_relabel_configs)",
        ),
    ] {
        if object["spec"][field].as_array().is_some_and(|list| !list.is_empty()) {
            found.add(Level::Unsupported, &format!("spec.{field}"), NOT_READ, todo);
        }
    }
}

fn proxy_config(object: &Value, found: &mut Found) {
    for (field, todo) in [
        (
            "concurrency",
            "write concurrency in meshConfig.defaultConfig, or in the pods' annotation proxy.istio.io/config",
        ),
        (
            "environmentVariables",
            "write proxyMetadata in meshConfig.defaultConfig, or in the pods' annotation proxy.istio.io/config",
        ),
        ("image", "write the pods' annotation sidecar.istio.io/proxyImageType"),
    ] {
        if object["spec"].get(field).is_some_and(|value| !value.is_null()) {
            found.add(Level::Unsupported, &format!("spec.{field}"), NOT_READ, todo);
        }
    }
}

fn ingress(object: &Value, found: &mut Found) {
    const TODO: &str = "keep the gateway that serves it with Istio, or give it to another controller";
    let annotation = &object["metadata"]["annotations"]["kubernetes.io/ingress.class"];
    for (field, class) in [
        ("metadata.annotations[kubernetes.io/ingress.class]", annotation),
        ("spec.ingressClassName", &object["spec"]["ingressClassName"]),
    ] {
        if class == "istio" {
            found.add(Level::Unsupported, field, "nothing here serves Ingresses", TODO);
        }
    }
}
