//! What a sidecar's policies denied lately: `/denials`.

use serde::{Deserialize, Serialize};

/// The last denials of a sidecar, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Denials {
    /// The records that are kept.
    pub denials: Vec<Denial>,
    /// How many calls were denied since the sidecar started, those included of which no record is kept.
    pub total: u64,
    /// Of calls that passed and that a candidate set would have denied, the records that are kept, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<TriedCall>,
    /// How many such calls there were.
    pub tried_total: u64,
}

/// A call that AuthorizationPolicies or RequestAuthentications denied. It holds no token, no query and no header but the
/// one that a rule failed to match, and that not where it may be a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Denial {
    /// The record's id, 16 hexadecimal digits; see `x-pinnace-denial-id`.
    pub id: String,
    /// When, in seconds since the epoch.
    pub at: u64,
    /// `ALLOW` (no rule of any matched), `DENY`, `CUSTOM`, or `JWT` for a token that was refused; of a candidate set also
    /// `STRICT`, for a call in the clear.
    pub action: String,
    /// The response code detail, in Envoy's words.
    pub detail: String,
    /// The status of the answer; 0 for an opaque connection, which was reset.
    pub status: u16,
    /// Whom the caller proved to be; none in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// ADDRESS:PORT of the caller.
    pub source: String,
    /// The client that trusted proxies name, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// ADDRESS:PORT that was called.
    pub destination: String,
    /// The port that was called.
    pub port: u16,
    /// The request. None: an opaque connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<DeniedRequest>,
    /// `NAMESPACE/NAME` of the policy that denied it; none where no ALLOW rule matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The place of the rule in the policy, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Why an external authorizer could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Where no ALLOW rule matched: the one that came nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<NearestRule>,
}

/// A call that passed and that a candidate set would have denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriedCall {
    /// The set.
    pub set: String,
    /// The candidates that this is put down to, `KIND/NAMESPACE/NAME`.
    pub candidates: Vec<String>,
    /// The call, as if it had been denied.
    #[serde(flatten)]
    pub call: Denial,
}

/// What a denied request asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeniedRequest {
    /// Its method.
    pub method: String,
    /// Its host, as written.
    pub host: String,
    /// Its normalised path, without the query.
    pub path: String,
    /// Its `x-request-id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The principal of its verified token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// The ALLOW rule that came nearest to matching.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NearestRule {
    /// `NAMESPACE/NAME` of its policy.
    pub policy: String,
    /// Its place in the policy, from 0.
    pub rule: usize,
    /// Its first field that did not match.
    pub field: String,
    /// The field's values.
    pub expected: Vec<String>,
    /// What was there instead; none where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}
