//! A connection whose TLS the kernel carries.

use super::KernelTls;
use super::counts::Ended;
use super::crypto_info::{CryptoInfo, Direction as Keys, Suite};
use super::messages::{ALERT, CLOSE_NOTIFY, DATA, Messages, Said};
use super::sockets::{self, Received};
use crate::net::listen::Direction;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// The most data in a record (RFC 8446, section 5.1).
const RECORD: u64 = 16 * 1024;

/// What one use of the cipher encrypts.
const BLOCK: u64 = 16;

/// After how long it is looked again whether TCP has everything, at first and at the most.
const LOOK: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// A connection whose TLS the kernel carries: what is read and written is plaintext.
#[derive(Debug)]
pub struct KernelStream {
    socket: TcpStream,
    kernel: Arc<KernelTls>,
    direction: Direction,
    suite: Suite,
    messages: Messages,
    read_closed: bool,
    sent: Sent,
    closing: Closing,
}

/// What was sent since the kernel has the connection.
#[derive(Debug)]
struct Sent {
    /// The number of the first record.
    first: u64,
    /// What TCP had been given before it.
    given: u64,
    /// Plaintext.
    bytes: u64,
    /// Blocks, with one more for each record.
    blocks: u64,
}

impl Sent {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.blocks += bytes.div_ceil(BLOCK) + bytes.div_ceil(RECORD);
    }
}

/// How far the closing of what is sent is.
#[derive(Debug)]
enum Closing {
    No,
    /// The peer is told; the kernel may still hold records that TCP had no room for.
    Told {
        look: Option<Pin<Box<Sleep>>>,
        wait: Duration,
    },
    Closed,
}

impl KernelStream {
    pub(super) fn new(
        socket: TcpStream,
        kernel: Arc<KernelTls>,
        direction: Direction,
        suite: Suite,
        first: u64,
        given: u64,
    ) -> Self {
        Self {
            socket,
            kernel,
            direction,
            suite,
            messages: Messages::new(suite.version, direction),
            read_closed: false,
            sent: Sent {
                first,
                given,
                bytes: 0,
                blocks: 0,
            },
            closing: Closing::No,
        }
    }

    /// The socket. What is written to it directly is encrypted as well.
    #[must_use]
    pub fn get_ref(&self) -> &TcpStream {
        &self.socket
    }

    fn break_off(&self, reason: Ended) -> io::Error {
        self.kernel.counts.ended(reason);
        let direction = match self.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        tracing::info!(%reason, direction, suite = self.suite.name(), "a connection carried by the kernel is broken off");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Whether as much may still be sent under these keys. Nobody changes them: that needs Linux 6.14, and a secret that
    /// rustls does not give away.
    fn within_limit(&self) -> io::Result<()> {
        match self.suite.most_blocks() {
            Some(most) if self.sent.blocks >= most => Err(self.break_off(Ended::KeyLimit)),
            _ => Ok(()),
        }
    }

    fn is_writable(&self) -> io::Result<()> {
        match self.closing {
            Closing::No => self.within_limit(),
            Closing::Told { .. } | Closing::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether TCP has all that was written. A socket that is shut down takes nothing more, and the kernel would drop the
    /// records that it still holds; it does not say whether it holds any, but how many it has made.
    fn is_flushed(&self) -> io::Result<bool> {
        let mut keys = CryptoInfo::empty(self.suite);
        sockets::read_keys(&self.socket, Keys::Transmit, &mut keys)?;
        let records = keys.sequence().wrapping_sub(self.sent.first);
        let made = self.sent.bytes + records * self.suite.overhead();
        match sockets::given_to_tcp(&self.socket) {
            Ok(given) => Ok(given.wrapping_sub(self.sent.given) >= made),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn poll_tell(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                sockets::send_record(&self.socket, ALERT, &CLOSE_NOTIFY)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

#[cfg(test)]
impl KernelStream {
    /// As if all had been sent under its key that may be.
    pub(super) fn spend_key(&mut self) {
        self.sent.blocks = self.suite.most_blocks().unwrap_or(0);
    }
}

impl AsyncRead for KernelStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_closed || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.socket.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let socket = &this.socket;
            let received = socket.try_io(Interest::READABLE, || sockets::receive(socket, room));
            let (kind, length) = match received {
                Ok(Received::Record(kind, length)) => (kind, length),
                Ok(Received::End) => {
                    let text = "the peer closed the connection without saying so in TLS (close_notify)";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    return Poll::Ready(Err(match error.raw_os_error() {
                        Some(libc::EBADMSG | libc::EMSGSIZE | libc::EINVAL) => this.break_off(Ended::Undecipherable),
                        _ => error,
                    }));
                }
            };
            if kind == DATA && length > 0 {
                this.messages.data();
                buf.advance(length);
                return Poll::Ready(Ok(()));
            }
            match this.messages.take(kind, &room[..length]) {
                Ok(Said::Nothing) => {}
                Ok(Said::Closed) => {
                    this.read_closed = true;
                    return Poll::Ready(Ok(()));
                }
                Err(reason) => return Poll::Ready(Err(this.break_off(reason))),
            }
        }
    }
}

impl AsyncWrite for KernelStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_writable()?;
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, buf))?;
        this.sent.add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_writable()?;
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bufs))?;
        this.sent.add(written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that no more is sent, and closes this side once TCP has everything.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.closing {
                Closing::No => {
                    ready!(this.poll_tell(cx))?;
                    this.sent.add(CLOSE_NOTIFY.len() as u64);
                    this.closing = Closing::Told {
                        look: None,
                        wait: LOOK[0],
                    };
                }
                Closing::Told { look, wait } => {
                    let wait = *wait;
                    if let Some(look) = look {
                        ready!(look.as_mut().poll(cx));
                    }
                    if this.is_flushed()? {
                        this.closing = Closing::Closed;
                    } else {
                        this.closing = Closing::Told {
                            look: Some(Box::pin(tokio::time::sleep(wait))),
                            wait: (wait * 2).min(LOOK[1]),
                        };
                    }
                }
                Closing::Closed => return Pin::new(&mut this.socket).poll_shutdown(cx),
            }
        }
    }
}
