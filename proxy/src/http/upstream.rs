//! One try at a request, over a pooled connection of the request's own HTTP version or one that is opened for it; and tries
//! until one succeeds, where there is one address alone to try.

use super::body::{RequestBody, ResponseBody};
use super::pool::{Connection, Key, PATIENCE, Pool};
use super::{exchange, http2_client, http2_pool};
use crate::cluster::Use;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::telemetry::Record;
use http::{Request, Response, Version};
use mesh_core::identity::SpiffeId;
use mesh_wire::tls::verify::explain_io;
use std::io;
use std::sync::Arc;

/// An open connection, before anything is spoken on it.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: Stream,
    /// Whom the server proved to be, under mutual TLS.
    pub peer: Option<SpiffeId>,
    /// The TLS that it was made under; 0 in the clear.
    pub generation: u64,
}

impl Connected {
    /// A connection that proves nothing of its server.
    #[must_use]
    pub fn in_the_clear(stream: Stream) -> Self {
        Self {
            stream,
            peer: None,
            generation: 0,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP.
    #[error("cannot connect: {0}")]
    Tcp(#[from] io::Error),
    /// No certificate is loaded.
    #[error("no certificate is loaded")]
    NoCertificate,
    /// TLS.
    #[error("handshake failed: {}", explain_io(.0))]
    Handshake(io::Error),
    /// A DestinationRule asks for what cannot be had.
    #[error("DestinationRule {0}: {1}")]
    Rule(Arc<str>, Box<str>),
    /// The server is somebody else.
    #[error("the server is {0}, which is none of the destination's identities")]
    Identity(SpiffeId),
}

impl ConnectError {
    /// The reason as it is counted.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Tcp(_) => Reason::Unreachable,
            Self::NoCertificate => Reason::NoCertificate,
            Self::Rule(..) => Reason::DestinationRule,
            Self::Handshake(_) | Self::Identity(_) => Reason::ServerHandshake,
        }
    }

    /// Whether the same server would fail in the same way a moment later: it has shown who it is.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Identity(_) | Self::Rule(..) => true,
            Self::Handshake(error) => error
                .get_ref()
                .and_then(|error| error.downcast_ref())
                .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_))),
            Self::Tcp(_) | Self::NoCertificate => false,
        }
    }
}

/// A worker's pools of one side.
#[derive(Debug, Default)]
pub struct Pools {
    /// HTTP/1.1, and how much is under way to each endpoint in any version.
    pub http1: Pool,
    /// HTTP/2.
    pub http2: http2_pool::Pool<ConnectError>,
}

impl Pools {
    /// Closes what has waited too long. To be called every now and then.
    pub fn sweep(&self) {
        self.http1.sweep();
        self.http2.sweep();
    }
}

/// Where a try goes.
#[derive(Debug)]
pub struct Server<'a> {
    /// The pools that have or take the connection.
    pub pools: &'a Pools,
    /// Which connections lead there.
    pub key: Key,
    /// What counts the request as under way.
    pub counted: Option<Use>,
}

/// Why a try failed.
#[derive(Debug)]
pub enum Failed {
    /// No connection came about.
    Connect {
        /// Why.
        error: Arc<ConnectError>,
        /// The request, of which nothing was sent.
        request: Request<RequestBody>,
    },
    /// There was one.
    Exchange(exchange::Failed),
}

/// How a request is tried once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// On a connection of its own.
    pub fresh: bool,
    /// Whoever asks keeps what is needed to try it again.
    pub kept: bool,
}

