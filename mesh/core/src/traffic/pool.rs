//! `trafficPolicy.connectionPool` and `retryBudget`: how much of a destination a client uses at a time.

use std::time::Duration;

/// `connectionPool.tcp`. What is `None` has no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpLimits {
    /// `maxConnections`: to all endpoints together.
    pub max_connections: Option<u32>,
    /// `connectTimeout`; 10 s where it is absent.
    pub connect_timeout: Option<Duration>,
    /// `tcpKeepalive`.
    pub keepalive: Option<Keepalive>,
    /// `maxConnectionDuration`.
    pub max_connection_duration: Option<Duration>,
    /// `idleTimeout`; zero is none.
    pub idle_timeout: Option<Duration>,
}

/// `tcpKeepalive`. What is `None` is the operating system's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// `probes`.
    pub probes: Option<u32>,
    /// `time`.
    pub time: Option<Duration>,
    /// `interval`.
    pub interval: Option<Duration>,
}

/// `connectionPool.http`. What is `None` has no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpLimits {
    /// `http1MaxPendingRequests`: requests that wait for a connection.
    pub max_pending: Option<u32>,
    /// `http2MaxRequests`: requests under way, to all endpoints together, HTTP/1.1 as well.
    pub max_requests: Option<u32>,
    /// `maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<u32>,
    /// `maxRetries`: under way at a time, to all endpoints together.
    pub max_retries: Option<u32>,
    /// `idleTimeout`; 1 h where it is absent.
    pub idle_timeout: Option<Duration>,
    /// `h2UpgradePolicy`.
    pub upgrade: UpgradePolicy,
    /// `useClientProtocol`.
    pub use_client_protocol: bool,
    /// `maxConcurrentStreams` of one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// `http2KeepAlive`.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// `h2UpgradePolicy`: whether HTTP/1.1 requests are sent in HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum UpgradePolicy {
    /// As the mesh has it: they are not.
    #[default]
    Default,
    /// They are not.
    DoNotUpgrade,
    /// They are.
    Upgrade,
}

/// `http2KeepAlive`: pings on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2KeepAlive {
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// `retryBudget`: retries under way may be so many percent of the requests under way.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryBudget {
    /// `percent` (20).
    pub percent: f64,
    /// `minRetryConcurrency` (3): so many are always allowed.
    pub min_concurrency: u32,
    /// `budgetInterval`: over which requests are counted; `None` counts those under way.
    pub interval: Option<Duration>,
}
