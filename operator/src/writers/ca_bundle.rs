//! The caBundle by which the API server knows the webhook: patched into this control plane's two configurations, by name
//! and into none other, and kept right when someone edits them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::ca::Authority;
use crate::kubernetes::leader::Leadership;
use crate::kubernetes::watch::follow;
use crate::metrics::Metrics;

/// How long between two looks without a change, and after a failure.
const RESYNC: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(5);

/// The controller's name in metrics.
const CONTROLLER: &str = "ca-bundle";

/// A configuration of webhooks.
pub trait Webhooks {
    /// The client configuration of each webhook, in order.
    fn clients(&self) -> Vec<&WebhookClientConfig>;
}

impl Webhooks for MutatingWebhookConfiguration {
    fn clients(&self) -> Vec<&WebhookClientConfig> {
        self.webhooks
            .iter()
            .flatten()
            .map(|webhook| &webhook.client_config)
            .collect()
    }
}

impl Webhooks for ValidatingWebhookConfiguration {
    fn clients(&self) -> Vec<&WebhookClientConfig> {
        self.webhooks
            .iter()
            .flatten()
            .map(|webhook| &webhook.client_config)
            .collect()
    }
}

/// The JSON patch that gives every webhook the bundle; `None` when all have it. It holds only if the object is still the
/// one that was read.
#[must_use]
pub fn patch(clients: &[&WebhookClientConfig], roots: &str, resource_version: Option<&str>) -> Option<Value> {
    let bundle = ByteString(roots.as_bytes().to_vec());
    let wrong = clients
        .iter()
        .enumerate()
        .filter(|(_, client)| client.ca_bundle.as_ref() != Some(&bundle));
    let mut operations: Vec<Value> = wrong
        .map(|(at, _)| json!({"op": "add", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": bundle}))
        .collect();
    if operations.is_empty() {
        return None;
    }
    if let Some(version) = resource_version {
        operations.insert(
            0,
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}),
        );
    }
    Some(Value::Array(operations))
}

/// Keeps the bundle in one configuration until this future is dropped.
pub async fn keep<K>(
    client: Client,
    name: String,
    mut authority: watch::Receiver<Option<Arc<Authority>>>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
) where
    K: Resource<DynamicType = ()> + Webhooks + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let changed = Notify::new();
    let watching = follow(
        Api::<DeserializeGuard<K>>::all(client.clone()),
        only,
        metrics.clone(),
        |_| changed.notify_one(),
    );
    let configurations: Api<K> = Api::all(client);
    let keeping = async {
        loop {
            let root = authority.borrow_and_update().clone();
            let mut wait = RESYNC;
            if let Some(root) = root.filter(|_| leadership.held()) {
                metrics.reconciles.with_label_values(&[CONTROLLER]).inc();
                if let Err(error) = round(&configurations, &name, root.roots_pem()).await {
                    metrics.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
                    warn!(kind = &*K::kind(&()), name, %error, "a webhook configuration's caBundle could not be set");
                    wait = RETRY;
                }
            } else {
                wait = RETRY;
            }
            tokio::select! {
                () = changed.notified() => {}
                changed = authority.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    };
    tokio::join!(watching, keeping);
}

async fn round<K>(configurations: &Api<K>, name: &str, roots: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Webhooks + Clone + Debug + DeserializeOwned,
{
    // The chart may be without it, or has not made it yet.
    let Some(found) = configurations.get_opt(name).await? else {
        return Ok(());
    };
    let Some(operations) = patch(&found.clients(), roots, found.meta().resource_version.as_deref()) else {
        return Ok(());
    };
    let operations: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    configurations
        .patch(name, &PatchParams::default(), &Patch::Json::<()>(operations))
        .await?;
    info!(kind = &*K::kind(&()), name, "set the caBundle");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_is_patched() {
        let with = |bundle: Option<&str>| WebhookClientConfig {
            ca_bundle: bundle.map(|text| ByteString(text.as_bytes().to_vec())),
            ..WebhookClientConfig::default()
        };
        let (right, old, none) = (with(Some("new")), with(Some("old")), with(None));
        assert_eq!(patch(&[&right], "new", Some("1")), None);
        assert_eq!(patch(&[], "new", Some("1")), None);
        let operations = patch(&[&right, &old, &none], "new", Some("7")).unwrap();
        assert_eq!(
            operations,
            json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "bmV3"},
                {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "bmV3"},
            ])
        );
    }
}
