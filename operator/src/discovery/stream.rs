//! One stream: requests change what it is subscribed to, batches of changes make it look again at what they touch, and
//! what the proxy has not been told goes out. A slow proxy holds up only its own stream, and misses nothing but
//! versions that are already superseded. What it asks to have fetched is answered beside that (`key_refresh`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_core::destination::Query;
use mesh_wire::delta::{Encoded, RequestError, Verdict};
use mesh_wire::resources::{SELF_NAME, type_url};
use mesh_wire::{delta, query};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::key_refresh::KeyRefreshes;
use super::streams::Tracked;
use crate::index::changes::Named;
use crate::index::resolve::depends_on;
use crate::index::{Changed, Index, Key};
use crate::jwks::Askings;
use crate::metrics::{Metrics, Open, short};

/// How long a response may wait for a proxy that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a stream lives before the proxy is asked to connect anew, so that replicas share the load again after one
/// was away (Istio's keepalive.MaxServerConnectionAge, 30 minutes); spread by a tenth.
const MOST_AGE: Duration = Duration::from_secs(30 * 60);

/// The bytes of resources that one response carries before another is begun; a message must stay under 4 MiB.
const RESPONSE_BYTES: usize = 1024 * 1024;

/// What the proxy asked for under a destination's name.
struct Subscription {
    query: Query,
    /// What the last answer depends on beside what the query names.
    dependencies: Arc<[Key]>,
}

/// A stream that is served.
pub(super) struct Session {
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    pod: Named,
    send: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    types: HashMap<&'static str, delta::Stream>,
    queries: HashMap<String, Subscription>,
    dependents: HashMap<Key, HashSet<String>>,
    key_refreshes: KeyRefreshes,
    tracked: Tracked,
    _open: Open,
}

impl Session {
    pub(super) fn new(
        index: Arc<Index>,
        metrics: Arc<Metrics>,
        askings: Askings,
        pod: Named,
        send: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
        tracked: Tracked,
    ) -> Self {
        let open = Open::new(&metrics.streams);
        Self {
            index,
            pod,
            send,
            types: HashMap::new(),
            queries: HashMap::new(),
            dependents: HashMap::new(),
            key_refreshes: KeyRefreshes::new(askings, metrics.clone()),
            metrics,
            tracked,
            _open: open,
        }
    }

    /// Serves until the proxy leaves, the server stops, or the stream is old.
    pub(super) async fn run(
        mut self,
        first: DeltaDiscoveryRequest,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Status> {
        let mut batches = self.index.batches();
        self.request(&first).await?;
        let age = MOST_AGE.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        let mut old = std::pin::pin!(tokio::time::sleep(age));
        let mut stopped = std::pin::pin!(async move {
            // A sender that is gone means that the process ends.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        loop {
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => self.request(&request).await?,
                    None => return Ok(()),
                },
                batch = batches.recv() => match batch {
                    Ok(batch) => self.changed(&batch).await?,
                    Err(RecvError::Lagged(_)) => self.changed(&Changed { all: true, ..Changed::default() }).await?,
                    Err(RecvError::Closed) => return Err(Status::unavailable("the operator stops")),
                },
                (name, fetched) = self.key_refreshes.next() => self.refreshed(&name, fetched).await?,
                () = &mut old => return Ok(()),
                () = &mut stopped => return Err(Status::unavailable("the operator stops")),
            }
        }
    }

