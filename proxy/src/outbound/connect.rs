//! The connection to an endpoint: plain, or under mutual TLS with the server's identity checked against the destination.

use crate::identity::configs::Tls;
use crate::net::dial;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::worker::Worker;
use mesh_core::destination::{Destination, Endpoint};
use mesh_core::identity::SpiffeId;
use mesh_wire::tls::verify::{explain_io, peer_identity};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What will pass on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// HTTP/1.1.
    Http,
    /// Opaque bytes.
    Opaque,
}

/// An open connection to an endpoint.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: Stream,
    /// Whom the server proved to be, under mutual TLS.
    pub peer: Option<SpiffeId>,
    /// The TLS that it was made under; 0 in the clear.
    pub generation: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP.
    #[error("cannot connect: {0}")]
    Tcp(io::Error),
    /// No certificate is loaded.
    #[error("no certificate is loaded")]
    NoCertificate,
    /// TLS.
    #[error("handshake failed: {}", explain_io(.0))]
    Handshake(io::Error),
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
            Self::Handshake(_) | Self::Identity(_) => Reason::ServerHandshake,
        }
    }
}

/// Connects to an endpoint of a destination.
///
/// # Errors
/// [`ConnectError`]. Nothing was sent to a server that is not one of the destination's.
pub async fn connect(
    worker: &Worker,
    destination: &Destination,
    endpoint: &Endpoint,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    if !endpoint.mutual_tls {
        let stream = dial::upstream(endpoint.address).await.map_err(ConnectError::Tcp)?;
        return Ok(Connected {
            stream: Stream::Plain(stream),
            peer: None,
            generation: 0,
        });
    }
    let tls = worker.identity.tls().ok_or(ConnectError::NoCertificate)?;
    let tcp = dial::upstream(endpoint.address).await.map_err(ConnectError::Tcp)?;
    // Boxed, so that the handshake's state does not stay with the connection for its life.
    let result = Box::pin(handshake(&tls, destination, tcp, carries)).await;
    if result.is_err() {
        worker.metrics.handshakes_failed.with_label_values(&["outbound"]).inc();
    }
    result
}

async fn handshake(
    tls: &Arc<Tls>,
    destination: &Destination,
    tcp: tokio::net::TcpStream,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    let config = match carries {
        Carries::Http => tls.client_http.clone(),
        Carries::Opaque => tls.client_opaque.clone(),
    };
    let name = ServerName::try_from(destination.sni())
        .map_err(|_| ConnectError::Handshake(io::Error::other("the destination's host makes no server name")))?;
    let handshake = TlsConnector::from(config).connect(name, tcp);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(result) => result.map_err(ConnectError::Handshake)?,
        Err(_) => return Err(ConnectError::Handshake(io::ErrorKind::TimedOut.into())),
    };
    let peer = peer_identity(stream.get_ref().1).map_err(|error| ConnectError::Handshake(io::Error::other(error)))?;
    if !destination.accepts(&peer) {
        return Err(ConnectError::Identity(peer));
    }
    Ok(Connected {
        stream: Stream::Client(Box::new(stream)),
        peer: Some(peer),
        generation: tls.generation,
    })
}
