//! Annotations that the mesh reads or writes, under Istio's names (istio/api annotation/annotations.gen.go), and the
//! parsing of those that take effect.
//!
//! [`Sidecar::parse`] takes a pod's annotations once, at injection, each by its family; an annotation that does not parse
//! refuses the pod. [`surface`] lists all there are, and what becomes of each.

mod capture;
mod container;
mod logging;
mod probes;
mod prometheus;
mod sidecar;
pub mod surface;
mod templates;
mod values;

pub use capture::{Capture, InterceptionMode};
pub use container::Container;
pub(crate) use container::image_type;
pub use logging::Logging;
pub use probes::{Probes, SIDECAR_PORTS};
pub(crate) use probes::{STATUS_PORT as STATUS_PORT_ACCEPTED, status_port};
pub use prometheus::{Prometheus, ScrapeTarget};
pub use sidecar::Sidecar;
pub use surface::label_warning;
pub use values::{IpRanges, Ports};

/// `true` or `false` on a pod: ask for or refuse the sidecar. The label of the same name wins. Deprecated in Istio.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Written on an injected pod: JSON that lists what injection added.
pub const STATUS: &str = "sidecar.istio.io/status";
/// Written on an injected pod: the revision of the control plane that injected it.
pub const REVISION: &str = "istio.io/rev";
/// `true` or `false`: run the proxy as a native sidecar (an init container that restarts) or as a classic container.
pub const NATIVE_SIDECAR: &str = "sidecar.istio.io/nativeSidecar";
/// `REDIRECT`, `TPROXY` or `NONE`: how traffic reaches the sidecar.
pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
/// CPU request of the sidecar, a Kubernetes quantity.
pub const PROXY_CPU: &str = "sidecar.istio.io/proxyCPU";
/// CPU limit of the sidecar, a Kubernetes quantity.
pub const PROXY_CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
/// Memory request of the sidecar, a Kubernetes quantity.
pub const PROXY_MEMORY: &str = "sidecar.istio.io/proxyMemory";
/// Memory limit of the sidecar, a Kubernetes quantity.
pub const PROXY_MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
/// Image of the sidecar: a name under the mesh's hub, or a whole reference when it holds a slash.
pub const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
/// The type of the sidecar's image, a suffix of its tag.
pub const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
/// Volumes for the sidecar: JSON from a volume's name to its source.
pub const USER_VOLUME: &str = "sidecar.istio.io/userVolume";
/// Mounts in the sidecar: JSON from a volume's name to its mount.
pub const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";
/// Log level of what Istio's agent does.
pub const AGENT_LOG_LEVEL: &str = "sidecar.istio.io/agentLogLevel";
/// Log levels of what Envoy's components do.
pub const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
/// Would give Istio's sidecar the capability NET_BIND_SERVICE.
pub const CAP_NET_BIND_SERVICE: &str = "sidecar.istio.io/capNetBindService";
/// The port of the sidecar's status pages; `0` means that the sidecar is not probed.
pub const STATUS_PORT: &str = "status.sidecar.istio.io/port";
/// The templates that a pod asks to be injected with.
pub const TEMPLATES: &str = "inject.istio.io/templates";
/// `true` or `false`: have the sidecar merge the application's metrics into its own.
pub const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
/// The application's pages of metrics: `PORT:PATH` separated by commas.
pub const SCRAPE_TARGETS: &str = "prometheus.istio.io/scrape-targets";
/// How long the application's containers sleep before they are told to end.
pub const PRE_STOP_SLEEP: &str = "policy.pinnace.dev/pre-stop-sleep";
/// Log level of the sidecar.
pub const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
/// `true` or `false`: have the sidecar answer the kubelet's probes of the application.
pub const REWRITE_APP_HTTP_PROBERS: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
/// Destination ranges whose traffic passes the sidecar: CIDRs separated by commas, or `*`.
pub const INCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
/// Destination ranges whose traffic does not pass the sidecar: CIDRs separated by commas.
pub const EXCLUDE_OUTBOUND_IP_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
/// Destination ports that pass the sidecar whatever their address: ports separated by commas.
pub const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
/// Destination ports that do not pass the sidecar: ports separated by commas.
pub const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
/// The pod's own ports that the sidecar serves: ports separated by commas, or `*`.
pub const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
/// The pod's own ports that the sidecar leaves alone: ports separated by commas.
pub const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
/// Network interfaces whose traffic is not redirected: names separated by commas.
pub const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
/// Interfaces of virtual machines whose inbound traffic counts as outbound: names separated by commas.
pub const REROUTE_VIRTUAL_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";
/// The deprecated name of [`REROUTE_VIRTUAL_INTERFACES`].
pub const KUBEVIRT_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
/// Seconds before the kubelet's first readiness probe of the sidecar.
pub const READINESS_INITIAL_DELAY: &str = "readiness.status.sidecar.istio.io/initialDelaySeconds";
/// Seconds between the kubelet's readiness probes of the sidecar.
pub const READINESS_PERIOD: &str = "readiness.status.sidecar.istio.io/periodSeconds";
/// Failed readiness probes until the sidecar counts as not ready.
pub const READINESS_FAILURE_THRESHOLD: &str = "readiness.status.sidecar.istio.io/failureThreshold";
/// Overrides of the mesh configuration's `defaultConfig` for one pod, as YAML.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// The container that `kubectl exec` and the like mean when none is named.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The container that `kubectl logs` means when none is named.
pub const DEFAULT_LOGS_CONTAINER: &str = "kubectl.kubernetes.io/default-logs-container";
/// On a pod, by the operator: the serial of its newest certificate. A change of it makes the kubelet refresh the
/// mounted Secret at once.
pub const CERTIFICATE_SERIAL: &str = "security.pinnace.dev/certificate-serial";
/// On a workload certificate's Secret: the SPIFFE ID that its leaf carries.
pub const SPIFFE_ID: &str = "security.pinnace.dev/spiffe-id";
