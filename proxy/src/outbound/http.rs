//! HTTP requests of the application: routed by Host and port as seen from the client's namespace, whatever address was
//! dialled, and only then by that address.

use super::connection::{Dialled, Facts};
use super::route::{self, Kind};
use super::send::{self, ATTEMPTS, Call};
use crate::cluster::Cluster;
use crate::discovery::{Answer, Lookup};
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::pool::Key;
use crate::http::serve::Ended;
use crate::http::upstream::{self, Connected};
use crate::http::{exchange, grpc, headers, http2_serve, serve};
use crate::net::dial;
use crate::net::listen::Direction;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::telemetry::{Outside, Record, Recorded, Way};
use crate::worker::Worker;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

/// How long the operator may take to say what a host is, where it has just not said what the address is.
const SECOND_PATIENCE: Duration = Duration::from_millis(500);

/// Serves the application's connection in HTTP/1.x.
pub async fn serve(worker: Arc<Worker>, client: Stream, facts: Facts) {
    let drains = worker.drains_outbound.clone();
    let facts = Arc::new(facts);
    let ended = serve::serve(client, drains, |request| {
        recorded(worker.clone(), facts.clone(), request)
    })
    .await;
    match ended {
        Ok(()) => {}
        Err(Ended::Malformed(detail)) => worker.refuse(Reason::Malformed, facts.peer, Some(facts.address), detail),
        Err(Ended::Early(error)) => {
            tracing::debug!(%error, peer = %facts.peer, "the application's connection ended early");
        }
    }
}

/// The same in HTTP/2.
pub async fn serve_http2(worker: Arc<Worker>, client: Stream, facts: Facts) {
    let drains = worker.drains_outbound.clone();
    let facts = Arc::new(facts);
    let ended = http2_serve::serve(client, drains, |request| {
        recorded(worker.clone(), facts.clone(), request)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %facts.peer, "the application's connection ended early");
    }
}

