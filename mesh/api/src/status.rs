//! Istio's `.status`, which resources of every kind have: conditions, and messages of analyzers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The type of the condition that says whether a resource counts.
pub const IN_FORCE: &str = "InForce";
/// The type of the condition that says whether every field of the resource has an effect in this version.
pub const COMPLETE: &str = "Complete";
/// The type of the condition that says whether all that a resource refers to is there.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// The field that says how many workloads a policy is for.
const WORKLOADS: &str = "workloads";
/// The field that says how many calls a policy denied in the last hour.
const DENIALS: &str = "denialsLastHour";

/// Istio's `IstioStatus`. Fields of other writers are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Status {
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

impl Status {
    /// Puts a condition in the place of the one of its type. `lastTransitionTime` moves only when its status changes.
    pub fn set(&mut self, type_: &str, verdict: Verdict, generation: Option<Generation>, now: &Time) {
        let conditions = self.conditions.get_or_insert_default();
        let text = if verdict.holds { "True" } else { "False" };
        let held = conditions
            .iter_mut()
            .find(|condition| condition.type_.as_deref() == Some(type_));
        let since = held
            .as_ref()
            .filter(|condition| condition.status.as_deref() == Some(text))
            .and_then(|condition| condition.last_transition_time.clone())
            .unwrap_or_else(|| now.clone());
        let condition = Condition {
            type_: Some(type_.to_owned()),
            status: Some(text.to_owned()),
            last_probe_time: None,
            last_transition_time: Some(since),
            reason: Some(verdict.reason.to_owned()),
            message: Some(verdict.message),
            observed_generation: generation,
        };
        match held {
            Some(held) => *held = condition,
            None => conditions.push(condition),
        }
    }

    /// Says how many workloads the resource is for; `None` leaves what is said.
    pub(crate) fn set_workloads(&mut self, workloads: Option<usize>) {
        if let Some(workloads) = workloads {
            self.other.insert(WORKLOADS.to_owned(), workloads.into());
        }
    }

    /// Says how many calls the resource denied in the last hour.
    pub fn set_denials(&mut self, denials: u64) {
        self.other.insert(DENIALS.to_owned(), denials.into());
    }

    /// The condition of a type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        let mut all = self.conditions.iter().flatten();
        all.find(|condition| condition.type_.as_deref() == Some(type_))
    }
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is `True`.
    pub holds: bool,
    /// The reason in one word.
    pub reason: &'static str,
    /// The reason in words.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub(crate) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: true,
            reason,
            message: message.into(),
        }
    }

    /// It does not.
    pub(crate) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            reason,
            message: message.into(),
        }
    }
}

/// One condition of a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
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
#[serde(default, rename_all = "camelCase")]
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
#[serde(default)]
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
    #[allow(
        missing_docs,
        reason = "without documentation of its own a variant stays part of one `enum` list in the schema"
    )]
    Unknown,
    #[allow(
        missing_docs,
        reason = "without documentation of its own a variant stays part of one `enum` list in the schema"
    )]
    Error,
    #[allow(
        missing_docs,
        reason = "without documentation of its own a variant stays part of one `enum` list in the schema"
    )]
    Warning,
    #[allow(
        missing_docs,
        reason = "without documentation of its own a variant stays part of one `enum` list in the schema"
    )]
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
