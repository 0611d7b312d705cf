//! What the mesh and a Service say of traffic where no rule does.

use super::locality::LocalitySetting;
use super::pool::Keepalive;
use std::sync::Arc;
use std::time::Duration;

/// What meshConfig says of traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshDefaults {
    /// `connectTimeout`, where it is not 10 s.
    pub connect_timeout: Option<Duration>,
    /// `tcpKeepalive`.
    pub keepalive: Option<Keepalive>,
    /// `h2UpgradePolicy: UPGRADE`: ports that are declared as HTTP are spoken to in HTTP/2.
    pub upgrade: bool,
    /// `localityLbSetting`, enabled where it is absent; `None`: `enabled: false`.
    pub locality: Option<LocalitySetting>,
}

impl Default for MeshDefaults {
    fn default() -> Self {
        Self {
            connect_timeout: None,
            keepalive: None,
            upgrade: false,
            locality: Some(LocalitySetting::default()),
        }
    }
}

/// A Service's wish of where its requests go: `spec.trafficDistribution`, or the annotation
/// `networking.istio.io/traffic-distribution`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Distribution {
    /// None.
    #[default]
    Any,
    /// `PreferSameZone`, and `PreferClose`.
    SameZone,
    /// `PreferSameNode`.
    SameNode,
}

impl Distribution {
    /// Reads the field.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "PreferSameZone" | "PreferClose" => Some(Self::SameZone),
            "PreferSameNode" => Some(Self::SameNode),
            _ => None,
        }
    }

    /// Reads the annotation, which may be in any case; what is not known is none.
    #[must_use]
    pub fn annotated(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "prefersamezone" | "preferclose" => Self::SameZone,
            "prefersamenode" => Self::SameNode,
            _ => Self::Any,
        }
    }

    /// The setting that it stands for.
    #[must_use]
    pub fn setting(self) -> Option<LocalitySetting> {
        let labels: &[&str] = match self {
            Self::Any => return None,
            Self::SameZone => &[NETWORK, REGION, ZONE],
            Self::SameNode => &[NETWORK, REGION, ZONE, SUBZONE, HOSTNAME],
        };
        Some(LocalitySetting {
            failover_priority: labels.iter().map(|label| Arc::from(*label)).collect(),
            always: true,
            ..LocalitySetting::default()
        })
    }
}

/// The label of a pod's network.
pub const NETWORK: &str = "topology.istio.io/network";
/// The label of a region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// The label of a zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The label of a part of a zone.
pub const SUBZONE: &str = "topology.istio.io/subzone";
/// The label of a node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
