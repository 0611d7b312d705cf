//! A captured connection of the application: what it dialled and what it speaks.

use super::{http, tcp};
use crate::discovery::Answer;
use crate::net::first_bytes::{self, Spoken};
use crate::net::listen::{Accepted, Slot};
use crate::net::relay::{self, Count};
use crate::net::stream::{Rewound, Stream};
use crate::worker::{Taken, Worker};
use bytes::{Bytes, BytesMut};
use mesh_core::destination::Destination;
use mesh_core::protocol::Declared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a client on a port of undeclared protocol may be silent before its server is asked whether it speaks first.
pub const SILENCE: Duration = Duration::from_millis(100);

/// What stands behind the address that was dialled.
#[derive(Debug, Clone)]
pub enum Dialled {
    /// A destination of the mesh.
    Known(Arc<Destination>),
    /// Nothing that the mesh knows.
    Outside,
    /// The operator could not be asked.
    Unavailable,
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

    let dialled = match worker.mesh.address(address).await {
        Answer::Found(destination) => Dialled::Known(destination),
        Answer::Absent => Dialled::Outside,
        Answer::Unavailable => Dialled::Unavailable,
    };
    let declared = match &dialled {
        Dialled::Known(destination) => destination.protocol,
        // A well-known port says enough about an address outside the mesh.
        Dialled::Outside | Dialled::Unavailable => mesh_core::protocol::declared(None, None, address.port()),
    };
    let facts = Facts {
        peer,
        address,
        dialled,
        slot,
    };
    let mut ahead = first_bytes::buffer();
    match declared {
        Declared::Http => {
            let Ok(_) = first_bytes::read(&mut client, &mut ahead).await else {
                return;
            };
            // HTTP/2 passes as it is; everything else is for the HTTP path to refuse.
            let spoken = if first_bytes::is_http2(&ahead) {
                Spoken::Opaque
            } else {
                Spoken::Http1
            };
            Box::pin(spoken_to(worker, client, spoken, ahead.freeze(), facts)).await;
        }
        Declared::Http2 | Declared::Tcp | Declared::Udp => {
            Box::pin(tcp::relay(&worker, Stream::Plain(client), facts)).await;
        }
        Declared::Detect => {
            let read = tokio::time::timeout(SILENCE, first_bytes::read(&mut client, &mut ahead)).await;
            match read {
                Ok(Ok(spoken)) => Box::pin(spoken_to(worker, client, spoken, ahead.freeze(), facts)).await,
                Ok(Err(_)) => {}
                Err(_) => Box::pin(silent(worker, client, ahead, facts)).await,
            }
        }
    }
}

async fn spoken_to(worker: Arc<Worker>, client: TcpStream, spoken: Spoken, ahead: Bytes, facts: Facts) {
    let client = Stream::Rewound(Rewound::new(ahead, client));
    match spoken {
        Spoken::Http1 => http::serve(worker, client, facts).await,
        Spoken::Tls | Spoken::Opaque => tcp::relay(&worker, client, facts).await,
    }
}

/// The client has said nothing, or too little to tell: perhaps its server speaks first. A connection is opened for opaque
/// bytes, and whoever speaks
/// first decides: the server's words make it a relay; a client's HTTP request drops it for the HTTP path.
async fn silent(worker: Arc<Worker>, mut client: TcpStream, mut ahead: BytesMut, facts: Facts) {
    let mut record = tcp::record(&worker, &facts);
    let Some((mut server, lease)) = tcp::open(&worker, &facts, &mut record).await else {
        return;
    };
    let mut greeting = [0; 1024];
    tokio::select! {
        read = first_bytes::read(&mut client, &mut ahead) => {
            let Ok(spoken) = read else { return };
            let ahead = ahead.freeze();
            if spoken == Spoken::Http1 {
                drop((server, lease));
                record.discard();
                return spoken_to(worker, client, spoken, ahead, facts).await;
            }
            let mut client = Stream::Rewound(Rewound::new(ahead, client));
            record.opened();
            relay::join(&mut client, &mut server, &mut record).await;
        }
        read = tokio::io::AsyncReadExt::read(&mut server, &mut greeting) => {
            let Ok(n) = read else { return };
            record.opened();
            record.down(n as u64);
            if tokio::io::AsyncWriteExt::write_all(&mut client, &greeting[..n]).await.is_ok() {
                let mut client = Stream::Rewound(Rewound::new(ahead.freeze(), client));
                if n == 0 {
                    // The server closed without a word: so may the client.
                    let _ = tokio::io::AsyncWriteExt::shutdown(&mut client).await;
                }
                relay::join(&mut client, &mut server, &mut record).await;
            }
        }
    }
}
