//! A destination: what stands behind a host and port, or behind an address and port, as one client namespace sees it.
//!
//! The operator compiles destinations, the wire carries them, the proxy chooses an endpoint of one for each connection or
//! request.

use crate::identity::SpiffeId;
use crate::protocol::Declared;
use crate::workload::Workload;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a proxy asks for when its application first calls something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Query {
    /// An HTTP authority: a host as the client wrote it, lower case, without its port; and the port that was dialled.
    Host {
        /// The host, e.g. `reviews` or `reviews.shop.svc.cluster.local`.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// The address and port that was dialled.
    Address(SocketAddr),
    /// A client's address: who calls, for metrics. The answer is the pod's destination on [`PEER_PORT`].
    Peer(IpAddr),
}

/// The port under which a pod is described as a peer: the sidecar's for what comes in.
pub const PEER_PORT: u16 = 15006;

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Balanced over the endpoints.
    #[default]
    Balanced,
    /// The endpoint that the client dialled: headless Services and direct calls to a pod.
    OriginalDestination,
}

/// A destination and its endpoints: one versioned unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The Service's fully qualified name; for a pod that is called directly, its address.
    pub host: Arc<str>,
    /// The Service's or pod's namespace.
    pub namespace: Arc<str>,
    /// The Service's port; for a pod called directly, the workload's port.
    pub port: u16,
    /// What the port was declared to speak.
    pub protocol: Declared,
    /// How an endpoint is chosen.
    pub resolution: Resolution,
    /// The endpoints that are ready, in a stable order.
    pub endpoints: Vec<Endpoint>,
    /// Where none is ready: those that exist and are not being deleted. A client goes on with those of them that were
    /// ready when it last heard, since all of a destination turning unready at once says more about what they depend on,
    /// or about who probes them, than about them.
    pub unready: Vec<Endpoint>,
    /// The SPIFFE IDs that a server of this destination may present.
    pub identities: Vec<SpiffeId>,
}

/// One pod's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address and the workload's port.
    pub address: SocketAddr,
    /// Whether a client uses mutual TLS to it (automatic mTLS, decided by the operator).
    pub mutual_tls: bool,
    /// The pod's identity, where it has one.
    pub identity: Option<SpiffeId>,
    /// What metrics say of the pod.
    pub workload: Workload,
}

impl Destination {
    /// Istio's cluster name, `outbound|PORT|SUBSET|HOST`.
    #[must_use]
    pub fn cluster_name(&self) -> String {
        format!("outbound|{}||{}", self.port, self.host)
    }

    /// The SNI that a client sends, `outbound_.PORT_.SUBSET_.HOST`. A name may not end like an IP address, so a pod that is called
    /// directly is `ip-10-1-0-2` in it.
    #[must_use]
    pub fn sni(&self) -> String {
        let joined = |parts: Vec<String>| format!("ip-{}", parts.join("-"));
        let host: Cow<'_, str> = match self.host.parse() {
            Ok(IpAddr::V4(ip)) => joined(ip.octets().iter().map(u8::to_string).collect()).into(),
            Ok(IpAddr::V6(ip)) => joined(ip.segments().iter().map(|part| format!("{part:x}")).collect()).into(),
            Err(_) => (*self.host).into(),
        };
        format!("outbound_.{}_._.{host}", self.port)
    }

    /// The endpoint at an address, for [`Resolution::OriginalDestination`].
    #[must_use]
    pub fn endpoint_at(&self, address: SocketAddr) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.address == address)
    }

    /// Whether a server that presented this identity is one of the destination's.
    #[must_use]
    pub fn accepts(&self, identity: &SpiffeId) -> bool {
        self.identities.contains(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sni_is_a_name_whatever_the_host_is() {
        for (host, sni) in [
            (
                "reviews.shop.svc.cluster.local",
                "outbound_.80_._.reviews.shop.svc.cluster.local",
            ),
            ("10.1.0.2", "outbound_.80_._.ip-10-1-0-2"),
            ("fd00::2", "outbound_.80_._.ip-fd00-0-0-0-0-0-0-2"),
        ] {
            let destination = Destination {
                host: host.into(),
                namespace: "shop".into(),
                port: 80,
                protocol: Declared::Detect,
                resolution: Resolution::Balanced,
                endpoints: Vec::new(),
                unready: Vec::new(),
                identities: Vec::new(),
            };
            assert_eq!(destination.sni(), sni);
        }
    }
}
