//! The volumes with the workload's certificate and the sidecar's own data, and Secrets to pull the sidecar's image with.

use serde_json::{Value, json};

use super::{CERTIFICATE_VOLUME, DATA_VOLUME, params::Params, pod};

/// The certificate's volume.
///
/// Optional, so that a pod starts before its certificate is issued. The sidecar's uid must be able to read it, and an
/// `fsGroup` would re-own the application's volumes, so it is readable by all who have it mounted: the sidecar alone.
fn certificate(params: &Params) -> Value {
    json!({
        "name": CERTIFICATE_VOLUME,
        "secret": {"secretName": params.secret_name(), "optional": true, "defaultMode": 0o444},
    })
}

/// The sidecar's data: in memory, so that nothing of it is left on the node's disk, and bounded, since it counts as the
/// sidecar's memory.
fn data() -> Value {
    json!({"name": DATA_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}})
}

/// The volumes that injection adds.
pub(super) fn own(params: &Params) -> [Value; 2] {
    [certificate(params), data()]
}

/// Adds [`own`], each unless the very same volume is there. `None` when the pod's volumes are no list.
pub(super) fn add(pod: &mut Value, params: &Params) -> Option<()> {
    let volumes = pod::spec_list_mut(pod, "volumes")?;
    for own in own(params) {
        if !volumes.iter().any(|volume| pod::name(volume) == pod::name(&own)) {
            volumes.push(own);
        }
    }
    Some(())
}

/// Adds the Secrets that are not there yet, and says which.
pub(super) fn add_image_pull_secrets(pod: &mut Value, secrets: &[String]) -> Vec<String> {
    let lacking: Vec<String> = {
        let present: Vec<&str> = pod::spec_list(pod, "imagePullSecrets").map(pod::name).collect();
        secrets
            .iter()
            .filter(|secret| !present.contains(&secret.as_str()))
            .cloned()
            .collect()
    };
    if !lacking.is_empty()
        && let Some(list) = pod::spec_list_mut(pod, "imagePullSecrets")
    {
        list.extend(lacking.iter().map(|name| json!({"name": name})));
    }
    lacking
}
