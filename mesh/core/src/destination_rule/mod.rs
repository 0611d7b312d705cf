//! DestinationRule: how clients connect to a host, and which rule says so.
//!
//! A [`Rule`] is a resource, parsed. [`Rules`] holds those of the whole mesh and finds the one that governs a client's
//! connections to a host ([`lookup`]); rules of one namespace that name the same host count as one ([`merge`]), of which
//! [`resolve`] says what holds for a port and a subset.

mod lookup;
mod merge;
mod policy;
mod resolve;

pub use lookup::{Place, Rules, resolve_host};
pub use merge::{Merged, Part};
pub use policy::{ConnectionPool, LoadBalancer, LocalityRule, PortPolicy, Settings, TrafficPolicy};
pub use resolve::Asked;

use crate::labels::{Labels, Selector};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A DestinationRule, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp`, in seconds since the epoch: the oldest prevails.
    pub created: i64,
    /// `spec.host` as written: a name, a short name, or a wildcard.
    pub host: String,
    /// `spec.exportTo`.
    pub export_to: Export,
    /// `spec.workloadSelector`: the clients that the rule is for, in its own namespace.
    pub selector: Option<Selector>,
    /// `spec.trafficPolicy`.
    pub policy: Option<TrafficPolicy>,
    /// `spec.subsets`.
    pub subsets: Vec<Subset>,
}

impl Rule {
    /// `namespace/name`, as messages and records write it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Sorts before every rule that it prevails over: those for selected clients, then the oldest, then by name.
    fn precedence(&self) -> (bool, i64, &str) {
        (self.selector.is_none(), self.created, &self.name)
    }

    /// Where it counts. A rule for selected clients never leaves its namespace.
    fn visibility(&self) -> Export {
        match self.selector {
            Some(_) => Export::private(),
            None => self.export_to.clone(),
        }
    }
}

/// `exportTo`: the namespaces whose clients a resource is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    /// `*`, or nothing was said: every namespace.
    pub public: bool,
    /// `.`: the rule's own namespace.
    pub own: bool,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
}

impl Export {
    /// To every namespace.
    #[must_use]
    pub fn everywhere() -> Self {
        Self {
            public: true,
            ..Self::default()
        }
    }

    fn private() -> Self {
        Self {
            own: true,
            ..Self::default()
        }
    }

    /// Whether clients of the rule's own namespace see it.
    fn in_own(&self, own: &str) -> bool {
        self.public || self.own || self.namespaces.contains(own)
    }

    /// Whether nobody else does.
    fn only_own(&self, own: &str) -> bool {
        !self.public && self.namespaces.iter().all(|name| name == own)
    }

    /// Whether clients of a namespace see it; `own` is the resource's.
    #[must_use]
    pub fn reaches(&self, client: &str, own: &str) -> bool {
        self.public || self.namespaces.contains(client) || (self.own && client == own)
    }
}

/// A subset: endpoints by their labels, which routes refer to by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Subset {
    /// The name of the rule that has it.
    pub rule: Arc<str>,
    /// `name`.
    pub name: String,
    /// `labels`: those of the pods that belong to it.
    pub labels: Labels,
    /// `trafficPolicy`, which prevails over the rule's.
    pub policy: Option<TrafficPolicy>,
}

#[cfg(test)]
mod tests;
