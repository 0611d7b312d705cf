//! The status of PeerAuthentications: whether each is in force, and why not.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use mesh_api::PeerAuthentication;
use mesh_api::peer_authentication::status;
use mesh_core::peer_authentication::Policy;
use serde_json::json;
use tracing::warn;

use crate::feeds::Policies;
use crate::index::Index;
use crate::kubernetes::leader::Leadership;
use crate::metrics::Metrics;

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
    leadership: Leadership,
    metrics: Arc<Metrics>,
) {
    loop {
        let (all, root_namespace): (Vec<Policy>, String) =
            index.read(|world, mesh| (world.policies().cloned().collect(), mesh.root_namespace.clone()));
        for resource in policies.all() {
            let new = status(&resource, &all, &root_namespace, &Time(jiff::Timestamp::now()));
            if resource.status.as_ref() == Some(&new) {
                continue;
            }
            if !leadership.held() {
                break;
            }
            metrics.reconciles.with_label_values(&[CONTROLLER]).inc();
            let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
            let api: Api<PeerAuthentication> = Api::namespaced(client.clone(), &namespace);
            let version = resource.resource_version();
            let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": new}));
            match api.patch_status(&name, &PatchParams::default(), &patch).await {
                Ok(_) => {}
                // Changed or deleted meanwhile: the watch tells, and the next round is right.
                Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
                Err(error) => {
                    metrics.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
                    warn!(namespace, name, %error, "a PeerAuthentication's status could not be written");
                }
            }
        }
        tokio::select! {
            () = policies.changed.notified() => tokio::time::sleep(DEBOUNCE).await,
            () = tokio::time::sleep(RESYNC) => {}
        }
    }
}
