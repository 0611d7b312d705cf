//! The watches that feed the index. Each decodes object by object, so that a bad one stops nothing, and each says when
//! its first list is complete.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use mesh_api::request_authentication::RequestAuthenticationPolicy;
use mesh_api::{
    AuthorizationPolicy, DestinationRule, PeerAuthentication, RequestAuthentication, ServiceEntry, Sidecar,
    VirtualService, WorkloadEntry, authorization_policy, candidate, destination_rule, peer_authentication,
    request_authentication, service_entry, sidecar_resource, virtual_service, workload_entry,
};
use mesh_core::authorization::policy::Target;
use mesh_core::candidates::{Candidacy, Candidate, Kind};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::index::changes::Named;
use crate::index::records::{PodRecord, ServiceRecord, SliceRecord, external_name};
use crate::index::{Index, World, places, scopes};
use crate::kubernetes::watch::{Change, follow};
use crate::metrics::Metrics;

/// The first lists that must be complete before anything is decided or served: pods, Services, EndpointSlices,
/// PeerAuthentications, AuthorizationPolicies, RequestAuthentications, DestinationRules, VirtualServices, Sidecars,
/// ServiceEntries and WorkloadEntries.
pub const FEEDS: usize = 11;

/// How many feeds have completed their first list.
pub type Progress = watch::Sender<usize>;

/// The mesh's own resources as they are, for their status.
#[derive(Debug, Default)]
pub struct Policies {
    /// The PeerAuthentications.
    pub peer_authentications: Held<PeerAuthentication>,
    /// The AuthorizationPolicies.
    pub authorization_policies: Held<AuthorizationPolicy>,
    /// The RequestAuthentications.
    pub request_authentications: Held<RequestAuthentication>,
    /// The DestinationRules.
    pub destination_rules: Held<DestinationRule>,
    /// The VirtualServices.
    pub virtual_services: Held<VirtualService>,
    /// The ServiceEntries.
    pub service_entries: Held<ServiceEntry>,
    /// The WorkloadEntries.
    pub workload_entries: Held<WorkloadEntry>,
}

