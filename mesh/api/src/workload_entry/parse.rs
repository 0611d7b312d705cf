//! From the resource to the domain's workload, with Istio's validation (istio/istio pkg/config/validation, WorkloadEntry).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use kube::ResourceExt;
use mesh_core::service_entry::{Address, WorkloadEntry as Parsed};
use mesh_core::traffic::Locality;

use super::{WorkloadEntry, WorkloadEntrySpec};
use crate::report::Report;
use crate::{Invalid, names};

/// What the addresses of Unix sockets begin with.
const UNIX: &str = "unix://";

/// Reads a resource from an API object of any version. Unknown fields and an absent `spec` are fine, as for the API server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<WorkloadEntry, Invalid> {
    crate::object::read(object, "an object of networking.istio.io/v1")
}

/// Parses a resource into the workload that it is.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &WorkloadEntry) -> Result<Parsed, Vec<Invalid>> {
    let mut report = Report::default();
    let mut parsed = workload("spec", &resource.spec, &May::BE_ANYTHING, &mut report);
    // As in Istio, those of the metadata prevail.
    parsed.labels.extend(resource.labels().clone());
    result(parsed, report)
}

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(resource: &WorkloadEntry) -> Vec<String> {
    let mut report = Report::default();
    workload("spec", &resource.spec, &May::BE_ANYTHING, &mut report);
    report.warnings
}

/// A port's number that is there; 0 where it is none.
pub(crate) fn port_number(field: impl Into<String>, number: i64, report: &mut Report) -> u16 {
    let port = u16::try_from(number).unwrap_or(0);
    if port == 0 {
        report.refuse(field, number, "a port, 1 to 65535");
    }
    port
}

/// Refuses what is no name of a port.
pub(crate) fn check_port_name(field: impl Into<String>, name: &str, report: &mut Report) {
    if !names::is_label(name) {
        report.refuse(field, name, "a name of letters, digits and '-', at most 63 characters");
    }
}

/// What was parsed, unless anything of it is refused.
pub(crate) fn result<T>(parsed: T, report: Report) -> Result<T, Vec<Invalid>> {
    if report.errors.is_empty() {
        Ok(parsed)
    } else {
        Err(report.errors)
    }
}

/// What a workload may be: a WorkloadEntry anything, an endpoint what its ServiceEntry resolves.
#[derive(Debug)]
pub(crate) struct May<'a> {
    /// A name, for a client to resolve.
    pub(crate) have_name: bool,
    /// A Unix socket.
    pub(crate) be_unix: bool,
    /// Nowhere, with a network.
    pub(crate) be_unset: bool,
    /// The names of the ServiceEntry's ports, where it is known.
    pub(crate) ports: Option<&'a BTreeSet<&'a str>>,
}

impl May<'_> {
    const BE_ANYTHING: Self = Self {
        have_name: true,
        be_unix: true,
        be_unset: true,
        ports: None,
    };
}

/// Parses a workload at a path.
pub(crate) fn workload(path: &str, spec: &WorkloadEntrySpec, may: &May<'_>, report: &mut Report) -> Parsed {
    let address = address(path, spec, may, report);
    let mut ports = std::collections::BTreeMap::new();
    for (name, number) in spec.ports.iter().flatten() {
        let field = format!("{path}.ports[{name}]");
        if may.ports.is_some_and(|ports| !ports.contains(name.as_str())) {
            report.refuse(&field, number, "the name of a port of the ServiceEntry");
        }
        check_port_name(&field, name, report);
        ports.insert(Arc::from(name.as_str()), port_number(field, *number, report));
    }
    let labels = spec.labels.clone().unwrap_or_default();
    names::check_labels(&format!("{path}.labels"), &labels, report);
    let weight = spec.weight.unwrap_or_default();
    if u32::try_from(weight).is_err() {
        report.refuse(format!("{path}.weight"), weight, "0 to 4294967295");
    }
    if spec.network.as_deref().is_some_and(|network| !network.is_empty()) && address != Address::Unset {
        report.warn(format!(
            "{path}.network has no effect in this version: endpoints are dialled by their addresses"
        ));
    }
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Arc::from);
    Parsed {
        address,
        ports,
        labels,
        network: text(&spec.network),
        locality: text(&spec.locality).map(|locality: Arc<str>| Arc::new(Locality::parse(&locality))),
        weight: u32::try_from(weight).unwrap_or_default(),
        service_account: text(&spec.service_account),
    }
}

