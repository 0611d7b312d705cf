//! Between messages and `mesh_core`'s types. Every message from the network passes through here and is refused whole when
//! any part of it is not what it must be.

use crate::resources as wire;
use mesh_core::client_tls::TlsRule;
use mesh_core::destination::{Destination, Endpoint, Resolution};
use mesh_core::identity::{IdentityError, SpiffeId, TrustDomain};
use mesh_core::peer_authentication::{Effective, PortMode};
use mesh_core::protocol::Declared;
use mesh_core::workload;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

/// Why a message is refused. It goes back to the sender in a negative acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// An enumeration's number without a meaning here.
    #[error("{field}: {value} is not one of its values")]
    Enumeration {
        /// The field.
        field: &'static str,
        /// The number.
        value: i32,
    },
    /// A port outside 1..65535.
    #[error("{field}: port {value} is not in 1..65535")]
    Port {
        /// The field.
        field: &'static str,
        /// The number.
        value: u32,
    },
    /// An address that is neither 4 nor 16 bytes long.
    #[error("endpoints[{0}].address: {1} bytes, expected 4 or 16")]
    Address(usize, usize),
    /// An index outside `identities`.
    #[error("endpoints[{0}].identity: no such entry in identities")]
    IdentityIndex(usize),
    /// An index outside `workloads`.
    #[error("endpoints[{0}].workload: no such entry in workloads")]
    WorkloadIndex(usize),
    /// Mutual TLS to an endpoint whose identity is not said: there would be nothing to verify.
    #[error("endpoints[{0}]: mutual TLS without an identity")]
    MissingIdentity(usize),
    /// A SPIFFE ID or trust domain.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Mutual TLS with a certificate that is not said.
    #[error("client_tls.{0}: a file is needed")]
    MissingFile(&'static str),
    /// A text that must be there.
    #[error("{0}: empty")]
    Empty(&'static str),
    /// A text that is not what its field takes.
    #[error("{field}: {value:?}: {reason}")]
    Text {
        /// The field.
        field: &'static str,
        /// The text, its beginning where it is long.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A trust bundle without a root would trust nobody and cut every connection.
    #[error("trust bundle: no root certificate")]
    NoRoots,
}

fn port(field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(ConvertError::Port { field, value })
}

fn protocol_from(field: &'static str, value: i32) -> Result<Declared, ConvertError> {
    match wire::Protocol::try_from(value) {
        Ok(wire::Protocol::Detect) => Ok(Declared::Detect),
        Ok(wire::Protocol::Http) => Ok(Declared::Http),
        Ok(wire::Protocol::Http2) => Ok(Declared::Http2),
        Ok(wire::Protocol::Tcp) => Ok(Declared::Tcp),
        Ok(wire::Protocol::Udp) => Ok(Declared::Udp),
        Err(_) => Err(ConvertError::Enumeration { field, value }),
    }
}

fn protocol_to(protocol: Declared) -> i32 {
    match protocol {
        Declared::Detect => wire::Protocol::Detect,
        Declared::Http => wire::Protocol::Http,
        Declared::Http2 => wire::Protocol::Http2,
        Declared::Tcp => wire::Protocol::Tcp,
        Declared::Udp => wire::Protocol::Udp,
    }
    .into()
}

fn mode_from(field: &'static str, value: i32) -> Result<PortMode, ConvertError> {
    match wire::PeerMode::try_from(value) {
        Ok(wire::PeerMode::Disable) => Ok(PortMode::Disable),
        Ok(wire::PeerMode::Permissive) => Ok(PortMode::Permissive),
        Ok(wire::PeerMode::Strict) => Ok(PortMode::Strict),
        Ok(wire::PeerMode::Invalid) | Err(_) => Err(ConvertError::Enumeration { field, value }),
    }
}

fn mode_to(mode: PortMode) -> i32 {
    match mode {
        PortMode::Disable => wire::PeerMode::Disable,
        PortMode::Permissive => wire::PeerMode::Permissive,
        PortMode::Strict => wire::PeerMode::Strict,
    }
    .into()
}

impl TryFrom<&wire::InboundPolicy> for Effective {
    type Error = ConvertError;

    fn try_from(message: &wire::InboundPolicy) -> Result<Self, ConvertError> {
        let ports = message
            .ports
            .iter()
            .map(|entry| Ok((port("ports.port", entry.port)?, mode_from("ports.mode", entry.mode)?)));
        Ok(Self {
            mode: mode_from("mode", message.mode)?,
            ports: ports.collect::<Result<_, ConvertError>>()?,
            decided_by: message.decided_by.clone(),
        })
    }
}

impl From<&Effective> for wire::InboundPolicy {
    fn from(effective: &Effective) -> Self {
        let ports = effective.ports.iter();
        Self {
            mode: mode_to(effective.mode),
            ports: ports
                .map(|(port, mode)| wire::PortPeerMode {
                    port: (*port).into(),
                    mode: mode_to(*mode),
                })
                .collect(),
            decided_by: effective.decided_by.clone(),
        }
    }
}

/// The proxy's own pod, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's service account.
    pub service_account: String,
    /// Istio's canonical service name.
    pub canonical_name: String,
    /// Istio's canonical revision.
    pub canonical_revision: String,
    /// What Services declare of the pod's ports.
    pub ports: BTreeMap<u16, Declared>,
    /// The fully qualified names of the Services that lead to the pod's ports, the first of each port.
    pub services: BTreeMap<u16, std::sync::Arc<str>>,
    /// What metrics say of the pod; of an operator that does not say it only the names above are known.
    pub metadata: workload::Workload,
    /// What is logged of requests and connections.
    pub access_log: AccessLog,
    /// Whether traffic to what the mesh does not know may pass (`outboundTrafficPolicy.mode: ALLOW_ANY`).
    pub allow_any: bool,
}

/// `meshConfig.accessLogFile`, `accessLogFormat` and `accessLogEncoding`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AccessLog {
    /// Where to; empty: errors alone are logged, to standard output.
    pub file: String,
    /// The format; empty: Istio's own.
    pub format: String,
    /// Whether lines are JSON.
    pub json: bool,
}