/// The resources of a kind.
#[derive(Debug)]
pub struct Held<K> {
    /// Every decodable resource.
    resources: Mutex<BTreeMap<Named, K>>,
    /// Told when any of them changed.
    pub changed: Notify,
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self {
            resources: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl<K: Clone> Held<K> {
    /// All of them as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<K> {
        self.lock().values().cloned().collect()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &Named) -> Option<K> {
        self.lock().get(name).cloned()
    }

    /// Whether any of them is such a one.
    pub(crate) fn any(&self, is: impl Fn(&K) -> bool) -> bool {
        self.lock().values().any(is)
    }

    fn names(&self) -> Vec<Named> {
        self.lock().keys().cloned().collect()
    }

    /// Takes one, new or changed (`Some`), or its end.
    fn take(&self, name: &Named, resource: Option<&K>) {
        match resource {
            Some(resource) => self.lock().insert(name.clone(), resource.clone()),
            None => self.lock().remove(name),
        };
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Named, K>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs all feeds until the process ends.
pub async fn run(
    client: Client,
    index: Arc<Index>,
    policies: Arc<Policies>,
    progress: Progress,
    metrics: Arc<Metrics>,
) {
    let pods = feed::<Pod>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || index.read(|world, _| world.pod_names().cloned().collect()),
        |name, pod| {
            let record = pod.map(PodRecord::new);
            let mut accounts: Vec<Named> = Vec::new();
            index.apply(|world, _| {
                let of = |record: &PodRecord| (name.0.clone(), record.service_account.clone());
                accounts.extend(world.pod_named(name).filter(|pod| pod.uses_certificate).map(of));
                accounts.extend(record.as_ref().filter(|pod| pod.uses_certificate).map(of));
                world.pod(name, record)
            });
            accounts.dedup();
            for account in accounts {
                index.touch_account(account);
            }
        },
    );
    // Where pods are is a preference, for which nobody waits.
    let nodes = nodes(Api::all(client.clone()), &index, metrics.clone());
    let services = feed::<Service>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || index.read(|world, _| world.service_names().chain(world.alias_names()).cloned().collect()),
        |name, service| {
            index.apply(|world, mesh| {
                let mut changed = world.alias(name, service.and_then(external_name));
                changed.merge(world.service(name, service.and_then(ServiceRecord::new)));
                if !changed.is_empty() {
                    changed.merge(scopes::declaring(world, mesh, name));
                }
                changed
            });
        },
    );
    let slices = feed::<EndpointSlice>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || index.read(|world, _| world.slice_names().cloned().collect()),
        |name, slice| index.apply(|world, _| world.slice(name, slice.and_then(SliceRecord::new))),
    );
    let authentications = feed::<PeerAuthentication>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || {
            let held = policies.peer_authentications.names();
            let known = |world: &World| {
                let tried = world.enforced().candidates().names(Kind::PeerAuthentication);
                world.policy_names().chain(tried).chain(held).collect()
            };
            index.read(|world, _| known(world))
        },
        |name, resource| {
            take_policy(&index, name, resource);
            policies.peer_authentications.take(name, resource);
        },
    );
    let authorization_policies = feed::<AuthorizationPolicy>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || {
            let held = policies.authorization_policies.names();
            let known = |world: &World| {
                let tried = world.enforced().candidates().names(Kind::AuthorizationPolicy);
                world
                    .enforced()
                    .authorization()
                    .names()
                    .chain(tried)
                    .chain(held)
                    .collect()
            };
            index.read(|world, _| known(world))
        },
        |name, resource| {
            take_authorization_policy(&index, name, resource);
            policies.authorization_policies.take(name, resource);
        },
    );
    let request_authentications = feed::<RequestAuthentication>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || {
            let held = policies.request_authentications.names();
            let known = |world: &World| {
                let tried = world.enforced().candidates().names(Kind::RequestAuthentication);
                world.enforced().tokens().names().chain(tried).chain(held).collect()
            };
            index.read(|world, _| known(world))
        },
        |name, resource| {
            take_request_authentication(&index, name, resource);
            policies.request_authentications.take(name, resource);
        },
    );
    let destination_rules = feed::<DestinationRule>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || {
            let held = policies.destination_rules.names();
            index.read(|world, _| world.destination_rule_names().chain(held).collect())
        },
        |name, resource| {
            take_destination_rule(&index, name, resource);
            policies.destination_rules.take(name, resource);
        },
    );
    let virtual_services = feed::<VirtualService>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || {
            let held = policies.virtual_services.names();
            index.read(|world, _| world.virtual_service_names().chain(held).collect())
        },
        |name, resource| {
            take_virtual_service(&index, name, resource);
            policies.virtual_services.take(name, resource);
        },
    );
    let sidecars = feed::<Sidecar>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || index.read(|world, _| world.sidecar_names().collect()),
        |name, resource| take_sidecar(&index, name, resource),
    );
    let service_entries = feed::<ServiceEntry>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || {
            let held = policies.service_entries.names();
            index.read(|world, _| world.entries().names().cloned().chain(held).collect())
        },
        |name, resource| {
            take_service_entry(&index, name, resource);
            policies.service_entries.take(name, resource);
        },
    );
    let workload_entries = feed::<WorkloadEntry>(
        Api::all(client),
        &progress,
        metrics.clone(),
        || {
            let held = policies.workload_entries.names();
            index.read(|world, _| world.entries().workload_names().cloned().chain(held).collect())
        },
        |name, resource| {
            take_workload_entry(&index, name, resource);
            policies.workload_entries.take(name, resource);
        },
    );
    tokio::join!(
        nodes,
        pods,
        services,
        slices,
        authentications,
        authorization_policies,
        request_authentications,
        destination_rules,
        virtual_services,
        sidecars,
        service_entries,
        workload_entries
    );
}

/// Puts a PeerAuthentication into the index: into force, or among the candidates. One that does not parse leaves the last
/// good one as it is.
pub fn take_policy(index: &Index, name: &Named, resource: Option<&PeerAuthentication>) {
    let Some(tried) = candidacy("PeerAuthentication", name, resource) else {
        return;
    };
    match resource.map(peer_authentication::parse).transpose() {
        Ok(policy) => index.apply(|world, mesh| {
            let root = &mesh.root_namespace;
            let (in_force, candidate) = divided(tried, policy);
            let mut changed = world.candidate_policy(name, candidate, root);
            changed.merge(world.policy(name, in_force, root));
            changed
        }),
        Err(errors) => not_in_force("PeerAuthentication", name, &errors),
    }
}

