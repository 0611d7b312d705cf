//! `egress`.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::sidecar_scope::{Egress, EgressPort, Import, InNamespace};

use super::{Report, port};
use crate::names;
use crate::sidecar_resource::resource;

pub(super) fn parse(list: &[resource::Egress], own: &str, report: &mut Report) -> Vec<Egress> {
    let (mut ports, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    let mut parsed = Vec::new();
    for (at, egress) in list.iter().enumerate() {
        let path = format!("spec.egress[{at}]");
        let bind = egress.bind.as_deref().unwrap_or_default();
        let on = match &egress.port {
            None => {
                if at + 1 < list.len() {
                    report.refuse(format!("{path}.port"), "", "a port, where the entry is not the last");
                }
                EgressPort::Other
            }
            Some(given) => {
                port::check(&format!("{path}.port"), given, report);
                if given.number.unwrap_or(0) == 0 {
                    check_socket(&path, egress, report);
                    if !sockets.insert(bind) {
                        report.refuse(format!("{path}.bind"), bind, "each socket once");
                    }
                    EgressPort::Never
                } else {
                    port::bind(&path, egress.bind.as_deref(), report);
                    let number = port::number(&format!("{path}.port"), given, report);
                    if number.is_some_and(|number| !ports.insert(number)) {
                        report.refuse(
                            format!("{path}.port.number"),
                            given.number.unwrap_or(0),
                            "each port once",
                        );
                    }
                    let proxy = port::protocol(given) == "http_proxy";
                    number.filter(|_| !proxy).map_or(EgressPort::Never, EgressPort::Number)
                }
            }
        };
        let modes = ["DEFAULT", "IPTABLES", "NONE"];
        report.one_of(format!("{path}.captureMode"), egress.capture_mode.as_deref(), &modes);
        let (hosts, excluded) = imports(&format!("{path}.hosts"), &egress.hosts, own, report);
        parsed.push(Egress {
            port: on,
            hosts,
            excluded,
        });
    }
    parsed
}

fn check_socket(path: &str, egress: &resource::Egress, report: &mut Report) {
    let bind = egress.bind.as_deref().unwrap_or_default();
    let field = format!("{path}.bind");
    match bind.strip_prefix(port::UNIX) {
        Some(socket) => port::socket(&field, socket, report),
        None => report.refuse(field, bind, "unix://PATH, where the port's number is 0 or absent"),
    }
    if egress.capture_mode.as_deref() == Some("IPTABLES") {
        report.refuse(
            format!("{path}.captureMode"),
            "IPTABLES",
            "DEFAULT or NONE for a Unix socket",
        );
    }
}

/// The hosts that are seen, and those that are left out.
fn imports(path: &str, hosts: &[String], own: &str, report: &mut Report) -> (Vec<Import>, Vec<Import>) {
    if hosts.is_empty() {
        report.refuse(
            path,
            "",
            "at least one host, such as ./* or shop/reviews.shop.svc.cluster.local",
        );
    }
    let (mut seen, mut excluded) = (Vec::new(), Vec::new());
    let mut before: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (at, text) in hosts.iter().enumerate() {
        let field = format!("{path}[{at}]");
        let Some((namespace, host)) = text.split_once('/') else {
            report.refuse(field, text, "NAMESPACE/HOST");
            continue;
        };
        let without = namespace.strip_prefix('~');
        let name = without.unwrap_or(namespace);
        check(&field, text, namespace, host, report);
        if without.is_none() {
            let resolved = if name == "." { own } else { name };
            let others = before.entry(resolved).or_default();
            let twice = others.contains(host) || others.contains("*") || (host == "*" && !others.is_empty());
            if twice {
                report.warn(format!("{field}: {text} is covered by another host, or covers one"));
            }
            others.insert(host);
        }
        let import = Import {
            namespace: match name {
                "*" | "" => InNamespace::Any,
                "." => InNamespace::Own,
                name => InNamespace::Of(name.into()),
            },
            host: host.into(),
        };
        if without.is_some() {
            excluded.push(import);
        } else {
            seen.push(import);
        }
    }
    if before.len() > 1 && before.get("*").is_some_and(|hosts| hosts.contains("*")) {
        report.warn(format!("{path}: */* is every host, and the others say nothing more"));
    }
    (seen, excluded)
}

fn check(field: &str, text: &str, namespace: &str, host: &str, report: &mut Report) {
    let name = namespace.strip_prefix('~').unwrap_or(namespace);
    let namespace_fits = !namespace.is_empty() && (matches!(name, "" | "*" | ".") || names::is_label(name));
    let host_fits =
        host == "*" || (host.contains('.') && names::is_host(host) && (!host.contains('*') || host.starts_with("*.")));
    if !namespace_fits || !host_fits {
        report.refuse(
            field,
            text,
            "NAMESPACE/HOST: a namespace, . or *, which ~ before leaves out; and a fully qualified name, one that begins \
             with *., or *",
        );
    }
}
