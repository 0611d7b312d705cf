//! What the data path reads of the mesh.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::destination::Destination;
use mesh_core::jwt::UnknownKey;
use mesh_core::peer_authentication::{Effective, PortMode};
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::convert::{TrustBundle, Workload};
use mesh_wire::request_authentication::RequestAuthentications;
use tokio::sync::{mpsc, watch};

use crate::cluster::{Cluster, Clusters, Place};

use super::authorization::{Authorization, Compiled, Parts, Ready};
use super::candidates::Candidates;
use super::freshness::{Freshness, Moment};
use super::keys::{KeyWait, Keys, NoWait};
use super::name::{Kind, Name};
use super::table::{Forget, Inserted, Known, Slot, Table};

/// How much is kept and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most host names, found and absent ones together.
    pub hosts: usize,
    /// The most addresses, found and absent ones together.
    pub addresses: usize,
    /// The most addresses of clients, found and absent ones together.
    pub peers: usize,
    /// The most names that DNS is asked for, found and absent ones together.
    pub names: usize,
    /// How long a name must have gone unused before a full table may forget it.
    pub forget_after: Duration,
    /// How long a first use waits for the operator's answer.
    pub first_use: Duration,
    /// How long the first question for a name waits for the operator's answer: who asked gives up soon, and others are asked
    /// after it.
    pub first_question: Duration,
    /// The most changes of subscriptions that wait for the client.
    pub queue: usize,
    /// How long a request waits for a key that its token asks for and that is not known.
    pub key_wait: Duration,
    /// The least time between two askings for keys of one origin.
    pub keys_apart: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hosts: 10_000,
            addresses: 10_000,
            peers: 10_000,
            names: 5_000,
            forget_after: Duration::from_secs(600),
            first_use: Duration::from_secs(5),
            first_question: Duration::from_secs(1),
            queue: 1024,
            key_wait: Duration::from_secs(5),
            keys_apart: Duration::from_secs(1),
        }
    }
}

/// What is known of a destination right now.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// It is this one.
    Found(Arc<Cluster>),
    /// The mesh knows nothing of it.
    Absent,
    /// Nobody has asked yet, or the answer is still to come.
    Unknown,
}

/// What came of asking for a destination.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It is this one.
    Found(Arc<Cluster>),
    /// The mesh knows nothing of it.
    Absent,
    /// No operator answered in time, or the table is full of what is in use.
    Unavailable,
}

/// Names whose subscription is to change, on their way to the client. Whether one is to be subscribed to or not, the table
/// says when it is sent.
#[derive(Debug)]
pub struct Requests {
    pub(super) names: mpsc::Receiver<Arc<str>>,
    /// Origins whose keys are asked for.
    pub(super) keys: mpsc::Receiver<Arc<str>>,
}

/// What the operator said. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
}

/// The versions under which the resources were sent of which a proxy has exactly one; empty for what was not received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnVersions {
    /// The trust bundle's.
    pub trust: String,
    /// The workload's.
    pub workload: String,
    /// The inbound policy's.
    pub inbound: String,
    /// The AuthorizationPolicies'.
    pub authorization: String,
    /// The RequestAuthentications'.
    pub tokens: String,
    /// The candidate sets'.
    pub candidates: String,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    workload: ArcSwap<Workload>,
    workload_received: AtomicBool,
    workload_changes: watch::Sender<()>,
    inbound: ArcSwapOption<Effective>,
    inbound_changes: watch::Sender<()>,
    authorization: ArcSwapOption<Authorization>,
    /// Whether there is any candidate set.
    has_candidates: AtomicBool,
    /// What it was made from.
    authorization_parts: Mutex<Parts>,
    trust: watch::Sender<Option<Arc<TrustBundle>>>,
    versions: Mutex<OwnVersions>,
    hosts: Table,
    addresses: Table,
    peers: Table,
    clusters: Clusters,
    names: Table,
    requests: mpsc::Sender<Arc<str>>,
    keys: Arc<Keys>,
    connected: AtomicBool,
    /// When that last changed.
    connection_changed: Moment,
    /// When anything was last received.
    last_update: Moment,
    freshness: Freshness,
    /// What the tables' coarse clock counts from.
    started: Instant,
}

