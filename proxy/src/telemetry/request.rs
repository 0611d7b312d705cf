//! One request's record: begun with its head, filled in as facts become known, counted and logged when it is dropped.
//!
//! Records are used again: the next request of the worker takes the memory of one that has ended.

use super::body::Recorded;
use super::client::Client;
use super::facts::{Facts, Led, Way};
use super::flags::Flags;
use super::grpc;
use super::labels::{Outside, Service};
use super::layout::some_of;
use super::recorder::{Recorder, Values};
use super::series::{Base, Key};
use super::upload::{self, Passed};
use crate::cluster::Cluster;
use crate::http::body::RequestBody;
use crate::refusals::Reason;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body, Frame};
use mesh_core::destination::{Destination, Endpoint};
use mesh_core::routing::Target;
use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// The most records that a thread keeps for later.
const MOST_KEPT: usize = 256;

/// Boxes to use again.
#[allow(clippy::vec_box, reason = "the box is what is kept: it goes with the record")]
type Kept = Vec<Box<State>>;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Vec::new()) };
}

/// Under which labels a request is counted.
#[derive(Debug, Default)]
enum Counted {
    /// Not at all: it never became clear what was called.
    #[default]
    Nowhere,
    /// These.
    Under(Arc<Base>),
    /// Those of a client, as soon as they are known.
    From(Arc<Client>),
}

#[derive(Debug)]
struct State {
    recorder: Arc<Recorder>,
    started: Instant,
    counted: Counted,
    code: u16,
    flags: Flags,
    /// Those of what a route injected, which no try takes back.
    injected: Flags,
    /// When the response must have ended.
    until: Option<tokio::time::Instant>,
    /// Whether the request is gRPC.
    call: bool,
    status: Option<u8>,
    values: Values,
    response_messages: grpc::Messages,
    /// Whether a response's head went to the client.
    answered: bool,
    /// Whether the response ended in order.
    ended: bool,
    /// Whether a policy refused it.
    denied: bool,
    /// What passed of the request's body, where that is counted.
    upload: Option<Arc<Passed>>,
    facts: Facts,
}

impl State {
    fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            recorder,
            started: Instant::now(),
            counted: Counted::Nowhere,
            code: 0,
            flags: Flags::NONE,
            injected: Flags::NONE,
            until: None,
            call: false,
            status: None,
            values: Values::default(),
            response_messages: grpc::Messages::default(),
            answered: false,
            ended: false,
            denied: false,
            upload: None,
            facts: Facts::default(),
        }
    }

    /// Makes it as new, and keeps what memory it has.
    fn clear(&mut self) {
        self.counted = Counted::Nowhere;
        self.code = 0;
        self.flags = Flags::NONE;
        self.injected = Flags::NONE;
        self.until = None;
        self.call = false;
        self.status = None;
        self.values = Values::default();
        self.response_messages = grpc::Messages::default();
        self.answered = false;
        self.ended = false;
        self.denied = false;
        self.upload = None;
        self.facts.clear();
    }
}

/// A request's record.
#[derive(Debug)]
pub struct Record(Option<Box<State>>);

