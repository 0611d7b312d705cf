//! A request that a route sends on: tried as its `retries` say, within its `timeout`.

use super::send::{Call, Tries};
use crate::cluster::Cluster;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::exchange::{self, Came};
use crate::http::shared::Shared;
use crate::http::timed::Timed;
use crate::http::upstream::{Failed, Manner};
use crate::refusals::Reason;
use crate::telemetry::Record;
use crate::worker::Worker;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Body;
use mesh_core::balance;
use mesh_core::routing::{HttpRoute, Outcome, Retries};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

const X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// How often a request is sent once more that no server can have acted on, whatever the policy says.
const RESENDS: u32 = 2;

/// How a request is tried.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// What is tried again, and how often.
    pub retries: &'a Retries,
    /// From the request's end to the end of its response.
    pub timeout: Option<Duration>,
    /// Whether the request is a gRPC call.
    pub call: bool,
    /// Whether its server may refuse it after some of its body was sent: a body in HTTP/2.
    pub refusable: bool,
}

impl<'a> Policy<'a> {
    /// What a route says of a request; `upgrade`: it asks for another protocol, and has no end.
    #[must_use]
    pub fn of(route: &'a HttpRoute, call: bool, upgrade: bool, request: &Request<RequestBody>) -> Self {
        Self {
            retries: route.retries.as_ref().unwrap_or_else(|| Retries::of_the_mesh()),
            timeout: route.timeout_of(call, request.headers()).filter(|_| !upgrade),
            call,
            refusable: request.version() == Version::HTTP_2 && !request.body().is_end_stream(),
        }
    }

    /// Whether a request may be tried again that was sent, so that it has to be kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        let on = &self.retries.on;
        self.retries.attempts > 0
            && (on.looks_at_answers(self.call) || on.reset || (self.refusable && on.refused_stream))
    }

    /// Whether the end of the request's body is waited for.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.timeout.is_some() || self.per_try().is_some()
    }

    /// How long one try may take: no longer than all of them.
    fn per_try(&self) -> Option<Duration> {
        let one = self.retries.per_try_timeout.filter(|one| !one.is_zero())?;
        self.timeout.is_none_or(|all| one < all).then_some(one)
    }

    /// Sends a request. `shared` is its body, where it has one and that may be needed more than once, or is waited for.
    pub async fn send(
        &self,
        worker: &Worker,
        call: Call<'_>,
        cluster: &Arc<Cluster>,
        mut request: Request<RequestBody>,
        shared: Option<&Shared>,
        record: &mut Record,
    ) -> Response<ResponseBody> {
        if let Some(expected) = self.per_try().or(self.timeout) {
            let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
            let value = HeaderValue::from(millis);
            request.headers_mut().insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, value);
        }
        let mut tries = match Tries::prepare(worker, call, cluster, &request, record).await {
            Ok(tries) => tries,
            Err(refused) => return refused,
        };
        let Some(timeout) = self.timeout else {
            return self.run(&mut tries, request, shared, record).await;
        };
        let until = OnceLock::new();
        let answered = {
            let mut run = pin!(self.run(&mut tries, request, shared, record));
            tokio::select! {
                biased;
                response = &mut run => Some(response),
                () = expired(shared, timeout, &until) => None,
            }
        };
        match answered {
            Some(response) => match until.get() {
                Some(until) if !response.body().is_end_stream() => {
                    record.until(*until);
                    response.map(|body| ResponseBody::Timed(Box::new(Timed::new(body, *until))))
                }
                _ => response,
            },
            None => {
                tries.report(balance::Outcome::TimedOut);
                record.timed_out("response_timeout");
                timed_out()
            }
        }
    }

    async fn run(
        &self,
        tries: &mut Tries<'_>,
        request: Request<RequestBody>,
        shared: Option<&Shared>,
        record: &mut Record,
    ) -> Response<ResponseBody> {
        let Retries { attempts, on, .. } = self.retries;
        let mut kept = Kept::new(request, shared, self.keeps());
        let (mut retried, mut resent, mut sent) = (0, 0, 0);
        let mut manner = Manner {
            fresh: false,
            kept: kept.head.is_some(),
        };
        loop {
            let Some(mut request) = kept.next.take() else {
                return exchange::unreachable();
            };
            sent += 1;
            request
                .headers_mut()
                .insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(sent));
            if !tries.choose(self.retries.avoid_previous, self.retries.remote_localities, record) {
                return tries.nowhere(record);
            }
            let tried = match self.per_try() {
                None => Some(tries.once(request, manner, record).await),
                Some(one) => {
                    let until = OnceLock::new();
                    let once = pin!(tries.once(request, manner, record));
                    tokio::select! {
                        biased;
                        tried = once => Some(tried),
                        () = expired(shared, one, &until) => None,
                    }
                }
            };
            let left = retried < *attempts;
            let failed = match tried {
                Some(Ok(response)) => {
                    let outcome = Outcome::Answer {
                        status: response.status().as_u16(),
                        headers: response.headers(),
                    };
                    let wanted = on.takes(&outcome);
                    if !wanted || !left || !kept.again() {
                        if wanted && *attempts > 0 && !left {
                            record.gave_up();
                        }
                        return response;
                    }
                    None
                }
                None => {
                    tries.report(balance::Outcome::TimedOut);
                    record.timed_out("upstream_per_try_timeout");
                    if !on.takes(&Outcome::TimedOut) || !left || !kept.again() {
                        if !left {
                            record.gave_up();
                        }
                        return timed_out();
                    }
                    None
                }
                Some(Err(failed)) => Some(failed),
            };
            if let Some(failed) = failed {
                let (outcome, lasting) = match failed {
                    Failed::Connect { error, request } => {
                        kept.next = Some(request);
                        tries.avoid();
                        tries.failed(error.reason(), &error.to_string(), record);
                        (Outcome::NoConnection, error.is_lasting() && tries.were_all())
                    }
                    Failed::Exchange(failed) => {
                        manner.fresh = true;
                        kept.next = failed.again;
                        let harmless = match failed.came {
                            Came::Unsent => true,
                            Came::Stale => *attempts > 0 && kept.is_repeatable(),
                            Came::Unseen | Came::Sent => false,
                        };
                        if harmless && resent < RESENDS && (kept.next.is_some() || kept.again()) {
                            resent += 1;
                            tries.again();
                            continue;
                        }
                        tries.failed(Reason::Unreachable, &failed.error.to_string(), record);
                        let outcome = match failed.came {
                            Came::Unsent => Outcome::Reset { sent: false },
                            Came::Unseen => Outcome::Refused,
                            Came::Stale | Came::Sent => Outcome::Reset { sent: true },
                        };
                        (outcome, false)
                    }
                };
                let wanted = on.takes(&outcome);
                if !wanted || !left || lasting || !(kept.next.is_some() || kept.again()) {
                    if wanted && *attempts > 0 && !left {
                        record.gave_up();
                    }
                    return exchange::unreachable();
                }
            }
            let wait = self.retries.backoff.wait(retried, rand::random());
            retried += 1;
            tries.avoid();
            tries.again();
            sleep(wait).await;
        }
    }
}

