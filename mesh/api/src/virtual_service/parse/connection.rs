//! `tls` and `tcp`.

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_core::routing::{Condition, ConnectionRule, Reference, TcpMatch, TlsMatch};

use super::client::{self, Given};
use super::{Report, Whole, destination, hosts};
use crate::virtual_service::resource::{self, RouteDestination};

pub(super) fn tls(
    path: &str,
    route: &resource::TlsRoute,
    whole: &Whole<'_>,
    report: &mut Report,
) -> ConnectionRule<TlsMatch> {
    if route.matches.is_empty() {
        report.refuse(format!("{path}.match"), "", "at least one match");
    }
    let matches = route
        .matches
        .iter()
        .enumerate()
        .map(|(at, found)| tls_match(&format!("{path}.match[{at}]"), found, whole, report))
        .collect();
    ConnectionRule {
        matches,
        to: destinations(&format!("{path}.route"), route.route.as_deref(), report),
    }
}

fn tls_match(path: &str, found: &resource::TlsMatch, whole: &Whole<'_>, report: &mut Report) -> Condition<TlsMatch> {
    if found.sni_hosts.is_empty() {
        report.refuse(format!("{path}.sniHosts"), "", "at least one host");
    }
    for (at, host) in found.sni_hosts.iter().enumerate() {
        hosts::check_sni(&format!("{path}.sniHosts[{at}]"), host, whole, report);
    }
    Condition {
        client: client::parse(
            path,
            &Given {
                gateways: found.gateways.as_ref(),
                port: found.port,
                source_labels: found.source_labels.as_ref(),
                source_namespace: found.source_namespace.as_deref(),
            },
            report,
        ),
        asked: TlsMatch {
            sni_hosts: found
                .sni_hosts
                .iter()
                .map(|host| host.to_ascii_lowercase().into())
                .collect(),
            destination_subnets: subnets(path, found.destination_subnets.as_deref(), report),
        },
    }
}

pub(super) fn tcp(path: &str, route: &resource::TcpRoute, report: &mut Report) -> ConnectionRule<TcpMatch> {
    let matches = route
        .matches
        .iter()
        .flatten()
        .enumerate()
        .map(|(at, found)| tcp_match(&format!("{path}.match[{at}]"), found, report))
        .collect();
    ConnectionRule {
        matches,
        to: destinations(&format!("{path}.route"), route.route.as_deref(), report),
    }
}

fn tcp_match(path: &str, found: &resource::L4Match, report: &mut Report) -> Condition<TcpMatch> {
    let source = found.source_subnet.as_deref().filter(|text| !text.is_empty());
    let source_subnet = source.and_then(subnet);
    if let (Some(text), None) = (source, source_subnet) {
        // Istio's admission does not look at it.
        report.warn(format!(
            "{path}.sourceSubnet: {text:?} is no subnet, and counts for nothing; one is such as 10.1.0.0/16"
        ));
    }
    Condition {
        client: client::parse(
            path,
            &Given {
                gateways: found.gateways.as_ref(),
                port: found.port,
                source_labels: found.source_labels.as_ref(),
                source_namespace: found.source_namespace.as_deref(),
            },
            report,
        ),
        asked: TcpMatch {
            destination_subnets: subnets(path, found.destination_subnets.as_deref(), report),
            source_subnet,
        },
    }
}

fn subnets(path: &str, list: Option<&[String]>, report: &mut Report) -> Vec<IpNet> {
    let mut parsed = Vec::new();
    for (at, text) in list.unwrap_or_default().iter().enumerate() {
        match subnet(text) {
            Some(subnet) => parsed.push(subnet),
            None => report.refuse(
                format!("{path}.destinationSubnets[{at}]"),
                text,
                "a subnet such as 10.1.0.0/16, or an address",
            ),
        }
    }
    parsed
}

fn subnet(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn destinations(path: &str, list: Option<&[RouteDestination]>, report: &mut Report) -> Vec<(Reference, u32)> {
    let list = list.unwrap_or_default();
    if list.is_empty() {
        report.refuse(path, "", "at least one destination");
    }
    let mut parsed = Vec::new();
    for (at, entry) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let to = destination::needed(&format!("{path}.destination"), entry.destination.as_ref(), report);
        parsed.push((to, destination::weight(format!("{path}.weight"), entry.weight, report)));
    }
    destination::check_weights(path, parsed.iter().map(|(_, weight)| *weight), report);
    parsed
}
