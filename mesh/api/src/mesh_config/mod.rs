//! The mesh configuration: Istio's MeshConfig, from the ConfigMap `istio`, key `mesh`.
//!
//! Every field that takes effect is parsed; a bad value is an error that names it, and whoever reloads keeps the last
//! good configuration. A field that nothing here reads is reported, never fatal: configurations are carried over from
//! Istio whole.

mod extension_providers;
mod fields;
mod proxy_config;
mod traffic;

pub use extension_providers::{Authorizer, ExtensionProvider};
use mesh_core::access_log::Format;
use mesh_core::ext_authz::Providers;
use mesh_core::identity::TrustDomain;
use mesh_core::request::Normalization;
use mesh_core::traffic::MeshDefaults;
pub use proxy_config::{ProxyConfig, ProxyConfigOverride};
use serde_json::Value;

use crate::Invalid;
use fields::Fields;

/// The name of the ConfigMap that holds the configuration; `-REVISION` follows when there is a revision.
pub const CONFIG_MAP: &str = "istio";
/// The key in [`CONFIG_MAP`].
pub const KEY: &str = "mesh";

/// Where traffic to destinations that the mesh does not know may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundTrafficPolicy {
    /// `ALLOW_ANY`: it passes to the address the application dialled.
    #[default]
    AllowAny,
    /// `REGISTRY_ONLY`: it is refused.
    RegistryOnly,
}

/// The format of access-log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogEncoding {
    /// `TEXT`.
    #[default]
    Text,
    /// `JSON`.
    Json,
}

/// Istio's MeshConfig, as far as it takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// `trustDomain`.
    pub trust_domain: TrustDomain,
    /// `trustDomainAliases`.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// `rootNamespace`; empty means the namespace of the control plane.
    pub root_namespace: String,
    /// `enableAutoMtls`.
    pub enable_auto_mtls: bool,
    /// `outboundTrafficPolicy.mode`.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// `enablePrometheusMerge`: sidecars merge their applications' metrics into their own.
    pub enable_prometheus_merge: bool,
    /// `accessLogFile`; empty means no access log.
    pub access_log_file: String,
    /// `accessLogFormat`; empty means Istio's default format.
    pub access_log_format: String,
    /// `accessLogEncoding`.
    pub access_log_encoding: AccessLogEncoding,
    /// `pathNormalization.normalization`.
    pub path_normalization: Normalization,
    /// `extensionProviders`.
    pub extension_providers: Vec<ExtensionProvider>,
    /// `defaultConfig.gatewayTopology.numTrustedProxies`: how many proxies in front of the mesh are trusted to tell the
    /// client's address in `X-Forwarded-For`.
    pub trusted_proxies: u32,
    /// `connectTimeout`, `tcpKeepalive`, `h2UpgradePolicy` and `localityLbSetting`.
    pub traffic: MeshDefaults,
    /// `defaultConfig`.
    pub default_config: ProxyConfig,
    /// Paths of the fields that were given and that nothing reads.
    pub ignored: Vec<String>,
}

impl MeshConfig {
    /// Parses the YAML text of the configuration. Empty text is the default configuration.
    ///
    /// # Errors
    /// Every field whose value is not accepted, with its path and what is.
    pub fn parse(text: &str) -> Result<Self, Vec<Invalid>> {
        let value: Value =
            serde_yaml::from_str(text).map_err(|error| Invalid::new("mesh", error, "MeshConfig as YAML"))?;
        let mut fields = Fields::new("", value)?;
        let mut config = Self {
            trust_domain: fields
                .parsed("trustDomain", TRUST_DOMAIN, trust_domain)
                .unwrap_or_else(default_trust_domain),
            trust_domain_aliases: fields.list("trustDomainAliases", TRUST_DOMAIN, trust_domain),
            root_namespace: fields
                .parsed("rootNamespace", "a namespace's name", namespace)
                .unwrap_or_default(),
            enable_auto_mtls: fields.boolean("enableAutoMtls").unwrap_or(true),
            enable_prometheus_merge: fields.boolean("enablePrometheusMerge").unwrap_or(true),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            access_log_file: fields
                .parsed("accessLogFile", "/dev/stdout or another absolute path", access_log_file)
                .unwrap_or_default(),
            access_log_format: fields.text("accessLogFormat").unwrap_or_default(),
            access_log_encoding: fields
                .parsed("accessLogEncoding", "TEXT or JSON", access_log_encoding)
                .unwrap_or_default(),
            path_normalization: Normalization::default(),
            extension_providers: extension_providers::take(&mut fields),
            trusted_proxies: 0,
            traffic: traffic::take(&mut fields),
            default_config: ProxyConfig::default(),
            ignored: Vec::new(),
        };
        if let Err(reason) = access_log_format(&config.access_log_format, config.access_log_encoding) {
            let accepted = format!("Envoy's operators ({reason})");
            fields.refuse("accessLogFormat", &config.access_log_format, accepted);
        }
        if let Some(mut policy) = fields.object("outboundTrafficPolicy") {
            config.outbound_traffic_policy = policy
                .parsed("mode", "ALLOW_ANY or REGISTRY_ONLY", outbound_mode)
                .unwrap_or_default();
            fields.end(policy);
        }
        if let Some(mut paths) = fields.object("pathNormalization") {
            config.path_normalization = paths
                .parsed("normalization", NORMALIZATIONS, Normalization::named)
                .unwrap_or_default();
            fields.end(paths);
        }
        if let Some(mut proxy) = fields.object("defaultConfig") {
            if let Some(mut topology) = proxy.object("gatewayTopology") {
                let trusted = topology.number("numTrustedProxies", "a whole number", |number| {
                    u32::try_from(number).ok()
                });
                config.trusted_proxies = trusted.unwrap_or_default();
                proxy.end(topology);
            }
            config.default_config = ProxyConfigOverride::take(&mut proxy).over(&config.default_config);
            fields.end(proxy);
        }
        config.ignored = fields.finish()?;
        Ok(config)
    }

