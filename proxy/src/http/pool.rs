//! Open HTTP/1.1 connections waiting for their next request, one pool per worker, so that taking one never contends.
//!
//! A [`Lease`] is one request's use of an endpoint: it counts as under way from its making to its end, which is what
//! balancing measures, and carries the connection, which goes back to the pool only when request and response have ended.

use super::body::RequestBody;
use hyper::client::conn::http1::SendRequest;
use mesh_core::identity::SpiffeId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(60);

/// The most connections to one endpoint that wait; more are closed.
const MOST_IDLE: usize = 512;

/// Which connections can stand for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where to.
    pub address: SocketAddr,
    /// Whether under mutual TLS.
    pub mutual_tls: bool,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    /// Sends requests.
    pub sender: SendRequest<RequestBody>,
    /// Whom the server proved to be.
    pub peer: Option<SpiffeId>,
    /// The TLS that it was made under, see [`crate::identity::configs::Tls::generation`]; 0 in the clear.
    pub generation: u64,
    /// Since when it has waited; `None` before its first request.
    pub idle_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Entry {
    idle: Vec<Connection>,
    under_way: usize,
}

/// A worker's connections.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<HashMap<Key, Entry>>>);

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests and connections are under way to an endpoint from this worker.
    #[must_use]
    pub fn under_way(&self, key: &Key) -> usize {
        self.lock().get(key).map_or(0, |entry| entry.under_way)
    }

    /// Begins a use of an endpoint, with a waiting connection that `fits` if there is one.
    #[must_use]
    pub fn lease(&self, key: Key, fits: impl Fn(&Connection) -> bool) -> Lease {
        let mut entries = self.lock();
        let entry = entries.entry(key).or_default();
        entry.under_way += 1;
        let mut connection = None;
        while let Some(candidate) = entry.idle.pop() {
            // One that is not ready although its response has ended is still sending its request: nothing to wait for.
            if candidate.sender.is_ready() && fits(&candidate) {
                connection = Some(candidate);
                break;
            }
        }
        Lease {
            pool: self.clone(),
            key,
            connection,
        }
    }

    /// Closes what has waited too long. To be called every now and then.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, entry| {
            entry.idle.retain(|waiting| {
                !waiting.sender.is_closed() && waiting.idle_since.is_some_and(|since| now - since < IDLE)
            });
            entry.under_way > 0 || !entry.idle.is_empty()
        });
    }
}

/// One use of an endpoint.
#[derive(Debug)]
pub struct Lease {
    pool: Pool,
    key: Key,
    /// The connection in use, if there is one yet.
    pub connection: Option<Connection>,
}

impl Lease {
    /// The use has ended in order: the connection may serve the next.
    pub fn finish(mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.idle_since = Some(Instant::now());
            if let Some(entry) = self.pool.lock().get_mut(&self.key)
                && entry.idle.len() < MOST_IDLE
                && !connection.sender.is_closed()
            {
                entry.idle.push(connection);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(entry) = self.pool.lock().get_mut(&self.key) {
            entry.under_way = entry.under_way.saturating_sub(1);
        }
    }
}
