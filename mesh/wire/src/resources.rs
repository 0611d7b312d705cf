//! The resources of the discovery stream, as protobuf messages.
//!
//! Field numbers are the protocol: never reuse or renumber one. Unknown fields are ignored by older proxies, so a field
//! whose absence would weaken security needs a new type.

mod authorization;
mod candidates;
mod ext_authz;
mod request_authentication;
mod routing;
mod traffic;

pub use authorization::*;
pub use candidates::*;
pub use ext_authz::*;
use prost::Message;
pub use request_authentication::*;
pub use routing::*;
pub use traffic::*;

/// The names and type URLs of the resource types.
pub mod type_url {
    /// [`super::Workload`]: what the proxy's own pod is. One resource, [`super::SELF_NAME`].
    pub const WORKLOAD: &str = "type.googleapis.com/pinnace.mesh.v1.Workload";
    /// [`super::InboundPolicy`]: who may call the pod, and how. One resource, [`super::SELF_NAME`].
    pub const INBOUND_POLICY: &str = "type.googleapis.com/pinnace.mesh.v1.InboundPolicy";
    /// [`super::AuthorizationPolicies`]: which calls the pod takes. One resource, [`super::SELF_NAME`].
    pub const AUTHORIZATION_POLICIES: &str = "type.googleapis.com/pinnace.mesh.v1.AuthorizationPolicies";
    /// [`super::RequestAuthentications`]: whose tokens it believes. One resource, [`super::SELF_NAME`].
    pub const REQUEST_AUTHENTICATIONS: &str = "type.googleapis.com/pinnace.mesh.v1.RequestAuthentications";
    /// [`super::CandidateSets`]: what is tried before it is in force. One resource, [`super::SELF_NAME`]; nobody waits for it, and
    /// only an operator that says [so](super::TAKES_CANDIDATE_SETS) is asked for it.
    pub const CANDIDATE_SETS: &str = "type.googleapis.com/pinnace.mesh.v1.CandidateSets";
    /// [`super::TrustBundle`]: whom the mesh trusts. One resource, [`super::SELF_NAME`].
    pub const TRUST_BUNDLE: &str = "type.googleapis.com/pinnace.mesh.v1.TrustBundle";
    /// [`super::Destination`]: named by a query, see [`crate::query`].
    pub const DESTINATION: &str = "type.googleapis.com/pinnace.mesh.v1.Destination";

    /// [`super::KeyRefresh`]: named by [`mesh_core::jwt::KeyOrigin::name`]. A proxy subscribes to one to have keys fetched
    /// again, is answered once they were, and unsubscribes; what is no origin of its own rules is answered as absent.
    pub const KEY_REFRESH: &str = "type.googleapis.com/pinnace.mesh.v1.KeyRefresh";

    /// What is sent by itself, in the order in which a proxy subscribes: trust before policy before traffic.
    pub const ALL: [&str; 7] = [
        TRUST_BUNDLE,
        WORKLOAD,
        INBOUND_POLICY,
        AUTHORIZATION_POLICIES,
        REQUEST_AUTHENTICATIONS,
        CANDIDATE_SETS,
        DESTINATION,
    ];
}

/// The header of an operator's answer to a stream that says that [`type_url::KEY_REFRESH`] may be subscribed to: one of an
/// earlier version ends the stream.
pub const TAKES_KEY_REFRESH: &str = "pinnace-key-refresh";

/// The same of [`type_url::CANDIDATE_SETS`].
pub const TAKES_CANDIDATE_SETS: &str = "pinnace-candidate-sets";

/// What came of a proxy's asking for keys that it may not know yet.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct KeyRefresh {
    /// Whether they were fetched, from the beginning, after it asked. What is new of them was sent before.
    #[prost(bool, tag = "1")]
    pub fetched: bool,
}

/// The name of the resources of which a proxy has exactly one.
pub const SELF_NAME: &str = "self";