    /// Takes a request: the verdict on a response, names to serve, names to forget.
    async fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        if request.type_url == type_url::KEY_REFRESH {
            return self.refresh(request).await;
        }
        let Some(kind) = type_url::ALL.into_iter().find(|kind| *kind == request.type_url) else {
            return Err(Status::invalid_argument(
                "type_url is not one of this mesh's resource types",
            ));
        };
        let stream = self.types.entry(kind).or_default();
        let meaning = stream.request(request).map_err(exhausted)?;
        let holds = !request.initial_resource_versions.is_empty();
        self.tracked
            .requested(short(kind), stream.subscriptions(), holds, meaning.verdict.as_ref());
        self.judged(kind, meaning.verdict.as_ref());
        let held = request.initial_resource_versions.keys();
        let names: HashSet<&String> = meaning.subscribed.iter().chain(held).collect();
        if kind == type_url::DESTINATION {
            for name in &meaning.unsubscribed {
                self.leave(name);
            }
            for name in &names {
                self.join(name);
            }
        }
        let names = names.into_iter().cloned().collect();
        self.respond(kind, names).await
    }

    fn judged(&self, kind: &str, verdict: Option<&Verdict>) {
        if let Some(Verdict::Refused(reason)) = verdict {
            self.metrics.rejections.with_label_values(&[short(kind)]).inc();
            warn!(
                namespace = &*self.pod.0,
                pod = &*self.pod.1,
                kind = short(kind),
                reason,
                "a proxy rejected a response"
            );
        }
    }

    /// Takes a request for keys to be fetched again.
    async fn refresh(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let taken = self.key_refreshes.request(&self.index, &self.pod, request);
        let (meaning, refused) = taken.map_err(exhausted)?;
        self.judged(type_url::KEY_REFRESH, meaning.verdict.as_ref());
        match refused {
            Some(response) => self.send(type_url::KEY_REFRESH, response).await,
            None => Ok(()),
        }
    }

    /// Keys were fetched, or could not be: what is new of them, and then the answer.
    async fn refreshed(&mut self, name: &str, fetched: bool) -> Result<(), Status> {
        self.respond(type_url::REQUEST_AUTHENTICATIONS, vec![SELF_NAME.to_owned()])
            .await?;
        match self.key_refreshes.answer(name, fetched) {
            Some(response) => self.send(type_url::KEY_REFRESH, response).await,
            None => Ok(()),
        }
    }

    /// Tells the proxy what of its subscriptions a batch changed, in the order in which trust comes before traffic.
    async fn changed(&mut self, batch: &Changed) -> Result<(), Status> {
        let own = batch.touches(&Key::Pod(self.pod.clone()));
        let enforced = own || batch.touches(&Key::Enforced(self.pod.clone()));
        for kind in type_url::ALL {
            let Some(stream) = self.types.get(kind) else { continue };
            let names: Vec<String> = match kind {
                // The pod's own labels may select other DestinationRules.
                type_url::DESTINATION if !batch.all && !own => {
                    let touched = batch.keys.iter().filter_map(|key| self.dependents.get(key)).flatten();
                    touched.cloned().collect::<HashSet<_>>().into_iter().collect()
                }
                type_url::DESTINATION => stream.names().map(str::to_owned).collect(),
                type_url::TRUST_BUNDLE if !batch.all => Vec::new(),
                type_url::AUTHORIZATION_POLICIES | type_url::REQUEST_AUTHENTICATIONS | type_url::CANDIDATE_SETS
                    if enforced =>
                {
                    stream.names().map(str::to_owned).collect()
                }
                _ if own => stream.names().map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            self.respond(kind, names).await?;
        }
        Ok(())
    }

    /// Sends what of the names the proxy has not been told.
    async fn respond(&mut self, kind: &'static str, names: Vec<String>) -> Result<(), Status> {
        let mut known: Vec<(String, Option<Encoded>)> = Vec::new();
        let mut bytes = 0;
        let last = names.len().saturating_sub(1);
        for (at, name) in names.into_iter().enumerate() {
            let resource = match self.resource(kind, &name) {
                // The pod or the authority is not there just now; the proxy keeps what it has.
                None if kind != type_url::DESTINATION && name == SELF_NAME => continue,
                resource => resource,
            };
            bytes += name.len() + resource.as_ref().map_or(0, |resource| resource.body.len());
            known.push((name, resource));
            if bytes >= RESPONSE_BYTES || at == last {
                self.flush(kind, &mut known).await?;
                bytes = 0;
            }
        }
        self.flush(kind, &mut known).await
    }

    async fn flush(&mut self, kind: &'static str, known: &mut Vec<(String, Option<Encoded>)>) -> Result<(), Status> {
        let known = std::mem::take(known);
        let Some(stream) = self.types.get_mut(kind) else {
            return Ok(());
        };
        let told = known.iter().map(|(name, resource)| (name.as_str(), resource.clone()));
        let Some(response) = stream.respond(kind, told) else {
            return Ok(());
        };
        let only = response.resources.first().filter(|resource| resource.name == SELF_NAME);
        self.tracked
            .sent(short(kind), only.map(|resource| resource.version.as_str()));
        self.send(kind, response).await
    }

    async fn send(&self, kind: &str, response: DeltaDiscoveryResponse) -> Result<(), Status> {
        self.metrics.pushes.with_label_values(&[short(kind)]).inc();
        match tokio::time::timeout(SEND_TIMEOUT, self.send.send(Ok(response))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the proxy left")),
            Err(_) => {
                self.metrics.streams_refused.with_label_values(&["slow"]).inc();
                info!(
                    namespace = &*self.pod.0,
                    pod = &*self.pod.1,
                    "a proxy does not read its stream"
                );
                Err(Status::deadline_exceeded("responses were not read in time"))
            }
        }
    }

    fn resource(&mut self, kind: &str, name: &str) -> Option<Encoded> {
        match kind {
            type_url::DESTINATION => self.destination(name),
            _ if name != SELF_NAME => None,
            type_url::TRUST_BUNDLE => self.index.trust_bundle(),
            type_url::WORKLOAD => self.index.workload(&self.pod),
            type_url::INBOUND_POLICY => self.index.inbound(&self.pod),
            type_url::AUTHORIZATION_POLICIES => self.index.authorization_policies(&self.pod),
            type_url::REQUEST_AUTHENTICATIONS => self.index.request_authentications(&self.pod),
            type_url::CANDIDATE_SETS => self.index.candidate_sets(&self.pod),
            _ => None,
        }
    }

    /// A destination as it is now. From now on its name depends on what that was compiled from.
    fn destination(&mut self, name: &str) -> Option<Encoded> {
        let subscription = self.queries.get_mut(name)?;
        let found = self.index.destination(&subscription.query, &self.pod);
        if subscription.dependencies != found.dependencies {
            self.forget(name);
            self.queries.get_mut(name)?.dependencies = found.dependencies;
            self.remember(name);
        }
        found.encoded
    }

    /// Remembers what a destination's name depends on. A name that is no query stays unknown, and is answered as absent.
    fn join(&mut self, name: &str) {
        if self.queries.contains_key(name) {
            return;
        }
        if let Some(query) = query::parse(name) {
            let dependencies = Arc::default();
            self.queries
                .insert(name.to_owned(), Subscription { query, dependencies });
            self.remember(name);
        }
    }

    fn leave(&mut self, name: &str) {
        self.forget(name);
        self.queries.remove(name);
    }

    fn remember(&mut self, name: &str) {
        for key in self.keys(name) {
            self.dependents.entry(key).or_default().insert(name.to_owned());
        }
    }

    fn forget(&mut self, name: &str) {
        for key in self.keys(name) {
            if let Some(names) = self.dependents.get_mut(&key) {
                names.remove(name);
                if names.is_empty() {
                    self.dependents.remove(&key);
                }
            }
        }
    }

    fn keys(&self, name: &str) -> Vec<Key> {
        let Some(Subscription { query, dependencies }) = self.queries.get(name) else {
            return Vec::new();
        };
        let named = self
            .index
            .read(|_, mesh| depends_on(query, &self.pod.0, &mesh.cluster_domain));
        named.into_iter().chain(dependencies.iter().cloned()).collect()
    }
}

fn exhausted(error: RequestError) -> Status {
    Status::resource_exhausted(error.to_string())
}