/// Puts an AuthorizationPolicy into the index: into force, or among the candidates. One that does not parse leaves the last
/// good one as it is; where there is none, what does not parse and is no candidate allows nothing and denies everything.
pub fn take_authorization_policy(index: &Index, name: &Named, resource: Option<&AuthorizationPolicy>) {
    let Some(tried) = candidacy("AuthorizationPolicy", name, resource) else {
        return;
    };
    match resource.map(|resource| authorization_policy::parse(resource).map_err(|errors| (resource, errors))) {
        Some(Err((_, errors))) if tried.is_some() => not_in_force("AuthorizationPolicy", name, &errors),
        Some(Err((resource, errors))) => {
            not_in_force("AuthorizationPolicy", name, &errors);
            let strictest = authorization_policy::strictest(resource);
            index.apply(|world, mesh| world.unparsed_authorization_policy(name, strictest, &mesh.root_namespace));
        }
        parsed => index.apply(|world, mesh| {
            let root = &mesh.root_namespace;
            let (in_force, candidate) = divided(tried, parsed.and_then(Result::ok));
            let candidate = candidate.map(targeted);
            let mut changed = world.candidate_authorization_policy(name, candidate, root);
            changed.merge(world.authorization_policy(name, in_force, root));
            changed
        }),
    }
}

/// Puts a RequestAuthentication into the index: into force, or among the candidates. One that does not parse leaves the last
/// good one as it is; where there is none, and it is no candidate, tokens for a rule that does not parse are refused.
pub fn take_request_authentication(index: &Index, name: &Named, resource: Option<&RequestAuthentication>) {
    let Some(tried) = candidacy("RequestAuthentication", name, resource) else {
        return;
    };
    let rules = |(target, policy): (Target, RequestAuthenticationPolicy)| (target, policy.rules);
    match resource.map(|resource| request_authentication::parse(resource).map_err(|errors| (resource, errors))) {
        Some(Err((_, errors))) if tried.is_some() => not_in_force("RequestAuthentication", name, &errors),
        Some(Err((resource, errors))) => {
            not_in_force("RequestAuthentication", name, &errors);
            let strictest = rules(request_authentication::strictest(resource));
            index.apply(|world, mesh| world.unparsed_request_authentication(name, strictest, &mesh.root_namespace));
        }
        parsed => index.apply(|world, mesh| {
            let root = &mesh.root_namespace;
            let (in_force, candidate) = divided(tried, parsed.and_then(Result::ok).map(rules));
            let candidate = candidate.map(targeted);
            let mut changed = world.candidate_request_authentication(name, candidate, root);
            changed.merge(world.request_authentication(name, in_force, root));
            changed
        }),
    }
}

/// What makes a resource a candidate, if it is one; `None`, with a word of it, where nobody can tell, and everything is to
/// stay as it is.
fn candidacy<K: ResourceExt>(kind: &str, name: &Named, resource: Option<&K>) -> Option<Option<Candidate>> {
    match resource.map(candidate::of).transpose() {
        Ok(candidate) => Some(candidate.flatten()),
        Err(errors) => {
            not_in_force(kind, name, &errors);
            None
        }
    }
}

/// What is to be in force of a resource, and what is to be tried: one of them at most.
fn divided<T>(tried: Option<Candidate>, policy: Option<T>) -> (Option<T>, Option<Candidacy<T>>) {
    match tried {
        None => (policy, None),
        Some(candidate) => (None, policy.map(|policy| Candidacy { candidate, policy })),
    }
}

/// A candidate beside which workloads it is for.
fn targeted<P>(tried: Candidacy<(Target, P)>) -> (Target, Candidacy<P>) {
    let Candidacy {
        candidate,
        policy: (target, policy),
    } = tried;
    (target, Candidacy { candidate, policy })
}

/// Puts a DestinationRule into the index. One that does not parse leaves the last good one in force.
pub fn take_destination_rule(index: &Index, name: &Named, resource: Option<&DestinationRule>) {
    match resource.map(destination_rule::parse).transpose() {
        Ok(rule) => index.apply(|world, mesh| world.destination_rule(name, rule, &mesh.cluster_domain)),
        Err(errors) => not_in_force("DestinationRule", name, &errors),
    }
}

