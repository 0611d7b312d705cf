//! The resource's fields, from which its CRD is generated. Modes and durations stay text here, as an object may come from a
//! cluster whose CRD is not ours; the parser decides what they mean.

mod connection_pool;
mod load_balancer;
mod outlier_detection;
mod tls;

pub use connection_pool::{ConnectionPool, Http, Http2KeepAlive, Tcp, TcpKeepalive};
pub use load_balancer::{
    ConsistentHash, CookieAttribute, Distribute, Failover, HttpCookie, LoadBalancer, LocalityLbSetting, Maglev,
    RingHash, Warmup, ZoneAwareLbSetting,
};
pub use outlier_detection::OutlierDetection;
pub use tls::ClientTlsSettings;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::selector::WorkloadSelector;
use crate::status::Status;

/// How clients connect to a host, after routing.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "DestinationRule",
    plural = "destinationrules",
    shortname = "dr",
    category = "istio-io",
    category = "networking-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "How clients connect to a host: load balancing, connection pools, outliers, TLS; and its named subsets.",
    printcolumn(
        name = "Host",
        type_ = "string",
        json_path = ".spec.host",
        description = "The name of a service from the service registry"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the resource was created."
    )
)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["host"]))]
pub struct DestinationRuleSpec {
    /// The host that the rule is for: a name, a short name in the rule's namespace, or a wildcard.
    pub host: String,
    /// Load balancing, connection pools, outliers and TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named sets of endpoints, by their labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subsets: Option<Vec<Subset>>,
    /// The namespaces whose clients the rule is for: `.`, `*`, or names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_to: Option<Vec<String>>,
    /// The clients that the rule is for, in its own namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,
}

/// What holds for a host or a subset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections and requests there may be, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are left out for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTlsSettings>,
    /// What holds for single ports in place of all of the above.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 4096))]
    pub port_level_settings: Option<Vec<PortTrafficPolicy>>,
    /// How TCP is tunnelled over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Whether connections begin with the PROXY protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many retries there may be beside the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

/// What holds for one port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// The Service's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortSelector>,
    /// How an endpoint is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections and requests there may be, and for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are left out for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTlsSettings>,
}

/// A port by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PortSelector {
    /// The number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub number: Option<i64>,
}

/// A named set of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["name"]))]
pub struct Subset {
    /// The name that routes refer to.
    pub name: String,
    /// Labels of the pods that belong to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What holds for it in place of the rule's own policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// TCP over an HTTP tunnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["targetHost", "targetPort"]))]
pub struct Tunnel {
    /// CONNECT or POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The host behind the tunnel.
    pub target_host: String,
    /// The port behind the tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub target_port: Option<i64>,
}

/// The PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxyProtocol {
    /// V1 or V2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["V1", "V2"]))]
    pub version: Option<String>,
}

/// How many retries there may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RetryBudget {
    /// In percent of the requests under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::percent_or_null")]
    pub percent: Option<f64>,
    /// How many there may always be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub min_retry_concurrency: Option<i64>,
    /// The time over which requests are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_interval: Option<String>,
}
