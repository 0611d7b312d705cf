//! A watch that does not stop: it backs off and starts again on errors, and an object that cannot be decoded is
//! reported and passed over.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as start_watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::metrics::Metrics;

/// What a watch says, in the order in which the API server said it.
#[derive(Debug)]
pub enum Change<K> {
    /// All objects follow; what is not among them until [`Change::Listed`] is gone.
    Listing,
    /// The list is complete.
    Listed,
    /// An object is there, new or changed.
    Applied(K),
    /// An object that cannot be decoded is there.
    Undecodable(Box<InvalidObject>),
    /// An object is gone.
    Deleted {
        /// Its namespace; empty for a cluster-wide one.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Follows a kind of object for ever and hands every change to `sink`.
pub async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    metrics: Arc<Metrics>,
    mut sink: impl FnMut(Change<K>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let mut events = std::pin::pin!(start_watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => sink(Change::Listing),
            Ok(Event::InitDone) => sink(Change::Listed),
            Ok(Event::Apply(DeserializeGuard(object)) | Event::InitApply(DeserializeGuard(object))) => match object {
                Ok(object) => sink(Change::Applied(object)),
                Err(invalid) => {
                    metrics.undecodable.with_label_values(&[&kind]).inc();
                    let metadata = &invalid.metadata;
                    warn!(kind, namespace = metadata.namespace, name = metadata.name, error = %invalid.error, "an object cannot be decoded");
                    sink(Change::Undecodable(Box::new(invalid)));
                }
            },
            Ok(Event::Delete(object)) => {
                sink(Change::Deleted {
                    namespace: object.namespace().unwrap_or_default(),
                    name: object.name_any(),
                });
            }
            Err(error) => {
                metrics.watch_errors.with_label_values(&[&kind]).inc();
                warn!(kind, %error, "a watch failed and starts again");
            }
        }
    }
}
