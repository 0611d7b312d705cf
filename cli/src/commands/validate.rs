//! `validate`: whether the resources in files are accepted, by the parser that the webhook and the operator have. Unknown fields
//! are errors here, since the API server drops them without a word.

use mesh_api::validation::{self, Kind};
use mesh_api::{Invalid, MeshConfig, mesh_config};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

use crate::arguments::Global;
use crate::failure::{DONE, Failure};
use crate::files::{self, Document};
use crate::output::{self, Cell, Table};

/// The status when a resource is not accepted.
const NOT_ACCEPTED: u8 = 1;
/// The namespace of objects that name none.
const DEFAULT_NAMESPACE: &str = "default";
/// How the groups of Istio's resources end.
const ISTIO: &str = ".istio.io";

/// What is said of a resource.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Verdict {
    kind: String,
    namespace: String,
    name: String,
    valid: bool,
    errors: Vec<Fault>,
    warnings: Vec<String>,
}

/// A field that is not accepted.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Fault {
    field: String,
    message: String,
}

impl From<Invalid> for Fault {
    fn from(error: Invalid) -> Self {
        Self {
            message: format!("{:?} is not accepted, expected {}", error.value, error.accepted),
            field: error.field,
        }
    }
}

pub(crate) fn run(global: &Global, paths: &[PathBuf]) -> Result<u8, Failure> {
    let namespace = global.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let verdicts: Vec<Verdict> = files::documents(paths)?
        .into_iter()
        .filter_map(|document| verdict(document, namespace, &global.system))
        .collect();
    output::print(global.output, &verdicts, || table(&verdicts))?;
    let all = verdicts.iter().all(|verdict| verdict.valid);
    Ok(if all { DONE } else { NOT_ACCEPTED })
}

/// What is said of a document; nothing of what the mesh does not read.
fn verdict(document: Document, namespace: &str, root_namespace: &str) -> Option<Verdict> {
    let mut object = match document.object {
        Ok(object) => object,
        Err(reason) => {
            return Some(Verdict {
                errors: vec![Fault {
                    field: format!("{}[{}]", document.file, document.at),
                    message: reason,
                }],
                ..Verdict::default()
            });
        }
    };
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let namespace = match text("/metadata/namespace") {
        of if of.is_empty() => namespace.to_owned(),
        of => of,
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let judged = if let Some(known) = Kind::of(group, &kind) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), Value::from(namespace.as_str()));
        }
        resource(known, version, &object, root_namespace)
    } else if is_mesh_config(group, &kind, &name) {
        mesh_config(&object)
    } else if group.ends_with(ISTIO) {
        let names: Vec<&str> = validation::KINDS.iter().map(|kind| kind.name).collect();
        let kind = format!("{kind} of {group}");
        Err(Invalid::new("kind", kind, format!("one of {}", names.join(", "))).into())
    } else {
        return None;
    };
    let (errors, warnings) = match judged {
        Ok(warnings) => (Vec::new(), warnings),
        Err(errors) => (errors, Vec::new()),
    };
    Some(Verdict {
        kind,
        namespace,
        name,
        valid: errors.is_empty(),
        errors: errors.into_iter().map(Fault::from).collect(),
        warnings,
    })
}

fn resource(kind: &Kind, version: &str, object: &Value, root_namespace: &str) -> Result<Vec<String>, Vec<Invalid>> {
    let mut errors = Vec::new();
    if !kind.versions.contains(&version) {
        let accepted: Vec<String> = kind.versions.iter().map(|it| format!("{}/{it}", kind.group)).collect();
        let given = format!("{}/{version}", kind.group);
        errors.push(Invalid::new("apiVersion", given, accepted.join(", ")));
    }
    let named = |field: &str| object["metadata"][field].as_str().is_some_and(|name| !name.is_empty());
    if !named("name") && !named("generateName") {
        errors.push(Invalid::new("metadata.name", "", "a name"));
    }
    errors.extend(kind.unknown_fields(object));
    let judged = validation::judge(kind.group, kind.name, object, root_namespace).unwrap_or_else(|| Ok(Vec::new()));
    match judged {
        Ok(warnings) if errors.is_empty() => Ok(warnings),
        Ok(_) => Err(errors),
        Err(of_fields) => {
            errors.extend(of_fields);
            Err(errors)
        }
    }
}

/// Whether it is the ConfigMap of the mesh configuration, of whichever revision.
fn is_mesh_config(group: &str, kind: &str, name: &str) -> bool {
    let rest = name.strip_prefix(mesh_config::CONFIG_MAP);
    group.is_empty() && kind == "ConfigMap" && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn mesh_config(object: &Value) -> Result<Vec<String>, Vec<Invalid>> {
    let Some(text) = object["data"][mesh_config::KEY].as_str() else {
        return Ok(Vec::new());
    };
    let config = MeshConfig::parse(text)?;
    let ignored = config.ignored.into_iter();
    Ok(ignored.map(|path| format!("{path} has no effect")).collect())
}

fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "VALID", "FIELD", "MESSAGE"]);
    for verdict in verdicts {
        let first = || {
            let valid = if verdict.valid { "yes".into() } else { Cell::alarm("no") };
            [
                Cell::from(verdict.kind.as_str()),
                verdict.namespace.as_str().into(),
                verdict.name.as_str().into(),
                valid,
            ]
        };
        if verdict.errors.is_empty() && verdict.warnings.is_empty() {
            table.row(first().into_iter().chain(["".into(), "".into()]));
        }
        for fault in &verdict.errors {
            table.row(
                first()
                    .into_iter()
                    .chain([fault.field.as_str().into(), fault.message.as_str().into()]),
            );
        }
        for warning in &verdict.warnings {
            table.row(
                first()
                    .into_iter()
                    .chain(["".into(), Cell::warning(format!("warning: {warning}"))]),
            );
        }
    }
    table
}

#[cfg(test)]
mod tests;
