//! Kubernetes' objects cut down to what the mesh needs of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use mesh_core::labels::Labels;
use mesh_core::protocol::{Declared, declared};
use mesh_core::traffic::Distribution;
use mesh_core::workload::{self, Owner};

use super::changes::Named;

/// The sidecar's container and the volume of its certificate, as injection names them.
const PROXY_CONTAINER: &str = "istio-proxy";
const CERTIFICATE_VOLUME: &str = "istio-certs";

/// Written by the operator on a pod: the serial number of the newest certificate, so that the kubelet reads it at once.
pub const CERTIFICATE_SERIAL: &str = "security.pinnace.dev/certificate-serial";

/// The annotation of a Service that says the same as `spec.trafficDistribution`.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRecord {
    /// Its addresses; none while it has none of its own (on the host's network, or finished).
    pub addresses: Vec<IpAddr>,
    /// The node's addresses, for a pod on the host's network: they are not the pod's own.
    pub host_addresses: Vec<IpAddr>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// The name of the workload that it belongs to.
    pub workload: Box<str>,
    /// Whether it takes mutual TLS: labelled `security.istio.io/tlsMode=istio`.
    pub injected: bool,
    /// Whether its sidecar reads the Secret of its service account.
    pub uses_certificate: bool,
    /// The serial number that its kubelet was last told of.
    pub told_serial: Option<Box<str>>,
    /// When it was made, seconds since the epoch.
    pub created: i64,
    /// The node that it runs on.
    pub node: Option<Arc<str>>,
    /// Whether it says of itself that it is ready.
    pub ready: bool,
}

