//! The way to the cluster: the client of the API server, the pods that are meant, and ports of theirs.

mod forward;
mod workloads;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};

pub(crate) use forward::{Answer, fetch, fetch_from};
pub(crate) use workloads::{Target, running};

use crate::arguments::Global;
use crate::failure::{Failure, chain};

/// The port of the operator's debug pages, on loopback.
pub(crate) const OPERATOR_PORT: u16 = 15013;
/// The port of a sidecar's administration pages, on loopback.
pub(crate) const SIDECAR_PORT: u16 = 15000;

/// A cluster that answers to a kubeconfig.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace of names that have none.
    pub(crate) namespace: String,
    /// The namespace of the control plane.
    pub(crate) system: String,
}

/// A pod by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl Cluster {
    /// The cluster that the flags name.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let options = KubeConfigOptions {
            context: global.context.clone(),
            ..KubeConfigOptions::default()
        };
        let no_config = |error: &dyn std::error::Error| {
            Failure::cluster(format!("no kubeconfig that can be used: {}", chain(error)))
                .advise("name one by --kubeconfig or KUBECONFIG, and a context of it by --context")
        };
        // KUBECONFIG may be a list of files, which is the client library's to merge.
        let named = global
            .kubeconfig
            .as_ref()
            .filter(|path| std::env::var_os("KUBECONFIG").as_deref() != Some(path.as_os_str()));
        let config = match named {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| no_config(&error))?;
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|error| no_config(&error))?
            }
            None if options.context.is_some() => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| no_config(&error))?,
            None => Config::infer().await.map_err(|error| no_config(&error))?,
        };
        let namespace = global
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = mesh_client::of(config)
            .map_err(|error| Failure::cluster(format!("no client of the API server: {error:#}")))?;
        Ok(Self {
            client,
            namespace,
            system: global.system.clone(),
        })
    }

    /// The running pods of a component of the control plane: `operator` or `webhook`.
    pub(crate) async fn replicas(&self, component: &str) -> Result<Vec<Pod>, Failure> {
        let labels = format!("app.kubernetes.io/part-of=pinnace,app.kubernetes.io/component={component}");
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.system)
            .list(&ListParams::default().labels(&labels))
            .await
            .map_err(|error| Failure::of_kube(&format!("the {component}'s pods in {}", self.system), &error))?;
        let mut pods: Vec<Pod> = pods.items.into_iter().filter(running).collect();
        pods.sort_by_key(|pod| pod.name_any());
        Ok(pods)
    }

    /// The operator's replicas, at least one.
    pub(crate) async fn operators(&self) -> Result<Vec<PodName>, Failure> {
        let pods = self.replicas("operator").await?;
        if pods.is_empty() {
            return Err(
                Failure::missing(format!("no operator runs in namespace {}", self.system))
                    .advise("is the mesh installed there? helm list -A; --istioNamespace names another namespace"),
            );
        }
        Ok(pods
            .iter()
            .map(|pod| PodName {
                namespace: self.system.clone(),
                name: pod.name_any(),
            })
            .collect())
    }
}
