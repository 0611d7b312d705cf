//! A destination: what stands behind a host and port, or behind an address and port, as one client namespace sees it.
//!
//! The operator compiles destinations, the wire carries them, the proxy chooses an endpoint of one for each connection or
//! request.

use crate::client_tls::{ClientTls, MeshNames, Origination, TlsRule};
use crate::identity::SpiffeId;
use crate::protocol::Declared;
use crate::routing::Routes;
use crate::traffic::{Locality, Traffic};
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
    /// A name that the application asks DNS for, lower case, without the dot at its end. The answer is a destination whose
    /// endpoints are the addresses of that name, on [`NAME_PORT`].
    Name(Arc<str>),
}

/// The port under which a pod is described as a peer: the sidecar's for what comes in.
pub const PEER_PORT: u16 = 15006;

/// The port under which the addresses of a name are given: DNS's own, since a name has none.
pub const NAME_PORT: u16 = 53;

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Balanced over the endpoints.
    #[default]
    Balanced,
    /// The endpoint that the client dialled: headless Services and direct calls to a pod.
    OriginalDestination,
    /// Where the client dialled, whatever that is (a ServiceEntry's `NONE`); on the port of the one endpoint, where there is
    /// one.
    AsDialled,
    /// The addresses of the host that the request names, on the one endpoint's port (a ServiceEntry's `DYNAMIC_DNS`).
    Dynamic,
}

/// A destination, its endpoints, and where requests to it go: one versioned unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Destination {
    /// The Service's fully qualified name; for a pod that is called directly, its address.
    pub host: Arc<str>,
    /// The subset's name where this is what one of [`Destination::subsets`] comes to by itself; else empty. Never on the wire.
    pub subset: Arc<str>,
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
    /// `namespace/name` of the DestinationRule that governs; `None` where none says anything of it.
    pub rule: Option<Arc<str>>,
    /// What it says of TLS; `None` is automatic mutual TLS.
    pub tls: Option<TlsRule>,
    /// What it says of everything else, for the endpoints as a whole.
    pub traffic: Arc<Traffic>,
    /// The subsets that routes lead to.
    pub subsets: Vec<Subset>,
    /// Where a VirtualService sends what is meant for this destination; `None` is to the destination itself.
    pub routes: Option<Arc<Routes>>,
    /// Endpoints whose addresses the client finds by a name. Theirs are unspecified until it has.
    pub names: Vec<Name>,
    /// Whether TLS of the application's own is for this destination by its server name, whatever address was dialled.
    pub by_sni: bool,
}

/// An endpoint that is known by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Which of [`Destination::endpoints`], by its index.
    pub endpoint: u32,
    /// The name.
    pub host: Arc<str>,
    /// Whether all addresses of the name are endpoints; otherwise one is.
    pub all: bool,
}

/// Some of a destination's endpoints, as a DestinationRule has them under a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subset {
    /// `name`.
    pub name: Arc<str>,
    /// Which of [`Destination::endpoints`] belong to it, by their indices in ascending order.
    pub endpoints: Vec<u32>,
    /// Which of [`Destination::unready`], likewise.
    pub unready: Vec<u32>,
    /// What a DestinationRule says of TLS to them.
    pub tls: Option<TlsRule>,
    /// What it says of everything else.
    pub traffic: Arc<Traffic>,
}

/// How a connection to an endpoint is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security<'a> {
    /// In the clear.
    Plain,
    /// Under the mesh's mutual TLS, with the names of [`Destination::sni`] and [`Destination::accepts`].
    Mesh,
    /// Under TLS as a rule describes it, to a server of whatever kind.
    Originated(&'a TlsRule, &'a Origination),
    /// Not at all; the text says why.
    Refused(&'a TlsRule, &'a str),
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
    /// Where it is; `None` where that is not known.
    pub locality: Option<Arc<Locality>>,
    /// Its share of requests beside others of the same place; 1 where nothing is said.
    pub weight: u32,
    /// What it has of the labels of `failoverPriority`, in their order; empty where the rule has none.
    pub ranks: Box<[Box<str>]>,
}

impl Endpoint {
    /// An endpoint of which nothing is known but its address: outside the mesh.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            mutual_tls: false,
            identity: None,
            workload: Workload::default(),
            locality: None,
            weight: 1,
            ranks: Box::default(),
        }
    }
}

impl Destination {
    /// Istio's cluster name, `outbound|PORT|SUBSET|HOST`.
    #[must_use]
    pub fn cluster_name(&self) -> String {
        format!("outbound|{}|{}|{}", self.port, self.subset, self.host)
    }

