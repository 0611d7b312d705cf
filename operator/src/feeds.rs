//! The watches that feed the index. Each decodes object by object, so that a bad one stops nothing, and each says when
//! its first list is complete.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use mesh_api::PeerAuthentication;
use mesh_api::peer_authentication::parse;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::index::changes::Named;
use crate::index::records::{PodRecord, ServiceRecord, SliceRecord};
use crate::index::{Changed, Index};
use crate::kubernetes::watch::{Change, follow};
use crate::metrics::Metrics;

/// The first lists that must be complete before anything is decided or served: pods, Services, EndpointSlices and
/// PeerAuthentications.
pub const FEEDS: usize = 4;

/// How many feeds have completed their first list.
pub type Progress = watch::Sender<usize>;

/// The PeerAuthentications as they are, for their status.
#[derive(Debug, Default)]
pub struct Policies {
    /// Every decodable resource.
    pub held: Mutex<BTreeMap<Named, PeerAuthentication>>,
    /// Told when any of them changed.
    pub changed: Notify,
}

impl Policies {
    /// All of them as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<PeerAuthentication> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
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
    let services = feed::<Service>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || index.read(|world, _| world.service_names().cloned().collect()),
        |name, service| index.apply(|world, _| world.service(name, service.and_then(ServiceRecord::new))),
    );
    let slices = feed::<EndpointSlice>(
        Api::all(client.clone()),
        &progress,
        metrics.clone(),
        || index.read(|world, _| world.slice_names().cloned().collect()),
        |name, slice| index.apply(|world, _| world.slice(name, slice.and_then(SliceRecord::new))),
    );
    let authentications = feed::<PeerAuthentication>(
        Api::all(client),
        &progress,
        metrics.clone(),
        || {
            let held = policies.held.lock().unwrap_or_else(PoisonError::into_inner);
            index.read(|world, _| world.policy_names().chain(held.keys().cloned()).collect())
        },
        |name, resource| {
            take_policy(&index, name, resource);
            let mut held = policies.held.lock().unwrap_or_else(PoisonError::into_inner);
            match resource {
                Some(resource) => held.insert(name.clone(), resource.clone()),
                None => held.remove(name),
            };
            policies.changed.notify_one();
        },
    );
    tokio::join!(pods, services, slices, authentications);
}

/// Puts a PeerAuthentication into the index. One that does not parse leaves the last good one in force.
pub fn take_policy(index: &Index, name: &Named, resource: Option<&PeerAuthentication>) {
    let parsed = resource.map(parse).transpose();
    match parsed {
        Ok(policy) => index.apply(|world, mesh| world.policy(name, policy, &mesh.root_namespace)),
        Err(errors) => {
            let errors = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            warn!(
                namespace = &*name.0,
                name = &*name.1,
                errors,
                "a PeerAuthentication is not in force"
            );
            index.apply(|_, _| Changed::default());
        }
    }
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

/// Waits until every feed has completed its first list.
pub async fn synced(progress: &Progress) {
    // The sender is borrowed, so waiting cannot fail.
    let _ = progress.subscribe().wait_for(|feeds| *feeds >= FEEDS).await;
}
