//! What the workers' recorders have in common: how many series there may be, and what was counted by those that are gone.

use super::series::{Base, Key, Labels, Totals};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most sets of label values of requests, and as many of connections; a request's makes 65 lines of the page.
pub const MOST_SERIES: usize = 1_000;

/// A series, as the page knows it.
type Name = (Labels, Key);

/// Who counts a series.
#[derive(Debug, Default)]
struct Held {
    /// How many workers do.
    by: u32,
    /// What was counted by those that have let go of it.
    carried: Option<Totals>,
}

#[derive(Debug, Default)]
struct Admitted {
    series: HashMap<Name, Held>,
    requests: usize,
    connections: usize,
}

impl Admitted {
    fn count(&mut self, key: Key) -> &mut usize {
        if key.is_http() {
            &mut self.requests
        } else {
            &mut self.connections
        }
    }
}

/// The books of all workers.
#[derive(Debug, Default)]
pub struct Books {
    admitted: Mutex<Admitted>,
    /// Whether new series are refused, so that refusing one takes no lock.
    full: AtomicBool,
    overflowed: AtomicU64,
}

impl Books {
    /// Takes up a series for one worker. False where there is no room for another; it is counted.
    pub fn admit(&self, labels: &Labels, key: Key) -> bool {
        if self.full.load(Ordering::Relaxed) {
            self.overflow();
            return false;
        }
        let mut admitted = self.lock();
        let room = *admitted.count(key) < MOST_SERIES;
        match admitted.series.entry((labels.clone(), key)) {
            Entry::Occupied(mut held) => {
                held.get_mut().by += 1;
                return true;
            }
            Entry::Vacant(_) if !room => {
                self.full.store(true, Ordering::Relaxed);
                self.overflow();
                return false;
            }
            Entry::Vacant(free) => {
                free.insert(Held { by: 1, carried: None });
            }
        }
        *admitted.count(key) += 1;
        true
    }

    /// Counts what finds no room.
    pub fn overflow(&self) {
        self.overflowed.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker lets go of a set of labels. A series that others still count keeps what this one counted: a counter must not
    /// go down while it is shown.
    pub fn release(&self, base: &Base) {
        let mut admitted = self.lock();
        for (key, series) in base.all() {
            let Entry::Occupied(mut held) = admitted.series.entry((base.labels.clone(), key)) else {
                continue;
            };
            let entry = held.get_mut();
            entry.by = entry.by.saturating_sub(1);
            if entry.by > 0 {
                let totals = series.read();
                match &mut entry.carried {
                    Some(carried) => carried.merge(&totals),
                    None => entry.carried = Some(totals),
                }
            } else {
                held.remove();
                let count = admitted.count(key);
                *count = count.saturating_sub(1);
                self.full.store(false, Ordering::Relaxed);
            }
        }
    }

    /// What was counted by workers that have let go, of series that others still count.
    #[must_use]
    pub fn carried(&self) -> Vec<(Labels, Key, Totals)> {
        let admitted = self.lock();
        let carried = admitted.series.iter().filter_map(|((labels, key), held)| {
            let totals = held.carried.clone()?;
            Some((labels.clone(), *key, totals))
        });
        carried.collect()
    }

    /// Whether new series are refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// How many requests and connections were counted under other labels than their own.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flags::Flags;
    use super::super::series::Series;
    use super::*;

    fn labels(at: usize) -> Labels {
        Labels {
            common: at.to_string().into(),
            security: "none",
        }
    }

    fn counted(at: usize, key: Key, times: u64) -> Base {
        let base = Base::new(labels(at));
        for _ in 0..times {
            match base.find_or_add(key) {
                Series::Requests(requests) => requests.duration.observe(1),
                Series::Connections(connections) => connections.opened.add(1),
            }
        }
        base
    }

    #[test]
    fn series_are_bounded_by_kind_and_room_is_made_again() {
        let books = Books::default();
        let (http, tcp) = (Key::http(200, Flags::NONE, None), Key::tcp(Flags::NONE));
        for at in 0..MOST_SERIES {
            assert!(books.admit(&labels(at), http));
        }
        assert!(books.admit(&labels(0), http), "another worker's of the same name");
        assert!(books.admit(&labels(0), tcp), "the other kind has room of its own");
        assert!(!books.is_full());
        assert!(!books.admit(&labels(MOST_SERIES), http));
        assert!(!books.admit(&labels(MOST_SERIES), http));
        assert_eq!((books.is_full(), books.overflowed()), (true, 2));
        books.release(&counted(1, http, 1));
        assert!(books.admit(&labels(MOST_SERIES), http));
    }

    #[test]
    fn what_one_worker_lets_go_of_stays_counted_while_another_holds_it() {
        let books = Books::default();
        let key = Key::tcp(Flags::NONE);
        for _ in 0..3 {
            assert!(books.admit(&labels(0), key));
        }
        books.release(&counted(0, key, 2));
        books.release(&counted(0, key, 3));
        assert_eq!(books.carried(), [(labels(0), key, Totals::Connections([5, 0, 0, 0]))]);
        books.release(&counted(0, key, 1));
        assert_eq!(books.carried(), []);
    }
}
