//! A request's body whose length is not known beforehand, or that holds gRPC messages: counted as it passes.

use super::grpc::Messages;
use super::histogram::Counter;
use crate::http::body::RequestBody;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What passed of a body, for its record.
#[derive(Debug, Default)]
pub struct Passed {
    /// Bytes.
    pub bytes: Counter,
    /// gRPC messages.
    pub messages: Counter,
}

/// A body that is counted.
#[derive(Debug)]
pub struct Counted {
    body: RequestBody,
    passed: Arc<Passed>,
    /// Of a gRPC call.
    messages: Option<Messages>,
}

impl Counted {
    pub(super) fn new(body: RequestBody, passed: Arc<Passed>, call: bool) -> Self {
        Self {
            body,
            passed,
            messages: call.then(Messages::default),
        }
    }

    /// As [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.passed.bytes.add(data.len() as u64);
            if let Some(messages) = &mut self.messages {
                let before = messages.count;
                messages.pass(data);
                self.passed.messages.add(messages.count - before);
            }
        }
        frame
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
