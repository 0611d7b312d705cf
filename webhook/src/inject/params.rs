//! What a pod's sidecar is made from: the pod's annotations over the mesh configuration over the chart's values.

use mesh_api::annotations::{InterceptionMode, IpRanges, Ports, Sidecar};
use serde_json::{Map, Value, json};

use super::{Config, PROXY_ID, Refusal, pod};

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
    /// The sidecar's log level.
    pub log_level: String,
    /// The sidecar's worker threads; 0 means one per CPU.
    pub concurrency: u32,
    /// Seconds that a terminating sidecar drains.
    pub termination_drain: u64,
    /// Whether the sidecar answers the application's probes.
    pub rewrite_probes: bool,
    /// `initialDelaySeconds` of the sidecar's readiness probe.
    pub readiness_initial_delay: u32,
    /// `periodSeconds` of the sidecar's readiness probe.
    pub readiness_period: u32,
    /// `failureThreshold` of the sidecar's readiness probe.
    pub readiness_failure_threshold: u32,
    /// The pod's ServiceAccount.
    pub service_account: String,
    /// What the pod's owner should hear.
    pub warnings: Vec<String>,
}

impl Params {
    /// Gathers them for a pod.
    ///
    /// # Errors
    /// The annotations that do not parse.
    pub fn new(pod: &Value, config: &Config<'_>) -> Result<Self, Refusal> {
        let sidecar = Sidecar::parse(&pod::strings(pod, "annotations")).map_err(Refusal::Annotations)?;
        let values = config.values;
        let proxy = sidecar.proxy_config.over(&config.mesh.default_config);
        let native = config.native_sidecars && sidecar.native != Some(false);
        let mut warnings = sidecar.warnings.clone();
        if sidecar.native == Some(true) && !config.native_sidecars {
            warnings.push(format!(
                "annotation {} has no effect: the API server is older than 1.29, which has no native sidecars",
                mesh_api::annotations::NATIVE_SIDECAR
            ));
        }
        if !native && owned_by_job(pod) {
            warnings.push(
                "the sidecar is a classic container, so this Job's pod ends only when the sidecar does".to_owned(),
            );
        }
        warnings.extend(runs_as_proxy(pod));
        // The pod admission of ServiceAccounts fills the name in before webhooks are asked; templates need not have it.
        let service_account =
            pod::spec_text(pod, "serviceAccountName").or_else(|| pod::spec_text(pod, "serviceAccount"));
        Ok(Self {
            native,
            hold: !native && (proxy.hold_application_until_proxy_starts || values.hold_application),
            capture: (sidecar.interception_mode == InterceptionMode::Redirect).then(|| capture(&sidecar)),
            image: image(sidecar.image.as_deref().unwrap_or(&values.proxy_image), config),
            init_image: image(sidecar.image.as_deref().unwrap_or(&values.init_image), config),
            resources: resources(&sidecar).unwrap_or_else(|| json!(values.proxy_resources)),
            log_level: sidecar.log_level.unwrap_or_else(|| values.log_level.clone()),
            concurrency: proxy.concurrency.unwrap_or(values.concurrency),
            // Whole seconds, rounded up: a shorter drain than asked for cuts requests.
            termination_drain: proxy
                .termination_drain_duration
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            rewrite_probes: sidecar.rewrite_probes.unwrap_or(values.rewrite_probes),
            readiness_initial_delay: sidecar.readiness_initial_delay.unwrap_or(0),
            readiness_period: sidecar.readiness_period.unwrap_or(5),
            readiness_failure_threshold: sidecar.readiness_failure_threshold.unwrap_or(4),
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

/// `HUB/NAME:TAG`, or the name as it is when it is a whole reference.
fn image(name: &str, config: &Config<'_>) -> String {
    if name.contains('/') {
        name.to_owned()
    } else {
        format!("{}/{name}:{}", config.values.hub, config.values.tag)
    }
}

/// The sidecar's `resources` when an annotation says any of them: then, as in Istio, only what annotations say.
fn resources(sidecar: &Sidecar) -> Option<Value> {
    let side = |cpu: &Option<String>, memory: &Option<String>| {
        let given = [("cpu", cpu), ("memory", memory)];
        let map: Map<String, Value> = given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
            .collect();
        (!map.is_empty()).then_some(map)
    };
    let requests = side(&sidecar.cpu, &sidecar.memory);
    let limits = side(&sidecar.cpu_limit, &sidecar.memory_limit);
    let mut resources = Map::new();
    for (name, quantities) in [("limits", limits), ("requests", requests)] {
        if let Some(quantities) = quantities {
            resources.insert(name.to_owned(), Value::Object(quantities));
        }
    }
    (!resources.is_empty()).then_some(Value::Object(resources))
}

/// The arguments of `proxy capture`. What is included is written out, so that a pod shows what is redirected; an empty
/// list is an answer too: it includes nothing.
fn capture(sidecar: &Sidecar) -> Vec<String> {
    let ports = |given: &Option<Ports>| given.as_ref().map(ToString::to_string);
    let ranges = |given: &Option<IpRanges>| given.as_ref().map(ToString::to_string);
    let all = || Some("*".to_owned());
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let flags = [
        ("outbound-port", Some("15001".to_owned())),
        ("inbound-port", Some("15006".to_owned())),
        ("uid", Some(PROXY_ID.to_string())),
        ("gid", Some(PROXY_ID.to_string())),
        (
            "include-outbound-ip-ranges",
            ranges(&sidecar.include_outbound_ip_ranges).or_else(all),
        ),
        (
            "exclude-outbound-ip-ranges",
            given(ranges(&sidecar.exclude_outbound_ip_ranges)),
        ),
        ("include-outbound-ports", given(ports(&sidecar.include_outbound_ports))),
        ("exclude-outbound-ports", given(ports(&sidecar.exclude_outbound_ports))),
        (
            "include-inbound-ports",
            ports(&sidecar.include_inbound_ports).or_else(all),
        ),
        ("exclude-inbound-ports", given(ports(&sidecar.exclude_inbound_ports))),
        ("exclude-interfaces", given(sidecar.exclude_interfaces.clone())),
        (
            "reroute-virtual-interfaces",
            given(sidecar.reroute_virtual_interfaces.clone()),
        ),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
    std::iter::once("capture".to_owned()).chain(flags).collect()
}

/// What runs under the sidecar's uid is taken for the sidecar by the redirect rules.
fn runs_as_proxy(pod: &Value) -> Vec<String> {
    let user = |at: &Value| at.get("securityContext")?.get("runAsUser")?.as_u64();
    let of_pod = pod.get("spec").and_then(user);
    pod::containers(pod)
        .filter(|container| user(container).or(of_pod) == Some(u64::from(PROXY_ID)))
        .map(|container| {
            format!(
                "container {}: runs as user {PROXY_ID}, so its traffic passes by the sidecar",
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
