//! `destination`, wherever one stands, and weights.

use std::sync::Arc;

use mesh_core::routing::Reference;

use super::Report;
use crate::names;
use crate::virtual_service::resource::Destination;

/// Parses a destination that must be there.
pub(super) fn needed(path: &str, destination: Option<&Destination>, report: &mut Report) -> Reference {
    match destination {
        Some(destination) => parse(path, destination, report),
        None => {
            report.refuse(path, "", "a destination");
            parse(path, &Destination::default(), &mut Report::default())
        }
    }
}

pub(super) fn parse(path: &str, destination: &Destination, report: &mut Report) -> Reference {
    let host = &destination.host;
    if host == "*" {
        report.refuse(format!("{path}.host"), host, "the name of a host");
    } else {
        names::check_host(format!("{path}.host"), host, report);
    }
    let subset = destination.subset.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = subset.filter(|name| !names::is_label(name)) {
        report.refuse(
            format!("{path}.subset"),
            name,
            "a name of letters, digits and '-', at most 63 characters",
        );
    }
    let number = destination.port.as_ref().map(|port| port.number.unwrap_or(0));
    let port = number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|port| *port != 0);
    if let (Some(number), None) = (number, port) {
        report.refuse(format!("{path}.port.number"), number, "a port, 1 to 65535");
    }
    Reference {
        host: host.as_str().into(),
        subset: subset.map(Arc::from),
        port,
    }
}

/// Parses the weight of one destination.
pub(super) fn weight(field: String, weight: Option<i64>, report: &mut Report) -> u32 {
    let weight = weight.unwrap_or(0);
    u32::try_from(weight).unwrap_or_else(|_| {
        report.refuse(field, weight, "0 or more");
        0
    })
}

/// Refuses several destinations of which none has a weight.
pub(super) fn check_weights(path: &str, weights: impl ExactSizeIterator<Item = u32>, report: &mut Report) {
    if weights.len() > 1 && weights.map(u64::from).sum::<u64>() == 0 {
        report.refuse(path, "weights of 0", "at least one destination with a weight");
    }
}
