//! Sockets of the administration servers: bound early, so that a taken port is known at start, and served within
//! bounds on connections, header size and time. One request per connection: whoever holds one longer loses it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The answer of every administration page: small, and whole in memory.
pub(super) type Reply = Response<Full<Bytes>>;

/// Connections of one server at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 128;
/// Of these, connections of one address other than loopback, so that no one pod keeps the kubelet waiting.
const CONNECTIONS_PER_PEER: usize = 32;
/// Header lines of a request.
const HEADERS: usize = 64;
/// Bytes of a request's head.
const HEAD_SIZE: usize = 16 * 1024;
/// For a request's head to arrive.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// For a whole connection, beyond what the page itself may take.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// For open connections to end at shutdown.
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// Before the next try when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that the kernel keeps while we are busy.
const BACKLOG: i32 = 256;

/// Binds an address; `[::]` takes IPv4 too, and falls back to `0.0.0.0` in a kernel without IPv6.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = match bind_exactly(address) {
        Err(e) if address.ip().is_unspecified() && address.is_ipv6() && !is_taken(&e) => {
            bind_exactly(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        other => other,
    };
    bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves until `shutdown`; `page_time` is the longest that a page may take.
pub(super) async fn serve<F, A>(listener: TcpListener, page_time: Duration, answer: F, shutdown: CancellationToken)
where
    F: Fn(SocketAddr, Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut peers: HashMap<IpAddr, usize> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => match ended {
                Ok(peer) => forget(&mut peers, peer),
                // A panic in a page, which no longer says whose it was: start counting anew.
                Err(_) => peers.clear(),
            },
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    let open = peers.entry(peer.ip()).or_default();
                    if *open >= CONNECTIONS_PER_PEER && !peer.ip().is_loopback() {
                        tracing::debug!(%peer, "too many administration connections of one address");
                        continue;
                    }
                    *open += 1;
                    let connection = serve_one(stream, peer, answer.clone());
                    connections.spawn(async move {
                        if timeout(CONNECTION_TIME + page_time, connection).await.is_err() {
                            tracing::debug!(%peer, "the administration connection took too long");
                        }
                        peer.ip()
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let _ = timeout(CLOSING_TIME, async { while connections.join_next().await.is_some() {} }).await;
}

fn forget(peers: &mut HashMap<IpAddr, usize>, peer: IpAddr) {
    if let Entry::Occupied(mut open) = peers.entry(peer) {
        *open.get_mut() = open.get().saturating_sub(1);
        if *open.get() == 0 {
            open.remove();
        }
    }
}

async fn serve_one<F, A>(stream: TcpStream, peer: SocketAddr, answer: F)
where
    F: Fn(SocketAddr, Request<Incoming>) -> A,
    A: Future<Output = Reply>,
{
    let service = service_fn(|request| {
        let reply = answer(peer, request);
        async move { Ok::<_, std::convert::Infallible>(reply.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_SIZE)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "an administration connection broke off");
    }
}
