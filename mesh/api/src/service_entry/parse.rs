//! From the resource to the domain's entry, with Istio's validation (istio/istio pkg/config/validation, ServiceEntry).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kube::ResourceExt;
use mesh_core::destination_rule::Export;
use mesh_core::labels::Selector;
use mesh_core::protocol::Declared;
use mesh_core::service_entry::{Location, Port, Resolution, ServiceEntry as Parsed, WorkloadEntry};

use super::resource::{ServiceEntry, ServiceEntrySpec};
use crate::report::Report;
use crate::workload_entry::parse::{May, check_port_name, port_number, result, workload};
use crate::{Invalid, export, names};

/// The label by which an entry asks for no addresses to be made up for its hosts.
const AUTO_ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";

/// The label by which an entry names its waypoint.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

/// Reads a resource from an API object of any version. Unknown fields and an absent `spec` are fine, as for the API server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<ServiceEntry, Invalid> {
    crate::object::read(object, "an object of networking.istio.io/v1")
}

/// Parses a resource into the entry that it is.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &ServiceEntry) -> Result<Parsed, Vec<Invalid>> {
    let mut report = Report::default();
    let parsed = entry(resource, &mut report);
    result(parsed, report)
}

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(resource: &ServiceEntry) -> Vec<String> {
    let mut report = Report::default();
    entry(resource, &mut report);
    report.warnings
}

fn entry(resource: &ServiceEntry, report: &mut Report) -> Parsed {
    let spec = &resource.spec;
    let namespace = resource.namespace().unwrap_or_default();
    let resolution = resolution(spec, report);
    let hosts = hosts(spec, resolution, report);
    let addresses = addresses(spec, resolution, report);
    let opted_out = resource
        .labels()
        .get(AUTO_ALLOCATE)
        .is_some_and(|value| value.eq_ignore_ascii_case("false"));
    let auto_allocate = resolution != Resolution::None && addresses.is_empty() && !opted_out;
    let location = match spec.location.as_deref() {
        None | Some("" | "MESH_EXTERNAL") => Location::External,
        Some("MESH_INTERNAL") => Location::Internal,
        Some(other) => {
            report.refuse("spec.location", other, "one of MESH_EXTERNAL, MESH_INTERNAL");
            Location::External
        }
    };
    let without_address = addresses.is_empty() && !auto_allocate;
    let ports = ports(spec, without_address, report);
    let endpoints = endpoints(spec, resolution, report);
    let waypoint = resource
        .labels()
        .get(USE_WAYPOINT)
        .is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none"));
    if resolution == Resolution::DynamicDns && location == Location::Internal && waypoint {
        report.refuse(
            "spec.location",
            "MESH_INTERNAL",
            "MESH_EXTERNAL, for DYNAMIC_DNS with a waypoint",
        );
    }
    told_apart(spec, resolution, report);
    Parsed {
        export_to: exported(spec.export_to.as_deref().unwrap_or_default(), &namespace, report),
        selector: selector(spec, resolution, report),
        namespace: namespace.into(),
        name: resource.name_any().into(),
        created: resource
            .creation_timestamp()
            .map_or(i64::MAX, |time| time.0.as_second()),
        labels: resource.labels().clone(),
        hosts,
        addresses,
        ports,
        location,
        resolution,
        endpoints,
        subject_alt_names: spec
            .subject_alt_names
            .iter()
            .flatten()
            .map(|name| Arc::from(name.as_str()))
            .collect(),
        auto_allocate,
    }
}

fn resolution(spec: &ServiceEntrySpec, report: &mut Report) -> Resolution {
    match spec.resolution.as_deref() {
        None | Some("" | "NONE") => Resolution::None,
        Some("STATIC") => Resolution::Static,
        Some("DNS") => Resolution::Dns,
        Some("DNS_ROUND_ROBIN") => Resolution::DnsRoundRobin,
        Some("DYNAMIC_DNS") => Resolution::DynamicDns,
        Some(other) => {
            let accepted = "one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS";
            report.refuse("spec.resolution", other, accepted);
            Resolution::None
        }
    }
}

