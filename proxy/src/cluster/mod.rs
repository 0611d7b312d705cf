//! A destination in use: what the operator said of it ([`Destination`]), and what the proxy knows of its endpoints from using
//! them, which outlives versions and is shared by all workers.
//!
//! A [`Cluster`] is made once per version, where the operator's answer is applied, for the destination, for each of its
//! subsets and for each destination that its routes lead to. A request takes no lock: it chooses an endpoint by a plan that
//! was made before ([`mesh_core::balance`]), counts itself as under way ([`Use`]) and reports what became of it.
//! [`registry`] holds what outlives versions, [`health`] leaves out endpoints that fail.

mod health;
mod registry;
mod usage;

pub use registry::{Clusters, Place};
pub use usage::Use;

use crate::resolve::{Known, is_concrete};
use arc_swap::{ArcSwap, Guard};
use mesh_core::balance::{self, Draws, Layout, Member, Outcome, Placed, Plan};
use mesh_core::destination::{Destination, Resolution};
use mesh_core::routing::{InSubset, Leads, Target};
use mesh_core::traffic::{Balancer, HashKey};
use registry::{Host, State};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many draws are made for an endpoint that was not tried, before the first such is taken.
const REDRAWS: u64 = 4;

/// How often shares grow while endpoints warm up.
const WARMING: Duration = Duration::from_secs(1);

/// What an endpoint is chosen for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The hash of the key that [`Cluster::hash_key`] asks for ([`balance::hash`]), where the request has one.
    pub hash: Option<u64>,
    /// What the client dialled: the endpoint, where it chooses itself (a headless Service, a pod).
    pub dialled: SocketAddr,
    /// What was tried before; taken again only where nothing else is left.
    pub tried: &'a [usize],
    /// Whether another priority is preferred to those that were tried (`retryRemoteLocalities`).
    pub elsewhere: bool,
}

/// A destination, or one of its subsets, in use. It reads as its [`Destination`]: a subset's has the subset's endpoints, TLS
/// and traffic policy.
pub struct Cluster {
    destination: Arc<Destination>,
    subsets: Box<[Arc<Cluster>]>,
    others: Box<[Arc<Cluster>]>,
    /// Of each endpoint.
    hosts: Box<[Arc<Host>]>,
    state: Arc<State>,
    layout: Layout,
    plans: Plans,
    /// How many choices there were, where they go round.
    turn: AtomicUsize,
    /// Whether its endpoints are addresses as they are.
    concrete: bool,
    /// What is known of them where they are not.
    known: Known,
}

enum Plans {
    /// Nothing changes how endpoints are chosen.
    Fixed(Plan),
    /// It changes as endpoints fail and warm up.
    Changing {
        current: ArcSwap<Dated>,
        /// Held while a plan is made.
        making: Mutex<()>,
    },
}

/// A plan and what it was made for.
struct Dated {
    plan: Plan,
    /// [`State::epoch`].
    epoch: u64,
    /// When it is to be made anew, by the registry's clock.
    until: Option<Duration>,
}

impl Deref for Cluster {
    type Target = Destination;

    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.destination).finish()
    }
}

impl Cluster {
    fn new(destination: Arc<Destination>, state: Arc<State>, place: &Place, parts: Parts) -> Self {
        let hosts = state.hosts(destination.endpoints.iter().map(|endpoint| endpoint.address));
        let concrete = is_concrete(&destination);
        let traffic = &destination.traffic;
        let placed: Vec<Placed<'_>> = destination
            .endpoints
            .iter()
            .map(|endpoint| Placed {
                locality: endpoint.locality.as_deref(),
                ranks: &endpoint.ranks,
                weight: endpoint.weight,
            })
            .collect();
        let falls_over = traffic.outliers.is_some();
        let levels = balance::spread(traffic.locality.as_ref(), falls_over, place.client(), &placed);
        let members: Vec<Member> = destination
            .endpoints
            .iter()
            .map(|endpoint| Member {
                id: balance::hash(endpoint.address.to_string().as_bytes()),
                weight: endpoint.weight,
            })
            .collect();
        let layout = Layout::new(&traffic.balancer, &members, levels);
        let changes = traffic.outliers.is_some() || traffic.warmup.is_some();
        let dated = dated(&destination, &layout, &hosts, &state);
        Self {
            plans: match changes {
                false => Plans::Fixed(dated.plan),
                true => Plans::Changing {
                    current: ArcSwap::from_pointee(dated),
                    making: Mutex::default(),
                },
            },
            destination,
            subsets: parts.subsets,
            others: parts.others,
            hosts,
            state,
            layout,
            turn: AtomicUsize::new(rand::random::<u16>().into()),
            concrete,
            known: Known::default(),
        }
    }

    /// Whether its endpoints are addresses as they are. Where they are not, [`crate::resolve::concrete`] says which are.
    #[must_use]
    pub fn is_concrete(&self) -> bool {
        self.concrete
    }

    /// What is known of its endpoints where they are no addresses.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    /// What the operator said of it.
    #[must_use]
    pub fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    /// What one of its routes leads to; `None` where that is nothing that the mesh knows.
    #[must_use]
    pub fn led_to(self: &Arc<Self>, target: Target) -> Option<&Arc<Self>> {
        let cluster = match target.leads {
            Leads::Own => self,
            Leads::Other(at) => self.others.get(at as usize)?,
            Leads::Nowhere => return None,
        };
        match target.subset {
            InSubset::All => Some(cluster),
            InSubset::Of(at) => cluster.subsets.get(at as usize),
            InSubset::Unknown => None,
        }
    }

