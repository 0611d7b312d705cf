//! The resource's fields, from which its CRD is generated; `spec.endpoints` of a ServiceEntry has the same.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::status::Status;

/// A workload outside Kubernetes, or one that a ServiceEntry selects.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "WorkloadEntry",
    plural = "workloadentries",
    shortname = "we",
    category = "istio-io",
    category = "networking-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "A workload outside Kubernetes, such as a virtual machine, that ServiceEntries select by its labels.",
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the resource was created."
    ),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".spec.address",
        description = "Address associated with the network endpoint."
    )
)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "message": "Address is required",
        "rule": "has(self.address) || has(self.network)"
    },
    {
        "message": "UDS may not include ports",
        "rule": "(has(self.address) ? self.address : \"\").startsWith(\"unix://\") ? !has(self.ports) : true"
    }
]))]
pub struct WorkloadEntrySpec {
    /// An IP address; a name, for ServiceEntries that are resolved by DNS; or unix:// and a socket's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 256, "x-kubernetes-validations" = [
        {
            "message": "UDS must be an absolute path or abstract socket",
            "rule": "self.startsWith(\"unix://\") ? (self.substring(7, 8) == \"/\" || self.substring(7, 8) == \"@\") : true"
        },
        {
            "message": "UDS may not be a dir",
            "rule": "self.startsWith(\"unix://\") ? !self.endsWith(\"/\") : true"
        }
    ]))]
    pub address: Option<String>,
    /// Its ports by the names that the ServiceEntry gives them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, PortNumber>>", extend(
        "maxProperties" = 128,
        "x-kubernetes-validations" = [{
            "message": "port name must be valid",
            "rule": "self.all(key, size(key) < 63 && key.matches(\"^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$\"))"
        }]
    ))]
    pub ports: Option<BTreeMap<String, i64>>,
    /// Its labels, by which it is selected and belongs to subsets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 256))]
    pub labels: Option<BTreeMap<String, String>>,
    /// The network that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 2048))]
    pub network: Option<String>,
    /// Where it is: region/zone/subzone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 2048))]
    pub locality: Option<String>,
    /// Its share of requests beside other endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uint32")]
    pub weight: Option<i64>,
    /// The service account whose identity it has, in the resource's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 253))]
    pub service_account: Option<String>,
}

/// A port's number.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct PortNumber(
    #[allow(dead_code, reason = "only its schema is used")]
    #[schemars(schema_with = "schema::port")]
    i64,
);