impl PodRecord {
    /// Cuts a pod down.
    #[must_use]
    pub fn new(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let finished = status
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|p| p == "Succeeded" || p == "Failed");
        let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
        let mut addresses = Vec::new();
        if !finished {
            let listed = status
                .and_then(|status| status.pod_ips.as_ref())
                .into_iter()
                .flatten()
                .map(|ip| ip.ip.as_str());
            let single = status.and_then(|status| status.pod_ip.as_deref());
            for address in listed.chain(single).filter_map(|text| text.parse().ok()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        let (addresses, host_addresses) = if host_network {
            (Vec::new(), addresses)
        } else {
            (addresses, Vec::new())
        };
        let account = spec
            .and_then(|spec| spec.service_account_name.as_deref())
            .filter(|name| !name.is_empty());
        let injected = pod.labels().get(mesh_api::labels::TLS_MODE).map(String::as_str)
            == Some(mesh_api::labels::TLS_MODE_ISTIO)
            && !host_network;
        Self {
            addresses,
            host_addresses,
            service_account: account.unwrap_or("default").into(),
            labels: pod.labels().clone(),
            workload: workload_name(pod).into(),
            injected,
            uses_certificate: !finished && has_sidecar(pod),
            told_serial: pod
                .annotations()
                .get(CERTIFICATE_SERIAL)
                .map(|serial| serial.as_str().into()),
            created: pod.creation_timestamp().map_or(0, |time| time.0.as_second()),
            node: spec.and_then(|spec| spec.node_name.as_deref()).map(Into::into),
            ready: pod.metadata.deletion_timestamp.is_none() && is_ready(pod),
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}

/// The host that a Service of type ExternalName is another name of.
#[must_use]
pub fn external_name(service: &Service) -> Option<Arc<str>> {
    let spec = service.spec.as_ref()?;
    let host = spec.external_name.as_deref().filter(|host| !host.is_empty())?;
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (spec.type_.as_deref() == Some("ExternalName")).then(|| host.into())
}

/// The name of what owns a pod.
fn workload_name(pod: &Pod) -> &str {
    let owner = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let owner = owner.map(|owner| Owner {
        kind: &owner.kind,
        name: &owner.name,
    });
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    workload::name(name, owner, |key| pod.labels().get(key).map(String::as_str))
}

/// Whether a sidecar with the certificate's volume was injected.
fn has_sidecar(pod: &Pod) -> bool {
    if pod.annotations().contains_key(mesh_api::annotations::STATUS) {
        return true;
    }
    let Some(spec) = &pod.spec else { return false };
    let named = |name: &str| name == PROXY_CONTAINER;
    let container = spec.containers.iter().any(|container| named(&container.name))
        || spec
            .init_containers
            .iter()
            .flatten()
            .any(|container| named(&container.name));
    container
        && spec
            .volumes
            .iter()
            .flatten()
            .any(|volume| volume.name == CERTIFICATE_VOLUME)
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The port's number.
    pub port: u16,
    /// The port's name, which its EndpointSlices repeat; empty where it has none.
    pub name: Box<str>,
    /// `appProtocol`.
    pub app_protocol: Option<Box<str>>,
}

impl ServicePort {
    /// What the port was declared to speak, given the number that is dialled.
    #[must_use]
    pub fn protocol(&self, port: u16) -> Declared {
        declared(
            self.app_protocol.as_deref(),
            (!self.name.is_empty()).then_some(&*self.name),
            port,
        )
    }
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Its addresses; none for a headless one.
    pub addresses: Vec<IpAddr>,
    /// Whether it is headless: its name resolves to its pods.
    pub headless: bool,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// Where its requests are to go, as far as places make a difference.
    pub distribution: Distribution,
}

impl ServiceRecord {
    /// Cuts a Service down; `None` for one that is only a name for something outside (ExternalName).
    #[must_use]
    pub fn new(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let listed = spec.cluster_ips.iter().flatten().map(String::as_str);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in listed
            .chain(spec.cluster_ip.as_deref())
            .filter_map(|text| text.parse().ok())
        {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let ports = spec
            .ports
            .iter()
            .flatten()
            .filter(|port| is_tcp(port.protocol.as_deref()))
            .filter_map(|port| {
                Some(ServicePort {
                    port: u16::try_from(port.port).ok().filter(|port| *port != 0)?,
                    name: port.name.as_deref().unwrap_or_default().into(),
                    app_protocol: port.app_protocol.as_deref().map(Into::into),
                })
            });
        Some(Self {
            headless: spec.cluster_ip.as_deref() == Some("None"),
            addresses,
            ports: ports.collect(),
            distribution: distribution(spec.traffic_distribution.as_deref(), service.annotations()),
        })
    }
}

/// What a Service says, the field before the annotation.
fn distribution(field: Option<&str>, annotations: &BTreeMap<String, String>) -> Distribution {
    let annotated = || annotations.get(TRAFFIC_DISTRIBUTION);
    field
        .and_then(Distribution::parse)
        .or_else(|| Some(Distribution::annotated(annotated()?)))
        .unwrap_or_default()
}

/// An endpoint of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address. Kubernetes gives several a meaning only as equals; the first is taken.
    pub address: IpAddr,
    /// The pod behind it, where the slice names one.
    pub pod: Option<Named>,
    /// The name that it has of its own under a headless Service's, where it has one.
    pub hostname: Option<Box<str>>,
    /// Whether it takes new connections.
    pub ready: bool,
    /// Whether it answers, though it may be going away.
    pub serving: bool,
    /// Whether its pod is being deleted.
    pub terminating: bool,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceRecord {
    /// The Service that it belongs to.
    pub service: Named,
    /// Its TCP ports: name and number.
    pub ports: Vec<(Box<str>, u16)>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

impl SliceRecord {
    /// Cuts an EndpointSlice down; `None` for one that belongs to no Service or lists names instead of addresses.
    #[must_use]
    pub fn new(slice: &EndpointSlice) -> Option<Self> {
        if slice.address_type == "FQDN" {
            return None;
        }
        let service = slice.labels().get(SERVICE_NAME_LABEL)?.as_str().into();
        let namespace: Arc<str> = slice.namespace().unwrap_or_default().into();
        let ports = slice
            .ports
            .iter()
            .flatten()
            .filter(|port| is_tcp(port.protocol.as_deref()))
            .filter_map(|port| {
                let number = u16::try_from(port.port?).ok().filter(|port| *port != 0)?;
                Some((port.name.as_deref().unwrap_or_default().into(), number))
            });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            let target = endpoint
                .target_ref
                .as_ref()
                .filter(|target| target.kind.as_deref() == Some("Pod"));
            let pod = target.and_then(|target| Some((namespace.clone(), target.name.as_deref()?.into())));
            Some(SliceEndpoint {
                address: endpoint.addresses.first()?.parse().ok()?,
                pod,
                hostname: endpoint.hostname.as_deref().map(Into::into),
                ready,
                serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
                terminating: conditions
                    .and_then(|conditions| conditions.terminating)
                    .unwrap_or(false),
            })
        });
        Some(Self {
            ports: ports.collect(),
            endpoints: endpoints.collect(),
            service: (namespace, service),
        })
    }
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}
