//! The index as its users share it: events go in, changes are gathered for a moment and then published, and resources are
//! encoded once for all streams.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_core::destination::Query;
use mesh_core::destination_rule::Merged;
use mesh_core::ext_authz::Providers;
use mesh_core::identity::TrustDomain;
use mesh_core::jwt::KeyOrigin;
use mesh_core::request::Normalization;
use mesh_core::routing::Speaking;
use mesh_core::traffic::MeshDefaults;
use mesh_wire::convert::{AccessLog, TrustBundle};
use mesh_wire::delta::Encoded;
use mesh_wire::resources as wire;
use prost::Message;
use tokio::sync::{Notify, broadcast};

use super::candidates;
use super::changes::{Changed, Key, Named};
use super::compile;
use super::encoded::{Destinations, Found, Variant};
use super::enforced;
use super::names;
use super::resolve::{Target, resolve};
use super::routes;
use super::world::World;
use crate::metrics::Metrics;

/// How long the first change of a burst waits for more.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// The most sets of policies whose encoded forms are kept: as many as there are different combinations that are for some
/// pod.
const MOST_SETS: usize = 4096;

/// Batches of changes that a slow stream may fall behind before it has to look at everything again.
const BATCHES: usize = 256;

/// Service accounts whose pods changed, waiting for the reconciler, before it has to look at all of them.
const ACCOUNTS: usize = 4096;

/// What holds for the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshFacts {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Further trust domains that count as its own.
    pub aliases: Vec<TrustDomain>,
    /// The namespace whose policies govern the mesh.
    pub root_namespace: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Whether clients use mutual TLS wherever the server takes it.
    pub auto_mtls: bool,
    /// Whether traffic to what the mesh does not know passes.
    pub allow_any: bool,
    /// What sidecars log of requests and connections.
    pub access_log: AccessLog,
    /// How paths are normalised before anything is decided about them.
    pub paths: Normalization,
    /// How many proxies in front of the mesh are trusted to tell the client.
    pub trusted_proxies: u32,
    /// The extension providers that CUSTOM policies may name.
    pub providers: Providers,
    /// What holds of traffic where no DestinationRule says anything.
    pub traffic: MeshDefaults,
    /// The trusted roots, DER.
    pub roots: Vec<Bytes>,
}

struct State {
    world: World,
    mesh: MeshFacts,
}

/// The index. Cheap to share by `Arc`.
pub struct Index {
    state: RwLock<State>,
    /// Encoded destinations. Filled under the state's read lock and emptied under its write lock, so that nothing stale
    /// is put back.
    encoded: Mutex<Destinations>,
    /// Encoded sets of policies, likewise.
    sets: Mutex<Sets>,
    pending: Mutex<(Changed, Option<Instant>)>,
    wake: Notify,
    batches: broadcast::Sender<Arc<Changed>>,
    accounts: broadcast::Sender<Named>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Index {
    /// An empty index.
    #[must_use]
    pub fn new(mesh: MeshFacts, metrics: Arc<Metrics>) -> Self {
        Self {
            state: RwLock::new(State {
                world: World::default(),
                mesh,
            }),
            encoded: Mutex::default(),
            sets: Mutex::default(),
            pending: Mutex::default(),
            wake: Notify::new(),
            batches: broadcast::Sender::new(BATCHES),
            accounts: broadcast::Sender::new(ACCOUNTS),
            metrics,
        }
    }

    /// Applies an event: `event` changes the world and says what it touched.
    pub fn apply(&self, event: impl FnOnce(&mut World, &MeshFacts) -> Changed) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State { world, mesh } = &mut *state;
        let mut changed = event(world, mesh);
        world.touch_aliases(&mut changed, &mesh.cluster_domain);
        self.forget(&changed, world);
        drop(state);
        self.gather(changed);
    }

