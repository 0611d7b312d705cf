//! What the status of ServiceEntries and WorkloadEntries says of the rest of the mesh.

use mesh_api::WorkloadEntry;
use mesh_api::service_entry::Registered;
use mesh_api::workload_entry;

use crate::index::World;
use crate::index::changes::Named;

/// What is known of a ServiceEntry beside what it says itself.
pub(super) fn registered(world: &World, name: &Named, cluster_domain: &str) -> Registered {
    let entries = world.entries();
    let Some(entry) = entries.get(name) else {
        return Registered::default();
    };
    let selected = entries.selected(entry).count() + world.pods_selected_by(entry).count();
    let taken = entry.hosts.iter().filter_map(|host| {
        if let Some(service) = world.services_of_host(host, cluster_domain).first()
            && !host.starts_with('*')
        {
            return Some((host.to_string(), format!("Service {}/{}", service.0, service.1)));
        }
        let first = entries.answers_for(host, &name.0).filter(|first| *first != name)?;
        let merged = entries
            .get(first)
            .is_some_and(|first| first.namespace == entry.namespace);
        (!merged).then(|| (host.to_string(), format!("ServiceEntry {}/{}", first.0, first.1)))
    });
    Registered {
        selected,
        taken: taken.collect(),
    }
}

/// The names of the ServiceEntries of a namespace that select a WorkloadEntry.
pub(super) fn selecting(world: &World, namespace: &str, resource: &WorkloadEntry) -> Vec<String> {
    let Ok(workload) = workload_entry::parse(resource) else {
        return Vec::new();
    };
    let selecting = world.entries().selecting(namespace, &workload.labels);
    selecting.map(|(name, _)| name.1.to_string()).collect()
}
