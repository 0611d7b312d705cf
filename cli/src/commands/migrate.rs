//! `migrate`: every field and annotation of Istio's in use that is refused, without effect or different here, each with what
//! to do. The judgement is `mesh_api`'s; here are the ways to the objects, and how findings are shown.

mod cluster;

use std::path::PathBuf;

use mesh_api::migration::{self, Finding, Level};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::cluster::Cluster;
use crate::failure::{DONE, Failure};
use crate::files::{self, Document};
use crate::output::{self, Cell, Table};

/// The status when something is to be done.
const TO_DO: u8 = 1;
/// The namespace of objects in files that name none.
const DEFAULT_NAMESPACE: &str = "default";

pub(crate) async fn run(global: &Global, paths: &[PathBuf], in_cluster: bool) -> Result<u8, Failure> {
    let findings = if in_cluster {
        let cluster = Cluster::connect(global).await?;
        let objects = cluster::objects(&cluster, global.namespace.as_deref()).await?;
        of(objects.iter(), &global.system)
    } else {
        let namespace = global.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        of_documents(files::documents(paths)?, namespace, &global.system)
    };
    output::print(global.output, &findings, || table(&findings))?;
    Ok(if findings.is_empty() { DONE } else { TO_DO })
}

fn of<'a>(objects: impl Iterator<Item = &'a Value>, root_namespace: &str) -> Vec<Finding> {
    objects
        .flat_map(|object| migration::findings(object, root_namespace))
        .collect()
}

fn of_documents(documents: Vec<Document>, namespace: &str, root_namespace: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for document in documents {
        match document.object {
            Ok(mut object) => {
                place(&mut object, namespace);
                findings.extend(migration::findings(&object, root_namespace));
            }
            Err(reason) => findings.push(Finding {
                level: Level::Refused,
                kind: String::new(),
                namespace: String::new(),
                name: String::new(),
                field: format!("{}[{}]", document.file, document.at),
                what: reason,
                todo: "mend the file; what follows in it was not looked at".to_owned(),
            }),
        }
    }
    findings
}

/// Gives an object a namespace that names none and is of one.
fn place(object: &mut Value, namespace: &str) {
    if object["kind"] == "Namespace" {
        return;
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| json!(namespace));
    }
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "LEVEL", "FIELD", "WHAT", "TO DO"]);
    for finding in findings {
        let level = match finding.level {
            Level::Refused => Cell::alarm("refused"),
            Level::Unsupported => Cell::warning("unsupported"),
            Level::Differs => Cell::warning("differs"),
        };
        table.row([
            finding.kind.as_str().into(),
            finding.namespace.as_str().into(),
            finding.name.as_str().into(),
            level,
            finding.field.as_str().into(),
            finding.what.as_str().into(),
            finding.todo.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Finding> {
        let mut documents = Vec::new();
        files::split(text, "all.yaml", &mut documents);
        of_documents(documents, "shop", "istio-system")
    }

    #[test]
    fn findings_come_in_the_order_of_the_files() {
        let findings = found(
            "apiVersion: v1\nkind: List\nitems:\n\
             - {apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: ef}, \
                spec: {configPatches: [{applyTo: HTTP_FILTER, patch: {value: {name: envoy.filters.http.lua}}}]}}\n\
             - {apiVersion: v1, kind: Namespace, metadata: {name: ns, labels: {istio.io/dataplane-mode: ambient}}}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs, namespace: web}\n\
             spec: {hosts: [a], exportTo: [., web], http: [{route: [{destination: {host: a}}]}]}\n---\na: [\n",
        );
        let rows: Vec<_> = findings
            .iter()
            .map(|it| {
                (
                    it.kind.as_str(),
                    it.namespace.as_str(),
                    it.name.as_str(),
                    it.level,
                    it.field.as_str(),
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("EnvoyFilter", "shop", "ef", Level::Unsupported, "spec.configPatches[0]"),
                (
                    "Namespace",
                    "",
                    "ns",
                    Level::Unsupported,
                    "metadata.labels[istio.io/dataplane-mode]"
                ),
                ("VirtualService", "web", "vs", Level::Refused, "spec.exportTo"),
                ("", "", "", Level::Refused, "all.yaml[2]"),
            ]
        );
        let text = table(&findings).text(false);
        assert!(text.starts_with("KIND               NAMESPACE"), "{text}");
        assert!(
            text.contains("there is no Envoy to patch; it patches HTTP_FILTER with envoy.filters.http.lua"),
            "{text}"
        );
        let shown = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!(shown["level"], "unsupported");
        assert!(
            shown["todo"].as_str().unwrap().contains("istio-injection=enabled"),
            "{shown}"
        );
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {metadata: {labels: {app: d}}}}\n---\n\
                    apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";
        assert_eq!(found(text), []);
    }
}
