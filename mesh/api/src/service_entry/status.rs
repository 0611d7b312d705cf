//! The status that tells an entry's owner whether its hosts are known, to whom, and what stands behind them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_core::service_entry::{Address, Resolution, ServiceEntry as Parsed};

use super::{ServiceEntry, parse};
use crate::status::{COMPLETE, Generation, IN_FORCE, Status, Verdict};

/// What the mesh knows of an entry beside what it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// How many pods and WorkloadEntries its selector selects now.
    pub selected: usize,
    /// Its hosts that something else in its own namespace answers for, and what: a Service, or an older entry.
    pub taken: Vec<(String, String)>,
}

/// Builds a resource's status.
///
/// Conditions of other types, messages and fields of other writers are kept. The result equals the resource's present
/// status when nothing is to be written.
#[must_use]
pub fn status(resource: &ServiceEntry, registered: &Registered, now: &Time) -> Status {
    let generation = resource.metadata.generation.map(Generation);
    let mut status = resource.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    match parse(resource) {
        Ok(entry) => {
            status.set(IN_FORCE, in_force(&entry, registered), generation, now);
            status.set(COMPLETE, complete(&entry), generation, now);
        }
        Err(errors) => status.set(IN_FORCE, Verdict::no("Invalid", crate::join(&errors)), generation, now),
    }
    status
}

fn in_force(entry: &Parsed, registered: &Registered) -> Verdict {
    let taken = |(host, by): &(String, String)| format!("{host} is answered for by {by}");
    let taken: Vec<String> = registered.taken.iter().map(taken).collect();
    if taken.len() == entry.hosts.len() {
        return Verdict::no("Shadowed", format!("ignored: {}", taken.join("; ")));
    }
    let export = &entry.export_to;
    let clients = if export.public {
        "clients of every namespace".to_owned()
    } else {
        let own = export.own.then_some(&*entry.namespace);
        let names: Vec<&str> = own
            .into_iter()
            .chain(export.namespaces.iter().map(String::as_str))
            .collect();
        if names.is_empty() {
            return Verdict::no("NotExported", "spec.exportTo is ~: no client knows its hosts");
        }
        format!("clients in {}", names.join(", "))
    };
    let behind = match (entry.resolution, &entry.selector) {
        (Resolution::None, _) => "go where they were dialled".to_owned(),
        (Resolution::DynamicDns, _) => "go to the addresses of the host that they name".to_owned(),
        (_, Some(_)) => format!("go to {} selected workloads", registered.selected),
        (Resolution::Static, None) => format!("go to {} endpoints", entry.endpoints.len()),
        (Resolution::Dns | Resolution::DnsRoundRobin, None) if entry.endpoints.is_empty() => {
            "go to the addresses of their host".to_owned()
        }
        (Resolution::Dns | Resolution::DnsRoundRobin, None) => {
            format!("go to the addresses of {} endpoints", entry.endpoints.len())
        }
    };
    let hosts: Vec<&str> = entry.hosts.iter().map(AsRef::as_ref).collect();
    let taken = if taken.is_empty() {
        String::new()
    } else {
        format!("; {}", taken.join("; "))
    };
    Verdict::yes(
        "Registered",
        format!("calls to {} by {clients} {behind}{taken}", hosts.join(", ")),
    )
}

/// The paths of the fields that are there and have no effect in this version.
#[must_use]
pub fn later(entry: &Parsed) -> Vec<String> {
    let mut without = Vec::new();
    for (at, endpoint) in entry.endpoints.iter().enumerate() {
        if matches!(endpoint.address, Address::Unix(_) | Address::Unset) {
            without.push(format!("spec.endpoints[{at}]"));
        } else if endpoint.network.is_some() {
            without.push(format!("spec.endpoints[{at}].network"));
        }
    }
    without
}

fn complete(entry: &Parsed) -> Verdict {
    let without = later(entry);
    if without.is_empty() {
        Verdict::yes("AllFields", "every field has an effect")
    } else {
        Verdict::no(
            "FieldsWithoutEffect",
            format!("accepted, and without effect in this version: {}", without.join(", ")),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::read;
    use super::*;

    fn built(spec: &Value, registered: &Registered) -> (ServiceEntry, Status) {
        let now: Time = serde_json::from_value(json!("2026-02-01T00:00:00Z")).unwrap();
        let resource = read(json!({"metadata": {"name": "e", "namespace": "a"}, "spec": spec})).unwrap();
        let status = status(&resource, registered, &now);
        (resource, status)
    }

    #[test]
    fn says_who_knows_its_hosts_and_what_stands_behind_them() {
        let port = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
        let spec = |resolution: &str, more: Value| {
            let mut spec = json!({"hosts": ["api.example.com"], "ports": port, "resolution": resolution});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        let selected = Registered {
            selected: 3,
            taken: Vec::new(),
        };
        let taken = Registered {
            selected: 0,
            taken: vec![("api.example.com".to_owned(), "Service a/api".to_owned())],
        };
        let none = Registered::default();
        for (spec, registered, verdict, message) in [
            (
                spec("DNS", json!({})),
                &none,
                "True Registered",
                "by clients of every namespace go to the addresses of their host",
            ),
            (
                spec("NONE", json!({"exportTo": ["."]})),
                &none,
                "True Registered",
                "by clients in a go where they were dialled",
            ),
            (
                spec("STATIC", json!({"workloadSelector": {"labels": {"a": "b"}}})),
                &selected,
                "True Registered",
                "go to 3 selected workloads",
            ),
            (
                spec("STATIC", json!({"endpoints": [{"address": "10.0.0.1"}]})),
                &none,
                "True Registered",
                "go to 1 endpoints",
            ),
            (spec("DNS", json!({"exportTo": ["~"]})), &none, "False NotExported", "~"),
            (
                spec("DNS", json!({})),
                &taken,
                "False Shadowed",
                "answered for by Service a/api",
            ),
            (
                spec("SOME", json!({})),
                &none,
                "False Invalid",
                "spec.resolution: \"SOME\"",
            ),
        ] {
            let (_, status) = built(&spec, registered);
            let condition = status.condition(IN_FORCE).unwrap();
            let text = [condition.status.as_deref(), condition.reason.as_deref()];
            assert_eq!(text.map(Option::unwrap).join(" "), verdict, "{condition:?}");
            assert!(condition.message.as_deref().unwrap().contains(message), "{condition:?}");
        }
    }

    #[test]
    fn what_has_no_effect_is_named_and_a_status_that_holds_is_kept() {
        let spec = json!({
            "hosts": ["a.example.com"], "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "unix:///a"}, {"address": "10.0.0.1", "network": "n"}, {"address": "10.0.0.2"}]
        });
        let (mut resource, first) = built(&spec, &Registered::default());
        assert_eq!(
            first.condition(COMPLETE).unwrap().message.as_deref(),
            Some("accepted, and without effect in this version: spec.endpoints[0], spec.endpoints[1].network")
        );
        resource.status = Some(first.clone());
        let later: Time = serde_json::from_value(json!("2026-02-02T00:00:00Z")).unwrap();
        assert_eq!(status(&resource, &Registered::default(), &later), first);
    }
}