    /// Its subsets, in their order.
    #[must_use]
    pub fn subsets(&self) -> &[Arc<Self>] {
        &self.subsets
    }

    /// The destinations that its routes lead to beside itself, in their order.
    #[must_use]
    pub fn others(&self) -> &[Arc<Self>] {
        &self.others
    }

    /// What requests with the same value of go to the same endpoint; `None` where there is no such thing.
    #[must_use]
    pub fn hash_key(&self) -> Option<&HashKey> {
        match &self.traffic.balancer {
            Balancer::Hash(hash) => Some(&hash.key),
            _ => None,
        }
    }

    /// Chooses one of the endpoints, by its index. `None` where there is none, or none is healthy.
    #[must_use]
    pub fn choose(&self, asked: &Asked<'_>) -> Option<usize> {
        // What stands for an address is none.
        if !self.concrete {
            return None;
        }
        if self.resolution == Resolution::OriginalDestination {
            let dialled = |endpoint: &mesh_core::destination::Endpoint| endpoint.address == asked.dialled;
            return self.endpoints.iter().position(dialled);
        }
        match &self.plans {
            Plans::Fixed(plan) => self.choose_by(plan, asked),
            Plans::Changing { current, making } => {
                let mut dated = current.load();
                if self.is_outdated(&dated) {
                    dated = self.renew(current, making);
                }
                self.choose_by(&dated.plan, asked)
            }
        }
    }

    fn choose_by(&self, plan: &Plan, asked: &Asked<'_>) -> Option<usize> {
        let load = |at: usize| self.hosts.get(at).map_or(u32::MAX, |host| host.under_way());
        if asked.elsewhere
            && !asked.tried.is_empty()
            && let Some(at) = plan.choose_elsewhere(asked.tried, &self.draws(asked.hash), load)
        {
            return Some(at);
        }
        let first = plan.choose(&self.draws(asked.hash), load)?;
        if asked.tried.is_empty() || !asked.tried.contains(&first) {
            return Some(first);
        }
        let untried = |at: &usize| !asked.tried.contains(at);
        let redrawn = (1..=REDRAWS).find_map(|number| {
            let hash = asked.hash.map(|hash| balance::rehash(hash, number));
            plan.choose(&self.draws(hash), load).filter(untried)
        });
        redrawn.or_else(|| plan.members().find(untried)).or(Some(first))
    }

    #[allow(clippy::cast_possible_truncation)] // Halves.
    fn draws(&self, hash: Option<u64>) -> Draws {
        match self.traffic.balancer {
            Balancer::RoundRobin => Draws {
                hash,
                turn: self.turn.fetch_add(1, Ordering::Relaxed),
                random: if self.traffic.locality.is_some() {
                    random()
                } else {
                    [0; 2]
                },
            },
            _ => Draws {
                hash,
                turn: 0,
                random: random(),
            },
        }
    }

    fn is_outdated(&self, dated: &Dated) -> bool {
        dated.epoch != self.state.epoch() || dated.until.is_some_and(|until| self.state.now() >= until)
    }

    /// Makes the plan anew, unless somebody else is doing that: then the old one serves on.
    fn renew(&self, current: &ArcSwap<Dated>, making: &Mutex<()>) -> Guard<Arc<Dated>> {
        if let Ok(_making) = making.try_lock()
            && self.is_outdated(&current.load())
        {
            current.store(Arc::new(dated(
                &self.destination,
                &self.layout,
                &self.hosts,
                &self.state,
            )));
        }
        current.load()
    }

    /// Counts a request or connection to an endpoint as under way, until what is returned is dropped.
    #[must_use]
    pub fn begin(&self, at: usize) -> Option<Use> {
        self.hosts.get(at).cloned().map(Use::new)
    }

    /// Takes what became of a try at an endpoint: of each once, as soon as it is known.
    pub fn report(&self, at: usize, outcome: Outcome) {
        let Some(rule) = &self.traffic.outliers else { return };
        if let Some(host) = self.hosts.get(at) {
            health::note(&self.state, rule, &self.hosts, host, outcome);
        }
    }

    /// Whether an endpoint is left out for its failures.
    #[must_use]
    pub fn is_ejected(&self, at: usize) -> bool {
        self.traffic.outliers.is_some() && self.hosts.get(at).is_some_and(|host| host.is_ejected())
    }
}

/// What belongs to a destination beside itself.
#[derive(Default)]
struct Parts {
    subsets: Box<[Arc<Cluster>]>,
    others: Box<[Arc<Cluster>]>,
}

fn dated(destination: &Destination, layout: &Layout, hosts: &[Arc<Host>], state: &State) -> Dated {
    let epoch = state.epoch();
    let traffic = &destination.traffic;
    let outliers = traffic.outliers.as_ref();
    let healthy = |at: usize| outliers.is_none() || hosts.get(at).is_some_and(|host| !host.is_ejected());
    let panic_below = outliers.map_or(0, |rule| rule.min_health_percent);
    let now = state.now();
    let factor = |at: usize| match (&traffic.warmup, hosts.get(at)) {
        (Some(warmup), Some(host)) => balance::factor(warmup, now.saturating_sub(host.since())),
        _ => 1.0,
    };
    let warming = traffic.warmup.is_some() && (0..hosts.len()).any(|at| factor(at) < 1.0);
    Dated {
        plan: Plan::new(layout, panic_below, healthy, warming.then_some(&factor)),
        epoch,
        until: warming.then_some(now + WARMING),
    }
}

#[allow(clippy::cast_possible_truncation)] // Halves.
fn random() -> [u32; 2] {
    let random = rand::random::<u64>();
    [random as u32, (random >> 32) as u32]
}

#[cfg(test)]
mod tests;
