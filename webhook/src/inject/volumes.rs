//! The volumes with the workload's certificate, the sidecar's own data and what the pod's owner adds, and Secrets to pull
//! the sidecar's image with.

use mesh_api::{Invalid, annotations};
use serde_json::{Value, json};

use super::{CERTIFICATE_FOLDER, CERTIFICATE_VOLUME, DATA_FOLDER, DATA_VOLUME, params::Params, pod};

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

/// The mesh's own volumes.
pub(super) fn own(params: &Params) -> [Value; 2] {
    [certificate(params), data()]
}

/// The volumes that the annotation `sidecar.istio.io/userVolume` names.
pub(super) fn of_user(params: &Params) -> impl Iterator<Item = Value> + '_ {
    params.user_volumes.iter().map(|(name, fields)| named(name, fields))
}

/// Where the sidecar mounts what.
pub(super) fn mounts(params: &Params) -> Vec<Value> {
    let own = [
        json!({"name": CERTIFICATE_VOLUME, "mountPath": CERTIFICATE_FOLDER, "readOnly": true}),
        json!({"name": DATA_VOLUME, "mountPath": DATA_FOLDER}),
    ];
    let users = params.user_mounts.iter().map(|(name, fields)| named(name, fields));
    own.into_iter().chain(users).collect()
}

fn named(name: &str, fields: &Value) -> Value {
    let mut fields = fields.clone();
    fields["name"] = json!(name);
    fields
}

/// Checks the volumes and mounts that annotations name: against the mesh's own, and against the pod's.
///
/// # Errors
/// The first that cannot be.
pub(super) fn check(pod: &Value, params: &Params) -> Result<(), Invalid> {
    let own = [CERTIFICATE_VOLUME, DATA_VOLUME];
    for volume in of_user(params) {
        let name = pod::name(&volume);
        let taken = pod::spec_list(pod, "volumes").any(|there| pod::name(there) == name && *there != volume);
        if taken || own.contains(&name) {
            return Err(Invalid::new(
                annotations::USER_VOLUME,
                name,
                "a name that no other volume of the pod has",
            ));
        }
    }
    for mount in params.user_mounts.iter().map(|(name, fields)| named(name, fields)) {
        let name = pod::name(&mount);
        let there = pod::spec_list(pod, "volumes").any(|there| pod::name(there) == name);
        if own.contains(&name) || !(there || params.user_volumes.contains_key(name)) {
            return Err(Invalid::new(
                annotations::USER_VOLUME_MOUNT,
                name,
                format!("a volume of the pod, or one of {}", annotations::USER_VOLUME),
            ));
        }
        let path = mount.get("mountPath").and_then(Value::as_str).unwrap_or_default();
        let within = |folder: &str| {
            path.trim_end_matches('/')
                .strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if within(CERTIFICATE_FOLDER) || within(DATA_FOLDER) {
            return Err(Invalid::new(
                annotations::USER_VOLUME_MOUNT,
                path,
                format!("a path outside the sidecar's own {CERTIFICATE_FOLDER} and {DATA_FOLDER}"),
            ));
        }
    }
    Ok(())
}

/// Adds [`own`] and [`of_user`], each unless the very same volume is there. `None` when the pod's volumes are no list.
pub(super) fn add(pod: &mut Value, params: &Params) -> Option<()> {
    let volumes = pod::spec_list_mut(pod, "volumes")?;
    for volume in own(params).into_iter().chain(of_user(params)) {
        if !volumes.iter().any(|there| pod::name(there) == pod::name(&volume)) {
            volumes.push(volume);
        }
    }
    Some(())
}

/// Names of the volumes that injection adds.
pub(super) fn names(params: &Params) -> Vec<&str> {
    [CERTIFICATE_VOLUME, DATA_VOLUME]
        .into_iter()
        .chain(params.user_volumes.keys().map(String::as_str))
        .collect()
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
