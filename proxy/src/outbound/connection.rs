//! A captured connection of the application: what it dialled and what it speaks.

use super::{http, tcp};
use crate::cluster::Cluster;
use crate::discovery::{Answer, Lookup};
use crate::net::client_hello;
use crate::net::first_bytes::{self, Spoken};
use crate::net::listen::{Accepted, Slot};
use crate::net::relay::{self, Count};
use crate::net::stream::Stream;
use crate::worker::{Taken, Worker};
use bytes::BytesMut;
use mesh_core::protocol::Declared;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a client on a port of undeclared protocol may be silent before its server is asked whether it speaks first.
pub const SILENCE: Duration = Duration::from_millis(100);

/// How long a ClientHello may take once it has begun.
const HELLO: Duration = Duration::from_secs(10);
/// How long the operator may take to say what a server name is, where it has just not said what the address is.
const SECOND_PATIENCE: Duration = Duration::from_millis(500);

/// What stands behind the address that was dialled.
#[derive(Debug, Clone)]
pub enum Dialled {
    /// A destination of the mesh.
    Known(Arc<Cluster>),
    /// Nothing that the mesh knows.
    Outside,
    /// The operator could not be asked.
    Unavailable {
        /// Whether it was waited for.
        waited: bool,
    },
}

impl Dialled {
    /// Whether the destination's routes look at the name that a client's TLS asks for.
    #[must_use]
    pub fn looks_at_names(&self) -> bool {
        match self {
            Self::Known(cluster) => cluster.routes.as_ref().is_some_and(|routes| !routes.tls.is_empty()),
            Self::Outside | Self::Unavailable { .. } => false,
        }
    }
}

impl From<Answer> for Dialled {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Found(cluster) => Self::Known(cluster),
            Answer::Absent => Self::Outside,
            Answer::Unavailable => Self::Unavailable { waited: true },
        }
    }
}

/// One captured connection's facts.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The application's side.
    pub peer: SocketAddr,
    /// The address and port that it dialled.
    pub address: SocketAddr,
    /// What is behind it.
    pub dialled: Dialled,
    /// The name that its own TLS asks for, where routes look at it or nothing else says where it goes.
    pub server_name: Option<Arc<str>>,
    /// Counts it as open for as long as anything comes of it.
    pub slot: Arc<Slot>,
}

/// Carries a captured connection to its end. What follows a decision is boxed, so that a connection holds the state of the path
/// that it took and not of the largest there is.
pub async fn carry(worker: Arc<Worker>, accepted: Accepted) {
    let Some(Taken {
        mut client,
        peer,
        address,
        slot,
    }) = worker.take(accepted)
    else {
        return;
    };

    let mut ahead = first_bytes::buffer();
    let dialled = dialled(&worker, &mut client, &mut ahead, address).await;
    let declared = match &dialled {
        Dialled::Known(destination) => destination.protocol,
        // A well-known port says enough about an address outside the mesh.
        Dialled::Outside | Dialled::Unavailable { .. } => mesh_core::protocol::declared(None, None, address.port()),
    };
    let facts = Facts {
        peer,
        address,
        dialled,
        server_name: None,
        slot,
    };
    match declared {
        Declared::Http | Declared::Http2 => {
            // Its client speaks first, however long that takes.
            let Ok(spoken) = first_bytes::read(&mut client, &mut ahead).await else {
                return;
            };
            let spoken = match (spoken, declared) {
                (Spoken::Http1 | Spoken::Http2, _) => spoken,
                // What is no HTTP is for the HTTP path to refuse.
                (Spoken::Tls | Spoken::Opaque, Declared::Http2) => Spoken::Http2,
                (Spoken::Tls | Spoken::Opaque, _) => Spoken::Http1,
            };
            Box::pin(spoken_to(worker, client, spoken, ahead, facts)).await;
        }
        Declared::Tcp | Declared::Udp if facts.dialled.looks_at_names() => {
            // The same.
            let Ok(spoken) = first_bytes::read(&mut client, &mut ahead).await else {
                return;
            };
            let spoken = match spoken {
                Spoken::Tls => Spoken::Tls,
                _ => Spoken::Opaque,
            };
            Box::pin(spoken_to(worker, client, spoken, ahead, facts)).await;
        }
        Declared::Tcp | Declared::Udp => {
            let client = Stream::ahead(ahead.freeze(), client);
            Box::pin(tcp::relay(&worker, client, facts)).await;
        }
        Declared::Detect => {
            let read = tokio::time::timeout(SILENCE, first_bytes::read(&mut client, &mut ahead)).await;
            match read {
                Ok(Ok(spoken)) => Box::pin(spoken_to(worker, client, spoken, ahead, facts)).await,
                Ok(Err(_)) => {}
                Err(_) => Box::pin(silent(worker, client, ahead, facts)).await,
            }
        }
    }
}