fn hosts(spec: &ServiceEntrySpec, resolution: Resolution, report: &mut Report) -> Vec<Arc<str>> {
    let hosts = spec.hosts.as_deref().unwrap_or_default();
    if hosts.is_empty() {
        report.refuse("spec.hosts", "", "at least one host");
    }
    // Of several that cannot be resolved Istio names the first.
    let unresolved = spec.endpoints.as_ref().is_none_or(Vec::is_empty) && resolution.resolves_names();
    let mut named = false;
    for (at, host) in hosts.iter().enumerate() {
        let field = format!("spec.hosts[{at}]");
        if host == "*" {
            report.refuse(&field, host, "a name, or a wildcard such as *.example.com");
            continue;
        }
        if !names::is_host(host) {
            report.refuse(
                &field,
                host,
                "a name, or one whose first label begins with *, such as *.example.com",
            );
            continue;
        }
        let dynamic = resolution == Resolution::DynamicDns;
        if host.contains('*') && !host.starts_with("*.") && !dynamic {
            report.warn(format!("{field}: {host:?} has a wildcard for a part of a label"));
        }
        if dynamic && !host.starts_with('*') {
            report.refuse(&field, host, "a wildcard, for DYNAMIC_DNS");
        }
        if unresolved && !named && !names::is_name_or_address(host) {
            named = true;
            let accepted = format!("a name that can be resolved, or endpoints, for {}", resolution.as_str());
            report.refuse(&field, host, &accepted);
        }
    }
    let normal = |host: &String| Arc::from(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase());
    let mut seen = BTreeSet::new();
    hosts
        .iter()
        .map(normal)
        .filter(|host: &Arc<str>| seen.insert(host.clone()))
        .collect()
}

fn addresses(spec: &ServiceEntrySpec, resolution: Resolution, report: &mut Report) -> Vec<IpNet> {
    let given = spec.addresses.as_deref().unwrap_or_default();
    if resolution == Resolution::DynamicDns && !given.is_empty() {
        report.refuse("spec.addresses", given.join(", "), "none for DYNAMIC_DNS");
    }
    let networks = matches!(resolution, Resolution::None | Resolution::Static);
    if !networks && given.iter().any(|address| address.contains('/')) {
        let accepted = format!(
            "addresses alone: networks are for NONE and STATIC, not for {}",
            resolution.as_str()
        );
        report.refuse("spec.addresses", given.join(", "), &accepted);
    }
    let mut parsed = Vec::new();
    for (at, address) in given.iter().enumerate() {
        let network = match address.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => address.parse::<IpNet>().ok().map(|network| network.trunc()),
        };
        match network {
            Some(network) => parsed.push(network),
            None => report.refuse(
                format!("spec.addresses[{at}]"),
                address,
                "an IP address or a network such as 10.0.0.0/8",
            ),
        }
    }
    parsed
}

fn ports(spec: &ServiceEntrySpec, without_address: bool, report: &mut Report) -> Vec<Port> {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let mut parsed = Vec::new();
    for (at, port) in spec.ports.iter().flatten().enumerate() {
        let path = format!("spec.ports[{at}]");
        if !names.insert(port.name.as_str()) {
            report.refuse(format!("{path}.name"), &port.name, "each name once");
        }
        check_port_name(format!("{path}.name"), &port.name, report);
        let given = port.number.unwrap_or_default();
        if !numbers.insert(given) {
            report.refuse(format!("{path}.number"), given, "each number once");
        }
        let number = port_number(format!("{path}.number"), given, report);
        let target = port.target_port.filter(|target| *target != 0);
        let target = target.map(|target| port_number(format!("{path}.targetPort"), target, report));
        let text = port.protocol.as_deref().unwrap_or_default();
        if without_address && matches!(text, "" | "TCP") {
            report.warn(format!(
                "{path}: without spec.addresses a port of TCP, or of no declared protocol, is found by its number alone"
            ));
        }
        let Some((protocol, tls)) = protocol(text) else {
            report.refuse(
                format!("{path}.protocol"),
                text,
                "one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, HTTP_PROXY, MONGO, MYSQL, REDIS, TCP, TLS, UDP",
            );
            continue;
        };
        if protocol == Declared::Udp {
            report.warn(format!("{path}: UDP is not captured: it passes the sidecar by"));
        }
        parsed.push(Port {
            number,
            name: port.name.as_str().into(),
            protocol,
            tls,
            target,
        });
    }
    parsed
}

/// What a protocol's name means, and whether it is TLS of the application's own.
fn protocol(text: &str) -> Option<(Declared, bool)> {
    Some(match text.to_ascii_lowercase().as_str() {
        "" => (Declared::Detect, false),
        "http" | "http_proxy" => (Declared::Http, false),
        "http2" | "grpc" | "grpc-web" => (Declared::Http2, false),
        "tcp" | "mongo" | "redis" | "mysql" => (Declared::Tcp, false),
        "https" | "tls" => (Declared::Tcp, true),
        "udp" => (Declared::Udp, false),
        _ => return None,
    })
}

