//! The reconciler: follows the labelled namespaces, and keeps the operator's own PeerAuthentication in each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use mesh_api::labels::{MANAGED_BY, MANAGED_BY_PINNACE, REVISION};
use mesh_api::when_ready::{LABEL, POLICY, QUIET_PERIOD, WHEN_READY, is_ours, shown};
use mesh_api::{PeerAuthentication, PeerAuthenticationSpec};
use serde_json::json;
use tracing::{info, warn};

use super::board::Board;
use super::decide::State;
use super::memory::Memory;
use crate::feeds::Policies;
use crate::index::Index;
use crate::index::changes::Named;
use crate::kubernetes::leader::Leadership;
use crate::kubernetes::watch::{Change, follow};
use crate::metrics::Metrics;
use crate::reports::Ledger;
use crate::settings::quiet_period;

/// How often every labelled namespace is looked at.
const LOOK: Duration = Duration::from_secs(3);

/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_secs(10);

/// The most characters of an event's text (the API server's limit).
const MOST_NOTE: usize = 1024;

/// The name of the default control plane where namespaces name one.
const DEFAULT_REVISION: &str = "default";

/// The controller's name in metrics.
const CONTROLLER: &str = "strict-when-ready";

/// The states, as metrics name them.
const STATES: [&str; 3] = ["strict", "waiting", "refused"];

/// What it works with.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Pods and policies.
    pub index: Arc<Index>,
    /// PeerAuthentications as they are.
    pub policies: Arc<Policies>,
    /// What sidecars reported.
    pub ledger: Ledger,
    /// What statuses are to say.
    pub board: Board,
    /// For how long nobody may have called in the clear, where a namespace does not say.
    pub quiet: Duration,
    /// This control plane's revision, empty for the default one, and its tags.
    pub revision: String,
    /// Further names of it.
    pub tags: Vec<String>,
    /// Whether to write.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who tells by events.
    pub reporter: Reporter,
}

/// The labelled namespaces, once they are all known.
type Labelled = Mutex<Option<BTreeMap<Arc<str>, Namespace>>>;

/// Keeps every labelled namespace until this future is dropped.
pub async fn run(context: Context) {
    let labelled = Labelled::default();
    let namespaces: Api<DeserializeGuard<Namespace>> = Api::all(context.client.clone());
    let mut listed = BTreeMap::new();
    let mut listing = false;
    let only = watcher::Config::default().labels(LABEL);
    let watching = follow(namespaces, only, context.metrics.clone(), |change| {
        let mut held = labelled.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Listing => {
                listed.clear();
                listing = true;
            }
            Change::Listed => {
                *held = Some(std::mem::take(&mut listed));
                listing = false;
            }
            Change::Applied(namespace) if listing => drop(listed.insert(namespace.name_any().into(), namespace)),
            Change::Applied(namespace) => {
                let held = held.get_or_insert_default();
                held.insert(namespace.name_any().into(), namespace);
            }
            Change::Undecodable(_) => {}
            Change::Deleted { name, .. } => drop(held.as_mut().and_then(|held| held.remove(&*name))),
        }
    });
    context.board.clear();
    let looking = async {
        let mut rounds = Rounds::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let all = labelled.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // What is not known to be unlabelled is left as it is.
            if let Some(all) = all.filter(|_| context.leadership.held()) {
                rounds.round(&context, &all).await;
            }
        }
    };
    tokio::join!(watching, looking);
}

/// What is remembered between two rounds.
#[derive(Default)]
struct Rounds {
    memories: BTreeMap<Arc<str>, Memory>,
    /// What was told of namespaces that have no PeerAuthentication of the operator's.
    complained: BTreeMap<Arc<str>, String>,
    /// Until when nothing is written after a failure.
    paused: Option<tokio::time::Instant>,
}

