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
