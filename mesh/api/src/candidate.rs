//! What makes a resource a candidate: the label that names its set and the annotation that names what it would replace, and
//! the status that says what it would have denied.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use mesh_core::candidates::{Candidate, MOST_SETS};
use serde::Serialize;
use serde_json::{Value, json};

use crate::authorization_policy::DRY_RUN;
use crate::labels::CANDIDATE;
use crate::status::{Generation, IN_FORCE, Status, Verdict};
use crate::{Invalid, status};

/// The annotation that names the resource, of the same kind and namespace, that a candidate takes the place of.
pub const REPLACES: &str = "policy.pinnace.dev/replaces";
/// The type of the condition that says whether sidecars evaluate a candidate.
pub const EVALUATED: &str = "Evaluated";
/// The field of a candidate's status that says what it would have denied.
const FIELD: &str = "candidate";
/// The most entries of each list in a status.
pub const MOST_LISTED: usize = 20;

/// What makes a resource a candidate; `None` for one that is none.
///
/// # Errors
/// The label or annotation that is not accepted. Such a resource is neither in force nor evaluated.
pub fn of<K: ResourceExt>(resource: &K) -> Result<Option<Candidate>, Vec<Invalid>> {
    parse(&resource.name_any(), resource.labels(), resource.annotations())
}

fn parse(
    name: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<Candidate>, Vec<Invalid>> {
    let mut errors = Vec::new();
    let replaces = annotations.get(REPLACES);
    let field = || format!("metadata.annotations[{REPLACES}]");
    if let Some(replaced) = replaces {
        if !is_name(replaced) {
            errors.push(Invalid::new(field(), replaced, "the name of a resource"));
        } else if replaced == name {
            let accepted =
                "the name of another resource: to change a resource, make a candidate with a name of its own";
            errors.push(Invalid::new(field(), replaced, accepted));
        }
    }
    let set = labels.get(CANDIDATE);
    if let Some(set) = set
        && !is_label(set)
    {
        let accepted =
            "the name of a set: 1 to 63 lower-case letters, digits and '-', beginning and ending with none of '-'";
        errors.push(Invalid::new(format!("metadata.labels[{CANDIDATE}]"), set, accepted));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(set.map(|set| Candidate {
        set: set.clone(),
        replaces: replaces.cloned(),
    }))
}

/// A DNS label (RFC 1123).
fn is_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

/// The name of an object: DNS labels with dots between them.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Judges the label and annotation of an object whose kind can be a candidate (`may_be`) or not: warnings, or what is wrong.
pub(crate) fn judge(object: &Value, may_be: bool) -> Result<Vec<String>, Vec<Invalid>> {
    let metadata = object.get("metadata");
    let texts = |field: &str| -> BTreeMap<String, String> {
        let values = metadata
            .and_then(|metadata| metadata.get(field))
            .and_then(Value::as_object);
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let texts = values
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), text(value)));
        texts.collect()
    };
    let (labels, annotations) = (texts("labels"), texts("annotations"));
    if !may_be {
        let accepted = "no such label or annotation, which only PeerAuthentication, AuthorizationPolicy and \
                        RequestAuthentication have";
        let label = labels
            .get(CANDIDATE)
            .map(|value| (format!("metadata.labels[{CANDIDATE}]"), value));
        let annotation = annotations.get(REPLACES);
        let annotation = annotation.map(|value| (format!("metadata.annotations[{REPLACES}]"), value));
        let errors: Vec<_> = label.into_iter().chain(annotation).collect();
        let errors: Vec<_> = errors
            .into_iter()
            .map(|(field, value)| Invalid::new(field, value, accepted))
            .collect();
        return if errors.is_empty() { Ok(Vec::new()) } else { Err(errors) };
    }
    let name = metadata
        .and_then(|metadata| metadata.get("name"))
        .and_then(Value::as_str);
    let candidate = parse(name.unwrap_or_default(), &labels, &annotations)?;
    Ok(warnings(candidate.as_ref(), &annotations))
}

