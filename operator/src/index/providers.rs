//! The extension providers that CUSTOM policies ask, and why one cannot be asked.

use mesh_core::authorization::policy::Policy;
use mesh_core::ext_authz::Provider;

use super::changes::Named;
use super::shared::MeshFacts;
use super::world::World;

/// The provider that a policy names.
///
/// # Errors
/// Why it cannot be asked.
pub fn named(mesh: &MeshFacts, name: &str) -> Result<Provider, String> {
    let found = mesh.providers.get(name).cloned();
    found.unwrap_or_else(|| Err("meshConfig.extensionProviders has none of this name".to_owned()))
}

/// Why what a CUSTOM policy matches is denied unasked, on some workload at least: its provider cannot be asked, no Service is
/// where it should be, or the workload has policies of several providers. `None` for other policies.
#[must_use]
pub fn problem(world: &World, mesh: &MeshFacts, policy: &Named) -> Option<String> {
    let entry = world.enforced().authorization().get(policy)?;
    let name = asks(&entry.policy)?;
    let provider = match named(mesh, name) {
        Ok(provider) => provider,
        Err(problem) => return Some(problem),
    };
    let services = world.services_of_host(&provider.host, &mesh.cluster_domain);
    let Some(service) = services.first().and_then(|service| world.service_named(service)) else {
        return Some(format!("there is no Service {}", provider.host));
    };
    if !service.ports.iter().any(|port| port.port == provider.port) {
        return Some(format!("Service {} has no port {}", provider.host, provider.port));
    }
    let root = &mesh.root_namespace;
    let pods = world
        .pods_of(policy, &entry.target, root)
        .filter(|(_, pod)| pod.uses_certificate);
    // The first by name of those that there are, so that what is said stays the same.
    let others = pods.filter_map(|(pod, record)| {
        let concerning = world
            .enforced()
            .authorization()
            .concerning(root, &pod.0, &record.labels);
        let others = concerning.filter(|other| asks(&other.policy).is_some_and(|other| other != name));
        Some((pod, others.map(|other| &other.name).min()?))
    });
    others.min().map(|(pod, other)| {
        format!(
            "{}/{} names another provider for pod {}/{}, and a workload may have one",
            other.0, other.1, pod.0, pod.1
        )
    })
}

/// The provider that a policy asks while it is in force.
fn asks(policy: &Policy) -> Option<&String> {
    policy.provider().filter(|_| !policy.dry_run)
}
