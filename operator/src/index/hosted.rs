//! From a ServiceEntry to a destination: its endpoints, or the names that the client resolves, with identities and mutual TLS.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_core::client_tls::{ClientTls, Origination, ServerCheck, TlsRule, brings_mutual_tls};
use mesh_core::destination::{Destination, Endpoint, Name, Resolution, Subset};
use mesh_core::destination_rule::{Asked, Merged};
use mesh_core::identity::SpiffeId;
use mesh_core::labels::{Labels, canonical_name, canonical_revision};
use mesh_core::service_entry::{self, Address, Location, Port, ServiceEntry, WorkloadEntry};
use mesh_core::traffic::{Distribution, Locality, LocalitySetting, REGION, SUBZONE, Traffic, ZONE};
use mesh_core::workload::{DEFAULT_CLUSTER, Metadata};

use super::changes::Named;
use super::compile;
use super::entries::Hosted;
use super::places;
use super::shared::MeshFacts;
use super::world::World;

/// The address of an endpoint whose name the client resolves, or that is where the client dialled.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// An endpoint on its way into a destination.
struct Found {
    endpoint: Endpoint,
    name: Option<Arc<str>>,
    labels: Labels,
}

/// Compiles the destination of a host and port under the rules that govern it, without subsets; `None` when there is none any
/// more.
#[must_use]
pub(super) fn destination(
    world: &World,
    mesh: &MeshFacts,
    hosted: &Hosted,
    number: u16,
    rules: Option<&Merged>,
) -> Option<Destination> {
    let entries = world.entries();
    let leading = entries.get(&hosted.entry)?;
    let port = entries.port(hosted, number)?;
    let rule = rules.and_then(|rules| rules.tls_rule(number));
    let asked = asked(mesh, port, number);
    let traffic = rules.map_or_else(|| asked.without_rule(), |rules| rules.traffic(&asked));
    let mut identities: BTreeSet<SpiffeId> = BTreeSet::new();
    let mut names = Vec::new();
    let mut endpoints = Vec::new();
    let resolution = match leading.resolution {
        service_entry::Resolution::None => {
            endpoints.extend(port.target.map(|port| Endpoint::at(SocketAddr::new(UNKNOWN, port))));
            Resolution::AsDialled
        }
        service_entry::Resolution::DynamicDns => {
            let at = port.target.unwrap_or(port.number);
            endpoints.push(Endpoint::at(SocketAddr::new(UNKNOWN, at)));
            Resolution::Dynamic
        }
        _ => {
            for mut found in behind(world, mesh, hosted, leading, number, rule.as_ref()) {
                found.rank(&traffic);
                identities.extend(compile::accepted(mesh, &found.endpoint));
                if let Some(host) = found.name {
                    names.push(Name {
                        endpoint: u32::try_from(endpoints.len()).ok()?,
                        host,
                        all: leading.resolution == service_entry::Resolution::Dns,
                    });
                }
                endpoints.push(found.endpoint);
            }
            Resolution::Balanced
        }
    };
    identities.extend(leading.subject_alt_names.iter().filter_map(|name| name.parse().ok()));
    let single = |network: &ipnet::IpNet| network.prefix_len() == network.max_prefix_len();
    Some(Destination {
        host: hosted.host.clone(),
        namespace: leading.namespace.clone(),
        port: number,
        protocol: port.protocol,
        resolution,
        endpoints,
        identities: identities.into_iter().collect(),
        rule: rules.filter(|rules| rules.policy.is_some()).map(Merged::rule),
        tls: rule.map(|rule| named(rule, &leading.subject_alt_names)),
        traffic: Arc::new(traffic),
        names,
        by_sni: port.tls && !leading.addresses.iter().any(single),
        ..Destination::default()
    })
}

/// What is asked of rules for a port.
fn asked<'a>(mesh: &'a MeshFacts, port: &Port, number: u16) -> Asked<'a> {
    Asked {
        port: number,
        protocol: port.protocol,
        distribution: Distribution::default(),
        defaults: &mesh.traffic,
    }
}

