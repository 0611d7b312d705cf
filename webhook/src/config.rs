//! What injection is configured with: the ConfigMap `istio-sidecar-injector`, key `values`, under the names of Istio's
//! chart.

use k8s_openapi::api::core::v1::ResourceRequirements;
use mesh_api::{
    Invalid,
    annotations::{Capture, SIDECAR_PORTS},
    injection::Rules,
};
use serde::Deserialize;
use serde_json::{Map, Value};

pub use mesh_api::injection::{CONFIG_MAP, KEY};

/// The values that injection uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Which pods are injected, and by which revision.
    pub rules: Rules,
    /// `discoveryAddress`: host and port of the operator's discovery service.
    pub discovery_address: String,
    /// `global.hub`.
    pub hub: String,
    /// `global.tag`.
    pub tag: String,
    /// `global.imagePullPolicy`; empty leaves it to the API server.
    pub image_pull_policy: String,
    /// `global.imagePullSecrets`.
    pub image_pull_secrets: Vec<String>,
    /// `global.network`: the network that pods are labelled with; empty labels none.
    pub network: String,
    /// `global.multiCluster.clusterName`.
    pub cluster_name: String,
    /// `global.proxy.image`.
    pub proxy_image: String,
    /// `global.proxy.imageTypes`: types of image that exist beside the default, as suffixes of the tag.
    pub image_types: Vec<String>,
    /// `global.proxy.clusterDomain`.
    pub cluster_domain: String,
    /// `global.proxy.logLevel`.
    pub log_level: String,
    /// `global.proxy.concurrency`.
    pub concurrency: u32,
    /// `global.proxy.kernelTLS`: `auto` or `off`.
    pub kernel_tls: String,
    /// `global.proxy.holdApplicationUntilProxyStarts`.
    pub hold_application: bool,
    /// `global.proxy.resources`.
    pub proxy_resources: ResourceRequirements,
    /// `global.proxy.includeIPRanges`, `excludeIPRanges`, `includeOutboundPorts`, `excludeOutboundPorts`,
    /// `includeInboundPorts` and `excludeInboundPorts`.
    pub capture: Capture,
    /// `global.proxy.statusPort`; 0 means that the sidecar has no probes.
    pub status_port: u16,
    /// `global.proxy.readinessInitialDelaySeconds`.
    pub readiness_initial_delay: u32,
    /// `global.proxy.readinessPeriodSeconds`.
    pub readiness_period: u32,
    /// `global.proxy.readinessFailureThreshold`.
    pub readiness_failure_threshold: u32,
    /// `global.proxy.startupProbe.failureThreshold`; `None` where `enabled` is false.
    pub startup_failures: Option<u32>,
    /// `global.proxy.lifecycle`: the sidecar's hooks.
    pub lifecycle: Option<Value>,
    /// `global.proxy.seccompProfile`, of both containers.
    pub seccomp_profile: Option<Value>,
    /// `global.proxy_init.image`.
    pub init_image: String,
    /// `global.proxy_init.resources`.
    pub init_resources: ResourceRequirements,
    /// `sidecarInjectorWebhook.rewriteAppHTTPProbe`.
    pub rewrite_probes: bool,
    /// `sidecarInjectorWebhook.podSecurityCheck`: refuse pods that their namespace's pod security level would refuse.
    pub pod_security_check: bool,
}

