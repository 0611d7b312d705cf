//! Open HTTP/2 connections, one pool per worker. A connection carries many requests at once; another one is opened only when
//! each of those there are carries as many as it may.
//!
//! A [`Lease`] is one request's stream: it keeps its place on the connection from its making to the response's end.

use super::pool::{self, Key};
use bytes::Bytes;
use h2::client::SendRequest;
use mesh_core::identity::SpiffeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The most requests that one connection carries at once, where its server does not allow fewer. With
/// [`STREAM_WINDOW`](super::http2_client::STREAM_WINDOW) it bounds what a connection can hold of bodies that nobody reads.
pub const MOST_STREAMS: usize = 100;

/// The most connections to one endpoint; beyond them a request waits on the one that carries the fewest.
const MOST_CONNECTIONS: usize = 64;

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(60);

/// An open connection, before it is the pool's.
#[derive(Debug)]
pub struct Connection {
    /// Begins streams.
    pub sender: SendRequest<Bytes>,
    /// Whom the server proved to be.
    pub peer: Option<SpiffeId>,
    /// The TLS that it was made under, see [`crate::identity::configs::Tls::generation`]; 0 in the clear.
    pub generation: u64,
    /// How many streams are open; shared with whoever keeps the connection alive.
    pub streams: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Member {
    connection: Connection,
    /// When it was last seen to carry nothing.
    idle_since: Option<Instant>,
}

impl Member {
    /// Whether it takes new streams: neither broken nor said to be going away.
    fn is_open(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(self.connection.sender.poll_ready(&mut nobody), Poll::Ready(Ok(())))
    }

    fn streams(&self) -> usize {
        self.connection.streams.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.streams() < MOST_STREAMS.min(self.connection.sender.current_max_send_streams())
    }

    fn lease(&self, reused: bool, under_way: Option<pool::Lease>) -> Lease {
        self.connection.streams.fetch_add(1, Ordering::Relaxed);
        Lease {
            sender: self.connection.sender.clone(),
            reused,
            _place: Place(self.connection.streams.clone()),
            _under_way: under_way,
        }
    }
}

/// When the last attempt to open a connection failed, and why.
type LastFailure<E> = Option<(Instant, Arc<E>)>;

#[derive(Debug)]
struct Entry<E> {
    members: Vec<Member>,
    /// Held while a connection is opened, so that a burst of requests opens one and not one each.
    opening: Arc<tokio::sync::Mutex<LastFailure<E>>>,
}

impl<E> Default for Entry<E> {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            opening: Arc::default(),
        }
    }
}

/// A worker's connections; `E` is why one cannot be opened.
#[derive(Debug)]
pub struct Pool<E>(Arc<Mutex<HashMap<Key, Entry<E>>>>);

impl<E> Default for Pool<E> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<E> Pool<E> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry<E>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a request on a connection that `fits`, one that is opened for it if need be. `under_way` counts the
    /// request as one of the endpoint's.
    ///
    /// # Errors
    /// That of `open`; who waited while somebody else's attempt failed shares its error.
    pub async fn lease<F>(
        &self,
        key: Key,
        fits: impl Fn(&Connection) -> bool,
        under_way: pool::Lease,
        open: impl FnOnce() -> F,
    ) -> Result<Lease, Arc<E>>
    where
        F: Future<Output = Result<Connection, E>>,
    {
        let mut under_way = Some(under_way);
        if let Some(lease) = self.place(key, &fits, &mut under_way) {
            return Ok(lease);
        }
        let asked = Instant::now();
        let opening = self.lock().entry(key).or_default().opening.clone();
        let mut last = opening.lock().await;
        if let Some(lease) = self.place(key, &fits, &mut under_way) {
            return Ok(lease);
        }
        if let Some((at, error)) = &*last
            && *at >= asked
        {
            return Err(error.clone());
        }
        match open().await {
            Ok(connection) => {
                let member = Member {
                    connection,
                    idle_since: None,
                };
                let lease = member.lease(false, under_way);
                self.lock().entry(key).or_default().members.push(member);
                Ok(lease)
            }
            Err(error) => {
                let error = Arc::new(error);
                *last = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// A place on a connection that is open, if there is one; `under_way` is taken for it.
    fn place(
        &self,
        key: Key,
        fits: impl Fn(&Connection) -> bool,
        under_way: &mut Option<pool::Lease>,
    ) -> Option<Lease> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&key)?;
        entry.members.retain_mut(Member::is_open);
        let fitting = || entry.members.iter().filter(|member| fits(&member.connection));
        let chosen = match fitting().find(|member| member.has_room()) {
            None if entry.members.len() >= MOST_CONNECTIONS => fitting().min_by_key(|member| member.streams()),
            found => found,
        };
        chosen.map(|member| member.lease(true, under_way.take()))
    }

    /// Closes what has waited too long. To be called every now and then.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, entry| {
            entry.members.retain_mut(|member| {
                if member.streams() > 0 {
                    member.idle_since = None;
                    return member.is_open();
                }
                now - *member.idle_since.get_or_insert(now) < IDLE && member.is_open()
            });
            // Whoever opens a connection holds on to the entry's lock.
            !entry.members.is_empty() || Arc::strong_count(&entry.opening) > 1
        });
    }
}