fn address(path: &str, spec: &WorkloadEntrySpec, may: &May<'_>, report: &mut Report) -> Address {
    let field = format!("{path}.address");
    let text = spec.address.as_deref().unwrap_or_default();
    if text.is_empty() {
        if !may.be_unset || spec.network.as_deref().unwrap_or_default().is_empty() {
            report.refuse(field, text, "an address");
        } else {
            report.warn(format!(
                "{field} is not set: what is known by its network alone is no endpoint in this version"
            ));
        }
        return Address::Unset;
    }
    if let Some(socket) = text.strip_prefix(UNIX).filter(|_| may.be_unix) {
        let absolute = socket.starts_with('/') && !socket.ends_with('/');
        if !socket.starts_with('@') && !absolute {
            report.refuse(&field, text, "unix:// and an absolute path, or @ and a name");
        }
        if spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            report.refuse(format!("{path}.ports"), text, "no ports beside a Unix socket");
        }
        if may.ports.is_some_and(|ports| ports.len() != 1) {
            report.refuse(&field, text, "a ServiceEntry of exactly one port, for a Unix socket");
        }
        report.warn(format!("{field}: Unix sockets are no endpoints in this version"));
        return Address::Unix(socket.into());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Address::Ip(ip);
    }
    match (may.have_name, names::is_name_or_address(text)) {
        (true, true) => {}
        (true, false) => report.refuse(field, text, "an IP address or a fully qualified name"),
        (false, _) => report.refuse(field, text, "an IP address"),
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    Address::Name(name.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(labels: Value, spec: Value) -> WorkloadEntry {
        read(json!({"metadata": {"name": "vm", "namespace": "a", "labels": labels}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_is_refused_names_the_field() {
        for (spec, expected) in [
            (json!({}), "spec.address: \"\" is not accepted, expected an address"),
            (json!({"address": "a b"}), "spec.address: \"a b\""),
            (json!({"address": "10.0.0.256"}), "spec.address: \"10.0.0.256\""),
            (json!({"address": "unix://sock"}), "spec.address: \"unix://sock\""),
            (json!({"address": "unix:///tmp/"}), "spec.address: \"unix:///tmp/\""),
            (
                json!({"address": "unix:///tmp/s", "ports": {"a": 1}}),
                "spec.ports: \"unix:///tmp/s\"",
            ),
            (
                json!({"address": "10.0.0.1", "ports": {"a": 0}}),
                "spec.ports[a]: \"0\"",
            ),
            (
                json!({"address": "10.0.0.1", "ports": {"a b": 1}}),
                "spec.ports[a b]: \"a b\"",
            ),
            (
                json!({"address": "10.0.0.1", "labels": {"-": ""}}),
                "spec.labels: \"-\"",
            ),
            (
                json!({"address": "10.0.0.1", "labels": {"a": "-"}}),
                "spec.labels[a]: \"-\"",
            ),
            (json!({"address": "10.0.0.1", "weight": -1}), "spec.weight: \"-1\""),
        ] {
            let errors = parse(&resource(json!({}), spec.clone())).unwrap_err();
            let text = crate::join(&errors);
            assert!(text.starts_with(expected), "{spec}: {text}");
        }
    }

    #[test]
    fn what_is_accepted_is_kept() {
        let spec = json!({
            "address": "10.0.0.1", "ports": {"http": 8080}, "labels": {"app": "old", "version": "v1"},
            "locality": "r/z", "weight": 3, "serviceAccount": "vm"
        });
        let parsed = parse(&resource(json!({"app": "new"}), spec)).unwrap();
        assert_eq!(parsed.address, Address::Ip("10.0.0.1".parse().unwrap()));
        assert_eq!(parsed.labels["app"], "new");
        assert_eq!(parsed.labels["version"], "v1");
        assert_eq!(parsed.place().unwrap().to_string(), "r/z");
        assert!(parsed.mutual_tls());
        for (spec, expected, warned) in [
            (
                json!({"address": "DB.example.com."}),
                Address::Name("db.example.com".into()),
                0,
            ),
            (json!({"address": "unix://@a"}), Address::Unix("@a".into()), 1),
            (json!({"network": "n"}), Address::Unset, 1),
            (
                json!({"address": "fd00::1", "network": "n"}),
                Address::Ip("fd00::1".parse().unwrap()),
                1,
            ),
        ] {
            let resource = resource(json!({}), spec.clone());
            assert_eq!(parse(&resource).unwrap().address, expected, "{spec}");
            assert_eq!(warnings(&resource).len(), warned, "{spec}");
        }
    }
}
