//! Istio's ProxyConfig: the mesh's `defaultConfig`, and the pod annotation that overrides it.
//!
//! Every field of Istio's (mesh/v1alpha1/proxy.proto) is known: those below act, [`WITHOUT_EFFECT`] lists the others.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::fields::Fields;
use crate::{
    Invalid,
    annotations::{self, InterceptionMode},
    duration,
};

/// How proxies run, as far as it takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// `holdApplicationUntilProxyStarts`: the application's containers start after the proxy is ready.
    pub hold_application_until_proxy_starts: bool,
    /// `drainDuration`: how long a proxy that was told to drain still takes new connections.
    pub drain_duration: Duration,
    /// `terminationDrainDuration`: how long a terminating proxy drains before it exits.
    pub termination_drain_duration: Duration,
    /// `concurrency`: worker threads; 0 means one per CPU, `None` that it is not said.
    pub concurrency: Option<u32>,
    /// `interceptionMode`.
    pub interception_mode: InterceptionMode,
    /// `statusPort`: 15020 unless said; 0 means that the sidecar has no probes. `None` that it is not said.
    pub status_port: Option<u16>,
    /// `proxyMetadata`: environment variables of the sidecar's containers.
    pub proxy_metadata: BTreeMap<String, String>,
    /// `image.imageType`.
    pub image_type: Option<String>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            hold_application_until_proxy_starts: false,
            drain_duration: Duration::from_secs(45),
            termination_drain_duration: Duration::from_secs(5),
            concurrency: None,
            interception_mode: InterceptionMode::default(),
            status_port: None,
            proxy_metadata: BTreeMap::new(),
            image_type: None,
        }
    }
}

/// The fields of a ProxyConfig that somebody gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfigOverride {
    /// See [`ProxyConfig::hold_application_until_proxy_starts`].
    pub hold_application_until_proxy_starts: Option<bool>,
    /// See [`ProxyConfig::drain_duration`].
    pub drain_duration: Option<Duration>,
    /// See [`ProxyConfig::termination_drain_duration`].
    pub termination_drain_duration: Option<Duration>,
    /// See [`ProxyConfig::concurrency`].
    pub concurrency: Option<u32>,
    /// See [`ProxyConfig::interception_mode`].
    pub interception_mode: Option<InterceptionMode>,
    /// See [`ProxyConfig::status_port`].
    pub status_port: Option<u16>,
    /// See [`ProxyConfig::proxy_metadata`]; joined with the base's by name.
    pub proxy_metadata: BTreeMap<String, String>,
    /// See [`ProxyConfig::image_type`].
    pub image_type: Option<String>,
}

/// The most worker threads that make sense to ask for.
const MOST_THREADS: u64 = 1024;
/// Environment variables that a pod may be given.
const MOST_METADATA: usize = 128;
/// The longest drain: what the sidecar takes.
const MOST_DRAIN: Duration = Duration::from_secs(3600);
const DRAIN: &str = "a duration such as 45s or 1m30s, at most 1h";
const METADATA: &str = "at most 128 names of environment variables with text each; write numbers and true in quotes";

/// What the value of a field without effect must be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Number,
    Boolean,
    Duration,
    List,
    Fields,
}

impl Kind {
    fn accepted(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a whole number",
            Self::Boolean => "true or false",
            Self::Duration => duration::ACCEPTED,
            Self::List => "a list",
            Self::Fields => "fields",
        }
    }

    fn has(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Number => value.is_u64() || value.as_str().is_some_and(|text| text.parse::<u64>().is_ok()),
            Self::Boolean => value.is_boolean(),
            Self::Duration => value.as_str().is_some_and(|text| duration::parse(text).is_some()),
            Self::List => value.is_array(),
            Self::Fields => value.is_object(),
        }
    }
}

