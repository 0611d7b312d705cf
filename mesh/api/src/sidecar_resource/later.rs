//! Which fields of a resource are accepted and not followed by anything yet.

use super::resource::SidecarSpec;

/// The paths of the fields that are there and have no effect in this version, in the order of the resource.
#[must_use]
pub fn later(spec: &SidecarSpec) -> Vec<String> {
    let mut paths = Vec::new();
    if spec.ingress.as_ref().is_some_and(|list| !list.is_empty()) {
        paths.push("spec.ingress".to_owned());
    }
    for (at, egress) in spec.egress.iter().flatten().enumerate() {
        let path = format!("spec.egress[{at}]");
        let proxy = egress
            .port
            .as_ref()
            .and_then(|port| port.protocol.as_deref())
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("HTTP_PROXY"));
        let socket = egress.port.as_ref().is_some_and(|port| port.number.unwrap_or(0) == 0);
        if proxy || socket {
            paths.push(format!("{path} (a listener of its own)"));
            continue;
        }
        if egress.bind.as_ref().is_some_and(|text| !text.is_empty()) {
            paths.push(format!("{path}.bind"));
        }
        if egress.capture_mode.as_deref() == Some("NONE") {
            paths.push(format!("{path}.captureMode"));
        }
    }
    if spec.inbound_connection_pool.is_some() {
        paths.push("spec.inboundConnectionPool".to_owned());
    }
    let proxy = spec
        .outbound_traffic_policy
        .as_ref()
        .and_then(|policy| policy.egress_proxy.as_ref());
    if proxy.is_some() {
        paths.push("spec.outboundTrafficPolicy.egressProxy".to_owned());
    }
    paths
}
