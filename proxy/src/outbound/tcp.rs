//! Opaque bytes from the application: to the destination behind the address that was dialled, or as dialled where the mesh
//! knows none.

use super::connect::{Carries, connect};
use super::connection::{Dialled, Facts};
use super::secured::Secured;
use crate::cluster::{Asked, Cluster, Use};
use crate::net::stream::Stream;
use crate::net::{dial, relay};
use crate::refusals::Reason;
use crate::resolve::{Towards, concrete};
use crate::telemetry::{Connection, Outside, Way};
use crate::worker::Worker;
use mesh_core::balance::Outcome;
use mesh_core::routing::choose;
use std::sync::Arc;

/// How many endpoints are tried before the client's connection is closed.
const ATTEMPTS: usize = 3;

/// Connects and relays until both ends have closed; without a server the client is reset.
pub async fn relay(worker: &Worker, mut client: Stream, facts: Facts) {
    let mut record = record(worker, &facts);
    match open(worker, &facts, &mut record).await {
        Some((mut server, _under_way)) => {
            record.opened();
            relay::join(&mut client, &mut server, &mut record).await;
        }
        None => client.reset(),
    }
}

/// The record of an opaque connection.
#[must_use]
pub fn record(worker: &Worker, facts: &Facts) -> Connection {
    let mut record = Connection::begin(&worker.telemetry, Way::Out, facts.peer, facts.address);
    record.asks_for(facts.server_name.as_ref());
    record
}

/// Where a connection goes.
enum Goes<'a> {
    /// To a destination: the one that was dialled, or where its routes lead.
    To(&'a Arc<Cluster>),
    /// Nowhere: the routes of this one lead to what is not known.
    Nowhere(&'a Arc<Cluster>),
    /// As dialled, where that is allowed.
    Outside,
    /// The operator could not be asked.
    Unavailable,
}

/// Where a connection goes by the routes of the destination that was dialled.
fn goes(facts: &Facts) -> Goes<'_> {
    let cluster = match &facts.dialled {
        Dialled::Known(cluster) => cluster,
        Dialled::Outside => return Goes::Outside,
        Dialled::Unavailable { .. } => return Goes::Unavailable,
    };
    let Some(routes) = &cluster.routes else {
        return Goes::To(cluster);
    };
    let name = facts.server_name.as_deref();
    let by_name = name.and_then(|name| routes.tls(name, facts.address.ip()));
    let to = match by_name {
        Some(route) => Some(&route.to),
        None => routes.tcp(facts.peer.ip(), facts.address.ip()).map(|route| &route.to),
    };
    match to {
        Some(to) => {
            let led = choose(to, rand::random()).and_then(|one| cluster.led_to(one.target));
            led.map_or(Goes::Nowhere(cluster), Goes::To)
        }
        // A name that none of the routes has is none of the destination's.
        None if name.is_some() && !routes.tls.is_empty() => Goes::Outside,
        None => Goes::To(cluster),
    }
}

/// Opens the server's side, and counts it as under way; where that fails the refusal is noted.
pub async fn open(worker: &Worker, facts: &Facts, record: &mut Connection) -> Option<(Stream, Option<Use>)> {
    let refuse = |record: &mut Connection, reason: Reason, detail: String| {
        record.failed(reason, &detail);
        worker.refuse(reason, facts.peer, Some(facts.address), detail);
    };
    let count = |security: &str| {
        worker
            .metrics
            .connections
            .with_label_values(&["outbound", security])
            .inc()
    };
    let destination = match goes(facts) {
        Goes::To(destination) => destination,
        Goes::Nowhere(called) => {
            record.to_destination(called);
            refuse(
                record,
                Reason::NoCluster,
                format!("{}: the route leads to what is not known", called.cluster_name()),
            );
            return None;
        }
        Goes::Outside if worker.mesh.workload().allow_any => {
            record.to_outside(Outside::Passthrough, Some(facts.address));
            return match dial::upstream(facts.address).await {
                Ok(stream) => {
                    record.reached(stream.local_addr().ok());
                    count("none");
                    Some((Stream::Plain(stream), None))
                }
                Err(error) => {
                    refuse(record, Reason::Unreachable, error.to_string());
                    None
                }
            };
        }
        Goes::Outside => {
            record.to_outside(Outside::BlackHole, None);
            refuse(
                record,
                Reason::Unknown,
                "outboundTrafficPolicy.mode is REGISTRY_ONLY".into(),
            );
            return None;
        }
        Goes::Unavailable => {
            record.to_outside(Outside::Unavailable, None);
            refuse(
                record,
                Reason::Unavailable,
                "the operator cannot be asked about this address".into(),
            );
            return None;
        }
    };
    record.to_destination(destination);
    let found;
    let destination = if destination.is_concrete() {
        destination
    } else {
        let towards = Towards {
            dialled: facts.address,
            host: facts.server_name.as_deref(),
        };
        // Boxed: few connections wait for names.
        found = Box::pin(concrete(&worker.mesh, &worker.names, destination, towards)).await;
        &found
    };
    let called = facts.server_name.as_deref().unwrap_or(&destination.host);
    let secured = match Secured::prepare(worker, destination, called).await {
        Ok(secured) => secured,
        Err(error) => {
            let detail = format!("{}: {error}", destination.cluster_name());
            refuse(record, error.reason(), detail);
            return None;
        }
    };
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS {
        let asked = Asked {
            hash: None,
            dialled: facts.address,
            tried: &tried,
            elsewhere: false,
        };
        let Some(at) = destination.choose(&asked) else {
            break;
        };
        let Some(chosen) = destination.endpoints.get(at) else {
            break;
        };
        let under_way = destination.begin(at);
        let connected = connect(worker, destination, &secured, chosen, Carries::Opaque).await;
        record.to_endpoint(destination, chosen);
        match connected {
            Ok(connected) => {
                record.reached(connected.stream.local_addr());
                count(secured.label(destination, chosen));
                destination.report(at, Outcome::Connected);
                return Some((connected.stream, under_way));
            }
            Err(error) => refuse(
                record,
                error.reason(),
                format!("{}: {}: {error}", destination.cluster_name(), chosen.address),
            ),
        }
        destination.report(at, Outcome::NotConnected);
        tried.push(at);
        if tried.len() == destination.endpoints.len() {
            break;
        }
    }
    if tried.is_empty() {
        refuse(
            record,
            Reason::NoEndpoint,
            format!("{} has no endpoint for it", destination.cluster_name()),
        );
    }
    None
}
