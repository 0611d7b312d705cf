//! What Sidecar resources let a client see: which destinations exist for it, which VirtualServices speak to it, whether it may
//! call others, and what its proxy fetches before it is called.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::destination::Query;
use mesh_core::hosts::fqdn;
use mesh_core::labels::Labels;
use mesh_core::routing::Effective;
use mesh_core::sidecar_scope::{Outbound, Scope};
use mesh_wire::convert::MOST_AHEAD;

use super::changes::{Changed, Named};
use super::resolve::Target;
use super::shared::MeshFacts;
use super::world::World;

/// The Sidecar resource that a client's pod is under; `None`: it sees everything.
#[must_use]
pub fn of<'a>(world: &'a World, mesh: &MeshFacts, client: &Named) -> Option<&'a Arc<Scope>> {
    let scopes = world.scopes();
    if scopes.is_empty() {
        return None;
    }
    let nothing = Labels::new();
    let labels = world.pod_named(client).map_or(&nothing, |pod| &pod.labels);
    scopes.of(&client.0, labels, &mesh.root_namespace)
}

/// Whether a client sees what it calls. A pod is seen that a Service leads to which is seen on any of its ports. A host that
/// VirtualServices alone name is, where one of them speaks to the client.
#[must_use]
pub fn shows(world: &World, mesh: &MeshFacts, scope: Option<&Arc<Scope>>, target: &Target, client: &Named) -> bool {
    let Some(scope) = scope else { return true };
    let sees = |name: &Named, port: u16| {
        let host = fqdn(&name.1, &name.0, &mesh.cluster_domain);
        scope.shows(&host, &name.0, port, &client.0)
    };
    match target {
        Target::Service { name, port } => sees(name, *port),
        Target::Pod(_) if scope.egress.is_empty() => true,
        Target::Pod(address) => world.services_behind(address.ip()).any(|name| {
            let service = world.service_named(name);
            let mut ports = service.into_iter().flat_map(|service| &service.ports);
            ports.any(|port| sees(name, port.port))
        }),
        Target::Entry { hosted, port } => scope.shows(&hosted.host, &hosted.entry.0, *port, &client.0),
        Target::Host { .. } => true,
    }
}

/// Whether a client is shown what a VirtualService says.
#[must_use]
pub fn shows_routes(scope: Option<&Arc<Scope>>, routes: &Effective, port: u16, client: &Named) -> bool {
    scope.is_none_or(|scope| {
        let hosts = routes.hosts.iter().map(|host| &**host);
        scope.shows_routes(hosts, &routes.namespace, port, &client.0)
    })
}

/// Whether a client may call what the mesh does not know.
#[must_use]
pub fn allows_any(mesh: &MeshFacts, scope: Option<&Arc<Scope>>) -> bool {
    match scope.and_then(|scope| scope.outbound) {
        Some(outbound) => outbound == Outbound::AllowAny,
        None => mesh.allow_any,
    }
}

/// What a client's proxy fetches before it is called: the Services that its Sidecar resource names in full, on each port that
/// the client sees, under their usual names and their addresses.
#[must_use]
pub fn ahead(world: &World, mesh: &MeshFacts, scope: Option<&Arc<Scope>>, client: &Named) -> Vec<Query> {
    let domain = &mesh.cluster_domain;
    let mut found = BTreeSet::new();
    for host in scope.into_iter().flat_map(|scope| scope.declared()) {
        for name in world.services_of_host(host, domain) {
            let Some(service) = world.service_named(&name) else {
                continue;
            };
            let mut hosts: Vec<Arc<str>> = vec![host.clone(), format!("{}.{}", name.1, name.0).into()];
            hosts.extend((name.0 == client.0).then(|| name.1.clone()));
            for declared in &service.ports {
                let port = declared.port;
                let name = name.clone();
                if shows(world, mesh, scope, &Target::Service { name, port }, client) {
                    let named = hosts.iter().map(|host| Query::Host {
                        host: host.clone(),
                        port,
                    });
                    found.extend(named);
                    let addresses = service.addresses.iter();
                    found.extend(addresses.map(|address| Query::Address(SocketAddr::new(*address, port))));
                }
            }
        }
    }
    found.into_iter().take(MOST_AHEAD).collect()
}

/// The pods whose proxies fetch a Service ahead, or would if there was one.
#[must_use]
pub fn declaring(world: &World, mesh: &MeshFacts, service: &Named) -> Changed {
    let mut changed = Changed::default();
    let host = fqdn(&service.1, &service.0, &mesh.cluster_domain);
    let declares = |scope: &&Arc<Scope>| scope.declared().any(|declared| **declared == *host);
    let namespaces: BTreeSet<&Arc<str>> = world
        .scopes()
        .all()
        .filter(declares)
        .map(|scope| &scope.namespace)
        .collect();
    for namespace in namespaces {
        changed.merge(world.pods_under(namespace, &mesh.root_namespace));
    }
    changed
}
