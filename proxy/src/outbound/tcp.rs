//! Opaque bytes from the application: to the destination behind the address that was dialled, or as dialled where the mesh
//! knows none.

use super::connect::{Carries, connect};
use super::connection::{Dialled, Facts};
use super::endpoint;
use crate::http::pool::Lease;
use crate::net::stream::Stream;
use crate::net::{dial, relay};
use crate::refusals::Reason;
use crate::worker::Worker;

/// How many endpoints are tried before the client's connection is closed.
const ATTEMPTS: usize = 3;

/// Connects and relays until both ends have closed; without a server the client is reset.
pub async fn relay(worker: &Worker, mut client: Stream, facts: Facts) {
    match open(worker, &facts).await {
        // The lease counts the connection as under way until it ends.
        Some((mut server, _lease)) => relay::join(&mut client, &mut server).await,
        None => client.reset(),
    }
}

/// Opens the server's side; where that fails the refusal is noted.
pub async fn open(worker: &Worker, facts: &Facts) -> Option<(Stream, Option<Lease>)> {
    let refuse = |reason: Reason, detail: String| worker.refuse(reason, facts.peer, Some(facts.address), detail);
    let count = |security: &str| {
        worker
            .metrics
            .connections
            .with_label_values(&["outbound", security])
            .inc()
    };
    let destination = match &facts.dialled {
        Dialled::Known(destination) => destination,
        Dialled::Outside if worker.mesh.workload().allow_any => {
            return match dial::upstream(facts.address).await {
                Ok(stream) => {
                    count("none");
                    Some((Stream::Plain(stream), None))
                }
                Err(error) => {
                    refuse(Reason::Unreachable, error.to_string());
                    None
                }
            };
        }
        Dialled::Outside => {
            refuse(Reason::Unknown, "outboundTrafficPolicy.mode is REGISTRY_ONLY".into());
            return None;
        }
        Dialled::Unavailable => {
            refuse(
                Reason::Unavailable,
                "the operator cannot be asked about this address".into(),
            );
            return None;
        }
    };
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS {
        let Some(at) = endpoint::choose(destination, facts.address, &tried, &worker.upstreams) else {
            break;
        };
        let Some(chosen) = destination.endpoints.get(at) else {
            break;
        };
        let lease = worker.upstreams.lease(endpoint::key(chosen), |_| false);
        match connect(worker, destination, chosen, Carries::Opaque).await {
            Ok(connected) => {
                count(if chosen.mutual_tls { "mutual_tls" } else { "none" });
                return Some((connected.stream, Some(lease)));
            }
            Err(error) => refuse(
                error.reason(),
                format!("{}: {}: {error}", destination.cluster_name(), chosen.address),
            ),
        }
        tried.push(at);
        if tried.len() == destination.endpoints.len() {
            break;
        }
    }
    if tried.is_empty() {
        refuse(
            Reason::NoEndpoint,
            format!("{} has no endpoint for it", destination.cluster_name()),
        );
    }
    None
}
