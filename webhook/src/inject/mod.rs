//! Injection: from a pod to a pod with a sidecar, as a pure function.
//!
//! In the order of the work: [`decision`] says whether; [`params`] gathers what the pod and the mesh ask for;
//! `refusal` names what is refused; `probes`, `containers`, `volumes` and `metadata` each make their change; `patch`
//! says what was changed. The pod stays JSON throughout, so that fields which no type here knows survive.

mod containers;
pub mod decision;
mod metadata;
pub mod params;
mod patch;
mod pod;
mod probes;
mod refusal;
mod volumes;

use mesh_api::MeshConfig;
use serde_json::Value;

pub use decision::{Namespace, Skip};
pub use refusal::{LONGEST_SERVICE_ACCOUNT, Refusal};

use crate::config::Values;

/// The name of the sidecar's container, in Istio and here.
pub const PROXY_CONTAINER: &str = "istio-proxy";
/// The name of the init container that redirects the pod's traffic.
pub const INIT_CONTAINER: &str = "istio-init";
/// The volume with the workload's certificate.
pub const CERTIFICATE_VOLUME: &str = "istio-certs";
/// The volume in which the sidecar keeps its last good configuration over a restart; Istio's name.
pub const DATA_VOLUME: &str = "istio-data";
/// Uid and gid of the sidecar, exempt from capture; Istio's.
pub(crate) const PROXY_ID: u32 = 1337;
/// The port on which the sidecar answers the application's probes.
pub(crate) const STATUS_PORT: u16 = 15020;

/// All that injection knows beside the pod and its namespace.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// The values of the ConfigMap `istio-sidecar-injector`.
    pub values: &'a Values,
    /// The mesh configuration.
    pub mesh: &'a MeshConfig,
    /// Whether the API server has native sidecars (1.29 and later).
    pub native_sidecars: bool,
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It gets a sidecar.
    Injected(Box<Injected>),
    /// It is left as it is.
    Skipped(Skip),
}

/// A pod with a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The whole pod.
    pub pod: Value,
    /// What leads from the given pod to [`Self::pod`] (RFC 6902).
    pub patch: json_patch::Patch,
    /// What the pod's owner should hear.
    pub warnings: Vec<String>,
}

/// Gives a pod its sidecar, unless it should not have one.
///
/// A pod that has its sidecar already is skipped, so that injecting twice changes nothing.
///
/// # Errors
/// Why a pod that should have a sidecar cannot have one.
pub fn inject(pod: &Value, namespace: &Namespace<'_>, config: &Config<'_>) -> Result<Outcome, Refusal> {
    if let Err(skip) = decision::decide(pod, namespace, config.values) {
        return Ok(Outcome::Skipped(skip));
    }
    if metadata::is_injected(pod) {
        return Ok(Outcome::Skipped(Skip::AlreadyInjected));
    }
    let mut params = params::Params::new(pod, config)?;
    refusal::check(pod, &params)?;

    let mut injected = pod.clone();
    let probers = if params.rewrite_probes {
        probes::rewrite(&mut injected, &mut params.warnings)
    } else {
        None
    };
    containers::add(&mut injected, &params, config, probers.as_deref()).ok_or(Refusal::NotAPod)?;
    volumes::add(&mut injected, &params).ok_or(Refusal::NotAPod)?;
    let pull_secrets = volumes::add_image_pull_secrets(&mut injected, &config.values.image_pull_secrets);
    metadata::add(&mut injected, &params, config.values, &pull_secrets).ok_or(Refusal::NotAPod)?;

    let patch = patch::between(pod, &injected).map_err(|error| Refusal::Patch(error.to_string()))?;
    Ok(Outcome::Injected(Box::new(Injected {
        pod: injected,
        patch,
        warnings: params.warnings,
    })))
}