    /// The SNI that a client sends under the mesh's mutual TLS: a rule's, else `outbound_.PORT_.SUBSET_.HOST`. A name may not
    /// end like an IP address, so a pod that is called directly is `ip-10-1-0-2` in it.
    #[must_use]
    pub fn sni(&self) -> String {
        if let Some(TlsRule { tls, .. }) = &self.tls
            && let ClientTls::IstioMutual(MeshNames { sni: Some(sni), .. }) = &**tls
        {
            return sni.to_string();
        }
        let joined = |parts: Vec<String>| format!("ip-{}", parts.join("-"));
        let host: Cow<'_, str> = match self.host.parse() {
            Ok(IpAddr::V4(ip)) => joined(ip.octets().iter().map(u8::to_string).collect()).into(),
            Ok(IpAddr::V6(ip)) => joined(ip.segments().iter().map(|part| format!("{part:x}")).collect()).into(),
            Err(_) => (*self.host).into(),
        };
        format!("outbound_.{}_.{}_.{host}", self.port, self.subset)
    }

    /// How a connection to an endpoint is secured.
    #[must_use]
    pub fn security(&self, endpoint: &Endpoint) -> Security<'_> {
        let Some(rule) = &self.tls else {
            return if endpoint.mutual_tls {
                Security::Mesh
            } else {
                Security::Plain
            };
        };
        match &*rule.tls {
            ClientTls::Disable => Security::Plain,
            ClientTls::IstioMutual(_) => Security::Mesh,
            ClientTls::Simple(origination) | ClientTls::Mutual(origination, _) => {
                Security::Originated(rule, origination)
            }
            ClientTls::Refused(reason) => Security::Refused(rule, reason),
        }
    }

    /// The endpoint at an address, for [`Resolution::OriginalDestination`].
    #[must_use]
    pub fn endpoint_at(&self, address: SocketAddr) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.address == address)
    }

    /// The identities of which a server must have one: a rule's, else the destination's.
    #[must_use]
    pub fn accepted(&self) -> Vec<String> {
        match self.named_by_rule() {
            Some(names) => names.iter().map(ToString::to_string).collect(),
            None => self.identities.iter().map(ToString::to_string).collect(),
        }
    }

    fn named_by_rule(&self) -> Option<&[Arc<str>]> {
        match &*self.tls.as_ref()?.tls {
            ClientTls::IstioMutual(names) if !names.subject_alt_names.is_empty() => Some(&names.subject_alt_names),
            _ => None,
        }
    }

    /// Whether a server that presented this identity is one of the destination's, or one that a rule names instead.
    #[must_use]
    pub fn accepts(&self, identity: &SpiffeId) -> bool {
        if let Some(names) = self.named_by_rule() {
            let identity = identity.to_string();
            return names.iter().any(|name| **name == *identity);
        }
        self.identities.contains(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(tls: Option<ClientTls>) -> Destination {
        Destination {
            host: "reviews.shop.svc.cluster.local".into(),
            namespace: "shop".into(),
            port: 80,
            protocol: Declared::Detect,
            resolution: Resolution::Balanced,
            endpoints: Vec::new(),
            unready: Vec::new(),
            identities: vec!["spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap()],
            tls: tls.map(|tls| TlsRule {
                rule: "shop/reviews".into(),
                tls: Arc::new(tls),
            }),
            ..Destination::default()
        }
    }

    #[test]
    fn a_rule_decides_before_automatic_mutual_tls_does() {
        let endpoint = |mutual_tls| Endpoint {
            address: "10.0.0.1:80".parse().unwrap(),
            mutual_tls,
            identity: None,
            workload: Workload::default(),
            locality: None,
            weight: 1,
            ranks: Box::default(),
        };
        let automatic = destination(None);
        assert_eq!(automatic.security(&endpoint(true)), Security::Mesh);
        assert_eq!(automatic.security(&endpoint(false)), Security::Plain);
        for mutual_tls in [true, false] {
            let security = |tls| {
                let it = destination(Some(tls));
                match it.security(&endpoint(mutual_tls)) {
                    Security::Plain => "plain".to_owned(),
                    Security::Mesh => "mesh".to_owned(),
                    Security::Originated(rule, _) => format!("originated by {}", rule.rule),
                    Security::Refused(rule, why) => format!("refused by {}: {why}", rule.rule),
                }
            };
            assert_eq!(security(ClientTls::Disable), "plain");
            assert_eq!(security(ClientTls::IstioMutual(MeshNames::default())), "mesh");
            assert_eq!(
                security(ClientTls::Simple(Origination::default())),
                "originated by shop/reviews"
            );
            assert_eq!(security(ClientTls::Refused("no".into())), "refused by shop/reviews: no");
        }
    }

    #[test]
    fn istio_mutual_may_name_the_server_otherwise() {
        let own: SpiffeId = "spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap();
        let other: SpiffeId = "spiffe://cluster.local/ns/shop/sa/other".parse().unwrap();
        let plain = destination(Some(ClientTls::IstioMutual(MeshNames::default())));
        assert!(plain.accepts(&own) && !plain.accepts(&other));
        assert_eq!(plain.sni(), "outbound_.80_._.reviews.shop.svc.cluster.local");
        let named = destination(Some(ClientTls::IstioMutual(MeshNames {
            sni: Some("gateway.example".into()),
            subject_alt_names: vec![other.to_string().into()],
        })));
        assert!(!named.accepts(&own) && named.accepts(&other));
        assert_eq!(named.sni(), "gateway.example");
    }

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
                tls: None,
                ..Destination::default()
            };
            assert_eq!(destination.sni(), sni);
        }
    }
}
