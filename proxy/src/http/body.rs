//! The bodies that pass through: another connection's, or a short one of the proxy's own.

use super::expect::Held;
use super::http2_pool;
use super::pool::Lease;
use super::replay::Again;
use super::shared::Reader;
use super::timed::Timed;
use crate::telemetry::upload::Counted;
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Why a response's body breaks off; an HTTP/2 peer's code is found among its causes.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body.
#[derive(Debug)]
pub enum RequestBody {
    /// The client's.
    Incoming(Incoming),
    /// The client's, not to be touched before the server asks for it.
    Held(Box<Held>),
    /// One that is sent again, from its beginning.
    Again(Box<Again>),
    /// One that may be needed once more.
    Shared(Box<Reader>),
    /// One whose bytes are counted as they pass.
    Counted(Box<Counted>),
    /// The proxy's own.
    Own(Option<Bytes>),
    /// None: for a request that is sent again.
    Empty,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Incoming(body) => Pin::new(body).poll_frame(cx),
            Self::Held(body) => body.poll_frame(cx),
            Self::Again(body) => body.poll_frame(cx),
            Self::Shared(body) => body.poll_frame(cx),
            Self::Counted(body) => body.poll_frame(cx),
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            Self::Held(body) => body.is_end_stream(),
            Self::Again(body) => body.is_end_stream(),
            Self::Shared(body) => body.is_end_stream(),
            Self::Counted(body) => body.is_end_stream(),
            Self::Own(bytes) => bytes.is_none(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            Self::Held(body) => body.size_hint(),
            Self::Again(body) => body.size_hint(),
            Self::Shared(body) => body.size_hint(),
            Self::Counted(body) => body.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// A response's body.
#[derive(Debug)]
pub enum ResponseBody {
    /// The upstream's; its connection goes back to the pool at the end.
    Upstream {
        /// The body.
        body: Incoming,
        /// The connection that it comes from; gone once given back.
        lease: Option<Lease>,
    },
    /// The upstream's, over HTTP/2.
    Stream {
        /// The body.
        body: RecvStream,
        /// The stream's place on its connection; gone once given back.
        lease: Option<Box<http2_pool::Lease>>,
    },
    /// One of these that must end in time.
    Timed(Box<Timed>),
    /// The proxy's own words.
    Own(Option<Bytes>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Upstream { body, lease } => {
                let frame = Pin::new(&mut *body).poll_frame(cx);
                // hyper asks no further once the body says that it has ended.
                if (matches!(frame, Poll::Ready(None)) || (frame.is_ready() && body.is_end_stream()))
                    && let Some(lease) = lease.take()
                {
                    lease.finish();
                }
                frame.map_err(Into::into)
            }
            Self::Stream { body, lease } => {
                let frame = ready!(stream_frame(body, cx));
                if frame.is_none() || body.is_end_stream() {
                    *lease = None;
                }
                Poll::Ready(frame)
            }
            Self::Timed(body) => body.poll_frame(cx),
            Self::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream { body, .. } => body.is_end_stream(),
            Self::Stream { body, .. } => body.is_end_stream(),
            Self::Timed(body) => body.is_end_stream(),
            Self::Own(text) => text.as_ref().is_none_or(Bytes::is_empty),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream { body, .. } => body.size_hint(),
            Self::Stream { .. } => SizeHint::default(),
            Self::Timed(body) => body.size_hint(),
            Self::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

/// The next part of a body that comes over HTTP/2. What is taken makes room for more.
fn stream_frame(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    if let Some(data) = ready!(body.poll_data(cx)) {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        return Poll::Ready(Some(Ok(Frame::data(data))));
    }
    let trailers = ready!(body.poll_trailers(cx))?;
    Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
}
