//! The resource's fields, from which its CRD is generated. Modes and durations stay text here, as an object may come from a
//! cluster whose CRD is not ours; the parser decides what they mean.

#![allow(clippy::duplicated_attributes, reason = "two printed columns may be of one type")]

mod connection;
mod http;
mod matches;

pub use connection::{L4Match, RouteDestination, TcpRoute, TlsMatch, TlsRoute};
pub use http::{
    Abort, CorsPolicy, Delay, Delegate, Destination, DirectResponse, Fault, HeaderOperations, Headers, HttpBody,
    HttpRoute, HttpRouteDestination, Mirror, Percent, PortSelector, Redirect, RegexRewrite, Retries, Rewrite,
};
pub use matches::{HttpMatch, StringMatch};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::Status;

/// Where clients' requests and connections to hosts go.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "VirtualService",
    plural = "virtualservices",
    shortname = "vs",
    category = "istio-io",
    category = "networking-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "Where clients' requests and connections to hosts go: matches, weights, rewrites, retries, faults, mirrors.",
    printcolumn(
        name = "Gateways",
        type_ = "string",
        json_path = ".spec.gateways",
        description = "The names of gateways and sidecars that should apply these routes"
    ),
    printcolumn(
        name = "Hosts",
        type_ = "string",
        json_path = ".spec.hosts",
        description = "The destination hosts to which traffic is being sent"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the resource was created."
    )
)]
#[serde(default, rename_all = "camelCase")]
pub struct VirtualServiceSpec {
    /// The hosts that are called: names, short names in the resource's namespace, wildcards, addresses. None: a delegate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// The gateways whose clients the routes are for; `mesh` is every sidecar, and what counts where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<Vec<String>>,
    /// Routes of HTTP requests, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<HttpRoute>>,
    /// Routes of TLS connections by their SNI, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Vec<TlsRoute>>,
    /// Routes of other connections, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Vec<TcpRoute>>,
    /// The namespaces whose clients the routes are for: `.`, `*`, or names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_to: Option<Vec<String>>,
}
