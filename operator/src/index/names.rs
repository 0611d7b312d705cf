//! What DNS is to answer for a name, as a client's namespace sees it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use mesh_core::destination::{Destination, Endpoint, NAME_PORT, Resolution};
use mesh_core::hosts::{candidates, fqdn};
use mesh_core::protocol::Declared;

use super::changes::{Key, Named};
use super::resolve::Target;
use super::scopes;
use super::shared::MeshFacts;
use super::world::World;

/// What the answer depends on, whether there is one or not.
pub(super) fn depends_on(host: &str, client_namespace: &str, cluster_domain: &str) -> Vec<Key> {
    candidates(host, client_namespace, cluster_domain)
        .into_iter()
        .map(|candidate| Key::Service((candidate.namespace.into(), candidate.service.into())))
        .collect()
}

/// The addresses of a name; `None` where the mesh has none, or the client's Sidecar resource does not show it: then the
/// cluster's DNS has the word.
pub(super) fn addresses(world: &World, mesh: &MeshFacts, host: &str, client: &Named) -> Option<Destination> {
    let scope = scopes::of(world, mesh, client);
    candidates(host, &client.0, &mesh.cluster_domain)
        .into_iter()
        .find_map(|candidate| {
            let name: Named = (candidate.namespace.into(), candidate.service.into());
            let ports = &world.service_named(&name)?.ports;
            let shown = |port: u16| {
                let name = name.clone();
                scopes::shows(world, mesh, scope, &Target::Service { name, port }, client)
            };
            (ports.is_empty() || ports.iter().any(|port| shown(port.port))).then_some(())?;
            let found = of_service(world, &name, candidate.pod.as_deref())?;
            Some(destination(
                fqdn(&name.1, &name.0, &mesh.cluster_domain).into(),
                name.0,
                &found,
            ))
        })
        .filter(|found| !found.endpoints.is_empty())
}

/// A Service's own addresses, or those of a headless one's pods that are ready, as the cluster's DNS has them; of a pod's name
/// under a headless one, the pod's. `None` where there is no such name.
fn of_service(world: &World, name: &Named, pod: Option<&str>) -> Option<BTreeSet<IpAddr>> {
    let service = world.service_named(name)?;
    if !service.headless {
        return pod.is_none().then(|| service.addresses.iter().copied().collect());
    }
    let endpoints = world.slices_of(name).flat_map(|slice| &slice.endpoints);
    let named = endpoints.filter(|endpoint| pod.is_none_or(|pod| endpoint.hostname.as_deref() == Some(pod)));
    let ready = named.filter(|endpoint| endpoint.ready);
    Some(ready.map(|endpoint| endpoint.address).collect())
}

fn destination(host: std::sync::Arc<str>, namespace: std::sync::Arc<str>, addresses: &BTreeSet<IpAddr>) -> Destination {
    let endpoints = addresses.iter().map(|address| SocketAddr::new(*address, NAME_PORT));
    Destination {
        host,
        namespace,
        port: NAME_PORT,
        protocol: Declared::Udp,
        resolution: Resolution::OriginalDestination,
        endpoints: endpoints.map(Endpoint::at).collect(),
        ..Destination::default()
    }
}
