//! `trafficPolicy.connectionPool`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How many connections and requests there may be, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectionPool {
    /// Of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// Of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// Connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Tcp {
    /// The most connections to the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub max_connections: Option<i64>,
    /// How long connecting may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub connect_timeout: Option<String>,
    /// TCP keepalive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How long a connection may live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_connection_duration: Option<String>,
    /// How long a connection may be idle; 0s is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
}

/// TCP keepalive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TcpKeepalive {
    /// How many probes without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub probes: Option<i64>,
    /// How long idle before the first probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub time: Option<String>,
    /// How long between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub interval: Option<String>,
}

/// HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Http {
    /// The most requests that wait for a connection.
    #[serde(rename = "http1MaxPendingRequests", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub http1_max_pending_requests: Option<i64>,
    /// The most requests under way.
    #[serde(rename = "http2MaxRequests", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub http2_max_requests: Option<i64>,
    /// The most requests on one connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub max_requests_per_connection: Option<i64>,
    /// The most retries under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub max_retries: Option<i64>,
    /// How long a connection may be without a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub idle_timeout: Option<String>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]))]
    pub h2_upgrade_policy: Option<String>,
    /// Whether the client's protocol is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_client_protocol: Option<bool>,
    /// The most streams on one HTTP/2 connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub max_concurrent_streams: Option<i64>,
    /// HTTP/2 keepalive.
    #[serde(rename = "http2KeepAlive", skip_serializing_if = "Option::is_none")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// HTTP/2 keepalive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Http2KeepAlive {
    /// How long between pings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub interval: Option<String>,
    /// How long an answer may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<String>,
}
