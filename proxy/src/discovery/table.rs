//! The destinations that were asked for, by resource name: read by every request, written when a name is first used and
//! when the operator says something of it.
//!
//! A reader loads one shard and one slot, without a lock. An insertion copies one shard, which is a small part of the table;
//! an update changes the slot alone. The table never holds more than its capacity.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::Cluster;
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

/// A power of two; with 10,000 names an insertion copies about 160 entries.
const SHARDS: usize = 64;

/// The share of the capacity that is made free at a time, so that a full table is not searched for every new name.
const FREED_SHARE: usize = 16;

/// How long a name that was never answered keeps its place in a full table, in seconds: longer than anybody waits for it.
const UNANSWERED_SECONDS: u32 = 10;

/// What the operator said of a name.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// It is this destination.
    Found {
        /// The destination, in use.
        cluster: Arc<Cluster>,
        /// The version under which it was sent.
        version: Box<str>,
    },
    /// The mesh knows nothing of that name.
    Absent,
}

/// One name that was asked for.
#[derive(Debug, Default)]
pub(super) struct Slot {
    known: ArcSwapOption<Known>,
    /// The table's coarse clock.
    used: AtomicU32,
    answered: Notify,
}

impl Slot {
    /// What is known; `None` until the operator has answered.
    pub(super) fn known(&self) -> arc_swap::Guard<Option<Arc<Known>>> {
        self.known.load()
    }

    /// Takes an answer and wakes who waits for it.
    pub(super) fn set(&self, known: Known) {
        self.known.store(Some(Arc::new(known)));
        self.answered.notify_waiters();
    }

