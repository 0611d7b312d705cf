//! `trafficPolicy.outlierDetection`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::schema;

/// Which endpoints are left out for a while.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Deprecated: use consecutiveGatewayErrors or consecutive5xxErrors.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub consecutive_errors: Option<i64>,
    /// Whether failures to connect are counted apart from errors that the host answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_external_local_origin_errors: Option<bool>,
    /// How many failures to connect in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32_or_null")]
    pub consecutive_local_origin_failures: Option<i64>,
    /// How many 502, 503 or 504 in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32_or_null")]
    pub consecutive_gateway_errors: Option<i64>,
    /// How many 5xx in a row.
    #[serde(rename = "consecutive5xxErrors", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32_or_null")]
    pub consecutive_5xx_errors: Option<i64>,
    /// How often it is looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub interval: Option<String>,
    /// For how long an endpoint is left out the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub base_ejection_time: Option<String>,
    /// The most endpoints that are left out, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub max_ejection_percent: Option<i64>,
    /// Below how many healthy endpoints, in percent, all are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub min_health_percent: Option<i64>,
    /// Statuses that count as errors in place of 5xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "statuses")]
    pub outlier_detection_http_error_codes: Option<Vec<i64>>,
}

fn statuses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}})
}
