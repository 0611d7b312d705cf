//! From the world to discovery resources: destinations with their endpoints' identities and mutual TLS, and what a pod's
//! own proxy needs to know of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::client_tls::{TlsRule, brings_mutual_tls};
use mesh_core::destination::{Destination, Endpoint, Resolution, Subset};
use mesh_core::destination_rule::{Asked, Merged};
use mesh_core::hosts::fqdn;
use mesh_core::identity::SpiffeId;
use mesh_core::labels::{canonical_name, canonical_revision};
use mesh_core::peer_authentication::Effective;
use mesh_core::protocol::Declared;
use mesh_core::traffic::Locality;
use mesh_core::workload::{self, DEFAULT_CLUSTER};
use mesh_wire::convert::Workload;

use super::changes::Named;
use super::hosted;
use super::places::{self, Behind};
use super::records::PodRecord;
use super::resolve::Target;
use super::scopes;
use super::shared::MeshFacts;
use super::world::World;

/// The DestinationRules that govern a client's connections to a target. They are for Services: a pod that is called by its
/// own address has none.
#[must_use]
pub fn governing<'a>(world: &'a World, mesh: &MeshFacts, target: &Target, client: &Named) -> Option<&'a Merged> {
    match target {
        Target::Service { name, .. } => world.governing(client, name, &mesh.cluster_domain, &mesh.root_namespace),
        Target::Entry { hosted, .. } => {
            world.governing_host(client, &hosted.host, &hosted.entry.0, &mesh.root_namespace)
        }
        Target::Pod(_) | Target::Host { .. } => None,
    }
}

/// Compiles a destination under the rules that govern it, without subsets and routes; `None` when its Service or pod is gone.
#[must_use]
pub fn destination(world: &World, mesh: &MeshFacts, target: &Target, rules: Option<&Merged>) -> Option<Destination> {
    match target {
        Target::Service { name, port } => service(world, mesh, name, *port, rules),
        Target::Pod(address) => pod(world, mesh, *address),
        // It is nowhere itself: it has routes.
        Target::Host { host, port } => Some(Destination {
            host: host.clone(),
            port: *port,
            ..Destination::default()
        }),
        Target::Entry { hosted, port } => hosted::destination(world, mesh, hosted, *port, rules),
    }
}

/// What is asked of the rules for a Service's port; `None` when there is no such port.
fn asked<'a>(world: &World, mesh: &'a MeshFacts, target: &Target) -> Option<Asked<'a>> {
    let Target::Service { name, port } = target else {
        return None;
    };
    let service = world.service_named(name)?;
    let declared = service.ports.iter().find(|candidate| candidate.port == *port)?;
    Some(Asked {
        port: *port,
        protocol: declared.protocol(*port),
        distribution: service.distribution,
        defaults: &mesh.traffic,
    })
}

/// A subset of a destination that was compiled under these rules for a target; `None` where they have none of that name. What
/// the subset needs to know of the destination's endpoints beside what they say already is added to them.
#[must_use]
pub fn subset(
    world: &World,
    mesh: &MeshFacts,
    target: &Target,
    rules: &Merged,
    name: &str,
    destination: &mut Destination,
) -> Option<Subset> {
    let service = match target {
        Target::Service { name: service, .. } => service,
        Target::Entry { hosted, port } => {
            return hosted::subset(world, mesh, hosted, *port, rules, name, destination);
        }
        Target::Pod(_) | Target::Host { .. } => return None,
    };
    let (asked, wanted) = (asked(world, mesh, target)?, rules.subset(name)?);
    let tls = rules.subset_tls_rule(asked.port, wanted);
    if tls != destination.tls {
        secure(world, mesh, tls.as_ref(), destination);
    }
    destination.rule = Some(rules.rule());
    let behind = Behind::new(world, service, &[&destination.endpoints, &destination.unready]);
    let mut traffic = rules.subset_traffic(&asked, wanted);
    behind.rank(destination, &mut traffic);
    Some(Subset {
        name: name.into(),
        endpoints: behind.having(&wanted.labels, &destination.endpoints),
        unready: behind.having(&wanted.labels, &destination.unready),
        tls,
        traffic: if traffic == *destination.traffic {
            destination.traffic.clone()
        } else {
            Arc::new(traffic)
        },
    })
}

