//! Connections: accepted, taken through mutual TLS, and handed on with the identity that the peer proved. Handshakes and
//! connections are bounded in number, handshakes also in time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_core::identity::SpiffeId;
use mesh_wire::tls::verify::peer_identity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::credentials::Current;
use crate::metrics::Metrics;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that are open at once, handshakes among them.
const MOST_CONNECTIONS: usize = 20_000;

/// How long accepting pauses after an error such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Who calls.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The identity that the certificate proved.
    pub identity: SpiffeId,
    /// The peer's address.
    pub address: SocketAddr,
}

/// A connection whose peer is known.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts connections and sends those that prove an identity to `ready`, until its receiver is gone.
pub async fn run(
    listener: TcpListener,
    current: Current,
    ready: mpsc::Sender<io::Result<Connection>>,
    metrics: Arc<Metrics>,
) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a discovery connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(config) = current.load_full() else {
            metrics.streams_refused.with_label_values(&["not_ready"]).inc();
            continue;
        };
        let (ready, metrics) = (ready.clone(), metrics.clone());
        tokio::spawn(async move {
            // Small messages are not held back; a socket that cannot do that still works.
            let _ = socket.set_nodelay(true);
            let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(socket)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    metrics.streams_refused.with_label_values(&["handshake"]).inc();
                    debug!(%address, %error, "a discovery connection failed its handshake");
                    return;
                }
                Err(_) => {
                    metrics.streams_refused.with_label_values(&["handshake_timeout"]).inc();
                    return;
                }
            };
            match peer_identity(stream.get_ref().1) {
                Ok(identity) => {
                    let connection = Connection {
                        stream,
                        peer: Peer { identity, address },
                        _permit: permit,
                    };
                    // The receiver is gone only when the server shuts down.
                    let _ = ready.send(Ok(connection)).await;
                }
                Err(error) => {
                    metrics.streams_refused.with_label_values(&["identity"]).inc();
                    debug!(%address, %error, "a discovery connection proved no identity");
                }
            }
        });
    }
}
