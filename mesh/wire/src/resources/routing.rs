//! The messages of where a client's requests and connections go: see [`mesh_core::routing`]. Times are nanoseconds. A choice
//! that is there without a value is one that a later operator added: the destination is refused then, since a match that is
//! not understood would catch more than it should, and a fault or a rewrite would silently not be.

use super::Destination;
use prost::{Enumeration, Message, Oneof};

/// The number of the language in which routes are written, [`Routes::language`]. It grows by one whenever a field is added
/// whose absence changes what a route does.
pub const ROUTES_LANGUAGE: u32 = 1;

/// See [`mesh_core::routing::Routes`].
#[derive(Clone, PartialEq, Message)]
pub struct Routes {
    /// The language that a reader must know, from 1 on: one that knows less refuses the message.
    #[prost(uint32, tag = "1")]
    pub language: u32,
    /// `namespace/name` of the VirtualService and its delegates.
    #[prost(string, repeated, tag = "2")]
    pub sources: Vec<String>,
    /// `http`.
    #[prost(message, repeated, tag = "3")]
    pub http: Vec<HttpRoute>,
    /// `tls`.
    #[prost(message, repeated, tag = "4")]
    pub tls: Vec<TlsRoute>,
    /// `tcp`.
    #[prost(message, repeated, tag = "5")]
    pub tcp: Vec<TcpRoute>,
    /// The destinations to which they lead. None of them has routes.
    #[prost(message, repeated, tag = "6")]
    pub destinations: Vec<Destination>,
}

/// See [`mesh_core::routing::Target`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Target {
    /// Where to.
    #[prost(enumeration = "Leads", tag = "1")]
    pub leads: i32,
    /// For [`Leads::Other`]: the index into `destinations`.
    #[prost(uint32, tag = "2")]
    pub destination: u32,
    /// Which of its endpoints.
    #[prost(enumeration = "InSubset", tag = "3")]
    pub within: i32,
    /// For [`InSubset::Of`]: the index into the destination's `subsets`.
    #[prost(uint32, tag = "4")]
    pub subset: u32,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Leads {
    /// Not said: refuse.
    Invalid = 0,
    /// To the destination that was called.
    Own = 1,
    /// To another.
    Other = 2,
    /// To none that the mesh knows.
    Nowhere = 3,
}

/// Which of a destination's endpoints a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum InSubset {
    /// Not said: refuse.
    Invalid = 0,
    /// All.
    All = 1,
    /// Those of a subset.
    Of = 2,
    /// Those of a subset that nobody has.
    Unknown = 3,
}

/// See [`mesh_core::routing::HttpRoute`].
#[derive(Clone, PartialEq, Message)]
pub struct HttpRoute {
    /// `name`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `match`.
    #[prost(message, repeated, tag = "2")]
    pub matches: Vec<HttpMatch>,
    /// What is done.
    #[prost(oneof = "HttpAction", tags = "3, 4, 5")]
    pub action: Option<HttpAction>,
    /// `headers`.
    #[prost(message, optional, tag = "6")]
    pub headers: Option<HeaderEdits>,
    /// `fault.delay`.
    #[prost(message, optional, tag = "7")]
    pub delay: Option<Delay>,
    /// `fault.abort`.
    #[prost(message, optional, tag = "8")]
    pub abort: Option<Abort>,
    /// `timeout`.
    #[prost(uint64, optional, tag = "9")]
    pub timeout: Option<u64>,
    /// `retries`.
    #[prost(message, optional, tag = "10")]
    pub retries: Option<Retries>,
    /// `mirrors`.
    #[prost(message, repeated, tag = "11")]
    pub mirrors: Vec<Mirror>,
    /// `corsPolicy`.
    #[prost(message, optional, tag = "12")]
    pub cors: Option<Cors>,
}

/// What is done with a request.
#[derive(Clone, PartialEq, Oneof)]
pub enum HttpAction {
    /// `route`.
    #[prost(message, tag = "3")]
    Forward(Forward),
    /// `redirect`.
    #[prost(message, tag = "4")]
    Redirect(Redirect),
    /// `directResponse`.
    #[prost(message, tag = "5")]
    Direct(Direct),
}

/// See [`mesh_core::routing::HttpMatch`].
#[derive(Clone, PartialEq, Message)]
pub struct HttpMatch {
    /// `uri`.
    #[prost(message, optional, tag = "1")]
    pub uri: Option<StringMatch>,
    /// `ignoreUriCase`.
    #[prost(bool, tag = "2")]
    pub ignore_uri_case: bool,
    /// `scheme`.
    #[prost(message, optional, tag = "3")]
    pub scheme: Option<StringMatch>,
    /// `method`.
    #[prost(message, optional, tag = "4")]
    pub method: Option<StringMatch>,
    /// `authority`.
    #[prost(message, optional, tag = "5")]
    pub authority: Option<StringMatch>,
    /// `headers`.
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<NamedMatch>,
    /// `withoutHeaders`.
    #[prost(message, repeated, tag = "7")]
    pub without_headers: Vec<NamedMatch>,
    /// `queryParams`.
    #[prost(message, repeated, tag = "8")]
    pub query_params: Vec<NamedMatch>,
}