/// Makes endpoints say what a subset with a TLS of its own needs of them: whether mutual TLS is automatic, where the subset is
/// left to that, and their identities.
fn secure(world: &World, mesh: &MeshFacts, tls: Option<&TlsRule>, destination: &mut Destination) {
    let mut identities: BTreeSet<SpiffeId> = destination.identities.iter().cloned().collect();
    for held in destination.endpoints.iter_mut().chain(&mut destination.unready) {
        let own = endpoint(world, mesh, held.address, tls);
        // Where a rule decides for all nobody reads what is automatic.
        if tls.is_none() {
            held.mutual_tls = own.mutual_tls;
        }
        if held.identity.is_none() {
            held.identity.clone_from(&own.identity);
        }
        identities.extend(accepted(mesh, &own));
    }
    destination.identities = identities.into_iter().collect();
}

fn service(world: &World, mesh: &MeshFacts, name: &Named, port: u16, rules: Option<&Merged>) -> Option<Destination> {
    let service = world.service_named(name)?;
    let target = Target::Service {
        name: name.clone(),
        port,
    };
    let asked = asked(world, mesh, &target)?;
    let tls = rules.and_then(|rules| rules.tls_rule(port));
    let declared = service.ports.iter().find(|candidate| candidate.port == port)?;
    let mut ready = BTreeMap::new();
    let mut going = BTreeMap::new();
    let mut unready = BTreeMap::new();
    // Servers that are not ready now may be asked the moment they are, so their identities are among the accepted ones.
    let mut identities = BTreeSet::new();
    for slice in world.slices_of(name) {
        let Some((_, number)) = slice.ports.iter().find(|(port_name, _)| *port_name == declared.name) else {
            continue;
        };
        for found in slice.endpoints.iter().filter(|found| world.knows(found)) {
            let endpoint = endpoint(world, mesh, SocketAddr::new(found.address, *number), tls.as_ref());
            identities.extend(accepted(mesh, &endpoint));
            if found.ready {
                ready.insert(endpoint.address, endpoint);
            } else if found.serving {
                going.insert(endpoint.address, endpoint);
            } else if !found.terminating {
                unready.insert(endpoint.address, endpoint);
            }
        }
    }
    // As kube-proxy does: what is going away but still serves is better than nothing.
    let chosen = if ready.is_empty() { going } else { ready };
    // A proxy goes on with those of them that it knew as ready.
    if !chosen.is_empty() {
        unready.clear();
    }
    let mut destination = Destination {
        host: fqdn(&name.1, &name.0, &mesh.cluster_domain).into(),
        namespace: name.0.clone(),
        port,
        protocol: asked.protocol,
        resolution: if service.headless {
            Resolution::OriginalDestination
        } else {
            Resolution::Balanced
        },
        endpoints: chosen.into_values().collect(),
        unready: unready.into_values().collect(),
        identities: identities.into_iter().collect(),
        // One that has subsets alone says nothing here before a route leads to one.
        rule: rules.filter(|rules| rules.policy.is_some()).map(Merged::rule),
        tls,
        ..Destination::default()
    };
    let behind = Behind::new(world, name, &[&destination.endpoints, &destination.unready]);
    behind.place(world, &mut destination);
    let mut traffic = rules.map_or_else(|| asked.without_rule(), |rules| rules.traffic(&asked));
    behind.rank(&mut destination, &mut traffic);
    destination.traffic = Arc::new(traffic);
    Some(destination)
}

fn pod(world: &World, mesh: &MeshFacts, address: SocketAddr) -> Option<Destination> {
    let (name, _) = world.pod_by_address(address.ip())?;
    let endpoint = endpoint(world, mesh, address, None);
    let protocol = declared_on(world, address);
    Some(Destination {
        host: address.ip().to_string().into(),
        namespace: name.0.clone(),
        port: address.port(),
        protocol: protocol.unwrap_or_default(),
        resolution: Resolution::OriginalDestination,
        identities: accepted(mesh, &endpoint).collect(),
        endpoints: vec![endpoint],
        unready: Vec::new(),
        tls: None,
        ..Destination::default()
    })
}

/// Whom a client takes for the server at an endpoint: its service account in the mesh's trust domain and, as in Istio, in
/// every alias of it, since a server keeps the certificate of the old domain for a while after the mesh was renamed.
pub(super) fn accepted(mesh: &MeshFacts, endpoint: &Endpoint) -> impl Iterator<Item = SpiffeId> {
    let aliases = mesh.aliases.clone();
    endpoint.identity.clone().into_iter().flat_map(move |identity| {
        let others: Vec<_> = aliases
            .iter()
            .map(|alias| identity.in_trust_domain(alias.clone()))
            .collect();
        std::iter::once(identity).chain(others)
    })
}

