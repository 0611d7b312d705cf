//! Which rule governs a client's connections to a host.
//!
//! Istio's order: the client's own namespace, the Service's, the root namespace; in the first of them that has a rule for
//! the host, an exact host before a wildcard, and the longest of several wildcards. Clients of the root namespace see there
//! first only what it keeps to itself, since a mesh's general rules live in it.

use super::merge::{Merged, take};
use super::{Export, Rule};
use crate::hosts::fqdn;
use crate::labels::Labels;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// The rules of the whole mesh. Cheap to look things up in; a change costs as much as its namespace has rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    namespaces: HashMap<Arc<str>, OfNamespace>,
}

#[derive(Debug, Clone, Default)]
struct OfNamespace {
    rules: BTreeMap<Arc<str>, Rule>,
    /// What clients of the namespace itself see.
    own: Hosts,
    /// What others may see too.
    exported: Hosts,
    /// What nobody else sees.
    private: Hosts,
}

/// Merged rules by host.
#[derive(Debug, Clone, Default)]
struct Hosts {
    exact: HashMap<Arc<str>, Vec<Merged>>,
    /// By what follows the `*`.
    wildcard: BTreeMap<Arc<str>, Vec<Merged>>,
}

/// A client and the host that it connects to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The client's namespace.
    pub client: &'a str,
    /// The client's labels, for `workloadSelector`.
    pub labels: &'a Labels,
    /// The host, fully qualified, in lower case.
    pub host: &'a str,
    /// The namespace of the Service behind the host.
    pub service: &'a str,
    /// The mesh's root namespace.
    pub root: &'a str,
}

impl Rules {
    /// Takes a rule, new or changed (`Some`), or its end. Says whether anything is different now.
    pub fn set(&mut self, namespace: &Arc<str>, name: &Arc<str>, rule: Option<Rule>, cluster_domain: &str) -> bool {
        let of = self.namespaces.entry(namespace.clone()).or_default();
        if of.rules.get(name) == rule.as_ref() {
            if of.rules.is_empty() {
                self.namespaces.remove(namespace);
            }
            return false;
        }
        match rule {
            Some(rule) => {
                of.rules.insert(name.clone(), rule);
            }
            None => {
                of.rules.remove(name);
            }
        }
        if of.rules.is_empty() {
            self.namespaces.remove(namespace);
        } else {
            of.index(namespace, cluster_domain);
        }
        true
    }

    /// Resolves every host anew, for another domain of the cluster.
    pub fn set_cluster_domain(&mut self, cluster_domain: &str) {
        for (namespace, of) in &mut self.namespaces {
            of.index(namespace, cluster_domain);
        }
    }

    /// A rule by name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Rule> {
        self.namespaces.get(namespace)?.rules.get(name)
    }

    /// Every rule.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.namespaces.values().flat_map(|of| of.rules.values())
    }

    /// The merged rule that a rule is a part of.
    #[must_use]
    pub fn merged(&self, namespace: &str, name: &str) -> Option<&Merged> {
        let of = self.namespaces.get(namespace)?;
        let hosts = [&of.own, &of.exported, &of.private];
        let mut all = hosts
            .into_iter()
            .flat_map(|hosts| hosts.exact.values().chain(hosts.wildcard.values()).flatten());
        all.find(|merged| merged.parts.iter().any(|part| &*part.name == name))
    }

    /// The rule that governs; `None` leaves everything at its default.
    #[must_use]
    pub fn governing(&self, place: &Place<'_>) -> Option<&Merged> {
        let seen = if place.client == place.root {
            self.of(place.client).map(|of| &of.private)
        } else {
            self.of(place.client).map(|of| &of.own)
        };
        // As soon as a namespace has rules for the host that the client sees, no other is asked.
        if let Some(found) = seen.and_then(|hosts| hosts.most_specific(place.host)) {
            return chosen(found.iter(), place);
        }
        for namespace in [place.service, place.root] {
            let found = self.of(namespace).and_then(|of| of.exported.most_specific(place.host));
            let mut visible = found
                .into_iter()
                .flatten()
                .filter(|merged| merged.export.reaches(place.client, &merged.namespace))
                .peekable();
            if visible.peek().is_some() {
                return chosen(visible, place);
            }
        }
        None
    }

    fn of(&self, namespace: &str) -> Option<&OfNamespace> {
        self.namespaces.get(namespace)
    }
}

/// Of the rules for one host: the first for selected clients that selects this one, else the first for all.
fn chosen<'a>(rules: impl Iterator<Item = &'a Merged>, place: &Place<'_>) -> Option<&'a Merged> {
    let mut general = None;
    for merged in rules {
        match &merged.selector {
            Some(selector) if *merged.namespace == *place.client && selector.matches(place.labels) => {
                return Some(merged);
            }
            Some(_) => {}
            None => general = general.or(Some(merged)),
        }
    }
    general
}

impl OfNamespace {
    fn index(&mut self, namespace: &Arc<str>, cluster_domain: &str) {
        let mut rules: Vec<&Rule> = self.rules.values().collect();
        rules.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        let (mut own, mut exported, mut private) = (Hosts::default(), Hosts::default(), Hosts::default());
        for rule in rules {
            let host: Arc<str> = resolve_host(&rule.host, namespace, cluster_domain).into();
            let export = rule.visibility();
            if export.in_own(namespace) {
                own.take(rule, &host, &export);
            }
            if export.only_own(namespace) {
                private.take(rule, &host, &export);
            } else {
                exported.take(rule, &host, &export);
            }
        }
        (self.own, self.exported, self.private) = (own, exported, private);
    }
}

impl Hosts {
    fn take(&mut self, rule: &Rule, host: &Arc<str>, export: &Export) {
        let held = match host.strip_prefix('*') {
            Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
            None => self.exact.entry(host.clone()).or_default(),
        };
        take(held, rule, host.clone(), export);
    }

    fn most_specific(&self, host: &str) -> Option<&Vec<Merged>> {
        if let Some(exact) = self.exact.get(host) {
            return Some(exact);
        }
        // Every suffix of the host from the longest on: hosts are short, wildcards may be many.
        host.char_indices()
            .map(|(at, _)| &host[at..])
            .chain(std::iter::once(""))
            .find_map(|suffix| self.wildcard.get(suffix))
    }
}

/// The host that a rule of a namespace means: a name without a dot is a Service of that namespace; everything else is taken
/// as it stands.
#[must_use]
pub fn resolve_host(host: &str, namespace: &str, cluster_domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host == "*" || host.contains('.') || host.parse::<IpAddr>().is_ok() {
        host.strip_suffix('.').map(str::to_owned).unwrap_or(host)
    } else {
        fqdn(&host, namespace, cluster_domain)
    }
}