    /// The authorizers among the extension providers by their names, or why one cannot be asked. `own` is the control
    /// plane's namespace.
    #[must_use]
    pub fn authorizers(&self, own: &str, cluster_domain: &str) -> Providers {
        let root = self.root_namespace(own);
        let providers = self.extension_providers.iter();
        providers
            .map(|provider| (provider.name.clone(), provider.provider(root, cluster_domain)))
            .collect()
    }

    /// The namespace whose policies govern the whole mesh, given the control plane's own.
    #[must_use]
    pub fn root_namespace<'a>(&'a self, own: &'a str) -> &'a str {
        if self.root_namespace.is_empty() {
            own
        } else {
            &self.root_namespace
        }
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            trust_domain: default_trust_domain(),
            trust_domain_aliases: Vec::new(),
            root_namespace: String::new(),
            enable_auto_mtls: true,
            enable_prometheus_merge: true,
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::default(),
            path_normalization: Normalization::default(),
            extension_providers: Vec::new(),
            trusted_proxies: 0,
            traffic: MeshDefaults::default(),
            default_config: ProxyConfig::default(),
            ignored: Vec::new(),
        }
    }
}

const NORMALIZATIONS: &str = "DEFAULT, NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES";
const TRUST_DOMAIN: &str = "a trust domain: lower-case letters, digits, dots, dashes and underscores";

#[allow(clippy::expect_used, reason = "a constant, parsed in every test")]
fn default_trust_domain() -> TrustDomain {
    TrustDomain::new("cluster.local").expect("the default trust domain is one")
}

fn trust_domain(text: &str) -> Option<TrustDomain> {
    TrustDomain::new(text).ok()
}

fn namespace(text: &str) -> Option<String> {
    let label = text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    label.then(|| text.to_owned())
}

fn outbound_mode(text: &str) -> Option<OutboundTrafficPolicy> {
    match text {
        "ALLOW_ANY" => Some(OutboundTrafficPolicy::AllowAny),
        "REGISTRY_ONLY" => Some(OutboundTrafficPolicy::RegistryOnly),
        _ => None,
    }
}

fn access_log_file(text: &str) -> Option<String> {
    (text.is_empty() || text.starts_with('/')).then(|| text.to_owned())
}

/// Checks a format: text, or for JSON an object of such texts.
fn access_log_format(text: &str, encoding: AccessLogEncoding) -> Result<(), String> {
    let check = |text: &str| Format::parse(text).map(drop).map_err(|error| error.to_string());
    match encoding {
        _ if text.is_empty() => Ok(()),
        AccessLogEncoding::Text => check(text),
        AccessLogEncoding::Json => match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields.iter().try_for_each(|(key, value)| {
                let text = value.as_str().ok_or_else(|| format!("{key}: not a text"))?;
                check(text).map_err(|reason| format!("{key}: {reason}"))
            }),
            Ok(_) => Err("not an object, which accessLogEncoding JSON needs".to_owned()),
            Err(error) => Err(format!("not JSON, which accessLogEncoding asks for: {error}")),
        },
    }
}

