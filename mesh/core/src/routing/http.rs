//! A VirtualService's `http` route: what becomes of a request.

use super::Target;
use super::matches::{HttpMatch, Pattern, StringMatch};
use ::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// One entry of `http`. `D` is how destinations are told: as resolved, or as written ([`super::Reference`]).
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRoute<D = Target> {
    /// `name`; with a delegate's, `root-delegate`. Empty where there is none.
    pub name: Arc<str>,
    /// `match`: any of them; none at all matches everything.
    pub matches: Vec<HttpMatch>,
    /// What is done.
    pub action: Action<D>,
    /// `headers` of the route.
    pub headers: HeaderEdits,
    /// `fault`.
    pub fault: Fault,
    /// `timeout` of the whole request, retries included; `None` or zero is none.
    pub timeout: Option<Duration>,
    /// `retries`; `None` is the mesh's own.
    pub retries: Option<Retries>,
    /// `mirrors`, and `mirror`.
    pub mirrors: Vec<Mirror<D>>,
    /// `corsPolicy`.
    pub cors: Option<Cors>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action<D = Target> {
    /// `route`: it goes on.
    Forward {
        /// To one of these, by weight. With no weight at all, to the first.
        to: Vec<Weighted<D>>,
        /// `rewrite`.
        rewrite: Rewrite,
    },
    /// `redirect`.
    Redirect(Redirect),
    /// `directResponse`.
    Direct(Direct),
}

/// One entry of `route`.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted<D = Target> {
    /// `destination`.
    pub target: D,
    /// The cluster's name, `outbound|PORT|SUBSET|HOST`, whether it exists or not; empty before it is resolved.
    pub cluster: Arc<str>,
    /// `weight`.
    pub weight: u32,
    /// `headers`.
    pub headers: HeaderEdits,
}

/// `headers`: `request` and `response`. A `set` of `host` or `:authority` in the request is a rewrite of the authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// `request.set`.
    pub request_set: Vec<(HeaderName, HeaderValue)>,
    /// `request.add`.
    pub request_add: Vec<(HeaderName, HeaderValue)>,
    /// `request.remove`.
    pub request_remove: Vec<HeaderName>,
    /// `response.set`.
    pub response_set: Vec<(HeaderName, HeaderValue)>,
    /// `response.add`.
    pub response_add: Vec<(HeaderName, HeaderValue)>,
    /// `response.remove`.
    pub response_remove: Vec<HeaderName>,
}

/// `rewrite`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rewrite {
    /// `authority`.
    pub authority: Option<HeaderValue>,
    /// `uri` or `uriRegexRewrite`.
    pub uri: UriRewrite,
}

/// How a path is rewritten.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum UriRewrite {
    /// It is not.
    #[default]
    Keep,
    /// `uri`: what the match's prefix matched is replaced; where the match is no prefix, the whole path is.
    Prefix(Arc<str>),
    /// `uriRegexRewrite`.
    Regex {
        /// `match`.
        pattern: Pattern,
        /// `rewrite`, with groups as `\1`.
        rewrite: Arc<str>,
    },
}

/// `redirect`.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// `uri` or `prefixRewrite`; `None` keeps the path.
    pub uri: Option<RedirectUri>,
    /// `authority`.
    pub authority: Option<Arc<str>>,
    /// `port` or `derivePort`.
    pub port: RedirectPort,
    /// `scheme`.
    pub scheme: Option<Arc<str>>,
    /// `redirectCode` (301): 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// Where a redirect's path is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectUri {
    /// `uri`: the path.
    Path(Arc<str>),
    /// `prefixRewrite`: what the match's prefix matched is replaced.
    Prefix(Arc<str>),
}

/// A redirect's port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RedirectPort {
    /// None is written: the scheme's.
    #[default]
    Absent,
    /// `port`.
    Number(u16),
    /// `FROM_PROTOCOL_DEFAULT`: 80 or 443.
    ProtocolDefault,
    /// `FROM_REQUEST_PORT`.
    OfRequest,
}

/// `directResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// `status`.
    pub status: u16,
    /// `body.string` or `body.bytes`; at most 1 MiB.
    pub body: Bytes,
    /// Whether it is text.
    pub text: bool,
}

