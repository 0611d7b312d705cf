//! What a sidecar's administration pages (127.0.0.1:15000) and an operator's debug pages (127.0.0.1:15013) say, as those who
//! write them and the command line that reads them both know it: JSON, times in seconds since the epoch.
//!
//! Replicas and proxies of several versions are asked at once: a reader passes over what it does not know, and what an older
//! writer does not say has its default. Names are Istio's and Envoy's where they have one.
//!
//! A list is given in pages, ordered by name: `next` names the last entry of a page that is not the last one, and
//! `?after=NAME` asks for what follows it.

mod denials;
mod policies;
mod reports;

use std::collections::BTreeMap;

pub use denials::{Denial, Denials, DeniedRequest, NearestRule, TriedCall};
pub use policies::{AuthorizationPolicy, CandidateSet, JwtRule, Policies, Policy, RequestAuthentication};
pub use reports::{Recorded, ReportedRow, Reportz};
use serde::{Deserialize, Serialize};

/// The most entries of a page, and what `?limit=` may ask for.
pub const PAGE_ENTRIES: usize = 500;

/// The bytes of a page, about, after which it ends and another begins.
pub const PAGE_BYTES: usize = 1 << 20;

/// The clusters of a sidecar: `/clusters`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clusters {
    /// In the order of their names.
    pub clusters: Vec<Cluster>,
    /// How many there are on all pages.
    pub total: usize,
    /// The last name of this page, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Where a sidecar sends connections or requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// `outbound|PORT|SUBSET|HOST`, `inbound|PORT||`, or one of Istio's fixed names such as `PassthroughCluster`.
    pub name: String,
    /// Envoy's `EDS`, `ORIGINAL_DST` or `STATIC`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The Service's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// What the port was declared to speak.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The version of the discovery resource that is in force.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The discovery resources that lead here: what the application called it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Seconds since the application last used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused_seconds: Option<u64>,
    /// Envoy's `LEAST_REQUEST`, `ROUND_ROBIN`, `RANDOM`, `RING_HASH`, `MAGLEV` or `CLUSTER_PROVIDED`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lb_policy: String,
    /// `NAME.NAMESPACE` of the DestinationRule in force: the one that says how TLS is used, else the one that governs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_rule: Option<String>,
    /// TLS to its endpoints, where there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_context: Option<TlsContext>,
    /// Where connections go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// TLS to a cluster's endpoints, in Envoy's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsContext {
    /// What Envoy keeps apart for clients and servers alike.
    pub common_tls_context: CommonTlsContext,
    /// The server name that is sent.
    pub sni: String,
}

/// Envoy's `CommonTlsContext`, as far as there is something to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommonTlsContext {
    /// What ALPN offers.
    pub alpn_protocols: Vec<String>,
    /// The oldest version that is spoken: `TLSv1_2` or `TLSv1_3`.
    pub tls_minimum_protocol_version: String,
    /// The serial number of the certificate that is presented; empty where none is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tls_certificate_serial: String,
    /// The names one of which the server must prove; empty where any of the trust domain will do.
    pub match_subject_alt_names: Vec<String>,
}

/// One endpoint of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// ADDRESS:PORT.
    pub address: String,
    /// Envoy's `HEALTHY`, `UNHEALTHY` or `DRAINING`.
    pub status: String,
    /// Whether it is left out for its failures.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ejected: bool,
    /// Whether it is spoken to under mutual TLS.
    pub mutual_tls: bool,
    /// The SPIFFE ID that it must prove.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The canonical name of the workload.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
}

/// What a sidecar takes connections for: `/listeners`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listeners {
    /// In the order of port and address.
    pub listeners: Vec<Listener>,
    /// How many there are; more than are listed where there are too many.
    pub total: usize,
}

/// One row of what is taken, and where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// The address that is dialled, `0.0.0.0` for any.
    pub address: String,
    /// What else decides, in Istio's words, e.g. `Trans: tls; App: istio; Addr: *:8080`.
    #[serde(rename = "match")]
    pub matches: String,
    /// `Cluster: NAME`, `Route: NAME`, or what else becomes of it.
    pub destination: String,
    /// The hosts that are known on a route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// How a sidecar stands with the control plane: `/discovery`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoveryState {
    /// Whether a stream to an operator is open.
    pub connected: bool,
    /// Since when it is open, or has not been.
    pub since: Option<u64>,
    /// When an operator last said something.
    pub last_update: Option<u64>,
    /// How long ago an operator last stood behind what is known, in seconds; 0 while a stream is open.
    pub age_seconds: Option<u64>,
    /// Whether all is there that a sidecar needs in order to serve.
    pub ready: bool,
    /// The versions in force of what there is one of, by resource type; empty where nothing was received.
    pub versions: BTreeMap<String, String>,
    /// How many host names are subscribed to.
    pub hosts: usize,
    /// How many addresses are.
    pub addresses: usize,
}