/// The fields that configure Envoy, Istio's agent, or what there is not here.
const WITHOUT_EFFECT: &[(&str, Kind)] = &[
    ("availabilityZone", Kind::Text),
    ("binaryPath", Kind::Text),
    ("caCertificatesPem", Kind::List),
    ("configPath", Kind::Text),
    ("connectionSettings", Kind::Fields),
    ("controlPlaneAuthPolicy", Kind::Text),
    ("customConfigFile", Kind::Text),
    ("discoveryAddress", Kind::Text),
    ("discoveryRefreshDelay", Kind::Duration),
    ("envoyAccessLogService", Kind::Fields),
    ("envoyMetricsService", Kind::Fields),
    ("envoyMetricsServiceAddress", Kind::Text),
    ("extraStatTags", Kind::List),
    ("fileFlushInterval", Kind::Duration),
    ("fileFlushMinSizeKb", Kind::Number),
    ("gatewayTopology", Kind::Fields),
    ("meshId", Kind::Text),
    ("privateKeyProvider", Kind::Fields),
    ("proxyAdminPort", Kind::Number),
    ("proxyBootstrapTemplatePath", Kind::Text),
    ("proxyHeaders", Kind::Fields),
    ("proxyStatsMatcher", Kind::Fields),
    ("readinessProbe", Kind::Fields),
    ("runtimeValues", Kind::Fields),
    ("sds", Kind::Fields),
    ("serviceCluster", Kind::Text),
    ("statNameLength", Kind::Number),
    ("statsCompression", Kind::Boolean),
    ("statsdUdpAddress", Kind::Text),
    ("tracing", Kind::Fields),
    ("tracingServiceName", Kind::Text),
    ("zipkinAddress", Kind::Text),
];

impl ProxyConfigOverride {
    /// Parses YAML text found at `path`. With it comes a sentence for each field that does nothing, its path first.
    ///
    /// # Errors
    /// Every field whose value is not accepted.
    pub fn parse(path: &str, text: &str) -> Result<(Self, Vec<String>), Vec<Invalid>> {
        let value: Value =
            serde_yaml::from_str(text).map_err(|error| Invalid::new(path, error, "ProxyConfig as YAML"))?;
        let mut fields = Fields::new(path, value)?;
        let config = Self::take(&mut fields);
        let (without_effect, unknown) = fields.finish_apart()?;
        let told = without_effect.into_iter().map(|path| format!("{path} has no effect"));
        let unknown = unknown
            .into_iter()
            .map(|path| format!("{path} is no field of ProxyConfig"));
        let mut ignored: Vec<String> = told.chain(unknown).collect();
        ignored.sort();
        Ok((config, ignored))
    }

    /// Takes all known fields out of an opened object.
    pub(super) fn take(fields: &mut Fields) -> Self {
        for (name, kind) in WITHOUT_EFFECT {
            fields.ignore(name, kind.accepted(), |value| kind.has(value));
        }
        let drain = |text: &str| duration::parse(text).filter(|duration| *duration <= MOST_DRAIN);
        let mut image_type = None;
        if let Some(mut image) = fields.object("image") {
            let plain = |text: &str| annotations::image_type("image", text).ok();
            image_type = image.parsed("imageType", "default, distroless or another type of image", plain);
            fields.end(image);
        }
        Self {
            hold_application_until_proxy_starts: fields.boolean("holdApplicationUntilProxyStarts"),
            drain_duration: fields.parsed("drainDuration", DRAIN, drain),
            termination_drain_duration: fields.parsed("terminationDrainDuration", DRAIN, drain),
            concurrency: fields.number("concurrency", "a whole number from 0 to 1024", |threads| {
                u32::try_from(threads).ok().filter(|_| threads <= MOST_THREADS)
            }),
            interception_mode: fields.parsed("interceptionMode", InterceptionMode::ACCEPTED, InterceptionMode::parse),
            status_port: fields.number(
                "statusPort",
                annotations::STATUS_PORT_ACCEPTED,
                annotations::status_port,
            ),
            proxy_metadata: metadata(fields),
            image_type,
        }
    }