impl Values {
    /// Parses the YAML text of the values.
    ///
    /// # Errors
    /// The first value that is not accepted, with its name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let document: Document = serde_yaml::from_str::<Option<Document>>(text)
            .map_err(|error| Invalid::new(KEY, error, "the values of the chart as YAML"))?
            .unwrap_or_default();
        let rules = Rules::parse(text)?;
        let Document {
            discovery_address,
            global,
            sidecar_injector_webhook: webhook,
        } = document;
        let suffix = match rules.revision.as_str() {
            "" => String::new(),
            revision => format!("-{revision}"),
        };
        let capture = global.proxy.capture()?;
        let proxy_image = or(global.proxy.image, "proxy");
        Ok(Self {
            discovery_address: or(
                discovery_address,
                &format!("pinnace-operator{suffix}.{}.svc:15012", rules.istio_namespace),
            ),
            rules,
            hub: or(global.hub, "localhost/pinnace"),
            tag: or(global.tag, "dev"),
            image_pull_policy: pull_policy(global.image_pull_policy)?,
            image_pull_secrets: global.image_pull_secrets,
            init_image: or(global.proxy_init.image, &proxy_image),
            proxy_image,
            network: global.network,
            cluster_name: or(global.multi_cluster.cluster_name, "Kubernetes"),
            image_types: global.proxy.image_types.clone(),
            capture,
            status_port: status_port(global.proxy.status_port)?,
            readiness_initial_delay: global.proxy.readiness_initial_delay_seconds,
            readiness_period: global.proxy.readiness_period_seconds,
            readiness_failure_threshold: global.proxy.readiness_failure_threshold,
            startup_failures: global
                .proxy
                .startup_probe
                .enabled
                .then_some(global.proxy.startup_probe.failure_threshold),
            lifecycle: given(global.proxy.lifecycle),
            seccomp_profile: given(global.proxy.seccomp_profile),
            cluster_domain: or(global.proxy.cluster_domain, "cluster.local"),
            log_level: or(global.proxy.log_level, "info"),
            concurrency: global.proxy.concurrency.unwrap_or(2),
            kernel_tls: kernel_tls(global.proxy.kernel_tls)?,
            hold_application: global.proxy.hold_application_until_proxy_starts,
            proxy_resources: global.proxy.resources.unwrap_or_else(default_resources),
            init_resources: global.proxy_init.resources.unwrap_or_else(default_resources),
            rewrite_probes: webhook.rewrite_app_http_probe.unwrap_or(true),
            pod_security_check: webhook.pod_security_check.unwrap_or(true),
        })
    }

    /// The ServiceAccount under which the operator serves discovery.
    #[must_use]
    pub fn operator_account(&self) -> String {
        match self.rules.revision.as_str() {
            "" => "pinnace-operator".to_owned(),
            revision => format!("pinnace-operator-{revision}"),
        }
    }
}

fn or(given: String, default: &str) -> String {
    if given.is_empty() { default.to_owned() } else { given }
}

fn pull_policy(given: String) -> Result<String, Invalid> {
    match given.as_str() {
        "" | "Always" | "IfNotPresent" | "Never" => Ok(given),
        _ => Err(Invalid::new(
            "global.imagePullPolicy",
            given,
            "Always, IfNotPresent or Never",
        )),
    }
}

/// An object that says something.
fn given(map: Map<String, Value>) -> Option<Value> {
    (!map.is_empty()).then_some(Value::Object(map))
}

fn status_port(given: u16) -> Result<u16, Invalid> {
    if SIDECAR_PORTS.contains(&given) {
        let accepted = "a port that is none of the sidecar's other ports, or 0 for no probes of the sidecar";
        return Err(Invalid::new("global.proxy.statusPort", given, accepted));
    }
    Ok(given)
}

fn kernel_tls(given: String) -> Result<String, Invalid> {
    match given.as_str() {
        "" => Ok("off".to_owned()),
        "auto" | "off" => Ok(given),
        _ => Err(Invalid::new("global.proxy.kernelTLS", given, "auto or off")),
    }
}