fn endpoints(spec: &ServiceEntrySpec, resolution: Resolution, report: &mut Report) -> Vec<WorkloadEntry> {
    let given = spec.endpoints.as_deref().unwrap_or_default();
    if spec.endpoints.is_some() && spec.workload_selector.is_some() {
        report.refuse("spec.endpoints", given.len(), "one of endpoints and workloadSelector");
    }
    match resolution {
        Resolution::None | Resolution::DynamicDns if !given.is_empty() => {
            let accepted = format!("no endpoints for {}", resolution.as_str());
            report.refuse("spec.endpoints", given.len(), &accepted);
            return Vec::new();
        }
        Resolution::DnsRoundRobin if given.len() > 1 => {
            report.refuse("spec.endpoints", given.len(), "one at most for DNS_ROUND_ROBIN");
        }
        _ => {}
    }
    let ports: BTreeSet<&str> = spec.ports.iter().flatten().map(|port| port.name.as_str()).collect();
    let may = May {
        have_name: resolution.resolves_names(),
        be_unix: resolution == Resolution::Static,
        be_unset: resolution == Resolution::Static,
        ports: Some(&ports),
    };
    let parse = |(at, endpoint)| workload(&format!("spec.endpoints[{at}]"), endpoint, &may, report);
    given.iter().enumerate().map(parse).collect()
}

/// Whether connections to hosts that share a port can be told apart.
fn told_apart(spec: &ServiceEntrySpec, resolution: Resolution, report: &mut Report) {
    let several = spec.hosts.as_ref().is_some_and(|hosts| hosts.len() > 1);
    for (at, port) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{at}].protocol");
        let text = port.protocol.as_deref().unwrap_or_default();
        let meant = protocol(text);
        let http = matches!(meant, Some((Declared::Http | Declared::Http2, _)));
        let tls = matches!(meant, Some((_, true)));
        if resolution == Resolution::DynamicDns {
            let known = matches!(text.to_ascii_lowercase().as_str(), "http" | "tls" | "grpc" | "http2");
            if !known {
                report.refuse(&field, text, "HTTP, TLS, GRPC or HTTP2, for DYNAMIC_DNS");
            }
        }
        if several && resolution != Resolution::None && !http && !tls {
            report.refuse(
                &field,
                text,
                "a protocol that names the host (HTTP, HTTPS, GRPC, HTTP2, TLS), for several hosts",
            );
            break;
        }
    }
    let addressed = spec.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty());
    let tcp = |port: &super::resource::ServicePort| {
        matches!(
            protocol(port.protocol.as_deref().unwrap_or_default()),
            Some((Declared::Tcp, _))
        )
    };
    if several && addressed && resolution.resolves_names() && spec.ports.iter().flatten().any(tcp) {
        report.warn(
            "spec.hosts: several hosts share spec.addresses, and a port of TCP cannot tell them apart: its connections go to \
             the first",
        );
    }
}

fn selector(spec: &ServiceEntrySpec, resolution: Resolution, report: &mut Report) -> Option<Selector> {
    const FIELD: &str = "spec.workloadSelector";
    let labels = spec.workload_selector.as_ref()?.labels.clone().unwrap_or_default();
    for (key, value) in &labels {
        if key.is_empty() {
            report.refuse(format!("{FIELD}.labels"), key, "keys that are not empty");
        }
        if key.contains('*') || value.contains('*') {
            report.refuse(format!("{FIELD}.labels[{key}]"), value, "no wildcard");
        }
    }
    if labels.is_empty() {
        report.warn(format!(
            "{FIELD} has no labels: every pod and WorkloadEntry of the namespace is an endpoint"
        ));
    }
    if resolution == Resolution::None {
        report.warn(format!(
            "{FIELD} has no effect: with NONE connections go where they were dialled"
        ));
    }
    Some(Selector(labels))
}

/// `exportTo`, which for hosts may be nobody.
fn exported(list: &[String], namespace: &str, report: &mut Report) -> Export {
    const NOBODY: &str = "~";
    if !list.iter().any(|entry| entry == NOBODY) {
        return export::parse(list, namespace, report);
    }
    if list.len() > 1 {
        report.refuse(export::FIELD, list.join(", "), "~ alone, or namespaces without it");
    }
    Export::default()
}

#[cfg(test)]
mod tests;