/// The certificates that a sidecar presents and trusts: `/certs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificates {
    /// Leaf, intermediates, roots.
    pub certificates: Vec<Certificate>,
    /// The trust domain that is the mesh's own; empty before the first certificate.
    pub trust_domain: String,
    /// Those that count as its own.
    pub trust_domain_aliases: Vec<String>,
}

/// A certificate, without its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// `leaf`, `intermediate` or `root`.
    pub kind: String,
    /// The SPIFFE ID of a leaf, the subject of the others.
    pub identity: String,
    /// Hexadecimal, lower case.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Where it was read.
    pub source: String,
    /// 0 once it has ended.
    pub seconds_until_expiration: u64,
}

/// What a sidecar is: `/server_info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// Envoy's `LIVE`, `INITIALIZING` or `DRAINING`.
    pub state: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The log level in force.
    pub log_level: String,
    /// Whether its kernel carries TLS, and whether it is let.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_tls: Option<KernelTls>,
}

/// TLS by the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelTls {
    /// `auto` or `off`, as it was set.
    pub setting: String,
    /// Whether the kernel has it.
    pub available: bool,
    /// Why not, where it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether connections are handed to it.
    pub in_use: bool,
    /// What it has, if it has any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// What became of the connections that were to be handed to it: `kernel`, or why not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub connections: BTreeMap<String, u64>,
    /// How many that it carried were broken off, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub broken_off: BTreeMap<String, u64>,
}

/// What one operator replica knows of its proxies: `/debug/syncz`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Syncz {
    /// The replica's pod.
    pub replica: String,
    /// Its version.
    pub version: String,
    /// Whether it holds the lease.
    pub leader: bool,
    /// In the order of their names.
    pub proxies: Vec<ProxyStatus>,
    /// How many streams are open on all pages.
    pub total: usize,
    /// The last name of this page, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The last responses that proxies refused and streams that were not served, oldest first.
    pub rejections: Vec<Rejection>,
}

/// A stream of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyStatus {
    /// `POD.NAMESPACE`.
    pub name: String,
    /// The SPIFFE ID that its certificate proved.
    pub identity: String,
    /// The proxy's version.
    pub version: String,
    /// ADDRESS:PORT from which it came.
    pub address: String,
    /// Since when the stream is open.
    pub connected_since: u64,
    /// By resource type: `TrustBundle`, `Workload`, `InboundPolicy`, `AuthorizationPolicies`, `RequestAuthentications`,
    /// `Destination`.
    pub types: BTreeMap<String, TypeStatus>,
}

/// What a proxy was sent of one resource type, and what it made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TypeStatus {
    /// Names that the proxy subscribed to.
    pub subscribed: usize,
    /// Whether it came with versions of its own, from an earlier stream.
    pub held: bool,
    /// Responses sent; the number of the last one is its nonce.
    pub sent: u64,
    /// The last one that the proxy has put in force.
    pub acknowledged: u64,
    /// When the last response was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<u64>,
    /// When one was last acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<u64>,
    /// The version of a resource of which there is one: the last that was sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The last one that was refused, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// A response that a proxy refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// Its number.
    pub response: u64,
    /// The proxy's words.
    pub reason: String,
}

/// Something that was refused, on either side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rejection {
    /// When.
    pub at: u64,
    /// `POD.NAMESPACE`, or the identity of a peer that named none.
    pub proxy: String,
    /// A resource type, or `stream`.
    pub kind: String,
    /// Why.
    pub reason: String,
}

/// Where a proxy stands with one resource type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sync {
    /// Nothing was sent: it asked for nothing, or there is nothing yet.
    NotSent,
    /// What was sent last is in force.
    Synced,
    /// What was sent last is not acknowledged yet.
    Stale,
    /// What was sent last was refused; what was in force before still is.
    Rejected,
}

