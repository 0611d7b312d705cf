//! What a pod's sidecar is made from: the pod's annotations over the mesh configuration over the chart's values.

use std::{collections::BTreeMap, time::Duration};

use mesh_api::{
    Invalid,
    annotations::{self, Container, InterceptionMode, Sidecar},
};
use serde_json::{Map, Value, json};

use super::{Config, Namespace, PROXY_ID, Refusal, merge, pod, pod_security, redirect, rollout, scrape::Scrape};

/// Where the sidecar has its status pages unless it is told otherwise; Istio's.
pub(super) const USUAL_STATUS_PORT: u16 = 15020;

/// In `proxyMetadata`: whether the sidecar answers the pod's DNS questions.
const DNS_CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";

/// Everything about one pod's sidecar, decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Whether the sidecar is an init container that restarts, instead of a classic container.
    pub native: bool,
    /// Whether the application waits for a classic sidecar to be ready.
    pub hold: bool,
    /// The arguments of `proxy capture`; `None` when nothing is redirected.
    pub capture: Option<Vec<String>>,
    /// The sidecar's image.
    pub image: String,
    /// The init container's image.
    pub init_image: String,
    /// The sidecar's `resources`.
    pub resources: Value,
    /// The sidecar's log directives.
    pub log_level: String,
    /// The sidecar's worker threads; 0 means one per CPU.
    pub concurrency: u32,
    /// Seconds that a sidecar which was told to drain takes new connections.
    pub drain: u64,
    /// Seconds that a terminating sidecar drains.
    pub termination_drain: u64,
    /// Further environment variables of the sidecar.
    pub metadata: BTreeMap<String, String>,
    /// Whether the sidecar answers the application's probes.
    pub rewrite_probes: bool,
    /// The port of the sidecar's status pages.
    pub status_port: u16,
    /// Whether the kubelet probes the sidecar.
    pub probed: bool,
    /// `initialDelaySeconds` of the sidecar's readiness probe.
    pub readiness_initial_delay: u32,
    /// `periodSeconds` of the sidecar's readiness probe.
    pub readiness_period: u32,
    /// `failureThreshold` of the sidecar's readiness probe.
    pub readiness_failure_threshold: u32,
    /// What becomes of the pod's annotations for Prometheus.
    pub scrape: Option<Scrape>,
    /// Volumes for the sidecar, by name.
    pub user_volumes: Map<String, Value>,
    /// Mounts in the sidecar, by the volume's name.
    pub user_mounts: Map<String, Value>,
    /// A seccomp profile that the namespace asks for.
    pub seccomp_profile: Option<Value>,
    /// Seconds that the application's containers sleep before they end.
    pub pre_stop_sleep: Option<u32>,
    /// The pod's ServiceAccount.
    pub service_account: String,
    /// What the pod's owner should hear.
    pub warnings: Vec<String>,
}

impl Params {
    /// Gathers them for a pod from which its own containers of the mesh's names were taken.
    ///
    /// # Errors
    /// The annotations that do not parse, or cannot be for this pod.
    pub(super) fn new(
        pod: &Value,
        own: &merge::Own,
        namespace: &Namespace<'_>,
        config: &Config<'_>,
    ) -> Result<Self, Refusal> {
        let sidecar = Sidecar::parse(&pod::strings(pod, "annotations")).map_err(Refusal::Annotations)?;
        let refuse = |error: Invalid| Refusal::Annotations(vec![error]);
        let values = config.values;
        let proxy = sidecar.proxy_config.over(&config.mesh.default_config);
        let native = config.native_sidecars && sidecar.container.native != Some(false);
        let mut warnings = sidecar.warnings.clone();
        warnings.extend(
            pod::strings(pod, "labels")
                .keys()
                .filter_map(|label| annotations::label_warning(label)),
        );
        warnings.extend(asked_in_vain(&sidecar, native, config));
        if !native && owned_by_job(pod) {
            warnings.push(
                "the sidecar is a classic container, so this Job's pod ends only when the sidecar does".to_owned(),
            );
        }
        // 0 says that the sidecar is not probed; its pages stay where they are.
        let asked_port = sidecar
            .probes
            .status_port
            .or(proxy.status_port)
            .unwrap_or(values.status_port);
        let status_port = if asked_port == 0 { USUAL_STATUS_PORT } else { asked_port };
        let uid = merge::identity(own.proxy.as_ref(), "runAsUser").filter(|uid| *uid != 0);
        let gid = merge::identity(own.proxy.as_ref(), "runAsGroup").filter(|gid| *gid != 0);
        let exempt = redirect::Exempt {
            uid: uid.unwrap_or(u64::from(PROXY_ID)),
            gid: gid.unwrap_or(u64::from(PROXY_ID)),
            status_port,
        };
        warnings.extend(runs_as_proxy(pod, exempt.uid));
        let mode = sidecar.capture.mode.unwrap_or(proxy.interception_mode);
        let dns = switch(&proxy.proxy_metadata, DNS_CAPTURE).map_err(refuse)?;
        let capture = sidecar.capture.clone().over(&values.capture);
        let image_type = sidecar.container.image_type.as_deref().or(proxy.image_type.as_deref());
        let tag = tag(image_type, config, &mut warnings);
        let image = |of_chart: &str| image(sidecar.container.image.as_deref().unwrap_or(of_chart), config, &tag);
        let pre_stop_sleep = sidecar
            .pre_stop_sleep
            .filter(|_| config.sleep_action && rollout::concerns(pod));
        if let Some(sleep) = pre_stop_sleep {
            rollout::check(pod, sleep, &mut warnings).map_err(refuse)?;
        }
        // The pod admission of ServiceAccounts fills the name in before webhooks are asked; templates need not have it.
        let service_account =
            pod::spec_text(pod, "serviceAccountName").or_else(|| pod::spec_text(pod, "serviceAccount"));
        Ok(Self {
            native,
            hold: !native && (proxy.hold_application_until_proxy_starts || values.hold_application),
            capture: (mode == InterceptionMode::Redirect).then(|| redirect::arguments(&capture, exempt, dns)),
            image: image(&values.proxy_image),
            init_image: image(&values.init_image),
            resources: resources(&sidecar.container).unwrap_or_else(|| json!(values.proxy_resources)),
            log_level: sidecar.logging.directives(&values.log_level),
            concurrency: proxy.concurrency.unwrap_or(values.concurrency),
            drain: whole_seconds(proxy.drain_duration),
            termination_drain: whole_seconds(proxy.termination_drain_duration),
            metadata: proxy.proxy_metadata,
            rewrite_probes: sidecar.probes.rewrite.unwrap_or(values.rewrite_probes),
            status_port,
            probed: asked_port != 0,
            readiness_initial_delay: sidecar.probes.initial_delay.unwrap_or(values.readiness_initial_delay),
            readiness_period: sidecar.probes.period.unwrap_or(values.readiness_period),
            readiness_failure_threshold: sidecar
                .probes
                .failure_threshold
                .unwrap_or(values.readiness_failure_threshold),
            scrape: Scrape::new(&sidecar.prometheus, config.mesh.enable_prometheus_merge, status_port)
                .map_err(refuse)?,
            user_volumes: sidecar.container.volumes,
            user_mounts: sidecar.container.mounts,
            seccomp_profile: values
                .seccomp_profile
                .clone()
                .or_else(|| pod_security::seccomp_profile(namespace.enforced(values), pod)),
            pre_stop_sleep,
            service_account: service_account.unwrap_or("default").to_owned(),
            warnings,
        })
    }