impl Record {
    /// Begins with a request's head. `peer` is the client's address, `dialled` what it dialled.
    #[must_use]
    pub fn begin<B: Body>(
        recorder: &Arc<Recorder>,
        way: Way,
        request: &Request<B>,
        peer: SocketAddr,
        dialled: SocketAddr,
    ) -> Self {
        let kept = KEPT.with_borrow_mut(Vec::pop);
        let mut state = match kept {
            Some(mut state) => {
                if !Arc::ptr_eq(&state.recorder, recorder) {
                    state.recorder = recorder.clone();
                }
                state.started = Instant::now();
                state
            }
            None => Box::new(State::new(recorder.clone())),
        };
        let headers = request.headers();
        state.call = grpc::is_call(request.method(), headers);
        state.values.received = match request.body().size_hint().exact() {
            Some(exact) => exact,
            None => headers
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok())
                .unwrap_or_default(),
        };
        let facts = &mut state.facts;
        facts.way = way;
        facts.peer = Some(peer);
        facts.dialled = Some(dialled);
        facts.upstream = (way == Way::In).then_some(dialled);
        facts.method = Some(request.method().clone());
        facts.path = request.uri().path_and_query().cloned();
        facts.authority = match request.uri().authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => headers.get(HOST).cloned(),
        };
        facts.version = Some(request.version());
        Self(Some(state))
    }

    /// A record of what is not told of.
    #[must_use]
    pub fn untold() -> Self {
        Self(None)
    }

    /// Takes what a line shows of the headers, once the proxy has added its own.
    pub fn headers(&mut self, headers: &HeaderMap) {
        let Some(state) = &mut self.0 else { return };
        let facts = &mut state.facts;
        // One walk costs less than a lookup for each.
        for (name, value) in headers {
            let field = match name.as_str().len() {
                10 if *name == USER_AGENT => &mut facts.user_agent,
                12 if *name == X_REQUEST_ID => &mut facts.request_id,
                15 if *name == X_FORWARDED_FOR => &mut facts.forwarded_for,
                _ => continue,
            };
            // Of several the first, as a lookup gives it.
            if field.is_none() {
                *field = Some(value.clone());
            }
        }
        if state.recorder.telemetry().log().takes_all() {
            facts.original_path = headers.get(X_ENVOY_ORIGINAL_PATH).cloned();
            let layout = state.recorder.telemetry().log().layout();
            facts.more_of_request.extend(some_of(headers, layout.request_headers()));
        }
    }

    /// The request comes from a client; `said` is what one of Istio's says of itself.
    /// `server_name` is what its TLS asked for.
    pub fn from_client(&mut self, client: &Arc<Client>, said: Option<&HeaderValue>, server_name: Option<&Arc<str>>) {
        let Some(state) = &mut self.0 else { return };
        state.counted = match said.and_then(|header| client.said(header)) {
            Some(base) => Counted::Under(base),
            None => Counted::From(client.clone()),
        };
        state.facts.server_name = server_name.cloned();
    }

    /// The request goes to a destination's endpoint.
    pub fn to_endpoint(&mut self, cluster: &Arc<Cluster>, endpoint: &Endpoint) {
        let Some(state) = &mut self.0 else { return };
        state.counted = Counted::Under(state.recorder.to_endpoint(cluster.destination(), endpoint));
        state.facts.upstream = Some(endpoint.address);
        state.flags = Flags::NONE;
        if state.recorder.telemetry().log().takes_all() {
            state.facts.destination = Some(cluster.clone());
        }
    }

    /// One of the destination's routes takes the request; where it leads to, unless the proxy answers.
    pub fn routed(&mut self, to: Option<Target>) {
        if let Some(state) = &mut self.0 {
            state.facts.led = to.map_or(Led::Nowhere, Led::To);
        }
    }

    /// The name of the route, told where there is a line in which it stands.
    pub fn named(&mut self, name: &Arc<str>, status: StatusCode) {
        let Some(state) = &mut self.0 else { return };
        let told = state.recorder.telemetry().log().takes_all() || status.is_server_error();
        if told || !state.flags.and(state.injected).is_empty() {
            state.facts.route = Some(name.clone());
        }
    }

    /// The proxy answers a request for a destination itself; why, in Envoy's words.
    pub fn answered(&mut self, destination: &Destination, details: &'static str) {
        let Some(state) = &mut self.0 else { return };
        state.counted = Counted::Under(state.recorder.to_service(Service::of(destination)));
        state.facts.details = Cow::Borrowed(details);
    }

    /// The same, where its routes lead the request nowhere.
    pub fn unrouted(&mut self, destination: &Destination, flags: Flags) {
        self.answered(destination, details(flags));
        let Some(state) = &mut self.0 else { return };
        state.flags = flags;
        state.facts.led = Led::Nowhere;
    }

    /// A fault was injected.
    pub fn injected(&mut self, flags: Flags) {
        if let Some(state) = &mut self.0 {
            state.injected = state.injected.and(flags);
        }
    }

    /// The request's authority or path is another one now.
    pub fn rewritten(&mut self, authority: Option<&HeaderValue>, path: Option<&PathAndQuery>) {
        let Some(state) = &mut self.0 else { return };
        if let Some(authority) = authority {
            state.facts.authority = Some(authority.clone());
        }
        if let Some(path) = path {
            // What the client asked for is what most formats show.
            let original = state.facts.path.replace(path.clone());
            state.facts.original_path = original.and_then(|path| HeaderValue::from_str(path.as_str()).ok());
        }
    }

    /// No answer came in time; which time, in Envoy's words.
    pub fn timed_out(&mut self, details: &'static str) {
        if let Some(state) = &mut self.0 {
            state.flags = Flags::UT;
            state.facts.details = Cow::Borrowed(details);
        }
    }

    /// The response must have ended by then.
    pub fn until(&mut self, until: tokio::time::Instant) {
        if let Some(state) = &mut self.0 {
            state.until = Some(until);
        }
    }

    /// The request is for a destination that has no endpoint for it.
    pub fn without_endpoint(&mut self, destination: &Destination) {
        let Some(state) = &mut self.0 else { return };
        state.counted = Counted::Under(state.recorder.to_service(Service::of(destination)));
        state.flags = Flags::UH;
        state.facts.details = Cow::Borrowed(details(Flags::UH));
    }

    /// The destination was called. It is handed over: to count references of what all workers share costs.
    pub fn called(&mut self, cluster: Arc<Cluster>) {
        if let Some(state) = &mut self.0 {
            state.facts.destination = Some(cluster);
        }
    }

    /// The request is for what is no destination; the server's address, where it is sent on.
    pub fn to_outside(&mut self, outside: Outside, upstream: Option<SocketAddr>) {
        let Some(state) = &mut self.0 else { return };
        let authority = state.facts.authority.as_ref();
        let host = authority.map_or(Cow::Borrowed(""), |host| String::from_utf8_lossy(host.as_bytes()));
        state.counted = Counted::Under(state.recorder.to_outside(outside, &host));
        state.facts.cluster = Some(outside.as_str());
        state.facts.upstream = upstream;
    }

    /// Has the request's body counted as it passes, where its length does not say it all.
    #[must_use]
    pub fn count(&mut self, request: Request<RequestBody>) -> Request<RequestBody> {
        let Some(state) = &mut self.0 else { return request };
        let body = request.body();
        if body.is_end_stream() || (!state.call && body.size_hint().exact().is_some()) {
            return request;
        }
        let passed = Arc::new(Passed::default());
        state.upload = Some(passed.clone());
        let call = state.call;
        request.map(|body| RequestBody::Counted(Box::new(upload::Counted::new(body, passed, call))))
    }

    /// The request was sent on, once more.
    pub fn attempt(&mut self) {
        if let Some(state) = &mut self.0 {
            state.facts.attempts += 1;
        }
    }

    /// The request came to nothing for a reason; `detail` is what exactly, for the log.
    pub fn failed(&mut self, reason: Reason, detail: &str) {
        let Some(state) = &mut self.0 else { return };
        state.flags = match reason {
            // It was reached, and then it was not.
            Reason::Unreachable if state.facts.attempts > 0 => Flags::UC,
            reason => Flags::from(reason),
        };
        state.facts.details = Cow::Borrowed(details(state.flags));
        if matches!(
            reason,
            Reason::Unreachable | Reason::ServerHandshake | Reason::NoCertificate
        ) {
            detail.clone_into(&mut state.facts.failure);
        }
    }

    /// All attempts that there may be have failed.
    pub fn gave_up(&mut self) {
        if let Some(state) = &mut self.0 {
            state.flags = state.flags.and(Flags::URX);
        }
    }

    /// A policy refused the request, in Envoy's words of why.
    pub fn denied(&mut self, details: impl Into<Cow<'static, str>>) {
        if let Some(state) = &mut self.0 {
            state.denied = true;
            state.facts.details = details.into();
        }
    }

    /// Says more of what went wrong.
    pub fn flagged(&mut self, flags: Flags) {
        if let Some(state) = &mut self.0 {
            state.flags = state.flags.and(flags);
        }
    }

    /// Goes with the response to its end.
    pub fn carry<B: Body>(mut self, response: Response<B>) -> Response<Recorded<B>> {
        if let Some(state) = &mut self.0 {
            state.code = response.status().as_u16();
            state.answered = true;
            if state.call {
                state.status = grpc::status(response.headers());
            }
            if state.recorder.telemetry().log().takes_all() || response.status().is_server_error() {
                state.facts.upstream_time = Some(state.started.elapsed());
                let layout = state.recorder.telemetry().log().layout();
                let more = some_of(response.headers(), layout.response_headers());
                state.facts.more_of_response.extend(more);
            }
        }
        response.map(|body| Recorded::new(body, self))
    }

    /// A frame of the response passed.
    pub(super) fn frame(&mut self, frame: &Frame<bytes::Bytes>) {
        let Some(state) = &mut self.0 else { return };
        if let Some(data) = frame.data_ref() {
            state.values.sent += data.len() as u64;
            if state.call {
                state.response_messages.pass(data);
            }
        } else if state.call
            && let Some(trailers) = frame.trailers_ref()
        {
            state.status = grpc::status(trailers).or(state.status);
        }
    }

    /// The response ended in order.
    pub(super) fn ended(&mut self) {
        if let Some(state) = &mut self.0 {
            state.ended = true;
        }
    }

    /// The upstream broke off its response.
    pub(super) fn broke_off(&mut self) {
        if let Some(state) = &mut self.0 {
            let late = state.until.is_some_and(|until| tokio::time::Instant::now() >= until);
            if late {
                state.facts.details = Cow::Borrowed("response_timeout");
            }
            state.flags = state.flags.and(if late { Flags::UT } else { Flags::UC });
            state.ended = true;
        }
    }
}

