//! Labels that the mesh reads or writes, under Istio's names (istio/api label/labels.gen.go).

/// On a namespace: `enabled` asks for sidecars in it, `disabled` forbids them whatever a pod says.
pub const NAMESPACE_INJECTION: &str = "istio-injection";
/// On a namespace or pod: the revision of the control plane that injects it.
pub const REVISION: &str = "istio.io/rev";
/// On a pod: `true` asks for a sidecar, `false` refuses it. Beats the annotation of the same name.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// On an injected pod: `istio` says that the pod takes mutual TLS; automatic mutual TLS picks endpoints by it.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// The value of [`TLS_MODE`] on a pod with a sidecar.
pub const TLS_MODE_ISTIO: &str = "istio";
/// The service a workload counts as in metrics.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// The version a workload counts as in metrics.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// On a pod: a workload name that replaces the owner's.
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// On a pod: the network it is in.
pub const NETWORK: &str = "topology.istio.io/network";
/// On a pod: the cluster it is in.
pub const CLUSTER: &str = "topology.istio.io/cluster";
/// On a namespace: the pod security level that its pods must meet (Kubernetes' Pod Security admission).
pub const POD_SECURITY_ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// Kubernetes' recommended label for an application's name, read for [`CANONICAL_NAME`].
pub const APP_KUBERNETES_NAME: &str = "app.kubernetes.io/name";
/// Kubernetes' recommended label for an application's version, read for [`CANONICAL_REVISION`].
pub const APP_KUBERNETES_VERSION: &str = "app.kubernetes.io/version";
/// Read for [`CANONICAL_NAME`] when no recommended label is there.
pub const APP: &str = "app";
/// Read for [`CANONICAL_REVISION`] when no recommended label is there.
pub const VERSION: &str = "version";
/// On an object that the mesh wrote: its value is [`MANAGED_BY_PINNACE`]. What lacks it is never overwritten.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on the mesh's own objects.
pub const MANAGED_BY_PINNACE: &str = "pinnace";
/// On a workload certificate's Secret: the UID of the ServiceAccount it was issued for, so that a Secret of a
/// deleted and re-created account is recognised.
pub const SERVICE_ACCOUNT_UID: &str = "security.pinnace.dev/service-account-uid";
/// On a PeerAuthentication, AuthorizationPolicy or RequestAuthentication: the candidate set that it belongs to. Such a resource
/// is not in force; sidecars tell what it would deny.
pub const CANDIDATE: &str = "policy.pinnace.dev/candidate";