impl Mesh {
    /// An empty mesh, and the requests that it makes of its [`Client`](super::Client).
    #[must_use]
    pub fn new(limits: Limits) -> (Self, Requests) {
        let (requests, names) = mpsc::channel(limits.queue.max(1));
        let (keys, asked) = Keys::new(limits);
        let shared = Shared {
            limits,
            workload: ArcSwap::default(),
            workload_received: AtomicBool::new(false),
            workload_changes: watch::Sender::new(()),
            inbound: ArcSwapOption::empty(),
            inbound_changes: watch::Sender::new(()),
            authorization: ArcSwapOption::empty(),
            has_candidates: AtomicBool::new(false),
            authorization_parts: Mutex::default(),
            trust: watch::Sender::new(None),
            versions: Mutex::default(),
            hosts: Table::new(limits.hosts),
            addresses: Table::new(limits.addresses),
            peers: Table::new(limits.peers),
            clusters: Clusters::default(),
            names: Table::new(limits.names),
            requests,
            keys,
            connected: AtomicBool::new(false),
            connection_changed: Moment::default(),
            last_update: Moment::default(),
            freshness: Freshness::default(),
            started: Instant::now(),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            Requests { names, keys: asked },
        )
    }

    /// What this pod is; the default before it was received.
    #[must_use]
    pub fn workload(&self) -> Arc<Workload> {
        self.shared.workload.load_full()
    }

    /// Tells of each change of what this pod is.
    #[must_use]
    pub fn workload_changes(&self) -> watch::Receiver<()> {
        self.shared.workload_changes.subscribe()
    }

    /// The modes in force on this pod's ports; STRICT before they were received, since what is not known is refused.
    #[must_use]
    pub fn inbound(&self) -> Arc<Effective> {
        self.inbound_policy().unwrap_or_else(|| {
            Arc::new(Effective {
                mode: PortMode::Strict,
                ..Effective::default()
            })
        })
    }

    /// The modes in force on this pod's ports; `None` before they were received.
    #[must_use]
    pub fn inbound_policy(&self) -> Option<Arc<Effective>> {
        self.shared.inbound.load_full()
    }

    /// What decides about calls to the pod beside PeerAuthentication; `None` before it was received, when nothing may be
    /// let through. Neither locks nor allocates.
    #[must_use]
    pub fn authorization(&self) -> Option<Arc<Authorization>> {
        self.shared.authorization.load_full()
    }

    /// What decides about calls where something is tried beside it: `None` where there is no candidate set, which costs no more
    /// than to look.
    #[must_use]
    pub fn trying(&self) -> Option<Arc<Authorization>> {
        if !self.shared.has_candidates.load(Ordering::Relaxed) {
            return None;
        }
        self.authorization()
            .filter(|authorization| authorization.candidates.is_some())
    }

    /// The candidate sets that concern the pod, as the operator sent them; `None` where there are none.
    #[must_use]
    pub fn candidates(&self) -> Option<Arc<Candidates>> {
        self.authorization_parts().candidates.clone()
    }

    /// The AuthorizationPolicies and RequestAuthentications in force, as the operator sent them; `None` before both were
    /// received.
    #[must_use]
    pub fn authorization_resources(&self) -> Option<(Arc<AuthorizationPolicies>, Arc<RequestAuthentications>)> {
        let parts = self.authorization_parts();
        Some((
            parts.policies.as_ref()?.received.clone(),
            parts.tokens.as_ref()?.received.clone(),
        ))
    }

    /// Tells of each change of the inbound policy, of AuthorizationPolicies and of RequestAuthentications.
    #[must_use]
    pub fn inbound_changes(&self) -> watch::Receiver<()> {
        self.shared.inbound_changes.subscribe()
    }

