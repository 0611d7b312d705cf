//! The mesh configuration, followed in its ConfigMap, joined with the authority's roots into what holds for the whole
//! mesh. A configuration that does not parse is reported, and the last good one stays in force.

use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use mesh_api::MeshConfig;
use mesh_api::mesh_config::{AccessLogEncoding, KEY, OutboundTrafficPolicy};
use mesh_wire::convert::AccessLog;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::ca::Authority;
use crate::index::{Index, MeshFacts};
use crate::kubernetes::watch::{Change, follow};
use crate::metrics::Metrics;

/// The facts of a mesh.
#[must_use]
pub fn facts(config: &MeshConfig, namespace: &str, cluster_domain: &str, authority: Option<&Authority>) -> MeshFacts {
    let roots = authority.into_iter().flat_map(Authority::roots);
    MeshFacts {
        trust_domain: config.trust_domain.clone(),
        aliases: config.trust_domain_aliases.clone(),
        root_namespace: config.root_namespace(namespace).to_owned(),
        cluster_domain: cluster_domain.to_owned(),
        auto_mtls: config.enable_auto_mtls,
        allow_any: config.outbound_traffic_policy == OutboundTrafficPolicy::AllowAny,
        access_log: AccessLog {
            file: config.access_log_file.clone(),
            format: config.access_log_format.clone(),
            json: config.access_log_encoding == AccessLogEncoding::Json,
        },
        paths: config.path_normalization,
        trusted_proxies: config.trusted_proxies,
        providers: config.authorizers(namespace, cluster_domain),
        traffic: config.traffic.clone(),
        roots: roots.map(|root| Bytes::copy_from_slice(root)).collect(),
    }
}

/// Follows the ConfigMap and publishes the configuration, the default one when there is no ConfigMap. Runs until the
/// process ends.
pub async fn load(
    config_maps: Api<DeserializeGuard<ConfigMap>>,
    name: String,
    publish: watch::Sender<Option<Arc<MeshConfig>>>,
    metrics: Arc<Metrics>,
) {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    follow(config_maps, only, metrics.clone(), |change| match change {
        Change::Applied(found) => {
            let text = found.data.as_ref().and_then(|data| data.get(KEY)).map(String::as_str);
            take(text.unwrap_or_default(), &name, &publish, &metrics);
        }
        Change::Listed if publish.borrow().is_none() => {
            warn!(
                config_map = name,
                "there is no mesh configuration; the default one holds"
            );
            take("", &name, &publish, &metrics);
        }
        Change::Deleted { .. } => warn!(
            config_map = name,
            "the mesh configuration is gone; the last one stays in force"
        ),
        Change::Listing | Change::Listed | Change::Undecodable(_) => {}
    })
    .await;
}

fn take(text: &str, name: &str, publish: &watch::Sender<Option<Arc<MeshConfig>>>, metrics: &Metrics) {
    match MeshConfig::parse(text) {
        Ok(config) => {
            metrics.mesh_config_usable.set(1);
            metrics
                .mesh_config_ignored
                .set(i64::try_from(config.ignored.len()).unwrap_or(i64::MAX));
            if publish.borrow().as_deref() == Some(&config) {
                return;
            }
            if !config.ignored.is_empty() {
                warn!(
                    config_map = name,
                    fields = config.ignored.join(", "),
                    "fields of the mesh configuration that nothing reads"
                );
            }
            info!(config_map = name, trust_domain = %config.trust_domain, "the mesh configuration is loaded");
            publish.send_replace(Some(Arc::new(config)));
        }
        Err(errors) => {
            metrics.mesh_config_usable.set(0);
            let errors = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            error!(
                config_map = name,
                errors, "the mesh configuration cannot be used; the last good one stays in force"
            );
        }
    }
}

/// Joins configuration and authority, publishes the facts and tells the index. Runs until the process ends.
pub async fn join(
    mut config: watch::Receiver<Option<Arc<MeshConfig>>>,
    mut authority: watch::Receiver<Option<Arc<Authority>>>,
    namespace: String,
    cluster_domain: String,
    publish: watch::Sender<Arc<MeshFacts>>,
    index: Arc<Index>,
) {
    loop {
        let loaded = config.borrow_and_update().clone();
        let root = authority.borrow_and_update().clone();
        if let Some(loaded) = loaded {
            let facts = facts(&loaded, &namespace, &cluster_domain, root.as_deref());
            index.set_mesh(facts.clone());
            publish.send_if_modified(|before| {
                let differs = **before != facts;
                if differs {
                    *before = Arc::new(facts);
                }
                differs
            });
        }
        tokio::select! {
            // A sender that is gone means that the process ends.
            changed = config.changed() => if changed.is_err() { return },
            changed = authority.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_configuration_leaves_the_last_good_one() {
        let (publish, metrics) = (watch::Sender::new(None), Metrics::new());
        take("trustDomain: one.example", "istio", &publish, &metrics);
        take("trustDomain: [", "istio", &publish, &metrics);
        assert_eq!(metrics.mesh_config_usable.get(), 0);
        assert_eq!(publish.borrow().as_ref().unwrap().trust_domain.as_str(), "one.example");
        take("trustDomain: two.example", "istio", &publish, &metrics);
        assert_eq!(metrics.mesh_config_usable.get(), 1);
        assert_eq!(publish.borrow().as_ref().unwrap().trust_domain.as_str(), "two.example");
    }
}
