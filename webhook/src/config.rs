//! What injection is configured with: the ConfigMap `istio-sidecar-injector`, key `values`, under the names of Istio's
//! chart.

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::core::Selector;
use mesh_api::Invalid;
use serde::Deserialize;

/// The name of the ConfigMap; `-REVISION` follows when there is a revision.
pub const CONFIG_MAP: &str = "istio-sidecar-injector";
/// The key in [`CONFIG_MAP`].
pub const KEY: &str = "values";

/// What happens to a pod of a selected namespace that says nothing itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is injected.
    #[default]
    Enabled,
    /// It is not.
    Disabled,
}

/// The values that injection uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// The revision that injected pods are marked with; empty means `default`.
    pub revision: String,
    /// `policy`.
    pub policy: Policy,
    /// `discoveryAddress`: host and port of the operator's discovery service.
    pub discovery_address: String,
    /// `global.istioNamespace`: the control plane's namespace.
    pub istio_namespace: String,
    /// `global.hub`.
    pub hub: String,
    /// `global.tag`.
    pub tag: String,
    /// `global.imagePullPolicy`; empty leaves it to the API server.
    pub image_pull_policy: String,
    /// `global.imagePullSecrets`.
    pub image_pull_secrets: Vec<String>,
    /// `global.proxy.image`.
    pub proxy_image: String,
    /// `global.proxy.clusterDomain`.
    pub cluster_domain: String,
    /// `global.proxy.logLevel`.
    pub log_level: String,
    /// `global.proxy.concurrency`.
    pub concurrency: u32,
    /// `global.proxy.holdApplicationUntilProxyStarts`.
    pub hold_application: bool,
    /// `global.proxy.resources`.
    pub proxy_resources: ResourceRequirements,
    /// `global.proxy_init.image`.
    pub init_image: String,
    /// `global.proxy_init.resources`.
    pub init_resources: ResourceRequirements,
    /// `sidecarInjectorWebhook.rewriteAppHTTPProbe`.
    pub rewrite_probes: bool,
    /// `sidecarInjectorWebhook.enableNamespacesByDefault`.
    pub enable_namespaces_by_default: bool,
    /// `sidecarInjectorWebhook.neverInjectSelector`.
    pub never_inject: Vec<Selector>,
    /// `sidecarInjectorWebhook.alwaysInjectSelector`.
    pub always_inject: Vec<Selector>,
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
        let Document {
            revision,
            policy,
            discovery_address,
            global,
            sidecar_injector_webhook: webhook,
        } = document;
        let istio_namespace = or(global.istio_namespace, "istio-system");
        let suffix = if revision.is_empty() {
            String::new()
        } else {
            format!("-{revision}")
        };
        let proxy_image = or(global.proxy.image, "proxy");
        Ok(Self {
            discovery_address: or(
                discovery_address,
                &format!("pinnace-operator{suffix}.{istio_namespace}.svc:15012"),
            ),
            revision,
            policy,
            istio_namespace,
            hub: or(global.hub, "localhost/pinnace"),
            tag: or(global.tag, "dev"),
            image_pull_policy: pull_policy(global.image_pull_policy)?,
            image_pull_secrets: global.image_pull_secrets,
            init_image: or(global.proxy_init.image, &proxy_image),
            proxy_image,
            cluster_domain: or(global.proxy.cluster_domain, "cluster.local"),
            log_level: or(global.proxy.log_level, "info"),
            concurrency: global.proxy.concurrency.unwrap_or(2),
            hold_application: global.proxy.hold_application_until_proxy_starts,
            proxy_resources: global.proxy.resources.unwrap_or_else(default_resources),
            init_resources: global.proxy_init.resources.unwrap_or_else(default_resources),
            rewrite_probes: webhook.rewrite_app_http_probe.unwrap_or(true),
            enable_namespaces_by_default: webhook.enable_namespaces_by_default,
            never_inject: selectors("neverInjectSelector", webhook.never_inject_selector)?,
            always_inject: selectors("alwaysInjectSelector", webhook.always_inject_selector)?,
        })
    }

    /// The ServiceAccount under which the operator serves discovery.
    #[must_use]
    pub fn operator_account(&self) -> String {
        if self.revision.is_empty() {
            "pinnace-operator".to_owned()
        } else {
            format!("pinnace-operator-{}", self.revision)
        }
    }

    /// The revision's name as labels and annotations have it.
    #[must_use]
    pub fn revision_name(&self) -> &str {
        if self.revision.is_empty() {
            "default"
        } else {
            &self.revision
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

fn selectors(name: &str, given: Vec<LabelSelector>) -> Result<Vec<Selector>, Invalid> {
    let convert = |(index, selector): (usize, LabelSelector)| {
        let shown = serde_json::to_string(&selector).unwrap_or_default();
        selector.try_into().map_err(|error| {
            let path = format!("sidecarInjectorWebhook.{name}[{index}]");
            Invalid::new(path, shown, format!("a label selector ({error})"))
        })
    };
    // An empty selector selects everything, which nobody means here; Istio passes over it too.
    let meant = |selector: &LabelSelector| {
        selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
            || selector
                .match_expressions
                .as_ref()
                .is_some_and(|expressions| !expressions.is_empty())
    };
    given.into_iter().filter(meant).enumerate().map(convert).collect()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    revision: String,
    policy: Policy,
    discovery_address: String,
    global: Global,
    sidecar_injector_webhook: SidecarInjectorWebhook,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Global {
    istio_namespace: String,
    hub: String,
    tag: String,
    image_pull_policy: String,
    image_pull_secrets: Vec<String>,
    proxy: Proxy,
    #[serde(rename = "proxy_init")]
    proxy_init: ProxyInit,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxy {
    image: String,
    cluster_domain: String,
    log_level: String,
    concurrency: Option<u32>,
    hold_application_until_proxy_starts: bool,
    resources: Option<ResourceRequirements>,
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
    enable_namespaces_by_default: bool,
    never_inject_selector: Vec<LabelSelector>,
    always_inject_selector: Vec<LabelSelector>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_has_defaults() {
        let values = Values::parse("").unwrap();
        assert_eq!(values.discovery_address, "pinnace-operator.istio-system.svc:15012");
        assert_eq!(
            (values.concurrency, values.rewrite_probes, values.policy),
            (2, true, Policy::Enabled)
        );
        assert_eq!(values.revision_name(), "default");
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
            ("policy: perhaps", "values: \"policy: unknown variant `perhaps`"),
            (
                "global: {proxy: {concurrency: many}}",
                "values: \"global.proxy.concurrency: invalid type",
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
        assert_eq!(values.always_inject.len(), 1);
    }
}
