//! A socket whose records are followed as rustls reads them: the kernel can take over between two records, and nowhere else,
//! since what rustls has of one the kernel will not see again.

use super::KernelTls;
use crate::net::listen::Direction;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A record's header: its type, a version, and the length of what follows (RFC 8446, section 5.1).
const HEADER: usize = 5;

/// A socket under rustls. Where nothing is to be handed over it costs a branch.
#[derive(Debug)]
pub struct Records<S> {
    inner: S,
    watch: Option<Box<Watch>>,
}

/// A connection that is to be handed over.
#[derive(Debug)]
pub struct Watch {
    pub(super) kernel: Arc<KernelTls>,
    pub(super) direction: Direction,
    /// Whether the peer has sent data.
    pub(super) heard: bool,
    /// How much was sent, as the network has it.
    pub(super) written: u64,
    place: Place,
    /// Whether rustls is to read no further than to the end of the record that it has begun.
    pub(super) one_by_one: bool,
}

/// Where in the stream of records the next byte is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Place {
    header: [u8; HEADER],
    of_header: usize,
    of_body: usize,
}

impl Place {
    fn is_between(&self) -> bool {
        self.of_header == 0 && self.of_body == 0
    }

    /// How many bytes there are at least until the record ends, or its header does.
    fn missing(&self) -> usize {
        match self.of_body {
            0 => HEADER - self.of_header,
            body => body,
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (these, rest) = bytes.split_at(bytes.len().min(self.missing()));
            bytes = rest;
            if self.of_body > 0 {
                self.of_body -= these.len();
                continue;
            }
            self.header[self.of_header..self.of_header + these.len()].copy_from_slice(these);
            self.of_header += these.len();
            if self.of_header == HEADER {
                let [.., high, low] = self.header;
                self.of_header = 0;
                self.of_body = usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

impl Watch {
    /// Of a connection of which nothing was read.
    pub(super) fn new(kernel: Arc<KernelTls>, direction: Direction) -> Self {
        Self {
            kernel,
            direction,
            heard: false,
            written: 0,
            place: Place::default(),
            one_by_one: false,
        }
    }

    /// These were read already.
    #[must_use]
    pub fn after(mut self, bytes: &[u8]) -> Self {
        self.place.follow(bytes);
        self
    }

    pub(super) fn is_between_records(&self) -> bool {
        self.place.is_between()
    }
}

impl<S> Records<S> {
    /// Without a watch, everything passes as it is.
    pub fn new(inner: S, watch: Option<Watch>) -> Self {
        Self {
            inner,
            watch: watch.map(Box::new),
        }
    }

    /// The socket.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    pub(super) fn watch(&mut self) -> Option<&mut Watch> {
        self.watch.as_deref_mut()
    }

    /// Whether it is to be handed over.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Data have come from the peer.
    pub fn heard(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.heard = true;
        }
    }

    /// It is not to be handed over any more.
    pub fn forget(&mut self) {
        self.watch = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Records<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(watch) = &mut this.watch else {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        };
        let most = match watch.one_by_one {
            true => watch.place.missing().min(buf.remaining()),
            false => buf.remaining(),
        };
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
        watch.place.follow(part.filled());
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Records<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        if let Some(watch) = &mut self.watch {
            watch.written += written as u64;
        }
        Poll::Ready(Ok(written))
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
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        if let Some(watch) = &mut self.watch {
            watch.written += written as u64;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_followed_however_they_come() {
        let mut stream = Vec::new();
        let mut ends = vec![0];
        for length in [0_u16, 1, 5, 300, 16_401] {
            stream.extend_from_slice(&[23, 3, 3]);
            stream.extend_from_slice(&length.to_be_bytes());
            stream.resize(stream.len() + usize::from(length), 9);
            ends.push(stream.len());
        }
        for size in [1, 2, 3, 7, 100, 4096, stream.len()] {
            let mut place = Place::default();
            let mut at = 0;
            for piece in stream.chunks(size) {
                let missing = place.missing();
                assert!(
                    !ends.iter().any(|end| at < *end && *end < at + missing),
                    "{size} {at} {missing}"
                );
                place.follow(piece);
                at += piece.len();
                assert_eq!(place.is_between(), ends.contains(&at), "{size} {at}");
            }
        }
    }
}