/// A subset of a destination that was compiled under these rules; `None` where they have none of that name. What it needs to
/// know of endpoints beside what they say already is added to them.
#[must_use]
pub(super) fn subset(
    world: &World,
    mesh: &MeshFacts,
    hosted: &Hosted,
    number: u16,
    rules: &Merged,
    name: &str,
    destination: &mut Destination,
) -> Option<Subset> {
    let entries = world.entries();
    let leading = entries.get(&hosted.entry)?;
    let asked = asked(mesh, entries.port(hosted, number)?, number);
    let wanted = rules.subset(name)?;
    destination.rule = Some(rules.rule());
    let tls = rules.subset_tls_rule(number, wanted);
    let mut traffic = rules.subset_traffic(&asked, wanted);
    // Endpoints have the ranks of one list.
    if failover_priority(&traffic) != failover_priority(&destination.traffic)
        && let Some(setting) = &mut traffic.locality
    {
        setting.failover_priority.clear();
    }
    let whole = (0..u32::try_from(destination.endpoints.len()).unwrap_or(u32::MAX)).collect();
    let endpoints = match destination.resolution {
        Resolution::AsDialled | Resolution::Dynamic => whole,
        Resolution::Balanced | Resolution::OriginalDestination => {
            let found = behind(world, mesh, hosted, leading, number, tls.as_ref());
            let mut identities: BTreeSet<SpiffeId> = destination.identities.iter().cloned().collect();
            let mut members = Vec::new();
            for (at, held) in (0..).zip(&mut destination.endpoints) {
                let host = destination
                    .names
                    .iter()
                    .find(|name| name.endpoint == at)
                    .map(|name| &name.host);
                let own = found
                    .iter()
                    .find(|found| found.endpoint.address == held.address && found.name.as_ref() == host);
                let Some(own) = own else { continue };
                // Where a rule decides for all nobody reads what is automatic.
                if tls.is_none() {
                    held.mutual_tls = own.endpoint.mutual_tls;
                }
                if held.identity.is_none() {
                    held.identity.clone_from(&own.endpoint.identity);
                }
                identities.extend(compile::accepted(mesh, &own.endpoint));
                if wanted
                    .labels
                    .iter()
                    .all(|(key, value)| own.label(key) == Some(value.as_str()))
                {
                    members.push(at);
                }
            }
            destination.identities = identities.into_iter().collect();
            members
        }
    };
    Some(Subset {
        name: name.into(),
        endpoints,
        unready: Vec::new(),
        tls: tls.map(|rule| named(rule, &leading.subject_alt_names)),
        traffic: if traffic == *destination.traffic {
            destination.traffic.clone()
        } else {
            Arc::new(traffic)
        },
    })
}

fn failover_priority(traffic: &Traffic) -> &[Arc<str>] {
    traffic
        .locality
        .as_ref()
        .map_or(&[], |setting| &setting.failover_priority)
}

impl Found {
    /// The value of a label, or of one that says where the endpoint is.
    fn label(&self, key: &str) -> Option<&str> {
        let place = self.endpoint.locality.as_deref();
        let part = |part: fn(&Locality) -> &Arc<str>| place.map(|place| &**part(place)).filter(|text| !text.is_empty());
        let topology = match key {
            REGION => part(|place| &place.region),
            ZONE => part(|place| &place.zone),
            SUBZONE => part(|place| &place.subzone),
            _ => None,
        };
        topology.or_else(|| self.labels.get(key).map(String::as_str))
    }

    /// Says what the endpoint has of the labels of `failoverPriority`.
    fn rank(&mut self, traffic: &Traffic) {
        let keys = failover_priority(traffic)
            .iter()
            .map(|entry| LocalitySetting::label(entry).0);
        let ranks = keys.map(|key| self.label(key).unwrap_or_default().into()).collect();
        self.endpoint.ranks = ranks;
    }
}

/// The endpoints of a host's port, of all entries of the namespace that have both, in a stable order.
fn behind<'a>(
    world: &'a World,
    mesh: &'a MeshFacts,
    hosted: &'a Hosted,
    leading: &'a ServiceEntry,
    number: u16,
    rule: Option<&'a TlsRule>,
) -> Vec<Found> {
    let entries = world.entries();
    let mut all = Vec::new();
    for entry in entries.of_host(&hosted.host, &leading.namespace) {
        let Some(port) = entry.port(number) else { continue };
        // Of names resolved in turn there is one.
        if entry.resolution == service_entry::Resolution::DnsRoundRobin && !all.is_empty() {
            continue;
        }
        let from = all.len();
        let of = Of {
            world,
            mesh,
            entry,
            port,
            rule,
        };
        if entry.selector.is_some() {
            all.extend(
                entries
                    .selected(entry)
                    .filter_map(|(name, workload)| of.workload(workload, &name.1)),
            );
            all.extend(of.pods());
        } else if entry.endpoints.is_empty() && entry.resolution.resolves_names() {
            all.push(of.host(hosted.host.clone()));
        } else {
            all.extend(
                entry
                    .endpoints
                    .iter()
                    .filter_map(|workload| of.workload(workload, &entry.name)),
            );
        }
        if let Some(own) = all.get_mut(from..) {
            own.sort_by(|a: &Found, b| (a.endpoint.address, &a.name).cmp(&(b.endpoint.address, &b.name)));
        }
    }
    all
}

/// A port of an entry, and what its endpoints are made of.
struct Of<'a> {
    world: &'a World,
    mesh: &'a MeshFacts,
    entry: &'a ServiceEntry,
    port: &'a Port,
    rule: Option<&'a TlsRule>,
}

impl<'a> Of<'a> {
    /// The host itself, as the one endpoint of an entry without any.
    fn host(&self, host: Arc<str>) -> Found {
        let at = self.port.target.unwrap_or(self.port.number);
        Found {
            endpoint: Endpoint::at(SocketAddr::new(UNKNOWN, at)),
            name: Some(host),
            labels: Labels::new(),
        }
    }

