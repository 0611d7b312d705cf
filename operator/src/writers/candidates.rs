//! The status of candidates: whether sidecars evaluate them, and what they would have denied.

use kube::ResourceExt;
use mesh_api::candidate::{self, Standing, WouldDeny};
use mesh_api::status::Status;
use mesh_api::{AuthorizationPolicy, Invalid, PeerAuthentication, RequestAuthentication};
use mesh_core::authorization::policy::Target;
use mesh_core::candidates::Candidate;
use mesh_core::labels::Labels;

use super::status::{named, now};
use crate::index::{Index, MeshFacts, World, candidates};

/// A kind that has candidates.
pub(super) trait Tried: ResourceExt {
    /// Its status as it stands.
    fn held(&self) -> Option<&Status>;

    /// Which workloads it is for; what is wrong with it beside its label.
    fn is_for(&self) -> Result<Selects, Vec<Invalid>>;

    /// Whether there is one of that name in force.
    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool;
}

/// Whether a resource is for a workload of a namespace, with these labels, given the root namespace.
type Selects = Box<dyn Fn(&str, &str, &Labels) -> bool>;

fn selects(policies: String, target: Target) -> Selects {
    Box::new(move |root, namespace, labels| target.is_for(&policies, root, namespace, labels))
}

impl Tried for PeerAuthentication {
    fn held(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    fn is_for(&self) -> Result<Selects, Vec<Invalid>> {
        let policy = mesh_api::peer_authentication::parse(self)?;
        Ok(Box::new(move |root, namespace, labels| {
            policy.scope_for(root, namespace, labels).is_some()
        }))
    }

    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool {
        world.policy_named(&(namespace.into(), name.into())).is_some()
    }
}

impl Tried for AuthorizationPolicy {
    fn held(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    fn is_for(&self) -> Result<Selects, Vec<Invalid>> {
        let (target, policy) = mesh_api::authorization_policy::parse(self)?;
        Ok(selects(policy.namespace, target))
    }

    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool {
        let policies = world.enforced().authorization();
        policies.get(&(namespace.into(), name.into())).is_some()
    }
}

impl Tried for RequestAuthentication {
    fn held(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    fn is_for(&self) -> Result<Selects, Vec<Invalid>> {
        let (target, policy) = mesh_api::request_authentication::parse(self)?;
        Ok(selects(policy.namespace, target))
    }

    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool {
        let policies = world.enforced().tokens();
        policies.get(&(namespace.into(), name.into())).is_some()
    }
}

/// The status of a candidate, or `otherwise` that of a resource which is none.
pub(super) fn status<K: Tried>(index: &Index, resource: &K, otherwise: impl FnOnce() -> Status) -> Status {
    let candidate = match candidate::of(resource) {
        Ok(None) => {
            let mut status = otherwise();
            candidate::clear(resource.held(), &mut status);
            return status;
        }
        Ok(Some(candidate)) => Ok(candidate),
        Err(errors) => Err(errors),
    };
    let is_for = resource.is_for();
    let standing = match (&candidate, &is_for) {
        (Ok(candidate), Ok(selects)) => {
            index.read(|world, mesh| standing::<K>(world, mesh, resource, candidate, selects))
        }
        _ => Standing::default(),
    };
    candidate::status(
        resource,
        resource.held(),
        candidate.as_ref().map_err(Vec::as_slice),
        is_for.as_ref().map(|_| ()).map_err(Vec::as_slice),
        standing,
        &WouldDeny::default(),
        &now(),
    )
}

fn standing<K: Tried>(
    world: &World,
    mesh: &MeshFacts,
    resource: &K,
    candidate: &Candidate,
    selects: &Selects,
) -> Standing {
    let root = &mesh.root_namespace;
    let own = named(resource);
    let pods = world.pods().filter(|(pod, record)| {
        let near = pod.0 == own.0 || *own.0 == **root;
        near && record.uses_certificate && selects(root, &pod.0, &record.labels)
    });
    let few = world.enforced().candidates().sets().len() <= mesh_core::candidates::MOST_SETS;
    let mut standing = Standing::default();
    for (pod, record) in pods {
        standing.workloads += 1;
        if !few && !candidates::is_evaluated(world, mesh, &candidate.set, &pod.0, &record.labels) {
            standing.not_evaluated += 1;
        }
    }
    let replaces = candidate.replaces.as_deref();
    standing.replaces_nothing = replaces.is_some_and(|name| !K::is_in_force(world, &own.0, name));
    standing
}