/// Tries a request once: on a waiting connection that `fits` (whom its server proved to be, and under which TLS), unless it is to
/// be a fresh one, or on one that `open` makes. An HTTP/2 connection that is known to be going away never fits.
///
/// # Errors
/// [`Failed`].
pub async fn try_once<F>(
    server: Server<'_>,
    request: Request<RequestBody>,
    record: &mut Record,
    manner: Manner,
    fits: impl Fn(Option<&SpiffeId>, u64) -> bool,
    open: impl FnOnce() -> F,
) -> Result<Response<ResponseBody>, Failed>
where
    F: Future<Output = Result<Connected, ConnectError>>,
{
    if request.version() == Version::HTTP_2 {
        // Boxed, so that a request in HTTP/1.1 does not carry this path's state.
        return Box::pin(over_http2(server, request, record, fits, open)).await;
    }
    let Server { pools, key, counted } = server;
    let fits = |waiting: &Connection| !manner.fresh && fits(waiting.peer.as_ref(), waiting.generation);
    let mut lease = match key.mutual_tls || key.originated != 0 {
        true => pools.http1.lease_patiently(key, PATIENCE, fits).await,
        false => pools.http1.lease(key, fits),
    };
    lease.counted = counted;
    let mut waiting = lease.connection.take();
    if !exchange::is_repeatable(&request)
        && let Some(connection) = &waiting
        && !exchange::is_open(connection).await
    {
        waiting = None;
    }
    let connection = match waiting {
        Some(connection) => connection,
        None => {
            let opened = async {
                let connected = open().await?;
                let opened = exchange::open(connected.stream, connected.peer, connected.generation).await;
                opened.map_err(|error| ConnectError::Tcp(io::Error::other(error)))
            };
            match opened.await {
                Ok(connection) => {
                    lease.opened();
                    connection
                }
                Err(error) => {
                    let error = Arc::new(error);
                    return Err(Failed::Connect { error, request });
                }
            }
        }
    };
    record.attempt();
    exchange::send(lease, connection, request, manner.kept)
        .await
        .map_err(Failed::Exchange)
}

async fn over_http2<F>(
    server: Server<'_>,
    request: Request<RequestBody>,
    record: &mut Record,
    fits: impl Fn(Option<&SpiffeId>, u64) -> bool,
    open: impl FnOnce() -> F,
) -> Result<Response<ResponseBody>, Failed>
where
    F: Future<Output = Result<Connected, ConnectError>>,
{
    let opened = async || {
        let connected = open().await?;
        let opened = http2_client::open(connected.stream, connected.peer, connected.generation).await;
        opened.map_err(|error| ConnectError::Tcp(io::Error::other(error)))
    };
    let fits = |waiting: &http2_pool::Connection| fits(waiting.peer.as_ref(), waiting.generation);
    let Server { pools, key, counted } = server;
    let mut under_way = pools.http1.count(key);
    under_way.counted = counted;
    match pools.http2.lease(key, fits, under_way, opened).await {
        Ok(lease) => {
            record.attempt();
            http2_client::send(lease, request).await.map_err(Failed::Exchange)
        }
        Err(error) => Err(Failed::Connect { error, request }),
    }
}

/// Tries a request up to so many times at one address in the clear, over connections that `open` makes.
///
/// # Errors
/// Why the last try failed, in words.
pub async fn to_address<F>(
    pools: &Pools,
    key: Key,
    attempts: usize,
    mut request: Request<RequestBody>,
    record: &mut Record,
    retries: &prometheus::IntCounter,
    open: impl Fn() -> F,
) -> Result<Response<ResponseBody>, String>
where
    F: Future<Output = Result<Connected, ConnectError>>,
{
    let mut last = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            retries.inc();
        }
        let server = Server {
            pools,
            key,
            counted: None,
        };
        let manner = Manner {
            fresh: attempt > 0,
            kept: false,
        };
        match try_once(server, request, record, manner, |_, _| true, &open).await {
            Ok(response) => return Ok(response),
            Err(Failed::Connect { error, .. }) => return Err(error.to_string()),
            Err(Failed::Exchange(failed)) => {
                last = failed.error.to_string();
                match failed.again {
                    Some(again) => request = again,
                    None => break,
                }
            }
        }
    }
    Err(last)
}
