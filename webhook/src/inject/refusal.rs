//! Why a pod that should have a sidecar cannot have one. Its message is what the pod's owner reads.

use mesh_api::Invalid;
use serde_json::Value;

use super::{INIT_CONTAINER, PROXY_CONTAINER, params::Params, pod, volumes};

/// The longest ServiceAccount name whose certificate's Secret can be named: a Secret's name has at most 253 characters,
/// six of which are `istio.`.
pub const LONGEST_SERVICE_ACCOUNT: usize = 247;

/// A pod that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Annotations that do not parse.
    #[error("{}", mesh_api::join(.0))]
    Annotations(Vec<Invalid>),
    /// [`LONGEST_SERVICE_ACCOUNT`] is exceeded.
    #[error(
        "spec.serviceAccountName: {name:?} has {} characters, at most {LONGEST_SERVICE_ACCOUNT} are accepted in the mesh: \
         its certificate's Secret is named istio.NAME, and a Secret's name has at most 253",
        name.len()
    )]
    ServiceAccountTooLong {
        /// The ServiceAccount's name.
        name: String,
    },
    /// A container of the pod has a name that injection needs.
    #[error(
        "spec.{list}: a container named {name} is the mesh's own: rename it, or refuse the sidecar with the label \
         sidecar.istio.io/inject=false"
    )]
    ContainerName {
        /// `containers` or `initContainers`.
        list: &'static str,
        /// The container's name.
        name: &'static str,
    },
    /// A container stands for the sidecar to be merged into.
    #[error(
        "spec.{list}: the container {name} has the image \"auto\", which asks to merge it with the injected one; that is \
         not supported: remove it and use the annotations of sidecar.istio.io"
    )]
    ContainerMerge {
        /// `containers` or `initContainers`.
        list: &'static str,
        /// The container's name.
        name: &'static str,
    },
    /// A volume of the pod has the name of one that injection adds.
    #[error("spec.volumes: a volume named {name} is the mesh's own: rename it")]
    VolumeName {
        /// The volume's name.
        name: String,
    },
    /// The pod refers to a workload certificate's Secret by itself.
    #[error(
        "{at}: a pod of the mesh may not refer to the Secret {secret:?}: Secrets named istio.* hold workload certificates, \
         and only the sidecar holds its own"
    )]
    CertificateSecret {
        /// Where in the pod.
        at: String,
        /// The Secret's name.
        secret: String,
    },
    /// The object does not have a pod's shape.
    #[error(
        "the object is no pod: spec.containers must have an item, the other lists of spec must be lists, and the labels and \
         annotations of metadata maps"
    )]
    NotAPod,
    /// The changes cannot be written as a patch.
    #[error("the patch cannot be written: {0}")]
    Patch(String),
}

impl Refusal {
    /// One word for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Annotations(_) => "annotations",
            Self::ServiceAccountTooLong { .. } => "service_account_too_long",
            Self::ContainerName { .. } => "container_name",
            Self::ContainerMerge { .. } => "container_merge",
            Self::VolumeName { .. } => "volume_name",
            Self::CertificateSecret { .. } => "certificate_secret",
            Self::NotAPod => "not_a_pod",
            Self::Patch(_) => "patch",
        }
    }
}

/// Checks a pod for what injection cannot stand beside.
pub(super) fn check(pod: &Value, params: &Params) -> Result<(), Refusal> {
    if pod
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        return Err(Refusal::NotAPod);
    }
    if params.service_account.len() > LONGEST_SERVICE_ACCOUNT {
        return Err(Refusal::ServiceAccountTooLong {
            name: params.service_account.clone(),
        });
    }
    for list in pod::CONTAINER_LISTS {
        for container in pod::spec_list(pod, list) {
            let Some(name) = [INIT_CONTAINER, PROXY_CONTAINER]
                .into_iter()
                .find(|own| pod::name(container) == *own)
            else {
                continue;
            };
            let merge = container.get("image").and_then(Value::as_str) == Some("auto");
            return Err(if merge {
                Refusal::ContainerMerge { list, name }
            } else {
                Refusal::ContainerName { list, name }
            });
        }
    }
    let own = volumes::own(params);
    for (index, volume) in pod::spec_list(pod, "volumes").enumerate() {
        let name = pod::name(volume);
        if let Some(own) = own.iter().find(|own| pod::name(own) == name) {
            if volume != own {
                return Err(Refusal::VolumeName { name: name.to_owned() });
            }
            continue;
        }
        let at = format!("spec.volumes[{index}]");
        named(volume.pointer("/secret/secretName"), &at)?;
        for source in volume
            .pointer("/projected/sources")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            named(source.pointer("/secret/name"), &at)?;
        }
    }
    for list in pod::CONTAINER_LISTS {
        for container in pod::spec_list(pod, list) {
            let at = format!("spec.{list}[{}]", pod::name(container));
            for env in container.get("env").and_then(Value::as_array).into_iter().flatten() {
                named(env.pointer("/valueFrom/secretKeyRef/name"), &at)?;
            }
            for env in container.get("envFrom").and_then(Value::as_array).into_iter().flatten() {
                named(env.pointer("/secretRef/name"), &at)?;
            }
        }
    }
    Ok(())
}

/// Refuses the name of a workload certificate's Secret.
fn named(secret: Option<&Value>, at: &str) -> Result<(), Refusal> {
    match secret.and_then(Value::as_str) {
        Some(secret) if secret.starts_with("istio.") => Err(Refusal::CertificateSecret {
            at: at.to_owned(),
            secret: secret.to_owned(),
        }),
        _ => Ok(()),
    }
}
