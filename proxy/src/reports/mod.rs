//! What the operator is told of what this sidecar saw: what policies denied or would have denied, and who calls in the clear
//! where that is still taken. Whoever serves a call notes it here ([`Reports`]), which counts it under its key; a task on the
//! main thread's runtime sends what came together ([`send`]).
//!
//! A note costs a lock that is held for a look into a map. Keys are bounded: what finds no room is counted as dropped.

pub mod send;

use mesh_core::authorization::RuleRef;
use mesh_core::authorization::facts::Facts;
use mesh_core::identity::SpiffeId;
use mesh_wire::admin::Denial;
use mesh_wire::reports::{MOST_PORTS, MOST_RECORDS, MOST_SEEN, PlaintextPort, Record, Seen, SeenKind};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The policy that something is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy<'a> {
    kind: &'static str,
    name: Option<(&'a str, &'a str)>,
}

impl<'a> Policy<'a> {
    /// What a token is refused by: which of the RequestAuthentications it was meant for nobody can say.
    pub const TOKENS: Self = Self {
        kind: "RequestAuthentication",
        name: None,
    };

    /// The policy of a kind with that name.
    #[must_use]
    pub fn named(kind: &'static str, namespace: &'a str, name: &'a str) -> Self {
        Self {
            kind,
            name: Some((namespace, name)),
        }
    }

    /// The AuthorizationPolicy of a rule; without one, all that allow something: none of their rules matched.
    #[must_use]
    pub fn authorization(rule: Option<&'a RuleRef>) -> Self {
        Self {
            kind: "AuthorizationPolicy",
            name: rule.map(|rule| (rule.namespace.as_str(), rule.name.as_str())),
        }
    }

    fn text(self) -> Box<str> {
        match self.name {
            Some((namespace, name)) => format!("{}/{namespace}/{name}", self.kind).into(),
            None => self.kind.into(),
        }
    }
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Whom the caller proved to be.
    Identity(SpiffeId),
    /// Where a caller in the clear came from.
    Address(IpAddr),
}

impl From<&Facts<'_>> for Source {
    fn from(facts: &Facts<'_>) -> Self {
        match facts.identity {
            Some(identity) => Self::Identity(identity.clone()),
            None => Self::Address(facts.source.to_canonical()),
        }
    }
}

/// What is counted together.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: SeenKind,
    policy: Box<str>,
    set: Box<str>,
    source: Source,
    port: u16,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    last: u64,
}

/// Callers in the clear, by address and port.
#[derive(Debug, Default)]
struct Clear {
    tally: Tally,
    open: u64,
}

/// A port that is called in the clear.
#[derive(Debug, Default)]
struct Port {
    open: u64,
    last: u64,
}

#[derive(Debug, Default)]
struct Held {
    seen: HashMap<Key, Tally>,
    clear: HashMap<(IpAddr, u16), Clear>,
    /// The same by port, for as long as the process lives.
    ports: HashMap<u16, Port>,
    records: VecDeque<Arc<Denial>>,
    dropped: u64,
}

impl Held {
    fn has_room(&self) -> bool {
        self.seen.len() + self.clear.len() < MOST_SEEN
    }

    /// A port's own entry, or the one of all that found no room.
    fn port(&mut self, port: u16) -> &mut Port {
        let room = self.ports.len() < MOST_PORTS - 1;
        let port = if room || self.ports.contains_key(&port) {
            port
        } else {
            0
        };
        self.ports.entry(port).or_default()
    }

    fn note(&mut self, key: Key, now: u64) {
        let room = self.has_room();
        if let Some(tally) = self.seen.get_mut(&key) {
            tally.count += 1;
            tally.last = now;
        } else if room {
            self.seen.insert(key, Tally { count: 1, last: now });
        } else {
            self.dropped += 1;
        }
    }
}

/// What came together since it was last taken.
#[derive(Debug, Default)]
struct Gathered {
    seen: Vec<Seen>,
    dropped: u64,
    records: Vec<Record>,
    plaintext: Vec<PlaintextPort>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.dropped == 0 && self.records.is_empty()
    }
}

/// What is to be told; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<Held>>);

