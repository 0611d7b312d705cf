//! What sidecars reported in the last hour, by minutes: kept where the lease is held, since that replica writes what comes of
//! it. Bounded in every dimension; what finds no room is counted.
//!
//! It stands in no file: a new holder of the lease begins with nothing, and knows the last hour after an hour.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_core::authorization::policy::Action;
use mesh_core::labels::Labels;
use mesh_wire::admin::Denial;
use mesh_wire::reports::{MOST_PORTS, MOST_RECORDS, MOST_SEEN, Report, Seen, SeenKind};

use super::minutes::Minutes;
use crate::index::World;
use crate::index::changes::Named;
use crate::index::records::PodRecord;

/// The most rows.
const MOST_ROWS: usize = 20_000;

/// The most rows of one namespace's workloads, so that one that is noisy leaves the others their room.
const MOST_OF_NAMESPACE: usize = 4_000;

/// The most policies that are counted.
const MOST_POLICIES: usize = 10_000;

/// The most sidecars that are remembered.
const MOST_REPORTERS: usize = 50_000;

/// How many records are kept, and how many of one namespace.
const RECORDS: usize = 1024;
const RECORDS_OF_NAMESPACE: usize = 128;

/// The most characters of a policy's text: its kind and two names.
const MOST_POLICY: usize = 600;

/// The most characters of a set's name: a label's value.
const MOST_SET: usize = 63;

/// How long a sidecar is remembered after its last report, in seconds.
const REMEMBERED: u64 = 3600;

/// A sidecar that was silent for longer has missed two heartbeats: of the time between nothing is known.
pub const SILENCE: u64 = 90;

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Caller {
    /// Whom the caller proved to be.
    Identity(Arc<str>),
    /// A pod without the mesh's identity, by the address that it had then.
    Pod {
        /// The pod.
        pod: Named,
        /// What owns it.
        workload: Arc<str>,
        /// Its address.
        address: IpAddr,
    },
    /// An address of the host's network: a node, or what runs on it beside the pods' network.
    Node(IpAddr),
    /// An address of which nothing is known.
    Address(IpAddr),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => f.write_str(identity),
            Self::Pod { pod, workload, address } if pod.1 == *workload => {
                write!(f, "pod {}/{} ({address})", pod.0, pod.1)
            }
            Self::Pod { pod, workload, address } => {
                write!(f, "pod {}/{} of {workload} ({address})", pod.0, pod.1)
            }
            Self::Node(address) => write!(f, "node or host-network pod at {address}"),
            Self::Address(address) => write!(f, "{address}, which no pod has"),
        }
    }
}

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: SeenKind,
    policy: Arc<str>,
    set: Arc<str>,
    source: Source,
    destination: Named,
    port: u16,
}

/// A caller as a sidecar tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Identity(Arc<str>),
    Address(IpAddr),
}

#[derive(Debug)]
struct Entry {
    minutes: Minutes,
    last: u64,
    caller: Caller,
    labels: Arc<Labels>,
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What happened.
    pub kind: SeenKind,
    /// `KIND/NAMESPACE/NAME`, or `KIND` where no single policy did it; empty for callers in the clear.
    pub policy: Arc<str>,
    /// The set of candidates; empty where there is none.
    pub set: Arc<str>,
    /// Who called.
    pub source: Caller,
    /// Namespace and name of the workload that was called.
    pub destination: Named,
    /// Its labels when it told of this last.
    pub labels: Arc<Labels>,
    /// Its port.
    pub port: u16,
    /// How often in the last hour.
    pub count: u64,
    /// When last, in seconds since the epoch.
    pub last: u64,
}

/// A sidecar, as far as its reports tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporter {
    /// Its pod's labels.
    pub labels: Arc<Labels>,
    /// Up to when it has told, in seconds since the epoch.
    pub told_until: u64,
    /// Up to when nothing is known, where it was silent for too long before it told again.
    pub unknown_until: u64,
    /// When callers in the clear were last there, by port; port 0 stands for others.
    pub plaintext: Vec<(u16, u64)>,
    /// Whether it has ended, and said so.
    pub ended: bool,
    last_id: u64,
}

/// A denial, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The pod that was called.
    pub pod: Named,
    /// The record.
    pub denial: Arc<Denial>,
}

