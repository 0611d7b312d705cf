//! How a client uses a destination's endpoints: a DestinationRule's `trafficPolicy`, resolved for one port of one subset.
//!
//! The operator resolves it, the wire carries it, the proxy follows it. Everything is optional: [`Traffic::default`] is what
//! holds where no rule says anything, and its values are Istio's.

mod balancer;
mod defaults;
mod locality;
mod outliers;
mod pool;

pub use balancer::{Balancer, ConsistentHash, Cookie, HashAlgorithm, HashKey, Warmup};
pub use defaults::{Distribution, HOSTNAME, MeshDefaults, NETWORK, REGION, SUBZONE, ZONE};
pub use locality::{Distribute, Failover, Locality, LocalitySetting};
pub use outliers::OutlierDetection;
pub use pool::{Http2KeepAlive, HttpLimits, Keepalive, RetryBudget, TcpLimits, UpgradePolicy};

/// `proxyProtocol.version`: the header that opens a connection (HAProxy's PROXY protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// The text form.
    V1,
    /// The binary form.
    V2,
}

/// A `trafficPolicy` without its TLS, which [`crate::client_tls`] has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// `loadBalancer.simple` or `consistentHash`.
    pub balancer: Balancer,
    /// `loadBalancer.localityLbSetting`, or the mesh's own; `None`: localities make no difference.
    pub locality: Option<LocalitySetting>,
    /// `loadBalancer.warmup`, or `warmupDurationSecs`.
    pub warmup: Option<Warmup>,
    /// `connectionPool.tcp`.
    pub tcp: TcpLimits,
    /// `connectionPool.http`.
    pub http: HttpLimits,
    /// `outlierDetection`.
    pub outliers: Option<OutlierDetection>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
    /// `proxyProtocol`.
    pub proxy_protocol: Option<ProxyProtocol>,
}
