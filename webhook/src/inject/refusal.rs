//! Why a pod that should have a sidecar cannot have one. Its message is what the pod's owner reads.

use mesh_api::Invalid;
use serde_json::Value;

use super::{INIT_CONTAINER, Namespace, merge, params::Params, pod, pod_security::Level, volumes};
use crate::config::Values;

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
    /// A container that has the name of the mesh's is there twice, or where it cannot be merged with the mesh's.
    #[error(
        "spec.{list}: a container named {name} is merged with the mesh's own: have it once, istio-init among initContainers \
         (see injection.md, a container of one's own)"
    )]
    ContainerName {
        /// `containers` or `initContainers`.
        list: &'static str,
        /// The container's name.
        name: &'static str,
    },
    /// The pod's namespace enforces a pod security level that forbids the init container.
    #[error(
        "namespace {namespace} enforces the pod security level {:?}, which forbids the capabilities NET_ADMIN and NET_RAW that \
         {INIT_CONTAINER} needs to redirect the pod's traffic. Label the namespace {}=privileged, or move the pod to one \
         that is; without a sidecar the pod is taken with the label {}: \"false\"",
        level.as_str(),
        mesh_api::labels::POD_SECURITY_ENFORCE,
        mesh_api::labels::INJECT
    )]
    PodSecurity {
        /// The namespace.
        namespace: String,
        /// What it enforces.
        level: Level,
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
        "the object is no pod: spec.containers must have an item beside istio-proxy, the other lists of spec must be lists, and the labels and \
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
            Self::PodSecurity { .. } => "pod_security",
            Self::VolumeName { .. } => "volume_name",
            Self::CertificateSecret { .. } => "certificate_secret",
            Self::NotAPod => "not_a_pod",
            Self::Patch(_) => "patch",
        }
    }
}

/// Checks a pod for what injection cannot stand beside. Its own containers of the mesh's names were taken from it.
pub(super) fn check(
    pod: &Value,
    own: &merge::Own,
    params: &Params,
    namespace: &Namespace<'_>,
    values: &Values,
) -> Result<(), Refusal> {
    if pod
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        return Err(Refusal::NotAPod);
    }
    if let (Some(level), Some(_)) = (namespace.enforced(values), &params.capture) {
        return Err(Refusal::PodSecurity {
            namespace: namespace.name.to_owned(),
            level,
        });
    }
    if params.service_account.len() > LONGEST_SERVICE_ACCOUNT {
        return Err(Refusal::ServiceAccountTooLong {
            name: params.service_account.clone(),
        });
    }
    volumes::check(pod, params).map_err(|error| Refusal::Annotations(vec![error]))?;
    for volume in params.user_volumes.values() {
        secrets_of_volume(volume, mesh_api::annotations::USER_VOLUME)?;
    }
    let containers = [("initContainers", &own.init), ("containers", &own.proxy)];
    for (list, container) in containers.iter().filter_map(|(list, own)| Some((list, own.as_ref()?))) {
        secrets_of_container(container, list)?;
    }
    secrets_of_pod(pod, params)
}

/// Refuses a pod that refers to a workload certificate's Secret by itself.
fn secrets_of_pod(pod: &Value, params: &Params) -> Result<(), Refusal> {
    let own = volumes::own(params);
    for (index, volume) in pod::spec_list(pod, "volumes").enumerate() {
        let name = pod::name(volume);
        if let Some(own) = own.iter().find(|own| pod::name(own) == name) {
            if volume != own {
                return Err(Refusal::VolumeName { name: name.to_owned() });
            }
            continue;
        }
        secrets_of_volume(volume, &format!("spec.volumes[{index}]"))?;
    }
    for list in pod::CONTAINER_LISTS {
        for container in pod::spec_list(pod, list) {
            secrets_of_container(container, list)?;
        }
    }
    Ok(())
}

fn secrets_of_volume(volume: &Value, at: &str) -> Result<(), Refusal> {
    named(volume.pointer("/secret/secretName"), at)?;
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
    for source in sources.into_iter().flatten() {
        named(source.pointer("/secret/name"), at)?;
    }
    Ok(())
}

fn secrets_of_container(container: &Value, list: &str) -> Result<(), Refusal> {
    let at = format!("spec.{list}[{}]", pod::name(container));
    let items = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    for variable in items("env") {
        named(variable.pointer("/valueFrom/secretKeyRef/name"), &at)?;
    }
    for source in items("envFrom") {
        named(source.pointer("/secretRef/name"), &at)?;
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
