//! The resource's fields, from which its CRD is generated. Modes and ports stay text here, as an object may come from
//! a cluster whose CRD is not ours; [`super::parse`] decides what they mean.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

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
    status = "PeerAuthenticationStatus",
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

/// Istio's `type.v1beta1.WorkloadSelector`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// One or more labels that indicate a specific set of pods on which a policy should be applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, LabelValue>>", extend(
        "maxProperties" = 4096,
        "x-kubernetes-validations" = [
            {
                "message": "wildcard not allowed in label key match",
                "rule": "self.all(key, !key.contains(\"*\"))"
            },
            {
                "message": "key must not be empty",
                "rule": "self.all(key, key.size() != 0)"
            }
        ]
    ))]
    pub match_labels: Option<BTreeMap<String, String>>,
}

/// The value that the label must have.
#[derive(JsonSchema)]
#[schemars(extend(
    "maxLength" = 63,
    "x-kubernetes-validations" = [{
        "message": "wildcard not allowed in label value match",
        "rule": "!self.contains(\"*\")"
    }]
))]
struct LabelValue(#[allow(dead_code, reason = "only its schema is used")] String);

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

/// Istio's `IstioStatus`. Fields of other writers are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct PeerAuthenticationStatus {
    /// Current state of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// The `metadata.generation` that the status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub observed_generation: Option<Generation>,
    /// Errors and warnings found by analyzers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_messages: Option<Vec<ValidationMessage>>,
    /// What other writers added.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// One condition of a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type is the type of the condition.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Status is the status of the condition: True, False or Unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Last time we probed the condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_probe_time: Option<Time>,
    /// Last time the condition transitioned from one status to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Time>,
    /// Unique, one-word, CamelCase reason for the condition's last transition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Human-readable message indicating details about last transition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Resource Generation to which the Condition refers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub observed_generation: Option<Generation>,
}

/// A message of an analyzer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationMessage {
    /// What kind of message it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<MessageType>,
    /// Represents how severe a message is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MessageLevel>")]
    pub level: Option<String>,
    /// Where the message is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<String>,
}

/// The kind of a [`ValidationMessage`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageType {
    /// A human-readable name for the message type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seven characters, `IST` and four digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// The accepted texts of [`ValidationMessage::level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum MessageLevel {
    #[allow(missing_docs, reason = "see ModeName")]
    Unknown,
    #[allow(missing_docs, reason = "see ModeName")]
    Error,
    #[allow(missing_docs, reason = "see ModeName")]
    Warning,
    #[allow(missing_docs, reason = "see ModeName")]
    Info,
}

/// A generation. Istio writes it as text, as protobuf's JSON does with 64-bit numbers; here it is written as a number
/// and read in either form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

fn int_or_string(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "x-kubernetes-int-or-string": true
    })
}
