//! A request to a destination of the mesh: to one of its endpoints, and to another one where that fails.

use super::connect::{Carries, connect};
use super::secured::Secured;
use crate::cluster::{Asked, Cluster};
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::upstream::{self, ConnectError, Connected, Failed, Server};
use crate::http::{exchange, headers};
use crate::refusals::Reason;
use crate::telemetry::Record;
use crate::worker::Worker;
use http::{Request, Response, StatusCode, Version};
use mesh_core::balance::Outcome;
use mesh_core::destination::{Destination, Endpoint, Resolution};
use mesh_core::identity::SpiffeId;
use std::net::SocketAddr;
use std::sync::Arc;

/// Istio's default: two retries, on failures before the request was sent and on connections that were closing.
pub const ATTEMPTS: usize = 3;

/// Who sends a request, and how its server is called.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// For whom it is sent.
    pub peer: SocketAddr,
    /// The address that was dialled, where the client chooses the endpoint itself.
    pub dialled: SocketAddr,
    /// The server's name, where the request's own host does not say it.
    pub name: Option<&'a str>,
}

/// Sends a request to a destination, and says what came of it. Where nobody answers, the answer is the proxy's own.
pub async fn to_destination(
    worker: &Worker,
    call: Call<'_>,
    destination: &Arc<Cluster>,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let generation = worker.identity.generation();
    // A pooled connection made under an earlier certificate is not used again, nor one whose server is not this
    // destination's (two destinations may share an endpoint).
    let fits = |peer: Option<&SpiffeId>, made_under: u64| {
        peer.is_none_or(|peer| made_under == generation && destination.accepts(peer))
    };
    let carries = match request.version() {
        Version::HTTP_2 => Carries::Http2,
        _ => Carries::Http1,
    };
    let host = || headers::host(request.uri(), request.headers()).unwrap_or(&destination.host);
    let secured = match Secured::prepare(worker, destination, call.name.unwrap_or_else(host)).await {
        Ok(secured) => secured,
        Err(error) => {
            let detail = format!("{}: {error}", destination.cluster_name());
            record.failed(error.reason(), &detail);
            worker.refuse(error.reason(), call.peer, Some(call.dialled), detail);
            return exchange::own(
                StatusCode::SERVICE_UNAVAILABLE,
                "the TLS settings of a DestinationRule cannot be followed; the sidecar's log says why",
            );
        }
    };
    let mut tried = Vec::new();
    let mut fresh = false;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            worker.metrics.retries.inc();
        }
        let asked = Asked {
            hash: None,
            dialled: call.dialled,
            tried: &tried,
            elsewhere: false,
        };
        let Some(at) = destination.choose(&asked) else {
            break;
        };
        let Some(chosen) = destination.endpoints.get(at) else {
            break;
        };
        record.to_endpoint(destination, chosen);
        let open = || open(worker, destination, &secured, chosen, carries);
        // After a pooled connection failed, the next try does not trust another one that may have closed with it.
        let server = Server {
            pools: &worker.upstreams,
            key: secured.key(destination, chosen),
            counted: destination.begin(at),
        };
        let result = upstream::try_once(server, request, record, fresh, fits, open).await;
        destination.report(at, outcome(&result));
        let (reason, error, again) = match result {
            Ok(response) => return response,
            Err(Failed::Connect { error, request }) => {
                tried.push(at);
                let left = !error.is_lasting() || tried.len() < destination.endpoints.len();
                (error.reason(), error.to_string(), left.then_some(request))
            }
            Err(Failed::Exchange(failed)) => {
                fresh = true;
                match failed.again {
                    Some(again) => {
                        request = again;
                        continue;
                    }
                    None => (Reason::Unreachable, failed.error.to_string(), None),
                }
            }
        };
        let detail = format!("{}: {}: {error}", destination.cluster_name(), chosen.address);
        record.failed(reason, &detail);
        worker.refuse(reason, call.peer, Some(chosen.address), detail);
        match again {
            Some(again) => request = again,
            None => return exchange::unreachable(),
        }
    }
    if tried.is_empty() && !fresh {
        let detail = match destination.resolution {
            Resolution::OriginalDestination => "is not one of the destination's pods",
            Resolution::Balanced => "has no endpoint that is ready",
        };
        let detail = format!("{} {detail}", destination.cluster_name());
        record.without_endpoint(destination);
        worker.refuse(Reason::NoEndpoint, call.peer, Some(call.dialled), detail);
        return exchange::own(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream");
    }
    record.gave_up();
    exchange::unreachable()
}

/// What became of a try, as the endpoint's health has it.
fn outcome(result: &Result<Response<ResponseBody>, Failed>) -> Outcome {
    match result {
        Ok(response) => Outcome::Answered(response.status().as_u16()),
        Err(Failed::Connect { .. }) => Outcome::NotConnected,
        Err(Failed::Exchange(_)) => Outcome::Reset,
    }
}

async fn open(
    worker: &Worker,
    destination: &Destination,
    secured: &Secured,
    endpoint: &Endpoint,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    let connected = connect(worker, destination, secured, endpoint, carries).await?;
    count(worker, secured.label(destination, endpoint));
    Ok(connected)
}

/// Counts a connection.
pub fn count(worker: &Worker, security: &str) {
    worker
        .metrics
        .connections
        .with_label_values(&["outbound", security])
        .inc();
}