/// A match of a header or a parameter of a query.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NamedMatch {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value; absent: any.
    #[prost(message, optional, tag = "2")]
    pub value: Option<StringMatch>,
}

/// See [`mesh_core::routing::StringMatch`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StringMatch {
    /// What is matched.
    #[prost(oneof = "StringMatchKind", tags = "1, 2, 3")]
    pub kind: Option<StringMatchKind>,
}

/// The kinds of matches of texts.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum StringMatchKind {
    /// `exact`.
    #[prost(string, tag = "1")]
    Exact(String),
    /// `prefix`.
    #[prost(string, tag = "2")]
    Prefix(String),
    /// `regex`.
    #[prost(string, tag = "3")]
    Regex(String),
}

/// See [`mesh_core::routing::Action::Forward`].
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// `route`.
    #[prost(message, repeated, tag = "1")]
    pub to: Vec<Weighted>,
    /// `rewrite.authority`.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub authority: Option<bytes::Bytes>,
    /// `rewrite.uri` or `uriRegexRewrite`; absent: the path stays.
    #[prost(message, optional, tag = "3")]
    pub uri: Option<UriRewrite>,
}

/// See [`mesh_core::routing::UriRewrite`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UriRewrite {
    /// How.
    #[prost(oneof = "UriRewriteKind", tags = "1, 2")]
    pub kind: Option<UriRewriteKind>,
}

/// How a path is rewritten.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum UriRewriteKind {
    /// `uri`.
    #[prost(string, tag = "1")]
    Prefix(String),
    /// `uriRegexRewrite`.
    #[prost(message, tag = "2")]
    Regex(RegexRewrite),
}

/// `uriRegexRewrite`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RegexRewrite {
    /// `match`.
    #[prost(string, tag = "1")]
    pub pattern: String,
    /// `rewrite`.
    #[prost(string, tag = "2")]
    pub rewrite: String,
}

/// See [`mesh_core::routing::Weighted`].
#[derive(Clone, PartialEq, Message)]
pub struct Weighted {
    /// `destination`.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// The cluster's name.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// `weight`.
    #[prost(uint32, tag = "3")]
    pub weight: u32,
    /// `headers`.
    #[prost(message, optional, tag = "4")]
    pub headers: Option<HeaderEdits>,
}

/// See [`mesh_core::routing::HeaderEdits`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HeaderEdits {
    /// `request.set`.
    #[prost(message, repeated, tag = "1")]
    pub request_set: Vec<Header>,
    /// `request.add`.
    #[prost(message, repeated, tag = "2")]
    pub request_add: Vec<Header>,
    /// `request.remove`.
    #[prost(string, repeated, tag = "3")]
    pub request_remove: Vec<String>,
    /// `response.set`.
    #[prost(message, repeated, tag = "4")]
    pub response_set: Vec<Header>,
    /// `response.add`.
    #[prost(message, repeated, tag = "5")]
    pub response_add: Vec<Header>,
    /// `response.remove`.
    #[prost(string, repeated, tag = "6")]
    pub response_remove: Vec<String>,
}

/// A header.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Header {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: bytes::Bytes,
}

/// See [`mesh_core::routing::Redirect`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Redirect {
    /// Where the path is from; absent: the request's.
    #[prost(message, optional, tag = "1")]
    pub uri: Option<RedirectUri>,
    /// `authority`.
    #[prost(string, optional, tag = "2")]
    pub authority: Option<String>,
    /// Where the port is from.
    #[prost(enumeration = "RedirectPort", tag = "3")]
    pub port_of: i32,
    /// `port`, for [`RedirectPort::Number`].
    #[prost(uint32, tag = "4")]
    pub port: u32,
    /// `scheme`.
    #[prost(string, optional, tag = "5")]
    pub scheme: Option<String>,
    /// `redirectCode`.
    #[prost(uint32, tag = "6")]
    pub code: u32,
}

/// See [`mesh_core::routing::RedirectUri`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RedirectUri {
    /// From what.
    #[prost(oneof = "RedirectUriKind", tags = "1, 2")]
    pub kind: Option<RedirectUriKind>,
}

/// Where a redirect's path is from.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum RedirectUriKind {
    /// `uri`.
    #[prost(string, tag = "1")]
    Path(String),
    /// `prefixRewrite`.
    #[prost(string, tag = "2")]
    Prefix(String),
}

/// See [`mesh_core::routing::RedirectPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum RedirectPort {
    /// Not said: refuse.
    Invalid = 0,
    /// None is written.
    Absent = 1,
    /// `port`.
    Number = 2,
    /// `FROM_PROTOCOL_DEFAULT`.
    ProtocolDefault = 3,
    /// `FROM_REQUEST_PORT`.
    OfRequest = 4,
}

