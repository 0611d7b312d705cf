//! `policy.pinnace.dev/strict=when-ready` on a namespace: it turns STRICT once nobody has called its workloads in the clear
//! for a set time. What says so is a PeerAuthentication of the operator's own in that namespace, which yields to every other
//! of the same scope; its status tells who still calls in the clear.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::labels::{MANAGED_BY, MANAGED_BY_PINNACE};
use crate::peer_authentication::PeerAuthentication;
use crate::status::{Generation, Status, Verdict};

/// The label of a namespace.
pub const LABEL: &str = "policy.pinnace.dev/strict";
/// Its one value.
pub const WHEN_READY: &str = "when-ready";
/// The annotation of a namespace that says for how long nobody may have called in the clear: `24h`, `30m`.
pub const QUIET_PERIOD: &str = "policy.pinnace.dev/quiet-period";
/// The name of the operator's PeerAuthentication.
pub const POLICY: &str = "pinnace-strict-when-ready";
/// The type of the condition that says whether the namespace has turned STRICT, and if not, what is missing.
pub const STRICT: &str = "Strict";

/// The fields of the status.
const CALLERS: &str = "plaintextCallers";
const QUIET_SINCE: &str = "quietSince";
const OBSERVED_UNTIL: &str = "observedUntil";

/// Who called a workload in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaintextCaller {
    /// The caller: a pod by name, or an address.
    pub caller: String,
    /// The workload that was called.
    pub workload: String,
    /// Its port.
    pub port: u16,
    /// When last.
    pub last_seen: Time,
}

/// How far a namespace has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whether it has turned STRICT, and if not, what is missing.
    pub holds: bool,
    /// The reason in one word.
    pub reason: &'static str,
    /// The reason in words.
    pub message: String,
    /// Who called in the clear, the latest first; cut where there are many.
    pub callers: Vec<PlaintextCaller>,
    /// Since when nobody did, and up to when somebody watched; none once it has turned STRICT.
    pub watched: Option<Watched>,
}

/// What outlives the operator's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Since when nobody has called in the clear, in seconds since the epoch.
    pub quiet_since: u64,
    /// Up to when somebody watched, in seconds since the epoch.
    pub observed_until: u64,
}

/// Whether a PeerAuthentication is the operator's own.
#[must_use]
pub fn is_ours(resource: &PeerAuthentication) -> bool {
    resource.metadata.name.as_deref() == Some(POLICY)
        && resource.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGED_BY_PINNACE)
}

/// Puts what is known of a namespace into the status of the operator's PeerAuthentication there.
pub fn show(status: &mut Status, progress: &Progress, generation: Option<i64>, now: &Time) {
    let verdict = Verdict {
        holds: progress.holds,
        reason: progress.reason,
        message: progress.message.clone(),
    };
    status.set(STRICT, verdict, generation.map(Generation), now);
    status.other.insert(CALLERS.to_owned(), json!(progress.callers));
    let watched = progress.watched;
    let times = [
        (QUIET_SINCE, watched.map(|watched| watched.quiet_since)),
        (OBSERVED_UNTIL, watched.map(|watched| watched.observed_until)),
    ];
    for (field, seconds) in times {
        // A merge patch takes a field away by null; what is not there needs none.
        if seconds.is_some() || status.other.get(field).is_some_and(|held| !held.is_null()) {
            status.other.insert(field.to_owned(), json!(seconds.map(time)));
        }
    }
}

/// What a status tells of the time before: since when nobody called in the clear, and who did.
#[must_use]
pub fn shown(status: &Status) -> Option<(Watched, Vec<PlaintextCaller>)> {
    let of = |field: &str| -> Option<u64> {
        let time: Time = serde_json::from_value(status.other.get(field)?.clone()).ok()?;
        u64::try_from(time.0.as_second()).ok()
    };
    let watched = Watched {
        quiet_since: of(QUIET_SINCE)?,
        observed_until: of(OBSERVED_UNTIL)?,
    };
    let callers = status.other.get(CALLERS).cloned().unwrap_or_default();
    Some((watched, serde_json::from_value(callers).unwrap_or_default()))
}

/// A moment in seconds since the epoch, as Kubernetes writes it.
#[must_use]
pub fn time(seconds: u64) -> Time {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        let caller = PlaintextCaller {
            caller: "pod shop/legacy".into(),
            workload: "web".into(),
            port: 80,
            last_seen: time(1_000),
        };
        let watched = Watched {
            quiet_since: 1_000,
            observed_until: 2_000,
        };
        let mut progress = Progress {
            holds: false,
            reason: "PlaintextCallers",
            message: "…".into(),
            callers: vec![caller.clone()],
            watched: Some(watched),
        };
        let mut status = Status::default();
        assert_eq!(shown(&status), None);
        show(&mut status, &progress, Some(1), &time(0));
        let again: Status = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        assert_eq!(shown(&again), Some((watched, vec![caller])));
        assert_eq!(again.condition(STRICT).unwrap().status.as_deref(), Some("False"));
        progress.watched = None;
        show(&mut status, &progress, Some(1), &time(0));
        assert_eq!(shown(&status), None);
        assert!(status.other[QUIET_SINCE].is_null());
        let mut taken = Status::default();
        show(&mut taken, &progress, Some(1), &time(0));
        assert!(!taken.other.contains_key(QUIET_SINCE), "nothing is to be written again");
    }
}
