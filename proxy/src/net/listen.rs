//! Captured connections: accepted on a thread of their own per port and dealt out to the workers in turn, so that the
//! kernel's hash cannot load one worker with all of a client's connections.

use super::original::canonical;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// Which way a captured connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the pod's application to somewhere.
    Outbound,
    /// From somewhere to the pod's application.
    Inbound,
}

/// A captured connection, not yet looked at.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, non-blocking.
    pub socket: TcpStream,
    /// Who connected.
    pub peer: SocketAddr,
    /// Which way it goes.
    pub direction: Direction,
    /// Its place among the open connections; given back on drop.
    pub slot: Slot,
}

/// The open connections of the whole proxy, bounded.
#[derive(Debug, Clone)]
pub struct Slots {
    open: Arc<Open>,
    most: usize,
}

#[derive(Debug, Default)]
struct Open {
    all: AtomicUsize,
    inbound: AtomicUsize,
}

/// One open connection's place.
#[derive(Debug)]
pub struct Slot {
    open: Arc<Open>,
    direction: Direction,
}

impl Slots {
    /// Room for at most `most` connections.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            open: Arc::default(),
            most,
        }
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.all.load(Ordering::Relaxed)
    }

    /// How many of them lead to the application.
    #[must_use]
    pub fn inbound(&self) -> usize {
        self.open.inbound.load(Ordering::Relaxed)
    }

    fn take(&self, direction: Direction) -> Option<Slot> {
        let taken = self.open.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < self.most).then_some(n + 1)
        });
        taken.ok()?;
        if direction == Direction::Inbound {
            self.open.inbound.fetch_add(1, Ordering::Relaxed);
        }
        Some(Slot {
            open: self.open.clone(),
            direction,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.all.fetch_sub(1, Ordering::Relaxed);
        if self.direction == Direction::Inbound {
            self.open.inbound.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Binds a captured port on every address of the pod, IPv6 and IPv4 through one socket where the kernel has IPv6.
///
/// # Errors
/// That of the kernel, e.g. `EADDRINUSE`.
pub fn bind(port: u16) -> io::Result<TcpListener> {
    let v6 = socket(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match v6 {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            socket(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
        }
        other => other,
    }
}

fn socket(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if ip.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Accepts until the listener is shut down, and deals the connections out to `workers` in turn.
///
/// A connection for which there is no slot, or whose worker has a full queue, is closed at once and counted by `refused`.
pub fn accept(
    listener: &TcpListener,
    direction: Direction,
    slots: &Slots,
    workers: &[Sender<Accepted>],
    refused: &prometheus::IntCounter,
) {
    for worker in workers.iter().cycle() {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => match error.raw_os_error() {
                // Shut down.
                Some(libc::EINVAL | libc::EBADF) => return,
                // The client went away, or a signal came.
                Some(libc::ECONNABORTED | libc::EINTR) => continue,
                // Out of descriptors or memory: taking no connection for a moment lets others end.
                _ => {
                    tracing::warn!(%error, ?direction, "cannot accept");
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            },
        };
        let Some(slot) = slots.take(direction) else {
            refused.inc();
            continue;
        };
        if socket.set_nonblocking(true).is_err() {
            continue;
        }
        match worker.try_send(Accepted {
            socket,
            peer: canonical(peer),
            direction,
            slot,
        }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => refused.inc(),
            Err(TrySendError::Closed(_)) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_connections_are_bounded_and_given_back() {
        let slots = Slots::new(2);
        let (a, b) = (slots.take(Direction::Inbound), slots.take(Direction::Outbound));
        assert!(a.is_some() && b.is_some() && slots.take(Direction::Inbound).is_none());
        assert_eq!((slots.open(), slots.inbound()), (2, 1));
        drop(a);
        assert_eq!((slots.open(), slots.inbound()), (1, 0));
        assert!(slots.take(Direction::Inbound).is_some());
    }
}
