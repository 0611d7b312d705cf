//! A connection to the pod: what PeerAuthentication says of the port that was dialled decides whether it is taken in the
//! clear, under mutual TLS, or not at all.

use super::authorization::{self, Caller};
use super::custom::Consent;
use super::{http, in_the_clear, standing, tcp, tls};
use crate::net::first_bytes::{self, Spoken};
use crate::net::listen::{Accepted, Slot};
use crate::net::relay::Count;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::worker::{Taken, Worker};
use bytes::{Bytes, BytesMut};
use mesh_core::peer_authentication::PortMode;
use mesh_core::protocol::Declared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a client may be silent, on a port that may be plaintext, before the application is asked whether it speaks first.
const SILENCE: Duration = Duration::from_millis(100);

/// How long a client may take to begin its handshake where nothing else is taken.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection's facts.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who connected.
    pub peer: SocketAddr,
    /// The pod's address and port that was dialled.
    pub address: SocketAddr,
    /// What Services declare of the port.
    pub declared: Declared,
    /// The mode in force on the port.
    pub mode: PortMode,
    /// Counts it as open for as long as anything comes of it.
    pub slot: Arc<Slot>,
}

/// Carries a connection to its end. What follows a decision is boxed, so that a connection holds the state of the path that it
/// took and not of the largest there is.
pub async fn carry(worker: Arc<Worker>, accepted: Accepted) {
    let Some(Taken {
        client,
        peer,
        address,
        slot,
    }) = worker.take(accepted)
    else {
        return;
    };
    let known = worker
        .mesh
        .inbound_policy()
        .filter(|_| worker.mesh.authorization().is_some());
    let Some(policy) = known else {
        return worker.refuse(
            Reason::NoPolicy,
            peer,
            Some(address),
            "nothing was received from the operator yet",
        );
    };
    let workload = worker.mesh.workload();
    let declared = workload.ports.get(&address.port()).copied();
    let declared = declared.unwrap_or_else(|| mesh_core::protocol::declared(None, None, address.port()));
    let facts = Facts {
        peer,
        address,
        declared,
        mode: policy.on_port(address.port()),
        slot,
    };
    match facts.mode {
        PortMode::Disable => Box::pin(plaintext(worker, client, facts)).await,
        PortMode::Permissive => Box::pin(permissive(worker, client, facts)).await,
        PortMode::Strict => Box::pin(strict(worker, client, facts, &policy.decided_by)).await,
    }
}

/// Mutual TLS or nothing.
async fn strict(worker: Arc<Worker>, mut client: TcpStream, facts: Facts, decided_by: &[String]) {
    let mut ahead = first_bytes::buffer();
    let read = tokio::time::timeout(HANDSHAKE_TIMEOUT, first_bytes::read(&mut client, &mut ahead)).await;
    match read {
        Ok(Ok(Spoken::Tls)) => Box::pin(tls::accept(worker, client, ahead.freeze(), facts)).await,
        Ok(Ok(_)) if ahead.is_empty() => {}
        Ok(Ok(_)) | Err(_) => {
            let by = decided_by.join(", ");
            let detail = format!("plaintext where PeerAuthentication {by} says STRICT");
            worker.refuse(Reason::Plaintext, facts.peer, Some(facts.address), detail);
            reset(client);
        }
        Ok(Err(_)) => {}
    }
}

/// Either: mutual TLS of the mesh is terminated, everything else is the application's.
async fn permissive(worker: Arc<Worker>, mut client: TcpStream, facts: Facts) {
    let mut ahead = first_bytes::buffer();
    match tokio::time::timeout(SILENCE, first_bytes::read(&mut client, &mut ahead)).await {
        Ok(Ok(Spoken::Tls)) => Box::pin(tls::accept(worker, client, ahead.freeze(), facts)).await,
        Ok(Ok(spoken)) => Box::pin(to_application(worker, client, spoken, ahead.freeze(), facts)).await,
        Ok(Err(_)) => {}
        Err(_) => Box::pin(silent(worker, client, ahead, facts)).await,
    }
}

/// In the clear.
async fn plaintext(worker: Arc<Worker>, mut client: TcpStream, facts: Facts) {
    let mut ahead = first_bytes::buffer();
    let read = match facts.declared {
        Declared::Tcp | Declared::Udp => {
            return to_application(worker, client, Spoken::Opaque, Bytes::new(), facts).await;
        }
        // Its client speaks first, however long that takes.
        Declared::Http | Declared::Http2 => Ok(first_bytes::read(&mut client, &mut ahead).await),
        Declared::Detect => tokio::time::timeout(SILENCE, first_bytes::read(&mut client, &mut ahead)).await,
    };
    match read {
        Ok(Ok(spoken)) => Box::pin(to_application(worker, client, spoken, ahead.freeze(), facts)).await,
        Ok(Err(_)) => {}
        Err(_) => Box::pin(silent(worker, client, ahead, facts)).await,
    }
}

