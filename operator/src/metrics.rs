//! The operator's own metrics, as /metrics shows them. Names say the unit; durations are seconds.

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Every metric of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciliations that ended, by controller.
    pub reconciles: IntCounterVec,
    /// Reconciliations that failed, by controller.
    pub reconcile_errors: IntCounterVec,
    /// How long reconciliations took, by controller.
    pub reconcile_seconds: HistogramVec,
    /// Objects that wait for reconciliation, by controller.
    pub queue_depth: IntGaugeVec,
    /// Certificates issued for the first time, by kind (workload, webhook, discovery).
    pub certificates_issued: IntCounterVec,
    /// Certificates replaced before their end, by kind.
    pub certificates_rotated: IntCounterVec,
    /// Certificates that could not be issued or written, by kind.
    pub certificates_failed: IntCounterVec,
    /// Secrets that have a certificate's name but another owner.
    pub foreign_secrets: IntGauge,
    /// Seconds until the first of all workload certificates ends.
    pub nearest_expiry: Gauge,
    /// Whether the certificate authority's Secret can be used as it stands.
    pub ca_usable: IntGauge,
    /// When the authority or one above it ends, seconds since the epoch; 0 before it is loaded.
    pub ca_expiry: Gauge,
    /// Whether this replica holds the lease.
    pub leader: IntGauge,
    /// Objects that could not be decoded, by kind.
    pub undecodable: IntCounterVec,
    /// Watches that failed and were started again, by kind.
    pub watch_errors: IntCounterVec,
    /// Whether the meshConfig in the ConfigMap can be used as it stands.
    pub mesh_config_usable: IntGauge,
    /// Fields of the meshConfig in force that nothing reads.
    pub mesh_config_ignored: IntGauge,
    /// Pods whose kubelet was nudged to read a new certificate, by result.
    pub nudges: IntCounterVec,
    /// Discovery streams that are open.
    pub streams: IntGauge,
    /// Discovery connections and streams refused, by reason.
    pub streams_refused: IntCounterVec,
    /// Discovery responses sent, by resource type.
    pub pushes: IntCounterVec,
    /// Discovery responses that a proxy rejected, by resource type.
    pub rejections: IntCounterVec,
    /// Resources compiled for discovery, by resource type.
    pub compiled: IntCounterVec,
    /// How long a change waited from the API server's event until it was published to the streams.
    pub publish_seconds: Histogram,
    /// Reports of sidecars, by what became of them.
    pub reports: IntCounterVec,
    /// What reports counted, by kind; at the lease holder.
    pub reported: IntCounterVec,
    /// What reports tell of for which there was no room.
    pub reports_dropped: IntCounter,
    /// Rows of the ledger of the last hour.
    pub ledger_rows: IntGauge,
    /// Sidecars that reported in the last hour.
    pub ledger_reporters: IntGauge,
    /// Namespaces labelled `policy.pinnace.dev/strict=when-ready`, by where they stand.
    pub when_ready: IntGaugeVec,
    /// Fetches of key sets, by result.
    pub jwks_fetches: IntCounterVec,
    /// Askings of sidecars for key sets, by result.
    pub jwks_askings: IntCounterVec,
    /// Key sets that rules name and that are not known.
    pub jwks_missing: IntGauge,
    /// When the oldest of the fetched key sets in force was fetched, in seconds since the epoch; infinite without any.
    pub jwks_oldest: Gauge,
}

/// Buckets for durations from a millisecond to ten seconds.
const DURATIONS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The controllers, the results of fetches, and the kinds of certificates, that are counted.
const CONTROLLERS: [&str; 5] = [
    "identity",
    "webhook-certificate",
    "ca-bundle",
    "policy-status",
    "strict-when-ready",
];
const FETCHES: [&str; 3] = ["success", "failure", "refused"];
const ASKINGS: [&str; 3] = ["fetched", "failed", "refused"];
const CERTIFICATES: [&str; 3] = ["workload", "webhook", "discovery"];

/// What becomes of reports, and what they tell of.
const REPORTS: [&str; 4] = ["entered", "passed_on", "refused", "failed"];
const REPORTED: [&str; 3] = ["denied", "would_deny", "plaintext"];