impl From<&wire::Metadata> for workload::Workload {
    fn from(message: &wire::Metadata) -> Self {
        Self::from(workload::Metadata {
            name: message.name.as_str().into(),
            namespace: message.namespace.as_str().into(),
            app: message.app.as_str().into(),
            version: message.version.as_str().into(),
            canonical_name: message.canonical_name.as_str().into(),
            canonical_revision: message.canonical_revision.as_str().into(),
            cluster: message.cluster.as_str().into(),
        })
    }
}

impl From<&workload::Workload> for wire::Metadata {
    fn from(workload: &workload::Workload) -> Self {
        Self {
            name: workload.name.to_string(),
            namespace: workload.namespace.to_string(),
            app: workload.app.to_string(),
            version: workload.version.to_string(),
            canonical_name: workload.canonical_name.to_string(),
            canonical_revision: workload.canonical_revision.to_string(),
            cluster: workload.cluster.to_string(),
        }
    }
}

impl TryFrom<&wire::Workload> for Workload {
    type Error = ConvertError;

    fn try_from(message: &wire::Workload) -> Result<Self, ConvertError> {
        let allow_any = match wire::OutboundMode::try_from(message.outbound_mode) {
            Ok(wire::OutboundMode::AllowAny) => true,
            Ok(wire::OutboundMode::RegistryOnly) => false,
            Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "outbound_mode",
                    value: message.outbound_mode,
                });
            }
        };
        let ports = message.ports.iter().map(|entry| {
            Ok((
                port("ports.port", entry.port)?,
                protocol_from("ports.protocol", entry.protocol)?,
            ))
        });
        let services = message
            .ports
            .iter()
            .filter(|entry| !entry.service.is_empty())
            .map(|entry| Ok((port("ports.port", entry.port)?, entry.service.as_str().into())));
        let metadata = match &message.metadata {
            Some(metadata) => metadata.into(),
            None => workload::Workload::from(workload::Metadata {
                namespace: message.namespace.as_str().into(),
                canonical_name: message.canonical_name.as_str().into(),
                canonical_revision: message.canonical_revision.as_str().into(),
                ..workload::Metadata::default()
            }),
        };
        Ok(Self {
            namespace: message.namespace.clone(),
            pod: message.pod.clone(),
            service_account: message.service_account.clone(),
            canonical_name: message.canonical_name.clone(),
            canonical_revision: message.canonical_revision.clone(),
            ports: ports.collect::<Result<_, ConvertError>>()?,
            services: services.collect::<Result<_, ConvertError>>()?,
            metadata,
            access_log: message
                .access_log
                .as_ref()
                .map_or_else(AccessLog::default, |log| AccessLog {
                    file: log.file.clone(),
                    format: log.format.clone(),
                    json: log.json,
                }),
            allow_any,
        })
    }
}