impl Reports {
    /// A policy in force denied a call.
    pub fn denied(&self, policy: Policy<'_>, source: Source, port: u16, record: Arc<Denial>) {
        let (key, now) = (key(SeenKind::Denied, "", policy, source, port), now());
        let mut held = self.held();
        held.note(key, now);
        let oldest = if held.records.len() < MOST_RECORDS {
            None
        } else {
            held.records.pop_front()
        };
        held.records.push_back(record);
        drop(held);
        drop(oldest);
    }

    /// A set of candidates would have denied a call; or dry-run policies, where `set` is empty.
    pub fn would_deny(&self, set: &str, policy: Policy<'_>, source: Source, port: u16) {
        let (key, now) = (key(SeenKind::WouldDeny, set, policy, source, port), now());
        self.held().note(key, now);
    }

    /// A connection in the clear was taken on a port where STRICT would refuse it; it counts as open for as long as what is
    /// returned is held.
    pub fn plaintext(&self, source: IpAddr, port: u16) -> InTheClear {
        let key = (source.to_canonical(), port);
        let now = now();
        let mut held = self.held();
        let noted = held.port(port);
        noted.open += 1;
        noted.last = now;
        let room = held.has_room();
        if room || held.clear.contains_key(&key) {
            let clear = held.clear.entry(key).or_default();
            clear.tally.count += 1;
            clear.tally.last = now;
            clear.open += 1;
        } else {
            held.dropped += 1;
        }
        drop(held);
        InTheClear {
            reports: self.clone(),
            key,
        }
    }

    fn closed(&self, key: (IpAddr, u16)) {
        let now = now();
        let mut held = self.held();
        let noted = held.port(key.1);
        noted.open = noted.open.saturating_sub(1);
        noted.last = now;
        if let Some(clear) = held.clear.get_mut(&key) {
            clear.open = clear.open.saturating_sub(1);
            clear.tally.last = now;
        }
    }