/// Envoy's words for what is told by a flag.
fn details(flags: Flags) -> &'static str {
    match flags {
        Flags::UH => "no_healthy_upstream",
        Flags::UF | Flags::UC => "upstream_reset_before_response_started",
        Flags::NR => "route_not_found",
        Flags::NC => "cluster_not_found",
        _ => "",
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(mut state) = self.0.take() else { return };
        state.flags = state.flags.and(state.injected);
        if !state.ended {
            state.flags = state.flags.and(Flags::DC);
        }
        let elapsed = state.started.elapsed();
        state.values.micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        state.values.response_messages = state.response_messages.count;
        if let Some(passed) = &state.upload {
            state.values.received = passed.bytes.get();
            state.values.request_messages = passed.messages.get();
        }
        if state.call && state.status.is_none() && state.ended {
            state.status = StatusCode::from_u16(state.code).ok().map(grpc::by_http_status);
        }
        let key = Key::http(state.code, state.flags, state.call.then_some(state.status));
        match &state.counted {
            Counted::Nowhere => {}
            Counted::Under(base) => state.recorder.request(base, key, &state.values),
            Counted::From(client) => client.request(key, &state.values),
        }
        let log = state.recorder.telemetry().log();
        if log.takes_all() || state.code >= 500 || !state.flags.is_empty() || state.denied {
            if let Counted::From(client) = &state.counted {
                state.facts.identity = client.identity().cloned();
            }
            let facts = &mut state.facts;
            facts.began = SystemTime::now().checked_sub(elapsed);
            facts.elapsed = elapsed;
            facts.code = state.code;
            facts.flags = state.flags;
            facts.received = state.values.received;
            facts.sent = state.values.sent;
            facts.status = state.call.then_some(state.status).flatten();
            if facts.details.is_empty() {
                facts.details = match (state.answered, state.flags == Flags::NONE) {
                    (true, true) => Cow::Borrowed("via_upstream"),
                    (false, _) => Cow::Borrowed("downstream_remote_disconnect"),
                    (true, false) => Cow::Borrowed("via_upstream"),
                };
            }
            log.line(facts);
        }
        state.clear();
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < MOST_KEPT
            {
                kept.push(state);
            }
        });
    }
}
