//! From a query, as a client's namespace sees it, to the one thing that it means.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::destination::{PEER_PORT, Query};
use mesh_core::hosts::{candidates, fqdn};

use super::changes::{Key, Named};
use super::entries::{Hosted, keys_of};
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
    /// A port of a ServiceEntry's host.
    Entry {
        /// The host, and the entry that answers for it.
        hosted: Hosted,
        /// The port that clients name it by.
        port: u16,
    },
}

impl Target {
    /// The port that clients name it by.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Service { port, .. } | Self::Host { port, .. } | Self::Entry { port, .. } => *port,
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
            Self::Entry { hosted, .. } => Key::Host(hosted.host.clone()),
        }
    }
}

/// How many ExternalName Services may lead from one to the next.
const MOST_ALIASES: usize = 8;

/// What the answer to a query depends on, whether it exists or not. What else it was compiled from is told with the answer.
#[must_use]
pub fn depends_on(query: &Query, client_namespace: &str, cluster_domain: &str) -> Vec<Key> {
    match query {
        Query::Host { host, .. } => {
            let services = candidates(host, client_namespace, cluster_domain).into_iter();
            let mut keys: Vec<Key> = services
                .map(|candidate| Key::Service((candidate.namespace.into(), candidate.service.into())))
                .collect();
            let names = known_as(host, client_namespace, cluster_domain);
            keys.extend(names.iter().flat_map(|name| keys_of(name)));
            keys.push(Key::Wildcards);
            keys
        }
        Query::Address(address) => vec![Key::Address(address.ip()), Key::AnyAddress],
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
            let known = by_host(world, host, *port, &client.0, &mesh.cluster_domain);
            known.or_else(|| {
                let target = Target::Host {
                    host: host.clone(),
                    port: *port,
                };
                routes::speaking(world, mesh, &target, client).map(|_| target)
            })
        }
        Query::Address(address) => {
            let (ip, port) = (address.ip(), address.port());
            if let Some((name, service)) = world.service_by_address(ip) {
                let known = service.ports.iter().any(|known| known.port == port);
                return known.then(|| Target::Service {
                    name: name.clone(),
                    port,
                });
            }
            let entries = world.entries();
            let entry = |hosted| Target::Entry { hosted, port };
            let own = entries.address(ip, port, &client.0).map(entry);
            let pod = || world.pod_by_address(ip).map(|_| Target::Pod(*address));
            let around = || entries.network(ip, port, &client.0).map(entry);
            let alone = || entries.by_port(port, &client.0).map(entry);
            own.or_else(pod).or_else(around).or_else(alone)
        }
        Query::Peer(address) => {
            let pod = world.pod_by_address(*address);
            pod.map(|_| Target::Pod(SocketAddr::new(*address, PEER_PORT)))
        }
        // A name leads to addresses and to nothing else; [`names`] knows them.
        Query::Name(_) => None,
    }
}

/// What a host means: a Service, or else what a ServiceEntry says of it; an ExternalName Service means its target.
fn by_host(world: &World, host: &str, port: u16, client_namespace: &str, cluster_domain: &str) -> Option<Target> {
    let mut host = host.to_owned();
    for _ in 0..=MOST_ALIASES {
        let candidates = candidates(&host, client_namespace, cluster_domain);
        let named = |candidate: &mesh_core::hosts::ServiceHost| -> Named {
            (candidate.namespace.as_str().into(), candidate.service.as_str().into())
        };
        let service = candidates.iter().find_map(|candidate| {
            let name = named(candidate);
            let service = world.service_named(&name)?;
            // Only the pods of headless Services have names of their own.
            if candidate.pod.is_some() && !service.headless {
                return None;
            }
            port_of(world, &name, port).map(|port| Target::Service { name, port })
        });
        if service.is_some() {
            return service;
        }
        let mut names = known_as(&host, client_namespace, cluster_domain).into_iter();
        let hosted = names.find_map(|name| world.entries().host(&name, port, client_namespace));
        if let Some(hosted) = hosted {
            return Some(Target::Entry { hosted, port });
        }
        let mut services = candidates.iter().filter(|candidate| candidate.pod.is_none());
        let alias = services.find_map(|candidate| world.alias_of(&named(candidate)))?;
        host = alias.to_string();
    }
    None
}

/// The names by which ServiceEntries may know a host: as it was written, and what a short name of the cluster stands for.
fn known_as(host: &str, client_namespace: &str, cluster_domain: &str) -> Vec<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut names = vec![host.to_owned()];
    for candidate in candidates(host, client_namespace, cluster_domain) {
        let name = fqdn(&candidate.service, &candidate.namespace, cluster_domain);
        if candidate.pod.is_none() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
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
