//! The status that tells a VirtualService's owner whether it is in force, whether its routes lead anywhere, and which of its
//! fields have no effect.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_core::routing::{self, Effective, Reference, VirtualServices};

use super::parse::only_gateways;
use super::{VirtualService, later, parse};
use crate::status::{COMPLETE, Generation, IN_FORCE, RESOLVED_REFS, Status, Verdict};

/// The most problems that a message names.
const NAMED: usize = 10;

/// Builds a resource's status among all VirtualServices of the mesh. `problem` says why nothing answers where a reference
/// leads, if so.
///
/// Conditions of other types, messages and fields of other writers are kept. The result equals the resource's present
/// status when nothing is to be written.
#[must_use]
pub fn status(
    resource: &VirtualService,
    all: &VirtualServices,
    problem: impl Fn(&Reference) -> Option<String>,
    now: &Time,
) -> Status {
    let generation = resource.metadata.generation.map(Generation);
    let mut status = resource.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    let parsed = parse(resource);
    let effective = parsed
        .as_ref()
        .ok()
        .and_then(|parsed| all.effective(&parsed.namespace, &parsed.name));
    let verdict = match &parsed {
        Ok(parsed) => in_force(resource, parsed, effective, all),
        Err(errors) => Verdict::no("Invalid", crate::join(errors)),
    };
    status.set(IN_FORCE, verdict, generation, now);
    if let Some(effective) = effective {
        status.set(RESOLVED_REFS, resolved(effective, problem), generation, now);
    }
    let later = later(&resource.spec);
    let complete = if later.is_empty() {
        Verdict::yes("AllFields", "every field has an effect")
    } else {
        Verdict::no(
            "FieldsWithoutEffect",
            format!("accepted, and without effect in this version: {}", later.join(", ")),
        )
    };
    status.set(COMPLETE, complete, generation, now);
    status
}

fn in_force(
    resource: &VirtualService,
    parsed: &routing::VirtualService,
    effective: Option<&Arc<Effective>>,
    all: &VirtualServices,
) -> Verdict {
    if only_gateways(resource.spec.gateways.as_deref().unwrap_or_default()) {
        return Verdict::no(
            "ForGateways",
            "it names gateways, and mesh is none of them: no sidecar follows it",
        );
    }
    if parsed.hosts.is_empty() {
        return delegate(parsed, all);
    }
    let Some(effective) = effective else {
        return Verdict::no("Pending", "it is not taken up yet");
    };
    let shadowed: Vec<String> = effective
        .hosts
        .iter()
        .filter_map(|host| Some((host, older(effective, host, all)?)))
        .map(|(host, older)| format!("{}/{} is older and speaks for {host}", older.namespace, older.name))
        .collect();
    let hosts = effective.hosts.join(", ");
    if shadowed.is_empty() {
        Verdict::yes("Routes", format!("routes what is sent to {hosts}"))
    } else if shadowed.len() == effective.hosts.len() {
        Verdict::no(
            "Shadowed",
            format!("its http routes are ignored: {}", shadowed.join("; ")),
        )
    } else {
        Verdict::yes(
            "PartlyShadowed",
            format!(
                "routes what is sent to {hosts}, but some requests: {}",
                shadowed.join("; ")
            ),
        )
    }
}

/// One that speaks of every client's requests to a host before this one is asked.
fn older<'a>(one: &Effective, host: &str, all: &'a VirtualServices) -> Option<&'a Effective> {
    let before = |other: &&Arc<Effective>| {
        let order = |one: &Effective| (one.created, one.name.clone(), one.namespace.clone());
        other.hosts.iter().any(|same| **same == *host)
            && other.export_to.public
            && one.export_to.public
            && order(other) < order(one)
            && other.http.iter().any(|rule| rule.matches.is_empty())
    };
    (!one.http.is_empty())
        .then(|| all.naming(host).find(before))
        .flatten()
        .map(|found| &**found)
}

fn delegate(parsed: &routing::VirtualService, all: &VirtualServices) -> Verdict {
    let key = (parsed.namespace.clone(), parsed.name.clone());
    let delegating = all.all().filter(|root| {
        let mut delegates = root.http.iter().filter_map(|rule| rule.delegate.as_ref());
        delegates.any(|delegate| *delegate == key)
    });
    let names: Vec<String> = delegating
        .map(|root| format!("{}/{}", root.namespace, root.name))
        .collect();
    if names.is_empty() {
        Verdict::no("NoHosts", "it has no hosts, and no VirtualService delegates to it")
    } else {
        Verdict::yes("Delegate", format!("its routes are for {}", names.join(", ")))
    }
}