    /// The Secret that holds the certificate of the pod's ServiceAccount.
    #[must_use]
    pub fn secret_name(&self) -> String {
        format!("istio.{}", self.service_account)
    }
}

/// A switch of `proxyMetadata`; off where it is not there. The sidecar reads it too, and would not start with another text.
fn switch(metadata: &BTreeMap<String, String>, name: &str) -> Result<bool, Invalid> {
    let Some(text) = metadata.get(name) else {
        return Ok(false);
    };
    let refuse = || Invalid::new(format!("proxyMetadata.{name}"), text, mesh_core::switch::ACCEPTED);
    mesh_core::switch::parse(text).ok_or_else(refuse)
}

/// Rounded up: a shorter drain than asked for cuts requests.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// What the API server is too old for.
fn asked_in_vain(sidecar: &Sidecar, native: bool, config: &Config<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if sidecar.container.native == Some(true) && !native {
        warnings.push(format!(
            "annotation {} has no effect: the API server is older than 1.29, which has no native sidecars",
            annotations::NATIVE_SIDECAR
        ));
    }
    if sidecar.pre_stop_sleep.is_some() && !config.sleep_action {
        warnings.push(format!(
            "annotation {} has no effect: the API server is older than 1.30, which has no hook that sleeps",
            annotations::PRE_STOP_SLEEP
        ));
    }
    warnings
}

/// The tag of the mesh's images. A type is a suffix of it, for images that the chart says there are.
fn tag(image_type: Option<&str>, config: &Config<'_>, warnings: &mut Vec<String>) -> String {
    let values = config.values;
    match image_type {
        None | Some("default" | "distroless") => values.tag.clone(),
        Some(listed) if values.image_types.iter().any(|known| known == listed) => format!("{}-{listed}", values.tag),
        Some(other) => {
            warnings.push(format!(
                "image type {other:?} has no effect: the chart's proxy.imageTypes does not list it"
            ));
            values.tag.clone()
        }
    }
}

/// `HUB/NAME:TAG`, or the name as it is when it is a whole reference.
fn image(name: &str, config: &Config<'_>, tag: &str) -> String {
    if name.contains('/') {
        name.to_owned()
    } else {
        format!("{}/{name}:{tag}", config.values.hub)
    }
}

/// The sidecar's `resources` when an annotation says any of them: then, as in Istio, only what annotations say.
fn resources(container: &Container) -> Option<Value> {
    let side = |cpu: &Option<String>, memory: &Option<String>| {
        let given = [("cpu", cpu), ("memory", memory)];
        let map: Map<String, Value> = given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
            .collect();
        (!map.is_empty()).then_some(map)
    };
    let requests = side(&container.cpu, &container.memory);
    let limits = side(&container.cpu_limit, &container.memory_limit);
    let mut resources = Map::new();
    for (name, quantities) in [("limits", limits), ("requests", requests)] {
        if let Some(quantities) = quantities {
            resources.insert(name.to_owned(), Value::Object(quantities));
        }
    }
    (!resources.is_empty()).then_some(Value::Object(resources))
}

/// What runs under the sidecar's uid is taken for the sidecar by the redirect rules.
fn runs_as_proxy(pod: &Value, proxy: u64) -> Vec<String> {
    let user = |at: &Value| at.get("securityContext")?.get("runAsUser")?.as_u64();
    let of_pod = pod.get("spec").and_then(user);
    pod::containers(pod)
        .filter(|container| user(container).or(of_pod) == Some(proxy))
        .map(|container| {
            format!(
                "container {}: runs as user {proxy}, so its traffic passes by the sidecar",
                pod::name(container)
            )
        })
        .collect()
}

fn owned_by_job(pod: &Value) -> bool {
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner.get("kind").and_then(Value::as_str) == Some("Job"))
}