fn warnings(candidate: Option<&Candidate>, annotations: &BTreeMap<String, String>) -> Vec<String> {
    let Some(candidate) = candidate else {
        let without = "has no effect without the label policy.pinnace.dev/candidate: what it names stays in force until \
                       it is deleted";
        let replaces = annotations.contains_key(REPLACES);
        return replaces
            .then(|| format!("metadata.annotations[{REPLACES}] {without}"))
            .into_iter()
            .collect();
    };
    let set = &candidate.set;
    let mut warnings = vec![format!(
        "a candidate of set {set} is evaluated in the shadow of live traffic and is not in force, nor is any more what was \
         in force under this name"
    )];
    if annotations.contains_key(DRY_RUN) {
        warnings.push(format!(
            "metadata.annotations[{DRY_RUN}]: set {set} is evaluated as if it was in force, and then this policy would deny \
             nothing"
        ));
    }
    warnings
}

/// How sidecars see a candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many workloads it is for.
    pub workloads: usize,
    /// For how many of them its set is beyond those that are evaluated.
    pub not_evaluated: usize,
    /// Whether a resource that it is to replace is missing.
    pub replaces_nothing: bool,
}

/// Calls that a candidate would have denied, of one caller at one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// `NAMESPACE/WORKLOAD` of the caller, or its address where it has no workload.
    pub source: String,
    /// `NAMESPACE/WORKLOAD` that was called.
    pub destination: String,
    /// The workload's port.
    pub port: u16,
    /// How many calls in the last hour.
    pub calls: u64,
    /// When the last one was reported.
    pub last_seen: Time,
}

/// What a candidate would have denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WouldDeny {
    /// Every caller of the last hour.
    pub callers: Vec<Caller>,
    /// From when on a caller counts as a present one.
    pub current_since: Option<Time>,
}

impl WouldDeny {
    fn field(&self, set: &str) -> Value {
        let mut callers: Vec<&Caller> = self.callers.iter().collect();
        callers.sort_by(|a, b| {
            let place = |it: &Caller| (it.source.clone(), it.destination.clone(), it.port);
            b.calls.cmp(&a.calls).then_with(|| place(a).cmp(&place(b)))
        });
        let since = self.current_since.as_ref();
        let current = callers
            .iter()
            .filter(|it| since.is_some_and(|since| it.last_seen.0 >= since.0));
        let mut current: Vec<String> = current
            .map(|it| format!("{} -> {}:{}", it.source, it.destination, it.port))
            .collect();
        current.sort_unstable();
        let beyond = callers.len().saturating_sub(MOST_LISTED);
        json!({
            "set": set,
            "callsLastHour": callers.iter().map(|it| it.calls).sum::<u64>(),
            "currentCallersTotal": current.len(),
            "currentCallers": current.into_iter().take(MOST_LISTED).collect::<Vec<_>>(),
            "callers": callers.into_iter().take(MOST_LISTED).collect::<Vec<_>>(),
            "callersNotListed": beyond,
        })
    }
}

/// Builds a candidate's status: that it is not in force, whether it is evaluated, and what it would have denied. `parsed` is
/// what is wrong with the resource beside its label.
#[must_use]
pub fn status<K: ResourceExt>(
    resource: &K,
    held: Option<&Status>,
    candidate: Result<&Candidate, &[Invalid]>,
    parsed: Result<(), &[Invalid]>,
    standing: Standing,
    would_deny: &WouldDeny,
    now: &Time,
) -> Status {
    let generation = resource.meta().generation.map(Generation);
    let mut status = held.cloned().unwrap_or_default();
    status.observed_generation = generation;
    status.set_workloads(Some(standing.workloads));
    let (in_force, shadow) = match (candidate, parsed) {
        (Err(errors), _) => (
            Verdict::no(
                "Invalid",
                format!("{}; as it was before, it goes on", crate::join(errors)),
            ),
            Verdict::no("Invalid", crate::join(errors)),
        ),
        (Ok(candidate), parsed) => {
            let in_force = Verdict::no("Candidate", format!("a candidate of set {}", candidate.set));
            let shadow = match parsed {
                Err(errors) => Verdict::no("Invalid", crate::join(errors)),
                Ok(()) => evaluated(candidate, standing),
            };
            status.other.insert(FIELD.to_owned(), would_deny.field(&candidate.set));
            (in_force, shadow)
        }
    };
    status.set(IN_FORCE, in_force, generation, now);
    status.set(EVALUATED, shadow, generation, now);
    status
}

