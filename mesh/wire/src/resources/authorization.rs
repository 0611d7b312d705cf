//! The messages of AuthorizationPolicies. Matches are written as users write them: `abc`, `abc*`, `*abc`, `*`.

use super::ext_authz::ExtAuthzProvider;
use prost::Message;

/// Every AuthorizationPolicy that is for the pod, and what decides beside them. See [`mesh_core::authorization`].
#[derive(Clone, PartialEq, Message)]
pub struct AuthorizationPolicies {
    /// The policies, those of the root namespace first.
    #[prost(message, repeated, tag = "1")]
    pub policies: Vec<AuthorizationPolicy>,
    /// How paths are normalised before anything is decided.
    #[prost(enumeration = "PathNormalization", tag = "2")]
    pub paths: i32,
    /// How many proxies in front of the mesh are trusted to tell the client in `X-Forwarded-For`.
    #[prost(uint32, tag = "3")]
    pub trusted_proxies: u32,
    /// The mesh's trust domain, under which principals are compiled.
    #[prost(string, tag = "4")]
    pub trust_domain: String,
    /// Further trust domains that count as the mesh's own.
    #[prost(string, repeated, tag = "5")]
    pub aliases: Vec<String>,
    /// The providers that CUSTOM policies name. One that is missing here cannot be asked, and what its policies match is
    /// denied.
    #[prost(message, repeated, tag = "10")]
    pub providers: Vec<ExtAuthzProvider>,
}

/// `meshConfig.pathNormalization.normalization`. The numbers leave zero without a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PathNormalization {
    /// Not a setting: refuse the message.
    Invalid = 0,
    /// Paths stay as they are.
    None = 1,
    /// RFC 3986, and `\` becomes `/`.
    Base = 2,
    /// And several slashes become one.
    MergeSlashes = 3,
    /// And `%2F` and `%5C` are decoded before it.
    DecodeAndMergeSlashes = 4,
}

/// See [`mesh_core::authorization::policy::Policy`].
#[derive(Clone, PartialEq, Message)]
pub struct AuthorizationPolicy {
    /// The resource's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The resource's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What is done with what matches.
    #[prost(enumeration = "AuthorizationAction", tag = "3")]
    pub action: i32,
    /// The extension provider that a CUSTOM action asks.
    #[prost(string, tag = "4")]
    pub provider: String,
    /// The rules; none match nothing.
    #[prost(message, repeated, tag = "5")]
    pub rules: Vec<AuthorizationRule>,
    /// Whether it only tells what it would do.
    #[prost(bool, tag = "6")]
    pub dry_run: bool,
}

/// `AuthorizationPolicy.spec.action`. An action that cannot be decoded must not become ALLOW, so the numbers leave zero
/// without a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AuthorizationAction {
    /// Not an action: refuse the message.
    Invalid = 0,
    /// Lets through.
    Allow = 1,
    /// Refuses.
    Deny = 2,
    /// Notes.
    Audit = 3,
    /// Asks a provider.
    Custom = 4,
}

/// See [`mesh_core::authorization::policy::Rule`].
#[derive(Clone, PartialEq, Message)]
pub struct AuthorizationRule {
    /// `from[].source`.
    #[prost(message, repeated, tag = "1")]
    pub from: Vec<AuthorizationSource>,
    /// `to[].operation`.
    #[prost(message, repeated, tag = "2")]
    pub to: Vec<AuthorizationOperation>,
    /// `when[]`.
    #[prost(message, repeated, tag = "3")]
    pub when: Vec<AuthorizationCondition>,
}

/// Values of which one must match, and values of which none may.
#[derive(Clone, PartialEq, Message)]
pub struct Values {
    /// One of these, unless empty.
    #[prost(string, repeated, tag = "1")]
    pub any: Vec<String>,
    /// None of these.
    #[prost(string, repeated, tag = "2")]
    pub none: Vec<String>,
}

/// See [`mesh_core::authorization::policy::Source`]. What is absent asks for nothing.
#[derive(Clone, PartialEq, Message)]
pub struct AuthorizationSource {
    /// `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    #[prost(message, optional, tag = "1")]
    pub principals: Option<Values>,
    /// `ISSUER/SUBJECT`.
    #[prost(message, optional, tag = "2")]
    pub request_principals: Option<Values>,
    /// Namespaces.
    #[prost(message, optional, tag = "3")]
    pub namespaces: Option<Values>,
    /// `NAMESPACE/SERVICE_ACCOUNT`.
    #[prost(message, optional, tag = "4")]
    pub service_accounts: Option<Values>,
    /// Trust domains.
    #[prost(message, optional, tag = "5")]
    pub trust_domains: Option<Values>,
    /// CIDRs or addresses.
    #[prost(message, optional, tag = "6")]
    pub ip_blocks: Option<Values>,
    /// CIDRs or addresses.
    #[prost(message, optional, tag = "7")]
    pub remote_ip_blocks: Option<Values>,
}

/// See [`mesh_core::authorization::policy::Operation`]. What is absent asks for nothing.
#[derive(Clone, PartialEq, Message)]
pub struct AuthorizationOperation {
    /// Hosts.
    #[prost(message, optional, tag = "1")]
    pub hosts: Option<Values>,
    /// Ports of the workload, in decimal.
    #[prost(message, optional, tag = "2")]
    pub ports: Option<Values>,
    /// Methods.
    #[prost(message, optional, tag = "3")]
    pub methods: Option<Values>,
    /// Paths, or templates with `{*}` and `{**}`.
    #[prost(message, optional, tag = "4")]
    pub paths: Option<Values>,
}

/// See [`mesh_core::authorization::policy::Condition`].
#[derive(Clone, PartialEq, Message)]
pub struct AuthorizationCondition {
    /// What is looked at.
    #[prost(enumeration = "ConditionKey", tag = "1")]
    pub key: i32,
    /// The name of a header, or of a claim and of those inside of it; none for other keys.
    #[prost(string, repeated, tag = "2")]
    pub name: Vec<String>,
    /// In the form that the key has.
    #[prost(message, optional, tag = "3")]
    pub values: Option<Values>,
}

/// `rules[].when[].key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ConditionKey {
    /// Not a key: refuse the message.
    Invalid = 0,
    /// `request.headers[NAME]`.
    Header = 1,
    /// `source.ip`.
    SourceIp = 2,
    /// `remote.ip`.
    RemoteIp = 3,
    /// `source.namespace`.
    SourceNamespace = 4,
    /// `source.serviceAccount`.
    SourceServiceAccount = 5,
    /// `source.trustDomain`.
    SourceTrustDomain = 6,
    /// `source.principal`.
    SourcePrincipal = 7,
    /// `request.auth.principal`.
    RequestPrincipal = 8,
    /// `request.auth.audiences`.
    RequestAudiences = 9,
    /// `request.auth.presenter`.
    RequestPresenter = 10,
    /// `request.auth.claims[NAME]`.
    RequestClaim = 11,
    /// `destination.ip`.
    DestinationIp = 12,
    /// `destination.port`.
    DestinationPort = 13,
    /// `connection.sni`.
    Sni = 14,
}