impl Rounds {
    async fn round(&mut self, context: &Context, all: &BTreeMap<Arc<str>, Namespace>) {
        let mut counts: BTreeMap<&str, i64> = STATES.iter().map(|state| (*state, 0)).collect();
        let mut wanted = BTreeSet::new();
        for (name, namespace) in all.iter().filter(|(_, namespace)| context.is_for(namespace)) {
            let state = match context.refusal(name, namespace) {
                Some(reason) => {
                    self.complain(context, name, namespace, reason).await;
                    "refused"
                }
                None => {
                    wanted.insert(name.clone());
                    self.complained.remove(name);
                    self.look(context, name, namespace).await
                }
            };
            *counts.entry(state).or_default() += 1;
        }
        for resource in context.policies.peer_authentications.all() {
            let namespace = resource.namespace().unwrap_or_default();
            let ours = is_ours(&resource) && resource.labels().get(REVISION) == Some(&context.own_revision());
            if ours && !wanted.contains(&*namespace) && !self.is_paused() {
                let result = context.remove(&resource, &namespace).await;
                self.wrote(context, &namespace, "removed", result);
            }
        }
        self.memories.retain(|name, _| wanted.contains(name));
        self.complained.retain(|name, _| all.contains_key(name));
        context.board.keep(|name| wanted.contains(name));
        for (state, count) in counts {
            context.metrics.when_ready.with_label_values(&[state]).set(count);
        }
    }

    /// Looks at one namespace and does what follows; the state that it is counted in.
    async fn look(&mut self, context: &Context, name: &Arc<str>, namespace: &Namespace) -> &'static str {
        let key: Named = (name.clone(), POLICY.into());
        let Some(resource) = context.policies.peer_authentications.get(&key) else {
            self.memories.remove(name);
            if !self.is_paused() {
                let result = context.create(name).await;
                self.wrote(context, name, "created", result);
            }
            return "waiting";
        };
        let strict = says(&resource, "STRICT");
        if !strict && !says(&resource, "UNSET") {
            // Somebody edited it.
            if !self.is_paused() {
                let result = context.set_mode(&resource, name, "UNSET").await;
                self.wrote(context, name, "set back", result);
            }
            return "waiting";
        }
        let memory = self
            .memories
            .entry(name.clone())
            .or_insert_with(|| Memory::new(resource.status.as_ref().and_then(shown)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let quiet = context.quiet_of(namespace).unwrap_or(context.quiet);
        let look = context
            .index
            .read(|world, mesh| memory.look(now, quiet, strict, &key, &context.ledger, (world, mesh)));
        let reason = look
            .progress
            .as_ref()
            .map(|progress| (progress.reason, progress.message.clone()));
        let changes = look.progress.as_ref().is_some_and(|progress| {
            let condition = resource.status.as_ref();
            let condition = condition.and_then(|status| status.condition(mesh_api::when_ready::STRICT));
            condition.and_then(|condition| condition.reason.as_deref()) != Some(progress.reason)
        });
        if let Some(progress) = look.progress {
            context.board.put(name, progress);
            context.policies.peer_authentications.changed.notify_one();
        }
        let about = resource.object_ref(&());
        if let Some((reason, message)) = reason.filter(|_| changes && look.news.is_empty()) {
            let kind = match look.decision.state {
                State::Strict | State::Ready | State::Quiet => EventType::Normal,
                _ => EventType::Warning,
            };
            context.tell(&about, kind, reason, message).await;
        }
        if !look.news.is_empty() {
            let note = format!("still called in the clear: {}", look.news.join("; "));
            context.tell(&about, EventType::Warning, "PlaintextCallers", note).await;
        }
        if look.decision.state == State::Ready && !self.is_paused() {
            let result = context.set_mode(&resource, name, "STRICT").await;
            self.wrote(context, name, "turned STRICT", result);
        }
        match look.decision.state {
            State::Strict => "strict",
            State::Conflict(_) => "refused",
            _ => "waiting",
        }
    }

    /// Tells once why a namespace's label has no effect.
    async fn complain(&mut self, context: &Context, name: &Arc<str>, namespace: &Namespace, reason: String) {
        if self.complained.get(name) == Some(&reason) {
            return;
        }
        warn!(namespace = &**name, reason, "a namespace's label {LABEL} has no effect");
        let about = namespace.object_ref(&());
        context
            .tell(&about, EventType::Warning, "StrictWhenReadyRefused", reason.clone())
            .await;
        self.complained.insert(name.clone(), reason);
    }

    fn is_paused(&self) -> bool {
        self.paused.is_some_and(|until| tokio::time::Instant::now() < until)
    }

    fn wrote(&mut self, context: &Context, namespace: &str, what: &str, result: Result<(), kube::Error>) {
        context.metrics.reconciles.with_label_values(&[CONTROLLER]).inc();
        match result {
            Ok(()) => info!(namespace, policy = POLICY, "{what}"),
            // Changed or gone meanwhile, or not yet seen to be there: the watch tells.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => {
                context.metrics.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
                warn!(namespace, policy = POLICY, %error, "a PeerAuthentication for strict=when-ready could not be {what}");
                self.paused = Some(tokio::time::Instant::now() + RETRY);
            }
        }
    }
}

