//! Which VirtualServices speak for a host that a client calls.
//!
//! Istio's order. Of requests one VirtualService speaks: of those that the client sees, one that names the host itself before
//! one with a wildcard, the longest of several wildcards, and the oldest of several for the same name; but those that a
//! client's own namespace keeps to itself come first, and those exported to it by name before those for everybody. One that
//! leaves the client no `http` route is passed over. Of connections all of them speak, one after the other.

use super::delegate;
use super::virtual_service::{ClientMatch, VirtualService};
use super::{ConnectionRule, HttpRule, Reference, TcpMatch, TlsMatch};
use crate::destination_rule::{Export, resolve_host};
use crate::labels::Labels;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The name under which `gateways` means the sidecars of the mesh.
pub const MESH_GATEWAY: &str = "mesh";

type Name = (Arc<str>, Arc<str>);

/// The VirtualServices of the whole mesh. Cheap to look things up in.
#[derive(Debug, Clone, Default)]
pub struct VirtualServices {
    held: BTreeMap<Name, Held>,
    /// By host, in the order of their precedence.
    exact: HashMap<Arc<str>, Vec<Arc<Effective>>>,
    /// By what follows the `*`, likewise.
    wildcard: HashMap<Arc<str>, Vec<Arc<Effective>>>,
    next: u64,
}

#[derive(Debug, Clone)]
struct Held {
    written: VirtualService,
    /// `None` for a delegate, and for one that is for gateways alone.
    effective: Option<Arc<Effective>>,
}

