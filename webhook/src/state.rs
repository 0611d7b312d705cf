//! What the webhook knows: swapped whole by the watches, read by every review without a lock.

use std::collections::HashMap;

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_api::MeshConfig;

use crate::{certificate::Serving, config::Values, inject::pod_security::Level, version::Version};

/// What the webhook knows; empty until it was read once. What was read stays in force until something better comes.
#[derive(Debug, Default)]
pub struct State {
    /// From the ConfigMap `istio`.
    pub mesh: ArcSwapOption<MeshConfig>,
    /// From the ConfigMap `istio-sidecar-injector`.
    pub values: ArcSwapOption<Values>,
    /// From the Secret `pinnace-webhook-tls`.
    pub certificate: ArcSwapOption<Serving>,
    /// Of the API server.
    pub version: ArcSwapOption<Version>,
    /// Namespaces that enforce a pod security level which forbids something. It is only for a better message, so nothing
    /// waits for it.
    pub pod_security: ArcSwap<HashMap<String, Level>>,
}

impl State {
    /// What is still missing to serve, by name.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [
            ("the mesh configuration", self.mesh.load().is_some()),
            ("the values for injection", self.values.load().is_some()),
            ("a serving certificate", self.certificate.load().is_some()),
            ("the API server's version", self.version.load().is_some()),
        ];
        all.into_iter()
            .filter_map(|(name, there)| (!there).then_some(name))
            .collect()
    }
}
