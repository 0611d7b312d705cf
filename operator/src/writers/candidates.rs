//! The status of candidates: whether sidecars evaluate them, and what they would have denied.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use mesh_api::candidate::{self, Standing, WouldDeny};
use mesh_api::status::Status;
use mesh_api::{AuthorizationPolicy, Invalid, PeerAuthentication, RequestAuthentication};
use mesh_core::authorization::policy::Target;
use mesh_core::candidates::{Candidate, Kind, Member};
use mesh_core::labels::Labels;

use super::status::{named, now};
use crate::index::{Index, MeshFacts, World, candidates};
use crate::reports::{Caller, Ledger, Row};

/// How often what a candidate would have denied is looked up: with every report it is something else.
pub(super) const REFRESH: Duration = Duration::from_secs(10);

/// How long after its last call a caller counts as a present one, in seconds.
const CURRENT: u64 = 60;

/// A kind that has candidates.
pub(super) trait Tried: ResourceExt {
    /// Which one.
    const KIND: Kind;

    /// Its status as it stands.
    fn held(&self) -> Option<&Status>;

    /// Which workloads it is for; what is wrong with it beside its label.
    fn is_for(&self) -> Result<Selects, Vec<Invalid>>;

    /// Whether there is one of that name in force.
    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool;
}

/// Whether a resource is for a workload of a namespace, with these labels, given the root namespace.
type Selects = Box<dyn Fn(&str, &str, &Labels) -> bool>;

fn selects(policies: String, target: Target) -> Selects {
    Box::new(move |root, namespace, labels| target.is_for(&policies, root, namespace, labels))
}

impl Tried for PeerAuthentication {
    const KIND: Kind = Kind::PeerAuthentication;

    fn held(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    fn is_for(&self) -> Result<Selects, Vec<Invalid>> {
        let policy = mesh_api::peer_authentication::parse(self)?;
        Ok(Box::new(move |root, namespace, labels| {
            policy.scope_for(root, namespace, labels).is_some()
        }))
    }

    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool {
        world.policy_named(&(namespace.into(), name.into())).is_some()
    }
}

impl Tried for AuthorizationPolicy {
    const KIND: Kind = Kind::AuthorizationPolicy;

    fn held(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    fn is_for(&self) -> Result<Selects, Vec<Invalid>> {
        let (target, policy) = mesh_api::authorization_policy::parse(self)?;
        Ok(selects(policy.namespace, target))
    }

    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool {
        let policies = world.enforced().authorization();
        policies.get(&(namespace.into(), name.into())).is_some()
    }
}

impl Tried for RequestAuthentication {
    const KIND: Kind = Kind::RequestAuthentication;

    fn held(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    fn is_for(&self) -> Result<Selects, Vec<Invalid>> {
        let (target, policy) = mesh_api::request_authentication::parse(self)?;
        Ok(selects(policy.namespace, target))
    }

    fn is_in_force(world: &World, namespace: &str, name: &str) -> bool {
        let policies = world.enforced().tokens();
        policies.get(&(namespace.into(), name.into())).is_some()
    }
}

/// What candidates would have denied, as it was looked up last.
pub(super) struct Figures {
    ledger: Ledger,
    known: Mutex<HashMap<(Member, String), (Instant, WouldDeny)>>,
}

impl Figures {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            known: Mutex::default(),
        }
    }

    fn of(&self, set: &str, member: Member) -> WouldDeny {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| at.elapsed() < REFRESH);
        let policy = member.to_string();
        let entry = known.entry((member, set.to_owned())).or_insert_with(|| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            (
                Instant::now(),
                would_deny(&self.ledger.would_deny(now, set, &policy), now),
            )
        });
        entry.1.clone()
    }
}

/// Adds up what callers of one workload did.
fn would_deny(rows: &[Row], now: u64) -> WouldDeny {
    let mut callers: BTreeMap<(String, String, u16), (u64, u64)> = BTreeMap::new();
    for row in rows {
        let destination = format!("{}/{}", row.destination.0, row.destination.1);
        let (calls, last) = callers.entry((source(&row.source), destination, row.port)).or_default();
        *calls += row.count;
        *last = row.last.max(*last);
    }
    let callers = callers
        .into_iter()
        .map(|((source, destination, port), (calls, last))| candidate::Caller {
            source,
            destination,
            port,
            calls,
            last_seen: time(last),
        });
    WouldDeny {
        callers: callers.collect(),
        current_since: Some(time(now.saturating_sub(CURRENT))),
    }
}

