//! What a worker's connections share: handles to configuration, the worker's own pools, counters. A worker is one thread
//! with a runtime of its own; nothing here is waited for.

use crate::admin::Phase;
use crate::discovery::Mesh;
use crate::http::pool::Pool;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::refusals::{Reason, Refusals};
use std::net::SocketAddr;
use tokio::sync::watch;

/// A worker's context.
pub struct Worker {
    /// What the operator says.
    pub mesh: Mesh,
    /// The certificate in use.
    pub identity: Identity,
    /// Connections to other pods.
    pub upstreams: Pool,
    /// Connections to the pod's own application.
    pub application: Pool,
    /// Counters.
    pub metrics: Metrics,
    /// Why connections were refused.
    pub refusals: Refusals,
    /// Whether the proxy serves or ends.
    pub phase: watch::Receiver<Phase>,
    /// The ports that the redirect rules lead to: a connection that was dialled there was not captured.
    pub own_ports: [u16; 2],
}

impl Worker {
    /// Refuses a connection: counts, logs and remembers why.
    pub fn refuse(&self, reason: Reason, peer: SocketAddr, destination: Option<SocketAddr>, detail: impl Into<String>) {
        self.refusals.note(reason, peer, destination, detail.into());
    }
}