/// A stream's place among those of its connection.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request's use of a connection.
#[derive(Debug)]
pub struct Lease {
    /// Begins the stream.
    pub sender: SendRequest<Bytes>,
    /// Whether the connection was open before.
    pub reused: bool,
    _place: Place,
    _under_way: Option<pool::Lease>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::http2_client;
    use crate::net::stream::Stream;
    use std::net::{Ipv4Addr, SocketAddr};
    use tokio::net::{TcpListener, TcpStream};

    const KEY: Key = Key {
        address: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 80),
        mutual_tls: false,
        originated: 0,
    };

    /// A connection to a server that speaks HTTP/2 and answers nothing.
    async fn connection() -> Result<Connection, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut server = h2::server::handshake(server).await.unwrap();
            while server.accept().await.is_some() {}
        });
        Ok(http2_client::open(Stream::Plain(client), None, 0).await.unwrap())
    }

    #[tokio::test]
    async fn a_connection_is_shared_until_it_is_full() {
        let (pool, uses) = (Pool::default(), pool::Pool::default());
        let lease = async || pool.lease(KEY, |_| true, uses.count(KEY), connection).await.unwrap();
        let mut leases = Vec::new();
        for _ in 0..MOST_STREAMS {
            leases.push(lease().await);
        }
        let open = || pool.lock()[&KEY].members.len();
        assert_eq!((open(), uses.under_way(&KEY)), (1, MOST_STREAMS));
        leases.push(lease().await);
        assert_eq!(open(), 2);
        drop(leases);
        assert!(lease().await.reused && uses.under_way(&KEY) == 0);
        assert_eq!(open(), 2);
    }

    #[tokio::test]
    async fn a_burst_opens_one_connection_and_shares_its_failure() {
        let (pool, uses) = (Pool::default(), pool::Pool::default());
        let opened = AtomicUsize::new(0);
        let open = async || {
            opened.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            connection().await
        };
        let lease = || pool.lease(KEY, |_| true, uses.count(KEY), open);
        let (one, two, three) = tokio::join!(lease(), lease(), lease());
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
        assert_eq!(opened.load(Ordering::Relaxed), 1);

        let pool: Pool<String> = Pool::default();
        let fail = async || {
            opened.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err("refused".to_owned())
        };
        let lease = || pool.lease(KEY, |_| true, uses.count(KEY), fail);
        let (one, two) = tokio::join!(lease(), lease());
        assert_eq!(
            (one.unwrap_err(), two.unwrap_err()),
            (Arc::new("refused".into()), Arc::new("refused".into()))
        );
        assert_eq!(opened.load(Ordering::Relaxed), 2);
        assert!(lease().await.is_err());
        assert_eq!(opened.load(Ordering::Relaxed), 3, "a later request tries anew");
    }
}
