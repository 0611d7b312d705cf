//! The handshake with a client, begun from the bytes that were already read: its ClientHello says what it offers, and that
//! chooses between terminating mutual TLS and passing TLS that is the application's own.

use super::connection::{Facts, reset, to_application};
use super::{http, tcp};
use crate::identity::configs::is_mesh;
use crate::kernel_tls::Records;
use crate::net::client_hello;
use crate::net::first_bytes::Spoken;
use crate::net::listen::Direction;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use mesh_core::identity::SpiffeId;
use mesh_core::peer_authentication::PortMode;
use mesh_core::protocol::Declared;
use mesh_wire::tls::verify::{explain_io, peer_identity};
use rustls::server::Accepted;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is on the other side.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its identity.
    pub identity: SpiffeId,
    /// Its leaf.
    pub certificate: CertificateDer<'static>,
    /// The server name that it asked for.
    pub server_name: Option<Arc<str>>,
}

/// Accepts a connection that begins like TLS.
pub async fn accept(worker: Arc<Worker>, mut client: TcpStream, ahead: Bytes, facts: Facts) {
    let refuse = |reason: Reason, detail: String| {
        worker.metrics.handshakes_failed.with_label_values(&["inbound"]).inc();
        worker.refuse(reason, facts.peer, Some(facts.address), detail);
    };
    let mut bytes = BytesMut::from(ahead);
    let hello = match tokio::time::timeout(HANDSHAKE_TIMEOUT, client_hello::read(&mut client, &mut bytes)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => return refuse(Reason::ClientHandshake, format!("reading the ClientHello: {error}")),
        Err(_) => return refuse(Reason::ClientHandshake, "no whole ClientHello in time".into()),
    };
    let bytes = bytes.freeze();
    let accepted = match hello {
        Ok(accepted) => accepted,
        Err(_) if facts.mode == PortMode::Permissive => {
            return to_application(worker, client, Spoken::Opaque, bytes, facts).await;
        }
        Err(error) => {
            refuse(Reason::ClientHandshake, error);
            return reset(client);
        }
    };
    let offered = accepted.client_hello();
    let mesh = offered.alpn().is_some_and(is_mesh);
    if !mesh && facts.mode == PortMode::Permissive {
        drop(accepted);
        return to_application(worker, client, Spoken::Tls, bytes, facts).await;
    }
    let declared_http = matches!(facts.declared, Declared::Http | Declared::Http2 | Declared::Detect);
    let http = declared_http && offers_http(&accepted);
    let Some(tls) = worker.identity.tls() else {
        return refuse(Reason::NoCertificate, "no certificate is loaded".into());
    };
    let config = if http {
        tls.server_http.clone()
    } else {
        tls.server_opaque.clone()
    };
    let watch = worker.watch(Direction::Inbound).map(|watch| watch.after(&bytes));
    let client = Records::new(client, watch);
    let handshake = StartHandshake::from_parts(*accepted, client).into_stream(config);
    // Boxed, so that the handshake's state does not stay with the connection for its life.
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return refuse(
                Reason::ClientHandshake,
                format!("handshake failed: {}", explain_io(&error)),
            );
        }
        Err(_) => return refuse(Reason::ClientHandshake, "handshake not finished in time".into()),
    };
    let peer = match peer(stream.get_ref().1) {
        Ok(peer) => peer,
        Err(error) => return refuse(Reason::ClientHandshake, error),
    };
    worker
        .metrics
        .connections
        .with_label_values(&["inbound", "mutual_tls"])
        .inc();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Stream::Server(Box::new(stream));
    if http2 {
        http::serve_http2(worker, stream, facts, Some(peer)).await;
    } else if http {
        http::serve(worker, stream, facts, Some(peer)).await;
    } else {
        tcp::relay(&worker, stream, &facts, Some(&peer)).await;
    }
}

fn offers_http(accepted: &Accepted) -> bool {
    let is_http = |protocol: &[u8]| matches!(protocol, b"h2" | b"http/1.1");
    accepted
        .client_hello()
        .alpn()
        .is_some_and(|mut offered| offered.any(is_http))
}

/// Who the finished handshake says the client is. A resumed session brings back the chain of the first one unverified, so
/// its time is looked at again here.
fn peer(connection: &rustls::ServerConnection) -> Result<Peer, String> {
    let identity = peer_identity(connection).map_err(|error| error.to_string())?;
    let leaf = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or("no certificate")?;
    let ended = crate::identity::configs::not_after(leaf).is_none_or(|not_after| not_after < SystemTime::now());
    if ended {
        return Err(format!("the certificate of {identity} has expired"));
    }
    Ok(Peer {
        identity,
        certificate: leaf.clone().into_owned(),
        server_name: connection.server_name().map(Into::into),
    })
}
