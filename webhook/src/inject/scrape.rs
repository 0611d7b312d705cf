//! Metrics of the application, merged into the sidecar's: the pod's `prometheus.io/*` annotations go to the sidecar as
//! `ISTIO_PROMETHEUS_ANNOTATIONS`, in Istio's form (pilot-agent's PrometheusScrapeConfiguration), and the pod's point to the
//! sidecar's status port.

use mesh_api::{Invalid, annotations::Prometheus};
use serde_json::{Map, Value, json};

/// Where the sidecar serves them.
const PATH: &str = "/stats/prometheus";

/// What becomes of a pod's annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrape {
    /// For the sidecar; `None` when the pod says nothing.
    pub original: Option<String>,
    /// Annotations that go.
    spelled: Vec<String>,
    port: u16,
}

impl Scrape {
    /// Decides for a pod; `None` when its annotations stay as they are.
    ///
    /// # Errors
    /// A port to scrape that is none, or the sidecar's.
    pub(super) fn new(pod: &Prometheus, mesh: bool, port: u16) -> Result<Option<Self>, Invalid> {
        // A pod that points to the sidecar already means it, or was made from an injected one.
        let there = pod.port.as_deref().and_then(|text| text.trim().parse().ok()) == Some(port);
        if !pod.merges(mesh) || there {
            return Ok(None);
        }
        pod.check(port)?;
        Ok(Some(Self {
            original: original(pod),
            spelled: pod.spelled.clone(),
            port,
        }))
    }

    /// Puts the sidecar's place in the annotations.
    pub(super) fn apply(&self, annotations: &mut Map<String, Value>) {
        annotations.retain(|name, _| !self.spelled.contains(name));
        for (name, value) in [
            ("prometheus.io/scrape", "true".to_owned()),
            ("prometheus.io/port", self.port.to_string()),
            ("prometheus.io/path", PATH.to_owned()),
        ] {
            annotations.insert(name.to_owned(), json!(value));
        }
    }
}

fn original(pod: &Prometheus) -> Option<String> {
    let first = pod.targets.first();
    let text = |given: &Option<String>| json!(given.as_deref().unwrap_or_default());
    let port = first.map_or_else(|| text(&pod.port), |target| json!(target.port.to_string()));
    let path = first.map_or_else(|| text(&pod.path), |target| json!(target.path));
    if pod.scrape.is_none() && port == "" && path == "" {
        return None;
    }
    let targets: Vec<String> = pod
        .targets
        .iter()
        .map(|target| format!(r#"{{"port":"{}","path":{}}}"#, target.port, json!(target.path)))
        .collect();
    let targets = if targets.is_empty() {
        String::new()
    } else {
        format!(r#","targets":[{}]"#, targets.join(","))
    };
    // Written out, since the order of a JSON map's keys is not ours to choose.
    Some(format!(
        r#"{{"scrape":{},"path":{path},"port":{port}{targets}}}"#,
        text(&pod.scrape)
    ))
}