#[derive(Debug, Default)]
struct Held {
    rows: HashMap<Key, Entry>,
    of_namespace: HashMap<Arc<str>, usize>,
    policies: HashMap<Box<str>, Minutes>,
    reporters: HashMap<Named, Reporter>,
    records: VecDeque<Recorded>,
    swept: u64,
    dropped: u64,
}

/// What came of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entered {
    /// Whether it had been taken before.
    pub repeated: bool,
    /// What was counted: denials, would-be denials, callers in the clear.
    pub counted: [u64; 3],
    /// What found no room, here or in the sidecar, or made no sense.
    pub dropped: u64,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: usize,
    /// Sidecars.
    pub reporters: usize,
    /// What found no room since the process started.
    pub dropped: u64,
}

/// The ledger. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Held>>);

impl Ledger {
    /// Enters what a pod's sidecar reports at `now`, in seconds since the epoch.
    pub fn enter(&self, now: u64, report: &Report, pod: &Named, world: &World, root: &str) -> Entered {
        let Some(record) = world.pod_named(pod) else {
            return Entered::default();
        };
        let mut held = self.held();
        held.sweep(now);
        if held.reporters.get(pod).is_some_and(|known| known.last_id == report.id) {
            return Entered {
                repeated: true,
                ..Entered::default()
            };
        }
        let labels = held.reported(now, report, pod, record);
        let destination: Named = (pod.0.clone(), record.workload.as_ref().into());
        let mut entered = Entered {
            dropped: report.dropped,
            ..Entered::default()
        };
        for seen in report.seen.iter().take(MOST_SEEN) {
            match held.count(now, seen, pod, &destination, &labels, world, root) {
                Some(kind) => entered.counted[kind as usize - 1] += seen.count,
                None => entered.dropped += seen.count.max(1),
            }
        }
        for record in report.records.iter().take(MOST_RECORDS) {
            held.keep(pod, Arc::new(record.clone().into()));
        }
        held.dropped += entered.dropped;
        entered
    }

    /// How many calls a policy denied in the last hour. For one that allows: those that no ALLOW rule matched, at workloads
    /// that it is for.
    #[must_use]
    pub fn denials(&self, now: u64, kind: &str, namespace: &str, name: &str) -> u64 {
        let key = format!("{kind}/{namespace}/{name}");
        self.held()
            .policies
            .get(key.as_str())
            .map_or(0, |minutes| minutes.sum(now))
    }

    /// What a set of candidates would have denied in the last hour by one of its policies (`KIND/NAMESPACE/NAME`, or `KIND`),
    /// the most frequent first. The set "" is that of dry-run policies.
    #[must_use]
    pub fn would_deny(&self, now: u64, set: &str, policy: &str) -> Vec<Row> {
        self.rows(now, |key| {
            key.kind == SeenKind::WouldDeny && *key.set == *set && *key.policy == *policy
        })
    }

    /// Who called workloads of a namespace in the clear in the last hour, the most frequent first.
    #[must_use]
    pub fn plaintext(&self, now: u64, namespace: &str) -> Vec<Row> {
        self.rows(now, |key| {
            key.kind == SeenKind::Plaintext && *key.destination.0 == *namespace
        })
    }

    /// Everything about the workloads of a namespace, or of all.
    #[must_use]
    pub fn of_namespace(&self, now: u64, namespace: Option<&str>) -> Vec<Row> {
        self.rows(now, |key| namespace.is_none_or(|only| *key.destination.0 == *only))
    }

    /// The sidecars of a namespace that have reported in the last hour.
    #[must_use]
    pub fn reporters(&self, namespace: &str) -> Vec<(Named, Reporter)> {
        let held = self.held();
        let of = held.reporters.iter().filter(|(pod, _)| *pod.0 == *namespace);
        of.map(|(pod, reporter)| (pod.clone(), reporter.clone())).collect()
    }

    /// The last denials at workloads of a namespace, or of all, oldest first.
    #[must_use]
    pub fn records(&self, namespace: Option<&str>) -> Vec<Recorded> {
        let held = self.held();
        let of = |recorded: &&Recorded| namespace.is_none_or(|only| *recorded.pod.0 == *only);
        held.records.iter().filter(of).cloned().collect()
    }

    /// How much there is.
    #[must_use]
    pub fn size(&self) -> Size {
        let held = self.held();
        Size {
            rows: held.rows.len(),
            reporters: held.reporters.len(),
            dropped: held.dropped,
        }
    }

    /// Forgets who has told up to when: sidecars are heard elsewhere from now on. What they told stays.
    pub fn forget_sidecars(&self) {
        self.held().reporters.clear();
    }

