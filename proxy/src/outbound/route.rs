//! A request to a destination whose requests a VirtualService routes: which route takes it, and what that makes of it. In
//! Envoy's order: fault, CORS, the route's own answer or the way on, and the response's headers at the end.

use super::mirror;
use super::retry::Policy;
use super::send::Call;
use crate::cluster::Cluster;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::shared::Shared;
use crate::http::{exchange, grpc, headers};
use crate::refusals::Reason;
use crate::telemetry::{Flags, Record};
use crate::worker::Worker;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Body;
use mesh_core::routing::{
    AbortWith, Action, CrossOrigin, Direct, HttpRoute, Matched, Redirect, Routes, Seen, Weighted,
};
use std::borrow::Cow;
use std::sync::Arc;

const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// What a request is, beside itself.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// A gRPC call.
    pub call: bool,
    /// It asks for another protocol.
    pub upgrade: bool,
}

/// Routes a request.
pub async fn answer(
    worker: &Arc<Worker>,
    call: Call<'_>,
    cluster: &Arc<Cluster>,
    routes: &Routes,
    kind: Kind,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    if normalise(worker, &mut request).is_none() {
        record.answered(cluster, "path_normalization_failed");
        return bare(StatusCode::BAD_REQUEST);
    }
    let Some(matched) = routes.http(&seen(&request)) else {
        record.unrouted(cluster, Flags::NR);
        record.named(&Arc::from(""), StatusCode::NOT_FOUND);
        let text = format!(
            "{}: no route takes {} {}",
            cluster.cluster_name(),
            request.method(),
            request.uri()
        );
        worker.refuse(Reason::NoRoute, call.peer, Some(call.dialled), text);
        return bare(StatusCode::NOT_FOUND);
    };
    let route = matched.route;
    let to = route.choose(rand::random());
    record.routed(to.map(|to| to.target));
    let mut response = match faulty(cluster, route, kind, record).await {
        Some(aborted) => aborted,
        None => taken(worker, call, cluster, &matched, to, kind, request, record).await,
    };
    route.edit_response(to, response.headers_mut());
    record.named(&route.name, response.status());
    response
}

/// What `fault` makes of a request: a delay, and perhaps an answer.
async fn faulty(
    cluster: &Cluster,
    route: &HttpRoute,
    kind: Kind,
    record: &mut Record,
) -> Option<Response<ResponseBody>> {
    if route.fault.is_none() {
        return None;
    }
    if let Some(delay) = route.fault.delayed(rand::random()) {
        record.injected(Flags::DI);
        tokio::time::sleep(delay).await;
    }
    let with = route.fault.aborted(rand::random())?;
    record.injected(Flags::FI);
    record.answered(cluster, "fault_filter_abort");
    let text = "fault filter abort";
    Some(match with {
        AbortWith::Grpc(status) if kind.call => grpc::answer(status, text.as_bytes()),
        AbortWith::Grpc(_) => exchange::own(StatusCode::OK, text),
        AbortWith::Status(status) => exchange::own(status_of(status), text),
    })
}

/// What a route's action makes of a request.
#[allow(clippy::too_many_arguments, reason = "each is one fact of the request")]
async fn taken(
    worker: &Arc<Worker>,
    call: Call<'_>,
    cluster: &Arc<Cluster>,
    matched: &Matched<'_>,
    to: Option<&Weighted>,
    kind: Kind,
    request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let route = matched.route;
    match &route.action {
        Action::Redirect(redirect) => {
            record.answered(cluster, "direct_response");
            redirected(redirect, matched, &seen(&request), call.dialled.port())
        }
        Action::Direct(direct) => {
            record.answered(cluster, "direct_response");
            direct_response(direct)
        }
        Action::Forward { .. } => {
            let Some(cors) = &route.cors else {
                return forwarded(worker, call, cluster, matched, to, kind, request, record).await;
            };
            match cors.decide(request.method(), request.headers()) {
                CrossOrigin::Answered(headers) => {
                    record.answered(cluster, "cors_response");
                    let mut answer = bare(StatusCode::OK);
                    answer.headers_mut().extend(headers);
                    answer
                }
                CrossOrigin::Pass => forwarded(worker, call, cluster, matched, to, kind, request, record).await,
                CrossOrigin::Allowed(origin) => {
                    let mut response = forwarded(worker, call, cluster, matched, to, kind, request, record).await;
                    cors.mark(origin, response.headers_mut());
                    response
                }
            }
        }
    }
}

