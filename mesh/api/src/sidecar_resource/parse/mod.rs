//! From the resource to the domain's scope, with Istio's validation (istio/istio pkg/config/validation, Sidecar).
//!
//! All fields are checked, those that nothing follows yet too: a mistake shows when it is made.

mod egress;
mod ingress;
mod port;

use kube::ResourceExt;
use mesh_core::labels::Selector;
use mesh_core::sidecar_scope::{Outbound, Scope};

use super::resource::{LabelSelector, OutboundTrafficPolicy, Sidecar};
use crate::report::Report;
use crate::{Invalid, destination_rule, names};

/// Reads a resource from an API object of any version. Unknown fields and an absent `spec` are fine, as for the API server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<Sidecar, Invalid> {
    crate::object::read(object, "an object of networking.istio.io/v1")
}

/// Parses a resource into the scope that decides what workloads see.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &Sidecar) -> Result<Scope, Vec<Invalid>> {
    let mut report = Report::default();
    let scope = scope(resource, &mut report);
    if report.errors.is_empty() {
        Ok(scope)
    } else {
        Err(report.errors)
    }
}

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(resource: &Sidecar) -> Vec<String> {
    let mut report = Report::default();
    scope(resource, &mut report);
    let later = super::later(&resource.spec);
    if !later.is_empty() {
        report.warn(format!(
            "accepted, and without effect in this version: {}",
            later.join(", ")
        ));
    }
    report.warnings
}

fn scope(resource: &Sidecar, report: &mut Report) -> Scope {
    let spec = &resource.spec;
    let namespace = resource.namespace().unwrap_or_default();
    let ingress = spec.ingress.as_deref().unwrap_or_default();
    let egress = spec.egress.as_deref().unwrap_or_default();
    let (pool, policy) = (&spec.inbound_connection_pool, &spec.outbound_traffic_policy);
    if ingress.is_empty() && egress.is_empty() && pool.is_none() && policy.is_none() {
        report.refuse(
            "spec",
            "{}",
            "at least one of egress, ingress, outboundTrafficPolicy and inboundConnectionPool",
        );
    }
    ingress::check(ingress, report);
    if let Some(pool) = pool {
        destination_rule::check_connection_pool("spec.inboundConnectionPool", pool, report);
    }
    Scope {
        selector: spec.workload_selector.as_ref().map(|found| selector(found, report)),
        egress: egress::parse(egress, &namespace, report),
        outbound: policy.as_ref().map(|policy| outbound(policy, report)),
        name: resource.name_any().into(),
        created: resource
            .creation_timestamp()
            .map_or(i64::MAX, |time| time.0.as_second()),
        namespace: namespace.into(),
    }
}

fn selector(selector: &LabelSelector, report: &mut Report) -> Selector {
    const PATH: &str = "spec.workloadSelector.labels";
    let labels = selector.labels.clone().unwrap_or_default();
    if labels.is_empty() {
        report.warn("spec.workloadSelector has no labels: the Sidecar is for every workload of its namespace");
    }
    for (key, value) in &labels {
        if key.is_empty() || key.contains('*') {
            report.refuse(PATH, key, "keys that are not empty and have no wildcard");
        }
        if value.contains('*') || value.chars().count() > 63 {
            report.refuse(
                format!("{PATH}[{key}]"),
                value,
                "at most 63 characters, and no wildcard",
            );
        }
    }
    Selector(labels)
}

fn outbound(policy: &OutboundTrafficPolicy, report: &mut Report) -> Outbound {
    const PATH: &str = "spec.outboundTrafficPolicy";
    let mode = policy.mode.as_deref().filter(|text| !text.is_empty());
    report.one_of(format!("{PATH}.mode"), mode, &["REGISTRY_ONLY", "ALLOW_ANY"]);
    let mode = if mode == Some("ALLOW_ANY") {
        Outbound::AllowAny
    } else {
        Outbound::RegistryOnly
    };
    let Some(proxy) = &policy.egress_proxy else { return mode };
    let path = format!("{PATH}.egressProxy");
    if mode != Outbound::AllowAny {
        report.refuse(path, "given", "none unless mode is ALLOW_ANY");
        return mode;
    }
    let number = proxy.port.as_ref().map(|port| port.number.unwrap_or(0));
    if !number.is_some_and(|number| (1..=65535).contains(&number)) {
        let given = number.map(|number| number.to_string()).unwrap_or_default();
        report.refuse(format!("{path}.port.number"), given, "a port, 1 to 65535");
    }
    if !names::is_host(&proxy.host) || proxy.host.contains('*') {
        report.refuse(format!("{path}.host"), &proxy.host, "a fully qualified name");
    }
    let subset = proxy.subset.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = subset.filter(|name| !names::is_label(name)) {
        report.refuse(format!("{path}.subset"), name, "a name of letters, digits and '-'");
    }
    mode
}

#[cfg(test)]
mod tests;