impl Metrics {
    /// Makes and registers all metrics.
    ///
    /// # Panics
    /// Never: names and labels are constants that a test goes through.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, label: &str| {
            let metric = IntCounterVec::new(Opts::new(name, help), &[label]).expect("a constant name");
            registry.register(Box::new(metric.clone())).expect("a unique name");
            metric
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help).expect("a constant name");
            registry.register(Box::new(metric.clone())).expect("a unique name");
            metric
        };
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("pinnace_reconcile_duration_seconds", "How long reconciliations took.")
                .buckets(DURATIONS.to_vec()),
            &["controller"],
        )
        .expect("a constant name");
        let publish_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "pinnace_discovery_publish_delay_seconds",
                "How long a change waited until it was published to the streams.",
            )
            .buckets(DURATIONS.to_vec()),
        )
        .expect("a constant name");
        let queue_depth = IntGaugeVec::new(
            Opts::new("pinnace_reconcile_queue_depth", "Objects that wait for reconciliation."),
            &["controller"],
        )
        .expect("a constant name");
        let ca_expiry = Gauge::new(
            "pinnace_ca_expiry_timestamp_seconds",
            "When the first certificate from the certificate authority in force up to its root ends.",
        )
        .expect("a constant name");
        registry.register(Box::new(ca_expiry.clone())).expect("a unique name");
        let nearest_expiry = Gauge::new(
            "pinnace_certificate_nearest_expiry_seconds",
            "Seconds until the first of all workload certificates ends.",
        )
        .expect("a constant name");
        registry
            .register(Box::new(reconcile_seconds.clone()))
            .expect("a unique name");
        registry
            .register(Box::new(publish_seconds.clone()))
            .expect("a unique name");
        registry.register(Box::new(queue_depth.clone())).expect("a unique name");
        registry
            .register(Box::new(nearest_expiry.clone()))
            .expect("a unique name");
        let build = IntGaugeVec::new(Opts::new("istio_build", "What runs here."), &["component", "tag"])
            .expect("a constant name");
        registry.register(Box::new(build.clone())).expect("a unique name");
        build.with_label_values(&["operator", env!("CARGO_PKG_VERSION")]).set(1);
        let jwks_oldest = Gauge::new(
            "pinnace_jwks_oldest_timestamp_seconds",
            "When the oldest of the fetched key sets in force was fetched.",
        )
        .expect("a constant name");
        jwks_oldest.set(f64::INFINITY);
        registry.register(Box::new(jwks_oldest.clone())).expect("a unique name");
        let reports_dropped = IntCounter::new(
            "pinnace_reports_dropped_total",
            "What sidecars saw for which there was no room, in their reports or here.",
        )
        .expect("a constant name");
        registry
            .register(Box::new(reports_dropped.clone()))
            .expect("a unique name");
        let when_ready = IntGaugeVec::new(
            Opts::new(
                "pinnace_strict_when_ready_namespaces",
                "Namespaces that turn STRICT once nobody calls them in the clear.",
            ),
            &["state"],
        )
        .expect("a constant name");
        registry.register(Box::new(when_ready.clone())).expect("a unique name");
        let metrics = Self {
            reconciles: counters("pinnace_reconcile_total", "Reconciliations that ended.", "controller"),
            reconcile_errors: counters(
                "pinnace_reconcile_errors_total",
                "Reconciliations that failed.",
                "controller",
            ),
            reconcile_seconds,
            queue_depth,
            certificates_issued: counters(
                "pinnace_certificates_issued_total",
                "Certificates issued for the first time.",
                "kind",
            ),
            certificates_rotated: counters(
                "pinnace_certificates_rotated_total",
                "Certificates replaced by a new one.",
                "kind",
            ),
            certificates_failed: counters(
                "pinnace_certificates_failed_total",
                "Certificates that could not be issued or written.",
                "kind",
            ),
            foreign_secrets: gauge(
                "pinnace_foreign_secrets",
                "Secrets that have a certificate's name but another owner.",
            ),
            nearest_expiry,
            ca_expiry,
            ca_usable: gauge(
                "pinnace_ca_usable",
                "Whether the certificate authority's Secret can be used.",
            ),
            leader: gauge("pinnace_leader", "Whether this replica holds the lease."),
            undecodable: counters(
                "pinnace_undecodable_objects_total",
                "Objects that could not be decoded.",
                "kind",
            ),
            watch_errors: counters(
                "pinnace_watch_errors_total",
                "Watches that failed and were started again.",
                "kind",
            ),
            mesh_config_usable: gauge("pinnace_mesh_config_usable", "Whether the meshConfig can be used."),
            mesh_config_ignored: gauge(
                "pinnace_mesh_config_ignored_fields",
                "Fields of the meshConfig in force that nothing reads; the log names them.",
            ),
            nudges: counters(
                "pinnace_certificate_nudges_total",
                "Pods whose kubelet was told of a new certificate.",
                "result",
            ),
            streams: gauge("pinnace_discovery_streams", "Discovery streams that are open."),
            streams_refused: counters(
                "pinnace_discovery_refused_total",
                "Discovery connections and streams refused.",
                "reason",
            ),
            pushes: counters("pinnace_discovery_pushes_total", "Discovery responses sent.", "type"),
            rejections: counters(
                "pinnace_discovery_rejections_total",
                "Responses that a proxy rejected.",
                "type",
            ),
            compiled: counters(
                "pinnace_discovery_compiled_total",
                "Resources compiled for discovery.",
                "type",
            ),
            publish_seconds,
            reports: counters(
                "pinnace_reports_total",
                "Reports of sidecars: entered here, passed on to the holder of the lease, refused, or failed and sent again.",
                "result",
            ),
            reported: counters(
                "pinnace_reported_total",
                "Denials, would-be denials and connections in the clear that sidecars told of.",
                "kind",
            ),
            reports_dropped,
            ledger_rows: gauge("pinnace_ledger_rows", "Rows of what was reported in the last hour."),
            ledger_reporters: gauge("pinnace_ledger_sidecars", "Sidecars that reported in the last hour."),
            when_ready,
            jwks_fetches: counters(
                "pinnace_jwks_fetches_total",
                "Fetches of key sets for RequestAuthentications; \"refused\" are those whose address may not be asked.",
                "result",
            ),
            jwks_askings: counters(
                "pinnace_jwks_askings_total",
                "Askings of sidecars for key sets, because of a token with an unknown key; \"refused\" are those for key sets that no rule of their pod names.",
                "result",
            ),
            jwks_missing: gauge(
                "pinnace_jwks_missing",
                "Key sets that rules name and that are not known: their issuers' tokens are refused.",
            ),
            jwks_oldest,
            registry,
        };
        // Counters that rates and alerts are made of are there from the start.
        for controller in CONTROLLERS {
            metrics.reconciles.with_label_values(&[controller]);
            metrics.reconcile_errors.with_label_values(&[controller]);
        }
        for kind in CERTIFICATES {
            metrics.certificates_issued.with_label_values(&[kind]);
            metrics.certificates_rotated.with_label_values(&[kind]);
            metrics.certificates_failed.with_label_values(&[kind]);
        }
        for result in FETCHES {
            metrics.jwks_fetches.with_label_values(&[result]);
        }
        for result in REPORTS {
            metrics.reports.with_label_values(&[result]);
        }
        for kind in REPORTED {
            metrics.reported.with_label_values(&[kind]);
        }
        for result in ASKINGS {
            metrics.jwks_askings.with_label_values(&[result]);
        }
        for kind in mesh_wire::resources::type_url::ALL.map(short) {
            metrics.pushes.with_label_values(&[kind]);
            metrics.rejections.with_label_values(&[kind]);
        }
        metrics
    }

    /// The page in Prometheus' text format, with the media type.
    #[must_use]
    pub fn render(&self) -> (String, String) {
        let encoder = TextEncoder::new();
        let mut page = Vec::new();
        // Encoding into memory fails only for metrics that are malformed, which a test excludes.
        let _ = encoder.encode(&self.registry.gather(), &mut page);
        (
            encoder.format_type().to_owned(),
            String::from_utf8_lossy(&page).into_owned(),
        )
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A resource type's name without its URL, as it stands in labels and logs.
#[must_use]
pub fn short(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}

/// Counts an open stream for as long as it lives.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
    /// Adds one to `gauge` until this is dropped.
    #[must_use]
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A counter of one label value, for code that counts often.
#[must_use]
pub fn labelled(counters: &IntCounterVec, label: &str) -> IntCounter {
    counters.with_label_values(&[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_metric_that_has_a_value() {
        let metrics = Metrics::new();
        metrics.reconciles.with_label_values(&["identity"]).inc();
        let open = Open::new(&metrics.streams);
        let (media_type, page) = metrics.render();
        assert!(media_type.starts_with("text/plain"));
        assert!(
            page.contains("pinnace_reconcile_total{controller=\"identity\"} 1"),
            "{page}"
        );
        assert!(page.contains("pinnace_discovery_streams 1"), "{page}");
        drop(open);
        assert_eq!(metrics.streams.get(), 0);
    }
}
