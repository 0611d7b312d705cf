//! The streams that the data path joins: plain or under TLS, and with bytes that were read ahead put back. What is under TLS
//! may pass from rustls to the kernel while it is read and written (`crate::kernel_tls`).

use crate::kernel_tls::{Consideration, KernelStream, Records, consider, prepare};
use bytes::{Buf, Bytes};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// A stream whose first bytes were read ahead and are read again.
#[derive(Debug)]
pub struct Rewound<S> {
    ahead: Bytes,
    inner: S,
}

impl<S> Rewound<S> {
    /// `ahead` is read before what `inner` has.
    pub fn new(ahead: Bytes, inner: S) -> Self {
        Self { ahead, inner }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..n]);
        self.ahead.advance(n);
        if self.ahead.is_empty() {
            // An empty rest would still hold the buffer, for as long as the connection lives.
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Either end of a connection that the proxy joins. The TLS states are boxed: they are large, and a plain connection should
/// not pay for them.
#[derive(Debug)]
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// In the clear, with bytes read ahead.
    Rewound(Rewound<TcpStream>),
    /// TLS that the proxy opened.
    Client(Box<client::TlsStream<Records<TcpStream>>>),
    /// TLS that the proxy accepted, its ClientHello already read.
    Server(Box<server::TlsStream<Records<TcpStream>>>),
    /// TLS that the kernel carries.
    Kernel(Box<KernelStream>),
    /// A connection that was lost on its way to the kernel.
    Lost,
}

impl Stream {
    /// In the clear, with what was read ahead of it, if anything was.
    #[must_use]
    pub fn ahead(ahead: Bytes, tcp: TcpStream) -> Self {
        if ahead.is_empty() {
            Self::Plain(tcp)
        } else {
            Self::Rewound(Rewound::new(ahead, tcp))
        }
    }

    /// Makes the closing that follows a reset, which nobody takes for an orderly end. What was not sent yet is lost.
    pub fn reset(&self) {
        // Where it fails the connection is gone already.
        if let Some(tcp) = self.tcp() {
            let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }

    /// This end's address; `None` where the kernel does not say.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Rewound(rewound) => Some(&rewound.inner),
            Self::Client(tls) => Some(tls.get_ref().0.get_ref()),
            Self::Server(tls) => Some(tls.get_ref().0.get_ref()),
            Self::Kernel(kernel) => Some(kernel.get_ref()),
            Self::Lost => None,
        }
    }

    /// Where rustls has it, what may be handed to the kernel.
    fn records(&mut self) -> Option<&mut Records<TcpStream>> {
        match self {
            Self::Client(tls) => Some(tls.get_mut().0),
            Self::Server(tls) => Some(tls.get_mut().0),
            Self::Plain(_) | Self::Rewound(_) | Self::Kernel(_) | Self::Lost => None,
        }
        .filter(|records| records.is_watched())
    }

    fn consider(&mut self) -> Consideration {
        match self {
            Self::Client(tls) => {
                let (records, connection) = tls.get_mut();
                let tickets = connection.tls13_tickets_received();
                consider(records, connection, tickets)
            }
            Self::Server(tls) => {
                let (records, connection) = tls.get_mut();
                consider(records, connection, 0)
            }
            Self::Plain(_) | Self::Rewound(_) | Self::Kernel(_) | Self::Lost => Consideration::No,
        }
    }

    /// Hands the connection to the kernel, if it takes it.
    fn hand_over(&mut self) {
        let prepared = match self {
            Self::Client(tls) => {
                let (records, connection) = tls.get_mut();
                prepare(records, connection)
            }
            Self::Server(tls) => {
                let (records, connection) = tls.get_mut();
                prepare(records, connection)
            }
            Self::Plain(_) | Self::Rewound(_) | Self::Kernel(_) | Self::Lost => None,
        };
        let Some(prepared) = prepared else { return };
        let (records, secrets) = match mem::replace(self, Self::Lost) {
            Self::Client(tls) => {
                let (records, connection) = tls.into_inner();
                (records, connection.dangerous_extract_secrets())
            }
            Self::Server(tls) => {
                let (records, connection) = tls.into_inner();
                (records, connection.dangerous_extract_secrets())
            }
            other => {
                *self = other;
                return;
            }
        };
        if let Some(kernel) = prepared.finish(records, secrets) {
            *self = Self::Kernel(Box::new(kernel));
        }
    }

    /// Before and after reading: hands the connection over if nothing is under way. Whether that was done.
    fn may_be_handed_over(&mut self) -> bool {
        let ready = self.records().is_some() && self.consider() == Consideration::Yes;
        if ready {
            self.hand_over();
        }
        ready
    }

    /// Before writing: sends what rustls has left to send, where that alone is in the way.
    fn poll_handed_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.records().is_none() {
            return Poll::Ready(Ok(()));
        }
        if self.consider() == Consideration::Flush {
            ready!(Pin::new(&mut *self).poll_flush(cx))?;
        }
        self.may_be_handed_over();
        Poll::Ready(Ok(()))
    }
}

/// What a lost connection answers.
fn lost() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Stream::Plain(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::Rewound(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::Client(inner) => {
                let $stream = Pin::new(inner.as_mut());
                $call
            }
            Stream::Server(inner) => {
                let $stream = Pin::new(inner.as_mut());
                $call
            }
            Stream::Kernel(inner) => {
                let $stream = Pin::new(inner.as_mut());
                $call
            }
            Stream::Lost => Poll::Ready(Err(lost())),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.records().is_none() {
            return delegate!(this, stream => stream.poll_read(cx, buf));
        }
        if this.may_be_handed_over() {
            return delegate!(this, stream => stream.poll_read(cx, buf));
        }
        let before = buf.filled().len();
        let read = delegate!(this, stream => stream.poll_read(cx, buf));
        match read {
            // What was read was no data, but may be what was waited for.
            Poll::Pending if this.may_be_handed_over() => delegate!(this, stream => stream.poll_read(cx, buf)),
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                if let Some(records) = this.records() {
                    records.heard();
                }
                read
            }
            read => read,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_handed_over(cx))?;
        delegate!(this, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        delegate!(this, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(records) = this.records() {
            // It would have to be closed on both sides of the way.
            records.forget();
        }
        delegate!(this, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_handed_over(cx))?;
        delegate!(this, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(inner) => inner.is_write_vectored(),
            Self::Rewound(inner) => inner.is_write_vectored(),
            Self::Client(inner) => inner.is_write_vectored(),
            Self::Server(inner) => inner.is_write_vectored(),
            Self::Kernel(inner) => inner.is_write_vectored(),
            Self::Lost => false,
        }
    }
}
