//! The proxy's own metrics, in a registry of its own, without a label whose values come from callers.

use crate::net::listen::Direction;
use http::StatusCode;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::array::from_fn;
use std::sync::Arc;

/// The classes of a status, by its first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Requests by direction and class, looked up once: a request must not pay for finding its counter.
type Requests = [[IntCounter; CLASSES.len()]; 2];

/// Handles to every metric; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Connections carried, by `direction` (inbound, outbound) and `security` (mutual_tls, tls, none).
    pub connections: IntCounterVec,
    /// Connections refused, by `reason`.
    pub refused: IntCounterVec,
    requests: Arc<Requests>,
    /// Requests that were tried again on another connection or endpoint.
    pub retries: IntCounter,
    /// Copies of requests for whom a route mirrors them to, by `result` (sent, dropped).
    pub mirrors: IntCounterVec,
    /// What was asked of external authorizers, by `provider`, which the mesh's configuration names, and `result` (allowed,
    /// denied, error, failed_open).
    pub ext_authz: IntCounterVec,
    /// Handshakes that failed, by `direction`.
    pub handshakes_failed: IntCounterVec,
    /// Certificates put in force.
    pub certificates_loaded: IntCounter,
    /// Certificates or trust bundles refused.
    pub certificates_refused: IntCounter,
    /// When the certificate in use ends, in seconds since the epoch.
    pub certificate_expiry: Gauge,
    /// TLS of DestinationRules put in force.
    pub rules_loaded: IntCounter,
    /// Files of DestinationRules refused.
    pub rules_refused: IntCounter,
    /// Requests that waited for a key of their token, by `result` (known, unknown, full).
    pub key_waits: IntCounterVec,
    /// Requests that wait for a key of their token now.
    pub waiting_for_keys: IntGauge,
    /// Connections open now.
    pub open: IntGauge,
    /// How old what is known of the mesh is, in seconds; 0 while a discovery stream is open.
    pub configuration_age: Gauge,
}

impl Metrics {
    /// Makes and registers all of them.
    ///
    /// # Errors
    /// That of the registry, for a name that is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let requests = counters(
            "pinnace_proxy_requests_total",
            "HTTP requests carried.",
            &["direction", "class"],
        )?;
        let metrics = Self {
            connections: counters(
                "pinnace_proxy_connections_total",
                "Connections carried.",
                &["direction", "security"],
            )?,
            refused: counters(
                "pinnace_proxy_connections_refused_total",
                "Connections refused.",
                &["reason"],
            )?,
            requests: Arc::new(from_fn(|direction| {
                from_fn(|class| requests.with_label_values(&[["inbound", "outbound"][direction], CLASSES[class]]))
            })),
            retries: counter("pinnace_proxy_retries_total", "Requests tried again.")?,
            mirrors: counters(
                "pinnace_proxy_mirrored_requests_total",
                "Copies of requests for whom a route mirrors them to; \"dropped\" are those for which there was no room.",
                &["result"],
            )?,
            ext_authz: counters(
                "pinnace_proxy_ext_authz_total",
                "Calls about which an external authorizer was asked.",
                &["provider", "result"],
            )?,
            handshakes_failed: counters(
                "pinnace_proxy_handshakes_failed_total",
                "TLS handshakes that failed.",
                &["direction"],
            )?,
            certificates_loaded: counter("pinnace_proxy_certificates_loaded_total", "Certificates put in force.")?,
            certificates_refused: counter(
                "pinnace_proxy_certificates_refused_total",
                "Certificates or trust bundles refused; the loaded ones stayed in force.",
            )?,
            certificate_expiry: Gauge::new(
                "pinnace_proxy_certificate_expiry_timestamp_seconds",
                "When the certificate in use ends, in seconds since the epoch.",
            )?,
            rules_loaded: counter(
                "pinnace_proxy_destination_rule_tls_loaded_total",
                "TLS settings of DestinationRules put in force, with the files that they name.",
            )?,
            rules_refused: counter(
                "pinnace_proxy_destination_rule_tls_refused_total",
                "Files of DestinationRules that cannot be used; those loaded before stayed in force.",
            )?,
            key_waits: counters(
                "pinnace_proxy_key_waits_total",
                "Requests whose token named a key that was not known; \"full\" are those that did not wait because too many did.",
                &["result"],
            )?,
            waiting_for_keys: IntGauge::new(
                "pinnace_proxy_requests_waiting_for_keys",
                "Requests that wait for a key of their token now.",
            )?,
            open: IntGauge::new("pinnace_proxy_connections_open", "Connections open now.")?,
            configuration_age: Gauge::new(
                "pinnace_proxy_configuration_age_seconds",
                "How long ago the control plane last stood behind the configuration in force; 0 while it does.",
            )?,
        };
        registry.register(Box::new(metrics.certificate_expiry.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.waiting_for_keys.clone()))?;
        registry.register(Box::new(metrics.configuration_age.clone()))?;
        Ok(metrics)
    }

    /// Counts a request by the status that answered it.
    pub fn request(&self, direction: Direction, status: StatusCode) {
        let direction = match direction {
            Direction::Inbound => 0,
            Direction::Outbound => 1,
        };
        // A status is 100 to 999; what no class has counts as the proxy's failure to understand it.
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[direction][class].inc();
    }
}