impl From<&Workload> for wire::Workload {
    fn from(workload: &Workload) -> Self {
        let ports = workload.ports.iter();
        let mode = if workload.allow_any {
            wire::OutboundMode::AllowAny
        } else {
            wire::OutboundMode::RegistryOnly
        };
        Self {
            namespace: workload.namespace.clone(),
            pod: workload.pod.clone(),
            service_account: workload.service_account.clone(),
            canonical_name: workload.canonical_name.clone(),
            canonical_revision: workload.canonical_revision.clone(),
            ports: ports
                .map(|(port, protocol)| wire::WorkloadPort {
                    port: (*port).into(),
                    protocol: protocol_to(*protocol),
                    service: workload.services.get(port).map(ToString::to_string).unwrap_or_default(),
                })
                .collect(),
            outbound_mode: mode.into(),
            metadata: Some((&workload.metadata).into()),
            access_log: Some(wire::AccessLog {
                file: workload.access_log.file.clone(),
                format: workload.access_log.format.clone(),
                json: workload.access_log.json,
            }),
        }
    }
}

/// Whom the mesh trusts, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// The mesh's own trust domain.
    pub trust_domain: TrustDomain,
    /// Further trust domains that count as its own.
    pub aliases: Vec<TrustDomain>,
    /// Root certificates, DER; at least one.
    pub roots: Vec<bytes::Bytes>,
}

impl TryFrom<&wire::TrustBundle> for TrustBundle {
    type Error = ConvertError;

    fn try_from(message: &wire::TrustBundle) -> Result<Self, ConvertError> {
        if message.roots.is_empty() {
            return Err(ConvertError::NoRoots);
        }
        Ok(Self {
            trust_domain: TrustDomain::new(&message.trust_domain)?,
            aliases: message
                .aliases
                .iter()
                .map(|alias| TrustDomain::new(alias))
                .collect::<Result<_, _>>()?,
            roots: message.roots.clone(),
        })
    }
}

impl From<&TrustBundle> for wire::TrustBundle {
    fn from(bundle: &TrustBundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain.to_string(),
            aliases: bundle.aliases.iter().map(ToString::to_string).collect(),
            roots: bundle.roots.clone(),
        }
    }
}

impl TryFrom<&wire::Destination> for Destination {
    type Error = ConvertError;

    fn try_from(message: &wire::Destination) -> Result<Self, ConvertError> {
        let identities: Vec<SpiffeId> = message
            .identities
            .iter()
            .map(|id| id.parse())
            .collect::<Result<_, IdentityError>>()?;
        let workloads: Vec<workload::Workload> = message.workloads.iter().map(Into::into).collect();
        let unknown = workload::Workload::default();
        let endpoint = |(index, entry): (usize, &wire::Endpoint)| {
            let ip = match entry.address.len() {
                4 => <[u8; 4]>::try_from(&entry.address[..]).map(IpAddr::from),
                _ => <[u8; 16]>::try_from(&entry.address[..]).map(IpAddr::from),
            }
            .map_err(|_| ConvertError::Address(index, entry.address.len()))?;
            let identity = match entry.identity.checked_sub(1) {
                None if entry.mutual_tls => return Err(ConvertError::MissingIdentity(index)),
                None => None,
                Some(at) => {
                    let found = usize::try_from(at).ok().and_then(|at| identities.get(at));
                    Some(found.ok_or(ConvertError::IdentityIndex(index))?.clone())
                }
            };
            Ok(Endpoint {
                address: SocketAddr::new(ip, port("endpoints.port", entry.port)?),
                mutual_tls: entry.mutual_tls,
                identity,
                workload: match entry.workload.checked_sub(1) {
                    None => unknown.clone(),
                    Some(at) => {
                        let found = usize::try_from(at).ok().and_then(|at| workloads.get(at));
                        found.ok_or(ConvertError::WorkloadIndex(index))?.clone()
                    }
                },
                locality: None,
                weight: 1,
                ranks: Box::default(),
            })
        };
        let resolution = match wire::Resolution::try_from(message.resolution) {
            Ok(wire::Resolution::Balanced) => Resolution::Balanced,
            Ok(wire::Resolution::OriginalDestination) => Resolution::OriginalDestination,
            Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "resolution",
                    value: message.resolution,
                });
            }
        };
        Ok(Self {
            host: message.host.as_str().into(),
            namespace: message.namespace.as_str().into(),
            port: port("port", message.port)?,
            protocol: protocol_from("protocol", message.protocol)?,
            resolution,
            endpoints: message
                .endpoints
                .iter()
                .enumerate()
                .map(endpoint)
                .collect::<Result<_, _>>()?,
            unready: message
                .unready
                .iter()
                .enumerate()
                .map(endpoint)
                .collect::<Result<_, _>>()?,
            identities,
            tls: message.client_tls.as_ref().map(TlsRule::try_from).transpose()?,
            ..Destination::default()
        })
    }
}