/// Bytes in the clear, to the application as what they are, or as what the port was declared to speak.
pub(super) async fn to_application(worker: Arc<Worker>, client: TcpStream, spoken: Spoken, ahead: Bytes, facts: Facts) {
    let spoken = match (facts.declared, spoken) {
        // What is no HTTP/2 is for that path to refuse.
        (Declared::Http2, Spoken::Opaque) => Spoken::Http2,
        (Declared::Http | Declared::Http2 | Declared::Detect, spoken) => spoken,
        (Declared::Tcp | Declared::Udp, _) => Spoken::Opaque,
    };
    // One that was closed without a word would have come to the same end under STRICT.
    let _noted = if ahead.is_empty() {
        None
    } else {
        in_the_clear::noted(&worker, &facts)
    };
    let client = Stream::ahead(ahead, client);
    worker.metrics.connections.with_label_values(&["inbound", "none"]).inc();
    match spoken {
        Spoken::Http1 => http::serve(worker, client, facts, None).await,
        Spoken::Http2 => http::serve_http2(worker, client, facts, None).await,
        Spoken::Tls | Spoken::Opaque => tcp::relay(&worker, client, &facts, None).await,
    }
}

/// The client has said nothing, or too little to tell. The application is connected to: if it speaks first, that is a plaintext
/// connection of a protocol whose server speaks first; until then the client may still begin with anything. Where a policy
/// would deny such a connection, the application is not asked.
async fn silent(worker: Arc<Worker>, mut client: TcpStream, mut ahead: BytesMut, facts: Facts) {
    let caller = Caller::new(&facts, None);
    if authorization::denies_connection(&worker, &caller) {
        return Box::pin(unheard(worker, client, ahead, facts)).await;
    }
    let mut record = tcp::record(&worker, &facts, None);
    let Some(mut application) = tcp::open(&worker, &facts, &mut record).await else {
        return;
    };
    let mut greeting = [0; 1024];
    tokio::select! {
        read = first_bytes::read(&mut client, &mut ahead) => {
            drop(application);
            record.discard();
            if let Ok(spoken) = read {
                spoke(worker, client, spoken, ahead.freeze(), facts).await;
            }
        }
        read = application.read(&mut greeting) => {
            let Ok(n) = read else { return };
            let mut consent = Consent::default();
            if let Err(denied) = authorization::connection(&worker, &caller, &mut consent, true).await {
                denied.end(&mut record);
                return reset(client);
            }
            let _noted = in_the_clear::noted(&worker, &facts);
            worker.metrics.connections.with_label_values(&["inbound", "none"]).inc();
            record.opened();
            record.down(n as u64);
            if client.write_all(&greeting[..n]).await.is_ok() {
                let mut client = Stream::ahead(ahead.freeze(), client);
                if n == 0 {
                    let _ = client.shutdown().await;
                }
                standing::join(&worker, &facts, &caller, consent, &mut client, &mut application, &mut record).await;
            }
        }
    }
}

/// The client has said something after all.
async fn spoke(worker: Arc<Worker>, client: TcpStream, spoken: Spoken, ahead: Bytes, facts: Facts) {
    if spoken == Spoken::Tls && facts.mode != PortMode::Disable {
        tls::accept(worker, client, ahead, facts).await;
    } else {
        to_application(worker, client, spoken, ahead, facts).await;
    }
}

/// The client has said nothing yet on a connection that would be denied as an opaque one, and may still make requests.
async fn unheard(worker: Arc<Worker>, mut client: TcpStream, mut ahead: BytesMut, facts: Facts) {
    let requests = !matches!(facts.declared, Declared::Tcp | Declared::Udp);
    if requests {
        let read = first_bytes::read(&mut client, &mut ahead);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, read).await {
            Ok(Ok(spoken)) => return spoke(worker, client, spoken, ahead.freeze(), facts).await,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
    to_application(worker, client, Spoken::Opaque, ahead.freeze(), facts).await;
}

/// Closes so that the client sees a reset rather than an orderly end: it was refused, not answered.
pub(super) fn reset(client: TcpStream) {
    let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
}