/// An endpoint with its identity, and mutual TLS where clients bring it.
pub(super) fn endpoint(world: &World, mesh: &MeshFacts, address: SocketAddr, rule: Option<&TlsRule>) -> Endpoint {
    let Some((name, pod)) = world.pod_by_address(address.ip()) else {
        return Endpoint {
            address,
            mutual_tls: false,
            identity: None,
            workload: workload::Workload::default(),
            locality: None,
            weight: 1,
            ranks: Box::default(),
        };
    };
    let mutual_tls = brings_mutual_tls(rule, mesh.auto_mtls, pod.injected, || {
        let modes = world.effective(&mesh.root_namespace, &name.0, &pod.labels);
        modes.on_port(address.port())
    });
    let identity = (pod.injected || mutual_tls)
        .then(|| SpiffeId::new(mesh.trust_domain.clone(), &name.0, &pod.service_account).ok())
        .flatten();
    let mutual_tls = mutual_tls && identity.is_some();
    Endpoint {
        address,
        mutual_tls,
        identity,
        workload: metadata(name, pod),
        locality: None,
        weight: 1,
        ranks: Box::default(),
    }
}

/// What metrics say of a pod.
fn metadata(name: &Named, pod: &PodRecord) -> workload::Workload {
    let label = |key: &str| pod.labels.get(key).map(String::as_str).unwrap_or_default().into();
    workload::Metadata {
        name: pod.workload.clone(),
        namespace: (*name.0).into(),
        app: label("app"),
        version: label("version"),
        canonical_name: canonical_name(&pod.labels, &pod.workload).into(),
        canonical_revision: canonical_revision(&pod.labels).into(),
        cluster: DEFAULT_CLUSTER.into(),
    }
    .into()
}

/// What Services declare of a pod's port; the first Service by name that says anything decides.
fn declared_on(world: &World, address: SocketAddr) -> Option<Declared> {
    Some(ports_at(world, address.ip()).remove(&address.port())?.declared)
}

/// A pod's port that a Service leads to.
struct ServedPort<'a> {
    declared: Declared,
    /// The first such Service by name.
    service: &'a Named,
}

fn ports_at(world: &World, address: std::net::IpAddr) -> BTreeMap<u16, ServedPort<'_>> {
    let mut ports = BTreeMap::new();
    for name in world.services_behind(address) {
        let Some(service) = world.service_named(name) else {
            continue;
        };
        for slice in world
            .slices_of(name)
            .filter(|slice| slice.endpoints.iter().any(|e| e.address == address))
        {
            for (port_name, number) in &slice.ports {
                let Some(port) = service.ports.iter().find(|port| port.name == *port_name) else {
                    continue;
                };
                let declared = port.protocol(*number);
                let held = ports.entry(*number).or_insert(ServedPort {
                    declared,
                    service: name,
                });
                if held.declared == Declared::Detect {
                    held.declared = declared;
                }
            }
        }
    }
    ports
}

/// What a pod's own proxy needs to know of its pod.
#[must_use]
pub fn workload(world: &World, mesh: &MeshFacts, name: &Named, pod: &PodRecord) -> Workload {
    let scope = scopes::of(world, mesh, name);
    let (mut ports, mut services) = (BTreeMap::new(), BTreeMap::new());
    for address in &pod.addresses {
        for (number, port) in ports_at(world, *address) {
            ports.insert(number, port.declared);
            // Of the pod's addresses the first one's.
            let service = || fqdn(&port.service.1, &port.service.0, &mesh.cluster_domain).into();
            services.entry(number).or_insert_with(service);
        }
    }
    Workload {
        namespace: name.0.to_string(),
        pod: name.1.to_string(),
        service_account: pod.service_account.to_string(),
        canonical_name: canonical_name(&pod.labels, &pod.workload).to_owned(),
        canonical_revision: canonical_revision(&pod.labels).to_owned(),
        ports,
        services,
        metadata: metadata(name, pod),
        access_log: mesh.access_log.clone(),
        allow_any: scopes::allows_any(mesh, scope),
        labels: places::labels(world, pod),
        locality: places::locality(world, pod)
            .filter(|it| !it.is_empty())
            .map(|it| Locality::clone(&it)),
        ahead: scopes::ahead(world, mesh, scope, name),
    }
}

/// The modes in force on a pod's ports.
#[must_use]
pub fn inbound(world: &World, mesh: &MeshFacts, name: &Named, pod: &PodRecord) -> Effective {
    world.effective(&mesh.root_namespace, &name.0, &pod.labels)
}
