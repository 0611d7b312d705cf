//! What is redirected: the arguments of `proxy capture`, from the pod's annotations over the chart's values.

use mesh_api::annotations::{Capture, IpRanges, Ports};

/// Whose connections are the sidecar's own, and which of its ports is never captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exempt {
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) status_port: u16,
}

/// The status port that `proxy capture` leaves alone without being told.
const USUAL_STATUS_PORT: u16 = 15020;

/// The arguments. What is included is written out, so that a pod shows what is redirected; an empty list is an answer
/// too: it includes nothing. With `dns`, what the pod asks its resolvers is redirected too.
pub(super) fn arguments(capture: &Capture, exempt: Exempt, dns: bool) -> Vec<String> {
    let ports = |given: &Option<Ports>| given.as_ref().map(ToString::to_string);
    let ranges = |given: &Option<IpRanges>| given.as_ref().map(ToString::to_string);
    let all = || Some("*".to_owned());
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let flags = [
        ("outbound-port", Some("15001".to_owned())),
        ("inbound-port", Some("15006".to_owned())),
        ("uid", Some(exempt.uid.to_string())),
        ("gid", Some(exempt.gid.to_string())),
        (
            "include-outbound-ip-ranges",
            ranges(&capture.include_outbound_ip_ranges).or_else(all),
        ),
        (
            "exclude-outbound-ip-ranges",
            given(ranges(&capture.exclude_outbound_ip_ranges)),
        ),
        ("include-outbound-ports", given(ports(&capture.include_outbound_ports))),
        ("exclude-outbound-ports", given(ports(&capture.exclude_outbound_ports))),
        (
            "include-inbound-ports",
            ports(&capture.include_inbound_ports).or_else(all),
        ),
        ("exclude-inbound-ports", given(excluded(capture, exempt.status_port))),
        ("exclude-interfaces", given(capture.exclude_interfaces.clone())),
        (
            "reroute-virtual-interfaces",
            given(capture.reroute_virtual_interfaces.clone()),
        ),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
    let dns = dns.then(|| "--redirect-dns".to_owned());
    std::iter::once("capture".to_owned()).chain(flags).chain(dns).collect()
}

/// The excluded ports, and the status port among them.
fn excluded(capture: &Capture, status_port: u16) -> Option<String> {
    let mut ports = match &capture.exclude_inbound_ports {
        Some(Ports::List(ports)) => ports.clone(),
        _ => Vec::new(),
    };
    if status_port != USUAL_STATUS_PORT && !ports.contains(&status_port) {
        ports.push(status_port);
    }
    Some(Ports::List(ports).to_string())
}