/// What stands behind an address. While no operator can be asked about one that is not known, a client that speaks HTTP does not
/// wait for it: its requests name their destinations themselves.
async fn dialled(worker: &Worker, client: &mut TcpStream, ahead: &mut BytesMut, address: SocketAddr) -> Dialled {
    if worker.mesh.connected() || !matches!(worker.mesh.lookup_address(address), Lookup::Unknown) {
        return worker.mesh.address(address).await.into();
    }
    let asked = worker.mesh.address(address);
    let mut asked = pin!(asked);
    tokio::select! {
        answer = &mut asked => answer.into(),
        read = first_bytes::read(client, ahead) => match read {
            Ok(Spoken::Http1 | Spoken::Http2) => Dialled::Unavailable { waited: false },
            // A connection that broke off is noticed by whoever reads next.
            Ok(Spoken::Tls | Spoken::Opaque) | Err(_) => asked.await.into(),
        },
    }
}

async fn spoken_to(worker: Arc<Worker>, mut client: TcpStream, spoken: Spoken, mut ahead: BytesMut, mut facts: Facts) {
    let outside = matches!(facts.dialled, Dialled::Outside);
    if spoken == Spoken::Tls && (outside || facts.dialled.looks_at_names()) {
        let read = tokio::time::timeout(HELLO, client_hello::read(&mut client, &mut ahead)).await;
        if let Ok(Ok(Ok(accepted))) = read {
            let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
            facts.server_name = name.map(Into::into);
        }
        if outside {
            Box::pin(named(&worker, &mut facts)).await;
        }
    }
    let client = Stream::ahead(ahead.freeze(), client);
    match spoken {
        Spoken::Http1 => http::serve(worker, client, facts).await,
        Spoken::Http2 => http::serve_http2(worker, client, facts).await,
        Spoken::Tls | Spoken::Opaque => tcp::relay(&worker, client, facts).await,
    }
}

/// Looks whether TLS to an address that nothing has is for a host that is told by its server name.
async fn named(worker: &Worker, facts: &mut Facts) {
    let Some(name) = &facts.server_name else { return };
    let port = facts.address.port();
    let answer = match worker.mesh.lookup_host(name, port) {
        Lookup::Found(destination) => Answer::Found(destination),
        Lookup::Absent => Answer::Absent,
        Lookup::Unknown => {
            let asked = tokio::time::timeout(SECOND_PATIENCE, worker.mesh.host(name, port)).await;
            asked.unwrap_or(Answer::Unavailable)
        }
    };
    if let Answer::Found(destination) = answer
        && destination.by_sni
    {
        facts.dialled = Dialled::Known(destination);
    }
}

/// The client has said nothing, or too little to tell: perhaps its server speaks first. A connection is opened for opaque
/// bytes, and whoever speaks first decides: the server's words make it a relay; a client's HTTP request drops it for the HTTP
/// path, even before it is open.
async fn silent(worker: Arc<Worker>, mut client: TcpStream, mut ahead: BytesMut, facts: Facts) {
    let mut record = tcp::record(&worker, &facts);
    let mut server = None;
    let mut greeting = [0; 1024];
    let first = {
        let opening = async {
            let Some(opened) = tcp::open(&worker, &facts, &mut record).await else {
                return First::Nobody;
            };
            let (stream, _) = server.insert(opened);
            First::Server(stream.read(&mut greeting).await)
        };
        tokio::select! {
            read = first_bytes::read(&mut client, &mut ahead) => First::Client(read),
            first = opening => first,
        }
    };
    match (first, server) {
        (First::Client(Ok(spoken)), None) => {
            record.discard();
            spoken_to(worker, client, spoken, ahead, facts).await;
        }
        (First::Client(Ok(spoken)), Some(server))
            if matches!(spoken, Spoken::Http1 | Spoken::Http2)
                || (spoken == Spoken::Tls
                    && (facts.dialled.looks_at_names() || matches!(facts.dialled, Dialled::Outside))) =>
        {
            drop(server);
            record.discard();
            spoken_to(worker, client, spoken, ahead, facts).await;
        }
        (First::Client(Ok(_)), Some((mut server, _under_way))) => {
            let mut client = Stream::ahead(ahead.freeze(), client);
            record.opened();
            relay::join(&mut client, &mut server, &mut record).await;
        }
        (First::Server(Ok(n)), Some((mut server, _under_way))) => {
            record.opened();
            record.down(n as u64);
            if client.write_all(&greeting[..n]).await.is_ok() {
                let mut client = Stream::ahead(ahead.freeze(), client);
                if n == 0 {
                    // The server closed without a word: so may the client.
                    let _ = client.shutdown().await;
                }
                relay::join(&mut client, &mut server, &mut record).await;
            }
        }
        // Who waits for a server's first word is told that there is none.
        (First::Nobody, _) => Stream::Plain(client).reset(),
        (First::Client(Err(_)) | First::Server(_), _) => {}
    }
}

/// Who spoke first.
enum First {
    Client(io::Result<Spoken>),
    Server(io::Result<usize>),
    /// No server could be reached.
    Nobody,
}