    /// Whom the mesh trusts, now and as it changes; `None` before it was received.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        self.shared.trust.subscribe()
    }

    /// Whether workload, trust bundle and all policies have been received.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.has_workload()
            && self.shared.inbound.load().is_some()
            && self.shared.authorization.load().is_some()
            && self.shared.trust.borrow().is_some()
    }

    /// What is known of a host, as the application wrote it without its port, and the port that it dialled. Neither locks
    /// nor allocates.
    #[must_use]
    pub fn lookup_host(&self, host: &str, port: u16) -> Lookup {
        Name::host(host, port).map_or(Lookup::Absent, |name| self.lookup(&self.shared.hosts, &name))
    }

    /// What is known of an address. Neither locks nor allocates.
    #[must_use]
    pub fn lookup_address(&self, address: SocketAddr) -> Lookup {
        Name::address(address).map_or(Lookup::Absent, |name| self.lookup(&self.shared.addresses, &name))
    }

    /// The destination behind a host and port. The first use asks the operator and waits at most [`Limits::first_use`];
    /// concurrent first uses share one subscription.
    pub async fn host(&self, host: &str, port: u16) -> Answer {
        match Name::host(host, port) {
            Some(name) => self.ask(&self.shared.hosts, &name, self.shared.limits.first_use).await,
            None => Answer::Absent,
        }
    }

    /// The destination behind an address, likewise.
    pub async fn address(&self, address: SocketAddr) -> Answer {
        match Name::address(address) {
            Some(name) => {
                self.ask(&self.shared.addresses, &name, self.shared.limits.first_use)
                    .await
            }
            None => Answer::Absent,
        }
    }

    /// Asks for the destination behind a host and port before it is used. A full table takes no more.
    pub(super) async fn fetch_host(&self, host: &str, port: u16) {
        if let Some(name) = Name::host(host, port) {
            self.slot(&self.shared.hosts, &name).await;
        }
    }

    /// Asks for the destination behind an address, likewise.
    pub(super) async fn fetch_address(&self, address: SocketAddr) {
        if let Some(name) = Name::address(address) {
            self.slot(&self.shared.addresses, &name).await;
        }
    }

    /// Who calls from an address, as far as it is known. Neither locks nor allocates.
    #[must_use]
    pub fn lookup_peer(&self, address: IpAddr) -> Lookup {
        Name::peer(address).map_or(Lookup::Absent, |name| self.lookup(&self.shared.peers, &name))
    }

    /// Who calls from an address, asked for like a destination. For what is said of a call, which itself does not wait.
    pub async fn peer(&self, address: IpAddr) -> Answer {
        match Name::peer(address) {
            Some(name) => self.ask(&self.shared.peers, &name, self.shared.limits.first_use).await,
            None => Answer::Absent,
        }
    }

    /// The addresses of a name, asked for like a destination. What is not known while no stream is open is not waited for:
    /// the cluster's DNS knows most of it too.
    pub async fn name(&self, host: &str) -> Answer {
        let Some(name) = Name::dns(host) else {
            return Answer::Absent;
        };
        let wait = if self.connected() || !self.is_ready() {
            self.shared.limits.first_question
        } else {
            Duration::ZERO
        };
        self.ask(&self.shared.names, &name, wait).await
    }

    /// Waits for keys that a request's tokens ask for and that are not known: the operator is asked to fetch them again.
    ///
    /// # Errors
    /// [`NoWait`], where there is nothing to wait for.
    pub fn wait_for_keys(&self, unknown: &[UnknownKey]) -> Result<KeyWait, NoWait> {
        self.shared.keys.wait(unknown)
    }

    /// What is known of destinations from using them.
    #[must_use]
    pub fn clusters(&self) -> &Clusters {
        &self.shared.clusters
    }

    /// A destination in use, as seen from where the pod is.
    pub(crate) fn cluster(&self, destination: impl Into<Arc<Destination>>) -> Arc<Cluster> {
        self.clusters()
            .cluster(destination.into(), &Place::from(&**self.shared.workload.load()))
    }

    /// Whether a stream to an operator is open.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// When the operator last said anything that changed what is known; `None` before it did.
    #[must_use]
    pub fn last_update(&self) -> Option<SystemTime> {
        self.shared.last_update.get()
    }

    /// Since when a stream is open, or is not any more; `None` before the first one.
    #[must_use]
    pub fn connection_changed(&self) -> Option<SystemTime> {
        self.shared.connection_changed.get()
    }

    fn lookup(&self, table: &Table, name: &Name) -> Lookup {
        let found = table.look(name.as_str(), |slot| {
            slot.touch(self.now());
            match slot.known().as_deref() {
                Some(Known::Found { cluster, .. }) => Lookup::Found(cluster.clone()),
                Some(Known::Absent) => Lookup::Absent,
                None => Lookup::Unknown,
            }
        });
        found.unwrap_or(Lookup::Unknown)
    }

    async fn ask(&self, table: &Table, name: &Name, patience: Duration) -> Answer {
        let wait = async {
            let slot = self.slot(table, name).await?;
            Some(match &*slot.wait().await {
                Known::Found { cluster, .. } => Answer::Found(cluster.clone()),
                Known::Absent => Answer::Absent,
            })
        };
        match self.lookup(table, name) {
            Lookup::Found(cluster) => Answer::Found(cluster),
            Lookup::Absent => Answer::Absent,
            Lookup::Unknown => {
                let answer = tokio::time::timeout(patience, wait).await;
                answer.ok().flatten().unwrap_or(Answer::Unavailable)
            }
        }
    }

    /// The slot of a name; a new one is asked for. `None` when the table is full of what is in use, or there is no client.
    async fn slot(&self, table: &Table, name: &Name) -> Option<Arc<Slot>> {
        if let Some(slot) = table.get(name.as_str()) {
            return Some(slot);
        }
        // A place in the queue first: who stops waiting halfway must not leave a name that nobody asks for.
        let place = self.shared.requests.reserve().await.ok()?;
        let unused = u32::try_from(self.shared.limits.forget_after.as_secs()).unwrap_or(u32::MAX);
        let forget = Forget {
            known: self.connected(),
            unused,
        };
        match table.insert(name.as_str(), self.now(), forget) {
            Inserted::Held(slot) => Some(slot),
            Inserted::New { slot, forgotten } => {
                place.send(name.as_str().into());
                for name in forgotten {
                    // What finds no place now is given up when the operator next says something of it.
                    let _ = self.shared.requests.try_send(name);
                }
                Some(slot)
            }
            Inserted::Full => {
                tracing::debug!(name = name.as_str(), "no room for another destination");
                None
            }
        }
    }

    /// Seconds since this mesh was made.
    pub(super) fn now(&self) -> u32 {
        u32::try_from(self.shared.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }
}

