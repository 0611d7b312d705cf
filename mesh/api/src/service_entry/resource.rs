//! The resource's fields, from which its CRD is generated. What is one of a few words stays text here, as an object may come
//! from a cluster whose CRD is not ours; [`super::parse`] decides what it means.

#![allow(clippy::duplicated_attributes, reason = "printed columns are of one type")]

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::status::Status;
use crate::workload_entry::WorkloadEntrySpec;

/// Hosts that the mesh is told of beside its Services.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    shortname = "se",
    category = "istio-io",
    category = "networking-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "Hosts that the mesh is told of beside its Services: outside it, or inside without a Service.",
    printcolumn(
        name = "Hosts",
        type_ = "string",
        json_path = ".spec.hosts",
        description = "The hosts associated with the ServiceEntry"
    ),
    printcolumn(
        name = "Location",
        type_ = "string",
        json_path = ".spec.location",
        description = "Whether the service is external to the mesh or part of the mesh (MESH_EXTERNAL or MESH_INTERNAL)"
    ),
    printcolumn(
        name = "Resolution",
        type_ = "string",
        json_path = ".spec.resolution",
        description = "Service resolution mode for the hosts (NONE, STATIC, or DNS)"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the resource was created."
    )
)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["hosts"], "x-kubernetes-validations" = [
    {
        "message": "only one of WorkloadSelector or Endpoints can be set",
        "rule": "(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1"
    },
    {
        "message": "CIDR addresses are allowed only for NONE/STATIC resolution types",
        "rule": "!((has(self.addresses) ? self.addresses : []).exists(k, k.contains(\"/\")) && !((has(self.resolution) ? self.resolution : \"NONE\") in [\"STATIC\", \"NONE\"]))"
    },
    {
        "message": "NONE mode cannot set endpoints",
        "rule": "((has(self.resolution) ? self.resolution : \"NONE\") == \"NONE\") ? !has(self.endpoints) : true"
    },
    {
        "message": "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
        "rule": "((has(self.resolution) ? self.resolution : \"\") == \"DNS_ROUND_ROBIN\") ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true"
    }
]))]
pub struct ServiceEntrySpec {
    /// Names, or wildcards such as *.example.com.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Host>>", extend("minItems" = 1, "maxItems" = 256))]
    pub hosts: Option<Vec<String>>,
    /// Addresses and networks by which the hosts are dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<AddressOrNetwork>>", extend("maxItems" = 256))]
    pub addresses: Option<Vec<String>>,
    /// The ports of the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxItems" = 256,
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-validations" = [{
            "message": "port number cannot be duplicated",
            "rule": "self.all(l1, self.exists_one(l2, l1.number == l2.number))"
        }]
    ))]
    pub ports: Option<Vec<ServicePort>>,
    /// MESH_EXTERNAL or MESH_INTERNAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["MESH_EXTERNAL", "MESH_INTERNAL"]))]
    pub location: Option<String>,
    /// How an address is found: NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]))]
    pub resolution: Option<String>,
    /// What stands behind the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 4096))]
    pub endpoints: Option<Vec<WorkloadEntrySpec>>,
    /// The pods and WorkloadEntries of the namespace that stand behind the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<LabelSelector>,
    /// The namespaces whose clients know the hosts: `.`, `*`, `~` for nobody, or names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_to: Option<Vec<String>>,
    /// Names of which a server's certificate must have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_alt_names: Option<Vec<String>>,
}

/// A port of the hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["number", "name"]))]
pub struct ServicePort {
    /// The number that clients dial.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::port")]
    pub number: Option<i64>,
    /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS or another protocol; absent: told from the first bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 256))]
    pub protocol: Option<String>,
    /// Its name, by which endpoints give a port of their own.
    #[schemars(extend("maxLength" = 256))]
    pub name: String,
    /// The endpoints' port; absent: the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::port")]
    pub target_port: Option<i64>,
}

/// Istio's `networking.v1alpha3.WorkloadSelector`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LabelSelector {
    /// Labels that a workload must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, LabelValue>>", extend("maxProperties" = 256))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The value that the label must have.
#[derive(JsonSchema)]
#[schemars(extend("maxLength" = 63, "x-kubernetes-validations" = [{
    "message": "wildcard is not supported in selector",
    "rule": "!self.contains(\"*\")"
}]))]
struct LabelValue(#[allow(dead_code, reason = "only its schema is used")] String);

/// A host.
#[derive(JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "hostname cannot be wildcard",
    "rule": "self != \"*\""
}]))]
struct Host(#[allow(dead_code, reason = "only its schema is used")] String);

/// An address or a network.
#[derive(JsonSchema)]
#[schemars(extend("maxLength" = 64))]
struct AddressOrNetwork(#[allow(dead_code, reason = "only its schema is used")] String);
