//! `http`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{HttpMatch, StringMatch};
use crate::schema;

/// A route of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRoute {
    /// The name in access logs and messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which requests it is for: any of these; none is every one.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<HttpMatch>>,
    /// Where they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Vec<HttpRouteDestination>>,
    /// They are sent elsewhere by an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// They are answered with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_response: Option<DirectResponse>,
    /// The VirtualService without hosts whose routes take this one's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegate>,
    /// What changes in the path and host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// How long a request may take, retries included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<String>,
    /// What is tried again, and how often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// What goes wrong on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Where a copy goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Destination>,
    /// Where copies go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirrors: Option<Vec<Mirror>>,
    /// Deprecated: use mirrorPercentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32_or_null")]
    pub mirror_percent: Option<i64>,
    /// Deprecated: use mirrorPercentage.
    #[serde(rename = "mirror_percent", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32_or_null")]
    pub mirror_percent_snake: Option<i64>,
    /// Of how many requests a copy goes to `mirror`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror_percentage: Option<Percent>,
    /// What browsers of other origins may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors_policy: Option<CorsPolicy>,
    /// What changes in the headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
}

/// The VirtualService whose routes take a route's place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Delegate {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace; absent is this resource's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What changes in headers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Headers {
    /// In requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<HeaderOperations>,
    /// In answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<HeaderOperations>,
}

/// What changes in headers one way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeaderOperations {
    /// Values that take the place of the present ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<BTreeMap<String, String>>,
    /// Values beside the present ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<BTreeMap<String, String>>,
    /// Headers that are taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Vec<String>>,
}

/// A host, and which of its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["host"]))]
pub struct Destination {
    /// The host: a name, or a short name in the resource's namespace.
    pub host: String,
    /// The subset that a DestinationRule of the host names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// The port; absent is the port that was called, or the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortSelector>,
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

/// Where requests go, and how many of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["destination"]))]
pub struct HttpRouteDestination {
    /// The host.
    #[schemars(with = "Destination")]
    pub destination: Option<Destination>,
    /// The share among the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub weight: Option<i64>,
    /// What changes in the headers of these requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [
    {"not": {"anyOf": [{"required": ["port"]}, {"required": ["derivePort"]}]}},
    {"required": ["port"]},
    {"required": ["derivePort"]}
]))]
pub struct Redirect {
    /// The path in place of the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What takes the place of the part of the path that the match's prefix matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_rewrite: Option<String>,
    /// The host in place of the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The port in place of the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub port: Option<i64>,
    /// Where the port is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]))]
    pub derive_port: Option<String>,
    /// The scheme in place of the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The status: 301, 302, 303, 307 or 308; absent is 301.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub redirect_code: Option<i64>,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["status"]))]
pub struct DirectResponse {
    /// Its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub status: Option<i64>,
    /// Its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<HttpBody>,
}

/// A body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("oneOf" = [
    {"not": {"anyOf": [{"required": ["string"]}, {"required": ["bytes"]}]}},
    {"required": ["string"]},
    {"required": ["bytes"]}
]))]
pub struct HttpBody {
    /// As text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string: Option<String>,
    /// As bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "byte"))]
    pub bytes: Option<String>,
}

/// What changes in the path and host of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Rewrite {
    /// What takes the place of the part of the path that the match's prefix matched, or of the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The host in place of the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The path by a regular expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A replacement by a regular expression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RegexRewrite {
    /// The expression, in RE2's syntax.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What takes the place of what it matches; groups are `\1` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
}

/// What is tried again, and how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Retries {
    /// How many tries there are after the first; 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub attempts: Option<i64>,
    /// How long each try may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub per_try_timeout: Option<String>,
    /// On what there is another, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<String>,
    /// Whether they may go to other localities.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bool_or_null")]
    pub retry_remote_localities: Option<bool>,
    /// Whether endpoints that were tried are avoided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bool_or_null")]
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The least wait before another; 25ms where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub backoff: Option<String>,
}

/// What goes wrong on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fault {
    /// Requests wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Requests are answered with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
}

/// Requests wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [
    {"not": {"anyOf": [{"required": ["fixedDelay"]}, {"required": ["exponentialDelay"]}]}},
    {"required": ["fixedDelay"]},
    {"required": ["exponentialDelay"]}
]))]
pub struct Delay {
    /// Deprecated: use percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub percent: Option<i64>,
    /// How long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub fixed_delay: Option<String>,
    /// Not supported, as in Istio.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub exponential_delay: Option<String>,
    /// How many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
}

/// Requests are answered with an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [
    {"not": {"anyOf": [{"required": ["httpStatus"]}, {"required": ["grpcStatus"]}, {"required": ["http2Error"]}]}},
    {"required": ["httpStatus"]},
    {"required": ["grpcStatus"]},
    {"required": ["http2Error"]}
]))]
pub struct Abort {
    /// A status of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub http_status: Option<i64>,
    /// A status of gRPC, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<String>,
    /// Not supported, as in Istio.
    #[serde(rename = "http2Error", skip_serializing_if = "Option::is_none")]
    pub http2_error: Option<String>,
    /// How many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
}

/// A share in percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Percent {
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "double")]
    pub value: Option<f64>,
}

/// Where copies go, and of how many requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["destination"]))]
pub struct Mirror {
    /// The host.
    #[schemars(with = "Destination")]
    pub destination: Option<Destination>,
    /// Of how many requests; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
}

/// What browsers of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Deprecated: use allowOrigins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_origin: Option<Vec<String>>,
    /// The origins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_origins: Option<Vec<StringMatch>>,
    /// The methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_methods: Option<Vec<String>>,
    /// The headers that they may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_headers: Option<Vec<String>>,
    /// The headers that they may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expose_headers: Option<Vec<String>>,
    /// How long they may remember this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub max_age: Option<String>,
    /// Whether they may send credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bool_or_null")]
    pub allow_credentials: Option<bool>,
    /// What becomes of preflights of other origins: FORWARD (and absent) sends them on, IGNORE answers them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["UNSPECIFIED", "FORWARD", "IGNORE"]))]
    pub unmatched_preflights: Option<String>,
}

fn double(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number", "format": "double"})
}
