//! The messages of how a destination's endpoints are used: see [`mesh_core::traffic`]. Times are nanoseconds. A choice that
//! is there without a value is one that a later operator added: it is refused, never taken for the default.

use super::{ClientTls, KeyValue, Locality};
use prost::{Enumeration, Message, Oneof};

/// See [`mesh_core::destination::Subset`].
#[derive(Clone, PartialEq, Message)]
pub struct Subset {
    /// `name`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Indices into the destination's `endpoints`, ascending.
    #[prost(uint32, repeated, tag = "2")]
    pub endpoints: Vec<u32>,
    /// Indices into the destination's `unready`, ascending.
    #[prost(uint32, repeated, tag = "3")]
    pub unready: Vec<u32>,
    /// What a DestinationRule says of TLS; absent is automatic mutual TLS.
    #[prost(message, optional, tag = "4")]
    pub client_tls: Option<ClientTls>,
    /// What it says of everything else; absent is the default.
    #[prost(message, optional, tag = "5")]
    pub traffic: Option<Traffic>,
}

/// What an endpoint has of the labels of `failoverPriority`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ranks {
    /// The values, in the order of the labels.
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

/// See [`mesh_core::traffic::Traffic`].
#[derive(Clone, PartialEq, Message)]
pub struct Traffic {
    /// Absent is LEAST_REQUEST.
    #[prost(message, optional, tag = "1")]
    pub balancer: Option<Balancer>,
    /// Absent: localities make no difference.
    #[prost(message, optional, tag = "2")]
    pub locality: Option<LocalitySetting>,
    /// `warmup`.
    #[prost(message, optional, tag = "3")]
    pub warmup: Option<Warmup>,
    /// `connectionPool.tcp`.
    #[prost(message, optional, tag = "4")]
    pub tcp: Option<TcpLimits>,
    /// `connectionPool.http`.
    #[prost(message, optional, tag = "5")]
    pub http: Option<HttpLimits>,
    /// `outlierDetection`.
    #[prost(message, optional, tag = "6")]
    pub outliers: Option<OutlierDetection>,
    /// `retryBudget`.
    #[prost(message, optional, tag = "7")]
    pub retry_budget: Option<RetryBudget>,
    /// `proxyProtocol`.
    #[prost(enumeration = "ProxyProtocol", tag = "8")]
    pub proxy_protocol: i32,
}

/// See [`mesh_core::traffic::Balancer`].
#[derive(Clone, PartialEq, Message)]
pub struct Balancer {
    /// Which.
    #[prost(oneof = "BalancerKind", tags = "1, 2")]
    pub kind: Option<BalancerKind>,
}

/// The kinds of balancers.
#[derive(Clone, PartialEq, Oneof)]
pub enum BalancerKind {
    /// `simple`.
    #[prost(enumeration = "SimpleBalancer", tag = "1")]
    Simple(i32),
    /// `consistentHash`.
    #[prost(message, tag = "2")]
    Hash(ConsistentHash),
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SimpleBalancer {
    /// None: refuse.
    Invalid = 0,
    /// `LEAST_REQUEST`.
    LeastRequest = 1,
    /// `ROUND_ROBIN`.
    RoundRobin = 2,
    /// `RANDOM`.
    Random = 3,
    /// `PASSTHROUGH`.
    Passthrough = 4,
}

/// See [`mesh_core::traffic::ConsistentHash`].
#[derive(Clone, PartialEq, Message)]
pub struct ConsistentHash {
    /// What is hashed.
    #[prost(oneof = "HashKey", tags = "1, 2, 3, 4")]
    pub key: Option<HashKey>,
    /// How keys are spread.
    #[prost(oneof = "HashAlgorithm", tags = "5, 6")]
    pub algorithm: Option<HashAlgorithm>,
}

/// What is hashed.
#[derive(Clone, PartialEq, Oneof)]
pub enum HashKey {
    /// `httpHeaderName`.
    #[prost(string, tag = "1")]
    Header(String),
    /// `httpCookie`.
    #[prost(message, tag = "2")]
    Cookie(Cookie),
    /// `useSourceIp`.
    #[prost(bool, tag = "3")]
    SourceIp(bool),
    /// `httpQueryParameterName`.
    #[prost(string, tag = "4")]
    QueryParameter(String),
}

/// How keys are spread.
#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum HashAlgorithm {
    /// `ringHash.minimumRingSize`.
    #[prost(uint32, tag = "5")]
    Ring(u32),
    /// `maglev.tableSize`.
    #[prost(uint32, tag = "6")]
    Maglev(u32),
}

/// `httpCookie`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Cookie {
    /// `name`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `path`.
    #[prost(string, optional, tag = "2")]
    pub path: Option<String>,
    /// `ttl`.
    #[prost(uint64, optional, tag = "3")]
    pub ttl: Option<u64>,
    /// `attributes`.
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<KeyValue>,
}

/// `warmup`.
#[derive(Clone, PartialEq, Message)]
pub struct Warmup {
    /// `duration`.
    #[prost(uint64, tag = "1")]
    pub duration: u64,
    /// `minimumPercent`.
    #[prost(double, tag = "2")]
    pub minimum_percent: f64,
    /// `aggression`.
    #[prost(double, tag = "3")]
    pub aggression: f64,
}

/// See [`mesh_core::traffic::LocalitySetting`].
#[derive(Clone, PartialEq, Message)]
pub struct LocalitySetting {
    /// `distribute`.
    #[prost(message, repeated, tag = "1")]
    pub distribute: Vec<Distribute>,
    /// `failover`, from and to.
    #[prost(message, repeated, tag = "2")]
    pub failover: Vec<KeyValue>,
    /// `failoverPriority`.
    #[prost(string, repeated, tag = "3")]
    pub failover_priority: Vec<String>,
    /// Whether it holds without outlier detection.
    #[prost(bool, tag = "4")]
    pub always: bool,
}

