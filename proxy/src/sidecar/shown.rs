//! What is in force, in the words of Istio's `proxy-config`: clusters, listeners and policies, from what was received.
//!
//! A sidecar here has two listening ports and a table of destinations; what it does with a connection is shown as the clusters
//! and listeners that would do the same in Envoy, so that people find what they look for under the names that they know.

mod policies;

use crate::cluster;
use crate::discovery::{Found, destination_bytes};
use crate::identity::configs::{Tls, offered};
use crate::sidecar::{INBOUND_PORT, OUTBOUND_PORT};
use mesh_core::client_tls::{ClientTls, Origination, ServerCheck, TlsRule};
use mesh_core::destination::{Destination, Resolution, Security};
use mesh_core::peer_authentication::{Effective, PortMode};
use mesh_core::protocol::Declared;
use mesh_wire::admin::{Cluster, CommonTlsContext, Endpoint, Listener, Listeners, PAGE_ENTRIES, TlsContext};
use mesh_wire::convert::Workload;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) use policies::{candidate_sets, policies};

/// Clusters that are there whatever was received: where calls to unknown places go, and those to undeclared ports.
const FIXED: [(&str, &str); 3] = [
    ("BlackHoleCluster", "STATIC"),
    ("InboundPassthroughCluster", "ORIGINAL_DST"),
    ("PassthroughCluster", "ORIGINAL_DST"),
];

/// The hosts that one route lists.
const HOSTS: usize = 100;

/// A cluster and the destination behind it, if there is one.
pub(super) struct Destined {
    pub(super) name: String,
    kind: &'static str,
    found: Option<Found>,
    resources: Vec<Arc<str>>,
}

/// All clusters in the order of their names, those of subsets and of what routes lead to among them. Several names that the
/// application used may lead to one.
pub(super) fn clusters(workload: &Workload, found: Vec<Found>) -> Vec<Destined> {
    let bare = |name: String, kind| Destined {
        name,
        kind,
        found: None,
        resources: Vec::new(),
    };
    let mut all: BTreeMap<String, Destined> = FIXED
        .into_iter()
        .map(|(name, kind)| (name.to_owned(), kind))
        .chain(
            workload
                .ports
                .keys()
                .map(|port| (format!("inbound|{port}||"), "ORIGINAL_DST")),
        )
        .map(|(name, kind)| (name.clone(), bare(name, kind)))
        .collect();
    for found in found.into_iter().flat_map(led_to) {
        let name = found.cluster.cluster_name();
        let kind = match found.cluster.resolution {
            Resolution::Balanced if found.cluster.names.is_empty() => "EDS",
            Resolution::Balanced => match found.cluster.names.first() {
                Some(name) if !name.all => "LOGICAL_DNS",
                _ => "STRICT_DNS",
            },
            Resolution::OriginalDestination | Resolution::AsDialled => "ORIGINAL_DST",
            Resolution::Dynamic => "DYNAMIC_FORWARD_PROXY",
        };
        let entry = all.entry(name.clone()).or_insert_with(|| bare(name, kind));
        if !entry.resources.contains(&found.resource) {
            entry.resources.push(found.resource.clone());
        }
        match &mut entry.found {
            Some(held) => held.unused_seconds = held.unused_seconds.min(found.unused_seconds),
            None => entry.found = Some(found),
        }
    }
    all.into_values().collect()
}

/// A destination, those that its routes lead to, and the subsets of all of them.
fn led_to(found: Found) -> Vec<Found> {
    let own = std::iter::once(&found.cluster).chain(found.cluster.others());
    own.flat_map(|cluster| std::iter::once(cluster).chain(cluster.subsets()))
        .map(|cluster| Found {
            cluster: cluster.clone(),
            ..found.clone()
        })
        .collect()
}

impl Destined {
    /// About how large it is on a page.
    pub(super) fn bytes(&self) -> usize {
        self.found.as_ref().map_or(0, |found| destination_bytes(&found.cluster))
    }