fn evaluated(candidate: &Candidate, standing: Standing) -> Verdict {
    let Standing {
        workloads,
        not_evaluated,
        replaces_nothing,
    } = standing;
    if not_evaluated > 0 {
        return Verdict::no(
            "TooManySets",
            format!(
                "not evaluated by {not_evaluated} of {workloads} workloads, which have more than {MOST_SETS} candidate sets: \
                 the first {MOST_SETS} by name are evaluated"
            ),
        );
    }
    if let Some(replaced) = candidate.replaces.as_ref().filter(|_| replaces_nothing) {
        let message = format!("{workloads} workloads; there is no {replaced} in force that it would replace");
        return Verdict::yes("ReplacesNothing", message);
    }
    Verdict::yes("Evaluated", format!("{workloads} workloads"))
}

/// Takes what a candidate's status says from the status of a resource that is no candidate any more. In a merge patch a field
/// goes by null.
pub fn clear(held: Option<&Status>, status: &mut Status) {
    if held.is_some_and(|held| held.other.contains_key(FIELD)) {
        status.other.insert(FIELD.to_owned(), Value::Null);
    }
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition: &status::Condition| condition.type_.as_deref() != Some(EVALUATED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuthorizationPolicy, authorization_policy};

    fn resource(metadata: Value) -> AuthorizationPolicy {
        let mut object = json!({"metadata": {"name": "new", "namespace": "shop", "generation": 2}});
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        authorization_policy::read(object).unwrap()
    }

    fn labelled(set: &str) -> Value {
        json!({"labels": {"policy.pinnace.dev/candidate": set}})
    }

    fn time(text: &str) -> Time {
        serde_json::from_value(json!(text)).unwrap()
    }

    #[test]
    fn the_label_makes_a_candidate() {
        assert_eq!(of(&resource(json!({}))), Ok(None));
        for set in ["a", "go-strict-2", &"x".repeat(63)] {
            let candidate = of(&resource(labelled(set))).unwrap().unwrap();
            assert_eq!((candidate.set.as_str(), candidate.replaces), (set, None));
        }
        for set in ["", "A", "a_b", "a.b", "-a", "a-", &"x".repeat(64)] {
            let errors = of(&resource(labelled(set))).unwrap_err();
            assert_eq!(
                errors[0].field, "metadata.labels[policy.pinnace.dev/candidate]",
                "{set}"
            );
        }
        let replaces = |name: &str| {
            let mut metadata = labelled("s");
            metadata["annotations"] = json!({"policy.pinnace.dev/replaces": name});
            of(&resource(metadata))
        };
        let candidate = replaces("old.v1").unwrap().unwrap();
        assert_eq!(candidate.replaces.as_deref(), Some("old.v1"));
        for bad in ["", "a/b", "A", "a..b", "new"] {
            let errors = replaces(bad).unwrap_err();
            assert_eq!(
                errors[0].field, "metadata.annotations[policy.pinnace.dev/replaces]",
                "{bad}"
            );
        }
    }

    #[test]
    fn who_applies_a_candidate_hears_what_it_is() {
        let judged = |metadata: Value, may_be| judge(&json!({ "metadata": metadata }), may_be);
        assert_eq!(judged(json!({"name": "a"}), true), Ok(vec![]));
        let warnings = judged(labelled("s"), true).unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].contains("a candidate of set s"),
            "{warnings:?}"
        );
        let mut dry = labelled("s");
        dry["annotations"] = json!({"istio.io/dry-run": "true"});
        assert!(judged(dry, true).unwrap()[1].contains("would deny nothing"));
        let alone = json!({"annotations": {"policy.pinnace.dev/replaces": "old"}});
        assert!(judged(alone.clone(), true).unwrap()[0].contains("has no effect without the label"));
        for metadata in [labelled("s"), alone] {
            let errors = judged(metadata, false).unwrap_err();
            assert!(errors[0].accepted.contains("only PeerAuthentication"), "{errors:?}");
        }
        assert_eq!(judged(labelled("A"), true).unwrap_err().len(), 1);
    }

    fn caller(source: &str, calls: u64, last_seen: &str) -> Caller {
        Caller {
            source: source.into(),
            destination: "shop/reviews".into(),
            port: 9080,
            calls,
            last_seen: time(last_seen),
        }
    }

    #[test]
    fn a_status_lists_callers_and_which_of_them_still_call() {
        let resource = resource(labelled("go"));
        let candidate = of(&resource).unwrap().unwrap();
        let would_deny = WouldDeny {
            callers: vec![
                caller("legacy/a", 3, "2026-01-01T00:10:00Z"),
                caller("legacy/b", 5, "2026-01-01T00:01:00Z"),
                caller("10.1.2.3", 1, "2026-01-01T00:10:30Z"),
            ],
            current_since: Some(time("2026-01-01T00:09:50Z")),
        };
        let standing = Standing {
            workloads: 2,
            ..Standing::default()
        };
        let now = time("2026-01-01T00:11:00Z");
        let made = status(&resource, None, Ok(&candidate), Ok(()), standing, &would_deny, &now);
        let field = &made.other["candidate"];
        assert_eq!((&field["set"], &field["callsLastHour"]), (&json!("go"), &json!(9)));
        assert_eq!(
            field["currentCallers"],
            json!(["10.1.2.3 -> shop/reviews:9080", "legacy/a -> shop/reviews:9080"])
        );
        assert_eq!(
            field["callers"][0],
            json!({"source": "legacy/b", "destination": "shop/reviews", "port": 9080, "calls": 5, "lastSeen": "2026-01-01T00:01:00Z"})
        );
        assert_eq!(made.condition(IN_FORCE).unwrap().reason.as_deref(), Some("Candidate"));
        assert_eq!(made.condition(EVALUATED).unwrap().status.as_deref(), Some("True"));
        assert_eq!(made.other["workloads"], json!(2));

        // Once it is a candidate no more, its field goes.
        let mut after = made.clone();
        clear(Some(&made), &mut after);
        assert_eq!(after.other["candidate"], Value::Null);
        assert!(after.condition(EVALUATED).is_none() && after.condition(IN_FORCE).is_some());
    }

    #[test]
    fn lists_are_bounded_and_what_is_not_evaluated_is_said() {
        let resource = resource(labelled("go"));
        let candidate = of(&resource).unwrap().unwrap();
        let callers = (0..50).map(|at| caller(&format!("a/{at}"), 1, "2026-01-01T00:10:00Z"));
        let would_deny = WouldDeny {
            callers: callers.collect(),
            current_since: Some(time("2026-01-01T00:00:00Z")),
        };
        let standing = Standing {
            workloads: 3,
            not_evaluated: 1,
            replaces_nothing: false,
        };
        let now = time("2026-01-01T00:11:00Z");
        let made = status(&resource, None, Ok(&candidate), Ok(()), standing, &would_deny, &now);
        let field = &made.other["candidate"];
        let listed = |name: &str| field[name].as_array().unwrap().len();
        assert_eq!(
            (listed("callers"), listed("currentCallers")),
            (MOST_LISTED, MOST_LISTED)
        );
        assert_eq!(
            (&field["callersNotListed"], &field["currentCallersTotal"]),
            (&json!(30), &json!(50))
        );
        let evaluated = made.condition(EVALUATED).unwrap();
        assert_eq!(evaluated.reason.as_deref(), Some("TooManySets"));
        assert!(evaluated.message.as_deref().unwrap().contains("1 of 3 workloads"));

        let errors = [Invalid::new("spec.action", "X", "ALLOW")];
        let bad = status(
            &resource,
            None,
            Ok(&candidate),
            Err(&errors),
            standing,
            &would_deny,
            &now,
        );
        assert_eq!(bad.condition(EVALUATED).unwrap().reason.as_deref(), Some("Invalid"));
        let bad = status(&resource, None, Err(&errors), Ok(()), standing, &would_deny, &now);
        assert_eq!(bad.condition(IN_FORCE).unwrap().reason.as_deref(), Some("Invalid"));
    }
}
