//! Why connections were refused: counted, logged at a bounded rate, and the last ones kept for whoever asks.

use crate::metrics::Metrics;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// How many refusals are kept.
const KEPT: usize = 256;

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No redirect rule brought it here.
    NotCaptured,
    /// Nothing from the operator yet.
    NoPolicy,
    /// No certificate yet.
    NoCertificate,
    /// Plaintext where PeerAuthentication says STRICT.
    Plaintext,
    /// The handshake with a client failed.
    ClientHandshake,
    /// The handshake with a server failed, or the server is not one of the destination's.
    ServerHandshake,
    /// Nothing is known of the destination and `outboundTrafficPolicy` is REGISTRY_ONLY.
    Unknown,
    /// Nothing is known of the destination and the operator cannot be asked.
    Unavailable,
    /// A DestinationRule asks for what cannot be had: a file is missing or damaged, or a Secret would have to be read.
    DestinationRule,
    /// None of the destination's routes takes the request.
    NoRoute,
    /// The route leads to a host or subset that the mesh does not know.
    NoCluster,
    /// The destination has no endpoint.
    NoEndpoint,
    /// The endpoint or the application could not be reached.
    Unreachable,
    /// What a client sent is no HTTP, or could be taken for more than one thing.
    Malformed,
    /// Too many connections.
    Limit,
}

impl Reason {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotCaptured => "not_captured",
            Self::NoPolicy => "no_policy",
            Self::NoCertificate => "no_certificate",
            Self::Plaintext => "plaintext_under_strict",
            Self::ClientHandshake => "client_handshake",
            Self::ServerHandshake => "server_handshake",
            Self::Unknown => "unknown_destination",
            Self::Unavailable => "control_plane_unavailable",
            Self::DestinationRule => "destination_rule",
            Self::NoRoute => "no_route",
            Self::NoCluster => "no_cluster",
            Self::NoEndpoint => "no_endpoint",
            Self::Unreachable => "unreachable",
            Self::Malformed => "malformed_http",
            Self::Limit => "connection_limit",
        }
    }

    /// Istio's response flag for it.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Unknown | Self::NoRoute => "NR",
            Self::NoEndpoint => "UH",
            Self::Unavailable | Self::NoCluster => "NC",
            Self::Unreachable | Self::ServerHandshake | Self::NoCertificate | Self::DestinationRule => "UF",
            Self::Malformed => "DPE",
            _ => "-",
        }
    }
}

/// One refusal.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: Reason,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The address that it dialled, where that is known.
    pub destination: Option<SocketAddr>,
    /// What exactly, e.g. the policy or the TLS error; never key material.
    pub detail: String,
}

/// The last refusals of the proxy; cheap to clone.
#[derive(Clone)]
pub struct Refusals {
    last: Arc<Mutex<Ring>>,
    metrics: Metrics,
}

#[derive(Default)]
struct Ring {
    kept: VecDeque<Refusal>,
    logged_in: Option<(u64, u32)>,
}

/// How many refusals are logged in one second.
const LOGGED_PER_SECOND: u32 = 10;

impl Refusals {
    /// None yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            last: Arc::default(),
            metrics,
        }
    }

    /// Takes note of one.
    pub fn note(&self, reason: Reason, peer: SocketAddr, destination: Option<SocketAddr>, detail: String) {
        self.metrics.refused.with_label_values(&[reason.as_str()]).inc();
        let at = SystemTime::now();
        let second = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut ring = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let logged = match ring.logged_in {
            Some((then, n)) if then == second => n,
            _ => 0,
        };
        if logged < LOGGED_PER_SECOND {
            let destination = destination.map(|address| address.to_string()).unwrap_or_default();
            tracing::warn!(reason = reason.as_str(), %peer, destination, detail, "connection refused");
        }
        ring.logged_in = Some((second, logged.saturating_add(1)));
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(Refusal {
            at,
            reason,
            peer,
            destination,
            detail,
        });
    }

    /// The last refusals, oldest first.
    #[must_use]
    pub fn last(&self) -> Vec<Refusal> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kept
            .iter()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    const PAGE: &str = include_str!("../../docs/denials.md");

    fn explained(what: &str) {
        assert!(
            PAGE.contains(&format!("`{what}`")),
            "docs/denials.md does not explain {what:?}"
        );
    }

    /// The texts of a source's arms: `Self::Reason => "text"`.
    fn arms(source: &str) -> Vec<&str> {
        let arms = source.lines().filter(|line| line.contains("=> \""));
        arms.filter_map(|line| line.split('"').nth(1)).collect()
    }

    #[test]
    fn every_reason_is_explained() {
        let source = include_str!("refusals.rs").split("pub fn flag").next().unwrap();
        let reasons = arms(source);
        assert!(reasons.len() >= 13, "one for each reason: {reasons:?}");
        reasons.into_iter().for_each(explained);
    }

    #[test]
    fn every_detail_is_explained() {
        let details = include_str!("telemetry/request.rs")
            .split("fn details(")
            .nth(1)
            .unwrap();
        let details = details.split("\n}\n").next().unwrap();
        let details: Vec<&str> = arms(details).into_iter().filter(|detail| !detail.is_empty()).collect();
        assert!(details.len() >= 4, "{details:?}");
        details.into_iter().for_each(explained);
        let custom = include_str!("inbound/custom.rs").lines();
        let custom: Vec<&str> = custom.filter(|line| line.contains(": &str = \"ext_authz_")).collect();
        assert_eq!(custom.len(), 2, "{custom:?}");
        custom
            .iter()
            .filter_map(|line| line.split('"').nth(1))
            .for_each(explained);
        let mut said = Vec::new();
        literals(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut said);
        assert!(said.len() >= 3, "{said:?}");
        said.iter().for_each(|detail| explained(detail));
    }

    /// The texts with which the sources below a folder say what became of a request.
    fn literals(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                literals(&path, found);
            } else if let Ok(text) = fs::read_to_string(&path) {
                for told in [".denied(\"", ".timed_out(\"", ".answered(cluster, \""] {
                    let texts = text.split(told).skip(1);
                    let texts = texts.filter_map(|rest| rest.split('"').next());
                    found.extend(texts.filter(|text| text.contains('_')).map(str::to_owned));
                }
            }
        }
    }
}