    /// As it is shown, `tls` being what handshakes use now.
    pub(super) fn shown(self, tls: Option<&Tls>) -> Cluster {
        let Self {
            name,
            kind,
            found,
            resources,
        } = self;
        let bare = Cluster {
            name,
            kind: kind.to_owned(),
            ..Cluster::default()
        };
        let Some(found) = found else { return bare };
        let destination = &*found.cluster;
        Cluster {
            namespace: destination.namespace.to_string(),
            protocol: destination.protocol.as_str().to_owned(),
            version: found.version,
            resources: resources.iter().map(ToString::to_string).collect(),
            unused_seconds: Some(found.unused_seconds.into()),
            lb_policy: match destination.resolution {
                Resolution::Balanced => destination.traffic.balancer.lb_policy().to_owned(),
                Resolution::OriginalDestination | Resolution::AsDialled | Resolution::Dynamic => {
                    "CLUSTER_PROVIDED".to_owned()
                }
            },
            destination_rule: destination
                .tls
                .as_ref()
                .map(|it| &it.rule)
                .or(destination.rule.as_ref())
                .map(|it| rule(it)),
            tls_context: tls_context(destination, tls),
            endpoints: endpoints(destination),
            ..bare
        }
    }
}

fn tls_context(destination: &Destination, tls: Option<&Tls>) -> Option<TlsContext> {
    if let Some(TlsRule { tls, .. }) = &destination.tls
        && let ClientTls::Simple(origination) | ClientTls::Mutual(origination, _) = &**tls
    {
        return Some(originated(destination, origination));
    }
    destination.endpoints.iter().find(|it| under_mesh(destination, it))?;
    Some(TlsContext {
        common_tls_context: CommonTlsContext {
            alpn_protocols: offered(destination.protocol).map(str::to_owned).collect(),
            // TLS 1.3 between sidecars; 1.2 where an Envoy on the other side asks for it.
            tls_minimum_protocol_version: "TLSv1_2".to_owned(),
            tls_certificate_serial: tls.map(serial).unwrap_or_default(),
            match_subject_alt_names: destination.accepted(),
        },
        sni: destination.sni(),
    })
}

/// Whether an endpoint is called under the mesh's mutual TLS, a rule considered.
fn under_mesh(destination: &Destination, endpoint: &mesh_core::destination::Endpoint) -> bool {
    destination.security(endpoint) == Security::Mesh
}

/// `NAME.NAMESPACE` as Istio writes it, of `NAMESPACE/NAME`.
fn rule(name: &str) -> String {
    name.split_once('/')
        .map_or_else(|| name.to_owned(), |(namespace, name)| format!("{name}.{namespace}"))
}

/// TLS as a DestinationRule describes it.
fn originated(destination: &Destination, origination: &Origination) -> TlsContext {
    let names = match &origination.server {
        ServerCheck::Verified { subject_alt_names, .. } => &subject_alt_names[..],
        ServerCheck::Skipped => &[],
    };
    let protocol = match destination.protocol {
        Declared::Http | Declared::Detect => Some("http/1.1".to_owned()),
        Declared::Http2 => Some("h2".to_owned()),
        Declared::Tcp | Declared::Udp => None,
    };
    TlsContext {
        common_tls_context: CommonTlsContext {
            alpn_protocols: protocol.into_iter().collect(),
            tls_minimum_protocol_version: "TLSv1_2".to_owned(),
            tls_certificate_serial: String::new(),
            match_subject_alt_names: names.iter().map(ToString::to_string).collect(),
        },
        // Without a name of the rule's, each request's own host is sent.
        sni: origination.sni.as_deref().unwrap_or_default().to_owned(),
    }
}

/// The serial number of the leaf in use, as `/certs` writes it.
fn serial(tls: &Tls) -> String {
    x509_parser::parse_x509_certificate(tls.material.leaf())
        .map(|(_, parsed)| format!("{:x}", parsed.serial))
        .unwrap_or_default()
}

