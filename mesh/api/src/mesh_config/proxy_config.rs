//! Istio's ProxyConfig: the mesh's `defaultConfig`, and the pod annotation that overrides it.

use std::time::Duration;

use serde_json::Value;

use super::fields::Fields;
use crate::{Invalid, duration};

/// How proxies run, as far as it takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// `holdApplicationUntilProxyStarts`: the application's containers start after the proxy is ready.
    pub hold_application_until_proxy_starts: bool,
    /// `drainDuration`: how long connections have to finish when a listener goes.
    pub drain_duration: Duration,
    /// `terminationDrainDuration`: how long a terminating proxy drains before it exits.
    pub termination_drain_duration: Duration,
    /// `concurrency`: worker threads; 0 means one per CPU, `None` that it is not said.
    pub concurrency: Option<u32>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            hold_application_until_proxy_starts: false,
            drain_duration: Duration::from_secs(45),
            termination_drain_duration: Duration::from_secs(5),
            concurrency: None,
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
}

/// The most worker threads that make sense to ask for.
const MOST_THREADS: u64 = 1024;

impl ProxyConfigOverride {
    /// Parses YAML text found at `path`. With it come the paths of fields that nothing reads.
    ///
    /// # Errors
    /// Every field whose value is not accepted.
    pub fn parse(path: &str, text: &str) -> Result<(Self, Vec<String>), Vec<Invalid>> {
        let value: Value =
            serde_yaml::from_str(text).map_err(|error| Invalid::new(path, error, "ProxyConfig as YAML"))?;
        let mut fields = Fields::new(path, value)?;
        let config = Self::take(&mut fields);
        Ok((config, fields.finish()?))
    }

    /// Takes the fields that are read out of an opened object.
    pub(super) fn take(fields: &mut Fields) -> Self {
        fields.parsed("interceptionMode", "REDIRECT", |mode| {
            (mode == "REDIRECT").then_some(())
        });
        Self {
            hold_application_until_proxy_starts: fields.boolean("holdApplicationUntilProxyStarts"),
            drain_duration: fields.parsed("drainDuration", duration::ACCEPTED, duration::parse),
            termination_drain_duration: fields.parsed("terminationDrainDuration", duration::ACCEPTED, duration::parse),
            concurrency: fields.value("concurrency", "a whole number from 0 to 1024", |value| {
                value
                    .as_u64()
                    .filter(|threads| *threads <= MOST_THREADS)
                    .and_then(|threads| u32::try_from(threads).ok())
            }),
        }
    }

    /// These fields over a configuration.
    #[must_use]
    pub fn over(&self, base: &ProxyConfig) -> ProxyConfig {
        ProxyConfig {
            hold_application_until_proxy_starts: self
                .hold_application_until_proxy_starts
                .unwrap_or(base.hold_application_until_proxy_starts),
            drain_duration: self.drain_duration.unwrap_or(base.drain_duration),
            termination_drain_duration: self
                .termination_drain_duration
                .unwrap_or(base.termination_drain_duration),
            concurrency: self.concurrency.or(base.concurrency),
        }
    }
}
