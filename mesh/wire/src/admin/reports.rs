//! What sidecars reported in the last hour, as the operator that holds the lease shows it: `/debug/reportz`.

use serde::{Deserialize, Serialize};

use super::Denial;

/// The ledger of a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reportz {
    /// The replica's pod.
    pub replica: String,
    /// Whether it holds the lease; only then is anything entered here.
    pub leader: bool,
    /// The most frequent first.
    pub rows: Vec<ReportedRow>,
    /// How many rows there are in all.
    pub total: usize,
    /// How many sidecars reported.
    pub sidecars: usize,
    /// What found no room since the process started.
    pub dropped: u64,
    /// The last denials, oldest first.
    pub records: Vec<Recorded>,
}

/// What was counted together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedRow {
    /// `denied`, `would_deny` or `plaintext`.
    pub kind: String,
    /// `KIND/NAMESPACE/NAME` of the policy; `KIND` alone where no single one did it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// The set of candidates.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub set: String,
    /// The caller: its SPIFFE ID, or whose address it is.
    pub source: String,
    /// The namespace of the workload that was called.
    pub namespace: String,
    /// Its name.
    pub workload: String,
    /// Its port.
    pub port: u16,
    /// How often in the last hour.
    pub count: u64,
    /// When last, in seconds since the epoch.
    pub last: u64,
}

/// A denial, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recorded {
    /// The namespace of the pod that was called.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The record.
    pub denial: Denial,
}