    /// Waits until the operator has answered.
    pub(super) async fn wait(&self) -> Arc<Known> {
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            // Listen first and look then: an answer between the two would be missed otherwise.
            answered.as_mut().enable();
            if let Some(known) = self.known.load_full() {
                return known;
            }
            answered.await;
        }
    }

    /// Remembers a use at `now`. Most uses within a second write nothing, so cores do not fight over the cache line.
    pub(super) fn touch(&self, now: u32) {
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// When it was last used, by the table's coarse clock.
    pub(super) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What may be forgotten to make room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forget {
    /// Whether knowledge may be forgotten at all: only while an operator could be asked again.
    pub(super) known: bool,
    /// How long a destination must have gone unused, in seconds.
    pub(super) unused: u32,
}

/// What an insertion came to.
#[derive(Debug)]
pub(super) enum Inserted {
    /// The name was there.
    Held(Arc<Slot>),
    /// The name is new; `forgotten` had to go for it.
    New {
        /// The new slot.
        slot: Arc<Slot>,
        /// Names that are no longer in the table.
        forgotten: Vec<Arc<str>>,
    },
    /// There is no room and nothing that may be forgotten.
    Full,
}

type Shard = HashMap<Arc<str>, Arc<Slot>>;

/// The names of one kind.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<ArcSwap<Shard>>,
    hasher: RandomState,
    capacity: usize,
    length: AtomicUsize,
    /// Held while shards change.
    writing: Mutex<()>,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            hasher: RandomState::new(),
            capacity,
            length: AtomicUsize::new(0),
            writing: Mutex::new(()),
        }
    }

    /// Looks at the slot of a name, without a reference of its own to it: cores that count the references of one slot at
    /// every request would fight over it.
    pub(super) fn look<T>(&self, name: &str, at: impl FnOnce(&Slot) -> T) -> Option<T> {
        self.shard(name)?.load().get(name).map(|slot| at(slot))
    }

    /// The slot of a name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Slot>> {
        self.shard(name)?.load().get(name).cloned()
    }

    fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// All names with their slots, in no order.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Arc<Slot>)> {
        let entries = |shard: &ArcSwap<Shard>| {
            shard
                .load()
                .iter()
                .map(|(name, slot)| (name.clone(), slot.clone()))
                .collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(entries).collect()
    }

    /// The slot of a name, made if need be, used at `now`.
    pub(super) fn insert(&self, name: &str, now: u32, forget: Forget) -> Inserted {
        let Some(shard) = self.shard(name) else {
            return Inserted::Full;
        };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = shard.load().get(name) {
            slot.touch(now);
            return Inserted::Held(slot.clone());
        }
        let mut forgotten = Vec::new();
        if self.len() >= self.capacity {
            forgotten = self.make_room(now, forget);
            if forgotten.is_empty() {
                return Inserted::Full;
            }
        }
        let slot = Arc::new(Slot::default());
        slot.touch(now);
        let mut entries = Shard::clone(&shard.load());
        entries.insert(name.into(), slot.clone());
        shard.store(Arc::new(entries));
        self.length.fetch_add(1, Ordering::Relaxed);
        Inserted::New { slot, forgotten }
    }

    /// Takes out the least recently used names: those that were never answered; while knowledge may be forgotten, those
    /// unused for long enough; and where there are none of them, names that the mesh knows nothing of, since asking for
    /// them again costs little and a crawler must not lock out the mesh's own.
    fn make_room(&self, now: u32, forget: Forget) -> Vec<Arc<str>> {
        let wanted = (self.capacity / FREED_SHARE).max(1);
        let (mut unused, mut absent) = (Vec::new(), Vec::new());
        for (name, slot) in self.all() {
            let used = slot.used();
            let idle = now.saturating_sub(used);
            match slot.known().as_deref() {
                None if idle >= UNANSWERED_SECONDS => unused.push((used, name)),
                Some(_) if forget.known && idle >= forget.unused => unused.push((used, name)),
                Some(Known::Absent) if forget.known => absent.push((used, name)),
                _ => {}
            }
        }
        let mut chosen = if unused.is_empty() { absent } else { unused };
        chosen.sort_unstable_by_key(|(used, _)| *used);
        chosen.truncate(wanted);
        let chosen: Vec<Arc<str>> = chosen.into_iter().map(|(_, name)| name).collect();
        let mut changed: HashMap<usize, Shard> = HashMap::new();
        for name in &chosen {
            let at = self.index(name);
            if let Some(shard) = self.shards.get(at) {
                changed
                    .entry(at)
                    .or_insert_with(|| Shard::clone(&shard.load()))
                    .remove(name);
            }
        }
        for (at, entries) in changed {
            if let Some(shard) = self.shards.get(at) {
                shard.store(Arc::new(entries));
            }
        }
        self.length.fetch_sub(chosen.len(), Ordering::Relaxed);
        chosen
    }

    fn shard(&self, name: &str) -> Option<&ArcSwap<Shard>> {
        self.shards.get(self.index(name))
    }

    #[allow(clippy::cast_possible_truncation)] // Only the low bits count.
    fn index(&self, name: &str) -> usize {
        self.hasher.hash_one(name) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::cluster::{Clusters, Place};
    use mesh_core::destination::Destination;

    const NOTHING: Forget = Forget {
        known: false,
        unused: 600,
    };
    const UNUSED: Forget = Forget {
        known: true,
        unused: 600,
    };

    fn destination() -> Known {
        let destination = Destination {
            host: "a".into(),
            namespace: "n".into(),
            port: 80,
            protocol: mesh_core::protocol::Declared::Http,
            resolution: mesh_core::destination::Resolution::Balanced,
            endpoints: Vec::new(),
            unready: Vec::new(),
            identities: Vec::new(),
            tls: None,
            ..Destination::default()
        };
        Known::Found {
            cluster: Clusters::default().cluster(Arc::new(destination), &Place::default()),
            version: "1".into(),
        }
    }

    /// A table of `capacity` names `0`, `1`, ... that were each used at the second of their number.
    fn full(capacity: u32, known: &Known) -> Table {
        let table = Table::new(capacity as usize);
        for at in 0..capacity {
            let Inserted::New { slot, .. } = table.insert(&at.to_string(), at, NOTHING) else {
                panic!("{at} is new")
            };
            slot.set(known.clone());
        }
        table
    }

    #[test]
    fn a_full_table_forgets_only_what_it_may() {
        for (case, known, now, forget, forgotten) in [
            ("disconnected", destination(), 5000, NOTHING, None),
            ("disconnected, absent", Known::Absent, 5000, NOTHING, None),
            ("all in use", destination(), 599, UNUSED, None),
            ("one unused for long", destination(), 600, UNUSED, Some(vec!["0"])),
            (
                "as many as are freed at a time",
                destination(),
                5000,
                UNUSED,
                Some(vec!["0", "1"]),
            ),
            ("absent, in use", Known::Absent, 40, UNUSED, Some(vec!["0", "1"])),
        ] {
            let table = full(32, &known);
            match (table.insert("new", now, forget), forgotten) {
                (Inserted::Full, None) => assert_eq!(table.len(), 32, "{case}"),
                (Inserted::New { forgotten: names, .. }, Some(expected)) => {
                    assert_eq!(
                        names.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
                        expected,
                        "{case}"
                    );
                    assert_eq!(table.len(), 33 - expected.len(), "{case}");
                    assert_eq!(table.all().len(), table.len(), "{case}");
                    assert!(
                        table.get("0").is_none() && table.get("31").is_some() && table.get("new").is_some(),
                        "{case}"
                    );
                }
                (got, expected) => panic!("{case}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn what_was_never_answered_gives_way_even_while_disconnected() {
        let table = Table::new(1);
        assert!(matches!(table.insert("a", 0, NOTHING), Inserted::New { .. }));
        assert!(matches!(table.insert("a", 1, NOTHING), Inserted::Held(_)));
        assert!(matches!(table.insert("b", 2, NOTHING), Inserted::Full));
        assert!(matches!(table.insert("b", 11, NOTHING), Inserted::New { .. }));
        assert!(table.get("a").is_none());
    }
}
