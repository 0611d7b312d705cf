//! The bodies that pass through: another connection's, or a short one of the proxy's own.

use super::pool::Lease;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A request's body.
#[derive(Debug)]
pub enum RequestBody {
    /// The client's.
    Incoming(Incoming),
    /// None: for a request that is sent again.
    Empty,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Incoming(body) => Pin::new(body).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
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
    /// The proxy's own words.
    Own(Option<Bytes>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Upstream { body, lease } => {
                let frame = Pin::new(&mut *body).poll_frame(cx);
                // hyper asks no further once the body says that it has ended.
                if (matches!(frame, Poll::Ready(None)) || (frame.is_ready() && body.is_end_stream()))
                    && let Some(lease) = lease.take()
                {
                    lease.finish();
                }
                frame
            }
            Self::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream { body, .. } => body.is_end_stream(),
            Self::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream { body, .. } => body.size_hint(),
            Self::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
