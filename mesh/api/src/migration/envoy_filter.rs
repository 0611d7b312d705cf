//! EnvoyFilter: patches of a configuration that there is not. What each was for, and what is here in its place.

use serde_json::Value;

use super::{Found, Level};

/// A word that a patch has, and what does the same here; the first that fits counts.
const BY_WORD: &[(&str, &str)] = &[
    (
        "ext_authz",
        "write an AuthorizationPolicy with action CUSTOM, and its provider in meshConfig.extensionProviders",
    ),
    ("jwt_authn", "write a RequestAuthentication"),
    ("filters.http.rbac", "write an AuthorizationPolicy"),
    ("filters.network.rbac", "write an AuthorizationPolicy"),
    ("filters.http.cors", "write corsPolicy in a VirtualService"),
    ("filters.http.fault", "write fault in a VirtualService"),
    (
        "ratelimit",
        "there are no limits of rates here: keep them in the application or its own gateway; connectionPool of a \
         DestinationRule limits what is under way",
    ),
    (
        "filters.http.lua",
        "for headers write headers in a VirtualService; move what is more into the application, or behind a CUSTOM authorizer",
    ),
    ("wasm", "move it into the application, or behind a CUSTOM authorizer"),
    (
        "access_log",
        "write meshConfig.accessLogFile, accessLogFormat and accessLogEncoding",
    ),
    (
        "tracing",
        "there is no tracing here: keep the application's own, whose headers are passed on",
    ),
    ("max_request_bytes", "limit bodies in the application"),
    ("request_headers_to_add", "write headers in a VirtualService"),
    ("response_headers_to_add", "write headers in a VirtualService"),
    ("retry_policy", "write retries in a VirtualService"),
    ("circuit_breakers", "write connectionPool in a DestinationRule"),
    ("outlier_detection", "write outlierDetection in a DestinationRule"),
    ("keepalive", "write tcpKeepalive or http2KeepAlive in a DestinationRule"),
    ("normalize_path", "write meshConfig.pathNormalization"),
    ("merge_slashes", "write meshConfig.pathNormalization"),
    (
        "xff_num_trusted_hops",
        "write defaultConfig.gatewayTopology.numTrustedProxies",
    ),
    (
        "idle_timeout",
        "write idleTimeout in a DestinationRule's connectionPool",
    ),
    ("compressor", "compress in the application"),
    (
        "grpc_json_transcoder",
        "transcode in the application, or in a proxy of its own before it",
    ),
    (
        "grpc_web",
        "speak gRPC-Web in the application, or in a proxy of its own before it",
    ),
    ("buffer", "buffer in the application"),
];

/// What is patched, and what is written in its place here.
const BY_PLACE: &[(&str, &str)] = &[
    (
        "CLUSTER",
        "see whether a DestinationRule says it: connectionPool, outlierDetection, loadBalancer, tls",
    ),
    ("ROUTE_CONFIGURATION", "see whether a VirtualService says it"),
    ("VIRTUAL_HOST", "see whether a VirtualService says it"),
    ("HTTP_ROUTE", "see whether a VirtualService says it"),
    (
        "BOOTSTRAP",
        "see whether an annotation of the pod says it, or meshConfig.defaultConfig",
    ),
];

const OTHERWISE: &str =
    "see what it was for: what no resource says has to move into the application, or stay with Istio";

pub(super) fn look(object: &Value, found: &mut Found) {
    let patches = object["spec"]["configPatches"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if patches.is_empty() {
        found.add(Level::Unsupported, "", "there is no Envoy to patch", "take it out");
    }
    for (at, patch) in patches.iter().enumerate() {
        let place = patch["applyTo"].as_str().unwrap_or_default();
        let filter = patch.pointer("/patch/value/name").and_then(Value::as_str);
        let what = match filter {
            Some(filter) => format!("there is no Envoy to patch; it patches {place} with {filter}"),
            None => format!("there is no Envoy to patch; it patches {place}"),
        };
        found.add(
            Level::Unsupported,
            &format!("spec.configPatches[{at}]"),
            what,
            todo(place, patch),
        );
    }
}

fn todo(place: &str, patch: &Value) -> &'static str {
    let text = patch["patch"].to_string();
    let by_word = BY_WORD.iter().find(|(word, _)| text.contains(word));
    let by_place = || BY_PLACE.iter().find(|(of, _)| *of == place);
    by_word.or_else(by_place).map_or(OTHERWISE, |(_, todo)| todo)
}