/// The keys of `node.metadata` in the first request of a stream, with which a proxy says which pod it is.
pub mod node_metadata {
    /// The pod's namespace.
    pub const NAMESPACE: &str = "NAMESPACE";
    /// The pod's name.
    pub const POD_NAME: &str = "POD_NAME";
    /// The proxy's version.
    pub const VERSION: &str = "PINNACE_VERSION";
}

/// What the proxy's own pod is.
#[derive(Clone, PartialEq, Message)]
pub struct Workload {
    /// The pod's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The pod's name.
    #[prost(string, tag = "2")]
    pub pod: String,
    /// The pod's service account.
    #[prost(string, tag = "3")]
    pub service_account: String,
    /// Istio's canonical service name.
    #[prost(string, tag = "4")]
    pub canonical_name: String,
    /// Istio's canonical revision.
    #[prost(string, tag = "5")]
    pub canonical_revision: String,
    /// What Services declare of the pod's ports.
    #[prost(message, repeated, tag = "6")]
    pub ports: Vec<WorkloadPort>,
    /// `meshConfig.outboundTrafficPolicy.mode`.
    #[prost(enumeration = "OutboundMode", tag = "7")]
    pub outbound_mode: i32,
    /// What metrics say of the pod.
    #[prost(message, optional, tag = "50")]
    pub metadata: Option<Metadata>,
    /// What is written of requests and connections, and where.
    #[prost(message, optional, tag = "51")]
    pub access_log: Option<AccessLog>,
    /// The pod's labels.
    #[prost(message, repeated, tag = "100")]
    pub labels: Vec<KeyValue>,
    /// Where the pod is.
    #[prost(message, optional, tag = "101")]
    pub locality: Option<Locality>,
    /// Names of destinations to fetch before the application asks for them, see [`crate::query`].
    #[prost(string, repeated, tag = "102")]
    pub ahead: Vec<String>,
}

/// A name and a value.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyValue {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// See [`mesh_core::traffic::Locality`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Locality {
    /// The region.
    #[prost(string, tag = "1")]
    pub region: String,
    /// The zone.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// The subzone.
    #[prost(string, tag = "3")]
    pub subzone: String,
}

/// See [`mesh_core::workload::Metadata`].
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// The name of what owns the pods.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The label `app`.
    #[prost(string, tag = "3")]
    pub app: String,
    /// The label `version`.
    #[prost(string, tag = "4")]
    pub version: String,
    /// Istio's canonical service name.
    #[prost(string, tag = "5")]
    pub canonical_name: String,
    /// Istio's canonical revision.
    #[prost(string, tag = "6")]
    pub canonical_revision: String,
    /// The cluster.
    #[prost(string, tag = "7")]
    pub cluster: String,
}

/// `meshConfig.accessLogFile`, `accessLogFormat` and `accessLogEncoding`.
#[derive(Clone, PartialEq, Message)]
pub struct AccessLog {
    /// Where to; empty: errors alone are logged, to standard output.
    #[prost(string, tag = "1")]
    pub file: String,
    /// The format; empty: Istio's own.
    #[prost(string, tag = "2")]
    pub format: String,
    /// Whether lines are JSON.
    #[prost(bool, tag = "3")]
    pub json: bool,
}

/// One declared port of a workload.
#[derive(Clone, PartialEq, Message)]
pub struct WorkloadPort {
    /// The container's port.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// What it speaks.
    #[prost(enumeration = "Protocol", tag = "2")]
    pub protocol: i32,
    /// The fully qualified name of the first Service that leads to it; empty where none does.
    #[prost(string, tag = "50")]
    pub service: String,
}

/// Where traffic to what the mesh does not know may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum OutboundMode {
    /// Anywhere, as it was dialled.
    AllowAny = 0,
    /// Nowhere.
    RegistryOnly = 1,
}

