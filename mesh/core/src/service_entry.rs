//! ServiceEntry and WorkloadEntry: hosts that the mesh is told of beside its Services, and workloads beside its pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::destination_rule::Export;
use crate::labels::{Labels, Selector};
use crate::protocol::Declared;
use crate::traffic::Locality;

/// The label by which an endpoint says that it takes the mesh's mutual TLS, with the value `istio`.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";

/// The label that stands for a locality where none is given; its separator may be a dot, as a label has no slashes.
const LOCALITY: &str = "istio-locality";

/// A ServiceEntry, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntry {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp`, in seconds since the epoch: the oldest prevails.
    pub created: i64,
    /// `metadata.labels`, which tell entries of one host apart.
    pub labels: Labels,
    /// `spec.hosts`, in lower case and without a final dot: names, or wildcards that begin with `*`.
    pub hosts: Vec<Arc<str>>,
    /// `spec.addresses`: addresses are networks of one.
    pub addresses: Vec<IpNet>,
    /// `spec.ports`.
    pub ports: Vec<Port>,
    /// `spec.location`.
    pub location: Location,
    /// `spec.resolution`.
    pub resolution: Resolution,
    /// `spec.endpoints`.
    pub endpoints: Vec<WorkloadEntry>,
    /// `spec.workloadSelector`: pods and WorkloadEntries of the namespace are the endpoints.
    pub selector: Option<Selector>,
    /// `spec.exportTo`; nobody for `~`.
    pub export_to: Export,
    /// `spec.subjectAltNames`: identities that a server may have beside those of its endpoints.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Whether an address may be made up for each host, as none is given (`networking.istio.io/enable-autoallocate-ip`).
    pub auto_allocate: bool,
}

/// One entry of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `number`.
    pub number: u16,
    /// `name`.
    pub name: Arc<str>,
    /// `protocol`.
    pub protocol: Declared,
    /// Whether the protocol is TLS of the application's own, whose server name tells hosts apart.
    pub tls: bool,
    /// `targetPort`.
    pub target: Option<u16>,
}

/// `spec.location`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Location {
    /// `MESH_EXTERNAL`.
    #[default]
    External,
    /// `MESH_INTERNAL`.
    Internal,
}

/// `spec.resolution`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resolution {
    /// `NONE`: where the client dialled.
    #[default]
    None,
    /// `STATIC`: the endpoints.
    Static,
    /// `DNS`: all addresses of the endpoints' names, or of the host.
    Dns,
    /// `DNS_ROUND_ROBIN`: the first address, anew with each answer.
    DnsRoundRobin,
    /// `DYNAMIC_DNS`: the addresses of the host that a request names.
    DynamicDns,
}

impl Resolution {
    /// As the resource writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Static => "STATIC",
            Self::Dns => "DNS",
            Self::DnsRoundRobin => "DNS_ROUND_ROBIN",
            Self::DynamicDns => "DYNAMIC_DNS",
        }
    }

    /// Whether endpoints may be names.
    #[must_use]
    pub fn resolves_names(self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin)
    }
}

/// A workload: a WorkloadEntry, or one entry of a ServiceEntry's `endpoints`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkloadEntry {
    /// `address`.
    pub address: Address,
    /// `ports`, by the names of the ServiceEntry's.
    pub ports: BTreeMap<Arc<str>, u16>,
    /// `labels`; of a WorkloadEntry with those of its metadata, which prevail.
    pub labels: Labels,
    /// `network`.
    pub network: Option<Arc<str>>,
    /// `locality`.
    pub locality: Option<Arc<Locality>>,
    /// `weight`; 0 where nothing is said, which counts as 1.
    pub weight: u32,
    /// `serviceAccount`.
    pub service_account: Option<Arc<str>>,
}

/// Where a workload is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Address {
    /// Nowhere that is said: its network's gateway would know.
    #[default]
    Unset,
    /// An address.
    Ip(IpAddr),
    /// A name, for a client to resolve.
    Name(Arc<str>),
    /// A Unix socket's path, or `@` and an abstract one's name.
    Unix(Arc<str>),
}

impl ServiceEntry {
    /// `namespace/name`, as messages and records write it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Sorts before every entry that it prevails over: the oldest, then by name.
    #[must_use]
    pub fn precedence(&self) -> (i64, &str, &str) {
        (self.created, &self.name, &self.namespace)
    }

