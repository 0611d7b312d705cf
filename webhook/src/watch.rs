//! The watches on the three objects that configure the webhook, each by its name alone, on the namespaces that enforce a
//! pod security level, by their metadata alone, and the API server's version.
//!
//! An object that does not parse, or vanishes, is logged and counted, and what was read before stays in force.

mod namespaces;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use mesh_api::{MeshConfig, mesh_config};

use crate::{
    certificate::{self, Serving},
    config::{self, Values},
    metrics::Metrics,
    state::State,
    version::Version,
};

/// Between two looks at the API server's version.
const VERSION_PERIOD: Duration = Duration::from_secs(300);

/// Where the objects are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The control plane's namespace.
    pub namespace: String,
    /// The revision; empty is the default one.
    pub revision: String,
}

impl Place {
    /// An object's name under the revision.
    #[must_use]
    pub fn name(&self, base: &str) -> String {
        if self.revision.is_empty() {
            base.to_owned()
        } else {
            format!("{base}-{}", self.revision)
        }
    }
}

/// Watches everything until one of the watches ends, which none does by itself.
pub async fn run(client: Client, place: &Place, state: &Arc<State>, metrics: &Metrics) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &place.namespace);
    let (mesh, values) = (place.name(mesh_config::CONFIG_MAP), place.name(config::CONFIG_MAP));
    let certificate = place.name(certificate::SECRET);
    tokio::join!(
        follow(secrets, &certificate, metrics, |secret: &Secret| {
            state.certificate.store(Some(Arc::new(
                Serving::from_secret(secret).map_err(|error| format!("{error:#}"))?,
            )));
            Ok(())
        }),
        follow(config_maps.clone(), &mesh, metrics, |map: &ConfigMap| {
            let parsed = MeshConfig::parse(key(map, mesh_config::KEY)?).map_err(|errors| mesh_api::join(&errors))?;
            if !parsed.ignored.is_empty() {
                tracing::info!("mesh configuration: nothing reads {}", parsed.ignored.join(", "));
            }
            state.mesh.store(Some(Arc::new(parsed)));
            Ok(())
        }),
        follow(config_maps, &values, metrics, |map: &ConfigMap| {
            let parsed = Values::parse(key(map, config::KEY)?).map_err(|error| error.to_string())?;
            state.values.store(Some(Arc::new(parsed)));
            Ok(())
        }),
        namespaces::follow(client.clone(), state),
        follow_version(client, state),
    );
}

fn key<'a>(map: &'a ConfigMap, key: &str) -> Result<&'a str, String> {
    let text = map.data.as_ref().and_then(|data| data.get(key));
    text.map(String::as_str).ok_or_else(|| format!("it has no key {key}"))
}

/// Hands an object to `accept` whenever it changes.
async fn follow<K>(api: Api<K>, name: &str, metrics: &Metrics, accept: impl Fn(&K) -> Result<(), String>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let changes = watcher::watch_object(api, name).default_backoff();
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.next().await {
        match change {
            Ok(Some(object)) => match accept(&object) {
                Ok(()) => tracing::info!(object = name, "read"),
                Err(error) => {
                    metrics.rejected_config.with_label_values(&[name]).inc();
                    tracing::error!(
                        object = name,
                        "not accepted, what was read before stays in force: {error}"
                    );
                }
            },
            Ok(None) => tracing::warn!(object = name, "not there; what was read before stays in force"),
            Err(error) => tracing::warn!(object = name, "watch: {error}"),
        }
    }
}

/// Asks for the API server's version.
///
/// # Errors
/// When it cannot be asked, or answers something else than a version.
pub async fn version(client: &Client) -> Result<Version, String> {
    let info = client.apiserver_version().await.map_err(|error| error.to_string())?;
    Version::parse(&info.major, &info.minor).ok_or_else(|| format!("{}.{} is no version", info.major, info.minor))
}

async fn follow_version(client: Client, state: &Arc<State>) {
    loop {
        let mut wait = VERSION_PERIOD;
        match version(&client).await {
            Ok(version) => {
                if let Err(message) = version.check() {
                    tracing::error!("{message}");
                }
                let before = state.version.swap(Some(Arc::new(version)));
                if before.as_deref() != Some(&version) {
                    tracing::info!(%version, native_sidecars = version.has_native_sidecars(), "API server");
                }
            }
            Err(error) => {
                tracing::warn!("the API server's version: {error}");
                wait = Duration::from_secs(5);
            }
        }
        tokio::time::sleep(wait).await;
    }
}
