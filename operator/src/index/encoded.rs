//! Destinations in their encoded form, shared by the clients for whom the same counted: the same VirtualServices and
//! conditions of theirs, and the same DestinationRules of each destination in the resource.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mesh_wire::delta::Encoded;

use super::changes::Key;
use super::resolve::Target;

/// The most destinations whose encoded forms are kept; beyond it all are encoded anew when they are next asked for.
const MOST_ENCODED: usize = 50_000;

/// The most ports of one Service, pod or host.
const MOST_PORTS: usize = 256;

/// The most variants of one destination.
const MOST_VARIANTS: usize = 64;

/// The answer to a query for a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The destination; `None` when there is none.
    pub encoded: Option<Encoded>,
    /// What the answer depends on beside what the query names.
    pub dependencies: Arc<[Key]>,
}

/// Encoded destinations.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    held: HashMap<Target, Cached>,
    by_key: HashMap<Key, HashSet<Target>>,
}

/// What different clients get of one destination; there are few.
#[derive(Debug, Default)]
struct Cached {
    variants: Vec<Variant>,
    /// What all of them depend on.
    keys: HashSet<Key>,
}

/// What some clients get.
#[derive(Debug)]
pub(super) struct Variant {
    /// Which VirtualServices speak, and how.
    pub(super) speaking: Box<[u64]>,
    /// The destinations in it, with the DestinationRules under which each was compiled.
    pub(super) under: Vec<(Target, Option<String>)>,
    /// The answer.
    pub(super) found: Found,
}

impl Destinations {
    /// The answer for a client for whom these VirtualServices and DestinationRules count.
    pub(super) fn get(
        &self,
        target: &Target,
        speaking: &[u64],
        governing: impl Fn(&Target) -> Option<String>,
    ) -> Option<&Found> {
        let of = |variant: &&Variant| {
            let mut under = variant.under.iter();
            *variant.speaking == *speaking && under.all(|(target, rules)| governing(target) == *rules)
        };
        let found = self.held.get(target)?.variants.iter().find(of)?;
        Some(&found.found)
    }

    pub(super) fn insert(&mut self, target: Target, variant: Variant) {
        if self.held.len() >= MOST_ENCODED {
            *self = Self::default();
        }
        // A pod's ports are as many as a client dials.
        if self.by_key.get(&target.key()).map_or(0, HashSet::len) >= MOST_PORTS {
            self.forget(&target.key());
        }
        let cached = self.held.entry(target.clone()).or_default();
        if cached.variants.len() >= MOST_VARIANTS {
            cached.variants.clear();
        }
        for key in variant.found.dependencies.iter().cloned().chain([target.key()]) {
            if cached.keys.insert(key.clone()) {
                self.by_key.entry(key).or_default().insert(target.clone());
            }
        }
        cached.variants.push(variant);
    }

    /// Drops what depends on something that changed.
    pub(super) fn forget(&mut self, key: &Key) {
        for target in self.by_key.remove(key).into_iter().flatten() {
            let keys = self.held.remove(&target).map(|cached| cached.keys);
            for other in keys.into_iter().flatten() {
                if let Some(targets) = self.by_key.get_mut(&other) {
                    targets.remove(&target);
                    if targets.is_empty() {
                        self.by_key.remove(&other);
                    }
                }
            }
        }
    }
}