    /// Whether clients of a namespace see it.
    #[must_use]
    pub fn reaches(&self, client: &str) -> bool {
        self.export_to.reaches(client, &self.namespace)
    }

    /// One of its ports.
    #[must_use]
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Whether another entry of the same host adds its ports to this one's: as in Istio, only where both say the same of
    /// everything else.
    #[must_use]
    pub fn merges(&self, other: &Self) -> bool {
        self.namespace == other.namespace
            && self.resolution == other.resolution
            && self.labels == other.labels
            && self.selector == other.selector
            && self.export_to == other.export_to
    }

    /// Whether an address is one of those that it was given.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|network| network.contains(&address))
    }
}

impl WorkloadEntry {
    /// The port of an endpoint for a port of a ServiceEntry: its own of that name, the entry's `targetPort`, the same.
    #[must_use]
    pub fn port(&self, port: &Port) -> u16 {
        let own = self.ports.get(&port.name).copied();
        own.or(port.target).unwrap_or(port.number)
    }

    /// Whether clients use mutual TLS to it: as its label says, else where it has a service account.
    #[must_use]
    pub fn mutual_tls(&self) -> bool {
        match self.labels.get(TLS_MODE) {
            Some(mode) => mode == "istio",
            None => self.service_account.is_some(),
        }
    }

    /// Where it is: its `locality`, else its label's.
    #[must_use]
    pub fn place(&self) -> Option<Arc<Locality>> {
        let label = || {
            let text = self.labels.get(LOCALITY)?;
            let text = if text.contains('/') {
                text.clone()
            } else {
                text.replace('.', "/")
            };
            Some(Arc::new(Locality::parse(&text)))
        };
        self.locality.clone().or_else(label).filter(|place| !place.is_empty())
    }
}

/// What follows the `*` of a wildcard.
#[must_use]
pub fn suffix(host: &str) -> Option<&str> {
    host.strip_prefix('*')
}

/// Whether a name is a host, or one that a wildcard covers. As in Istio `*.example.com` does not cover `example.com`.
#[must_use]
pub fn covers(host: &str, name: &str) -> bool {
    match suffix(host) {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => host == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_ends_so_and_is_longer() {
        for (host, name, expected) in [
            ("api.example.com", "api.example.com", true),
            ("api.example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*-api.example.com", "one-api.example.com", true),
            ("*-api.example.com", "one.example.com", false),
        ] {
            assert_eq!(covers(host, name), expected, "{host} {name}");
        }
    }

    #[test]
    fn an_endpoints_port_is_its_own_then_the_target_then_the_same() {
        let port = |target| Port {
            number: 80,
            name: "http".into(),
            protocol: Declared::Http,
            tls: false,
            target,
        };
        let own = WorkloadEntry {
            ports: [("http".into(), 8080)].into(),
            ..WorkloadEntry::default()
        };
        let none = WorkloadEntry::default();
        assert_eq!(own.port(&port(Some(9090))), 8080);
        assert_eq!(none.port(&port(Some(9090))), 9090);
        assert_eq!(none.port(&port(None)), 80);
    }

    #[test]
    fn mutual_tls_is_for_who_says_so_or_has_an_account() {
        for (label, account, expected) in [
            (None, None, false),
            (None, Some("a"), true),
            (Some("istio"), None, true),
            (Some("disabled"), Some("a"), false),
        ] {
            let entry = WorkloadEntry {
                labels: label
                    .map(|mode: &str| (TLS_MODE.to_owned(), mode.to_owned()))
                    .into_iter()
                    .collect(),
                service_account: account.map(Into::into),
                ..WorkloadEntry::default()
            };
            assert_eq!(entry.mutual_tls(), expected, "{label:?} {account:?}");
        }
    }

    #[test]
    fn a_label_may_stand_for_the_locality() {
        let of = |label: &str| WorkloadEntry {
            labels: [(LOCALITY.to_owned(), label.to_owned())].into(),
            ..WorkloadEntry::default()
        };
        let place = |label| of(label).place().map(|place| place.to_string());
        assert_eq!(place("r/z/s").as_deref(), Some("r/z/s"));
        assert_eq!(place("r.z.s").as_deref(), Some("r/z/s"));
        assert_eq!(WorkloadEntry::default().place(), None);
    }
}