fn endpoints(cluster: &cluster::Cluster) -> Vec<Endpoint> {
    let shown = |(at, endpoint): (usize, &mesh_core::destination::Endpoint)| Endpoint {
        address: endpoint.address.to_string(),
        // Those that are not ready are not sent.
        status: "HEALTHY".to_owned(),
        ejected: cluster.is_ejected(at),
        mutual_tls: under_mesh(cluster, endpoint),
        identity: endpoint.identity.as_ref().map(ToString::to_string),
        workload: endpoint.workload.canonical_name.to_string(),
    };
    cluster.endpoints.iter().enumerate().map(shown).collect()
}

/// What is taken, and where it goes; at most [`PAGE_ENTRIES`] rows of each kind.
pub(super) fn listeners(workload: &Workload, policy: Option<&Effective>, found: &[Found]) -> Listeners {
    let mut all = Vec::new();
    let mut add = |address: &str, port: u16, matches: &str, destination: String, hosts: Vec<String>| {
        all.push(Listener {
            port,
            address: address.to_owned(),
            matches: matches.to_owned(),
            destination,
            hosts,
        });
    };
    let any = "0.0.0.0";
    let unknown = if workload.allow_any {
        "PassthroughCluster"
    } else {
        "BlackHoleCluster"
    };
    let mut routes: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for found in found {
        if let Some((host, port)) = found
            .resource
            .strip_prefix("host/")
            .and_then(|name| name.rsplit_once(':'))
        {
            routes.entry(port.parse().unwrap_or_default()).or_default().insert(host);
        } else if let Some(address) = found.resource.strip_prefix("addr/").and_then(|it| it.parse().ok()) {
            let address: SocketAddr = address;
            addresses.insert(address, found.cluster.cluster_name());
        }
    }
    for (port, hosts) in routes {
        let hosts = hosts.into_iter().take(HOSTS).map(str::to_owned).collect();
        let matches = "Trans: raw_buffer; App: http/1.1,h2c";
        add(any, port, matches, format!("Route: {port}"), hosts);
    }
    for (address, cluster) in addresses {
        let destination = format!("Cluster: {cluster}");
        add(
            &address.ip().to_string(),
            address.port(),
            "ALL",
            destination,
            Vec::new(),
        );
    }
    add(any, OUTBOUND_PORT, "ALL", unknown.to_owned(), Vec::new());

    // Nothing is taken before a policy was received.
    if let Some(policy) = policy {
        let ports: BTreeSet<u16> = workload.ports.keys().chain(policy.ports.keys()).copied().collect();
        for port in ports {
            let cluster = format!("Cluster: inbound|{port}||");
            for transport in transports(policy.on_port(port)) {
                let matches = format!("{transport}; Addr: *:{port}");
                add(any, INBOUND_PORT, &matches, cluster.clone(), Vec::new());
            }
        }
        for transport in transports(policy.mode) {
            let matches = format!("{transport}; Addr: 0.0.0.0/0");
            add(
                any,
                INBOUND_PORT,
                &matches,
                "InboundPassthroughCluster".to_owned(),
                Vec::new(),
            );
        }
    }
    let dialled_itself = format!("Addr: *:{INBOUND_PORT}");
    add(
        any,
        INBOUND_PORT,
        &dialled_itself,
        "BlackHoleCluster".to_owned(),
        Vec::new(),
    );
    for (port, route) in [(15021, "/healthz/ready*"), (15090, "/stats/prometheus*")] {
        add(any, port, "ALL", format!("Inline Route: {route}"), Vec::new());
    }
    all.sort_by_key(|listener| listener.port);
    let total = all.len();
    all.truncate(PAGE_ENTRIES * 4);
    Listeners { listeners: all, total }
}