/// `fault`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fault {
    /// `delay`.
    pub delay: Option<Delay>,
    /// `abort`.
    pub abort: Option<Abort>,
}

/// `fault.delay`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delay {
    /// `fixedDelay`.
    pub fixed: Duration,
    /// `percentage`.
    pub percent: Percent,
}

/// `fault.abort`.
#[derive(Debug, Clone, PartialEq)]
pub struct Abort {
    /// With what.
    pub with: AbortWith,
    /// `percentage`.
    pub percent: Percent,
}

/// What an aborted request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortWith {
    /// `httpStatus`.
    Status(u16),
    /// `grpcStatus`, as its number.
    Grpc(u8),
}

/// A share of requests, in millionths: 0 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u32);

impl Percent {
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// From percent, 0 to 100, as resources have it.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped to the range before.
    pub fn from_percent(percent: f64) -> Self {
        Self((percent.clamp(0.0, 100.0) * 10_000.0).round() as u32)
    }

    /// Whether a request is one of them, by a draw of any number.
    #[must_use]
    pub fn takes(self, draw: u32) -> bool {
        u64::from(draw) * 1_000_000 < u64::from(self.0) << 32
    }
}

/// `retries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// `attempts`: tries after the first.
    pub attempts: u32,
    /// `perTryTimeout`.
    pub per_try_timeout: Option<Duration>,
    /// `retryOn`.
    pub on: RetryOn,
    /// `retryRemoteLocalities`.
    pub remote_localities: bool,
    /// Whether a host that was tried is avoided (`retryIgnorePreviousHosts`, true where it is absent).
    pub avoid_previous: bool,
    /// `backoff`, or 25 ms.
    pub backoff: Backoff,
}

/// The wait before a retry: drawn between zero and `base` times 2 to the number of retries before, at most ten times `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first interval.
    pub base: Duration,
}

/// `retryOn`: what is tried again. Envoy's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// `5xx`: an answer of 500 to 599, or none.
    pub server_errors: bool,
    /// `gateway-error`: 502, 503, 504, or none.
    pub gateway_errors: bool,
    /// `reset`: no answer, although the request was sent.
    pub reset: bool,
    /// `reset-before-request`: the connection ended before any of the request was sent.
    pub reset_before_request: bool,
    /// `connect-failure`: no connection.
    pub connect_failure: bool,
    /// `refused-stream`: HTTP/2's REFUSED_STREAM.
    pub refused_stream: bool,
    /// `retriable-4xx`: 409.
    pub conflict: bool,
    /// `envoy-ratelimited`: an answer with `x-envoy-ratelimited`.
    pub rate_limited: bool,
    /// `retriable-status-codes`, and the numbers that stand in `retryOn` themselves.
    pub statuses: Vec<u16>,
    /// gRPC statuses, as their numbers: `cancelled` (1), `deadline-exceeded` (4), `resource-exhausted` (8), `internal` (13),
    /// `unavailable` (14).
    pub grpc: Vec<u8>,
}

/// One entry of `mirrors`: a copy whose answer nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror<D = Target> {
    /// `destination`.
    pub target: D,
    /// The cluster's name, likewise.
    pub cluster: Arc<str>,
    /// `percentage`.
    pub percent: Percent,
}

/// `corsPolicy`: answered by the client's proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// `allowOrigins`, and `allowOrigin` as exact ones (`*` as everything).
    pub allow_origins: Vec<StringMatch>,
    /// `allowMethods`, joined with commas.
    pub allow_methods: Option<HeaderValue>,
    /// `allowHeaders`, joined.
    pub allow_headers: Option<HeaderValue>,
    /// `exposeHeaders`, joined.
    pub expose_headers: Option<HeaderValue>,
    /// `maxAge`, in seconds.
    pub max_age: Option<HeaderValue>,
    /// `allowCredentials`.
    pub allow_credentials: bool,
    /// `unmatchedPreflights`: whether preflights of other origins go on to the server (`FORWARD`, and where it is absent).
    pub forward_unmatched: bool,
}
