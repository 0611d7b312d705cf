//! Who calls, on one connection that came in. Its workload is known by its address, which the operator is asked about once;
//! requests do not wait for the answer, their counting does.

use super::labels::Security;
use super::peer_metadata;
use super::recorder::{Recorder, Values};
use super::series::{Base, Key, Series};
use crate::discovery::{Answer, Lookup};
use http::HeaderValue;
use mesh_core::destination::Destination;
use mesh_core::identity::SpiffeId;
use mesh_core::workload::Workload;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The most that waits for the operator's answer on one connection; what comes beyond is counted without it.
const MOST_WAITING: usize = 256;

/// What was to be counted before it was known under which labels.
#[derive(Debug)]
enum Waiting {
    Request(Key, Values),
    Opened(Key),
    Passed { key: Key, received: u64, sent: u64 },
    Closed(Key),
}

/// A client.
#[derive(Debug)]
pub struct Client {
    recorder: Arc<Recorder>,
    identity: Option<SpiffeId>,
    port: u16,
    base: OnceLock<Arc<Base>>,
    waiting: Mutex<Vec<Waiting>>,
    /// What a client of Istio's last said of itself, and the labels of that.
    said: Mutex<Option<(HeaderValue, Arc<Base>)>>,
}

impl Client {
    /// The client at an address, that proved to be `identity` under mutual TLS, on a connection to a port of this pod. On the
    /// worker's runtime.
    #[must_use]
    pub fn new(recorder: &Arc<Recorder>, address: IpAddr, identity: Option<&SpiffeId>, port: u16) -> Arc<Self> {
        let client = Arc::new(Self {
            recorder: recorder.clone(),
            identity: identity.cloned(),
            port,
            base: OnceLock::new(),
            waiting: Mutex::default(),
            said: Mutex::default(),
        });
        let mesh = recorder.telemetry().mesh();
        match mesh.lookup_peer(address) {
            Lookup::Found(destination) => client.is(workload(&destination)),
            Lookup::Unknown if mesh.connected() => {
                let (mesh, waiting) = (mesh.clone(), client.clone());
                tokio::spawn(async move {
                    match mesh.peer(address).await {
                        Answer::Found(destination) => waiting.is(workload(&destination)),
                        Answer::Absent | Answer::Unavailable => waiting.is(Workload::default()),
                    }
                });
            }
            // Without an operator nobody would answer soon.
            Lookup::Absent | Lookup::Unknown => client.is(Workload::default()),
        }
        client
    }

    /// How the connection came.
    #[must_use]
    pub fn security(&self) -> Security {
        match self.identity {
            Some(_) => Security::MutualTls,
            None => Security::None,
        }
    }

    /// Whom the client proved to be.
    #[must_use]
    pub fn identity(&self) -> Option<&SpiffeId> {
        self.identity.as_ref()
    }

    /// The labels of what Istio's proxies say of themselves in a header; `None` for what does not parse.
    #[must_use]
    pub fn said(&self, header: &HeaderValue) -> Option<Arc<Base>> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, base)) = &*said
            && before == header
        {
            return Some(base.clone());
        }
        let workload = peer_metadata::parse(header.as_bytes())?;
        let base = self
            .recorder
            .from_peer(workload.into(), self.identity.as_ref(), self.port);
        // A copy of its own: the header's bytes are a part of the connection's buffer.
        let copy = HeaderValue::from_bytes(header.as_bytes()).ok()?;
        *said = Some((copy, base.clone()));
        Some(base)
    }

    /// Counts a request.
    pub fn request(&self, key: Key, values: &Values) {
        self.count(Waiting::Request(key, *values));
    }

    /// Counts a connection as open.
    pub fn opened(&self, key: Key) {
        self.count(Waiting::Opened(key));
    }

    /// Counts bytes of a connection.
    pub fn passed(&self, key: Key, received: u64, sent: u64) {
        if self.base.get().is_some() {
            return self.count(Waiting::Passed { key, received, sent });
        }
        // One entry for all of them: a connection may carry much before the answer comes.
        let mut waiting = self.lock();
        match waiting.iter_mut().find(|it| matches!(it, Waiting::Passed { .. })) {
            Some(Waiting::Passed {
                received: all_received,
                sent: all_sent,
                ..
            }) => {
                *all_received += received;
                *all_sent += sent;
            }
            _ => waiting.push(Waiting::Passed { key, received, sent }),
        }
    }

    /// Counts a connection as closed.
    pub fn closed(&self, key: Key) {
        self.count(Waiting::Closed(key));
    }

    fn count(&self, what: Waiting) {
        if let Some(base) = self.base.get() {
            return self.apply(base, &what);
        }
        let mut waiting = self.lock();
        waiting.push(what);
        if waiting.len() > MOST_WAITING {
            drop(waiting);
            self.is(Workload::default());
        }
    }

    fn is(&self, workload: Workload) {
        let base = self
            .base
            .get_or_init(|| self.recorder.from_peer(workload, self.identity.as_ref(), self.port));
        for waiting in std::mem::take(&mut *self.lock()) {
            self.apply(base, &waiting);
        }
    }

    fn apply(&self, base: &Base, what: &Waiting) {
        let connections = |key, count: &dyn Fn(&super::series::Connections)| {
            if let Series::Connections(connections) = self.recorder.series(base, key) {
                count(connections);
            }
        };
        match *what {
            Waiting::Request(key, ref values) => self.recorder.request(base, key, values),
            Waiting::Opened(key) => connections(key, &|it| it.opened.add(1)),
            Waiting::Closed(key) => connections(key, &|it| it.closed.add(1)),
            Waiting::Passed { key, received, sent } => connections(key, &|it| {
                it.received.add(received);
                it.sent.add(sent);
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn workload(destination: &Destination) -> Workload {
    destination
        .endpoints
        .first()
        .map(|endpoint| endpoint.workload.clone())
        .unwrap_or_default()
}
