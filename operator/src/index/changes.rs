//! What an event touched, named by keys that subscriptions also have, so that a change reaches only what depends on it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

/// A namespace and a name.
pub type Named = (Arc<str>, Arc<str>);

/// Something that a discovery resource may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A Service with its endpoints, whether it exists or not.
    Service(Named),
    /// An address: a Service's or a pod's.
    Address(IpAddr),
    /// A host that is no Service's, or not yet: what VirtualServices and ServiceEntries say of it. A ServiceEntry's may be a
    /// wildcard.
    Host(Arc<str>),
    /// What VirtualServices with wildcards say of hosts that are no Services'.
    Wildcards,
    /// What counts for addresses that nothing has by themselves: networks, and ports that are known alone.
    AnyAddress,
    /// A pod, as far as its own proxy is concerned.
    Pod(Named),
    /// The AuthorizationPolicies and RequestAuthentications that a pod's own proxy enforces, and the candidates that it tries.
    Enforced(Named),
}

/// A set of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Everything may have changed: the mesh configuration, the trust bundle or a policy of the whole mesh.
    pub all: bool,
    /// What changed by itself.
    pub keys: HashSet<Key>,
}

impl Changed {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.keys.is_empty()
    }

    /// Adds another set to this one.
    pub fn merge(&mut self, other: Self) {
        self.all |= other.all;
        if self.all {
            self.keys.clear();
        } else {
            self.keys.extend(other.keys);
        }
    }

    /// Whether a key is among the changes.
    #[must_use]
    pub fn touches(&self, key: &Key) -> bool {
        self.all || self.keys.contains(key)
    }
}
