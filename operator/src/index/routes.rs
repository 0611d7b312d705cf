//! Destinations with the routes that VirtualServices give one client, and with the destinations to which those lead: one
//! resource, so that a route never comes before what it leads to.

use std::sync::Arc;

use mesh_core::destination::{Destination, Resolution};
use mesh_core::destination_rule::Merged;
use mesh_core::hosts::fqdn;
use mesh_core::labels::Labels;
use mesh_core::protocol::Declared;
use mesh_core::routing::{self, Client, Effective, InSubset, Lead, Leads, Reference, Speaking};

use super::changes::{Key, Named};
use super::compile;
use super::resolve::Target;
use super::scopes;
use super::shared::MeshFacts;
use super::world::World;

static NO_LABELS: Labels = Labels::new();

/// A destination as one client gets it.
#[derive(Debug)]
pub struct Compiled {
    /// The destination.
    pub destination: Destination,
    /// What it was compiled from: the destination that was called, then those to which its routes lead.
    pub parts: Vec<Target>,
    /// What else it depends on, whether that exists or not.
    pub dependencies: Vec<Key>,
}

/// The VirtualServices that speak for a target to a client's pod; `None` where nobody does. They speak for hosts: a pod that is
/// called by its own address has none.
#[must_use]
pub fn speaking<'a>(world: &'a World, mesh: &MeshFacts, target: &Target, client: &'a Named) -> Option<Speaking<'a>> {
    let services = world.virtual_services();
    let pod = world.pod_named(client);
    let who = Client {
        namespace: &client.0,
        labels: pod.map_or(&NO_LABELS, |pod| &pod.labels),
    };
    let domain = &mesh.cluster_domain;
    let scope = scopes::of(world, mesh, client);
    let shown = |routes: &Effective| scopes::shows_routes(scope, routes, target.port(), client);
    match target {
        Target::Service { name, port } => {
            let host = fqdn(&name.1, &name.0, domain);
            let speaking = services.speaking(who, &host, *port, shown);
            (!speaking.is_empty()).then_some(speaking)
        }
        Target::Host { host, port } => {
            let on_port = |host: &str| has_http_port(world, host, *port, domain);
            services.speaking_outside(who, host, *port, shown, on_port)
        }
        Target::Entry { hosted, port } => {
            let speaking = services.speaking(who, &hosted.host, *port, shown);
            (!speaking.is_empty()).then_some(speaking)
        }
        Target::Pod(_) => None,
    }
}

/// Whether a host, or one that a wildcard matches, is a Service's with a port for requests.
fn has_http_port(world: &World, host: &str, port: u16, cluster_domain: &str) -> bool {
    let services = world.services_of_host(host, cluster_domain);
    let mut ports = services
        .iter()
        .filter_map(|name| world.service_named(name))
        .flat_map(|service| &service.ports);
    ports.any(|declared| {
        let requests = [Declared::Http, Declared::Http2, Declared::Detect];
        declared.port == port && requests.contains(&declared.protocol(port))
    })
}

/// Whether a host that no Service has is known depends on the Services that the VirtualServices for it name beside it.
#[must_use]
pub fn neighbours(world: &World, host: &str, cluster_domain: &str) -> Vec<Key> {
    let naming = world.virtual_services().naming(host);
    let hosts = naming.flat_map(|service| &service.hosts);
    let exact = hosts.filter(|other| !other.starts_with('*') && ***other != *host);
    exact.map(|other| key_of(other, cluster_domain)).collect()
}

/// What a fully qualified host stands for.
fn key_of(host: &Arc<str>, cluster_domain: &str) -> Key {
    match service_of(host, cluster_domain) {
        Some(name) => Key::Service(name),
        None => Key::Host(host.clone()),
    }
}

/// The Service that would have a fully qualified host.
fn service_of(host: &str, cluster_domain: &str) -> Option<Named> {
    let service = host.strip_suffix(cluster_domain)?.strip_suffix(".svc.")?;
    let (name, namespace) = service.split_once('.')?;
    (!namespace.contains('.')).then(|| (namespace.into(), name.into()))
}

