//! ServiceEntries and WorkloadEntries: the hosts that the mesh is told of beside its Services, how they are found, and which
//! workloads stand behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_core::labels::Labels;
use mesh_core::protocol::Declared;
use mesh_core::service_entry::{Port, ServiceEntry, WorkloadEntry, suffix};

use super::changes::{Changed, Key, Named};

/// All of them, with the maps that find them.
#[derive(Debug, Default)]
pub struct Entries {
    entries: BTreeMap<Named, ServiceEntry>,
    /// By host.
    exact: HashMap<Arc<str>, BTreeSet<Named>>,
    /// By what follows the `*` of a wildcard.
    wildcard: HashMap<Arc<str>, BTreeSet<Named>>,
    /// By address.
    at: HashMap<IpAddr, BTreeSet<Named>>,
    /// Networks of more than one address.
    networks: BTreeMap<Named, Vec<IpNet>>,
    /// Those that have no address, by the ports that they are found by alone.
    by_port: HashMap<u16, BTreeSet<Named>>,
    /// Those that select their endpoints, by namespace.
    selecting: HashMap<Arc<str>, BTreeSet<Named>>,
    workloads: BTreeMap<Named, WorkloadEntry>,
}

/// A host as an entry writes it, and the entry that answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hosted {
    /// The host: a name, or a wildcard.
    pub host: Arc<str>,
    /// The entry.
    pub entry: Named,
}

impl Entries {
    /// Takes a ServiceEntry, new or changed (`Some`), or its end.
    pub fn set(&mut self, name: &Named, entry: Option<ServiceEntry>) -> Changed {
        let mut changed = Changed::default();
        if self.entries.get(name) == entry.as_ref() {
            return changed;
        }
        if let Some(before) = self.entries.remove(name) {
            touch(&before, &mut changed);
            self.forget(name, &before);
            self.touch_namesakes(&before, &mut changed);
        }
        if let Some(entry) = entry {
            touch(&entry, &mut changed);
            self.touch_namesakes(&entry, &mut changed);
            self.index(name, &entry);
            self.entries.insert(name.clone(), entry);
        }
        changed
    }

    /// Takes a WorkloadEntry or its end.
    pub fn set_workload(&mut self, name: &Named, workload: Option<WorkloadEntry>) -> Changed {
        let mut changed = Changed::default();
        if self.workloads.get(name) == workload.as_ref() {
            return changed;
        }
        let before = self.workloads.remove(name);
        for labels in before.iter().chain(workload.as_ref()).map(|workload| &workload.labels) {
            self.touch_selecting(&name.0, labels, &mut changed);
        }
        if let Some(workload) = workload {
            self.workloads.insert(name.clone(), workload);
        }
        changed
    }

    /// Says that a workload of a namespace with these labels changed.
    pub fn touch_selecting(&self, namespace: &str, labels: &Labels, changed: &mut Changed) {
        for (_, entry) in self.selecting(namespace, labels) {
            touch(entry, changed);
        }
    }

    /// Says that what governs the workloads of a namespace changed.
    pub fn touch_namespace(&self, namespace: &str, changed: &mut Changed) {
        let of = self.entries.iter().filter(|(name, _)| *name.0 == *namespace);
        of.for_each(|(_, entry)| touch(entry, changed));
    }

    /// Says that what governs connections to a host, or to all that a wildcard covers, changed.
    pub fn touch_host(&self, host: &str, changed: &mut Changed) {
        let covered = |one: &str| match suffix(host) {
            Some(suffix) => one.ends_with(suffix),
            None => one == host,
        };
        for entry in self.entries.values() {
            if entry.hosts.iter().any(|one| covered(one)) {
                touch(entry, changed);
            }
        }
    }

    /// An entry by name.
    #[must_use]
    pub fn get(&self, name: &Named) -> Option<&ServiceEntry> {
        self.entries.get(name)
    }

    /// The names of all ServiceEntries.
    pub fn names(&self) -> impl Iterator<Item = &Named> {
        self.entries.keys()
    }

    /// The names of all WorkloadEntries.
    pub fn workload_names(&self) -> impl Iterator<Item = &Named> {
        self.workloads.keys()
    }

    /// All ServiceEntries.
    pub fn all(&self) -> impl Iterator<Item = (&Named, &ServiceEntry)> {
        self.entries.iter()
    }

    /// The entries of a namespace that select a workload with these labels.
    pub fn selecting<'a>(
        &'a self,
        namespace: &str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = (&'a Named, &'a ServiceEntry)> {
        let names = self.selecting.get(namespace).into_iter().flatten();
        names.filter_map(move |name| {
            let entry = self.entries.get(name)?;
            let selects = entry.selector.as_ref().is_some_and(|selector| selector.matches(labels));
            selects.then_some((name, entry))
        })
    }