fn source(caller: &Caller) -> String {
    match caller {
        Caller::Identity(identity) => identity.to_string(),
        Caller::Pod { pod, workload, .. } => format!("{}/{workload}", pod.0),
        Caller::Node(address) | Caller::Address(address) => address.to_string(),
    }
}

fn time(seconds: u64) -> Time {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or_default())
}

/// The status of a candidate, or `otherwise` that of a resource which is none.
pub(super) fn status<K: Tried>(
    index: &Index,
    figures: &Figures,
    resource: &K,
    otherwise: impl FnOnce() -> Status,
) -> Status {
    let candidate = match candidate::of(resource) {
        Ok(None) => {
            let mut status = otherwise();
            candidate::clear(resource.held(), &mut status);
            return status;
        }
        Ok(Some(candidate)) => Ok(candidate),
        Err(errors) => Err(errors),
    };
    let is_for = resource.is_for();
    let standing = match (&candidate, &is_for) {
        (Ok(candidate), Ok(selects)) => {
            index.read(|world, mesh| standing::<K>(world, mesh, resource, candidate, selects))
        }
        _ => Standing::default(),
    };
    let would_deny = candidate.as_ref().map_or_else(
        |_| WouldDeny::default(),
        |candidate| {
            let (namespace, name) = named(resource);
            let member = Member {
                kind: K::KIND,
                namespace: namespace.to_string(),
                name: name.to_string(),
            };
            figures.of(&candidate.set, member)
        },
    );
    candidate::status(
        resource,
        resource.held(),
        candidate.as_ref().map_err(Vec::as_slice),
        is_for.as_ref().map(|_| ()).map_err(Vec::as_slice),
        standing,
        &would_deny,
        &now(),
    )
}

fn standing<K: Tried>(
    world: &World,
    mesh: &MeshFacts,
    resource: &K,
    candidate: &Candidate,
    selects: &Selects,
) -> Standing {
    let root = &mesh.root_namespace;
    let own = named(resource);
    let pods = world.pods().filter(|(pod, record)| {
        let near = pod.0 == own.0 || *own.0 == **root;
        near && record.uses_certificate && selects(root, &pod.0, &record.labels)
    });
    let few = world.enforced().candidates().sets().len() <= mesh_core::candidates::MOST_SETS;
    let mut standing = Standing::default();
    for (pod, record) in pods {
        standing.workloads += 1;
        if !few && !candidates::is_evaluated(world, mesh, &candidate.set, &pod.0, &record.labels) {
            standing.not_evaluated += 1;
        }
    }
    let replaces = candidate.replaces.as_deref();
    standing.replaces_nothing = replaces.is_some_and(|name| !K::is_in_force(world, &own.0, name));
    standing
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_wire::reports::SeenKind;

    fn row(source: Caller, count: u64, last: u64) -> Row {
        Row {
            kind: SeenKind::WouldDeny,
            policy: "PeerAuthentication/shop/go".into(),
            set: "strict".into(),
            source,
            destination: ("shop".into(), "web".into()),
            labels: Labels::new().into(),
            port: 8080,
            count,
            last,
        }
    }

    fn pod(name: &str, workload: &str, last: u8) -> Caller {
        Caller::Pod {
            pod: ("legacy".into(), name.into()),
            workload: workload.into(),
            address: [10, 0, 0, last].into(),
        }
    }

    #[test]
    fn callers_of_one_workload_count_together() {
        let rows = [
            row(pod("cron-1", "cron", 1), 3, 900),
            row(pod("cron-2", "cron", 2), 4, 990),
            row(Caller::Address([192, 0, 2, 1].into()), 1, 100),
            row(Caller::Identity("spiffe://cluster.local/ns/a/sa/b".into()), 2, 200),
        ];
        let told = would_deny(&rows, 1000);
        let callers: Vec<_> = told
            .callers
            .iter()
            .map(|it| {
                (
                    it.source.as_str(),
                    it.destination.as_str(),
                    it.calls,
                    it.last_seen.0.as_second(),
                )
            })
            .collect();
        assert_eq!(
            callers,
            [
                ("192.0.2.1", "shop/web", 1, 100),
                ("legacy/cron", "shop/web", 7, 990),
                ("spiffe://cluster.local/ns/a/sa/b", "shop/web", 2, 200),
            ]
        );
        assert_eq!(told.current_since.unwrap().0.as_second(), 940);
    }
}
