//! External authorizers, which CUSTOM policies ask: what `meshConfig.extensionProviders[].envoyExtAuthzGrpc` and
//! `envoyExtAuthzHttp` say of one, and what its answer may do to a request.

mod edits;
mod names;

pub use edits::{Edit, How, is_of_one_hop, remove};
pub use names::NameMatch;

use http::header::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an authorizer may take where its provider says nothing: Istio's default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// The status of a request about which the authorizer could not be asked, where its provider says nothing.
pub const DEFAULT_STATUS_ON_ERROR: u16 = 403;

/// Providers by their names, or why one cannot be asked.
pub type Providers = BTreeMap<String, Result<Provider, String>>;

/// A provider that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Provider {
    /// The Service's fully qualified host.
    pub host: String,
    /// The Service's port.
    pub port: u16,
    /// How it is asked.
    pub settings: Settings,
}

/// How a provider is asked, and what becomes of a request without its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// What it speaks.
    pub protocol: Protocol,
    /// `timeout`: how long it may take, the connection to it included.
    pub timeout: Duration,
    /// `failOpen`: whether what it could not be asked about passes.
    pub fail_open: bool,
    /// `statusOnError`: the answer to such a request where it does not pass.
    pub status_on_error: u16,
    /// `includeRequestBodyInCheck`. `None`: bodies are not shown to it.
    pub body: Option<Body>,
}

impl Settings {
    /// Whether it can be asked about connections that are not HTTP.
    #[must_use]
    pub fn knows_connections(&self) -> bool {
        matches!(self.protocol, Protocol::Grpc)
    }
}

/// What a provider speaks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
    /// A request of its own for each request.
    Http(Box<Http>),
}

/// `envoyExtAuthzHttp`: what of a request goes to the authorizer, and what of its answer goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Http {
    /// `pathPrefix`, before the request's own path.
    pub path_prefix: String,
    /// `includeRequestHeadersInCheck`: headers of the request that are shown, beside `authorization`.
    pub request_headers: Vec<NameMatch>,
    /// `includeAdditionalHeadersInCheck`: headers that are added, in the place of the request's own.
    pub additional_headers: Vec<(HeaderName, HeaderValue)>,
    /// `headersToUpstreamOnAllow`: headers of the answer that take the place of the request's.
    pub to_upstream_on_allow: Vec<NameMatch>,
    /// `headersToDownstreamOnAllow`: headers of the answer that are added to the response.
    pub to_downstream_on_allow: Vec<NameMatch>,
    /// `headersToDownstreamOnDeny`: headers of a denial that its client gets; none means all.
    pub to_downstream_on_deny: Vec<NameMatch>,
}

/// `includeRequestBodyInCheck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Body {
    /// `maxRequestBytes`: the most bytes that are held for the authorizer, at least one.
    pub most: u32,
    /// `allowPartialMessage`: whether a longer body is shown up to there; it is refused with 413 otherwise.
    pub partial: bool,
    /// `packAsBytes`: whether gRPC gets it as bytes and not as text.
    pub as_bytes: bool,
}
