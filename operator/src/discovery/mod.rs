//! The discovery server on 15012. A connection passes [`accept`] (mutual TLS with the mesh's certificates, which says
//! who calls), a stream passes [`service`] (is the pod that it speaks for one of the caller's?) and lives in [`stream`]
//! (what it subscribed to, what it was sent; [`key_refresh`]: what it asked to have fetched), and [`streams`] remembers for
//! the debug pages. Reports come over the same connections ([`crate::reports`]). [`credentials`] keeps the server's own
//! certificate fresh.

pub mod accept;
pub mod credentials;
mod key_refresh;
pub mod service;
mod stream;
pub mod streams;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use credentials::Current;
use service::Discovery;

use crate::reports::Reports;

/// Connections that are through their handshake and wait for the server.
const WAITING_CONNECTIONS: usize = 64;

/// HTTP/2 streams of one connection: one for discovery, and some to spare.
const STREAMS_PER_CONNECTION: u32 = 8;

/// How often a silent connection is asked for a sign of life, and how long it may take to give it.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves discovery until its `stop` turns true.
pub async fn serve(
    listener: TcpListener,
    current: Current,
    discovery: Discovery,
    reports: Reports,
    listening: Arc<AtomicBool>,
) {
    let (ready, connections) = mpsc::channel(WAITING_CONNECTIONS);
    tokio::spawn(accept::run(listener, current, ready, discovery.metrics.clone()));
    listening.store(true, Ordering::Relaxed);
    let stop = discovery.stop.clone();
    let service = AggregatedDiscoveryServiceServer::new(discovery);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .add_service(service)
        .add_service(reports)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stopped(stop))
        .await;
    if let Err(error) = served {
        warn!(%error, "the discovery server ended");
    }
    listening.store(false, Ordering::Relaxed);
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone means that the process ends.
    let _ = stop.wait_for(|stop| *stop).await;
}