/// Istio's defaults for both containers.
fn default_resources() -> ResourceRequirements {
    let quantities = |cpu: &str, memory: &str| {
        let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
        Some(
            [
                ("cpu".to_owned(), quantity(cpu)),
                ("memory".to_owned(), quantity(memory)),
            ]
            .into(),
        )
    };
    ResourceRequirements {
        requests: quantities("100m", "128Mi"),
        limits: quantities("2", "1Gi"),
        claims: None,
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    discovery_address: String,
    global: Global,
    sidecar_injector_webhook: SidecarInjectorWebhook,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Global {
    hub: String,
    tag: String,
    image_pull_policy: String,
    image_pull_secrets: Vec<String>,
    network: String,
    multi_cluster: MultiCluster,
    proxy: Proxy,
    #[serde(rename = "proxy_init")]
    proxy_init: ProxyInit,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MultiCluster {
    cluster_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxy {
    image: String,
    image_types: Vec<String>,
    cluster_domain: String,
    log_level: String,
    concurrency: Option<u32>,
    #[serde(rename = "kernelTLS")]
    kernel_tls: String,
    hold_application_until_proxy_starts: bool,
    resources: Option<ResourceRequirements>,
    #[serde(rename = "includeIPRanges")]
    include_ip_ranges: String,
    #[serde(rename = "excludeIPRanges")]
    exclude_ip_ranges: String,
    include_outbound_ports: String,
    exclude_outbound_ports: String,
    include_inbound_ports: String,
    exclude_inbound_ports: String,
    status_port: u16,
    readiness_initial_delay_seconds: u32,
    readiness_period_seconds: u32,
    readiness_failure_threshold: u32,
    startup_probe: StartupProbe,
    lifecycle: Map<String, Value>,
    seccomp_profile: Map<String, Value>,
}

/// Istio's defaults.
impl Default for Proxy {
    fn default() -> Self {
        let (all, none) = (|| "*".to_owned(), String::new);
        Self {
            image: none(),
            image_types: Vec::new(),
            cluster_domain: none(),
            log_level: none(),
            concurrency: None,
            kernel_tls: none(),
            hold_application_until_proxy_starts: false,
            resources: None,
            include_ip_ranges: all(),
            exclude_ip_ranges: none(),
            include_outbound_ports: none(),
            exclude_outbound_ports: none(),
            include_inbound_ports: all(),
            exclude_inbound_ports: none(),
            status_port: 15020,
            readiness_initial_delay_seconds: 0,
            readiness_period_seconds: 15,
            readiness_failure_threshold: 4,
            startup_probe: StartupProbe::default(),
            lifecycle: Map::new(),
            seccomp_profile: Map::new(),
        }
    }
}

impl Proxy {
    fn capture(&self) -> Result<Capture, Invalid> {
        Capture::of_values([
            ("includeIPRanges", self.include_ip_ranges.as_str()),
            ("excludeIPRanges", &self.exclude_ip_ranges),
            ("includeOutboundPorts", &self.include_outbound_ports),
            ("excludeOutboundPorts", &self.exclude_outbound_ports),
            ("includeInboundPorts", &self.include_inbound_ports),
            ("excludeInboundPorts", &self.exclude_inbound_ports),
        ])
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StartupProbe {
    enabled: bool,
    failure_threshold: u32,
}

impl Default for StartupProbe {
    fn default() -> Self {
        Self {
            enabled: true,
            failure_threshold: 600,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProxyInit {
    image: String,
    resources: Option<ResourceRequirements>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SidecarInjectorWebhook {
    #[serde(rename = "rewriteAppHTTPProbe")]
    rewrite_app_http_probe: Option<bool>,
    pod_security_check: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_has_defaults() {
        let values = Values::parse("").unwrap();
        assert_eq!(values.discovery_address, "pinnace-operator.istio-system.svc:15012");
        assert_eq!(
            (values.concurrency, values.rewrite_probes, values.rules.policy),
            (2, true, mesh_api::injection::Policy::Enabled)
        );
        assert_eq!(values.rules.revision_name(), "default");
        assert_eq!((values.status_port, values.startup_failures), (15020, Some(600)));
        assert_eq!(
            Values::parse("revision: canary").unwrap().operator_account(),
            "pinnace-operator-canary"
        );
    }

    #[test]
    fn a_bad_value_is_named() {
        for (text, expected) in [
            (
                "global: {imagePullPolicy: Sometimes}",
                "global.imagePullPolicy: \"Sometimes\"",
            ),
            (
                "global: {proxy: {kernelTLS: always}}",
                "global.proxy.kernelTLS: \"always\"",
            ),
            ("policy: perhaps", "values: \"policy: unknown variant `perhaps`"),
            (
                "global: {proxy: {concurrency: many}}",
                "values: \"global.proxy.concurrency: invalid type",
            ),
            (
                "global: {proxy: {excludeIPRanges: 10.0.0.1}}",
                "global.proxy.excludeIPRanges: \"10.0.0.1\"",
            ),
            (
                "global: {proxy: {statusPort: 15090}}",
                "global.proxy.statusPort: \"15090\"",
            ),
            (
                "sidecarInjectorWebhook: {neverInjectSelector: [{matchExpressions: [{key: a, operator: Near}]}]}",
                "sidecarInjectorWebhook.neverInjectSelector[0]: ",
            ),
        ] {
            let message = Values::parse(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        let values =
            Values::parse("sidecarInjectorWebhook: {alwaysInjectSelector: [{}, {matchLabels: {a: b}}]}").unwrap();
        assert_eq!(values.rules.always_inject.len(), 1);
    }
}