    /// The WorkloadEntries that an entry selects.
    pub fn selected<'a>(&'a self, entry: &'a ServiceEntry) -> impl Iterator<Item = (&'a Named, &'a WorkloadEntry)> {
        let of_namespace = self.workloads.iter().filter(|(name, _)| name.0 == entry.namespace);
        of_namespace.filter(|(_, workload)| {
            let selector = entry.selector.as_ref();
            selector.is_some_and(|selector| selector.matches(&workload.labels))
        })
    }

    /// The most specific host that a name is, or that covers it, with a port that clients of a namespace see.
    #[must_use]
    pub fn host(&self, name: &str, port: u16, client: &str) -> Option<Hosted> {
        let on_port = |names: &BTreeSet<Named>| self.first(names, client, |entry| self.port_of(entry, port).is_some());
        if let Some(entry) = self.exact.get(name).and_then(on_port) {
            return Some(Hosted {
                host: name.into(),
                entry,
            });
        }
        // Every suffix from the longest on: names are short, wildcards may be many. A wildcard covers what is longer.
        let suffixes = name.char_indices().skip(1).map(|(at, _)| &name[at..]);
        suffixes.chain(std::iter::once("")).find_map(|suffix| {
            let entry = on_port(self.wildcard.get(suffix)?)?;
            Some(Hosted {
                host: format!("*{suffix}").into(),
                entry,
            })
        })
    }

    /// The entry that was given an address, exactly, with a port that clients of a namespace see.
    #[must_use]
    pub fn address(&self, address: IpAddr, port: u16, client: &str) -> Option<Hosted> {
        let names = self.at.get(&address)?;
        let entry = self.first(names, client, |entry| self.port_of(entry, port).is_some())?;
        self.first_host(entry)
    }

    /// The entry with the longest network around an address, likewise. Where the protocol is TLS the server name has to
    /// match too, and is asked for by itself.
    #[must_use]
    pub fn network(&self, address: IpAddr, port: u16, client: &str) -> Option<Hosted> {
        let around = self.networks.iter().filter_map(|(name, networks)| {
            let entry = self.entries.get(name).filter(|entry| entry.reaches(client))?;
            self.port_of(entry, port).filter(|port| !port.tls)?;
            let fitting = networks.iter().filter(|network| network.contains(&address));
            let longest = fitting.map(IpNet::prefix_len).max()?;
            Some((std::cmp::Reverse(longest), rank(entry), name))
        });
        let (.., name) = around.min()?;
        self.first_host(name.clone())
    }

    /// The entry without an address that is found by an opaque port alone, likewise.
    #[must_use]
    pub fn by_port(&self, port: u16, client: &str) -> Option<Hosted> {
        let entry = self.first(self.by_port.get(&port)?, client, |_| true)?;
        self.first_host(entry)
    }

    /// A port of an entry, or of another of the same host that adds its ports to it.
    #[must_use]
    pub fn port<'a>(&'a self, hosted: &Hosted, port: u16) -> Option<&'a Port> {
        let entry = self.entries.get(&hosted.entry)?;
        entry.port(port).or_else(|| {
            let others = self.of_host(&hosted.host, &hosted.entry.0);
            others
                .filter(|other| entry.merges(other))
                .find_map(|other| other.port(port))
        })
    }

    /// The entries of a namespace for a host, the oldest first.
    pub fn of_host<'a>(&'a self, host: &str, namespace: &str) -> impl Iterator<Item = &'a ServiceEntry> + use<'a> {
        let names = match suffix(host) {
            Some(suffix) => self.wildcard.get(suffix),
            None => self.exact.get(host),
        };
        let mut found: Vec<&ServiceEntry> = names
            .into_iter()
            .flatten()
            .filter(|name| *name.0 == *namespace)
            .filter_map(|name| self.entries.get(name))
            .collect();
        found.sort_by_key(|entry| entry.precedence());
        found.into_iter()
    }

    /// Which entry answers for a host to clients of a namespace, whatever its ports are.
    #[must_use]
    pub fn answers_for(&self, host: &str, client: &str) -> Option<&Named> {
        let names = match suffix(host) {
            Some(suffix) => self.wildcard.get(suffix)?,
            None => self.exact.get(host)?,
        };
        let first = self.first(names, client, |_| true)?;
        self.entries.get_key_value(&first).map(|(name, _)| name)
    }

    fn port_of<'a>(&'a self, entry: &'a ServiceEntry, port: u16) -> Option<&'a Port> {
        entry.port(port).or_else(|| {
            entry.hosts.iter().find_map(|host| {
                let others = self.of_host(host, &entry.namespace);
                others
                    .filter(|other| entry.merges(other))
                    .find_map(|other| other.port(port))
            })
        })
    }

    /// The first of some entries that clients of a namespace see and that fits.
    fn first(&self, names: &BTreeSet<Named>, client: &str, fits: impl Fn(&ServiceEntry) -> bool) -> Option<Named> {
        let seen = names.iter().filter_map(|name| Some((self.entries.get(name)?, name)));
        let seen = seen.filter(|(entry, _)| entry.reaches(client) && fits(entry));
        let (_, name) = seen.min_by_key(|(entry, _)| rank(entry))?;
        Some(name.clone())
    }

    /// Says that entries of the same hosts, which may have ports and endpoints of this one, changed.
    fn touch_namesakes(&self, entry: &ServiceEntry, changed: &mut Changed) {
        for host in &entry.hosts {
            self.of_host(host, &entry.namespace)
                .for_each(|other| touch(other, changed));
        }
    }

    fn first_host(&self, entry: Named) -> Option<Hosted> {
        let host = self.entries.get(&entry)?.hosts.first()?.clone();
        Some(Hosted { host, entry })
    }

    fn index(&mut self, name: &Named, entry: &ServiceEntry) {
        for host in &entry.hosts {
            let (map, key) = match suffix(host) {
                Some(suffix) => (&mut self.wildcard, suffix.into()),
                None => (&mut self.exact, host.clone()),
            };
            map.entry(key).or_default().insert(name.clone());
        }
        let mut networks = Vec::new();
        for network in &entry.addresses {
            match single(network) {
                Some(address) => {
                    self.at.entry(address).or_default().insert(name.clone());
                }
                None => networks.push(*network),
            }
        }
        if !networks.is_empty() {
            self.networks.insert(name.clone(), networks);
        }
        for port in alone(entry) {
            self.by_port.entry(port).or_default().insert(name.clone());
        }
        if entry.selector.is_some() {
            let of = self.selecting.entry(name.0.clone()).or_default();
            of.insert(name.clone());
        }
    }

    fn forget(&mut self, name: &Named, entry: &ServiceEntry) {
        for host in &entry.hosts {
            match suffix(host) {
                Some(suffix) => remove(&mut self.wildcard, suffix, name),
                None => remove(&mut self.exact, &**host, name),
            }
        }
        for address in entry.addresses.iter().filter_map(single) {
            remove(&mut self.at, &address, name);
        }
        self.networks.remove(name);
        for port in alone(entry) {
            remove(&mut self.by_port, &port, name);
        }
        remove(&mut self.selecting, &*name.0, name);
    }
}

