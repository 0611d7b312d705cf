//! A response's body with the record of its request, which ends with it.

use super::request::Record;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A response's body; the record ends with it.
#[derive(Debug)]
pub struct Recorded<B: Body> {
    body: B,
    record: Record,
}

impl<B: Body> Recorded<B> {
    pub(super) fn new(body: B, record: Record) -> Self {
        Self { body, record }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Recorded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => this.record.frame(frame),
            Poll::Ready(Some(Err(_))) => this.record.broke_off(),
            Poll::Ready(None) => this.record.ended(),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for Recorded<B> {
    fn drop(&mut self) {
        // Whoever sends it does not ask again once it says that it has ended.
        if self.body.is_end_stream() {
            self.record.ended();
        }
    }
}
