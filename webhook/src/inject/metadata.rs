//! Labels and annotations of an injected pod, and how one is recognised.

use mesh_api::{annotations, labels};
use serde_json::{Value, json};

use super::{INIT_CONTAINER, PROXY_CONTAINER, merge, params::Params, pod, volumes};
use crate::config::Values;

/// Whether a pod has its sidecar: it says so, and the container is there. The annotation alone may have been copied, and
/// a container without an image asks to be merged with the one that is yet to come.
pub(super) fn is_injected(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations")
        .is_some_and(|annotations| annotations.get(annotations::STATUS).is_some())
        && pod::containers(pod)
            .any(|container| pod::name(container) == PROXY_CONTAINER && merge::own_image(container).is_some())
}

/// Adds labels and annotations. A label that the pod has is left as it is. `None` when they are no maps.
pub(super) fn add(pod: &mut Value, params: &Params, values: &Values, pull_secrets: &[String]) -> Option<()> {
    let present = pod::strings(pod, "labels");
    let owner = workload_name(pod);
    let canonical_name = canonical(mesh_core::labels::canonical_name(&present, &owner));
    let canonical_revision = canonical(mesh_core::labels::canonical_revision(&present));
    let first = pod::spec_list(pod, "containers")
        .map(pod::name)
        .find(|name| *name != PROXY_CONTAINER)
        .map(str::to_owned);

    let map = pod::metadata_mut(pod, "labels")?;
    for (label, value) in [
        (labels::TLS_MODE, labels::TLS_MODE_ISTIO),
        (labels::CANONICAL_NAME, &canonical_name),
        (labels::CANONICAL_REVISION, &canonical_revision),
        (labels::NETWORK, &values.network),
    ] {
        if !map.contains_key(label) && !value.is_empty() {
            map.insert(label.to_owned(), json!(value));
        }
    }
    let map = pod::metadata_mut(pod, "annotations")?;
    if let Some(scrape) = &params.scrape {
        scrape.apply(map);
    }
    map.insert(annotations::REVISION.to_owned(), json!(values.rules.revision_name()));
    map.insert(
        annotations::STATUS.to_owned(),
        json!(status(params, values, pull_secrets)),
    );
    for annotation in [annotations::DEFAULT_LOGS_CONTAINER, annotations::DEFAULT_CONTAINER] {
        if let (false, Some(first)) = (map.contains_key(annotation), &first) {
            map.insert(annotation.to_owned(), json!(first));
        }
    }
    Some(())
}

/// The annotation that says what was added, with Istio's fields.
fn status(params: &Params, values: &Values, pull_secrets: &[String]) -> String {
    let list = |items: Vec<&str>| json!(items).to_string();
    let init = params.capture.as_ref().map(|_| INIT_CONTAINER);
    let native = params.native.then_some(PROXY_CONTAINER);
    let classic = (!params.native).then_some(PROXY_CONTAINER);
    // Written out, since the order of a JSON map's keys is not ours to choose.
    format!(
        r#"{{"initContainers":{},"containers":{},"volumes":{},"imagePullSecrets":{},"revision":{}}}"#,
        list(init.into_iter().chain(native).collect()),
        list(classic.into_iter().collect()),
        list(volumes::names(params)),
        list(pull_secrets.iter().map(String::as_str).collect()),
        json!(values.rules.revision_name()),
    )
}

/// A label's value: 63 characters, and a letter or digit at either end.
fn canonical(name: &str) -> String {
    name.chars()
        .take(63)
        .collect::<String>()
        .trim_matches(['-', '_', '.'])
        .to_owned()
}

/// The name of the workload that the pod belongs to: its Deployment, CronJob or other owner, else its own.
fn workload_name(pod: &Value) -> String {
    let metadata = |field: &str| pod.pointer("/metadata").and_then(|metadata| metadata.get(field));
    let text = |field: &str| metadata(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let owners = metadata("ownerReferences").and_then(Value::as_array);
    let controller = owners
        .into_iter()
        .flatten()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    let Some(owner) = controller else {
        return text("name")
            .or_else(|| text("generateName"))
            .unwrap_or_default()
            .trim_end_matches('-')
            .to_owned();
    };
    let name = pod::name(owner);
    let hash = pod::strings(pod, "labels")
        .get("pod-template-hash")
        .map(|hash| format!("-{hash}"));
    let of_deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str()));
    match owner.get("kind").and_then(Value::as_str) {
        Some("ReplicaSet") => of_deployment.unwrap_or(name).to_owned(),
        Some("Job") => of_cron_job(name).unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    }
}

/// A CronJob's Jobs are named after it and the minute of their schedule, 8 to 10 digits.
fn of_cron_job(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let scheduled = (8..=10).contains(&minute.len()) && minute.bytes().all(|byte| byte.is_ascii_digit());
    (scheduled && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_what_owns_the_pod() {
        let owned = |kind: &str, name: &str| {
            json!({"metadata": {
                "name": "", "generateName": "web-5d4-", "labels": {"pod-template-hash": "5d4"},
                "ownerReferences": [{"kind": kind, "name": name, "controller": true}]
            }})
        };
        for (pod, expected) in [
            (owned("ReplicaSet", "web-5d4"), "web"),
            (owned("ReplicaSet", "bare"), "bare"),
            (owned("StatefulSet", "db"), "db"),
            (owned("Job", "report-28412345"), "report"),
            (owned("Job", "report-1"), "report-1"),
            (json!({"metadata": {"name": "alone"}}), "alone"),
            (json!({"metadata": {"generateName": "alone-"}}), "alone"),
            (json!({}), ""),
        ] {
            assert_eq!(workload_name(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn canonical_names_fit_a_label() {
        assert_eq!(canonical(&format!("{}-tail", "a".repeat(62))), "a".repeat(62));
        assert_eq!(canonical("-x_"), "x");
    }
}