/// A VirtualService with its delegates' routes in their places and all names fully qualified.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// Another one after each change of it or of a delegate.
    pub id: u64,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp`, in seconds since the epoch.
    pub created: i64,
    /// `spec.exportTo`.
    pub export_to: Export,
    /// `spec.hosts`: fully qualified, in lower case.
    pub hosts: Vec<Arc<str>>,
    /// `namespace/name`, and those of the delegates that take part.
    pub sources: Vec<Arc<str>>,
    /// `spec.http`; none of them has a delegate.
    pub http: Vec<HttpRule>,
    /// Where each of [`Effective::http`] is written, for people.
    pub fields: Vec<Arc<str>>,
    /// `spec.tls`.
    pub tls: Vec<ConnectionRule<TlsMatch>>,
    /// `spec.tcp`.
    pub tcp: Vec<ConnectionRule<TcpMatch>>,
    /// A sentence about each route that is left out, for people.
    pub problems: Vec<String>,
    /// Whether any match asks who the client is.
    conditional: bool,
}

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's labels.
    pub labels: &'a Labels,
}

/// The VirtualServices that speak for a host and port to one client.
#[derive(Debug, Clone)]
pub struct Speaking<'a> {
    pub(super) client: Client<'a>,
    pub(super) port: u16,
    /// Of requests.
    pub(super) requests: Option<&'a Effective>,
    /// Of connections.
    pub(super) connections: Vec<&'a Effective>,
}

impl VirtualServices {
    /// Takes a VirtualService, new or changed (`Some`), or its end. The hosts and wildcards, fully qualified, of which
    /// something else holds now.
    pub fn set(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        service: Option<VirtualService>,
        cluster_domain: &str,
    ) -> Vec<Arc<str>> {
        let key = (namespace.clone(), name.clone());
        let before = self.held.remove(&key);
        if before.as_ref().map(|held| &held.written) == service.as_ref() {
            self.held.extend(before.map(|held| (key, held)));
            return Vec::new();
        }
        let mut touched = Vec::new();
        if let Some(effective) = before.and_then(|held| held.effective) {
            self.drop_from_index(&effective, &mut touched);
        }
        if let Some(written) = service {
            let effective = None;
            self.held.insert(key.clone(), Held { written, effective });
            self.follow(&key, cluster_domain, &mut touched);
        }
        let delegating = |held: &Held| {
            let mut delegates = held.written.http.iter().filter_map(|rule| rule.delegate.as_ref());
            delegates.any(|delegate| *delegate == key)
        };
        let delegating = self.held.iter().filter(|(_, held)| delegating(held));
        let delegating: Vec<Name> = delegating.map(|(name, _)| name.clone()).collect();
        for root in delegating {
            self.follow(&root, cluster_domain, &mut touched);
        }
        touched.sort();
        touched.dedup();
        touched
    }

    /// Resolves every name anew, for another domain of the cluster.
    pub fn set_cluster_domain(&mut self, cluster_domain: &str) {
        let names: Vec<Name> = self.held.keys().cloned().collect();
        for name in names {
            self.follow(&name, cluster_domain, &mut Vec::new());
        }
    }

    /// Makes the effective form of a VirtualService that is held.
    fn follow(&mut self, name: &Name, cluster_domain: &str, touched: &mut Vec<Arc<str>>) {
        let Some(Held { written, effective }) = self.held.get_mut(name) else {
            return;
        };
        let before = effective.take();
        let written = written.clone();
        if let Some(before) = before {
            self.drop_from_index(&before, touched);
        }
        let of_mesh = written.gateways.is_empty() || written.gateways.iter().any(|gateway| **gateway == *MESH_GATEWAY);
        if written.hosts.is_empty() || !of_mesh {
            return;
        }
        let id = self.next;
        self.next += 1;
        let find = |name: &Name| self.held.get(name).map(|held| &held.written);
        let effective = Arc::new(Effective::new(&written, id, cluster_domain, find));
        for host in &effective.hosts {
            let (map, host): (_, Arc<str>) = match host.strip_prefix('*') {
                Some(suffix) => (&mut self.wildcard, suffix.into()),
                None => (&mut self.exact, host.clone()),
            };
            let held = map.entry(host).or_default();
            if !held.iter().any(|other| other.id == id) {
                let at = held.partition_point(|other| other.precedence() < effective.precedence());
                held.insert(at, effective.clone());
            }
        }
        touched.extend(effective.hosts.iter().cloned());
        if let Some(held) = self.held.get_mut(name) {
            held.effective = Some(effective);
        }
    }

    fn drop_from_index(&mut self, effective: &Effective, touched: &mut Vec<Arc<str>>) {
        for host in &effective.hosts {
            let (map, key) = match host.strip_prefix('*') {
                Some(suffix) => (&mut self.wildcard, suffix),
                None => (&mut self.exact, &**host),
            };
            if let Some(held) = map.get_mut(key) {
                held.retain(|other| other.id != effective.id);
                if held.is_empty() {
                    map.remove(key);
                }
            }
        }
        touched.extend(effective.hosts.iter().cloned());
    }

    /// A VirtualService by name, as it was written.
    #[must_use]
    pub fn get(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<&VirtualService> {
        self.held
            .get(&(namespace.clone(), name.clone()))
            .map(|held| &held.written)
    }

    /// One by name, as it is in force; `None` for a delegate, and for one that is for gateways alone.
    #[must_use]
    pub fn effective(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<&Arc<Effective>> {
        self.held.get(&(namespace.clone(), name.clone()))?.effective.as_ref()
    }

    /// All of them, as they were written.
    pub fn all(&self) -> impl Iterator<Item = &VirtualService> {
        self.held.values().map(|held| &held.written)
    }

    /// Those that name a host, itself or with a wildcard, whoever sees them: exact ones first, then the longest wildcards.
    pub fn naming<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Arc<Effective>> {
        let exact = self.exact.get(host).into_iter();
        exact.chain(self.wildcards(host)).flatten()
    }

    /// Whether any of them has a wildcard.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        !self.wildcard.is_empty()
    }

    /// Those with wildcards that match a host, the longest wildcard first.
    fn wildcards<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a Vec<Arc<Effective>>> {
        // Every suffix of the host from the longest on: hosts are short, wildcards may be many.
        let starts = host.char_indices().map(|(at, _)| at).chain([host.len()]);
        let starts = (!self.wildcard.is_empty()).then_some(starts).into_iter().flatten();
        starts.filter_map(|at| self.wildcard.get(&host[at..]))
    }

    /// Which of them speak for a host, fully qualified and in lower case, that a Service has. `shown` says which of them the
    /// client is shown at all.
    #[must_use]
    pub fn speaking<'a>(
        &'a self,
        client: Client<'a>,
        host: &str,
        port: u16,
        shown: impl Fn(&Effective) -> bool,
    ) -> Speaking<'a> {
        let seen = |held: &'a Vec<Arc<Effective>>| seen(held, &client, &shown);
        let exact = self.exact.get(host).map(seen).unwrap_or_default();
        let speaks = |one: &&Effective| one.speaks_of_requests(&client, port);
        let requests = if exact.is_empty() {
            let most_specific = self.wildcards(host).map(seen).find(|found| !found.is_empty());
            most_specific.and_then(|found| found.first().copied()).filter(speaks)
        } else {
            exact.iter().copied().find(speaks)
        };
        let mut connections: Vec<&Effective> = exact;
        connections.extend(self.wildcards(host).flat_map(seen));
        connections.retain(|one| !one.tls.is_empty() || !one.tcp.is_empty());
        in_order(&mut connections, &client);
        connections.dedup_by_key(|one| one.id);
        Speaking {
            client,
            port,
            requests,
            connections,
        }
    }

    /// Which of them speaks of requests for a host that no Service has. As in Istio that is on port 80, and on those that a
    /// Service has which the same VirtualService names: `on_port` says whether a host, or some host that a wildcard matches,
    /// is a Service's with that port. A wildcard that matches such a Service is for Services alone.
    #[must_use]
    pub fn speaking_outside<'a>(
        &'a self,
        client: Client<'a>,
        host: &str,
        port: u16,
        shown: impl Fn(&Effective) -> bool,
        on_port: impl Fn(&str) -> bool,
    ) -> Option<Speaking<'a>> {
        let seen = |held: &'a Vec<Arc<Effective>>| seen(held, &client, &shown);
        let speaks = |one: &Effective| {
            (port == 80 || one.hosts.iter().any(|host| on_port(host))) && one.speaks_of_requests(&client, port)
        };
        let exact = self.exact.get(host).map(seen).unwrap_or_default();
        let requests = exact.into_iter().find(|one| speaks(one)).or_else(|| {
            let mut wildcards = self.wildcards(host).flat_map(seen);
            wildcards.find(|one| {
                let mut hosts = one.hosts.iter().filter(|written| matches(written, host));
                speaks(one) && !hosts.any(|written| on_port(written))
            })
        })?;
        Some(Speaking {
            client,
            port,
            requests: Some(requests),
            connections: Vec::new(),
        })
    }
}

/// Those that a client sees, in the order of their precedence for it.
fn seen<'a>(
    held: &'a [Arc<Effective>],
    client: &Client<'_>,
    shown: &impl Fn(&Effective) -> bool,
) -> Vec<&'a Effective> {
    let all = held.iter().map(|one| &**one);
    let mut seen: Vec<&Effective> = all.filter(|one| one.rank(client).is_some() && shown(one)).collect();
    in_order(&mut seen, client);
    seen
}

fn in_order(seen: &mut [&Effective], client: &Client<'_>) {
    seen.sort_by(|a, b| (a.rank(client), a.precedence()).cmp(&(b.rank(client), b.precedence())));
}

/// Whether a host is what was written, or ends like a wildcard.
fn matches(written: &str, host: &str) -> bool {
    match written.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => written == host,
    }
}

impl Effective {
    fn new<'a>(
        written: &'a VirtualService,
        id: u64,
        cluster_domain: &str,
        find: impl Fn(&Name) -> Option<&'a VirtualService>,
    ) -> Self {
        let namespace = &written.namespace;
        let mut hosts: Vec<Arc<str>> = Vec::with_capacity(written.hosts.len());
        for host in &written.hosts {
            let host: Arc<str> = resolve_host(host, namespace, cluster_domain).into();
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let delegate::Followed {
            http,
            fields,
            sources,
            problems,
        } = delegate::follow(written, cluster_domain, find);
        let resolved = |(reference, weight): &(Reference, u32)| {
            let reference = resolved(reference, namespace, cluster_domain);
            (reference, *weight)
        };
        let mut effective = Self {
            id,
            namespace: namespace.clone(),
            name: written.name.clone(),
            created: written.created,
            export_to: written.export_to.clone(),
            hosts,
            sources,
            http,
            fields,
            tls: written.tls.clone(),
            tcp: written.tcp.clone(),
            problems,
            conditional: false,
        };
        for rule in &mut effective.tls {
            rule.to = rule.to.iter().map(resolved).collect();
        }
        for rule in &mut effective.tcp {
            rule.to = rule.to.iter().map(resolved).collect();
        }
        let conditional = effective.conditions().any(|(_, condition)| !condition.is_empty());
        effective.conditional = conditional;
        effective
    }

    /// Sorts before every one that it prevails over, if both are seen alike.
    fn precedence(&self) -> (i64, &str, &str) {
        (self.created, &self.name, &self.namespace)
    }

    /// How close it is to a client: its own namespace's alone, exported to it by name, or for everybody. `None`: the client
    /// does not see it.
    fn rank(&self, client: &Client<'_>) -> Option<u8> {
        let export = &self.export_to;
        if export.public {
            Some(2)
        } else if !export.reaches(client.namespace, &self.namespace) {
            None
        } else if *self.namespace == *client.namespace {
            Some(0)
        } else {
            Some(1)
        }
    }

    /// Whether it is visible to clients of a namespace.
    #[must_use]
    pub fn visible_to(&self, namespace: &str) -> bool {
        self.export_to.reaches(namespace, &self.namespace)
    }

    /// Whether any of its `http` routes is for a client's requests to a port.
    fn speaks_of_requests(&self, client: &Client<'_>, port: u16) -> bool {
        self.http.iter().any(|rule| {
            let mut matches = rule.matches.iter();
            rule.matches.is_empty() || matches.any(|one| one.client.holds_of_requests(client, port))
        })
    }

    /// What matches ask of the client, in their order, and whether that is of requests.
    fn conditions(&self) -> impl Iterator<Item = (bool, &ClientMatch)> {
        let http = self.http.iter().flat_map(|rule| &rule.matches);
        let tls = self.tls.iter().flat_map(|rule| &rule.matches);
        let tcp = self.tcp.iter().flat_map(|rule| &rule.matches);
        let connections = tls.map(|one| &one.client).chain(tcp.map(|one| &one.client));
        http.map(|one| (true, &one.client))
            .chain(connections.map(|client| (false, client)))
    }

    /// Every destination that its routes name, with the field that does and its weight; a mirror has none.
    pub fn references(&self) -> impl Iterator<Item = (String, &Reference, u32)> {
        let http = self.fields.iter().zip(&self.http).flat_map(|(field, rule)| {
            let to = match &rule.route.action {
                super::Action::Forward { to, .. } => &to[..],
                _ => &[],
            };
            let to = to.iter().enumerate().map(move |(number, to)| {
                let weight = if rule.forwards_to_one() { 1 } else { to.weight };
                (format!("{field}.route[{number}]"), &to.target, weight)
            });
            let mirrors = rule.route.mirrors.iter().enumerate();
            to.chain(mirrors.map(move |(number, mirror)| (format!("{field}.mirrors[{number}]"), &mirror.target, 0)))
        });
        let tls = self.tls.iter().map(|rule| &rule.to).enumerate();
        let tcp = self.tcp.iter().map(|rule| &rule.to).enumerate();
        let tls = tls.map(|(at, to)| (format!("tls[{at}]"), to));
        let connections = tls.chain(tcp.map(|(at, to)| (format!("tcp[{at}]"), to)));
        http.chain(connections.flat_map(|(field, to)| {
            let only = to.len() == 1;
            let to = to.iter().enumerate();
            to.map(move |(number, (reference, weight))| {
                let weight = if only { 1 } else { *weight };
                (format!("{field}.route[{number}]"), reference, weight)
            })
        }))
    }
}

impl HttpRule {
    fn forwards_to_one(&self) -> bool {
        matches!(&self.route.action, super::Action::Forward { to, .. } if to.len() == 1)
    }
}

impl Speaking<'_> {
    /// Whether none of them says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_none() && self.connections.is_empty()
    }

    /// The namespace of the one that speaks of requests, or else of the first.
    #[must_use]
    pub fn namespace(&self) -> Option<&Arc<str>> {
        let first = self.requests.or_else(|| self.connections.first().copied());
        first.map(|one| &one.namespace)
    }

    /// What counted: which of them speak, as they are now, and which of their conditions hold for the client. Clients with the
    /// same numbers get the same routes to the same destinations.
    #[must_use]
    pub fn id(&self) -> Box<[u64]> {
        let mut id = Vec::new();
        let mut of = |one: &Effective, requests: bool| {
            // Ids begin at zero, and one may speak of both.
            id.push(one.id << 1 | u64::from(requests));
            if !one.conditional {
                return;
            }
            let conditions = one.conditions().filter(|(of_requests, _)| *of_requests == requests);
            let mut bits = conditions.map(|(_, condition)| condition.holds(requests, &self.client, self.port));
            while let Some(first) = bits.next() {
                let rest = bits.by_ref().take(63).enumerate();
                id.push(rest.fold(u64::from(first), |word, (at, bit)| word | u64::from(bit) << (at + 1)));
            }
        };
        if let Some(one) = self.requests {
            of(one, true);
        }
        for one in &self.connections {
            of(one, false);
        }
        id.into()
    }
}

impl ClientMatch {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn holds(&self, requests: bool, client: &Client<'_>, port: u16) -> bool {
        if requests {
            self.holds_of_requests(client, port)
        } else {
            self.holds_of_connections(client, port)
        }
    }

    /// Whether it holds for requests of a sidecar's client: `gateways`, where there are any, decide in the place of
    /// `sourceLabels` and `sourceNamespace`.
    pub(super) fn holds_of_requests(&self, client: &Client<'_>, port: u16) -> bool {
        let of_client = if self.gateways.is_empty() {
            self.is_source(client)
        } else {
            self.of_mesh()
        };
        of_client && self.is_port(port)
    }

    /// Whether it holds for connections of a sidecar's client: all of it must.
    pub(super) fn holds_of_connections(&self, client: &Client<'_>, port: u16) -> bool {
        (self.gateways.is_empty() || self.of_mesh()) && self.is_source(client) && self.is_port(port)
    }

    fn of_mesh(&self) -> bool {
        self.gateways.iter().any(|gateway| **gateway == *MESH_GATEWAY)
    }

    fn is_source(&self, client: &Client<'_>) -> bool {
        let named = self.source_namespace.as_deref();
        let mut labels = self.source_labels.iter();
        named.is_none_or(|named| named == client.namespace)
            && labels.all(|(key, value)| client.labels.get(key) == Some(value))
    }

    fn is_port(&self, port: u16) -> bool {
        self.port.is_none_or(|one| one == port)
    }
}

/// A reference with its host as a VirtualService of a namespace means it.
pub(super) fn resolved(reference: &Reference, namespace: &str, cluster_domain: &str) -> Reference {
    Reference {
        host: resolve_host(&reference.host, namespace, cluster_domain).into(),
        ..reference.clone()
    }
}

#[cfg(test)]
mod tests;
