//! `trafficPolicy.loadBalancer`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::schema;

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [
    {"not": {"anyOf": [{"required": ["simple"]}, {"required": ["consistentHash"]}]}},
    {"required": ["simple"]},
    {"required": ["consistentHash"]}
]))]
pub struct LoadBalancer {
    /// An algorithm without settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]))]
    pub simple: Option<String>,
    /// By a hash of something of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// By locality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality_lb_setting: Option<LocalityLbSetting>,
    /// By zone, with weights that follow the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
    /// Deprecated: use warmup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub warmup_duration_secs: Option<String>,
    /// Less traffic to endpoints that are new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
}

/// By a hash of something of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("allOf" = [
    {"oneOf": [
        {"not": {"anyOf": [
            {"required": ["httpHeaderName"]}, {"required": ["httpCookie"]},
            {"required": ["useSourceIp"]}, {"required": ["httpQueryParameterName"]}
        ]}},
        {"required": ["httpHeaderName"]},
        {"required": ["httpCookie"]},
        {"required": ["useSourceIp"]},
        {"required": ["httpQueryParameterName"]}
    ]},
    {"oneOf": [
        {"not": {"anyOf": [{"required": ["ringHash"]}, {"required": ["maglev"]}]}},
        {"required": ["ringHash"]},
        {"required": ["maglev"]}
    ]}
]))]
pub struct ConsistentHash {
    /// A header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_header_name: Option<String>,
    /// A cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_cookie: Option<HttpCookie>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_source_ip: Option<bool>,
    /// A query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_query_parameter_name: Option<String>,
    /// The ring hash algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<RingHash>,
    /// The Maglev algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maglev: Option<Maglev>,
    /// Deprecated: use ringHash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint64")]
    pub minimum_ring_size: Option<i64>,
}

/// A cookie that is made where the request has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct HttpCookie {
    /// Its name.
    pub name: String,
    /// Its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How long it lives; 0s is the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Further attributes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<CookieAttribute>>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct CookieAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// The ring hash algorithm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RingHash {
    /// The least nodes of the ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint64")]
    pub minimum_ring_size: Option<i64>,
}

/// The Maglev algorithm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Maglev {
    /// The table's size, a prime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint64")]
    pub table_size: Option<i64>,
}

/// By locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LocalityLbSetting {
    /// Weights by the client's locality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribute: Option<Vec<Distribute>>,
    /// Which region stands in for which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Vec<Failover>>,
    /// Labels by which endpoints are ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_priority: Option<Vec<String>>,
    /// Whether locality counts, whatever the mesh's settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bool_or_null")]
    pub enabled: Option<bool>,
}

/// Weights for clients of a locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Distribute {
    /// The clients' locality, `REGION/ZONE/SUBZONE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The weight of each locality of the endpoints, 100 in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "weights")]
    pub to: Option<BTreeMap<String, i64>>,
}

fn weights(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": schema::uint32(generator)})
}

/// Which region stands in for which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Failover {
    /// The region that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The region that stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// By zone, with weights that follow the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ZoneAwareLbSetting {
    /// Whether zones count, whatever the mesh's settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bool_or_null")]
    pub enabled: Option<bool>,
    /// Which region stands in for which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Vec<Failover>>,
    /// Labels by which endpoints are ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_priority: Option<Vec<String>>,
    /// The least endpoints of the client's region for which zones count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "least_cluster")]
    pub min_cluster_size: Option<i64>,
}

fn least_cluster(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1, "title": schema::OR_NULL})
}

/// Less traffic to endpoints that are new.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["duration"]))]
pub struct Warmup {
    /// For how long an endpoint is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub duration: Option<String>,
    /// The least traffic that it gets, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::percent_or_null")]
    pub minimum_percent: Option<f64>,
    /// How the share grows: 1 is evenly.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "aggression")]
    pub aggression: Option<f64>,
}

fn aggression(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number", "format": "double", "minimum": 0, "title": schema::OR_NULL})
}