/// Compiles a destination with the routes that `speaking` says; `None` when its Service or pod is gone.
#[must_use]
pub fn compile(
    world: &World,
    mesh: &MeshFacts,
    target: Target,
    client: &Named,
    speaking: Option<&Speaking<'_>>,
) -> Option<Compiled> {
    let port = target.port();
    let mut parts = Parts {
        world,
        mesh,
        client,
        port,
        parts: Vec::new(),
        dependencies: Vec::new(),
    };
    parts.part(target)?;
    let routes = speaking.and_then(|speaking| speaking.compile(None, |reference| parts.lead(reference)));
    let Parts {
        parts, dependencies, ..
    } = parts;
    let targets: Vec<Target> = parts.iter().map(|part| part.target.clone()).collect();
    let mut destinations = parts.into_iter().map(|part| part.destination);
    let mut destination = destinations.next()?;
    if let (Some(Target::Host { .. }), Some(speaking)) = (targets.first(), speaking) {
        destination.namespace = speaking.namespace().cloned().unwrap_or_default();
    }
    destination.routes = routes.map(|mut routes| {
        routes.destinations = destinations.map(Arc::new).collect();
        Arc::new(routes)
    });
    Some(Compiled {
        destination,
        parts: targets,
        dependencies,
    })
}

/// The destinations of one resource.
struct Parts<'a> {
    world: &'a World,
    mesh: &'a MeshFacts,
    client: &'a Named,
    /// The port that was called.
    port: u16,
    parts: Vec<Part<'a>>,
    dependencies: Vec<Key>,
}

struct Part<'a> {
    target: Target,
    rules: Option<&'a Merged>,
    destination: Destination,
}

impl<'a> Parts<'a> {
    /// The number of a part, compiled at its first use; `None` when its Service or pod is gone.
    fn part(&mut self, target: Target) -> Option<usize> {
        if let Some(at) = self.parts.iter().position(|part| part.target == target) {
            return Some(at);
        }
        let rules = compile::governing(self.world, self.mesh, &target, self.client);
        let destination = compile::destination(self.world, self.mesh, &target, rules)?;
        self.parts.push(Part {
            target,
            rules,
            destination,
        });
        Some(self.parts.len() - 1)
    }

    fn lead(&mut self, reference: &Reference) -> Lead {
        let key = key_of(&reference.host, &self.mesh.cluster_domain);
        let (target, port) = self.target(reference, &key);
        // What is no Service may be a ServiceEntry's host.
        let host = Key::Host(reference.host.clone());
        let service = matches!(target, Some(Target::Service { .. }));
        for key in [Some(key), (!service).then_some(host)].into_iter().flatten() {
            if !self.dependencies.contains(&key) {
                self.dependencies.push(key);
            }
        }
        let (leads, subset) = match target.and_then(|target| self.part(target)) {
            None => (Leads::Nowhere, InSubset::All),
            Some(at) => (number(at), self.subset(at, reference.subset.as_deref())),
        };
        Lead {
            target: routing::Target { leads, subset },
            port,
        }
    }

    /// What a reference means, and the port that it names, whether it exists or not.
    fn target(&self, reference: &Reference, key: &Key) -> (Option<Target>, u16) {
        let known = match key {
            Key::Service(name) => self.world.service_named(name).map(|service| (name, service)),
            _ => None,
        };
        let Some((name, service)) = known else {
            return self.entry(reference);
        };
        let port = reference.port.unwrap_or(match &service.ports[..] {
            [only] => only.port,
            _ => self.port,
        });
        let name = name.clone();
        (Some(Target::Service { name, port }), port)
    }

