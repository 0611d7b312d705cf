//! From the resource to the domain's type, with Istio's validation (istio/istio pkg/config/validation, VirtualService).

mod action;
mod client;
mod connection;
mod cors;
mod destination;
mod fault;
mod headers;
mod hosts;
mod http;
mod matches;
mod retries;
mod unreachable;

use kube::ResourceExt;
use mesh_core::routing;

use super::resource::{VirtualService, VirtualServiceSpec};
use crate::report::Report;
use crate::{Invalid, export};

pub(super) use client::only_gateways;
pub(super) use headers::has_command;
pub(super) use matches::is_claim;

/// Reads a resource from an API object of any version. Unknown fields and an absent `spec` are fine, as for the API server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<VirtualService, Invalid> {
    crate::object::read(object, "an object of networking.istio.io/v1")
}

/// Parses a resource into what decides where requests go.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &VirtualService) -> Result<routing::VirtualService, Vec<Invalid>> {
    let mut report = Report::default();
    let parsed = virtual_service(resource, &mut report);
    if report.errors.is_empty() {
        Ok(parsed)
    } else {
        Err(report.errors)
    }
}

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(resource: &VirtualService) -> Vec<String> {
    let mut report = Report::default();
    virtual_service(resource, &mut report);
    unreachable::check(&resource.spec, &mut report);
    let later = super::later(&resource.spec);
    if !later.is_empty() {
        report.warn(format!(
            "accepted, and without effect in this version: {}",
            later.join(", ")
        ));
    }
    report.warnings
}

/// What the parts of a resource must know of the whole.
struct Whole<'a> {
    namespace: &'a str,
    spec: &'a VirtualServiceSpec,
}

impl<'a> Whole<'a> {
    fn hosts(&self) -> &'a [String] {
        self.spec.hosts.as_deref().unwrap_or_default()
    }

    /// Whether others' routes delegate to it: it has no hosts of its own.
    fn is_delegate(&self) -> bool {
        self.hosts().is_empty()
    }

    /// Whether it is for gateways and not for sidecars.
    fn is_for_gateways(&self) -> bool {
        only_gateways(self.spec.gateways.as_deref().unwrap_or_default())
    }
}

fn virtual_service(resource: &VirtualService, report: &mut Report) -> routing::VirtualService {
    let namespace = resource.namespace().unwrap_or_default();
    let spec = &resource.spec;
    let whole = Whole {
        namespace: &namespace,
        spec,
    };
    let gateways = spec.gateways.as_deref().unwrap_or_default();
    let http = spec.http.as_deref().unwrap_or_default();
    let tls = spec.tls.as_deref().unwrap_or_default();
    let tcp = spec.tcp.as_deref().unwrap_or_default();
    if whole.is_delegate() {
        for (name, given) in [
            ("gateways", !gateways.is_empty()),
            ("tls", !tls.is_empty()),
            ("tcp", !tcp.is_empty()),
        ] {
            if given {
                report.refuse(
                    format!("spec.{name}"),
                    "given",
                    "none without hosts: others delegate HTTP requests alone to such a VirtualService",
                );
            }
        }
    }
    client::check_gateways("spec.gateways", gateways, report);
    hosts::check(&whole, report);
    if http.is_empty() && tls.is_empty() && tcp.is_empty() {
        report.refuse("spec", "no routes", "at least one of http, tls and tcp");
    }
    let path = |list: &str, at: usize| format!("spec.{list}[{at}]");
    routing::VirtualService {
        name: resource.name_any().into(),
        created: resource
            .creation_timestamp()
            .map_or(i64::MAX, |time| time.0.as_second()),
        hosts: whole.hosts().iter().map(|host| host.as_str().into()).collect(),
        gateways: gateways.iter().map(|name| name.as_str().into()).collect(),
        http: http
            .iter()
            .enumerate()
            .map(|(at, route)| http::parse(&path("http", at), route, &whole, report))
            .collect(),
        tls: tls
            .iter()
            .enumerate()
            .map(|(at, route)| connection::tls(&path("tls", at), route, &whole, report))
            .collect(),
        tcp: tcp
            .iter()
            .enumerate()
            .map(|(at, route)| connection::tcp(&path("tcp", at), route, report))
            .collect(),
        export_to: export::parse(spec.export_to.as_deref().unwrap_or_default(), &namespace, report),
        namespace: namespace.as_str().into(),
    }
}

#[cfg(test)]
mod tests;