impl From<&Destination> for wire::Destination {
    fn from(destination: &Destination) -> Self {
        let index_of = |identity: &SpiffeId| destination.identities.iter().position(|id| id == identity);
        // A destination has many endpoints and few workloads.
        let mut workloads: Vec<wire::Metadata> = Vec::new();
        let mut places: HashMap<&workload::Workload, u32> = HashMap::new();
        for endpoint in destination.endpoints.iter().chain(&destination.unready) {
            if endpoint.workload != workload::Workload::default() && !places.contains_key(&endpoint.workload) {
                workloads.push((&endpoint.workload).into());
                places.insert(&endpoint.workload, u32::try_from(workloads.len()).unwrap_or_default());
            }
        }
        let endpoint = |endpoint: &Endpoint| wire::Endpoint {
            address: match endpoint.address.ip() {
                IpAddr::V4(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
            },
            port: endpoint.address.port().into(),
            mutual_tls: endpoint.mutual_tls,
            identity: endpoint
                .identity
                .as_ref()
                .and_then(index_of)
                .and_then(|at| u32::try_from(at + 1).ok())
                .unwrap_or_default(),
            workload: places.get(&endpoint.workload).copied().unwrap_or_default(),
        };
        Self {
            host: destination.host.to_string(),
            namespace: destination.namespace.to_string(),
            port: destination.port.into(),
            protocol: protocol_to(destination.protocol),
            resolution: match destination.resolution {
                Resolution::Balanced => wire::Resolution::Balanced,
                Resolution::OriginalDestination => wire::Resolution::OriginalDestination,
            }
            .into(),
            endpoints: destination.endpoints.iter().map(endpoint).collect(),
            unready: destination.unready.iter().map(endpoint).collect(),
            identities: destination.identities.iter().map(ToString::to_string).collect(),
            workloads,
            client_tls: destination.tls.as_ref().map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> Destination {
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap();
        let endpoint = |address: &str, identity: Option<&SpiffeId>| Endpoint {
            address: address.parse().unwrap(),
            mutual_tls: identity.is_some(),
            identity: identity.cloned(),
            workload: "reviews".into(),
            locality: None,
            weight: 1,
            ranks: Box::default(),
        };
        Destination {
            host: "reviews.shop.svc.cluster.local".into(),
            namespace: "shop".into(),
            port: 9080,
            protocol: Declared::Http,
            resolution: Resolution::Balanced,
            endpoints: vec![
                endpoint("10.0.0.1:9080", Some(&identity)),
                endpoint("[fd00::1]:9080", None),
            ],
            unready: vec![endpoint("10.0.0.2:9080", Some(&identity))],
            identities: vec![identity],
            tls: Some(TlsRule {
                rule: "shop/reviews".into(),
                tls: std::sync::Arc::new(mesh_core::client_tls::ClientTls::Disable),
            }),
            ..Destination::default()
        }
    }

    #[test]
    fn a_destination_survives_the_wire() {
        let message = wire::Destination::from(&destination());
        assert_eq!(Destination::try_from(&message), Ok(destination()));
        assert_eq!(message.workloads.len(), 1, "the endpoints' workload is written once");
    }

    #[test]
    fn a_damaged_destination_is_refused_whole() {
        type Damage = (&'static str, fn(&mut wire::Destination));
        let damage: [Damage; 8] = [
            ("workload index", |d| d.endpoints[0].workload = 7),
            ("client_tls", |d| d.client_tls = Some(wire::ClientTls::default())),
            ("port", |d| d.port = 0),
            ("protocol", |d| d.protocol = 99),
            ("address", |d| {
                d.endpoints[0].address = bytes::Bytes::from_static(&[1, 2, 3])
            }),
            ("identity index", |d| d.endpoints[0].identity = 7),
            ("mutual TLS without identity", |d| d.endpoints[0].identity = 0),
            ("identity", |d| d.identities[0] = "spiffe://x".into()),
        ];
        for (what, damage) in damage {
            let mut message = wire::Destination::from(&destination());
            damage(&mut message);
            assert!(Destination::try_from(&message).is_err(), "{what}");
        }
    }

    #[test]
    fn an_inbound_policy_without_a_mode_is_refused() {
        assert!(Effective::try_from(&wire::InboundPolicy::default()).is_err());
        let effective = Effective {
            mode: PortMode::Strict,
            ports: [(80, PortMode::Disable)].into(),
            ..Effective::default()
        };
        assert_eq!(
            Effective::try_from(&wire::InboundPolicy::from(&effective)),
            Ok(effective)
        );
    }
}
