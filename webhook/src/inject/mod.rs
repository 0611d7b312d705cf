//! Injection: from a pod to a pod with a sidecar, as a pure function.
//!
//! In the order of the work: [`mesh_api::injection`] says whether; `merge` takes the pod's own containers of the mesh's names;
//! [`params`] gathers what the pod and the mesh ask for, with `redirect` and `scrape`; `refusal` names what is refused;
//! `probes`, `containers`, `rollout`, `volumes` and `metadata` each make their change; `patch` says what was changed. The
//! pod stays JSON throughout, so that fields which no type here knows survive.

mod containers;
mod environment;
mod merge;
mod metadata;
mod namespace;
pub mod params;
mod patch;
mod pod;
pub mod pod_security;
mod probes;
mod redirect;
mod refusal;
mod rollout;
pub mod scrape;
mod volumes;

use mesh_api::MeshConfig;
use serde_json::Value;

pub use mesh_api::injection::Skip;
pub use namespace::Namespace;
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
/// Where the sidecar finds its certificate.
pub(crate) const CERTIFICATE_FOLDER: &str = "/etc/certs";
/// Where it keeps its last good configuration.
pub(crate) const DATA_FOLDER: &str = "/var/lib/istio/data";
/// Uid and gid of the sidecar, exempt from capture; Istio's.
pub(crate) const PROXY_ID: u32 = 1337;
/// All that injection knows beside the pod and its namespace.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// The values of the ConfigMap `istio-sidecar-injector`.
    pub values: &'a Values,
    /// The mesh configuration.
    pub mesh: &'a MeshConfig,
    /// Whether the API server has native sidecars (1.29 and later).
    pub native_sidecars: bool,
    /// Whether it has hooks that sleep (1.30 and later).
    pub sleep_action: bool,
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
    if let Err(skip) = mesh_api::injection::decide(pod, namespace.to_decide(), &config.values.rules) {
        return Ok(Outcome::Skipped(skip));
    }
    if metadata::is_injected(pod) {
        return Ok(Outcome::Skipped(Skip::AlreadyInjected));
    }
    let mut injected = pod.clone();
    let own = merge::take(&mut injected)?;
    let mut params = params::Params::new(&injected, &own, namespace, config)?;
    refusal::check(&injected, &own, &params, namespace, config.values)?;
    if let Some(image) = own.proxy.as_ref().and_then(merge::own_image) {
        let warning = format!("container {PROXY_CONTAINER}: runs {image} in place of the mesh's image");
        params.warnings.push(warning);
    }

    let probers = if params.rewrite_probes {
        probes::rewrite(&mut injected, params.status_port, &mut params.warnings)
    } else {
        None
    };
    let scrapes = params.scrape.as_ref().and_then(|scrape| scrape.original.clone());
    let found = environment::Found {
        probers: probers.as_deref(),
        scrapes: scrapes.as_deref(),
    };
    let mut warnings = std::mem::take(&mut params.warnings);
    let environment = environment::variables(&params, config, found, &mut warnings);
    containers::add(&mut injected, &params, config, environment, own).ok_or(Refusal::NotAPod)?;
    if let Some(sleep) = params.pre_stop_sleep {
        rollout::add(&mut injected, sleep);
    }
    volumes::add(&mut injected, &params).ok_or(Refusal::NotAPod)?;
    let pull_secrets = volumes::add_image_pull_secrets(&mut injected, &config.values.image_pull_secrets);
    metadata::add(&mut injected, &params, config.values, &pull_secrets).ok_or(Refusal::NotAPod)?;

    let patch = patch::between(pod, &injected).map_err(|error| Refusal::Patch(error.to_string()))?;
    Ok(Outcome::Injected(Box::new(Injected {
        pod: injected,
        patch,
        warnings,
    })))
}