    /// Takes out what came together. Callers in the clear whose connections are open stay, and are told of each time.
    fn take(&self) -> Gathered {
        let now = now();
        let mut held = self.held();
        let ports = held.ports.iter_mut().map(|(port, noted)| {
            if noted.open > 0 {
                noted.last = now;
            }
            PlaintextPort {
                port: (*port).into(),
                last: noted.last,
            }
        });
        let plaintext = ports.collect();
        let seen = std::mem::take(&mut held.seen);
        let mut open = HashMap::new();
        let clear = std::mem::take(&mut held.clear);
        for (key, clear) in clear.iter().filter(|(_, clear)| clear.open > 0) {
            let kept = Clear {
                tally: Tally::default(),
                open: clear.open,
            };
            open.insert(*key, kept);
        }
        held.clear = open;
        let records = std::mem::take(&mut held.records);
        let dropped = std::mem::take(&mut held.dropped);
        drop(held);
        let of_policies = seen.into_iter().map(|(key, tally)| {
            let (identity, address) = match key.source {
                Source::Identity(identity) => (identity.to_string(), String::new()),
                Source::Address(address) => (String::new(), address.to_string()),
            };
            Seen {
                kind: key.kind.into(),
                policy: key.policy.into(),
                set: key.set.into(),
                identity,
                address,
                port: key.port.into(),
                count: tally.count,
                last: tally.last,
            }
        });
        let in_the_clear = clear.into_iter().map(|((address, port), clear)| Seen {
            kind: SeenKind::Plaintext.into(),
            address: address.to_string(),
            port: port.into(),
            count: clear.tally.count,
            last: if clear.open > 0 { now } else { clear.tally.last },
            ..Seen::default()
        });
        Gathered {
            seen: of_policies.chain(in_the_clear).collect(),
            dropped,
            records: records.iter().map(|denial| Record::from(&**denial)).collect(),
            plaintext,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection in the clear.
#[derive(Debug)]
#[must_use = "the connection counts as open for as long as this is held"]
pub struct InTheClear {
    reports: Reports,
    key: (IpAddr, u16),
}

impl Drop for InTheClear {
    fn drop(&mut self) {
        self.reports.closed(self.key);
    }
}

fn key(kind: SeenKind, set: &str, policy: Policy<'_>, source: Source, port: u16) -> Key {
    Key {
        kind,
        policy: policy.text(),
        set: set.into(),
        source,
        port,
    }
}

/// Seconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Source {
        Source::Address([10, 0, 0, last].into())
    }

    fn record() -> Arc<Denial> {
        Arc::new(Denial::default())
    }

    #[test]
    fn what_is_the_same_is_counted_together() {
        let reports = Reports::default();
        let rule = RuleRef {
            namespace: "shop".into(),
            name: "deny".into(),
            rule: 1,
        };
        let policy = Policy::authorization(Some(&rule));
        for _ in 0..3 {
            reports.denied(policy, from(1), 80, record());
        }
        reports.denied(Policy::authorization(None), from(1), 80, record());
        reports.denied(Policy::TOKENS, from(1), 80, record());
        reports.would_deny("next", policy, from(1), 80);
        reports.would_deny("", policy, from(1), 81);
        let mut seen = reports.take();
        seen.seen
            .sort_by(|a, b| (a.kind, &a.policy, &a.set).cmp(&(b.kind, &b.policy, &b.set)));
        let told: Vec<_> = seen
            .seen
            .iter()
            .map(|seen| (seen.kind, &*seen.policy, &*seen.set, seen.port, seen.count))
            .collect();
        assert_eq!(
            told,
            [
                (1, "AuthorizationPolicy", "", 80, 1),
                (1, "AuthorizationPolicy/shop/deny", "", 80, 3),
                (1, "RequestAuthentication", "", 80, 1),
                (2, "AuthorizationPolicy/shop/deny", "", 81, 1),
                (2, "AuthorizationPolicy/shop/deny", "next", 80, 1),
            ]
        );
        assert_eq!((seen.records.len(), seen.dropped, seen.plaintext.len()), (5, 0, 0));
        assert!(reports.take().is_empty());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let reports = Reports::default();
        for port in 0..2000 {
            reports.would_deny("", Policy::TOKENS, from(1), port);
        }
        reports.would_deny("", Policy::TOKENS, from(1), 1);
        let clear = reports.plaintext([10, 0, 0, 1].into(), 80);
        let taken = reports.take();
        assert_eq!((taken.seen.len(), taken.dropped), (MOST_SEEN, 2001 - 1024));
        assert_eq!(
            taken.plaintext[0].port, 80,
            "that somebody called is known all the same"
        );
        drop(clear);
        for _ in 0..2 * MOST_RECORDS {
            reports.denied(Policy::TOKENS, from(1), 80, record());
        }
        assert_eq!(reports.take().records.len(), MOST_RECORDS);
    }

    #[test]
    fn ports_beyond_a_bound_are_one() {
        let reports = Reports::default();
        let open: Vec<_> = (1..=2 * u16::try_from(MOST_PORTS).unwrap())
            .map(|port| reports.plaintext([10, 0, 0, 1].into(), port))
            .collect();
        let plaintext = reports.take().plaintext;
        assert_eq!(plaintext.len(), MOST_PORTS);
        assert!(plaintext.iter().any(|port| port.port == 0));
        drop(open);
        assert_eq!(reports.take().plaintext.len(), MOST_PORTS);
    }

    #[test]
    fn an_open_connection_is_told_of_until_it_is_closed() {
        let reports = Reports::default();
        let address: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let first = reports.plaintext(address, 80);
        let second = reports.plaintext(address, 80);
        let told = |gathered: Gathered| -> Vec<_> {
            let told = gathered.seen.into_iter();
            told.map(|seen| (seen.address, seen.port, seen.count)).collect()
        };
        assert_eq!(told(reports.take()), [("10.0.0.1".to_owned(), 80, 2)]);
        drop(first);
        assert_eq!(told(reports.take()), [("10.0.0.1".to_owned(), 80, 0)]);
        drop(second);
        // It was open since, if not for long.
        assert_eq!(told(reports.take()), [("10.0.0.1".to_owned(), 80, 0)]);
        assert_eq!(told(reports.take()), []);
        let plaintext = reports.take().plaintext;
        assert!(plaintext[0].port == 80 && plaintext[0].last > 0);
    }
}