    /// Takes new facts of the whole mesh.
    pub fn set_mesh(&self, mesh: MeshFacts) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.mesh == mesh {
            return;
        }
        if state.mesh.cluster_domain != mesh.cluster_domain {
            state.world.set_cluster_domain(&mesh.cluster_domain);
        }
        state.mesh = mesh;
        let changed = Changed {
            all: true,
            ..Changed::default()
        };
        self.forget(&changed, &state.world);
        drop(state);
        self.gather(changed);
    }

    /// Says that the pods of a service account changed.
    pub fn touch_account(&self, account: Named) {
        // Nobody listens while this replica does not hold the lease.
        let _ = self.accounts.send(account);
    }

    /// Looks at the world.
    pub fn read<T>(&self, look: impl FnOnce(&World, &MeshFacts) -> T) -> T {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        look(&state.world, &state.mesh)
    }

    /// Batches of changes, from now on.
    #[must_use]
    pub fn batches(&self) -> broadcast::Receiver<Arc<Changed>> {
        self.batches.subscribe()
    }

    /// Service accounts whose pods changed, from now on.
    #[must_use]
    pub fn accounts(&self) -> broadcast::Receiver<Named> {
        self.accounts.subscribe()
    }

    /// The destination that a query means for a client's pod, with its routes, and what the answer depends on. Clients for whom
    /// the same counts share the bytes.
    #[must_use]
    pub fn destination(&self, query: &Query, client: &Named) -> Found {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let State { world, mesh } = &*state;
        if let Query::Name(host) = query {
            let addresses = names::addresses(world, mesh, host, client);
            return Found {
                encoded: addresses.map(|found| encode(&wire::Destination::from(&found))),
                dependencies: Vec::new().into(),
            };
        }
        let neighbours = match query {
            Query::Host { host, .. } => routes::neighbours(world, host, &mesh.cluster_domain),
            _ => Vec::new(),
        };
        let unknown = || Found {
            encoded: None,
            dependencies: neighbours.clone().into(),
        };
        let Some(target) = resolve(world, mesh, query, client) else {
            return unknown();
        };
        let speaking = routes::speaking(world, mesh, &target, client);
        let id = speaking.as_ref().map(Speaking::id).unwrap_or_default();
        let governing = |target: &Target| compile::governing(world, mesh, target, client).map(Merged::id);
        let held = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get(&target, &id, governing) {
            return held.clone();
        }
        drop(held);
        let Some(compiled) = routes::compile(world, mesh, target.clone(), client, speaking.as_ref()) else {
            return unknown();
        };
        let encoded = encode(&wire::Destination::from(&compiled.destination));
        self.metrics.compiled.with_label_values(&["destination"]).inc();
        let mut dependencies = compiled.dependencies;
        if let Target::Host { .. } = target {
            dependencies.extend(neighbours);
        }
        let found = Found {
            encoded: Some(encoded),
            dependencies: dependencies.into(),
        };
        let under = compiled.parts.into_iter().map(|part| {
            let rules = governing(&part);
            (part, rules)
        });
        let variant = Variant {
            speaking: id,
            under: under.collect(),
            found: found.clone(),
        };
        self.encoded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(target, variant);
        found
    }

    /// What a pod is, for its own proxy; `None` when there is no such pod.
    #[must_use]
    pub fn workload(&self, pod: &Named) -> Option<Encoded> {
        self.read(|world, mesh| {
            let record = world.pod_named(pod)?;
            Some(encode(&wire::Workload::from(&compile::workload(
                world, mesh, pod, record,
            ))))
        })
    }

    /// The modes in force on a pod's ports; `None` when there is no such pod.
    #[must_use]
    pub fn inbound(&self, pod: &Named) -> Option<Encoded> {
        self.read(|world, mesh| {
            let record = world.pod_named(pod)?;
            Some(encode(&wire::InboundPolicy::from(&compile::inbound(
                world, mesh, pod, record,
            ))))
        })
    }

    /// The AuthorizationPolicies for a pod; `None` when there is no such pod. Pods for which the same ones are share the
    /// bytes.
    #[must_use]
    pub fn authorization_policies(&self, pod: &Named) -> Option<Encoded> {
        self.read(|world, mesh| {
            let record = world.pod_named(pod)?;
            let policies = world.enforced().authorization();
            let of = || policies.concerning(&mesh.root_namespace, &pod.0, &record.labels);
            let ids = of().map(|entry| entry.id).collect();
            Some(self.shared(
                |sets| &mut sets.authorization,
                ids,
                || {
                    self.metrics.compiled.with_label_values(&["authorization"]).inc();
                    let policies = of().map(|entry| entry.policy.clone()).collect();
                    encode(&wire::AuthorizationPolicies::from(&enforced::authorization(
                        mesh, policies,
                    )))
                },
            ))
        })
    }

    /// The RequestAuthentications for a pod, likewise.
    #[must_use]
    pub fn request_authentications(&self, pod: &Named) -> Option<Encoded> {
        self.read(|world, mesh| {
            let record = world.pod_named(pod)?;
            let enforced = world.enforced();
            let of = || {
                enforced
                    .tokens()
                    .concerning(&mesh.root_namespace, &pod.0, &record.labels)
            };
            let ids = of().map(|entry| entry.id).collect();
            Some(self.shared(
                |sets| &mut sets.tokens,
                ids,
                || {
                    let label = "request_authentication";
                    self.metrics.compiled.with_label_values(&[label]).inc();
                    let policies = of().map(|entry| (&entry.name, &entry.policy));
                    encode(&wire::RequestAuthentications::from(&enforced.with_keys(policies)))
                },
            ))
        })
    }

    /// The candidate sets that concern a pod; `None` when there is no such pod.
    #[must_use]
    pub fn candidate_sets(&self, pod: &Named) -> Option<Encoded> {
        self.read(|world, mesh| {
            let record = world.pod_named(pod)?;
            let sets = candidates::compile(world, mesh, &pod.0, &record.labels);
            Some(encode(&wire::CandidateSets::from(&sets)))
        })
    }

    /// The origin of that [name](KeyOrigin::name), if a rule for the pod has its keys from there.
    #[must_use]
    pub fn key_origin(&self, pod: &Named, name: &str) -> Option<KeyOrigin> {
        self.read(|world, mesh| {
            let record = world.pod_named(pod)?;
            let tokens = world.enforced().tokens();
            let concerning = tokens.concerning(&mesh.root_namespace, &pod.0, &record.labels);
            let mut origins = concerning.flat_map(|entry| {
                let rules = entry.policy.iter();
                rules.filter_map(|rule| KeyOrigin::of(&entry.name.0, rule))
            });
            origins.find(|origin| origin.name() == name)
        })
    }

    /// The encoded form of a set of policies, made at its first use.
    fn shared(&self, of: fn(&mut Sets) -> &mut Encodings, ids: Box<[u64]>, make: impl FnOnce() -> Encoded) -> Encoded {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = of(&mut sets).get(&ids) {
            return held.clone();
        }
        drop(sets);
        let made = make();
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let held = of(&mut sets);
        if held.len() >= MOST_SETS {
            held.clear();
        }
        held.insert(ids, made.clone());
        made
    }

    /// Whom the mesh trusts; `None` while no authority is loaded.
    #[must_use]
    pub fn trust_bundle(&self) -> Option<Encoded> {
        self.read(|_, mesh| {
            let bundle = TrustBundle {
                trust_domain: mesh.trust_domain.clone(),
                aliases: mesh.aliases.clone(),
                roots: mesh.roots.clone(),
            };
            (!mesh.roots.is_empty()).then(|| encode(&wire::TrustBundle::from(&bundle)))
        })
    }

    /// Publishes gathered changes, a moment after the first of each burst. Runs until the process ends.
    pub async fn publish(&self) {
        loop {
            self.wake.notified().await;
            tokio::time::sleep(DEBOUNCE).await;
            let (changed, since) = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
            if changed.is_empty() {
                continue;
            }
            if let Some(since) = since {
                self.metrics.publish_seconds.observe(since.elapsed().as_secs_f64());
            }
            // Without a stream there is nobody to tell.
            let _ = self.batches.send(Arc::new(changed));
        }
    }

    /// Drops encoded resources that a change concerns.
    fn forget(&self, changed: &Changed, world: &World) {
        if changed.is_empty() {
            return;
        }
        if changed.all || changed.keys.iter().any(|key| matches!(key, Key::Enforced(_))) {
            let Sets { authorization, tokens } = &mut *self.sets.lock().unwrap_or_else(PoisonError::into_inner);
            let enforced = world.enforced();
            // All of them depend on the mesh's configuration.
            authorization.retain(|ids, _| !changed.all && enforced.authorization().are_live(ids));
            tokens.retain(|ids, _| !changed.all && enforced.tokens().are_live(ids));
        }
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.all {
            *encoded = Destinations::default();
            return;
        }
        for key in &changed.keys {
            encoded.forget(key);
        }
    }

    fn gather(&self, changed: Changed) {
        if changed.is_empty() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.0.merge(changed);
        pending.1.get_or_insert_with(Instant::now);
        drop(pending);
        self.wake.notify_one();
    }
}

/// Encoded sets of policies, by the ids of the policies.
#[derive(Default)]
struct Sets {
    authorization: Encodings,
    tokens: Encodings,
}

type Encodings = HashMap<Box<[u64]>, Encoded>;

/// Encodes a message. The version is a hash of the bytes, so that every replica gives the same bytes the same version.
fn encode(message: &impl Message) -> Encoded {
    let body = Bytes::from(message.encode_to_vec());
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    Encoded {
        version: format!("{:016x}", hasher.finish()),
        body,
    }
}