/// See [`mesh_core::routing::Direct`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Direct {
    /// `status`.
    #[prost(uint32, tag = "1")]
    pub status: u32,
    /// `body`.
    #[prost(bytes = "bytes", tag = "2")]
    pub body: bytes::Bytes,
    /// Whether it is text.
    #[prost(bool, tag = "3")]
    pub text: bool,
}

/// `fault.delay`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Delay {
    /// `fixedDelay`.
    #[prost(uint64, tag = "1")]
    pub fixed: u64,
    /// `percentage`, in millionths.
    #[prost(uint32, tag = "2")]
    pub millionths: u32,
}

/// `fault.abort`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Abort {
    /// With what.
    #[prost(oneof = "AbortWith", tags = "1, 2")]
    pub with: Option<AbortWith>,
    /// `percentage`, in millionths.
    #[prost(uint32, tag = "3")]
    pub millionths: u32,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum AbortWith {
    /// `httpStatus`.
    #[prost(uint32, tag = "1")]
    Status(u32),
    /// `grpcStatus`.
    #[prost(uint32, tag = "2")]
    Grpc(u32),
}

/// See [`mesh_core::routing::Retries`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Retries {
    /// `attempts`.
    #[prost(uint32, tag = "1")]
    pub attempts: u32,
    /// `perTryTimeout`.
    #[prost(uint64, optional, tag = "2")]
    pub per_try_timeout: Option<u64>,
    /// `retryOn`, what is a condition.
    #[prost(enumeration = "RetryCondition", repeated, tag = "3")]
    pub on: Vec<i32>,
    /// `retryOn`, what is a status.
    #[prost(uint32, repeated, tag = "4")]
    pub statuses: Vec<u32>,
    /// `retryOn`, what is a gRPC status.
    #[prost(uint32, repeated, tag = "5")]
    pub grpc: Vec<u32>,
    /// `retryRemoteLocalities`.
    #[prost(bool, tag = "6")]
    pub remote_localities: bool,
    /// Whether a host that was tried is avoided.
    #[prost(bool, tag = "7")]
    pub avoid_previous: bool,
    /// `backoff`.
    #[prost(uint64, tag = "8")]
    pub backoff: u64,
}

/// The conditions of [`mesh_core::routing::RetryOn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum RetryCondition {
    /// None: refuse.
    Invalid = 0,
    /// `5xx`.
    ServerErrors = 1,
    /// `gateway-error`.
    GatewayErrors = 2,
    /// `reset`.
    Reset = 3,
    /// `reset-before-request`.
    ResetBeforeRequest = 4,
    /// `connect-failure`.
    ConnectFailure = 5,
    /// `refused-stream`.
    RefusedStream = 6,
    /// `retriable-4xx`.
    Conflict = 7,
    /// `envoy-ratelimited`.
    RateLimited = 8,
}

/// See [`mesh_core::routing::Mirror`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Mirror {
    /// `destination`.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// The cluster's name.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// `percentage`, in millionths.
    #[prost(uint32, tag = "3")]
    pub millionths: u32,
}

/// See [`mesh_core::routing::Cors`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Cors {
    /// `allowOrigins`.
    #[prost(message, repeated, tag = "1")]
    pub allow_origins: Vec<StringMatch>,
    /// `allowMethods`.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub allow_methods: Option<bytes::Bytes>,
    /// `allowHeaders`.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub allow_headers: Option<bytes::Bytes>,
    /// `exposeHeaders`.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub expose_headers: Option<bytes::Bytes>,
    /// `maxAge`.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub max_age: Option<bytes::Bytes>,
    /// `allowCredentials`.
    #[prost(bool, tag = "6")]
    pub allow_credentials: bool,
    /// `unmatchedPreflights`.
    #[prost(bool, tag = "7")]
    pub forward_unmatched: bool,
}

/// See [`mesh_core::routing::TlsRoute`].
#[derive(Clone, PartialEq, Message)]
pub struct TlsRoute {
    /// `match`.
    #[prost(message, repeated, tag = "1")]
    pub matches: Vec<TlsMatch>,
    /// `route`.
    #[prost(message, repeated, tag = "2")]
    pub to: Vec<Weighted>,
}

/// See [`mesh_core::routing::TlsMatch`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TlsMatch {
    /// `sniHosts`.
    #[prost(string, repeated, tag = "1")]
    pub sni_hosts: Vec<String>,
    /// `destinationSubnets`.
    #[prost(string, repeated, tag = "2")]
    pub destination_subnets: Vec<String>,
}

/// See [`mesh_core::routing::TcpRoute`].
#[derive(Clone, PartialEq, Message)]
pub struct TcpRoute {
    /// `match`.
    #[prost(message, repeated, tag = "1")]
    pub matches: Vec<TcpMatch>,
    /// `route`.
    #[prost(message, repeated, tag = "2")]
    pub to: Vec<Weighted>,
}

/// See [`mesh_core::routing::TcpMatch`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TcpMatch {
    /// `destinationSubnets`.
    #[prost(string, repeated, tag = "1")]
    pub destination_subnets: Vec<String>,
    /// `sourceSubnet`.
    #[prost(string, optional, tag = "2")]
    pub source_subnet: Option<String>,
}
