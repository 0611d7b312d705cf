//! The connection to an endpoint: plain, under the mesh's mutual TLS with the server's identity checked against the
//! destination, or under TLS as a DestinationRule describes it.

use super::secured::{Called, Secured};
use crate::http::upstream::{ConnectError, Connected};
use crate::identity::configs::Tls;
use crate::kernel_tls::Records;
use crate::net::dial;
use crate::net::listen::Direction;
use crate::net::stream::Stream;
use crate::worker::Worker;
use mesh_core::destination::{Destination, Endpoint, Security};
use mesh_wire::tls::verify::peer_identity;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What will pass on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Opaque bytes.
    Opaque,
}

/// Connects to an endpoint of a destination.
///
/// # Errors
/// [`ConnectError`]. Nothing was sent to a server that is not one of the destination's.
pub async fn connect(
    worker: &Worker,
    destination: &Destination,
    secured: &Secured,
    endpoint: &Endpoint,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    let dial = async || dial::upstream(endpoint.address).await.map_err(ConnectError::Tcp);
    // Boxed, so that the handshake's state does not stay with the connection for its life.
    let result = match (&secured.originated, destination.security(endpoint)) {
        (Some(called), _) => {
            let tcp = dial().await?;
            let tcp = Records::new(tcp, worker.watch(Direction::Outbound));
            Box::pin(originate(called, tcp, carries)).await
        }
        (None, Security::Mesh) => {
            let tls = worker.identity.tls().ok_or(ConnectError::NoCertificate)?;
            let tcp = dial().await?;
            let tcp = Records::new(tcp, worker.watch(Direction::Outbound));
            Box::pin(handshake(&tls, destination, tcp, carries)).await
        }
        (None, Security::Plain) => {
            return Ok(Connected::in_the_clear(Stream::Plain(dial().await?)));
        }
        // Prepared for another version of the destination.
        (None, Security::Originated(rule, _) | Security::Refused(rule, _)) => {
            return Err(ConnectError::Rule(rule.rule.clone(), "its TLS was not prepared".into()));
        }
    };
    if result.is_err() {
        worker.metrics.handshakes_failed.with_label_values(&["outbound"]).inc();
    }
    result
}

async fn handshake(
    tls: &Arc<Tls>,
    destination: &Destination,
    tcp: Records<TcpStream>,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    let config = match carries {
        Carries::Http1 => tls.client_http.clone(),
        Carries::Http2 => tls.client_http2.clone(),
        Carries::Opaque => tls.client_opaque.clone(),
    };
    let name = ServerName::try_from(destination.sni())
        .map_err(|_| ConnectError::Handshake(io::Error::other("the destination's host makes no server name")))?;
    let stream = shake(config, name, tcp).await?;
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

/// To a server of whatever kind, verified as the rule says.
async fn originate(called: &Called, tcp: Records<TcpStream>, carries: Carries) -> Result<Connected, ConnectError> {
    let config = match carries {
        Carries::Http1 => called.tls.http1.clone(),
        Carries::Http2 => called.tls.http2.clone(),
        Carries::Opaque => called.tls.opaque.clone(),
    };
    let stream = shake(config, called.name.clone(), tcp).await?;
    Ok(Connected {
        stream: Stream::Client(Box::new(stream)),
        peer: None,
        generation: 0,
    })
}

async fn shake(
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    tcp: Records<TcpStream>,
) -> Result<TlsStream<Records<TcpStream>>, ConnectError> {
    let handshake = TlsConnector::from(config).connect(name, tcp);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(result) => result.map_err(ConnectError::Handshake),
        Err(_) => Err(ConnectError::Handshake(io::ErrorKind::TimedOut.into())),
    }
}
