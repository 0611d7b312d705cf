//! Which fields of a resource are accepted and not followed by anything yet.

use super::parse::{has_command, is_claim, only_gateways};
use super::resource::{Headers, HttpMatch, VirtualServiceSpec};

/// Tokens of `retryOn` that stand for what no request of the mesh can meet.
const NEVER: [&str; 2] = ["retriable-headers", "http3-post-connect-failure"];

/// The paths of the fields that are there and have no effect in this version, in the order of the resource.
#[must_use]
pub fn later(spec: &VirtualServiceSpec) -> Vec<String> {
    let mut paths = Vec::new();
    let gateways = spec.gateways.as_deref().unwrap_or_default();
    if only_gateways(gateways) {
        // Nothing of it counts for a sidecar.
        return vec!["spec (it is for gateways alone)".to_owned()];
    }
    for (at, _) in gateways.iter().enumerate().filter(|(_, name)| *name != "mesh") {
        paths.push(format!("spec.gateways[{at}]"));
    }
    for (at, route) in spec.http.iter().flatten().enumerate() {
        let path = format!("spec.http[{at}]");
        for (at, found) in route.matches.iter().flatten().enumerate() {
            of_match(&format!("{path}.match[{at}]"), found, &mut paths);
        }
        let tokens = route.retries.iter().filter_map(|retries| retries.retry_on.as_deref());
        if tokens
            .flat_map(|text| text.split(','))
            .any(|token| NEVER.contains(&token))
        {
            paths.push(format!("{path}.retries.retryOn ({})", NEVER.join(", ")));
        }
        of_headers(&format!("{path}.headers"), route.headers.as_ref(), &mut paths);
        for (at, to) in route.route.iter().flatten().enumerate() {
            of_headers(&format!("{path}.route[{at}].headers"), to.headers.as_ref(), &mut paths);
        }
    }
    for (at, route) in spec.tls.iter().flatten().enumerate() {
        for (of, found) in route.matches.iter().enumerate() {
            of_gateways(
                &format!("spec.tls[{at}].match[{of}]"),
                found.gateways.as_deref(),
                &mut paths,
            );
        }
    }
    for (at, route) in spec.tcp.iter().flatten().enumerate() {
        for (of, found) in route.matches.iter().flatten().enumerate() {
            of_gateways(
                &format!("spec.tcp[{at}].match[{of}]"),
                found.gateways.as_deref(),
                &mut paths,
            );
        }
    }
    paths
}

fn of_match(path: &str, found: &HttpMatch, paths: &mut Vec<String>) {
    if found.stat_prefix.as_deref().is_some_and(|text| !text.is_empty()) {
        paths.push(format!("{path}.statPrefix"));
    }
    for (name, list) in [("headers", &found.headers), ("withoutHeaders", &found.without_headers)] {
        for (key, _) in list.iter().flatten().filter(|(key, _)| is_claim(key)) {
            paths.push(format!("{path}.{name}[{key}]"));
        }
    }
    of_gateways(path, found.gateways.as_deref(), paths);
}

/// A match for gateways alone never holds.
fn of_gateways(path: &str, gateways: Option<&[String]>, paths: &mut Vec<String>) {
    if only_gateways(gateways.unwrap_or_default()) {
        paths.push(format!("{path} (it is for gateways alone)"));
    }
}

/// Values that the proxy would have to fill in.
fn of_headers(path: &str, headers: Option<&Headers>, paths: &mut Vec<String>) {
    let Some(headers) = headers else { return };
    for (way, operations) in [("request", &headers.request), ("response", &headers.response)] {
        let Some(operations) = operations else { continue };
        for (name, list) in [("set", &operations.set), ("add", &operations.add)] {
            for (key, _) in list.iter().flatten().filter(|(_, value)| has_command(value)) {
                paths.push(format!("{path}.{way}.{name}[{key}] (its %COMMAND%)"));
            }
        }
    }
}