impl Sync {
    /// Istio's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "NOT SENT",
            Self::Synced => "SYNCED",
            Self::Stale => "STALE",
            Self::Rejected => "REJECTED",
        }
    }
}

impl TypeStatus {
    /// Where the proxy stands.
    #[must_use]
    pub fn sync(&self) -> Sync {
        match &self.refused {
            Some(refused) if refused.response == self.sent => Sync::Rejected,
            _ if self.sent > self.acknowledged => Sync::Stale,
            _ if self.sent > 0 || (self.held && self.subscribed > 0) => Sync::Synced,
            _ => Sync::NotSent,
        }
    }
}

/// Cuts a list that is ordered by name into the page that a request asks for: what comes after `after`, at most `limit`
/// entries, and no more than about [`PAGE_BYTES`] as `size` estimates them. The second value is for `next`.
pub fn page<T>(
    all: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &str,
    size: impl Fn(&T) -> usize,
    after: Option<&str>,
    limit: usize,
) -> (Vec<T>, Option<String>) {
    let mut entries: Vec<T> = Vec::new();
    let mut bytes = 0;
    for entry in all {
        if after.is_some_and(|after| name(&entry) <= after) {
            continue;
        }
        if !entries.is_empty() && (entries.len() >= limit.clamp(1, PAGE_ENTRIES) || bytes >= PAGE_BYTES) {
            let last = entries.last().map(|last| name(last).to_owned());
            return (entries, last);
        }
        bytes += size(&entry);
        entries.push(entry);
    }
    (entries, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_stands_where_its_last_verdict_says() {
        let refused = |response| {
            Some(Refused {
                response,
                reason: "bad".into(),
            })
        };
        for (case, status, expected) in [
            ("nothing yet", TypeStatus::default(), Sync::NotSent),
            (
                "nothing to send to one that holds it",
                TypeStatus {
                    subscribed: 1,
                    held: true,
                    ..TypeStatus::default()
                },
                Sync::Synced,
            ),
            (
                "asked, not answered",
                TypeStatus {
                    subscribed: 1,
                    ..TypeStatus::default()
                },
                Sync::NotSent,
            ),
            (
                "in force",
                TypeStatus {
                    sent: 2,
                    acknowledged: 2,
                    refused: refused(1),
                    ..TypeStatus::default()
                },
                Sync::Synced,
            ),
            (
                "on its way",
                TypeStatus {
                    sent: 2,
                    acknowledged: 1,
                    ..TypeStatus::default()
                },
                Sync::Stale,
            ),
            (
                "refused",
                TypeStatus {
                    sent: 2,
                    acknowledged: 1,
                    refused: refused(2),
                    ..TypeStatus::default()
                },
                Sync::Rejected,
            ),
        ] {
            assert_eq!(status.sync(), expected, "{case}");
        }
    }

    #[test]
    fn pages_are_bounded_and_follow_each_other() {
        let names: Vec<String> = (0..1200).map(|at| format!("{at:04}")).collect();
        let mut read = Vec::new();
        let mut after: Option<String> = None;
        let mut pages = 0;
        loop {
            let (entries, next) = page(&names, |name| name, |_| 1, after.as_deref(), usize::MAX);
            assert!(entries.len() <= PAGE_ENTRIES);
            pages += 1;
            read.extend(entries.into_iter().cloned());
            match next {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        assert_eq!((pages, &read), (3, &names));
        // However large an entry is, a page holds one.
        let (entries, next) = page(&names, |name| name, |_| PAGE_BYTES, None, 10);
        assert_eq!((entries.len(), next.as_deref()), (1, Some("0000")));
        let (entries, next) = page(&names, |name| name, |_| 1, Some("1198"), 10);
        assert_eq!((entries.len(), next), (1, None));
    }

    #[test]
    fn readers_and_writers_of_other_versions_understand_each_other() {
        let older: ProxyStatus =
            serde_json::from_str(r#"{"name": "a.b", "types": {"Workload": {"sent": 1}}}"#).unwrap();
        assert_eq!(older.types["Workload"].sync(), Sync::Stale);
        let newer: Cluster = serde_json::from_str(r#"{"name": "outbound|80||a", "type": "EDS", "new": [1]}"#).unwrap();
        assert_eq!(newer.kind, "EDS");
    }
}
