//! The messages of external authorizers. See [`mesh_core::ext_authz`].

use prost::Message;

/// An extension provider that some CUSTOM policy names.
#[derive(Clone, PartialEq, Message)]
pub struct ExtAuthzProvider {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Why it cannot be asked; then nothing more is said of it.
    #[prost(string, tag = "2")]
    pub problem: String,
    /// The Service's fully qualified host.
    #[prost(string, tag = "3")]
    pub host: String,
    /// The Service's port.
    #[prost(uint32, tag = "4")]
    pub port: u32,
    /// What it speaks.
    #[prost(enumeration = "ExtAuthzProtocol", tag = "5")]
    pub protocol: i32,
    /// How long it may take, at least 1.
    #[prost(uint64, tag = "6")]
    pub timeout_milliseconds: u64,
    /// Whether what it could not be asked about passes.
    #[prost(bool, tag = "7")]
    pub fail_open: bool,
    /// The answer to a request about which it could not be asked.
    #[prost(uint32, tag = "8")]
    pub status_on_error: u32,
    /// What it is shown of bodies; nothing where absent.
    #[prost(message, optional, tag = "9")]
    pub body: Option<ExtAuthzBody>,
    /// `pathPrefix`, of HTTP.
    #[prost(string, tag = "10")]
    pub path_prefix: String,
    /// `includeRequestHeadersInCheck`, of HTTP.
    #[prost(string, repeated, tag = "11")]
    pub request_headers: Vec<String>,
    /// `includeAdditionalHeadersInCheck`, of HTTP.
    #[prost(message, repeated, tag = "12")]
    pub additional_headers: Vec<ExtAuthzHeader>,
    /// `headersToUpstreamOnAllow`, of HTTP.
    #[prost(string, repeated, tag = "13")]
    pub to_upstream_on_allow: Vec<String>,
    /// `headersToDownstreamOnAllow`, of HTTP.
    #[prost(string, repeated, tag = "14")]
    pub to_downstream_on_allow: Vec<String>,
    /// `headersToDownstreamOnDeny`, of HTTP.
    #[prost(string, repeated, tag = "15")]
    pub to_downstream_on_deny: Vec<String>,
}

/// What an authorizer speaks. The numbers leave zero without a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ExtAuthzProtocol {
    /// Not a protocol: nobody to ask.
    Invalid = 0,
    /// `envoyExtAuthzGrpc`.
    Grpc = 1,
    /// `envoyExtAuthzHttp`.
    Http = 2,
}

/// `includeRequestBodyInCheck`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct ExtAuthzBody {
    /// `maxRequestBytes`, at least 1.
    #[prost(uint32, tag = "1")]
    pub most: u32,
    /// `allowPartialMessage`.
    #[prost(bool, tag = "2")]
    pub partial: bool,
    /// `packAsBytes`.
    #[prost(bool, tag = "3")]
    pub as_bytes: bool,
}

/// A header.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ExtAuthzHeader {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}
