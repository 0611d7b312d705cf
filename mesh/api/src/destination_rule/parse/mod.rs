//! From the resource to the domain's rule, with Istio's validation (istio/istio pkg/config/validation, DestinationRule).
//!
//! All fields are checked, those that nothing follows yet too: a mistake shows when it is made.

mod connection_pool;
mod hosts;
mod load_balancer;
mod locality;
mod outlier_detection;
mod tls;
mod traffic_policy;

use std::collections::BTreeSet;
use std::fmt::Display;

use kube::ResourceExt;
use mesh_core::destination_rule::{Export, Rule, Subset};
use mesh_core::labels::Labels;

use super::resource::{self, DestinationRule};
use crate::{Invalid, duration, selector};

/// Reads a resource from an API object of any version. Unknown fields and an absent `spec` are fine, as for the API server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<DestinationRule, Invalid> {
    crate::object::read(object, "an object of networking.istio.io/v1")
}

/// Parses a resource into the rule that decides.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &DestinationRule) -> Result<Rule, Vec<Invalid>> {
    let mut report = Report::default();
    let rule = rule(resource, &mut report);
    if report.errors.is_empty() {
        Ok(rule)
    } else {
        Err(report.errors)
    }
}

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(resource: &DestinationRule) -> Vec<String> {
    let mut report = Report::default();
    rule(resource, &mut report);
    let later = super::later(&resource.spec);
    if !later.is_empty() {
        report.warn(format!(
            "accepted, and without effect in this version: {}",
            later.join(", ")
        ));
    }
    report.warnings
}

/// What is wrong, and what is worth a word.
#[derive(Debug, Default)]
struct Report {
    errors: Vec<Invalid>,
    warnings: Vec<String>,
}

impl Report {
    fn refuse(&mut self, field: impl Into<String>, value: impl Display, accepted: impl Into<String>) {
        self.errors.push(Invalid::new(field, value, accepted));
    }

    fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    /// Refuses a text that is there and no duration of at least a millisecond, in whole milliseconds.
    fn duration(&mut self, field: impl Into<String>, value: Option<&str>) {
        let Some(text) = value else { return };
        if duration::whole_milliseconds(text).is_none() {
            self.refuse(field, text, duration::WHOLE_MILLISECONDS);
        }
    }

    /// Refuses a number that is there and outside a range.
    fn range(&mut self, field: impl Into<String>, value: Option<i64>, least: i64, most: i64) {
        if let Some(number) = value.filter(|number| !(least..=most).contains(number)) {
            self.refuse(field, number, format!("{least} to {most}"));
        }
    }

    /// Refuses a text that is there and none of a list.
    fn one_of(&mut self, field: impl Into<String>, value: Option<&str>, accepted: &[&str]) {
        if let Some(text) = value.filter(|text| !accepted.contains(text)) {
            self.refuse(field, text, format!("one of {}", accepted.join(", ")));
        }
    }
}

fn rule(resource: &DestinationRule, report: &mut Report) -> Rule {
    let spec = &resource.spec;
    let namespace = resource.namespace().unwrap_or_default();
    hosts::check("spec.host", &spec.host, report);
    let selected = spec.workload_selector.is_some();
    let selector = spec
        .workload_selector
        .as_ref()
        .map(|labels| selector::parse("spec.workloadSelector", Some(labels), &mut report.errors));
    if selector.as_ref().is_some_and(mesh_core::labels::Selector::is_empty) {
        report.warn(
            "spec.workloadSelector has no labels: the rule is for every client of its namespace, and of no other",
        );
    }
    Rule {
        export_to: export(
            spec.export_to.as_deref().unwrap_or_default(),
            &namespace,
            selected,
            report,
        ),
        namespace: namespace.into(),
        name: resource.name_any().into(),
        created: resource
            .creation_timestamp()
            .map_or(i64::MAX, |time| time.0.as_second()),
        host: spec.host.clone(),
        selector,
        policy: spec
            .traffic_policy
            .as_ref()
            .map(|policy| traffic_policy::parse("spec.trafficPolicy", policy, selected, report)),
        subsets: subsets(spec.subsets.as_deref().unwrap_or_default(), selected, report),
    }
}

fn export(list: &[String], namespace: &str, selected: bool, report: &mut Report) -> Export {
    const FIELD: &str = "spec.exportTo";
    let mut export = Export {
        public: list.is_empty(),
        ..Export::default()
    };
    let mut seen = BTreeSet::new();
    for entry in list {
        let meant = if entry == "." { namespace } else { entry };
        if !seen.insert(meant) {
            report.refuse(FIELD, entry, "each namespace once (. is the rule's own)");
        }
        match entry.as_str() {
            "*" => export.public = true,
            "." => export.own = true,
            name if hosts::is_label(name) => {
                export.namespaces.insert(name.to_owned());
            }
            other => report.refuse(FIELD, other, "., * or the name of a namespace"),
        }
    }
    if export.public && list.len() > 1 {
        report.refuse(FIELD, list.join(", "), "* alone, or namespaces without it");
    }
    if selected && !list.is_empty() && !(list.len() == 1 && seen.contains(namespace)) {
        report.refuse(
            FIELD,
            list.join(", "),
            "the rule's own namespace alone, since a rule with a workloadSelector counts in no other",
        );
    }
    export
}

fn subsets(list: &[resource::Subset], selected: bool, report: &mut Report) -> Vec<Subset> {
    let mut names = BTreeSet::new();
    let mut parsed = Vec::new();
    for (at, subset) in list.iter().enumerate() {
        let path = format!("spec.subsets[{at}]");
        if !hosts::is_label(&subset.name) {
            report.refuse(
                format!("{path}.name"),
                &subset.name,
                "a name of letters, digits and '-', at most 63 characters",
            );
        } else if !names.insert(&subset.name) {
            report.refuse(format!("{path}.name"), &subset.name, "each name once");
        }
        let labels = subset.labels.clone().unwrap_or_default();
        check_labels(&format!("{path}.labels"), &labels, report);
        let policy = subset
            .traffic_policy
            .as_ref()
            .map(|policy| traffic_policy::parse(&format!("{path}.trafficPolicy"), policy, selected, report));
        parsed.push(Subset {
            name: subset.name.clone(),
            labels,
            policy,
        });
    }
    parsed
}

/// What Kubernetes asks of labels.
fn check_labels(path: &str, labels: &Labels, report: &mut Report) {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    let qualified = |text: &str| {
        let bytes = text.as_bytes();
        let inside = |byte: &u8| edge(*byte) || matches!(byte, b'-' | b'_' | b'.');
        text.len() <= 63
            && bytes.first().copied().is_some_and(edge)
            && bytes.last().copied().is_some_and(edge)
            && bytes.iter().all(inside)
    };
    for (key, value) in labels {
        let (prefix, name) = key.split_once('/').unwrap_or(("", key));
        let prefix_fits =
            !key.contains('/') || (prefix.len() <= 253 && prefix.split('.').all(hosts::is_label) && !prefix.is_empty());
        if !prefix_fits || !qualified(name) {
            report.refuse(
                path,
                key,
                "keys as Kubernetes has them, such as version or example.com/version",
            );
        }
        if !value.is_empty() && !qualified(value) {
            report.refuse(
                format!("{path}[{key}]"),
                value,
                "a value of letters, digits, '-', '_' and '.', at most 63 characters",
            );
        }
    }
}

#[cfg(test)]
mod tests;