/// What a port was declared to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Protocol {
    /// Not declared.
    Detect = 0,
    /// HTTP/1.x.
    Http = 1,
    /// HTTP/2, gRPC included.
    Http2 = 2,
    /// Opaque.
    Tcp = 3,
    /// Not TCP.
    Udp = 4,
}

/// The PeerAuthentication modes in force on the pod's ports. A policy that cannot be decoded denies, so the numbers leave
/// zero without a meaning.
#[derive(Clone, PartialEq, Message)]
pub struct InboundPolicy {
    /// The mode of ports that `ports` does not name.
    #[prost(enumeration = "PeerMode", tag = "1")]
    pub mode: i32,
    /// Ports with a mode of their own.
    #[prost(message, repeated, tag = "2")]
    pub ports: Vec<PortPeerMode>,
    /// `namespace/name` of the resources that decided.
    #[prost(string, repeated, tag = "3")]
    pub decided_by: Vec<String>,
}

/// The mode of one port.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PortPeerMode {
    /// The workload's port.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// Its mode.
    #[prost(enumeration = "PeerMode", tag = "2")]
    pub mode: i32,
}

/// PeerAuthentication's modes, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PeerMode {
    /// Not a mode: refuse.
    Invalid = 0,
    /// Plaintext only.
    Disable = 1,
    /// Plaintext and mutual TLS.
    Permissive = 2,
    /// Mutual TLS only.
    Strict = 3,
}

/// Whom the mesh trusts.
#[derive(Clone, PartialEq, Message)]
pub struct TrustBundle {
    /// The mesh's trust domain.
    #[prost(string, tag = "1")]
    pub trust_domain: String,
    /// Further trust domains that count as the mesh's own.
    #[prost(string, repeated, tag = "2")]
    pub aliases: Vec<String>,
    /// Root certificates, DER.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub roots: Vec<bytes::Bytes>,
}

/// See [`mesh_core::destination::Destination`].
#[derive(Clone, PartialEq, Message)]
pub struct Destination {
    /// The Service's fully qualified name, or a pod's address.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The Service's port.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// What it speaks.
    #[prost(enumeration = "Protocol", tag = "4")]
    pub protocol: i32,
    /// How an endpoint is chosen.
    #[prost(enumeration = "Resolution", tag = "5")]
    pub resolution: i32,
    /// The endpoints.
    #[prost(message, repeated, tag = "6")]
    pub endpoints: Vec<Endpoint>,
    /// The SPIFFE IDs that a server may present.
    #[prost(string, repeated, tag = "7")]
    pub identities: Vec<String>,
    /// What metrics say of the workloads that the endpoints belong to, each once.
    #[prost(message, repeated, tag = "50")]
    pub workloads: Vec<Metadata>,
    /// Endpoints that are not ready, where none is.
    #[prost(message, repeated, tag = "70")]
    pub unready: Vec<Endpoint>,
    /// What a DestinationRule says of TLS; absent is automatic mutual TLS.
    #[prost(message, optional, tag = "40")]
    pub client_tls: Option<ClientTls>,
    /// The places where the endpoints are, each once.
    #[prost(message, repeated, tag = "100")]
    pub localities: Vec<Locality>,
    /// What the endpoints have of the labels of `failoverPriority`, each once.
    #[prost(message, repeated, tag = "101")]
    pub ranks: Vec<Ranks>,
    /// What a DestinationRule says of everything but TLS; absent is the default.
    #[prost(message, optional, tag = "102")]
    pub traffic: Option<Traffic>,
    /// The subsets that routes lead to.
    #[prost(message, repeated, tag = "103")]
    pub subsets: Vec<Subset>,
    /// Where a VirtualService sends what is meant for the destination; absent is to the destination itself.
    #[prost(message, optional, tag = "104")]
    pub routes: Option<Routes>,
    /// `namespace/name` of the DestinationRule that governs; empty where there is none.
    #[prost(string, tag = "105")]
    pub rule: String,
    /// Endpoints that are known by names.
    #[prost(message, repeated, tag = "120")]
    pub names: Vec<EndpointName>,
    /// Whether TLS of the application's own is for it by its server name.
    #[prost(bool, tag = "121")]
    pub by_sni: bool,
}