fn access_log_encoding(text: &str) -> Option<AccessLogEncoding> {
    match text {
        "TEXT" => Some(AccessLogEncoding::Text),
        "JSON" => Some(AccessLogEncoding::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_given_is_istios_defaults() {
        for text in ["", "{}", "# only a comment\n", "null"] {
            assert_eq!(MeshConfig::parse(text).unwrap(), MeshConfig::default(), "{text:?}");
        }
        let config = MeshConfig::default();
        assert_eq!(config.trust_domain.as_str(), "cluster.local");
        assert!(config.enable_auto_mtls);
        assert_eq!(config.default_config.drain_duration, Duration::from_secs(45));
        assert_eq!(config.default_config.termination_drain_duration, Duration::from_secs(5));
        assert_eq!(config.root_namespace("istio-system"), "istio-system");
    }

    #[test]
    fn the_fields_that_take_effect() {
        let config = MeshConfig::parse(
            "trustDomain: example.org\ntrustDomainAliases: [old.example.org]\nrootNamespace: mesh\n\
             enableAutoMtls: false\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\naccessLogFile: /dev/stdout\n\
             accessLogEncoding: JSON\naccessLogFormat: '{\"code\": \"%RESPONSE_CODE%\"}'\ndefaultConfig:\n  holdApplicationUntilProxyStarts: true\n  \
             terminationDrainDuration: 30s\n  drainDuration: 1m\n  concurrency: 0\n\
             pathNormalization: {normalization: MERGE_SLASHES}\n",
        )
        .unwrap();
        assert_eq!(config.trust_domain.as_str(), "example.org");
        assert_eq!(
            config.trust_domain_aliases,
            [TrustDomain::new("old.example.org").unwrap()]
        );
        assert_eq!(config.root_namespace("istio-system"), "mesh");
        assert!(!config.enable_auto_mtls);
        assert_eq!(config.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
        assert_eq!(config.access_log_encoding, AccessLogEncoding::Json);
        assert!(config.default_config.hold_application_until_proxy_starts);
        assert_eq!(
            config.default_config.termination_drain_duration,
            Duration::from_secs(30)
        );
        assert_eq!(config.default_config.drain_duration, Duration::from_secs(60));
        assert_eq!(config.default_config.concurrency, Some(0));
        assert_eq!(config.path_normalization, Normalization::MergeSlashes);
        assert!(config.ignored.is_empty());
    }

    #[test]
    fn what_nothing_reads_is_reported() {
        let config = MeshConfig::parse(
            "enableTracing: true\nextensionProviders: [{name: x, zipkin: {service: z}}]\ndefaultConfig:\n  \
             tracing: {sampling: 1}\n  gatewayTopology: {numTrustedProxies: '2', forwardClientCertDetails: SANITIZE}\n\
             outboundTrafficPolicy: {colour: red}\n",
        )
        .unwrap();
        assert_eq!(
            config.ignored,
            [
                "defaultConfig.gatewayTopology.forwardClientCertDetails",
                "defaultConfig.tracing",
                "enableTracing",
                "extensionProviders[0].zipkin",
                "outboundTrafficPolicy.colour"
            ]
        );
        assert_eq!(config.trusted_proxies, 2);
    }

    #[test]
    fn every_bad_value_is_named() {
        for (text, expected) in [
            ("trustDomain: Example.Org", "trustDomain: \"Example.Org\""),
            ("trustDomain: [a]", "trustDomain: \"[\\\"a\\\"]\""),
            ("trustDomainAliases: [a, 'b c']", "trustDomainAliases[1]: \"b c\""),
            (
                "trustDomainAliases: a",
                "trustDomainAliases: \"a\" is not accepted, expected a list",
            ),
            ("rootNamespace: Root", "rootNamespace: \"Root\""),
            (
                "enableAutoMtls: maybe",
                "enableAutoMtls: \"maybe\" is not accepted, expected true or false",
            ),
            (
                "outboundTrafficPolicy: {mode: SOME}",
                "outboundTrafficPolicy.mode: \"SOME\"",
            ),
            (
                "outboundTrafficPolicy: ALLOW_ANY",
                "outboundTrafficPolicy: \"ALLOW_ANY\" is not accepted, expected fields",
            ),
            ("defaultConfig: {concurrency: -1}", "defaultConfig.concurrency: \"-1\""),
            (
                "defaultConfig: {drainDuration: soon}",
                "defaultConfig.drainDuration: \"soon\"",
            ),
            (
                "defaultConfig: {interceptionMode: TPROXY}",
                "defaultConfig.interceptionMode: \"TPROXY\"",
            ),
            (
                "defaultConfig: {gatewayTopology: {numTrustedProxies: -1}}",
                "defaultConfig.gatewayTopology.numTrustedProxies: \"-1\"",
            ),
            (
                "defaultConfig: {gatewayTopology: 2}",
                "defaultConfig.gatewayTopology: \"2\" is not accepted, expected fields",
            ),
            (
                "pathNormalization: {normalization: merge}",
                "pathNormalization.normalization: \"merge\" is not accepted, expected DEFAULT, NONE, BASE",
            ),
            ("accessLogFile: log.txt", "accessLogFile: \"log.txt\""),
            (
                "accessLogFormat: '%KODE%'",
                "accessLogFormat: \"%KODE%\" is not accepted, expected Envoy's operators (%KODE%: there is no such operator)",
            ),
            (
                "{accessLogFormat: '%PROTOCOL%', accessLogEncoding: JSON}",
                "accessLogFormat: \"%PROTOCOL%\" is not accepted, expected Envoy's operators (not JSON",
            ),
            (
                "{accessLogFormat: '{\"a\": \"%X%\"}', accessLogEncoding: JSON}",
                "accessLogFormat: \"{\\\"a\\\": \\\"%X%\\\"}\" is not accepted, expected Envoy's operators (a: %X%: there is",
            ),
            ("- a", "mesh: "),
            ("a: [", "mesh: "),
        ] {
            let errors = MeshConfig::parse(text).unwrap_err();
            let message = crate::join(&errors);
            assert!(message.starts_with(expected), "{text}: {message}");
        }
        let both = MeshConfig::parse("enableAutoMtls: 3\nrootNamespace: A").unwrap_err();
        assert_eq!(both.len(), 2, "{both:?}");
    }
}
