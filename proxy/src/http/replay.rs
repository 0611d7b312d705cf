//! What was sent of a request's body, kept until the server answers, so that the request can be sent once more.

use super::body::RequestBody;
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The most that is kept of one body; a larger one is not sent again.
const MOST_KEPT: usize = 64 * 1024;

/// The beginning of a body.
#[derive(Debug, Default)]
pub struct Kept {
    chunks: VecDeque<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
    /// Whether something of it is gone.
    lost: bool,
}

impl Kept {
    /// Keeps nothing from the first on.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            lost: true,
            ..Self::default()
        }
    }

    /// What was read of a body before it is sent the first time. Whoever reads it bounds it.
    #[must_use]
    pub fn read(chunks: VecDeque<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self {
            length: chunks.iter().map(Bytes::len).sum(),
            chunks,
            trailers,
            lost: false,
        }
    }

    /// Keeps a chunk, if there is room.
    pub fn data(&mut self, chunk: &Bytes) {
        if self.lost || self.length + chunk.len() > MOST_KEPT {
            *self = Self::nothing();
        } else {
            self.length += chunk.len();
            self.chunks.push_back(chunk.clone());
        }
    }

    /// Keeps the trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        if !self.lost {
            self.trailers = Some(trailers.clone());
        }
    }

    /// The body from its beginning: what was kept, and the `rest`. `None` where something is gone.
    #[must_use]
    pub fn then(self, rest: RequestBody) -> Option<RequestBody> {
        if self.lost {
            return None;
        }
        if self.chunks.is_empty() && self.trailers.is_none() {
            return Some(rest);
        }
        Some(RequestBody::Again(Box::new(Again::new(self, rest))))
    }
}

/// A body that is sent again.
#[derive(Debug)]
pub struct Again {
    kept: Kept,
    rest: RequestBody,
}

impl Again {
    /// What was kept, and then the `rest`.
    #[must_use]
    pub fn new(kept: Kept, rest: RequestBody) -> Self {
        Self { kept, rest }
    }

    /// As [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(chunk) = self.kept.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(trailers) = self.kept.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    /// As [`Body::is_end_stream`].
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.kept.chunks.is_empty() && self.kept.trailers.is_none() && self.rest.is_end_stream()
    }

    /// As [`Body::size_hint`].
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let (kept, rest) = (
            self.kept.chunks.iter().map(Bytes::len).sum::<usize>() as u64,
            self.rest.size_hint(),
        );
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(kept)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_sent_comes_again_unless_it_was_too_much() {
        let chunk = |length: usize| Bytes::from(vec![7; length]);
        for (lengths, expected) in [
            (&[][..], Some(0)),
            (&[3, 0, 4], Some(7)),
            (&[MOST_KEPT], Some(MOST_KEPT)),
            (&[MOST_KEPT, 1], None),
            (&[MOST_KEPT + 1, 1], None),
        ] {
            let mut kept = Kept::default();
            lengths.iter().for_each(|length| kept.data(&chunk(*length)));
            let mut body = kept.then(RequestBody::Empty);
            let mut length = body.as_ref().map(|_| 0);
            while let Some(body) = body.as_mut().filter(|body| !body.is_end_stream()) {
                let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
                let Some(length) = length.as_mut() else { break };
                *length += frame.unwrap().unwrap().into_data().unwrap().len();
            }
            assert_eq!(length, expected, "{lengths:?}");
        }
    }
}
