//! `eval tls`: what calls between the workloads in files are: in the clear, under mutual TLS, or refused; and which resources
//! decide it.

mod calls;
mod shown;

use serde::Serialize;

use super::Tls;
use super::manifests::{Manifests, Places};
use super::workloads::{Estate, Workload};
use crate::arguments::Global;
use crate::failure::{DONE, Failure};
use crate::files::{self, Document};
use crate::output::{self, warn};
use calls::Mesh;

/// The most answers that are given at once.
const MOST_ANSWERS: usize = 200_000;

/// What becomes of calls of one workload to another, on ports for which the same is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Answer {
    source: Named,
    destination: Named,
    /// None: every port.
    ports: Vec<Port>,
    /// `plaintext`, `mTLS`, `TLS` or `refused`.
    decision: &'static str,
    reason: String,
    /// The mode in force on the ports; none without a sidecar.
    mode: Option<String>,
    /// `KIND/NAMESPACE/NAME`.
    decided_by: Vec<String>,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Named {
    kind: &'static str,
    namespace: String,
    name: String,
    sidecar: bool,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    without_sidecar: Option<String>,
    #[serde(skip)]
    title: String,
}

impl From<&Workload> for Named {
    fn from(workload: &Workload) -> Self {
        Self {
            kind: workload.kind,
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            sidecar: workload.sidecar(),
            without_sidecar: workload.without_sidecar.clone(),
            title: workload.title(),
        }
    }
}

/// A port of a workload, as it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Port {
    /// `NAMESPACE/NAME` of the Service; none where the pod's own address is called.
    service: Option<String>,
    /// The Service's port; the workload's where there is no Service.
    port: u16,
    /// The workload's port.
    target_port: u16,
}

/// Runs the verb; the exit status.
pub(super) fn run(global: &Global, arguments: &Tls) -> Result<u8, Failure> {
    let places = Places {
        namespace: global.namespace.as_deref().unwrap_or("default"),
        system: &global.system,
    };
    let mesh = read(
        files::documents(&arguments.files)?,
        places,
        arguments.candidate.as_deref(),
    )?;
    for namespace in &mesh.unknown {
        warn(&format!(
            "namespace {namespace} is not among the files: it is taken for one without labels"
        ));
    }
    let chosen = |names: &[String]| -> Result<Vec<&Workload>, Failure> {
        let of = |name: &String| {
            let mut found = mesh.workloads.iter().filter(|it| is_meant(it, name)).peekable();
            match found.peek() {
                Some(_) => Ok(found.collect::<Vec<_>>()),
                None => Err(Failure::missing(format!("{name}: no such workload is in the files"))),
            }
        };
        let mut found: Vec<&Workload> = match names {
            [] => mesh.workloads.iter().collect(),
            names => names.iter().map(of).collect::<Result<Vec<_>, _>>()?.concat(),
        };
        found.dedup_by_key(|it| std::ptr::from_ref(*it));
        Ok(found)
    };
    let (sources, destinations) = (chosen(&arguments.from)?, chosen(&arguments.to)?);
    let mut answers = Vec::new();
    for destination in destinations {
        for source in &sources {
            if !std::ptr::eq(*source, destination) {
                mesh.answers(source, destination, &mut answers);
            }
        }
        if answers.len() > MOST_ANSWERS {
            let what = format!("there are more than {MOST_ANSWERS} answers: choose workloads with --from and --to");
            return Err(Failure::usage(what));
        }
    }
    output::print(global.output, &answers, || shown::table(&answers))?;
    Ok(DONE)
}

/// Whether `[KIND/]NAME[.NAMESPACE]` names a workload.
fn is_meant(workload: &Workload, name: &str) -> bool {
    let (kind, rest) = match name.split_once('/') {
        Some((kind, rest)) => (Some(kind), rest),
        None => (None, name),
    };
    // A name may have dots itself.
    let named = rest == workload.name
        || rest
            .strip_suffix(&workload.namespace)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|rest| rest == workload.name);
    named && kind.is_none_or(|kind| kind.eq_ignore_ascii_case(workload.kind))
}

/// With a candidate set as if that was in force.
fn read(documents: Vec<Document>, places: Places<'_>, set: Option<&str>) -> Result<Mesh, Failure> {
    let mut estate = Estate::default();
    for Document { file, object, .. } in &documents {
        if let Ok(object) = object {
            let failed = |reason: String| Failure::other(format!("{file}: {reason}"));
            estate.take(object, places).map_err(failed)?;
        }
    }
    let mut manifests = Manifests::read(documents, places)?;
    if let Some(set) = set {
        manifests = manifests.with(set)?;
    }
    Ok(Mesh::new(estate, manifests, places.system))
}

#[cfg(test)]
mod tests;