impl Context {
    fn own_revision(&self) -> String {
        match self.revision.as_str() {
            "" => DEFAULT_REVISION.to_owned(),
            revision => revision.to_owned(),
        }
    }

    /// Whether a namespace is this control plane's, by the revision that it names, and stays.
    fn is_for(&self, namespace: &Namespace) -> bool {
        if namespace.metadata.deletion_timestamp.is_some() {
            return false;
        }
        let named = namespace
            .labels()
            .get(REVISION)
            .map_or(DEFAULT_REVISION, String::as_str);
        named == self.own_revision() || self.tags.iter().any(|tag| tag == named)
    }

    /// Why the label of a namespace has no effect.
    fn refusal(&self, name: &Arc<str>, namespace: &Namespace) -> Option<String> {
        let label = namespace.labels().get(LABEL).map_or("", String::as_str);
        if label != WHEN_READY {
            return Some(format!(
                "label {LABEL}: {label:?} is not accepted, expected {WHEN_READY}"
            ));
        }
        if self.index.read(|_, mesh| *mesh.root_namespace == **name) {
            return Some(format!(
                "label {LABEL}: {name} is the mesh's root namespace, where a PeerAuthentication is for the whole mesh; label \
                 the namespaces of the workloads"
            ));
        }
        let held = self.policies.peer_authentications.get(&(name.clone(), POLICY.into()));
        if held.is_some_and(|held| !is_ours(&held)) {
            return Some(format!(
                "label {LABEL}: there is a PeerAuthentication {POLICY} that the operator did not write; rename or delete it"
            ));
        }
        self.quiet_of(namespace).err()
    }

    /// For how long nobody may have called a namespace in the clear.
    fn quiet_of(&self, namespace: &Namespace) -> Result<Duration, String> {
        match namespace.annotations().get(QUIET_PERIOD) {
            None => Ok(self.quiet),
            Some(text) => quiet_period(text).map_err(|reason| format!("annotation {QUIET_PERIOD}: {reason}")),
        }
    }

    async fn create(&self, namespace: &str) -> Result<(), kube::Error> {
        let spec: PeerAuthenticationSpec =
            serde_json::from_value(json!({"mtls": {"mode": "UNSET"}})).unwrap_or_default();
        let mut resource = PeerAuthentication::new(POLICY, spec);
        let labels = [
            (MANAGED_BY.to_owned(), MANAGED_BY_PINNACE.to_owned()),
            (REVISION.to_owned(), self.own_revision()),
        ];
        resource.metadata.labels = Some(labels.into());
        let api: Api<PeerAuthentication> = Api::namespaced(self.client.clone(), namespace);
        api.create(&PostParams::default(), &resource).await.map(drop)
    }

    async fn set_mode(&self, resource: &PeerAuthentication, namespace: &str, mode: &str) -> Result<(), kube::Error> {
        let api: Api<PeerAuthentication> = Api::namespaced(self.client.clone(), namespace);
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": resource.resource_version()},
            "spec": {"mtls": {"mode": mode}, "selector": null, "portLevelMtls": null},
        }));
        api.patch(POLICY, &PatchParams::default(), &patch).await.map(drop)
    }

    async fn remove(&self, resource: &PeerAuthentication, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<PeerAuthentication> = Api::namespaced(self.client.clone(), namespace);
        let only = DeleteParams {
            preconditions: Some(Preconditions {
                uid: resource.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        api.delete(POLICY, &only).await.map(drop)
    }

    async fn tell(&self, about: &ObjectReference, kind: EventType, reason: &str, note: String) {
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note.chars().take(MOST_NOTE).collect()),
            action: "TurnStrictWhenReady".to_owned(),
            secondary: None,
        };
        // A recorder that remembers would tell the first text of a reason again.
        let events = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = events.publish(&event, about).await {
            warn!(reason, %error, "an event could not be written");
        }
    }
}

/// Whether a PeerAuthentication says this mode, and nothing else.
fn says(resource: &PeerAuthentication, mode: &str) -> bool {
    let spec = &resource.spec;
    let said = spec.mtls.as_ref().and_then(|mtls| mtls.mode.as_deref());
    said == Some(mode) && spec.selector.is_none() && spec.port_level_mtls.is_none()
}
