//! From the resource to the domain's rule, with Istio's validation (istio/istio pkg/config/validation, DestinationRule).
//!
//! All fields are checked, those that nothing follows too: a mistake shows when it is made.

mod connection_pool;
mod load_balancer;
mod locality;
mod outlier_detection;
mod tls;
mod traffic_policy;

pub(crate) use connection_pool::check as check_connection_pool;

use std::collections::BTreeSet;

use kube::ResourceExt;
use mesh_core::destination_rule::{Export, LocalityRule, Rule, Subset};

use super::resource::{self, DestinationRule};
use crate::report::Report;
use crate::{Invalid, export, names, selector};

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

/// Reads a locality setting that stands elsewhere than in a DestinationRule, at `path`.
///
/// # Errors
/// Every field that is not accepted.
pub(crate) fn locality(path: &str, setting: &resource::LocalityLbSetting) -> Result<LocalityRule, Vec<Invalid>> {
    let mut report = Report::default();
    // What outlier detection stands beside it is for each rule to say.
    locality::check(path, setting, true, &mut report);
    if report.errors.is_empty() {
        Ok(locality::parse(setting))
    } else {
        Err(report.errors)
    }
}

fn rule(resource: &DestinationRule, report: &mut Report) -> Rule {
    let spec = &resource.spec;
    let namespace = resource.namespace().unwrap_or_default();
    check_host(&spec.host, report);
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
        export_to: exported(
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
        subsets: subsets(
            &resource.name_any(),
            spec.subsets.as_deref().unwrap_or_default(),
            selected,
            report,
        ),
    }
}

fn check_host(host: &str, report: &mut Report) {
    const FIELD: &str = "spec.host";
    names::check_host(FIELD, host, report);
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let partial = labels.len() == 2 || (labels.len() == 3 && labels[2] == "svc");
    if partial && !host.contains('*') && names::is_host(host) {
        report.warn(format!(
            "{FIELD}: {host:?} is taken as it stands, since it has a dot, and names no Service of the cluster; a Service's \
             whole name is NAME.NAMESPACE.svc.cluster.local"
        ));
    }
}

fn exported(list: &[String], namespace: &str, selected: bool, report: &mut Report) -> Export {
    let export = export::parse(list, namespace, report);
    let own_alone = matches!(list, [one] if one == "." || one == namespace);
    if selected && !list.is_empty() && !own_alone {
        report.refuse(
            export::FIELD,
            list.join(", "),
            "the rule's own namespace alone, since a rule with a workloadSelector counts in no other",
        );
    }
    export
}

fn subsets(rule: &str, list: &[resource::Subset], selected: bool, report: &mut Report) -> Vec<Subset> {
    let mut names = BTreeSet::new();
    let mut parsed = Vec::new();
    for (at, subset) in list.iter().enumerate() {
        let path = format!("spec.subsets[{at}]");
        if !names::is_label(&subset.name) {
            report.refuse(
                format!("{path}.name"),
                &subset.name,
                "a name of letters, digits and '-', at most 63 characters",
            );
        } else if !names.insert(&subset.name) {
            report.refuse(format!("{path}.name"), &subset.name, "each name once");
        }
        let labels = subset.labels.clone().unwrap_or_default();
        names::check_labels(&format!("{path}.labels"), &labels, report);
        let policy = subset
            .traffic_policy
            .as_ref()
            .map(|policy| traffic_policy::parse(&format!("{path}.trafficPolicy"), policy, selected, report));
        parsed.push(Subset {
            rule: rule.into(),
            name: subset.name.clone(),
            labels,
            policy,
        });
    }
    parsed
}

#[cfg(test)]
mod tests;
