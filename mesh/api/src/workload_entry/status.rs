//! The status that tells a workload's owner whether it is an endpoint of anything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_core::service_entry::{Address, WorkloadEntry as Parsed};

use super::{WorkloadEntry, parse};
use crate::status::{Generation, IN_FORCE, Status, Verdict};

/// Builds a resource's status. `selected` are the keys of the ServiceEntries of its namespace that select it.
///
/// Conditions of other types, messages and fields of other writers are kept. The result equals the resource's present
/// status when nothing is to be written.
#[must_use]
pub fn status(resource: &WorkloadEntry, selected: &[String], now: &Time) -> Status {
    let generation = resource.metadata.generation.map(Generation);
    let mut status = resource.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    let verdict = match parse(resource) {
        Err(errors) => Verdict::no("Invalid", crate::join(&errors)),
        Ok(parsed) => match parsed.address {
            Address::Unset => Verdict::no(
                "NoAddress",
                "what is known by its network alone is no endpoint in this version",
            ),
            Address::Unix(_) => Verdict::no("UnixSocket", "Unix sockets are no endpoints in this version"),
            Address::Ip(_) | Address::Name(_) if selected.is_empty() => {
                Verdict::no("NotSelected", "no ServiceEntry of the namespace selects it")
            }
            Address::Ip(_) | Address::Name(_) => Verdict::yes(
                "Selected",
                format!("an endpoint of ServiceEntry {}", selected.join(", ")),
            ),
        },
    };
    status.set(IN_FORCE, verdict, generation, now);
    status
}

/// The paths of the fields that are there and have no effect in this version.
#[must_use]
pub fn later(workload: &Parsed) -> Vec<String> {
    match workload.address {
        Address::Unix(_) => vec!["spec.address".to_owned()],
        Address::Unset | Address::Ip(_) | Address::Name(_) if workload.network.is_some() => {
            vec!["spec.network".to_owned()]
        }
        Address::Unset | Address::Ip(_) | Address::Name(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read;
    use super::*;

    #[test]
    fn says_who_selects_it() {
        let now: Time = serde_json::from_value(json!("2026-02-01T00:00:00Z")).unwrap();
        for (spec, selected, expected) in [
            (json!({"address": "10.0.0.1"}), &["db"][..], "True Selected"),
            (json!({"address": "10.0.0.1"}), &[], "False NotSelected"),
            (json!({"address": "unix:///a"}), &["db"], "False UnixSocket"),
            (json!({"network": "n"}), &["db"], "False NoAddress"),
            (json!({}), &["db"], "False Invalid"),
        ] {
            let mut resource = read(json!({"metadata": {"name": "vm", "namespace": "a"}, "spec": spec})).unwrap();
            let selected: Vec<String> = selected.iter().map(ToString::to_string).collect();
            let first = status(&resource, &selected, &now);
            let condition = first.condition(IN_FORCE).unwrap();
            let text = [condition.status.as_deref(), condition.reason.as_deref()];
            assert_eq!(text.map(Option::unwrap).join(" "), expected, "{condition:?}");
            resource.status = Some(first.clone());
            let later: Time = serde_json::from_value(json!("2026-02-02T00:00:00Z")).unwrap();
            assert_eq!(status(&resource, &selected, &later), first);
        }
    }
}
