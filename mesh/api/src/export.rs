//! `exportTo`: for which namespaces' clients a resource is.

use std::collections::BTreeSet;

use mesh_core::destination_rule::Export;

use crate::names;
use crate::report::Report;

/// The field, wherever it stands.
pub(crate) const FIELD: &str = "spec.exportTo";

/// Parses the field of a resource in a namespace.
pub(crate) fn parse(list: &[String], namespace: &str, report: &mut Report) -> Export {
    let mut export = Export {
        public: list.is_empty(),
        ..Export::default()
    };
    let mut seen = BTreeSet::new();
    for entry in list {
        let meant = if entry == "." { namespace } else { entry };
        if !seen.insert(meant) {
            report.refuse(FIELD, entry, "each namespace once (. is the resource's own)");
        }
        match entry.as_str() {
            "*" => export.public = true,
            "." => export.own = true,
            name if names::is_label(name) => {
                export.namespaces.insert(name.to_owned());
            }
            other => report.refuse(FIELD, other, "., * or the name of a namespace"),
        }
    }
    if export.public && list.len() > 1 {
        report.refuse(FIELD, list.join(", "), "* alone, or namespaces without it");
    }
    export
}
