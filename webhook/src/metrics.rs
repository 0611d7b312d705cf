//! The webhook's metrics. Injection has Istio's names; what Istio has no name for begins with `admission_` or `webhook_`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::state::State;

/// All metrics and the registry that holds them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reviews by path and outcome.
    pub requests: IntCounterVec,
    /// How long a review took, by path.
    pub duration: HistogramVec,
    /// Pods that reached `/inject`.
    pub injection_requests: IntCounter,
    /// Pods that got a sidecar.
    pub injection_success: IntCounter,
    /// Pods that were refused, by reason.
    pub injection_failure: IntCounterVec,
    /// Pods that were left as they are, by reason.
    pub injection_skip: IntCounterVec,
    /// Objects that were read and not accepted, so that the ones before stay in force.
    pub rejected_config: IntCounterVec,
    /// Connections whose TLS handshake failed.
    pub handshake_errors: IntCounter,
    certificate_expiry: IntGauge,
    ready: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When two metrics have one name.
    pub fn new() -> prometheus::Result<Self> {
        let buckets = vec![
            0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ];
        let duration = HistogramOpts::new("admission_duration_seconds", "How long a review took.").buckets(buckets);
        let labelled = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            registry: Registry::new(),
            requests: labelled(
                "admission_requests_total",
                "Reviews by path and outcome.",
                &["path", "outcome"],
            )?,
            duration: HistogramVec::new(duration, &["path"])?,
            injection_requests: IntCounter::new("sidecar_injection_requests_total", "Pods that reached /inject.")?,
            injection_success: IntCounter::new("sidecar_injection_success_total", "Pods that got a sidecar.")?,
            injection_failure: labelled(
                "sidecar_injection_failure_total",
                "Pods that were refused.",
                &["reason"],
            )?,
            injection_skip: labelled(
                "sidecar_injection_skip_total",
                "Pods that were left as they are.",
                &["reason"],
            )?,
            rejected_config: labelled(
                "webhook_rejected_config_total",
                "Objects that were read and not accepted; the ones before stay in force.",
                &["object"],
            )?,
            handshake_errors: IntCounter::new("webhook_tls_handshake_errors_total", "TLS handshakes that failed.")?,
            certificate_expiry: IntGauge::new(
                "webhook_certificate_expiry_seconds",
                "Seconds until the serving certificate ends; absent certificates count as ended.",
            )?,
            ready: IntGauge::new("webhook_ready", "Whether everything that serving needs was read.")?,
        };
        for collector in [
            Box::new(metrics.requests.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(metrics.duration.clone()),
            Box::new(metrics.injection_requests.clone()),
            Box::new(metrics.injection_success.clone()),
            Box::new(metrics.injection_failure.clone()),
            Box::new(metrics.injection_skip.clone()),
            Box::new(metrics.rejected_config.clone()),
            Box::new(metrics.handshake_errors.clone()),
            Box::new(metrics.certificate_expiry.clone()),
            Box::new(metrics.ready.clone()),
        ] {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// The page for Prometheus.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn page(&self, state: &Arc<State>) -> prometheus::Result<Vec<u8>> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.certificate_expiry.set(
            state
                .certificate
                .load()
                .as_ref()
                .map_or(0, |serving| serving.not_after - now),
        );
        self.ready.set(i64::from(state.missing().is_empty()));
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}