/// One entry of `distribute`.
#[derive(Clone, PartialEq, Message)]
pub struct Distribute {
    /// `from`.
    #[prost(string, tag = "1")]
    pub from: String,
    /// `to`.
    #[prost(message, repeated, tag = "2")]
    pub to: Vec<Share>,
}

/// A place's share.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Share {
    /// The place.
    #[prost(string, tag = "1")]
    pub place: String,
    /// In percent.
    #[prost(uint32, tag = "2")]
    pub percent: u32,
}

/// See [`mesh_core::traffic::TcpLimits`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct TcpLimits {
    /// `maxConnections`.
    #[prost(uint32, optional, tag = "1")]
    pub max_connections: Option<u32>,
    /// `connectTimeout`.
    #[prost(uint64, optional, tag = "2")]
    pub connect_timeout: Option<u64>,
    /// `tcpKeepalive`.
    #[prost(message, optional, tag = "3")]
    pub keepalive: Option<Keepalive>,
    /// `maxConnectionDuration`.
    #[prost(uint64, optional, tag = "4")]
    pub max_connection_duration: Option<u64>,
    /// `idleTimeout`.
    #[prost(uint64, optional, tag = "5")]
    pub idle_timeout: Option<u64>,
}

/// `tcpKeepalive`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Keepalive {
    /// `probes`.
    #[prost(uint32, optional, tag = "1")]
    pub probes: Option<u32>,
    /// `time`.
    #[prost(uint64, optional, tag = "2")]
    pub time: Option<u64>,
    /// `interval`.
    #[prost(uint64, optional, tag = "3")]
    pub interval: Option<u64>,
}

/// See [`mesh_core::traffic::HttpLimits`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HttpLimits {
    /// `http1MaxPendingRequests`.
    #[prost(uint32, optional, tag = "1")]
    pub max_pending: Option<u32>,
    /// `http2MaxRequests`.
    #[prost(uint32, optional, tag = "2")]
    pub max_requests: Option<u32>,
    /// `maxRequestsPerConnection`.
    #[prost(uint32, optional, tag = "3")]
    pub max_requests_per_connection: Option<u32>,
    /// `maxRetries`.
    #[prost(uint32, optional, tag = "4")]
    pub max_retries: Option<u32>,
    /// `idleTimeout`.
    #[prost(uint64, optional, tag = "5")]
    pub idle_timeout: Option<u64>,
    /// `h2UpgradePolicy`.
    #[prost(enumeration = "UpgradePolicy", tag = "6")]
    pub upgrade: i32,
    /// `useClientProtocol`.
    #[prost(bool, tag = "7")]
    pub use_client_protocol: bool,
    /// `maxConcurrentStreams`.
    #[prost(uint32, optional, tag = "8")]
    pub max_concurrent_streams: Option<u32>,
    /// `http2KeepAlive`.
    #[prost(message, optional, tag = "9")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// `h2UpgradePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum UpgradePolicy {
    /// `DEFAULT`.
    Default = 0,
    /// `DO_NOT_UPGRADE`.
    DoNotUpgrade = 1,
    /// `UPGRADE`.
    Upgrade = 2,
}

/// `http2KeepAlive`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Http2KeepAlive {
    /// `interval`.
    #[prost(uint64, tag = "1")]
    pub interval: u64,
    /// `timeout`.
    #[prost(uint64, tag = "2")]
    pub timeout: u64,
}

/// See [`mesh_core::traffic::OutlierDetection`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OutlierDetection {
    /// `splitExternalLocalOriginErrors`.
    #[prost(bool, tag = "1")]
    pub split_local_errors: bool,
    /// `consecutiveLocalOriginFailures`.
    #[prost(uint32, tag = "2")]
    pub consecutive_local: u32,
    /// `consecutiveGatewayErrors`.
    #[prost(uint32, tag = "3")]
    pub consecutive_gateway: u32,
    /// `consecutive5xxErrors`.
    #[prost(uint32, tag = "4")]
    pub consecutive_5xx: u32,
    /// `interval`.
    #[prost(uint64, tag = "5")]
    pub interval: u64,
    /// `baseEjectionTime`.
    #[prost(uint64, tag = "6")]
    pub base_ejection_time: u64,
    /// `maxEjectionPercent`.
    #[prost(uint32, tag = "7")]
    pub max_ejection_percent: u32,
    /// `minHealthPercent`.
    #[prost(uint32, tag = "8")]
    pub min_health_percent: u32,
    /// Codes that count as 5xx errors.
    #[prost(uint32, repeated, tag = "9")]
    pub error_codes: Vec<u32>,
}

/// `retryBudget`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct RetryBudget {
    /// `percent`.
    #[prost(double, tag = "1")]
    pub percent: f64,
    /// `minRetryConcurrency`.
    #[prost(uint32, tag = "2")]
    pub min_concurrency: u32,
    /// `budgetInterval`.
    #[prost(uint64, optional, tag = "3")]
    pub interval: Option<u64>,
}

/// `proxyProtocol.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ProxyProtocol {
    /// No such header.
    None = 0,
    /// `V1`.
    V1 = 1,
    /// `V2`.
    V2 = 2,
}

impl From<&mesh_core::traffic::Locality> for Locality {
    fn from(locality: &mesh_core::traffic::Locality) -> Self {
        Self {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            subzone: locality.subzone.to_string(),
        }
    }
}

impl From<&Locality> for mesh_core::traffic::Locality {
    fn from(message: &Locality) -> Self {
        Self {
            region: message.region.as_str().into(),
            zone: message.zone.as_str().into(),
            subzone: message.subzone.as_str().into(),
        }
    }
}