/// Where a request goes.
enum Route {
    /// To one of a destination's endpoints.
    Destination(Arc<Cluster>),
    /// As it was dialled.
    AsDialled,
    /// Nowhere.
    Refused(StatusCode, Reason, &'static str),
}

/// Takes a request and tells of it.
async fn recorded(
    worker: Arc<Worker>,
    facts: Arc<Facts>,
    request: Request<Incoming>,
) -> Response<Recorded<ResponseBody>> {
    let mut record = Record::begin(&worker.telemetry, Way::Out, &request, facts.peer, facts.address);
    let response = handle(&worker, facts, request, &mut record).await;
    record.carry(response)
}

async fn handle(
    worker: &Arc<Worker>,
    facts: Arc<Facts>,
    mut request: Request<Incoming>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let is_call = grpc::is_call(request.method(), request.headers());
    if let Some(refused) = exchange::unfit(&mut request, facts.address) {
        return if is_call { grpc::refusal(refused) } else { refused };
    }
    let route = find(worker, &facts, &request).await;
    // A tunnel goes through whatever the routes of its target say of requests.
    let routed = request.method() != Method::CONNECT;
    let (mut request, switch) = exchange::take(request);
    let map = request.headers_mut();
    headers::mark(map);
    // Who calls is for the other side's proxy to say.
    map.remove(headers::X_FORWARDED_CLIENT_CERT);
    record.headers(map);
    let request = record.count(request);

    let response = match route {
        Route::Destination(destination) => {
            let call = Call {
                peer: facts.peer,
                dialled: facts.address,
                name: None,
            };
            let response = match destination
                .routes
                .as_deref()
                .filter(|routes| routed && !routes.http.is_empty())
            {
                None => send::to_destination(worker, call, &destination, request, record).await,
                Some(routes) => {
                    let kind = Kind {
                        call: is_call,
                        upgrade: switch.is_some(),
                    };
                    // Boxed, so that other requests do not carry this path's state.
                    Box::pin(route::answer(worker, call, &destination, routes, kind, request, record)).await
                }
            };
            record.called(destination);
            response
        }
        Route::AsDialled => {
            record.to_outside(Outside::Passthrough, Some(facts.address));
            as_dialled(worker, &facts, request, record).await
        }
        Route::Refused(status, reason, text) => {
            let outside = match reason {
                Reason::Unknown => Outside::BlackHole,
                _ => Outside::Unavailable,
            };
            record.to_outside(outside, None);
            record.failed(reason, text);
            worker.refuse(reason, facts.peer, Some(facts.address), text);
            exchange::own(status, text)
        }
    };
    worker.metrics.request(Direction::Outbound, response.status());
    let response = if is_call { grpc::refusal(response) } else { response };
    exchange::give(response, switch, async move {
        let _open = &facts.slot;
        std::future::pending().await
    })
}

async fn find(worker: &Worker, facts: &Facts, request: &Request<Incoming>) -> Route {
    // A tunnel's target is for the proxy to reach that the application has chosen by dialling it.
    let named = request.method() != Method::CONNECT;
    if let Some(host) = headers::host(request.uri(), request.headers()).filter(|_| named) {
        let port = facts.address.port();
        let answer = match worker.mesh.lookup_host(host, port) {
            Lookup::Found(destination) => Answer::Found(destination),
            Lookup::Absent => Answer::Absent,
            // An address in Host says no more than the address that was dialled.
            Lookup::Unknown if host.parse::<std::net::IpAddr>().is_ok() => Answer::Absent,
            // Whoever was waited for in vain once is not waited for again.
            Lookup::Unknown if matches!(facts.dialled, Dialled::Unavailable { waited: true }) => {
                let answer = tokio::time::timeout(SECOND_PATIENCE, worker.mesh.host(host, port)).await;
                answer.unwrap_or(Answer::Unavailable)
            }
            Lookup::Unknown => worker.mesh.host(host, port).await,
        };
        match answer {
            Answer::Found(destination) => return Route::Destination(destination),
            Answer::Absent => {}
            Answer::Unavailable => {
                // The address may be known although the name is not, e.g. by another name that was used before.
                if !matches!(facts.dialled, Dialled::Known(_)) {
                    return Route::Refused(
                        StatusCode::SERVICE_UNAVAILABLE,
                        Reason::Unavailable,
                        "the mesh does not know this host yet and its control plane cannot be asked",
                    );
                }
            }
        }
    }
    // Connections live long: what is behind the address may have changed since this one began.
    let dialled = match (worker.mesh.lookup_address(facts.address), &facts.dialled) {
        (Lookup::Found(destination), _) => Dialled::Known(destination),
        (Lookup::Absent, _) => Dialled::Outside,
        (Lookup::Unknown, Dialled::Unavailable { waited: false }) => worker.mesh.address(facts.address).await.into(),
        (Lookup::Unknown, dialled) => dialled.clone(),
    };
    match dialled {
        Dialled::Known(destination) => Route::Destination(destination),
        Dialled::Outside if worker.mesh.workload().allow_any => Route::AsDialled,
        Dialled::Outside => Route::Refused(
            StatusCode::BAD_GATEWAY,
            Reason::Unknown,
            "the mesh does not know this host and outboundTrafficPolicy.mode is REGISTRY_ONLY",
        ),
        Dialled::Unavailable { .. } => Route::Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::Unavailable,
            "the mesh does not know this address yet and its control plane cannot be asked",
        ),
    }
}

/// To the address that the application dialled, in the clear, where the mesh knows nothing of it.
async fn as_dialled(
    worker: &Worker,
    facts: &Facts,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let key = Key {
        address: facts.address,
        mutual_tls: false,
        originated: 0,
    };
    let open = || async {
        let stream = Stream::Plain(dial::upstream(facts.address).await?);
        send::count(worker, "none");
        Ok(Connected::in_the_clear(stream))
    };
    let retries = &worker.metrics.retries;
    match upstream::to_address(&worker.upstreams, key, ATTEMPTS, request, record, retries, open).await {
        Ok(response) => response,
        Err(error) => {
            record.failed(Reason::Unreachable, &error);
            worker.refuse(Reason::Unreachable, facts.peer, Some(facts.address), error);
            exchange::unreachable()
        }
    }
}
