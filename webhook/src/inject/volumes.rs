//! The volume with the workload's certificate, and Secrets to pull the sidecar's image with.

use serde_json::{Value, json};

use super::{CERTIFICATE_VOLUME, params::Params, pod};

/// The certificate's volume.
///
/// Optional, so that a pod starts before its certificate is issued. The sidecar's uid must be able to read it, and an
/// `fsGroup` would re-own the application's volumes, so it is readable by all who have it mounted: the sidecar alone.
pub(super) fn certificate(params: &Params) -> Value {
    json!({
        "name": CERTIFICATE_VOLUME,
        "secret": {"secretName": params.secret_name(), "optional": true, "defaultMode": 0o444},
    })
}

/// Adds [`certificate`], unless the very same volume is there. `None` when the pod's volumes are no list.
pub(super) fn add(pod: &mut Value, params: &Params) -> Option<()> {
    let volumes = pod::spec_list_mut(pod, "volumes")?;
    if !volumes.iter().any(|volume| pod::name(volume) == CERTIFICATE_VOLUME) {
        volumes.push(certificate(params));
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