/// What the client writes.
impl Mesh {
    pub(super) fn set_connected(&self, connected: bool) {
        self.shared.connected.store(connected, Ordering::Relaxed);
        self.shared.connection_changed.set(SystemTime::now());
        self.shared.freshness.confirm(SystemTime::now());
    }

    pub(super) fn updated(&self) {
        self.shared.last_update.set(SystemTime::now());
        self.shared.freshness.changed.notify_one();
    }

    pub(super) fn freshness(&self) -> &Freshness {
        &self.shared.freshness
    }

    /// Makes a slot for a name that the data path asked for in an earlier life. A full table takes no more.
    pub(super) fn expect(&self, name: &str) {
        let nothing = Forget {
            known: false,
            unused: u32::MAX,
        };
        self.table_of(name).insert(name, self.now(), nothing);
    }

    pub(super) fn set_trust(&self, bundle: TrustBundle, version: &str) {
        version.clone_into(&mut self.versions().trust);
        let bundle = Arc::new(bundle);
        self.shared.trust.send_if_modified(|held| {
            let changed = held.as_ref() != Some(&bundle);
            if changed {
                *held = Some(bundle);
            }
            changed
        });
    }

    pub(super) fn set_workload(&self, workload: Workload, version: &str) {
        version.clone_into(&mut self.versions().workload);
        let before = self.workload();
        if *before != workload {
            let moved = Place::from(&*before) != Place::from(&workload);
            self.shared.workload.store(Arc::new(workload));
            if moved {
                self.place_anew();
            }
            self.shared.workload_changes.send_replace(());
        }
        self.shared.workload_received.store(true, Ordering::Release);
    }

