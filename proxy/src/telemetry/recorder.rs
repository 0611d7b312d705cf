//! A worker's part of the telemetry: it finds the labels of what passes, counts, and lets go of what was idle for long.

use super::Telemetry;
use super::flags::Flags;
use super::labels::{Outside, Reporter, Security, Service, Subject};
use super::series::{Base, Key, Series};
use mesh_core::destination::{self, Destination, Endpoint};
use mesh_core::identity::SpiffeId;
use mesh_core::workload::Workload;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a set of labels must have been idle before it is let go.
const IDLE: Duration = Duration::from_secs(3600);

/// The same, while there is no room for others.
const IDLE_WHEN_FULL: Duration = Duration::from_secs(300);

/// The most sets of labels that one worker holds, those included of which nothing was counted yet.
const MOST_BASES: usize = 4 * super::books::MOST_SERIES;

/// What one request came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values {
    /// From its head to the last byte of its response, in microseconds.
    pub micros: u64,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
    /// gRPC messages in the request.
    pub request_messages: u64,
    /// gRPC messages in the response.
    pub response_messages: u64,
}

/// A set of labels that this worker holds.
#[derive(Debug)]
struct Held {
    base: Arc<Base>,
    used: u64,
    /// Since when `used` has not changed.
    since: Instant,
}

#[derive(Debug, Default)]
struct Bases {
    by_subject: HashMap<Subject, Held>,
    /// Of which own workload the labels speak.
    generation: u64,
    /// Those of an earlier own workload, which connections that were open then still count under.
    superseded: Vec<Arc<Base>>,
}

/// A worker's recorder.
#[derive(Debug)]
pub struct Recorder {
    telemetry: Telemetry,
    /// Locked by the worker when it meets a new subject, and for a moment by whoever reads the page.
    bases: Mutex<Bases>,
    other: [Arc<Base>; 2],
}

/// A destination's endpoint as one worker calls it, and what its calls are counted under.
struct Seen {
    /// Held so that neither address becomes another's.
    _held: (Weak<Destination>, Workload),
    generation: u64,
    base: Arc<Base>,
}

/// What is called by a name that is no destination's.
type ByHost = HashMap<Box<str>, SeenOutside>;

struct SeenOutside {
    generation: u64,
    base: Arc<Base>,
}

/// Hashes addresses of this process, which nobody outside chooses.
#[derive(Default)]
struct Addresses(u64);

impl Hasher for Addresses {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u64(&mut self, word: u64) {
        // 2^64 divided by the golden ratio, as in Fibonacci hashing; rotated so that the low bits depend on all.
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

thread_local! {
    /// What was called before, by recorder, destination, workload and whether under mutual TLS. A thread carries one worker,
    /// so this is the worker's own; kept outside of it because nothing here is shared.
    static SEEN: RefCell<HashMap<[usize; 4], Seen, BuildHasherDefault<Addresses>>> = RefCell::default();

    /// The same of what is no destination, by recorder and kind, and by what the client calls it.
    static SEEN_OUTSIDE: RefCell<HashMap<(usize, Outside), ByHost>> = RefCell::new(HashMap::new());
}

/// The most entries of `SEEN`; it is cheap to fill again.
const MOST_SEEN: usize = 4096;

impl Recorder {
    pub(super) fn new(telemetry: Telemetry) -> Self {
        let other =
            [Reporter::Source, Reporter::Destination].map(|reporter| Arc::new(Base::new(Subject::other(reporter))));
        Self {
            telemetry,
            bases: Mutex::default(),
            other,
        }
    }

    /// What all workers have in common.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The labels of calls to an endpoint of a destination. Under mutual TLS its server is taken for the pod that it is.
    #[must_use]
    pub fn to_endpoint(&self, destination: &Arc<Destination>, endpoint: &Endpoint) -> Arc<Base> {
        let workload = &endpoint.workload;
        let mutual_tls = destination.security(endpoint) == destination::Security::Mesh;
        let generation = self.telemetry.generation();
        let key = [
            std::ptr::from_ref(self).addr(),
            Arc::as_ptr(destination).addr(),
            workload.id(),
            // Endpoints of one workload run under one account.
            usize::from(mutual_tls),
        ];
        SEEN.with_borrow_mut(|seen| {
            if let Some(found) = seen.get(&key)
                && found.generation == generation
            {
                return found.base.clone();
            }
            let base = self.base(Subject {
                reporter: Reporter::Source,
                peer: workload.clone(),
                peer_identity: endpoint.identity.clone().filter(|_| mutual_tls),
                service: Service::of(destination),
                security: Security::Unknown,
            });
            if seen.len() >= MOST_SEEN {
                seen.clear();
            }
            let entry = Seen {
                _held: (Arc::downgrade(destination), workload.clone()),
                generation,
                base: base.clone(),
            };
            seen.insert(key, entry);
            base
        })
    }