    /// These fields over a configuration.
    #[must_use]
    pub fn over(&self, base: &ProxyConfig) -> ProxyConfig {
        let mut proxy_metadata = base.proxy_metadata.clone();
        proxy_metadata.extend(self.proxy_metadata.clone());
        ProxyConfig {
            hold_application_until_proxy_starts: self
                .hold_application_until_proxy_starts
                .unwrap_or(base.hold_application_until_proxy_starts),
            drain_duration: self.drain_duration.unwrap_or(base.drain_duration),
            termination_drain_duration: self
                .termination_drain_duration
                .unwrap_or(base.termination_drain_duration),
            concurrency: self.concurrency.or(base.concurrency),
            interception_mode: self.interception_mode.unwrap_or(base.interception_mode),
            status_port: self.status_port.or(base.status_port),
            proxy_metadata,
            image_type: self.image_type.clone().or_else(|| base.image_type.clone()),
        }
    }
}

/// `proxyMetadata`, whose names must be those of environment variables: the API server would refuse the pod otherwise.
fn metadata(fields: &mut Fields) -> BTreeMap<String, String> {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    fields.texts("proxyMetadata", METADATA, |entries| {
        entries.len() <= MOST_METADATA && entries.keys().all(|name| plain(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(ProxyConfigOverride, Vec<String>), String> {
        ProxyConfigOverride::parse("c", text).map_err(|errors| crate::join(&errors))
    }

    #[test]
    fn what_acts() {
        let (config, ignored) = parse(
            "concurrency: '3'\ndrainDuration: 1m\nterminationDrainDuration: 20s\nholdApplicationUntilProxyStarts: true\n\
             interceptionMode: NONE\nstatusPort: 15099\nproxyMetadata: {A: '1', B.c: x}\nimage: {imageType: debug}\n",
        )
        .unwrap();
        assert!(ignored.is_empty(), "{ignored:?}");
        let base = ProxyConfig {
            proxy_metadata: [("A", "0"), ("Z", "9")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ..ProxyConfig::default()
        };
        let over = config.over(&base);
        assert_eq!(
            (over.concurrency, over.status_port, over.interception_mode),
            (Some(3), Some(15099), InterceptionMode::None)
        );
        assert_eq!(over.drain_duration, Duration::from_secs(60));
        assert_eq!(over.image_type.as_deref(), Some("debug"));
        let metadata: Vec<_> = over.proxy_metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(metadata, ["A=1", "B.c=x", "Z=9"]);
    }

    #[test]
    fn every_other_field_is_known_and_checked() {
        let good = |kind: Kind| match kind {
            Kind::Text => "x",
            Kind::Number => "3",
            Kind::Boolean => "true",
            Kind::Duration => "3s",
            Kind::List => "[x]",
            Kind::Fields => "{a: b}",
        };
        for (name, kind) in WITHOUT_EFFECT {
            let (config, ignored) = parse(&format!("{name}: {}", good(*kind))).unwrap();
            assert_eq!(config, ProxyConfigOverride::default());
            assert_eq!(ignored, [format!("c.{name} has no effect")]);
            let message = parse(&format!("{name}: -1.5")).unwrap_err();
            assert!(message.starts_with(&format!("c.{name}: \"-1.5\"")), "{message}");
        }
        assert_eq!(parse("colour: red").unwrap().1, ["c.colour is no field of ProxyConfig"]);
    }

    #[test]
    fn every_bad_value_is_named() {
        for (text, begin) in [
            ("interceptionMode: TPROXY", "c.interceptionMode: \"TPROXY\""),
            ("statusPort: 15001", "c.statusPort: \"15001\""),
            ("statusPort: 70000", "c.statusPort: \"70000\""),
            ("proxyMetadata: {A: true}", "c.proxyMetadata: "),
            ("proxyMetadata: {'A=B': x}", "c.proxyMetadata: "),
            ("image: {imageType: 'a b'}", "c.image.imageType: \"a b\""),
            ("drainDuration: 2h", "c.drainDuration: \"2h\""),
            ("terminationDrainDuration: 2h", "c.terminationDrainDuration: \"2h\""),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(begin), "{message}");
        }
    }
}