    /// Has what is known of destinations be seen from where the pod is now.
    fn place_anew(&self) {
        for (_, slot) in self.asked() {
            let known = slot.known();
            if let Some(Known::Found { cluster, version }) = known.as_deref() {
                let version = version.clone();
                let cluster = self.cluster(cluster.destination().clone());
                slot.set(Known::Found { cluster, version });
            }
        }
    }

    pub(super) fn set_inbound(&self, effective: Effective, version: &str) {
        version.clone_into(&mut self.versions().inbound);
        self.shared.inbound.store(Some(Arc::new(effective)));
        self.shared.inbound_changes.send_replace(());
    }

    pub(super) fn set_authorization(&self, policies: Compiled, version: &str) {
        version.clone_into(&mut self.versions().authorization);
        self.change_authorization(|parts| parts.policies = Some(policies));
    }

    pub(super) fn set_tokens(&self, tokens: Ready, version: &str) {
        version.clone_into(&mut self.versions().tokens);
        let origins = tokens.origins.clone();
        self.change_authorization(|parts| {
            let kept = parts
                .tokens
                .as_ref()
                .map(|before| tokens.clone().keeping(before, SystemTime::now()));
            // What was read once is read again.
            parts.tokens = Some(kept.and_then(Result::ok).unwrap_or(tokens));
        });
        self.shared.keys.renewed(&origins);
    }

    pub(super) fn set_candidates(&self, candidates: Option<Candidates>, version: &str) {
        version.clone_into(&mut self.versions().candidates);
        self.shared
            .has_candidates
            .store(candidates.is_some(), Ordering::Relaxed);
        self.change_authorization(|parts| parts.candidates = candidates.map(Arc::new));
    }

    fn change_authorization(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.authorization_parts();
        change(&mut parts);
        self.shared.authorization.store(parts.together().map(Arc::new));
        drop(parts);
        self.shared.inbound_changes.send_replace(());
    }

    fn authorization_parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        let parts = &self.shared.authorization_parts;
        parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The versions held of what there is one of; empty for what was not received.
    #[must_use]
    pub fn own_versions(&self) -> OwnVersions {
        self.versions().clone()
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    pub(super) fn has_workload(&self) -> bool {
        self.shared.workload_received.load(Ordering::Acquire)
    }

    /// The slot of a resource name, if the data path asked for it and it is not forgotten.
    pub(super) fn slot_named(&self, name: &str) -> Option<Arc<Slot>> {
        self.table_of(name).get(name)
    }

    fn table_of(&self, name: &str) -> &Table {
        match Kind::of(name) {
            Kind::Host => &self.shared.hosts,
            Kind::Address => &self.shared.addresses,
            Kind::Peer => &self.shared.peers,
            Kind::Dns => &self.shared.names,
        }
    }

    /// All names that the data path asked for.
    pub(super) fn asked(&self) -> Vec<(Arc<str>, Arc<Slot>)> {
        let mut all = self.shared.hosts.all();
        all.extend(self.shared.addresses.all());
        all.extend(self.shared.peers.all());
        all.extend(self.shared.names.all());
        all
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, OwnVersions> {
        self.shared.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
