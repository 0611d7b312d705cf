//! The resource's fields, from which its CRD is generated. Modes and durations stay text here, as an object may come from a
//! cluster whose CRD is not ours; the parser decides what they mean.

mod ingress;

pub use ingress::{Ingress, ServerTls, TlsCertificate};

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::destination_rule::resource::ConnectionPool;
use crate::schema;
use crate::status::Status;
use crate::virtual_service::resource::Destination;

/// What workloads see and accept.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "Sidecar",
    plural = "sidecars",
    category = "istio-io",
    category = "networking-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "Which hosts workloads see, whether they may call others, and which connections they accept."
)]
#[serde(default, rename_all = "camelCase")]
pub struct SidecarSpec {
    /// The workloads that it is for; absent is every one of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<LabelSelector>,
    /// Which connections they accept, beside or in place of those of their Services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<Ingress>>,
    /// Which hosts they see; absent is every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<Egress>>,
    /// How many connections and requests they accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// Whether they may call what the mesh does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// Workloads by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LabelSelector {
    /// Labels that they must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, LabelValue>>", extend("maxProperties" = 256))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The value that the label must have.
#[derive(JsonSchema)]
#[schemars(extend(
    "maxLength" = 63,
    "x-kubernetes-validations" = [{
        "message": "wildcard is not supported in selector",
        "rule": "!self.contains(\"*\")"
    }]
))]
struct LabelValue(#[allow(dead_code, reason = "only its schema is used")] String);

/// Which hosts are seen on a port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["hosts"]))]
pub struct Egress {
    /// The port; absent is every one that no other entry has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<SidecarPort>,
    /// The address or Unix socket that is listened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// Whether connections are redirected to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["DEFAULT", "IPTABLES", "NONE"]))]
    pub capture_mode: Option<String>,
    /// The hosts, each `NAMESPACE/HOST`; a `~` before it leaves it out.
    pub hosts: Vec<String>,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SidecarPort {
    /// The number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub number: Option<i64>,
    /// What is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Not for this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub target_port: Option<i64>,
}

/// Whether what the mesh does not know may be called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct OutboundTrafficPolicy {
    /// REGISTRY_ONLY (and absent) or ALLOW_ANY.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["REGISTRY_ONLY", "ALLOW_ANY"]))]
    pub mode: Option<String>,
    /// The host that such traffic goes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<Destination>,
}
