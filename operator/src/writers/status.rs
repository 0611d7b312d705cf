//! The status of the mesh's own resources: whether each is in force, and why not.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use mesh_api::labels::CANDIDATE;
use mesh_api::status::Status;
use mesh_api::{
    authorization_policy, destination_rule, peer_authentication, request_authentication, service_entry,
    virtual_service, workload_entry,
};
use mesh_core::jwt::Rule;
use mesh_core::peer_authentication::Policy;
use mesh_core::routing::Reference;
use mesh_wire::request_authentication::Jwks;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::warn;

use super::candidates::{self, Figures};
use super::entries;
use crate::feeds::{Held, Policies};
use crate::index::changes::Named;
use crate::index::providers;
use crate::index::routes;
use crate::index::targeted::Targeted;
use crate::index::{Index, World};
use crate::kubernetes::leader::Leadership;
use crate::metrics::Metrics;
use crate::reports::Ledger;
use crate::when_ready::Board;

/// How long the first change of a burst waits for more.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How long between two looks without a change, which also repeats what failed.
const RESYNC: Duration = Duration::from_secs(30);

/// The controller's name in metrics.
const CONTROLLER: &str = "policy-status";

/// Keeps every status until this future is dropped.
pub async fn keep(
    client: Client,
    index: Arc<Index>,
    policies: Arc<Policies>,
    ledger: Ledger,
    board: Board,
    leadership: Leadership,
    metrics: Arc<Metrics>,
) {
    let writer = Writer {
        client,
        leadership,
        metrics,
    };
    let figures = Figures::new(ledger.clone());
    let authentications = async {
        let held = &policies.peer_authentications;
        loop {
            let (all, root): (Vec<Policy>, String) =
                index.read(|world, mesh| (world.policies().cloned().collect(), mesh.root_namespace.clone()));
            for resource in held.all() {
                let mut new = candidates::status(&index, &figures, &resource, || {
                    peer_authentication::status(&resource, &all, &root, &now())
                });
                board.show(&resource, &mut new, &now());
                let differs = resource.status.as_ref() != Some(&new);
                if differs && !writer.write(&resource, &new).await {
                    break;
                }
            }
            changed(held).await;
        }
    };
    let authorization_policies = async {
        let held = &policies.authorization_policies;
        let mut counts = Counts::new(ledger.clone());
        loop {
            for resource in held.all() {
                let in_force = || {
                    index.read(|world, mesh| {
                        let root = &mesh.root_namespace;
                        let workloads = workloads(world, world.enforced().authorization(), &resource, root);
                        let problem = providers::problem(world, mesh, &named(&resource));
                        authorization_policy::status(&resource, workloads, problem.as_deref(), root, &now())
                    })
                };
                let mut new = candidates::status(&index, &figures, &resource, in_force);
                counts.show(&resource, &mut new);
                let differs = resource.status.as_ref() != Some(&new);
                if differs && !writer.write(&resource, &new).await {
                    break;
                }
            }
            changed(held).await;
        }
    };
    let request_authentications = async {
        let held = &policies.request_authentications;
        let mut counts = Counts::new(ledger.clone());
        loop {
            for resource in held.all() {
                let in_force = || {
                    index.read(|world, mesh| {
                        let root = &mesh.root_namespace;
                        let tokens = world.enforced().tokens();
                        let workloads = workloads(world, tokens, &resource, root);
                        let missing = tokens.get(&named(&resource));
                        let missing = missing.map(|entry| missing_keys(world, &entry.name, &entry.policy));
                        request_authentication::status(&resource, workloads, missing.as_deref(), root, &now())
                    })
                };
                let mut new = candidates::status(&index, &figures, &resource, in_force);
                let missing_of_candidate = index.read(|world, _| {
                    let tried = world.enforced().candidates().tokens.get(&named(&resource))?;
                    Some(missing_keys(world, &tried.name, &tried.policy.policy))
                });
                if let Some(missing) = missing_of_candidate {
                    request_authentication::keys_known(&resource, &missing, &mut new, &now());
                }
                counts.show(&resource, &mut new);
                let differs = resource.status.as_ref() != Some(&new);
                if differs && !writer.write(&resource, &new).await {
                    break;
                }
            }
            changed(held).await;
        }
    };
    let destination_rules = async {
        let held = &policies.destination_rules;
        loop {
            for resource in held.all() {
                let new = index.read(|world, mesh| {
                    let domain = &mesh.cluster_domain;
                    let known = |host: &str| !world.services_of_host(host, domain).is_empty();
                    destination_rule::status(&resource, world.destination_rules(), domain, known, &now())
                });
                let differs = resource.status.as_ref() != Some(&new);
                if differs && !writer.write(&resource, &new).await {
                    break;
                }
            }
            changed(held).await;
        }
    };
    let virtual_services = async {
        let held = &policies.virtual_services;
        loop {
            for resource in held.all() {
                let new = index.read(|world, mesh| {
                    let (namespace, _) = named(&resource);
                    let problem = |reference: &Reference| routes::problem(world, mesh, &namespace, reference);
                    virtual_service::status(&resource, world.virtual_services(), problem, &now())
                });
                let differs = resource.status.as_ref() != Some(&new);
                if differs && !writer.write(&resource, &new).await {
                    break;
                }
            }
            changed(held).await;
        }
    };
    let service_entries = async {
        let held = &policies.service_entries;
        loop {
            for resource in held.all() {
                let new = index.read(|world, mesh| {
                    let registered = entries::registered(world, &named(&resource), &mesh.cluster_domain);
                    service_entry::status(&resource, &registered, &now())
                });
                let differs = resource.status.as_ref() != Some(&new);
                if differs && !writer.write(&resource, &new).await {
                    break;
                }
            }
            changed(held).await;
        }
    };
    let workload_entries = async {
        let held = &policies.workload_entries;
        loop {
            for resource in held.all() {
                let new = index.read(|world, _| {
                    let selected = entries::selecting(world, &named(&resource).0, &resource);
                    workload_entry::status(&resource, &selected, &now())
                });
                let differs = resource.status.as_ref() != Some(&new);
                if differs && !writer.write(&resource, &new).await {
                    break;
                }
            }
            changed(held).await;
        }
    };
    tokio::join!(
        authentications,
        authorization_policies,
        request_authentications,
        destination_rules,
        virtual_services,
        service_entries,
        workload_entries
    );
}