/// A request that may be sent more than once.
struct Kept<'a> {
    /// The one that is sent next.
    next: Option<Request<RequestBody>>,
    /// Its head, where it can be sent after it was.
    head: Option<Parts>,
    shared: Option<&'a Shared>,
}

impl<'a> Kept<'a> {
    fn new(request: Request<RequestBody>, shared: Option<&'a Shared>, keeps: bool) -> Self {
        let (head, body) = request.into_parts();
        // A body that is not shared would be gone.
        let copy = (keeps && (shared.is_some() || body.is_end_stream())).then(|| head.clone());
        Self {
            next: Some(Request::from_parts(head, body)),
            head: copy,
            shared,
        }
    }

    /// Makes it ready once more, from its beginning. False where that cannot be.
    fn again(&mut self) -> bool {
        let body = match self.shared {
            Some(shared) => shared.read(),
            None => Some(RequestBody::Empty),
        };
        if let (Some(head), Some(body)) = (&self.head, body) {
            self.next = Some(Request::from_parts(head.clone(), body));
        }
        self.next.is_some()
    }

    /// Whether its method has the same effect twice, and it has no body.
    fn is_repeatable(&self) -> bool {
        match (&self.next, &self.head) {
            (Some(_), _) => true,
            (None, Some(head)) => self.shared.is_none() && exchange::is_idempotent(&head.method),
            (None, None) => false,
        }
    }
}

/// Returns so long after the end of a request's body; `until` is when that is, as soon as it is known.
async fn expired(shared: Option<&Shared>, after: Duration, until: &OnceLock<Instant>) {
    if let Some(shared) = shared {
        shared.ended().await;
    }
    sleep_until(*until.get_or_init(|| Instant::now() + after)).await;
}

/// Envoy's answer to a request that took too long.
fn timed_out() -> Response<ResponseBody> {
    exchange::own(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout")
}
