//! What the administration servers may see and set off: views of the running proxy, never its connections or keys.

use std::sync::Arc;
use std::time::SystemTime;

use mesh_wire::admin::{Clusters, Denials, DiscoveryState, Listeners, Policies};
use serde::Serialize;
use tokio::sync::watch;

use super::logging::LogControl;

/// Where the proxy stands between start and exit; it only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Connections are taken.
    Serving,
    /// `POST /drain` or SIGTERM: open connections end in order, the pod is no longer ready.
    Draining,
    /// `POST /quitquitquit`: the process exits with status 0 once what is open has ended or the drain time is over.
    Quitting,
}

/// What must be there before the pod may take traffic. The application's own readiness is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Readiness {
    /// A certificate of the workload is loaded.
    pub certificate: bool,
    /// The first configuration from the operator (or a snapshot of it) is in force.
    pub configuration: bool,
}

impl Readiness {
    /// What is still missing, in the words of `/healthz/ready`; empty when the proxy is ready.
    pub fn missing(self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.certificate {
            missing.push("no certificate is loaded yet");
        }
        if !self.configuration {
            missing.push("no configuration has been received yet");
        }
        missing
    }
}

/// One loaded certificate or trusted root, as `/certs` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// What it is for.
    pub kind: CertificateKind,
    /// SPIFFE ID of a leaf (`spiffe://TD/ns/NS/sa/SA`), the subject of a root.
    pub identity: String,
    /// Serial number, lower-case hex without separators.
    pub serial: String,
    /// Start of validity.
    #[serde(serialize_with = "rfc3339")]
    pub not_before: SystemTime,
    /// End of validity.
    #[serde(serialize_with = "rfc3339")]
    pub not_after: SystemTime,
    /// The file that it was read from, or the name of the source.
    pub source: String,
}

/// The role of a [`Certificate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateKind {
    /// The workload's own certificate.
    Leaf,
    /// An intermediate that is sent with the leaf.
    Intermediate,
    /// A root that peers are verified against.
    Root,
}

/// What the rest of the proxy shows to the administration servers. Every call answers at once from memory.
pub trait View: Send + Sync + 'static {
    /// Whether the proxy may take traffic.
    fn readiness(&self) -> Readiness;
    /// The certificates in use, for `/certs`.
    fn certificates(&self) -> Vec<Certificate>;
    /// Appends what is not in the registry to the metrics' page, in Prometheus' text format.
    fn metrics(&self, _page: &mut String) {}
    /// The configuration in force, for `/config_dump`; no private key may be in it.
    fn config_dump(&self) -> serde_json::Value;
    /// The trust domain that is the mesh's own, and those that count as it; none before the first certificate.
    fn trust_domains(&self) -> Vec<String>;
    /// Where connections may go, for `/clusters`: what comes after the cluster named `after`, at most `limit`.
    fn clusters(&self, after: Option<&str>, limit: usize) -> Clusters;
    /// What connections are taken for, for `/listeners`.
    fn listeners(&self) -> Listeners;
    /// The policies in force and what decided them, for `/policies`.
    fn policies(&self) -> Policies;
    /// What policies denied lately, for `/denials`.
    fn denials(&self) -> Denials {
        Denials::default()
    }
    /// How the proxy stands with the control plane, for `/discovery`.
    fn discovery(&self) -> DiscoveryState;
}

/// Everything the administration servers need of the proxy.
#[derive(Clone)]
pub struct Handles {
    /// What they show.
    pub view: Arc<dyn View>,
    /// What they set off: `/drain` and `/quitquitquit` move the phase forward, `sidecar` watches it.
    pub phase: watch::Sender<Phase>,
    /// The metrics shown on `/stats/prometheus`.
    pub registry: prometheus::Registry,
    /// The log level, for `/logging`.
    pub log: LogControl,
}

impl Handles {
    /// Moves the phase forward to `to`; a phase already reached stays. Says whether anything changed.
    pub fn advance(&self, to: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let moves = *phase < to;
            if moves {
                *phase = to;
            }
            moves
        })
    }
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_rfc3339(*time))
}

/// `2026-08-01T12:00:00Z`, by the civil-from-days computation; times before 1970 show as 1970.
pub(super) fn format_rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years (146,097 days), so that the leap day ends a year.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3_600,
        rest % 3_600 / 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_shown_in_rfc3339() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                format_rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
                shown
            );
        }
    }

    #[test]
    fn the_phase_only_moves_forward() {
        struct Nothing;
        impl View for Nothing {
            fn readiness(&self) -> Readiness {
                Readiness::default()
            }
            fn certificates(&self) -> Vec<Certificate> {
                Vec::new()
            }
            fn config_dump(&self) -> serde_json::Value {
                serde_json::Value::Null
            }
            fn trust_domains(&self) -> Vec<String> {
                Vec::new()
            }
            fn clusters(&self, _: Option<&str>, _: usize) -> Clusters {
                Clusters::default()
            }
            fn listeners(&self) -> Listeners {
                Listeners::default()
            }
            fn policies(&self) -> Policies {
                Policies::default()
            }
            fn discovery(&self) -> DiscoveryState {
                DiscoveryState::default()
            }
        }
        let handles = Handles {
            view: Arc::new(Nothing),
            phase: watch::Sender::new(Phase::Serving),
            registry: prometheus::Registry::new(),
            log: LogControl::fixed("info"),
        };
        assert!(handles.advance(Phase::Quitting));
        assert!(!handles.advance(Phase::Draining));
        assert_eq!(*handles.phase.borrow(), Phase::Quitting);
    }
}