/// See [`mesh_core::destination::Name`].
#[derive(Clone, PartialEq, Message)]
pub struct EndpointName {
    /// The endpoint as an index into the destination's `endpoints`.
    #[prost(uint32, tag = "1")]
    pub endpoint: u32,
    /// The name.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Whether all of its addresses are endpoints.
    #[prost(bool, tag = "3")]
    pub all: bool,
}

/// See [`mesh_core::client_tls::TlsRule`].
#[derive(Clone, PartialEq, Message)]
pub struct ClientTls {
    /// `namespace/name` of the DestinationRule.
    #[prost(string, tag = "1")]
    pub rule: String,
    /// What is done.
    #[prost(enumeration = "TlsMode", tag = "2")]
    pub mode: i32,
    /// The SNI; empty is the one that the mode has by itself.
    #[prost(string, tag = "3")]
    pub sni: String,
    /// Names of which the server must have one.
    #[prost(string, repeated, tag = "4")]
    pub subject_alt_names: Vec<String>,
    /// A file of roots; empty is the publicly trusted ones.
    #[prost(string, tag = "5")]
    pub ca_certificates: String,
    /// A file of revocation lists.
    #[prost(string, tag = "6")]
    pub ca_crl: String,
    /// Whether the server is not verified.
    #[prost(bool, tag = "7")]
    pub insecure_skip_verify: bool,
    /// The file of the client's certificate.
    #[prost(string, tag = "8")]
    pub client_certificate: String,
    /// The file of its key.
    #[prost(string, tag = "9")]
    pub private_key: String,
    /// Why connections are refused.
    #[prost(string, tag = "10")]
    pub reason: String,
}

/// `ClientTLSSettings.mode`, and what stands for settings that cannot be followed. A mode that cannot be decoded must not
/// become plaintext, so the numbers leave zero without a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TlsMode {
    /// Not a mode: refuse the message.
    Invalid = 0,
    /// No TLS.
    Disable = 1,
    /// TLS.
    Simple = 2,
    /// TLS with a certificate of the client's.
    Mutual = 3,
    /// The mesh's mutual TLS.
    IstioMutual = 4,
    /// Nothing may be sent.
    Refused = 5,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Resolution {
    /// Balanced over all.
    Balanced = 0,
    /// The one that was dialled.
    OriginalDestination = 1,
    /// Whatever was dialled.
    AsDialled = 2,
    /// The host that is named.
    Dynamic = 3,
}

/// See [`mesh_core::destination::Endpoint`]. The number 5 was in use.
#[derive(Clone, PartialEq, Message)]
pub struct Endpoint {
    /// The address: 4 or 16 bytes, network order.
    #[prost(bytes = "bytes", tag = "1")]
    pub address: bytes::Bytes,
    /// The workload's port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// Whether a client uses mutual TLS.
    #[prost(bool, tag = "3")]
    pub mutual_tls: bool,
    /// The pod's SPIFFE ID as an index into the destination's `identities`, plus one; 0 means that it has none.
    #[prost(uint32, tag = "4")]
    pub identity: u32,
    /// The pod's workload as an index into the destination's `workloads`, plus one; 0 means that it is not known.
    #[prost(uint32, tag = "50")]
    pub workload: u32,
    /// The place as an index into the destination's `localities`, plus one; 0 means that it is not known.
    #[prost(uint32, tag = "100")]
    pub locality: u32,
    /// Its share beside others of the same place; absent is 1.
    #[prost(uint32, optional, tag = "101")]
    pub weight: Option<u32>,
    /// An index into the destination's `ranks`, plus one; 0 means that it has none.
    #[prost(uint32, tag = "102")]
    pub ranks: u32,
}
