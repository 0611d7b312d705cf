//! `trafficPolicy` as it was written: what is absent is `None`, since subsets, the mesh's settings and Istio's defaults fill
//! it in ([`super::Merged::traffic`]).

use crate::client_tls::ClientTls;
use crate::traffic::{
    Balancer, HttpLimits, LocalitySetting, OutlierDetection, ProxyProtocol, RetryBudget, TcpLimits, Warmup,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `trafficPolicy`, as far as it decides anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrafficPolicy {
    /// `tls`; `None` leaves it to automatic mutual TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// `loadBalancer`, `connectionPool` and `outlierDetection`.
    pub settings: Settings,
    /// `proxyProtocol`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
    /// `portLevelSettings`, by the Service's port. They take the place of the whole policy on their port and inherit nothing.
    pub ports: BTreeMap<u16, PortPolicy>,
}

impl TrafficPolicy {
    /// What is said of TLS on a Service's port.
    #[must_use]
    pub fn tls_on(&self, port: u16) -> Option<&Arc<ClientTls>> {
        match self.ports.get(&port) {
            Some(port) => port.tls.as_ref(),
            None => self.tls.as_ref(),
        }
    }
}

/// One entry of `portLevelSettings`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortPolicy {
    /// `tls`; `None` leaves it to automatic mutual TLS.
    pub tls: Option<Arc<ClientTls>>,
    /// `loadBalancer`, `connectionPool` and `outlierDetection`.
    pub settings: Settings,
}

/// What a policy and a port's have alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `loadBalancer`.
    pub balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outliers: Option<OutlierDetection>,
}

/// `loadBalancer`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadBalancer {
    /// `simple` or `consistentHash`.
    pub balancer: Balancer,
    /// `localityLbSetting`.
    pub locality: LocalityRule,
    /// `warmup`, or `warmupDurationSecs`.
    pub warmup: Option<Warmup>,
}

/// What a rule says of localities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LocalityRule {
    /// Nothing: the Service's or the mesh's own setting holds.
    #[default]
    Unsaid,
    /// `enabled: false`: they make no difference.
    Off,
    /// What they make.
    Set(LocalitySetting),
}

/// `connectionPool`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    /// `tcp`.
    pub tcp: TcpLimits,
    /// `http`.
    pub http: HttpLimits,
}
