//! Open HTTP/1.1 connections waiting for their next request, one pool per worker, so that taking one never contends.
//!
//! A [`Lease`] is one request's use of an endpoint: it lasts from its making to the end of request and response, and carries
//! the connection, which goes back to the pool only then.
//!
//! A burst of requests that finds no connection does not open one for each: a full handshake costs about what four requests
//! do, on both sides, so that the burst would wait longest of all. A few are opened; who finds those under way waits a
//! moment for one to come back.

use super::body::RequestBody;
use crate::cluster::Use;
use hyper::client::conn::http1::SendRequest;
use mesh_core::identity::SpiffeId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The most connections under mutual TLS that a worker opens to one endpoint at a time, unless [`PATIENCE`] ends.
const MOST_OPENING: usize = 2;

/// How long a request waits for another's connection before it opens its own: a few times what a request or handshake takes
/// inside a cluster, and little beside one that goes farther.
pub const PATIENCE: Duration = Duration::from_millis(5);

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(60);

/// The most connections to one endpoint that wait; more are closed.
const MOST_IDLE: usize = 512;

/// Which connections can stand for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where to.
    pub address: SocketAddr,
    /// Whether under the mesh's mutual TLS.
    pub mutual_tls: bool,
    /// Under which TLS of a DestinationRule, see [`crate::origination::Originated::id`]; 0 under none.
    pub originated: u64,
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
    opening: usize,
    /// Told when a connection has come back and when one fewer is being opened.
    free: Arc<Notify>,
}

impl Entry {
    fn take(&mut self, fits: impl Fn(&Connection) -> bool) -> Option<Connection> {
        while let Some(candidate) = self.idle.pop() {
            // One that is not ready although its response has ended is still sending its request: nothing to wait for.
            if candidate.sender.is_ready() && fits(&candidate) {
                return Some(candidate);
            }
        }
        None
    }
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
        Lease {
            pool: self.clone(),
            key,
            connection: entry.take(fits),
            counted: None,
            opening: false,
        }
    }

    /// As [`Pool::lease`], but where others are opening connections to the endpoint already, waits a moment for one that
    /// `fits` to come back. Without a connection in it, the lease's holder is to open one. `patience` is [`PATIENCE`].
    pub async fn lease_patiently(&self, key: Key, patience: Duration, fits: impl Fn(&Connection) -> bool) -> Lease {
        let mut lease = self.lease(key, &fits);
        if lease.connection.is_some() || lease.may_open() {
            return lease;
        }
        let free = self.lock().entry(key).or_default().free.clone();
        let waited = async {
            loop {
                free.notified().await;
                lease.connection = self.lock().get_mut(&key).and_then(|entry| entry.take(&fits));
                if lease.connection.is_some() || lease.may_open() {
                    return;
                }
            }
        };
        // Whose patience ends opens a connection of its own.
        let _ = tokio::time::timeout(patience, waited).await;
        lease
    }

    /// Begins a use of an endpoint by what brings a connection of its own; those that wait stay.
    #[must_use]
    pub fn count(&self, key: Key) -> Lease {
        self.lock().entry(key).or_default().under_way += 1;
        Lease {
            pool: self.clone(),
            key,
            connection: None,
            counted: None,
            opening: false,
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
    /// What else counts the use as under way.
    pub counted: Option<Use>,
    /// Whether its holder counts among those that are opening a connection.
    opening: bool,
}

impl Lease {
    fn may_open(&mut self) -> bool {
        if let Some(entry) = self.pool.lock().get_mut(&self.key)
            && entry.opening < MOST_OPENING
        {
            entry.opening += 1;
            self.opening = true;
        }
        self.opening
    }

    /// The connection that was to be opened is open, or will not be.
    pub fn opened(&mut self) {
        if std::mem::take(&mut self.opening)
            && let Some(entry) = self.pool.lock().get_mut(&self.key)
        {
            entry.opening = entry.opening.saturating_sub(1);
            entry.free.notify_one();
        }
    }

    /// The use has ended in order: the connection may serve the next.
    pub fn finish(mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.idle_since = Some(Instant::now());
            if let Some(entry) = self.pool.lock().get_mut(&self.key)
                && entry.idle.len() < MOST_IDLE
                && !connection.sender.is_closed()
            {
                entry.idle.push(connection);
                entry.free.notify_one();
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.opened();
        if let Some(entry) = self.pool.lock().get_mut(&self.key) {
            entry.under_way = entry.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::exchange;
    use crate::net::stream::Stream;
    use tokio::net::{TcpListener, TcpStream};

    const KEY: Key = Key {
        address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80),
        mutual_tls: true,
        originated: 0,
    };

    /// A connection that is ready for a request, to a server that says nothing.
    async fn connection() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        let mut connection = exchange::open(Stream::Plain(client), None, 0).await.unwrap();
        connection.sender.ready().await.unwrap();
        (connection, server)
    }

    #[tokio::test]
    async fn a_burst_opens_a_few_connections_and_waits_for_one_to_come_back() {
        let pool = Pool::default();
        let mut first = pool.lease_patiently(KEY, PATIENCE, |_| true).await;
        let second = pool.lease_patiently(KEY, PATIENCE, |_| true).await;
        assert!(first.opening && second.opening, "these are to open theirs");
        let (opened, _server) = connection().await;
        let (third, ()) = tokio::join!(pool.lease_patiently(KEY, Duration::MAX, |_| true), async {
            first.connection = Some(opened);
            first.finish();
        });
        assert!(third.connection.is_some() && !third.opening);
        assert_eq!(pool.under_way(&KEY), 2);
    }

    #[tokio::test]
    async fn what_failed_to_open_makes_room_and_patience_ends() {
        let pool = Pool::default();
        let first = pool.lease_patiently(KEY, PATIENCE, |_| true).await;
        let _second = pool.lease_patiently(KEY, PATIENCE, |_| true).await;
        let third = pool.lease_patiently(KEY, Duration::ZERO, |_| true).await;
        assert!(third.connection.is_none() && !third.opening);
        let (fourth, ()) = tokio::join!(pool.lease_patiently(KEY, Duration::MAX, |_| true), async {
            drop(first);
        });
        assert!(fourth.opening);
    }
}