/// Puts a VirtualService into the index. One that does not parse leaves the last good one in force.
pub fn take_virtual_service(index: &Index, name: &Named, resource: Option<&VirtualService>) {
    match resource.map(virtual_service::parse).transpose() {
        Ok(service) => index.apply(|world, mesh| world.virtual_service(name, service, &mesh.cluster_domain)),
        Err(errors) => not_in_force("VirtualService", name, &errors),
    }
}

/// Puts a Sidecar resource into the index. One that does not parse leaves the last good one in force.
pub fn take_sidecar(index: &Index, name: &Named, resource: Option<&Sidecar>) {
    match resource.map(sidecar_resource::parse).transpose() {
        Ok(scope) => index.apply(|world, mesh| world.sidecar(name, scope, &mesh.root_namespace)),
        Err(errors) => not_in_force("Sidecar", name, &errors),
    }
}

/// Puts a ServiceEntry into the index. One that does not parse leaves the last good one in force.
pub fn take_service_entry(index: &Index, name: &Named, resource: Option<&ServiceEntry>) {
    match resource.map(service_entry::parse).transpose() {
        Ok(entry) => index.apply(|world, _| world.service_entry(name, entry)),
        Err(errors) => not_in_force("ServiceEntry", name, &errors),
    }
}

/// Puts a WorkloadEntry into the index. One that does not parse leaves the last good one in force.
pub fn take_workload_entry(index: &Index, name: &Named, resource: Option<&WorkloadEntry>) {
    match resource.map(workload_entry::parse).transpose() {
        Ok(workload) => index.apply(|world, _| world.workload_entry(name, workload)),
        Err(errors) => not_in_force("WorkloadEntry", name, &errors),
    }
}

fn not_in_force(kind: &str, name: &Named, errors: &[mesh_api::Invalid]) {
    let errors = mesh_api::join(errors);
    warn!(
        kind,
        namespace = &*name.0,
        name = &*name.1,
        errors,
        "a resource does not parse; what was known of it stays as it is"
    );
}

/// Feeds one kind: what is listed or changed goes to `take` with its object, what is gone without.
async fn feed<K>(
    api: Api<DeserializeGuard<K>>,
    progress: &Progress,
    metrics: Arc<Metrics>,
    held: impl Fn() -> HashSet<Named>,
    take: impl Fn(&Named, Option<&K>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // What was held before a list and is not in it is gone.
    let mut unseen: Option<HashSet<Named>> = None;
    let mut counted = false;
    let named = |namespace: Option<String>, name: String| (namespace.unwrap_or_default().into(), name.into());
    follow(api, watcher::Config::default(), metrics, |change| match change {
        Change::Listing => unseen = Some(held()),
        Change::Listed => {
            for name in unseen.take().into_iter().flatten() {
                take(&name, None);
            }
            if !counted {
                counted = true;
                progress.send_modify(|feeds| *feeds += 1);
            }
        }
        Change::Applied(object) => {
            let name: Named = named(object.namespace(), object.name_any());
            if let Some(unseen) = &mut unseen {
                unseen.remove(&name);
            }
            take(&name, Some(&object));
        }
        Change::Undecodable(invalid) => {
            let name: Named = named(invalid.metadata.namespace, invalid.metadata.name.unwrap_or_default());
            if let Some(unseen) = &mut unseen {
                unseen.remove(&name);
            }
        }
        Change::Deleted { namespace, name } => take(&named(Some(namespace), name), None),
    })
    .await;
}

/// Feeds where nodes are; of a node nothing else is kept.
async fn nodes(api: Api<DeserializeGuard<Node>>, index: &Index, metrics: Arc<Metrics>) {
    let (uncounted, none) = (Progress::new(0), String::new());
    feed::<Node>(
        api,
        &uncounted,
        metrics,
        || {
            let held = |world: &World| {
                world
                    .node_names()
                    .map(|name| (none.as_str().into(), name.clone()))
                    .collect()
            };
            index.read(|world, _| held(world))
        },
        |(_, name), node| {
            let locality = node.and_then(|node| places::of_node(node.labels()));
            index.apply(|world, _| world.set_node(name, locality));
        },
    )
    .await;
}

/// Waits until every feed has completed its first list.
pub async fn synced(progress: &Progress) {
    // The sender is borrowed, so waiting cannot fail.
    let _ = progress.subscribe().wait_for(|feeds| *feeds >= FEEDS).await;
}
