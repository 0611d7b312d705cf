//! From a query, as a client's namespace sees it, to the one thing that it means.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::destination::{PEER_PORT, Query};
use mesh_core::hosts::candidates;

use super::changes::{Key, Named};
use super::names;
use super::routes;
use super::scopes;
use super::shared::MeshFacts;
use super::world::World;

/// What a query means. Two queries with the same target have the same resource, encoded once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A port of a Service, by its position in the Service's list of ports.
    Service {
        /// The Service.
        name: Named,
        /// The port that clients name it by.
        port: u16,
    },
    /// A pod's port, called by the pod's address.
    Pod(SocketAddr),
    /// A host that no Service has, and for which a VirtualService speaks.
    Host {
        /// The host.
        host: Arc<str>,
        /// The port that was dialled.
        port: u16,
    },
}

impl Target {
    /// The port that clients name it by.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Service { port, .. } | Self::Host { port, .. } => *port,
            Self::Pod(address) => address.port(),
        }
    }

    /// What it is compiled from first of all.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Service { name, .. } => Key::Service(name.clone()),
            Self::Pod(address) => Key::Address(address.ip()),
            Self::Host { host, .. } => Key::Host(host.clone()),
        }
    }
}

/// What the answer to a query depends on, whether it exists or not. What else it was compiled from is told with the answer.
#[must_use]
pub fn depends_on(query: &Query, client_namespace: &str, cluster_domain: &str) -> Vec<Key> {
    match query {
        Query::Host { host, .. } => candidates(host, client_namespace, cluster_domain)
            .into_iter()
            .map(|candidate| Key::Service((candidate.namespace.into(), candidate.service.into())))
            .chain([Key::Host(host.clone()), Key::Wildcards])
            .collect(),
        Query::Address(address) => vec![Key::Address(address.ip())],
        Query::Peer(address) => vec![Key::Address(*address)],
        Query::Name(host) => names::depends_on(host, client_namespace, cluster_domain),
    }
}

/// Finds what a query of a client's pod means; `None` when the mesh knows nothing of that name or address, or the client's
/// Sidecar resource does not show it.
#[must_use]
pub fn resolve(world: &World, mesh: &MeshFacts, query: &Query, client: &Named) -> Option<Target> {
    let target = known(world, mesh, query, client)?;
    let calls = !matches!(query, Query::Peer(_));
    let scope = scopes::of(world, mesh, client).filter(|_| calls);
    scopes::shows(world, mesh, scope, &target, client).then_some(target)
}

fn known(world: &World, mesh: &MeshFacts, query: &Query, client: &Named) -> Option<Target> {
    match query {
        Query::Host { host, port } => {
            let of_service = candidates(host, &client.0, &mesh.cluster_domain)
                .into_iter()
                .find_map(|candidate| {
                    let name: Named = (candidate.namespace.into(), candidate.service.into());
                    let service = world.service_named(&name)?;
                    // Only the pods of headless Services have names of their own.
                    if candidate.pod.is_some() && !service.headless {
                        return None;
                    }
                    port_of(world, &name, *port).map(|port| Target::Service { name, port })
                });
            of_service.or_else(|| {
                let target = Target::Host {
                    host: host.clone(),
                    port: *port,
                };
                routes::speaking(world, mesh, &target, client).map(|_| target)
            })
        }
        Query::Address(address) => {
            if let Some((name, service)) = world.service_by_address(address.ip()) {
                let known = service.ports.iter().any(|port| port.port == address.port());
                return known.then(|| Target::Service {
                    name: name.clone(),
                    port: address.port(),
                });
            }
            world.pod_by_address(address.ip()).map(|_| Target::Pod(*address))
        }
        Query::Peer(address) => {
            let pod = world.pod_by_address(*address);
            pod.map(|_| Target::Pod(SocketAddr::new(*address, PEER_PORT)))
        }
        // A name leads to addresses and to nothing else; [`names`] knows them.
        Query::Name(_) => None,
    }
}

/// The Service port that a dialled port means. A headless Service's clients dial its pods, so there the pods' port counts
/// first.
fn port_of(world: &World, name: &Named, dialled: u16) -> Option<u16> {
    let service = world.service_named(name)?;
    if service.headless {
        let by_pods = world
            .slices_of(name)
            .flat_map(|slice| &slice.ports)
            .find(|(_, number)| *number == dialled)
            .and_then(|(port_name, _)| service.ports.iter().find(|port| port.name == *port_name));
        if let Some(port) = by_pods {
            return Some(port.port);
        }
    }
    service
        .ports
        .iter()
        .find(|port| port.port == dialled)
        .map(|port| port.port)
}

/// The name of a pod as the index keeps it.
#[must_use]
pub fn named(namespace: &str, name: &str) -> Named {
    (Arc::from(namespace), Arc::from(name))
}
