//! `hosts`.

use std::net::IpAddr;

use super::{Report, Whole};
use crate::names;

/// How names begin that Istio makes itself for gateways which pass mutual TLS through.
const OUTBOUND: &str = "outbound_";

pub(super) fn check(whole: &Whole<'_>, report: &mut Report) {
    let (hosts, gateways) = (whole.hosts(), whole.is_for_gateways());
    let sni = whole
        .spec
        .tls
        .iter()
        .flatten()
        .any(|route| route.matches.iter().any(|found| !found.sni_hosts.is_empty()));
    let mut all_fit = true;
    for (at, host) in hosts.iter().enumerate() {
        let field = format!("spec.hosts[{at}]");
        let fits = names::is_host(host) || (gateways && sni && is_made(host));
        if !fits && host.parse::<IpAddr>().is_err() {
            report.refuse(field, host, names::HOST);
            all_fit = false;
        } else if !gateways && host == "*" {
            report.refuse(field, host, "* for gateways alone, and names of hosts for the mesh");
            all_fit = false;
        }
    }
    // Wildcards cover each other, which says nothing where one is none at all.
    if !all_fit {
        return;
    }
    for (at, host) in hosts.iter().enumerate() {
        if let Some(other) = hosts.iter().take(at).find(|other| overlap(other, host)) {
            report.refuse(
                format!("spec.hosts[{at}]"),
                host,
                format!("hosts of which none covers another, as {other} does"),
            );
        }
    }
}

/// Whether a host that a connection asks for by SNI is one of the resource's, or covered by one.
pub(super) fn check_sni(field: &str, host: &str, whole: &Whole<'_>, report: &mut Report) {
    let fits = names::is_host(host) || (whole.is_for_gateways() && is_made(host));
    if !fits {
        if host.parse::<IpAddr>().is_ok() {
            report.warn(format!(
                "{field}: {host} is an address, which clients do not send as SNI"
            ));
        } else {
            report.refuse(field, host, names::HOST);
        }
    } else if !whole.hosts().iter().any(|of| covers(of, host)) {
        let hosts = whole.hosts().join(", ");
        report.refuse(
            field,
            host,
            format!("one of spec.hosts, or a name that one covers: {hosts}"),
        );
    }
}

/// Whether a name is of the form `outbound_.PORT_.SUBSET_.HOST`.
fn is_made(host: &str) -> bool {
    let parts: Vec<&str> = host.split('_').collect();
    let [_, port, _, name, ..] = parts[..] else {
        return false;
    };
    host.len() <= 255
        && host.starts_with(OUTBOUND)
        && port.bytes().any(|byte| byte.is_ascii_digit())
        && name.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether there are names that both stand for.
fn overlap(one: &str, other: &str) -> bool {
    covers(one, other) || covers(other, one)
}

/// Whether every name that `host` stands for is one that `of` stands for.
fn covers(of: &str, host: &str) -> bool {
    match (of.strip_prefix('*'), host.strip_prefix('*')) {
        (Some(of), Some(host)) => host.ends_with(of),
        (Some(of), None) => host.ends_with(of),
        (None, Some(_)) => false,
        (None, None) => of == host,
    }
}