/// How a connection may come under a mode, in Istio's words.
fn transports(mode: PortMode) -> &'static [&'static str] {
    const MESH: &str = "Trans: tls; App: istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2";
    match mode {
        PortMode::Strict => &["Trans: tls"],
        PortMode::Permissive => &[MESH, "Trans: raw_buffer"],
        PortMode::Disable => &["Trans: raw_buffer"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Clusters, Place};
    use mesh_core::destination::{self, Subset};
    use mesh_core::routing::Routes;
    use mesh_core::traffic::{Balancer, Traffic};

    fn found(resource: &str, resolution: Resolution) -> Found {
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let destination = Destination {
            host: "web.shop.svc.cluster.local".into(),
            namespace: "shop".into(),
            port: 80,
            protocol: Declared::Http,
            resolution,
            endpoints: vec![destination::Endpoint {
                address: "10.0.0.1:8080".parse().unwrap(),
                mutual_tls: true,
                identity: Some(identity),
                workload: "web".into(),
                locality: None,
                weight: 1,
                ranks: Box::default(),
            }],
            unready: Vec::new(),
            identities: vec!["spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()],
            tls: None,
            ..Destination::default()
        };
        Found {
            resource: resource.into(),
            cluster: Clusters::default().cluster(Arc::new(destination), &Place::default()),
            version: "7".to_owned(),
            unused_seconds: 5,
        }
    }

    fn workload() -> Workload {
        Workload {
            ports: [(8080, Declared::Http), (9000, Declared::Tcp)].into(),
            allow_any: true,
            ..Workload::default()
        }
    }

    #[test]
    fn names_that_lead_to_one_cluster_are_one_row() {
        let resources = ["addr/10.96.0.1:80", "host/web:80"];
        let all = clusters(&workload(), resources.map(|it| found(it, Resolution::Balanced)).into());
        let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "BlackHoleCluster",
                "InboundPassthroughCluster",
                "PassthroughCluster",
                "inbound|8080||",
                "inbound|9000||",
                "outbound|80||web.shop.svc.cluster.local"
            ]
        );
        let shown = all.into_iter().next_back().unwrap().shown(None);
        assert_eq!(
            (shown.kind.as_str(), shown.resources),
            ("EDS", resources.map(str::to_owned).to_vec())
        );
        let context = shown.tls_context.unwrap();
        assert_eq!(context.sni, "outbound_.80_._.web.shop.svc.cluster.local");
        assert_eq!(
            context.common_tls_context.match_subject_alt_names,
            ["spiffe://cluster.local/ns/shop/sa/web"]
        );
        assert_eq!(shown.endpoints[0].address, "10.0.0.1:8080");
    }

    #[test]
    fn subsets_and_what_routes_lead_to_are_clusters() {
        let mut found = found("host/web:80", Resolution::Balanced);
        let subset = |name: &str, endpoints: &[u32], balancer: Balancer| Subset {
            name: name.into(),
            endpoints: endpoints.into(),
            traffic: Arc::new(Traffic {
                balancer,
                ..Traffic::default()
            }),
            ..Subset::default()
        };
        let plain = Destination {
            subsets: vec![
                subset("v1", &[0], Balancer::RoundRobin),
                subset("v2", &[], Balancer::Random),
            ],
            ..Destination::clone(&found.cluster)
        };
        let other = Destination {
            host: "other.shop.svc.cluster.local".into(),
            ..plain.clone()
        };
        let routes = Routes {
            destinations: vec![Arc::new(other)],
            ..Routes::default()
        };
        let routed = Destination {
            routes: Some(Arc::new(routes)),
            ..plain
        };
        found.cluster = Clusters::default().cluster(Arc::new(routed), &Place::default());
        let all = clusters(&Workload::default(), vec![found]);
        let outbound = all.into_iter().filter(|it| it.name.starts_with("outbound"));
        let rows: Vec<String> = outbound
            .map(|it| it.shown(None))
            .map(|it| format!("{} {} {}", it.name, it.lb_policy, it.endpoints.len()))
            .collect();
        assert_eq!(
            rows,
            [
                "outbound|80|v1|other.shop.svc.cluster.local ROUND_ROBIN 1",
                "outbound|80|v1|web.shop.svc.cluster.local ROUND_ROBIN 1",
                "outbound|80|v2|other.shop.svc.cluster.local RANDOM 0",
                "outbound|80|v2|web.shop.svc.cluster.local RANDOM 0",
                "outbound|80||other.shop.svc.cluster.local LEAST_REQUEST 1",
                "outbound|80||web.shop.svc.cluster.local LEAST_REQUEST 1",
            ]
        );
    }

    #[test]
    fn a_destination_rule_is_named_and_decides() {
        let shown = |tls: ClientTls| {
            let mut found = found("host/web:80", Resolution::Balanced);
            let mut destination = Destination::clone(&found.cluster);
            destination.tls = Some(TlsRule {
                rule: "shop/web".into(),
                tls: Arc::new(tls),
            });
            found.cluster = Clusters::default().cluster(Arc::new(destination), &Place::default());
            let all = clusters(&Workload::default(), vec![found]);
            all.into_iter().next_back().unwrap().shown(None)
        };
        for (tls, mutual, sni) in [
            (ClientTls::Disable, false, None),
            (ClientTls::Refused("no such file".into()), false, None),
            (
                ClientTls::IstioMutual(mesh_core::client_tls::MeshNames::default()),
                true,
                Some("outbound_.80_._.web.shop.svc.cluster.local"),
            ),
            (
                ClientTls::Simple(Origination {
                    sni: Some("example.org".into()),
                    ..Origination::default()
                }),
                false,
                Some("example.org"),
            ),
        ] {
            let mode = tls.mode();
            let cluster = shown(tls);
            assert_eq!(cluster.destination_rule.as_deref(), Some("web.shop"), "{mode}");
            assert_eq!(cluster.endpoints[0].mutual_tls, mutual, "{mode}");
            assert_eq!(cluster.tls_context.as_ref().map(|it| it.sni.as_str()), sni, "{mode}");
        }
    }

    #[test]
    fn listeners_follow_what_was_received() {
        let rows = |listeners: Listeners| -> Vec<String> {
            let row = |it: Listener| format!("{} {} {} -> {}", it.address, it.port, it.matches, it.destination);
            listeners.listeners.into_iter().map(row).collect()
        };
        let policy = Effective {
            mode: PortMode::Strict,
            ports: [(9000, PortMode::Disable)].into(),
            decided_by: vec!["shop/default".into()],
        };
        let found = [
            found("addr/10.96.0.1:80", Resolution::Balanced),
            found("host/web:80", Resolution::Balanced),
        ];
        assert_eq!(
            rows(listeners(&workload(), Some(&policy), &found)),
            [
                "0.0.0.0 80 Trans: raw_buffer; App: http/1.1,h2c -> Route: 80",
                "10.96.0.1 80 ALL -> Cluster: outbound|80||web.shop.svc.cluster.local",
                "0.0.0.0 15001 ALL -> PassthroughCluster",
                "0.0.0.0 15006 Trans: tls; Addr: *:8080 -> Cluster: inbound|8080||",
                "0.0.0.0 15006 Trans: raw_buffer; Addr: *:9000 -> Cluster: inbound|9000||",
                "0.0.0.0 15006 Trans: tls; Addr: 0.0.0.0/0 -> InboundPassthroughCluster",
                "0.0.0.0 15006 Addr: *:15006 -> BlackHoleCluster",
                "0.0.0.0 15021 ALL -> Inline Route: /healthz/ready*",
                "0.0.0.0 15090 ALL -> Inline Route: /stats/prometheus*",
            ]
        );
        let nothing = Workload::default();
        let before = rows(listeners(&nothing, None, &[]));
        assert_eq!(before[0], "0.0.0.0 15001 ALL -> BlackHoleCluster");
        assert!(!before.iter().any(|row| row.contains("InboundPassthrough")));
    }
}
