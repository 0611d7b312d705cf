//! `tls` and `tcp`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Destination;
use crate::schema;

/// A route of TLS connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["match"]))]
pub struct TlsRoute {
    /// Which connections it is for: any of these.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Where they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Vec<RouteDestination>>,
}

/// What a TLS connection and its client must be: all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["sniHosts"]))]
pub struct TlsMatch {
    /// The SNI: any of these; each one of the resource's hosts, or covered by one.
    pub sni_hosts: Vec<String>,
    /// The address that is called: in any of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_subnets: Option<Vec<String>>,
    /// The port that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub port: Option<i64>,
    /// Labels of the client's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_labels: Option<BTreeMap<String, String>>,
    /// The gateways whose clients the match is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<Vec<String>>,
    /// The client's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_namespace: Option<String>,
}

/// A route of connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpRoute {
    /// Which connections it is for: any of these; none is every one.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<L4Match>>,
    /// Where they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Vec<RouteDestination>>,
}

/// What a connection and its client must be: all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct L4Match {
    /// The address that is called: in any of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_subnets: Option<Vec<String>>,
    /// The port that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub port: Option<i64>,
    /// The address that calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_subnet: Option<String>,
    /// Labels of the client's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_labels: Option<BTreeMap<String, String>>,
    /// The gateways whose clients the match is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<Vec<String>>,
    /// The client's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_namespace: Option<String>,
}

/// Where connections go, and how many of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["destination"]))]
pub struct RouteDestination {
    /// The host.
    #[schemars(with = "Destination")]
    pub destination: Option<Destination>,
    /// The share among the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub weight: Option<i64>,
}