    /// What a reference to no Service means: a ServiceEntry's host, exactly.
    fn entry(&self, reference: &Reference) -> (Option<Target>, u16) {
        let entries = self.world.entries();
        let only = entries.answers_for(&reference.host, &self.client.0).and_then(|name| {
            let ports = &entries.get(name)?.ports;
            (ports.len() == 1)
                .then(|| ports.first())
                .flatten()
                .map(|port| port.number)
        });
        let port = reference.port.or(only).unwrap_or(self.port);
        let hosted = entries.host(&reference.host, port, &self.client.0);
        let hosted = hosted.filter(|hosted| hosted.host == reference.host);
        (hosted.map(|hosted| Target::Entry { hosted, port }), port)
    }

    fn subset(&mut self, at: usize, name: Option<&str>) -> InSubset {
        let Some(name) = name else { return InSubset::All };
        let Part {
            target,
            rules,
            destination,
        } = &mut self.parts[at];
        let held = destination.subsets.iter().position(|subset| *subset.name == *name);
        let at = held.or_else(|| {
            let subset = compile::subset(self.world, self.mesh, target, (*rules)?, name, destination)?;
            destination.subsets.push(subset);
            Some(destination.subsets.len() - 1)
        });
        at.and_then(|at| u32::try_from(at).ok())
            .map_or(InSubset::Unknown, InSubset::Of)
    }
}

/// How routes name a part.
fn number(at: usize) -> Leads {
    match at.checked_sub(1) {
        None => Leads::Own,
        Some(other) => u32::try_from(other).map_or(Leads::Nowhere, Leads::Other),
    }
}

/// Why nothing answers where a reference of a VirtualService leads, as a client of its namespace sees it; `None` where
/// something does.
#[must_use]
pub fn problem(world: &World, mesh: &MeshFacts, namespace: &Arc<str>, reference: &Reference) -> Option<String> {
    let Reference { host, subset, .. } = reference;
    let target = match known(world, mesh, namespace, reference) {
        Ok(target) => target,
        Err(problem) => return Some(problem),
    };
    let client: Named = (namespace.clone(), Arc::default());
    let rules = compile::governing(world, mesh, &target, &client);
    let mut destination = compile::destination(world, mesh, &target, rules)?;
    let Some(subset) = subset else {
        let chosen = matches!(
            destination.resolution,
            Resolution::Balanced | Resolution::OriginalDestination
        );
        return (chosen && destination.endpoints.is_empty()).then(|| format!("{host} has no ready endpoint"));
    };
    match rules.and_then(|rules| compile::subset(world, mesh, &target, rules, subset, &mut destination)) {
        None => Some(format!("no DestinationRule gives {host} a subset {subset}")),
        Some(found) if found.endpoints.is_empty() => Some(format!("subset {subset} of {host} has no ready endpoint")),
        Some(_) => None,
    }
}

/// What a reference names, or why it names nothing.
fn known(world: &World, mesh: &MeshFacts, namespace: &str, reference: &Reference) -> Result<Target, String> {
    let Reference { host, port, .. } = reference;
    // Without a number it is the port that is called; whichever that is, subsets have the same names.
    let number = |first: Option<u16>| port.or(first).unwrap_or_default();
    let without = |number: u16| format!("{host} has no port {number}");
    let name = service_of(host, &mesh.cluster_domain);
    if let Some(name) = &name
        && let Some(service) = world.service_named(name)
    {
        let port = number(service.ports.first().map(|port| port.port));
        let declared = service.ports.iter().any(|declared| declared.port == port);
        let target = Target::Service {
            name: name.clone(),
            port,
        };
        return if declared { Ok(target) } else { Err(without(port)) };
    }
    let entries = world.entries();
    if let Some(entry) = entries.answers_for(host, namespace).and_then(|name| entries.get(name)) {
        let port = number(entry.ports.first().map(|port| port.number));
        let hosted = entries
            .host(host, port, namespace)
            .filter(|hosted| hosted.host == *host);
        return hosted
            .map(|hosted| Target::Entry { hosted, port })
            .ok_or_else(|| without(port));
    }
    Err(match name {
        Some(_) => format!("there is no Service {host}"),
        None => format!("the mesh knows no host {host}"),
    })
}