/// Whether every route leads to endpoints, and every delegate's route takes part.
fn resolved(effective: &Effective, problem: impl Fn(&Reference) -> Option<String>) -> Verdict {
    let leads = effective
        .references()
        .filter(|(_, _, weight)| *weight > 0)
        .filter_map(|(field, reference, _)| Some(format!("{field}: {}", problem(reference)?)));
    let problems: Vec<String> = effective.problems.iter().cloned().chain(leads).collect();
    if problems.is_empty() {
        return Verdict::yes("ResolvedRefs", "every route leads to ready endpoints");
    }
    let mut message = problems[..problems.len().min(NAMED)].join("; ");
    if problems.len() > NAMED {
        message = format!("{message}; and {} more", problems.len() - NAMED);
    }
    Verdict::no("RefNotResolved", message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::read;
    use super::*;

    const DOMAIN: &str = "cluster.local";

    fn resource(key: &str, second: u8, spec: Value) -> VirtualService {
        let (namespace, name) = key.split_once('/').unwrap();
        read(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {
                "name": name, "namespace": namespace, "generation": 3,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")
            },
            "spec": spec
        }))
        .unwrap()
    }

    fn now() -> Time {
        Time("2026-01-02T00:00:00Z".parse().unwrap())
    }

    /// The status of the first of some resources.
    fn of(resources: &[VirtualService], problem: Option<&str>) -> Status {
        let mut all = VirtualServices::default();
        for parsed in resources.iter().filter_map(|resource| parse(resource).ok()) {
            let (namespace, name) = (parsed.namespace.clone(), parsed.name.clone());
            all.set(&namespace, &name, Some(parsed), DOMAIN);
        }
        status(&resources[0], &all, |_| problem.map(str::to_owned), &now())
    }

    fn said(status: &Status, type_: &str) -> String {
        let condition = status.condition(type_).unwrap();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!(
            "{} {}: {}",
            text(&condition.status),
            text(&condition.reason),
            text(&condition.message)
        )
    }

    #[test]
    fn whether_it_is_in_force() {
        let route = || json!([{"route": [{"destination": {"host": "reviews"}}]}]);
        let to = |hosts: &[&str]| json!({"hosts": hosts, "http": route()});
        let one = || resource("shop/one", 2, to(&["reviews"]));
        let root = json!({"hosts": ["reviews"], "http": [{"delegate": {"name": "one"}}]});
        for (resources, expected) in [
            (
                vec![one()],
                "True Routes: routes what is sent to reviews.shop.svc.cluster.local",
            ),
            (
                vec![one(), resource("shop/old", 1, to(&["reviews"]))],
                "False Shadowed: its http routes are ignored: shop/old is older and speaks for \
                 reviews.shop.svc.cluster.local",
            ),
            (
                vec![
                    resource("shop/two", 2, to(&["a.example", "b.example"])),
                    resource("x/old", 1, to(&["a.example"])),
                ],
                "True PartlyShadowed: routes what is sent to a.example, b.example, but some requests: x/old is older and \
                 speaks for a.example",
            ),
            (
                vec![
                    one(),
                    resource(
                        "x/own",
                        1,
                        json!({"hosts": ["reviews.shop.svc.cluster.local"], "exportTo": ["."], "http": route()}),
                    ),
                ],
                "True Routes: routes what is sent to reviews.shop.svc.cluster.local",
            ),
            (
                vec![resource(
                    "shop/one",
                    1,
                    json!({"hosts": ["reviews"], "gateways": ["edge"], "http": route()}),
                )],
                "False ForGateways: it names gateways, and mesh is none of them: no sidecar follows it",
            ),
            (
                vec![resource("shop/one", 1, json!({"http": route()}))],
                "False NoHosts: it has no hosts, and no VirtualService delegates to it",
            ),
            (
                vec![
                    resource("shop/one", 1, json!({"http": route()})),
                    resource("shop/root", 1, root),
                ],
                "True Delegate: its routes are for shop/root",
            ),
        ] {
            assert_eq!(said(&of(&resources, None), IN_FORCE), expected);
        }
        let invalid = resource("shop/one", 1, json!({"hosts": ["reviews"]}));
        assert!(said(&of(&[invalid], None), IN_FORCE).starts_with("False Invalid: spec"));
    }

    #[test]
    fn where_its_routes_lead() {
        let spec = json!({"hosts": ["reviews"], "http": [
            {"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "absent"}},
            {"route": [
                {"destination": {"host": "reviews", "subset": "v1"}, "weight": 100},
                {"destination": {"host": "reviews", "subset": "v2"}, "weight": 0},
            ]},
        ]});
        let found = of(&[resource("shop/one", 1, spec)], Some("nobody is there"));
        assert_eq!(
            said(&found, RESOLVED_REFS),
            "False RefNotResolved: http[0].delegate shop/absent: there is no VirtualService of that name without hosts; \
             http[1].route[0]: nobody is there"
        );
        let spec = json!({"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]});
        let resource = resource("shop/one", 1, spec);
        let found = of(std::slice::from_ref(&resource), None);
        assert_eq!(
            said(&found, RESOLVED_REFS),
            "True ResolvedRefs: every route leads to ready endpoints"
        );
        assert_eq!(said(&found, COMPLETE), "True AllFields: every field has an effect");
        let told = VirtualService {
            status: Some(found.clone()),
            ..resource
        };
        assert_eq!(of(&[told], None), found, "nothing is to be written twice");
    }
}
