//! What a user of Istio has in use that is refused, without effect or different here, and what to do about each: what
//! `pinnace migrate` says. Objects come in as they are written; nothing asks a cluster.
//!
//! Which fields of the mesh's own kinds are followed is said by the kinds themselves ([`Kind::without_effect`]), and what
//! becomes of a pod's annotations by [`crate::annotations::surface`].

mod advice;
mod differences;
mod envoy_filter;
mod foreign;
mod mesh_config;
mod workload;

use serde::Serialize;
use serde_json::Value;

use crate::Invalid;
use crate::validation::{self, Kind};

/// How much something weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The object is not accepted, or a pod not injected, as long as it is there.
    Refused,
    /// It is accepted or left alone, and does nothing.
    Unsupported,
    /// It does something else than under Istio.
    Differs,
}

/// One thing that is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub level: Level,
    /// The kind of the object.
    pub kind: String,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The field, annotation or label; empty where it is the object as a whole.
    pub field: String,
    /// What becomes of it.
    pub what: String,
    /// What to do.
    pub todo: String,
}

/// What is found in an object. `root_namespace` is the mesh's.
#[must_use]
pub fn findings(object: &Value, root_namespace: &str) -> Vec<Finding> {
    let mut found = Found::of(object);
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = found.kind.clone();
    match Kind::of(group, &kind) {
        Some(known) => own(known, version, object, root_namespace, &mut found),
        None => match (group, &*kind) {
            ("networking.istio.io", "EnvoyFilter") => envoy_filter::look(object, &mut found),
            ("", "ConfigMap") => mesh_config::of_config_map(object, &mut found),
            ("install.istio.io" | "sailoperator.io", _) => mesh_config::of_installation(object, &mut found),
            _ => {
                foreign::look(group, object, &mut found);
                workload::look(group, object, &mut found);
            }
        },
    }
    found.list
}

/// What is in use of one of the mesh's own kinds.
fn own(kind: &Kind, version: &str, object: &Value, root_namespace: &str, found: &mut Found) {
    if !kind.versions.contains(&version) {
        let accepted: Vec<String> = kind.versions.iter().map(|it| format!("{}/{it}", kind.group)).collect();
        found.add(
            Level::Refused,
            "apiVersion",
            format!("{}/{version} is not served", kind.group),
            format!("write {}", accepted.join(" or ")),
        );
    }
    for error in kind.unknown_fields(object) {
        found.add(
            Level::Unsupported,
            &error.field,
            "no field of that name is known, and the API server drops it",
            "see whether it is misspelt; take it out otherwise",
        );
    }
    if let Some(Err(errors)) = validation::judge(kind.group, kind.name, object, root_namespace) {
        for error in &errors {
            found.refused(error);
        }
    }
    for path in kind.without_effect(object) {
        let todo = advice::of(kind.name, &path);
        found.add(
            Level::Unsupported,
            &path,
            "accepted, and without effect in this version",
            todo,
        );
    }
    differences::look(kind.name, object, found);
}

/// What is found in one object.
struct Found {
    kind: String,
    namespace: String,
    name: String,
    list: Vec<Finding>,
}

impl Found {
    fn of(object: &Value) -> Self {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            list: Vec::new(),
        }
    }

    fn add(&mut self, level: Level, field: &str, what: impl Into<String>, todo: impl Into<String>) {
        self.list.push(Finding {
            level,
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            field: field.to_owned(),
            what: what.into(),
            todo: todo.into(),
        });
    }

    fn refused(&mut self, error: &Invalid) {
        self.add(
            Level::Refused,
            &error.field,
            format!("{:?} is not accepted", error.value),
            format!("write {}", error.accepted),
        );
    }
}

#[cfg(test)]
mod tests;