    /// The labels of calls to what is no destination; `host` is what the client calls it.
    #[must_use]
    pub fn to_outside(&self, outside: Outside, host: &str) -> Arc<Base> {
        let generation = self.telemetry.generation();
        SEEN_OUTSIDE.with_borrow_mut(|seen| {
            let seen = seen.entry((std::ptr::from_ref(self).addr(), outside)).or_default();
            if let Some(found) = seen.get(host)
                && found.generation == generation
            {
                return found.base.clone();
            }
            let base = self.to_service(Service::outside(outside, host));
            if seen.len() >= MOST_SEEN {
                seen.clear();
            }
            let entry = SeenOutside {
                generation,
                base: base.clone(),
            };
            seen.insert(host.into(), entry);
            base
        })
    }

    /// The labels of calls to a Service without an endpoint.
    #[must_use]
    pub fn to_service(&self, service: Service) -> Arc<Base> {
        self.base(Subject {
            reporter: Reporter::Source,
            peer: Workload::default(),
            peer_identity: None,
            service,
            security: Security::Unknown,
        })
    }

    /// The labels of calls that come in.
    #[must_use]
    pub fn from_peer(&self, peer: Workload, identity: Option<&SpiffeId>, port: u16) -> Arc<Base> {
        let own = self.telemetry.own();
        self.base(Subject {
            reporter: Reporter::Destination,
            peer,
            peer_identity: identity.cloned(),
            service: Service::own(own.services.get(&port), &own.metadata),
            security: match identity {
                Some(_) => Security::MutualTls,
                None => Security::None,
            },
        })
    }

    fn base(&self, subject: Subject) -> Arc<Base> {
        let generation = self.telemetry.generation();
        let mut bases = self.lock();
        if bases.generation != generation {
            // What this pod is called has changed, and every label with it.
            let before: Vec<Arc<Base>> = bases.by_subject.drain().map(|(_, held)| held.base).collect();
            bases.superseded.extend(before);
            bases.generation = generation;
        }
        if let Some(held) = bases.by_subject.get(&subject) {
            return held.base.clone();
        }
        if bases.by_subject.len() >= MOST_BASES || self.telemetry.books().is_full() {
            return self.other(subject.reporter).clone();
        }
        let own = self.telemetry.own();
        let labels = subject.labels(&own.metadata, self.telemetry.identity().as_ref());
        let base = Arc::new(Base::new(labels));
        bases.by_subject.insert(
            subject,
            Held {
                base: base.clone(),
                used: 0,
                since: Instant::now(),
            },
        );
        base
    }

    /// Counts a request.
    pub fn request(&self, base: &Base, key: Key, values: &Values) {
        if let Series::Requests(requests) = self.series(base, key) {
            requests.duration.observe(values.micros);
            requests.received.observe(values.received.saturating_mul(1000));
            requests.sent.observe(values.sent.saturating_mul(1000));
        }
        if key.is_grpc() {
            base.messages.request.add(values.request_messages);
            base.messages.response.add(values.response_messages);
        }
    }

    /// The series of a set of labels; of another's where there is no room for it.
    pub fn series<'a>(&'a self, base: &'a Base, key: Key) -> &'a Series {
        if let Some(series) = base.find(key) {
            return series;
        }
        let books = self.telemetry.books();
        if self.other.iter().any(|other| std::ptr::eq(&raw const **other, base)) {
            books.overflow();
        } else if books.admit(&base.labels, key) {
            return base.find_or_add(key);
        }
        let reporter = if base.labels.common.starts_with("reporter=\"source\"") {
            Reporter::Source
        } else {
            Reporter::Destination
        };
        let key = if key.is_http() {
            Key::http(0, Flags::NONE, None)
        } else {
            Key::tcp(Flags::NONE)
        };
        self.other(reporter).find_or_add(key)
    }

    fn other(&self, reporter: Reporter) -> &Arc<Base> {
        let [source, destination] = &self.other;
        match reporter {
            Reporter::Source => source,
            Reporter::Destination => destination,
        }
    }

    /// Lets go of what was idle for long. To be called on the worker's thread every now and then.
    pub fn sweep(&self, now: Instant) {
        SEEN.with_borrow_mut(|seen| seen.clear());
        SEEN_OUTSIDE.with_borrow_mut(HashMap::clear);
        let idle = if self.telemetry.books().is_full() {
            IDLE_WHEN_FULL
        } else {
            IDLE
        };
        let mut gone = Vec::new();
        let mut bases = self.lock();
        bases.by_subject.retain(|_, held| {
            let used = held.base.used();
            if used != held.used || Arc::strong_count(&held.base) > 1 {
                (held.used, held.since) = (used, now);
                return true;
            }
            let keep = now.saturating_duration_since(held.since) < idle;
            if !keep {
                gone.push(held.base.clone());
            }
            keep
        });
        bases.superseded.retain(|base| {
            let keep = Arc::strong_count(base) > 1;
            if !keep {
                gone.push(base.clone());
            }
            keep
        });
        drop(bases);
        gone.iter().for_each(|base| self.telemetry.books().release(base));
    }

    /// What this worker has counted.
    pub(super) fn bases(&self) -> Vec<Arc<Base>> {
        let bases = self.lock();
        let held = bases.by_subject.values().map(|held| held.base.clone());
        held.chain(bases.superseded.iter().cloned())
            .chain(self.other.iter().cloned())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Bases> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
