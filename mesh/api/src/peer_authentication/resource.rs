//! The resource's fields, from which its CRD is generated. Modes and ports stay text here, as an object may come from
//! a cluster whose CRD is not ours; [`super::parse`] decides what they mean.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::WorkloadSelector;
use crate::status::Status;

/// Peer authentication configuration for workloads.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "security.istio.io",
    version = "v1",
    kind = "PeerAuthentication",
    plural = "peerauthentications",
    shortname = "pa",
    category = "istio-io",
    category = "security-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "Which mutual TLS a workload takes: of the whole mesh, a namespace or selected workloads.",
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mtls.mode",
        description = "Defines the mTLS mode used for peer authentication."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the resource was created."
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "portLevelMtls requires selector",
    "rule": "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? self.selector.matchLabels : {}).size() > 0) : true"
}]))]
pub struct PeerAuthenticationSpec {
    /// The selector determines the workloads to apply the PeerAuthentication on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<WorkloadSelector>,
    /// Mutual TLS settings for workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MutualTls>,
    /// Port specific mutual TLS settings, by the workload's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "minProperties" = 1,
        "x-kubernetes-validations" = [{
            "message": "port must be between 1-65535",
            "rule": "self.all(key, 0 < int(key) && int(key) <= 65535)"
        }]
    ))]
    pub port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}

/// Mutual TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MutualTls {
    /// Defines the mTLS mode used for peer authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ModeName>")]
    pub mode: Option<String>,
}

/// The accepted texts of [`MutualTls::mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum ModeName {
    // Without documentation of its own a variant stays part of one `enum` list in the schema.
    #[allow(
        missing_docs,
        reason = "see above; mesh_core::peer_authentication::Mode says what each means"
    )]
    Unset,
    #[allow(missing_docs, reason = "as above")]
    Disable,
    #[allow(missing_docs, reason = "as above")]
    Permissive,
    #[allow(missing_docs, reason = "as above")]
    Strict,
}
