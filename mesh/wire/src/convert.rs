//! Between messages and `mesh_core`'s types. Every message from the network passes through here and is refused whole when
//! any part of it is not what it must be.

use crate::check::{bounded, each, refused};
use crate::query;
use crate::resources as wire;
use mesh_core::destination::Query;
use mesh_core::identity::{IdentityError, TrustDomain};
use mesh_core::labels::Labels;
use mesh_core::peer_authentication::{Effective, PortMode};
use mesh_core::protocol::Declared;
use mesh_core::traffic::Locality;
use mesh_core::workload;
use std::collections::BTreeMap;

/// Why a message is refused. It goes back to the sender in a negative acknowledgement.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
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
    /// A name of an endpoint is none, or of an endpoint that is not there.
    #[error("names: of endpoint {0}: not a name, or there is no such endpoint")]
    EndpointName(u32),
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
    /// A choice of which nothing is known here: a later version's, or none at all.
    #[error("{0}: no value that is known here")]
    Unknown(&'static str),
    /// A number out of bounds.
    #[error("{field}: {value} is not {accepted}")]
    Range {
        /// The field.
        field: &'static str,
        /// The number.
        value: f64,
        /// What would be.
        accepted: &'static str,
    },
    /// An index outside its list.
    #[error("{field}: {value}: there is no such entry")]
    Index {
        /// The field.
        field: &'static str,
        /// The index.
        value: u32,
    },
    /// Indices that do not ascend.
    #[error("{0}: not in ascending order")]
    Order(&'static str),
    /// More of something than is taken.
    #[error("{field}: {count}, of which at most {most} are taken")]
    TooMany {
        /// The field.
        field: &'static str,
        /// How many.
        count: usize,
        /// How many would be taken.
        most: usize,
    },
    /// Routes in a language of a later version.
    #[error("routes.language: {0} is not known here")]
    Language(u32),
    /// Routes in a destination that a route leads to.
    #[error("a destination that a route leads to has routes of its own")]
    Nested,
    /// An entry of a list.
    #[error("{list}[{index}]: {error}")]
    Entry {
        /// The list.
        list: &'static str,
        /// Which entry.
        index: usize,
        /// Why it is refused.
        error: Box<ConvertError>,
    },
    /// A trust bundle without a root would trust nobody and cut every connection.
    #[error("trust bundle: no root certificate")]
    NoRoots,
}

pub(crate) fn port(field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(ConvertError::Port { field, value })
}

pub(crate) fn protocol_from(field: &'static str, value: i32) -> Result<Declared, ConvertError> {
    match wire::Protocol::try_from(value) {
        Ok(wire::Protocol::Detect) => Ok(Declared::Detect),
        Ok(wire::Protocol::Http) => Ok(Declared::Http),
        Ok(wire::Protocol::Http2) => Ok(Declared::Http2),
        Ok(wire::Protocol::Tcp) => Ok(Declared::Tcp),
        Ok(wire::Protocol::Udp) => Ok(Declared::Udp),
        Err(_) => Err(ConvertError::Enumeration { field, value }),
    }
}

pub(crate) fn protocol_to(protocol: Declared) -> i32 {
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
    /// The pod's labels.
    pub labels: Labels,
    /// Where the pod is; `None` where that is not known.
    pub locality: Option<Locality>,
    /// Destinations to fetch before the application asks for them.
    pub ahead: Vec<Query>,
}

/// The most destinations that are fetched ahead.
pub const MOST_AHEAD: usize = 10_000;

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
        bounded("ahead", &message.ahead, MOST_AHEAD)?;
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
            labels: message
                .labels
                .iter()
                .map(|pair| (pair.key.clone(), pair.value.clone()))
                .collect(),
            locality: message.locality.as_ref().map(Into::into),
            ahead: each("ahead", &message.ahead, |name| {
                query::parse(name).ok_or_else(|| refused("name", name, "not the name of a destination"))
            })?,
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
            labels: workload
                .labels
                .iter()
                .map(|(key, value)| wire::KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            locality: workload.locality.as_ref().map(Into::into),
            ahead: workload.ahead.iter().map(query::name).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_workload_survives_the_wire() {
        let workload = Workload {
            namespace: "shop".into(),
            pod: "web-1".into(),
            ports: [(80, Declared::Http)].into(),
            services: [(80, "web.shop.svc.cluster.local".into())].into(),
            metadata: "web".into(),
            labels: [("app".into(), "web".into())].into(),
            locality: Some(Locality::parse("eu/a/rack-1")),
            ahead: vec![query::parse("host/reviews:9080").unwrap()],
            ..Workload::default()
        };
        let mut message = wire::Workload::from(&workload);
        assert_eq!(Workload::try_from(&message), Ok(workload));
        message.ahead.push("nonsense".into());
        let error = Workload::try_from(&message).unwrap_err().to_string();
        assert_eq!(error, "ahead[1]: name: \"nonsense\": not the name of a destination");
    }
}