/// Sends a request on, and copies of it to whom the route mirrors it.
#[allow(clippy::too_many_arguments, reason = "each is one fact of the request")]
async fn forwarded(
    worker: &Arc<Worker>,
    call: Call<'_>,
    cluster: &Arc<Cluster>,
    matched: &Matched<'_>,
    to: Option<&Weighted>,
    kind: Kind,
    mut request: Request<RequestBody>,
    record: &mut Record,
) -> Response<ResponseBody> {
    let route = matched.route;
    let Some((to, led)) = to.and_then(|to| Some((to, cluster.led_to(to.target)?))) else {
        let name = to.map_or("", |to| &*to.cluster);
        record.unrouted(cluster, Flags::NC);
        let text = format!(
            "{}: the route {:?} leads to {name:?}, which is not known",
            cluster.cluster_name(),
            route.name
        );
        worker.refuse(Reason::NoCluster, call.peer, Some(call.dialled), text);
        return bare(StatusCode::SERVICE_UNAVAILABLE);
    };
    change(matched, to, &mut request, record);
    let policy = Policy::of(route, kind.call, kind.upgrade, &request);
    let mirrors = match route.mirrors.is_empty() || kind.upgrade {
        true => Vec::new(),
        false => mirror::drawn(cluster, route),
    };
    let kept = policy.keeps() || !mirrors.is_empty();
    let shared = ((kept || policy.waits()) && !request.body().is_end_stream()).then(|| {
        let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
        let shared = Shared::new(body, kept);
        if let Some(body) = shared.read() {
            *request.body_mut() = body;
        }
        shared
    });
    let copied = !mirrors.is_empty();
    if copied {
        let (head, body) = request.into_parts();
        mirror::send(worker, mirrors, [call.peer, call.dialled], &head, shared.as_ref());
        request = Request::from_parts(head, body);
    }
    let response = policy.send(worker, call, led, request, shared.as_ref(), record).await;
    if let Some(shared) = shared.filter(|_| !copied) {
        shared.forget();
    }
    response
}

/// Changes a request as the route says.
fn change(matched: &Matched<'_>, to: &Weighted, request: &mut Request<RequestBody>, record: &mut Record) {
    let route = matched.route;
    route.edit_request(to, request.headers_mut());
    if let Some(authority) = route.authority(to) {
        record.rewritten(Some(authority), None);
        let authority = authority.clone();
        let mut uri = std::mem::take(request.uri_mut());
        headers::set_authority(&mut uri, request.headers_mut(), authority);
        *request.uri_mut() = uri;
    }
    let Action::Forward { rewrite, .. } = &route.action else {
        return;
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let Some(rewritten) = rewrite.path(matched, target) else {
        return;
    };
    let original = HeaderValue::from_str(target);
    if headers::set_target(request.uri_mut(), &rewritten).is_some()
        && let Ok(original) = original
    {
        record.rewritten(None, request.uri().path_and_query());
        request.headers_mut().insert(X_ENVOY_ORIGINAL_PATH, original);
    }
}

/// Makes a request's path what routes see and the server gets; `None` for one that nobody may get.
fn normalise(worker: &Worker, request: &mut Request<RequestBody>) -> Option<()> {
    let target = request
        .uri()
        .path_and_query()
        .filter(|target| target.as_str().starts_with('/'));
    let (Some(target), Some(authorization)) = (target, worker.mesh.authorization()) else {
        return Some(());
    };
    match authorization.paths.normalize(target.as_str()).ok()? {
        Cow::Borrowed(_) => Some(()),
        Cow::Owned(normal) => headers::set_target(request.uri_mut(), &normal),
    }
}

fn seen(request: &Request<RequestBody>) -> Seen<'_> {
    let (uri, map) = (request.uri(), request.headers());
    let forwarded = || {
        map.get(headers::X_FORWARDED_PROTO)
            .and_then(|value| value.to_str().ok())
    };
    let scheme = uri.scheme_str().or_else(forwarded);
    Seen {
        path_and_query: uri.path_and_query().map_or("", |target| target.as_str()),
        scheme: scheme
            .filter(|scheme| matches!(*scheme, "http" | "https"))
            .unwrap_or("http"),
        method: request.method().as_str(),
        authority: headers::authority(uri, map).unwrap_or_default(),
        headers: map,
    }
}

fn redirected(redirect: &Redirect, matched: &Matched<'_>, seen: &Seen<'_>, port: u16) -> Response<ResponseBody> {
    let mut answer = bare(status_of(redirect.code));
    // What of it a header cannot hold came from the request's path, which can hold no more than a header.
    if let Ok(location) = HeaderValue::try_from(redirect.location(matched, seen, port)) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

fn direct_response(direct: &Direct) -> Response<ResponseBody> {
    match direct.body.is_empty() {
        true => bare(status_of(direct.status)),
        false => exchange::own(status_of(direct.status), direct.body.clone()),
    }
}

/// An answer without a word.
fn bare(status: StatusCode) -> Response<ResponseBody> {
    let mut answer = exchange::own(status, "");
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}

/// A status of the configuration's, which was checked there.
fn status_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
