//! The parts of a match that say who the client must be.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::routing::ClientMatch;

use super::Report;
use crate::names;

/// The gateway that stands for every sidecar.
const MESH: &str = "mesh";

/// Whether a list of gateways leaves the sidecars out. None at all is the sidecars.
pub(in crate::virtual_service) fn only_gateways(names: &[String]) -> bool {
    !names.is_empty() && !names.iter().any(|name| name == MESH)
}

/// Refuses names that no gateway has.
pub(super) fn check_gateways(path: &str, list: &[String], report: &mut Report) {
    for (at, name) in list.iter().enumerate() {
        let field = || format!("{path}[{at}]");
        let Some((namespace, gateway)) = name.split_once('/') else {
            if let Some((gateway, rest)) = name.split_once('.') {
                let namespace = rest.split('.').next().unwrap_or_default();
                report.warn(format!(
                    "{}: {name:?} is the old form of a gateway's name; {namespace}/{gateway} is the present one",
                    field()
                ));
            }
            if !is_name(name) {
                report.refuse(field(), name, "mesh, NAMESPACE/NAME, or the name of a gateway");
            }
            // Istio's admission looks at no name after one without a slash.
            return;
        };
        if !names::is_label(namespace) || !names::is_label(gateway) {
            report.refuse(field(), name, "NAMESPACE/NAME, each of letters, digits and '-'");
        }
    }
}

/// A fully qualified name, in one label or more.
fn is_name(text: &str) -> bool {
    let numeric_end = text.rsplit('.').next().is_some_and(is_number);
    text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(names::is_label) && !numeric_end
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a match says of the client.
pub(super) struct Given<'a> {
    pub(super) gateways: Option<&'a Vec<String>>,
    pub(super) port: Option<i64>,
    pub(super) source_labels: Option<&'a BTreeMap<String, String>>,
    pub(super) source_namespace: Option<&'a str>,
}

pub(super) fn parse(path: &str, given: &Given<'_>, report: &mut Report) -> ClientMatch {
    let gateways = given.gateways.map(Vec::as_slice).unwrap_or_default();
    check_gateways(&format!("{path}.gateways"), gateways, report);
    let labels = given.source_labels.cloned().unwrap_or_default();
    names::check_labels(&format!("{path}.sourceLabels"), &labels, report);
    ClientMatch {
        gateways: gateways.iter().map(|name| name.as_str().into()).collect(),
        port: port(&format!("{path}.port"), given.port, report),
        source_labels: labels,
        source_namespace: given.source_namespace.filter(|name| !name.is_empty()).map(Arc::from),
    }
}

/// A port; absent and 0 are any.
fn port(field: &str, number: Option<i64>, report: &mut Report) -> Option<u16> {
    let number = number.filter(|number| *number != 0)?;
    let port = u16::try_from(number).ok();
    if port.is_none() {
        report.refuse(field, number, "a port, 1 to 65535");
    }
    port
}