pub(super) fn named<K: ResourceExt>(resource: &K) -> Named {
    let namespace = resource.namespace().unwrap_or_default();
    (namespace.into(), resource.name_any().into())
}

/// How many workloads what is in force of a policy is for.
fn workloads<P, K: ResourceExt>(world: &World, policies: &Targeted<P>, resource: &K, root: &str) -> Option<usize> {
    let name = named(resource);
    let entry = policies.get(&name)?;
    Some(world.workloads(&name, &entry.target, root))
}

/// A sentence about each issuer of a policy whose keys are not known.
fn missing_keys(world: &World, policy: &Named, rules: &[Rule]) -> Vec<String> {
    let missing = rules
        .iter()
        .filter_map(|rule| match world.enforced().keys_of(&policy.0, rule) {
            Jwks::Known(_) => None,
            Jwks::Missing(reason) | Jwks::Ended(reason) => Some(format!("issuer {}: {reason}", rule.issuer)),
        });
    missing.collect()
}

pub(super) fn now() -> Time {
    Time(jiff::Timestamp::now())
}

/// Waits until resources of a kind changed, or it is time for another look: sooner where some are candidates, of which there is
/// always something new to be told.
async fn changed<K: ResourceExt + Clone>(held: &Held<K>) {
    let tried = held.any(|resource| resource.labels().contains_key(CANDIDATE));
    let resync = if tried { candidates::REFRESH } else { RESYNC };
    tokio::select! {
        () = held.changed.notified() => tokio::time::sleep(DEBOUNCE).await,
        () = tokio::time::sleep(resync) => {}
    }
}

/// How many calls policies denied in the last hour, told of each of them so often at most: the counts change all the time.
struct Counts {
    ledger: Ledger,
    told: HashMap<Named, (Instant, u64)>,
}

impl Counts {
    fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            told: HashMap::new(),
        }
    }

    /// Puts the count into a resource's status; the one that was told last, where it is too early for another.
    fn show<K>(&mut self, resource: &K, status: &mut Status)
    where
        K: Resource<DynamicType = ()>,
    {
        let name = named(resource);
        let count = match self.told.get(&name) {
            Some((at, count)) if at.elapsed() < RESYNC => *count,
            _ => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.map_or(0, |since| since.as_secs());
                let count = self.ledger.denials(now, &K::kind(&()), &name.0, &name.1);
                self.told.retain(|_, (at, _)| at.elapsed() < 2 * RESYNC);
                self.told.insert(name, (Instant::now(), count));
                count
            }
        };
        status.set_denials(count);
    }
}

struct Writer {
    client: Client,
    leadership: Leadership,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Writes a resource's status; false when the lease is not held.
    async fn write<K>(&self, resource: &K, status: &Status) -> bool
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        if !self.leadership.held() {
            return false;
        }
        self.metrics.reconciles.with_label_values(&[CONTROLLER]).inc();
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let version = resource.resource_version();
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": status}));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => {}
            // Changed or deleted meanwhile: the watch tells, and the next round is right.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
            Err(error) => {
                self.metrics.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
                let kind = K::kind(&());
                warn!(kind = &*kind, namespace, name, %error, "a resource's status could not be written");
            }
        }
        true
    }
}