/// What the answer for a name depends on: entries for it, and for every wildcard that covers it. A wildcard for a part of a
/// label counts as one for what follows that label.
#[must_use]
pub fn keys_of(name: &str) -> Vec<Key> {
    let mut keys = vec![Key::Host(name.into())];
    let mut rest = name;
    while let Some((_, after)) = rest.split_once('.') {
        keys.push(Key::Host(format!("*.{after}").into()));
        rest = after;
    }
    keys.push(Key::Host("*".into()));
    keys
}

/// Sorts before every other entry that a client sees: one that is for some namespaces alone, then the oldest.
fn rank(entry: &ServiceEntry) -> (bool, (i64, &str, &str)) {
    (entry.export_to.public, entry.precedence())
}

/// Says what an entry's change concerns.
fn touch(entry: &ServiceEntry, changed: &mut Changed) {
    for host in &entry.hosts {
        changed.keys.insert(Key::Host(host.clone()));
        if let Some(suffix) = suffix(host) {
            // Who asks for a name knows of the wildcards at its dots.
            let covering = suffix
                .split_once('.')
                .map_or("*".to_owned(), |(_, after)| format!("*.{after}"));
            changed.keys.insert(Key::Host(covering.into()));
        }
    }
    for network in &entry.addresses {
        changed.keys.insert(match single(network) {
            Some(address) => Key::Address(address),
            None => Key::AnyAddress,
        });
    }
    if alone(entry).next().is_some() {
        changed.keys.insert(Key::AnyAddress);
    }
}

/// The address of a network of one.
fn single(network: &IpNet) -> Option<IpAddr> {
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// The opaque ports of an entry that has no address: their number alone tells what is meant.
fn alone(entry: &ServiceEntry) -> impl Iterator<Item = u16> {
    let opaque = |port: &&Port| matches!(port.protocol, Declared::Tcp | Declared::Detect) && !port.tls;
    let none = entry.addresses.is_empty();
    entry
        .ports
        .iter()
        .filter(opaque)
        .filter(move |_| none)
        .map(|port| port.number)
}

fn remove<K, Q>(map: &mut HashMap<K, BTreeSet<Named>>, key: &Q, name: &Named)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}
