//! A pod that ends is told so before its peers know: an application that exits at once refuses what they still send. The
//! annotation `policy.pinnace.dev/pre-stop-sleep` has its containers sleep first.

use mesh_api::{Invalid, annotations};
use serde_json::{Map, Value, json};

use super::{PROXY_CONTAINER, pod};

/// Kubernetes' default of `terminationGracePeriodSeconds`.
const GRACE: u64 = 30;
/// What an application should have left to end in, in seconds.
const LEAST_LEFT: u64 = 5;

/// Checks the sleep against the time that the pod has to end.
///
/// # Errors
/// It is not shorter: the application would be killed in its sleep.
pub(super) fn check(pod: &Value, sleep: u32, warnings: &mut Vec<String>) -> Result<(), Invalid> {
    let grace = pod
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_u64)
        .unwrap_or(GRACE);
    let left = grace.saturating_sub(u64::from(sleep));
    if left == 0 {
        return Err(Invalid::new(
            annotations::PRE_STOP_SLEEP,
            format!("{sleep}s"),
            format!("less than the pod's terminationGracePeriodSeconds ({grace}): raise that, or sleep for less"),
        ));
    }
    if left < LEAST_LEFT {
        warnings.push(format!(
            "annotation {}: of terminationGracePeriodSeconds ({grace}) it leaves the application {left} s to end",
            annotations::PRE_STOP_SLEEP
        ));
    }
    Ok(())
}

/// Adds the hook to every container of the application that has none, and to a classic sidecar, which is told to end at
/// the same time as they are. A native one ends after them.
pub(super) fn add(pod: &mut Value, sleep: u32) {
    let containers = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        let lifecycle = container
            .entry("lifecycle")
            .or_insert_with(|| Value::Object(Map::new()));
        if lifecycle.is_null() {
            *lifecycle = Value::Object(Map::new());
        }
        if let Some(hooks) = lifecycle.as_object_mut()
            && hooks.get("preStop").is_none_or(Value::is_null)
        {
            hooks.insert("preStop".to_owned(), json!({"sleep": {"seconds": sleep}}));
        }
    }
}

/// Whether any container of the application would be given the hook.
pub(super) fn concerns(pod: &Value) -> bool {
    pod::spec_list(pod, "containers")
        .filter(|container| pod::name(container) != PROXY_CONTAINER)
        .any(|container| container.pointer("/lifecycle/preStop").is_none_or(Value::is_null))
}