    fn rows(&self, now: u64, is: impl Fn(&Key) -> bool) -> Vec<Row> {
        let held = self.held();
        let mut rows: Vec<Row> = held
            .rows
            .iter()
            .filter(|(key, _)| is(key))
            .map(|(key, entry)| Row {
                kind: key.kind,
                policy: key.policy.clone(),
                set: key.set.clone(),
                source: entry.caller.clone(),
                destination: key.destination.clone(),
                labels: entry.labels.clone(),
                port: key.port,
                count: entry.minutes.sum(now),
                last: entry.last,
            })
            .collect();
        drop(held);
        rows.sort_by(|a, b| {
            let place = |row: &Row| (std::cmp::Reverse(row.count), std::cmp::Reverse(row.last));
            let name = |row: &Row| (row.source.clone(), row.destination.clone(), row.port);
            place(a).cmp(&place(b)).then_with(|| name(a).cmp(&name(b)))
        });
        rows
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes note of a sidecar's being there; its pod's labels.
    fn reported(&mut self, now: u64, report: &Report, pod: &Named, record: &PodRecord) -> Arc<Labels> {
        let told_until = now.saturating_sub(report.age);
        let began = told_until.saturating_sub(report.seconds);
        let known = self.reporters.get(pod);
        let labels = known.map(|known| known.labels.clone());
        let labels = labels
            .filter(|labels| **labels == record.labels)
            .unwrap_or_else(|| Arc::new(record.labels.clone()));
        let unknown_until = known.map_or(0, |known| {
            let silent = !known.ended && began > known.told_until + SILENCE;
            known.unknown_until.max(if silent { began } else { 0 })
        });
        // An earlier process of the pod may have been the last to see one.
        let mut plaintext: HashMap<u16, u64> =
            known.map_or_else(HashMap::new, |known| known.plaintext.iter().copied().collect());
        for seen in report.plaintext.iter().take(MOST_PORTS) {
            let last = plaintext.entry(u16::try_from(seen.port).unwrap_or(0)).or_default();
            *last = (*last).max(seen.last.min(now));
        }
        // Whoever called since the last report is taken to have called up to this one: clocks differ.
        for seen in report.seen.iter().filter(|seen| seen.kind() == SeenKind::Plaintext) {
            plaintext.insert(u16::try_from(seen.port).unwrap_or(0), told_until);
        }
        let mut plaintext: Vec<(u16, u64)> = plaintext.into_iter().collect();
        plaintext.sort_unstable();
        if self.reporters.len() < MOST_REPORTERS || known.is_some() {
            let reporter = Reporter {
                labels: labels.clone(),
                told_until,
                unknown_until,
                plaintext,
                ended: report.ends,
                last_id: report.id,
            };
            self.reporters.insert(pod.clone(), reporter);
        }
        labels
    }

    /// Counts one thing that was seen; `None` where it makes no sense or finds no room.
    #[allow(clippy::too_many_arguments, reason = "what a row is made of")]
    fn count(
        &mut self,
        now: u64,
        seen: &Seen,
        pod: &Named,
        destination: &Named,
        labels: &Arc<Labels>,
        world: &World,
        root: &str,
    ) -> Option<SeenKind> {
        let kind = seen.kind();
        let sensible = match kind {
            SeenKind::Invalid => false,
            SeenKind::Plaintext => seen.policy.is_empty() && seen.set.is_empty(),
            SeenKind::Denied => seen.set.is_empty() && may_tell_of(&seen.policy, &pod.0, root),
            SeenKind::WouldDeny => seen.set.len() <= MOST_SET && may_tell_of(&seen.policy, &pod.0, root),
        };
        let source = source(seen)?;
        let key = Key {
            kind,
            policy: seen.policy.as_str().into(),
            set: seen.set.as_str().into(),
            source,
            destination: destination.clone(),
            port: u16::try_from(seen.port).ok().filter(|port| *port != 0)?,
        };
        if !sensible {
            return None;
        }
        if kind == SeenKind::Denied {
            for policy in denied_by(&seen.policy, pod, labels, world, root) {
                if self.policies.len() < MOST_POLICIES || self.policies.contains_key(policy.as_str()) {
                    self.policies.entry(policy.into()).or_default().add(now, seen.count);
                }
            }
        }
        let last = seen.last.min(now);
        if let Some(entry) = self.rows.get_mut(&key) {
            entry.minutes.add(now, seen.count);
            entry.last = entry.last.max(last);
            entry.labels.clone_from(labels);
            // The address may be another pod's by now; one that nobody has any more was that of who called.
            if let Source::Address(address) = key.source {
                let caller = at(address, world);
                if !matches!(caller, Caller::Address(_)) {
                    entry.caller = caller;
                }
            }
            return Some(kind);
        }
        let of_namespace = self.of_namespace.entry(destination.0.clone()).or_default();
        if self.rows.len() >= MOST_ROWS || *of_namespace >= MOST_OF_NAMESPACE {
            return None;
        }
        *of_namespace += 1;
        let mut minutes = Minutes::default();
        minutes.add(now, seen.count);
        let caller = match &key.source {
            Source::Identity(identity) => Caller::Identity(identity.clone()),
            Source::Address(address) => at(*address, world),
        };
        let entry = Entry {
            minutes,
            last,
            caller,
            labels: labels.clone(),
        };
        self.rows.insert(key, entry);
        Some(kind)
    }

    fn keep(&mut self, pod: &Named, denial: Arc<Denial>) {
        let of_namespace = |recorded: &Recorded| recorded.pod.0 == pod.0;
        if self.records.iter().filter(|recorded| of_namespace(recorded)).count() >= RECORDS_OF_NAMESPACE {
            if let Some(oldest) = self.records.iter().position(of_namespace) {
                self.records.remove(oldest);
            }
        } else if self.records.len() >= RECORDS {
            self.records.pop_front();
        }
        self.records.push_back(Recorded {
            pod: pod.clone(),
            denial,
        });
    }

    /// Forgets what is older than an hour, once a minute.
    fn sweep(&mut self, now: u64) {
        if now / 60 == self.swept {
            return;
        }
        self.swept = now / 60;
        self.rows
            .retain(|_, entry| entry.minutes.sum(now) > 0 || entry.last + REMEMBERED > now);
        self.policies.retain(|_, minutes| minutes.sum(now) > 0);
        self.reporters
            .retain(|_, reporter| reporter.told_until + REMEMBERED > now);
        self.of_namespace.clear();
        for key in self.rows.keys() {
            *self.of_namespace.entry(key.destination.0.clone()).or_default() += 1;
        }
    }
}

/// Whether a pod of a namespace may tell of a policy: one of its namespace or of the root namespace, or a kind alone.
fn may_tell_of(policy: &str, namespace: &str, root: &str) -> bool {
    let mut parts = policy.split('/');
    let (kind, of, name, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    policy.len() <= MOST_POLICY
        && kind.is_some_and(|kind| !kind.is_empty())
        && rest.is_none()
        && match (of, name) {
            (None, _) => true,
            (Some(of), Some(name)) => (of == namespace || of == root) && !name.is_empty(),
            (Some(_), None) => false,
        }
}

/// The policies that a denial counts for: the one that is named, or all that might have let the call pass.
fn denied_by(policy: &str, pod: &Named, labels: &Labels, world: &World, root: &str) -> Vec<String> {
    let enforced = world.enforced();
    match policy {
        "AuthorizationPolicy" => {
            let all = enforced.authorization().concerning(root, &pod.0, labels);
            let allow = all.filter(|entry| entry.policy.action == Action::Allow && !entry.policy.dry_run);
            allow
                .map(|entry| format!("{policy}/{}/{}", entry.name.0, entry.name.1))
                .collect()
        }
        "RequestAuthentication" => {
            let all = enforced.tokens().concerning(root, &pod.0, labels);
            all.map(|entry| format!("{policy}/{}/{}", entry.name.0, entry.name.1))
                .collect()
        }
        named => vec![named.to_owned()],
    }
}

fn source(seen: &Seen) -> Option<Source> {
    if seen.identity.is_empty() {
        let address: IpAddr = seen.address.parse().ok()?;
        return Some(Source::Address(address.to_canonical()));
    }
    let identity: mesh_core::identity::SpiffeId = seen.identity.parse().ok()?;
    Some(Source::Identity(identity.to_string().into()))
}

/// Who has an address now.
fn at(address: IpAddr, world: &World) -> Caller {
    match world.pod_by_address(address) {
        Some((pod, record)) => Caller::Pod {
            pod: pod.clone(),
            workload: record.workload.as_ref().into(),
            address,
        },
        None if world.is_host(address) => Caller::Node(address),
        None => Caller::Address(address),
    }
}
