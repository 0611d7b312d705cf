//! What outlives versions of a destination: by cluster and address, for as long as any version in use has the endpoint.

use super::health::Health;
use super::{Cluster, Parts};
use mesh_core::balance::Client;
use mesh_core::destination::{Destination, Name, Subset};
use mesh_core::labels::Labels;
use mesh_core::traffic::{Locality, OutlierDetection};
use mesh_wire::convert::Workload;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often endpoints that were ejected are looked at, at the most.
const LOOK: Duration = Duration::from_millis(100);

/// Where the proxy's own pod is, and what its labels are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Place {
    /// Its place; `None` where that is not known.
    pub locality: Option<Locality>,
    /// Its labels.
    pub labels: Labels,
}

impl From<&Workload> for Place {
    fn from(workload: &Workload) -> Self {
        Self {
            locality: workload.locality.clone(),
            labels: workload.labels.clone(),
        }
    }
}

impl Place {
    pub(super) fn client(&self) -> Client<'_> {
        Client {
            locality: self.locality.as_ref(),
            labels: &self.labels,
        }
    }
}

/// An endpoint of a cluster.
#[derive(Debug)]
pub(super) struct Host {
    under_way: AtomicU32,
    /// Whether it is left out.
    ejected: AtomicBool,
    /// Whether it failed since it last succeeded.
    pub(super) troubled: AtomicBool,
    pub(super) health: Mutex<Health>,
    /// When it was first seen, by the registry's clock.
    since: Duration,
}

impl Host {
    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    pub(super) fn set_ejected(&self, ejected: bool) {
        self.ejected.store(ejected, Ordering::Relaxed);
    }

    pub(super) fn since(&self) -> Duration {
        self.since
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all versions of a cluster have in common.
#[derive(Debug)]
pub(super) struct State {
    pub(super) name: Box<str>,
    shared: Arc<Shared>,
    hosts: Mutex<HashMap<SocketAddr, Weak<Host>>>,
    /// Changes with who is ejected.
    epoch: AtomicU64,
    /// The newest version's.
    rule: Mutex<Option<OutlierDetection>>,
    /// When its hosts were last looked at, by the registry's clock. Held while one is ejected.
    pub(super) looked: Mutex<Duration>,
}

impl State {
    /// Of each address, what is known of it or new.
    pub(super) fn hosts(&self, addresses: impl Iterator<Item = SocketAddr>) -> Box<[Arc<Host>]> {
        let mut known = lock(&self.hosts);
        let since = self.now();
        let hosts: Box<[_]> = addresses
            .map(|address| {
                if let Some(host) = known.get(&address).and_then(Weak::upgrade) {
                    return host;
                }
                let host = Arc::new(Host {
                    under_way: AtomicU32::new(0),
                    ejected: AtomicBool::new(false),
                    troubled: AtomicBool::new(false),
                    health: Mutex::default(),
                    since,
                });
                known.insert(address, Arc::downgrade(&host));
                host
            })
            .collect();
        known.retain(|_, host| host.strong_count() > 0);
        hosts
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Has plans be made anew.
    pub(super) fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// The registry's clock.
    pub(super) fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Has ejected hosts be looked at.
    pub(super) fn look_after(&self) {
        self.shared.ejected.notify_one();
    }

    pub(super) fn rule(&self) -> Option<OutlierDetection> {
        lock(&self.rule).clone()
    }

    pub(super) fn all_hosts(&self) -> Vec<Arc<Host>> {
        lock(&self.hosts).values().filter_map(Weak::upgrade).collect()
    }
}

#[derive(Debug)]
struct Shared {
    states: Mutex<HashMap<Box<str>, Weak<State>>>,
    started: Instant,
    /// Told when a host is ejected.
    ejected: Notify,
}

/// All clusters' states. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clusters {
    shared: Arc<Shared>,
}

impl Default for Clusters {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                states: Mutex::default(),
                started: Instant::now(),
                ejected: Notify::new(),
            }),
        }
    }
}

impl Clusters {
    /// A destination in use, with its subsets and those that its routes lead to, as seen from the proxy's place.
    #[must_use]
    pub fn cluster(&self, destination: Arc<Destination>, place: &Place) -> Arc<Cluster> {
        let others = destination.routes.iter().flat_map(|routes| &routes.destinations);
        let parts = Parts {
            subsets: destination
                .subsets
                .iter()
                .map(|it| self.one(subset(&destination, it), place, Parts::default()))
                .collect(),
            // None of them has routes of its own.
            others: others.map(|other| self.cluster(other.clone(), place)).collect(),
        };
        self.one(destination, place, parts)
    }

    fn one(&self, destination: Arc<Destination>, place: &Place, parts: Parts) -> Arc<Cluster> {
        let state = self.state(&destination.cluster_name());
        lock(&state.rule).clone_from(&destination.traffic.outliers);
        Arc::new(Cluster::new(destination, state, place, parts))
    }

    fn state(&self, name: &str) -> Arc<State> {
        let mut states = lock(&self.shared.states);
        if let Some(state) = states.get(name).and_then(Weak::upgrade) {
            return state;
        }
        states.retain(|_, state| state.strong_count() > 0);
        let state = Arc::new(State {
            name: name.into(),
            shared: self.shared.clone(),
            hosts: Mutex::default(),
            epoch: AtomicU64::new(0),
            rule: Mutex::default(),
            looked: Mutex::default(),
        });
        states.insert(name.into(), Arc::downgrade(&state));
        state
    }

    /// Ends ejections in time, for as long as it is polled.
    pub async fn look_after(self) {
        loop {
            self.shared.ejected.notified().await;
            loop {
                tokio::time::sleep(LOOK).await;
                if !self.look(self.shared.started.elapsed()) {
                    break;
                }
            }
        }
    }

    /// Looks at what is ejected; whether there is anything to look at later.
    pub(super) fn look(&self, now: Duration) -> bool {
        let states: Vec<Arc<State>> = lock(&self.shared.states).values().filter_map(Weak::upgrade).collect();
        // Every one of them is looked at.
        states.iter().filter(|state| state.look(now)).count() > 0
    }
}

/// The destination that a subset is.
fn subset(destination: &Destination, subset: &Subset) -> Arc<Destination> {
    let endpoints = subset.endpoints.iter();
    Arc::new(Destination {
        host: destination.host.clone(),
        subset: subset.name.clone(),
        namespace: destination.namespace.clone(),
        port: destination.port,
        protocol: destination.protocol,
        resolution: destination.resolution,
        endpoints: endpoints
            .filter_map(|at| destination.endpoints.get(*at as usize).cloned())
            .collect(),
        unready: Vec::new(),
        identities: destination.identities.clone(),
        rule: destination.rule.clone(),
        tls: subset.tls.clone(),
        traffic: subset.traffic.clone(),
        subsets: Vec::new(),
        routes: None,
        names: (0..)
            .zip(&subset.endpoints)
            .flat_map(|(place, at)| {
                let names = destination.names.iter().filter(move |name| name.endpoint == *at);
                names.map(move |name| Name {
                    endpoint: place,
                    ..name.clone()
                })
            })
            .collect(),
        by_sni: destination.by_sni,
    })
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
