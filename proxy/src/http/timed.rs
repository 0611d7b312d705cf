//! A response's body that must have ended by a moment.

use super::body::{BodyError, ResponseBody};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body, and until when it may last.
#[derive(Debug)]
pub struct Timed {
    body: ResponseBody,
    until: Instant,
    /// Only once it is waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    /// Bounds a body.
    #[must_use]
    pub fn new(body: ResponseBody, until: Instant) -> Self {
        Self {
            body,
            until,
            sleep: None,
        }
    }

    /// The body itself.
    #[must_use]
    pub fn inner(&self) -> &ResponseBody {
        &self.body
    }

    /// As [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            return frame;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(self.until)));
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // With it goes the stream or connection that it would have come from.
        self.body = ResponseBody::Own(None);
        Poll::Ready(Some(Err("upstream request timeout".into())))
    }

    /// As [`Body::is_end_stream`].
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// As [`Body::size_hint`].
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
