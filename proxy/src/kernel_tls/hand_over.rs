//! When a connection is handed to the kernel, and how.
//!
//! After the handshake it goes on under rustls until nothing is under way: no part of a record was read, no plaintext waits
//! for its reader, nothing is left to send, and a client has had its chance to receive session tickets, since the kernel
//! cannot keep them. Everything that can fail is tried before the keys leave rustls, so that what cannot be handed over goes
//! on as it is.

use super::KernelTls;
use super::counts::Outcome;
use super::crypto_info::{CryptoInfo, Direction as Keys, Suite};
use super::records::Records;
use super::sockets;
use super::stream::KernelStream;
use crate::net::listen::Direction;
use rustls::{ConnectionCommon, ExtractedSecrets, ProtocolVersion, SideData};
use std::io::{self, Write as _};
use std::sync::Arc;
use tokio::net::TcpStream;

/// How much a client sends while it waits for tickets. A server of BoringSSL's sends them with its first data, which may
/// never come.
const PATIENCE_BYTES: u64 = 256 * 1024;

/// Whether to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consideration {
    /// Not at this moment, or not at all.
    No,
    /// Once what is left to send is sent.
    Flush,
    /// Now.
    Yes,
}

/// Looks at a connection after its handshake; `tickets` is how many a client has received.
pub fn consider<D: SideData>(
    records: &mut Records<TcpStream>,
    connection: &mut ConnectionCommon<D>,
    tickets: u32,
) -> Consideration {
    let Some(watch) = records.watch() else {
        return Consideration::No;
    };
    let state = match connection.process_new_packets() {
        Ok(state) if !state.peer_has_closed() => state,
        // Whoever reads next is told.
        Ok(_) | Err(_) => {
            watch.kernel.counts.outcome(watch.direction, Outcome::Closing);
            records.forget();
            return Consideration::No;
        }
    };
    // In TLS 1.2 they are part of the handshake.
    let expects_tickets = watch.direction == Direction::Outbound
        && watch.kernel.resumption
        && connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    if expects_tickets && tickets == 0 && !watch.heard && watch.written < PATIENCE_BYTES {
        return Consideration::No;
    }
    watch.one_by_one = true;
    if state.plaintext_bytes_to_read() > 0 || !watch.is_between_records() {
        return Consideration::No;
    }
    // An answer to a KeyUpdate waits for the next thing that is written.
    let _ = connection.writer().write(&[]);
    match connection.wants_write() {
        true => Consideration::Flush,
        false => Consideration::Yes,
    }
}

/// A connection that the kernel is ready to take.
#[derive(Debug)]
pub struct Prepared {
    kernel: Arc<KernelTls>,
    direction: Direction,
    suite: Suite,
    given: u64,
}

/// Does what can be taken back, or need not be. `None` where the connection stays as it is.
pub fn prepare<D: SideData>(records: &mut Records<TcpStream>, connection: &ConnectionCommon<D>) -> Option<Prepared> {
    let watch = records.watch()?;
    let (kernel, direction) = (watch.kernel.clone(), watch.direction);
    let prepared = prepare_socket(&kernel, records.get_ref(), connection);
    // Once is enough.
    records.forget();
    match prepared {
        Ok((suite, given)) => Some(Prepared {
            kernel,
            direction,
            suite,
            given,
        }),
        Err(outcome) => {
            kernel.counts.outcome(direction, outcome);
            None
        }
    }
}

fn prepare_socket<D: SideData>(
    kernel: &KernelTls,
    socket: &TcpStream,
    connection: &ConnectionCommon<D>,
) -> Result<(Suite, u64), Outcome> {
    let suite = connection.negotiated_cipher_suite().and_then(Suite::of);
    let suite = suite
        .filter(|suite| kernel.suites.contains(suite))
        .ok_or(Outcome::CipherSuite)?;
    let closed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotConnected => Outcome::Closing,
        _ => Outcome::Refused,
    };
    let given = sockets::given_to_tcp(socket).map_err(closed)?;
    sockets::set_ulp(socket).map_err(closed)?;
    Ok((suite, given))
}

impl Prepared {
    /// Gives the kernel the keys. `None` where it fails after all: the connection is reset, for nobody can go on with it.
    pub fn finish(
        self,
        records: Records<TcpStream>,
        secrets: Result<ExtractedSecrets, rustls::Error>,
    ) -> Option<KernelStream> {
        let socket = records.into_inner();
        let given = match secrets {
            Ok(secrets) => self.give(&socket, &secrets).map(|()| secrets.tx.0),
            Err(error) => Err(io::Error::other(error)),
        };
        match given {
            Ok(first) => {
                self.kernel.counts.outcome(self.direction, Outcome::Kernel);
                Some(KernelStream::new(
                    socket,
                    self.kernel,
                    self.direction,
                    self.suite,
                    first,
                    self.given,
                ))
            }
            Err(error) => {
                tracing::warn!(%error, suite = self.suite.name(), "the kernel failed to take a connection over");
                self.kernel.counts.outcome(self.direction, Outcome::Failed);
                // Where it fails the connection is gone already.
                let _ = socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
                None
            }
        }
    }

    fn give(&self, socket: &TcpStream, secrets: &ExtractedSecrets) -> io::Result<()> {
        let ExtractedSecrets { tx, rx } = secrets;
        for (direction, (sequence, secrets)) in [(Keys::Transmit, tx), (Keys::Receive, rx)] {
            let keys = CryptoInfo::new(self.suite, direction, *sequence, secrets)
                .ok_or_else(|| io::Error::other("the keys are not those of the cipher suite"))?;
            sockets::set_keys(socket, direction, &keys)?;
        }
        Ok(())
    }
}
