//! Names that destinations are known by, and their addresses: a task for each name that is in use, which asks again when the
//! answer's time to live has passed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OnceCell};

/// The most names that are asked for; more are as names without an address.
const MOST_NAMES: usize = 4096;

/// The most addresses of one name that count.
const MOST_ADDRESSES: usize = 256;

/// The least and the most time between two questions for a name.
const LEAST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(300);

/// The waits after questions that were not answered: doubled from the first, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The names in use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Names {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where the tasks run.
    runtime: Handle,
    resolver: OnceCell<TokioResolver>,
    held: Mutex<HashMap<Arc<str>, Weak<Watched>>>,
}

/// A name in use, for as long as somebody holds it.
#[derive(Debug)]
pub struct Watched {
    found: ArcSwap<Found>,
    asked: Notify,
}

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its addresses as they were last answered, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// Changes with them; 0 before the first question came to an end.
    pub version: u64,
}

impl Names {
    /// No name yet. What is asked later runs on the runtime that this is called on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                runtime: Handle::current(),
                resolver: OnceCell::new(),
                held: Mutex::default(),
            }),
        }
    }

    /// Has a name asked for, from now on and for as long as what is returned is held. `None` where too many are.
    #[must_use]
    pub fn watch(&self, name: &str) -> Option<Arc<Watched>> {
        let mut held = self.held();
        if let Some(watched) = held.get(name).and_then(Weak::upgrade) {
            return Some(watched);
        }
        if held.len() >= MOST_NAMES {
            held.retain(|_, watched| watched.strong_count() > 0);
            if held.len() >= MOST_NAMES {
                tracing::warn!(name, "more names than are resolved at a time: it has no address");
                return None;
            }
        }
        let name: Arc<str> = name.into();
        let watched = Arc::new(Watched {
            found: ArcSwap::default(),
            asked: Notify::new(),
        });
        held.insert(name.clone(), Arc::downgrade(&watched));
        drop(held);
        let task = self.clone().follow(name, Arc::downgrade(&watched));
        self.shared.runtime.spawn(task);
        Some(watched)
    }

    /// Asks for a name until nobody holds it.
    async fn follow(self, name: Arc<str>, watched: Weak<Watched>) {
        let mut failures = 0u32;
        loop {
            let answer = self.ask(&name).await;
            let Some(held) = watched.upgrade() else { break };
            let wait = match answer {
                Ok((addresses, until)) => {
                    failures = 0;
                    held.set(Some(addresses));
                    until.saturating_duration_since(Instant::now()).clamp(LEAST, MOST)
                }
                Err(reason) => {
                    let kept = held.found.load().addresses.len();
                    tracing::warn!(
                        name = &*name,
                        reason,
                        kept,
                        "a name does not resolve; its last addresses stay"
                    );
                    held.set(None);
                    failures = failures.saturating_add(1);
                    retry(failures)
                }
            };
            drop(held);
            tokio::time::sleep(wait).await;
        }
        let mut held = self.held();
        if held.get(&name).is_some_and(|held| held.strong_count() == 0) {
            held.remove(&name);
        }
    }

    async fn ask(&self, name: &str) -> Result<(Vec<IpAddr>, Instant), String> {
        let resolver = self.shared.resolver.get_or_try_init(async || resolver());
        let resolver = resolver.await?;
        let asked = tokio::time::timeout(ANSWER, resolver.lookup_ip(absolute(name))).await;
        let found = asked.map_err(|_| "no answer in time".to_owned())?;
        let found = found.map_err(|error| error.to_string())?;
        let addresses: Vec<IpAddr> = found.iter().take(MOST_ADDRESSES).collect();
        if addresses.is_empty() {
            return Err("it has no address".to_owned());
        }
        Ok((addresses, found.valid_until()))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Watched>>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

impl Watched {
    /// What is known now.
    #[must_use]
    pub fn found(&self) -> Arc<Found> {
        self.found.load_full()
    }

    /// What is known once the first question has come to an end.
    pub async fn first(&self) -> Arc<Found> {
        loop {
            let asked = self.asked.notified();
            tokio::pin!(asked);
            // Listen first and look then: an answer between the two would be missed otherwise.
            asked.as_mut().enable();
            let found = self.found();
            if found.version > 0 {
                return found;
            }
            asked.await;
        }
    }

    /// Takes an answer; `None` is that there was none, and leaves the last addresses.
    fn set(&self, addresses: Option<Vec<IpAddr>>) {
        let before = self.found.load();
        let addresses = addresses.unwrap_or_else(|| before.addresses.clone());
        if before.version == 0 || before.addresses != addresses {
            self.found.store(Arc::new(Found {
                addresses,
                version: before.version + 1,
            }));
        }
        self.asked.notify_waiters();
    }
}

/// By the pod's /etc/resolv.conf. Nothing is cached: who asks remembers, and asks anew only in time.
fn resolver() -> Result<TokioResolver, String> {
    let built = TokioResolver::builder_tokio().and_then(|mut builder| {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.cache_size = 0;
        builder.build()
    });
    built.map_err(|error| error.to_string())
}

/// A name with several dots is whole: the domains of /etc/resolv.conf are for shorter ones.
fn absolute(name: &str) -> String {
    if name.bytes().filter(|byte| *byte == b'.').count() >= 2 && !name.ends_with('.') {
        format!("{name}.")
    } else {
        name.to_owned()
    }
}

fn retry(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_RETRY.saturating_mul(doubled).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_searched_for_and_whole_ones_are_not() {
        for (name, expected) in [
            ("db", "db"),
            ("db.shop", "db.shop"),
            ("api.example.com", "api.example.com."),
            ("api.example.com.", "api.example.com."),
        ] {
            assert_eq!(absolute(name), expected);
        }
    }

    #[test]
    fn waits_double_up_to_the_last() {
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (7, 60), (100, 60)] {
            assert_eq!(retry(failures), Duration::from_secs(seconds), "{failures}");
        }
    }

    #[test]
    fn the_last_good_answer_stays() {
        let watched = Watched {
            found: ArcSwap::default(),
            asked: Notify::new(),
        };
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        for (answer, addresses, version) in [
            (None, vec![], 1),
            (Some(vec![one]), vec![one], 2),
            (None, vec![one], 2),
            (Some(vec![one]), vec![one], 2),
            (Some(vec![]), vec![], 3),
        ] {
            watched.set(answer);
            assert_eq!(*watched.found(), Found { addresses, version });
        }
    }

    #[tokio::test]
    async fn a_name_is_held_once_and_let_go() {
        let names = Names::new();
        let one = names.watch("a.invalid").unwrap();
        let again = names.watch("a.invalid").unwrap();
        assert!(Arc::ptr_eq(&one, &again));
        drop((one, again));
        assert!(
            names
                .held()
                .get("a.invalid")
                .is_none_or(|held| held.strong_count() == 0)
        );
    }
}