    /// A WorkloadEntry or a listed endpoint; `None` for one that this entry's clients cannot dial.
    fn workload(&self, workload: &'a WorkloadEntry, name: &str) -> Option<Found> {
        let (address, name_of) = match &workload.address {
            Address::Ip(address) => (*address, None),
            Address::Name(host) if self.entry.resolution.resolves_names() => (UNKNOWN, Some(host.clone())),
            Address::Name(_) | Address::Unix(_) | Address::Unset => return None,
        };
        let account = workload.service_account.as_deref();
        let trust_domain = || self.mesh.trust_domain.clone();
        let identity = account.and_then(|account| SpiffeId::new(trust_domain(), &self.entry.namespace, account).ok());
        let at = SocketAddr::new(address, workload.port(self.port));
        let mutual_tls = self.mutual_tls(workload.mutual_tls(), &workload.labels, at.port());
        let named = || self.entry.subject_alt_names.iter().find_map(|name| name.parse().ok());
        let identity = identity.or_else(|| named().filter(|_| mutual_tls));
        // Nobody can say whether its server is the right one, and in the clear it must not be called.
        if mutual_tls && identity.is_none() {
            return None;
        }
        let label = |key: &str| workload.labels.get(key).map(String::as_str).unwrap_or_default().into();
        let metadata = Metadata {
            name: name.into(),
            namespace: (*self.entry.namespace).into(),
            app: label("app"),
            version: label("version"),
            canonical_name: canonical_name(&workload.labels, name).into(),
            canonical_revision: canonical_revision(&workload.labels).into(),
            cluster: DEFAULT_CLUSTER.into(),
        };
        Some(Found {
            endpoint: Endpoint {
                mutual_tls,
                identity,
                workload: metadata.into(),
                locality: workload.place(),
                weight: workload.weight.max(1),
                ..Endpoint::at(at)
            },
            name: name_of,
            labels: workload.labels.clone(),
        })
    }

    /// The pods that the entry selects.
    fn pods(&self) -> impl Iterator<Item = Found> {
        let at = self.port.target.unwrap_or(self.port.number);
        let (world, mesh) = (self.world, self.mesh);
        let automatic = self.automatic();
        let found = world.pods_selected_by(self.entry).filter_map(move |(_, pod)| {
            let address = SocketAddr::new(*pod.addresses.first()?, at);
            let mut endpoint = compile::endpoint(world, mesh, address, self.rule);
            endpoint.mutual_tls &= automatic || self.rule.is_some();
            endpoint.locality = places::locality(world, pod).filter(|place| !place.is_empty());
            Some(Found {
                endpoint,
                name: None,
                labels: places::labels(world, pod),
            })
        });
        found.collect::<Vec<_>>().into_iter()
    }

    /// Whether mutual TLS may be automatic: never to what is outside the mesh.
    fn automatic(&self) -> bool {
        self.mesh.auto_mtls && self.entry.location == Location::Internal
    }

    fn mutual_tls(&self, takes: bool, labels: &Labels, port: u16) -> bool {
        brings_mutual_tls(self.rule, self.automatic(), takes, || {
            let modes = self
                .world
                .effective(&self.mesh.root_namespace, &self.entry.namespace, labels);
            modes.on_port(port)
        })
    }
}

/// A rule with the names of which the server must have one, where it names none itself.
fn named(rule: TlsRule, names: &[Arc<str>]) -> TlsRule {
    let with = |origination: &Origination| {
        let ServerCheck::Verified {
            ca_certificates,
            ca_crl,
            subject_alt_names,
        } = &origination.server
        else {
            return None;
        };
        subject_alt_names.is_empty().then(|| Origination {
            sni: origination.sni.clone(),
            server: ServerCheck::Verified {
                ca_certificates: ca_certificates.clone(),
                ca_crl: ca_crl.clone(),
                subject_alt_names: names.to_vec(),
            },
        })
    };
    let tls = match &*rule.tls {
        _ if names.is_empty() => None,
        ClientTls::Simple(origination) => with(origination).map(ClientTls::Simple),
        ClientTls::Mutual(origination, certificate) => {
            with(origination).map(|origination| ClientTls::Mutual(origination, certificate.clone()))
        }
        ClientTls::Disable | ClientTls::IstioMutual(_) | ClientTls::Refused(_) => None,
    };
    match tls {
        Some(tls) => TlsRule {
            rule: rule.rule,
            tls: tls.into(),
        },
        None => rule,
    }
}

/// The names of Services that are other names of a host (ExternalName), through any number of steps.
pub(super) fn aliases_of<'a>(
    aliases: impl Fn(&str) -> Vec<&'a Named>,
    host: &str,
    fqdn: impl Fn(&Named) -> String,
) -> BTreeSet<Named> {
    let mut found = BTreeSet::new();
    let mut hosts = vec![host.to_owned()];
    while let Some(host) = hosts.pop() {
        for alias in aliases(&host) {
            if found.insert(alias.clone()) {
                hosts.push(fqdn(alias));
            }
        }
    }
    found
}
