//! What metrics and logs say of a workload: Istio's labels of a source or destination.

use std::ops::Deref;
use std::sync::Arc;

/// The cluster's name where nobody gave it another (Istio's `global.multiCluster.clusterName`).
pub const DEFAULT_CLUSTER: &str = "Kubernetes";

/// A workload's labels in metrics. Empty texts are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Metadata {
    /// The name of what owns its pods: a Deployment, StatefulSet, CronJob, …; a bare pod's own.
    pub name: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// The label `app`.
    pub app: Box<str>,
    /// The label `version`.
    pub version: Box<str>,
    /// Istio's canonical service name.
    pub canonical_name: Box<str>,
    /// Istio's canonical revision.
    pub canonical_revision: Box<str>,
    /// The cluster that it runs in.
    pub cluster: Box<str>,
}

/// [`Metadata`] that many pods share. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload(Arc<Metadata>);

impl Workload {
    /// A number that two clones have in common, and two others do not while both live.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl Deref for Workload {
    type Target = Metadata;

    fn deref(&self) -> &Metadata {
        &self.0
    }
}

impl From<Metadata> for Workload {
    fn from(metadata: Metadata) -> Self {
        Self(Arc::new(metadata))
    }
}

impl From<&str> for Workload {
    /// One of which only the canonical name is known.
    fn from(canonical_name: &str) -> Self {
        Self::from(Metadata {
            canonical_name: canonical_name.into(),
            ..Metadata::default()
        })
    }
}

/// The controller that owns a pod, as its owner reference says.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// `kind`.
    pub kind: &'a str,
    /// `name`.
    pub name: &'a str,
}

/// The name of the workload that a pod belongs to, as Istio finds it: what made the pod's controller, where the names tell
/// that. `label` gives the pod's labels.
#[must_use]
pub fn name<'a>(pod: &'a str, owner: Option<Owner<'a>>, label: impl Fn(&str) -> Option<&'a str>) -> &'a str {
    let Some(Owner { kind, name }) = owner else {
        return pod;
    };
    let without_hash = |key: &str| {
        let hash = label(key)?;
        name.strip_suffix(hash)?
            .strip_suffix('-')
            .filter(|name| !name.is_empty())
    };
    match kind {
        "ReplicaSet" => without_hash("rollouts-pod-template-hash")
            .or_else(|| without_hash("pod-template-hash"))
            .unwrap_or(name),
        "Job" => scheduled(name).unwrap_or(name),
        "ReplicationController" => label("deploymentconfig").unwrap_or(name),
        _ => name,
    }
}

/// The CronJob behind a Job: its name and the minutes of the schedule, eight to ten digits.
fn scheduled(job: &str) -> Option<&str> {
    let (name, minutes) = job.rsplit_once('-')?;
    let digits = minutes.bytes().all(|b| b.is_ascii_digit()) && (8..=10).contains(&minutes.len());
    (digits && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_belongs_to_what_made_its_controller() {
        let labels = |key: &str| match key {
            "pod-template-hash" => Some("7d4b9c"),
            _ => None,
        };
        for (owner, expected) in [
            (None, "pod-1"),
            (Some(("ReplicaSet", "reviews-v1-7d4b9c")), "reviews-v1"),
            (Some(("ReplicaSet", "reviews-v1-other")), "reviews-v1-other"),
            (Some(("ReplicaSet", "7d4b9c")), "7d4b9c"),
            (Some(("StatefulSet", "db")), "db"),
            (Some(("Job", "report-27912345")), "report"),
            (Some(("Job", "report-2791")), "report-2791"),
            (Some(("Job", "27912345")), "27912345"),
            (Some(("DaemonSet", "agent")), "agent"),
            (Some(("ReplicationController", "web-3")), "web-3"),
        ] {
            let owner_ref = owner.map(|(kind, name)| Owner { kind, name });
            assert_eq!(name("pod-1", owner_ref, labels), expected, "{owner:?}");
        }
        let rollout = |key: &str| (key == "rollouts-pod-template-hash").then_some("5f6");
        let owner = Some(Owner {
            kind: "ReplicaSet",
            name: "web-5f6",
        });
        assert_eq!(name("p", owner, rollout), "web");
    }

    #[test]
    fn clones_have_one_id() {
        let a = Workload::from("reviews");
        assert_eq!(a.id(), a.clone().id());
        assert_ne!(a.id(), Workload::from("reviews").id());
        assert_eq!(a, Workload::from("reviews"));
    }
}
