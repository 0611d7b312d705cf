//! A request's body that may be needed more than once: by one try after another, and for copies of the request. What was read
//! of it is kept, up to a bound.

use super::body::RequestBody;
use super::replay::{Again, Kept};
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::Notify;

/// The most that is kept of one body (Envoy's buffer limit); a larger one is sent once.
const MOST_KEPT: usize = 1 << 20;

/// The most that is kept of all bodies together.
const MOST_KEPT_OF_ALL: usize = 64 << 20;

/// What is kept of all bodies.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// A body that is read by one reader after another.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Mutex<Source>,
    ended: AtomicBool,
    told: Notify,
}

#[derive(Debug)]
struct Source {
    body: RequestBody,
    kept: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
    /// Whether something of it is gone.
    lost: bool,
    /// Who may read.
    turn: u32,
    /// How much of what is kept that one has read: chunks, and the trailers as one more.
    read: usize,
}

impl Source {
    /// Lets go of what was read.
    fn lose(&mut self) {
        self.lost = true;
        let mut gone = 0;
        for chunk in self.kept.iter_mut().take(self.read) {
            gone += std::mem::take(chunk).len();
        }
        self.length -= gone;
        KEPT.fetch_sub(gone, Ordering::Relaxed);
    }

    fn keep(&mut self, chunk: &Bytes) {
        if self.lost {
            return;
        }
        let length = chunk.len();
        if self.length + length > MOST_KEPT || KEPT.load(Ordering::Relaxed) + length > MOST_KEPT_OF_ALL {
            self.lose();
            return;
        }
        KEPT.fetch_add(length, Ordering::Relaxed);
        self.length += length;
        self.kept.push(chunk.clone());
        self.read += 1;
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.length, Ordering::Relaxed);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        if !self.ended.swap(true, Ordering::Release) {
            self.told.notify_waiters();
        }
    }
}

impl Shared {
    /// Shares a body; unless it is `kept`, it can be read once.
    #[must_use]
    pub fn new(body: RequestBody, kept: bool) -> Self {
        Self(Arc::new(Inner {
            source: Mutex::new(Source {
                body,
                kept: Vec::new(),
                length: 0,
                trailers: None,
                lost: !kept,
                turn: 0,
                read: 0,
            }),
            ended: AtomicBool::new(false),
            told: Notify::new(),
        }))
    }

    /// The body from its beginning. Whoever read it before gets no more of it. `None` where something of it is gone.
    #[must_use]
    pub fn read(&self) -> Option<RequestBody> {
        let mut source = self.0.lock();
        if source.lost && source.turn > 0 {
            return None;
        }
        source.turn += 1;
        source.read = 0;
        Some(RequestBody::Shared(Box::new(Reader {
            inner: self.0.clone(),
            turn: source.turn,
        })))
    }

    /// Keeps nothing any more: nobody will read it again.
    pub fn forget(&self) {
        self.0.lock().lose();
    }

    /// Returns when the client has sent all of it.
    pub async fn ended(&self) {
        let mut told = std::pin::pin!(self.0.told.notified());
        // From here on an end is not missed.
        told.as_mut().enable();
        if !self.0.ended.load(Ordering::Acquire) {
            told.await;
        }
    }

    /// A copy of the whole of it, after its end; `None` where something of it is gone.
    #[must_use]
    pub fn copy(&self) -> Option<RequestBody> {
        let source = self.0.lock();
        if source.lost {
            return None;
        }
        let kept = Kept::read(source.kept.iter().cloned().collect(), source.trailers.clone());
        Some(RequestBody::Again(Box::new(Again::new(kept, RequestBody::Empty))))
    }
}

/// A reader of a shared body.
#[derive(Debug)]
pub struct Reader {
    inner: Arc<Inner>,
    turn: u32,
}

impl Reader {
    /// As [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut guard = self.inner.lock();
        let source = &mut *guard;
        if source.turn != self.turn {
            // Another try has begun: who sends this one is about to be ended.
            return Poll::Pending;
        }
        if let Some(chunk) = source.kept.get(source.read) {
            source.read += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if let Some(trailers) = &source.trailers {
            if source.read > source.kept.len() {
                return Poll::Ready(None);
            }
            source.read += 1;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
        }
        let frame = ready!(Pin::new(&mut source.body).poll_frame(cx));
        match &frame {
            None => {}
            Some(Err(_)) => source.lose(),
            Some(Ok(frame)) => {
                if let Some(chunk) = frame.data_ref() {
                    source.keep(chunk);
                } else if let Some(trailers) = frame.trailers_ref()
                    && !source.lost
                {
                    source.trailers = Some(trailers.clone());
                    source.read += 1;
                }
            }
        }
        if frame.is_none() || source.body.is_end_stream() {
            drop(guard);
            self.inner.end();
        }
        Poll::Ready(frame)
    }

    /// As [`Body::is_end_stream`].
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        let source = self.inner.lock();
        let read = source.read >= source.kept.len() + usize::from(source.trailers.is_some());
        source.turn == self.turn && read && source.body.is_end_stream()
    }

    /// As [`Body::size_hint`].
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let source = self.inner.lock();
        let kept: usize = source.kept.iter().skip(source.read).map(Bytes::len).sum();
        let (kept, rest) = (kept as u64, source.body.size_hint());
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
    use std::collections::VecDeque;
    use std::future::poll_fn;

    fn shared(lengths: &[usize], trailers: bool) -> Shared {
        let chunks: VecDeque<Bytes> = lengths.iter().map(|length| Bytes::from(vec![7; *length])).collect();
        let trailers = trailers.then(|| [("x-t".parse().unwrap(), "1".parse().unwrap())].into_iter().collect());
        let kept = Kept::read(chunks, trailers);
        Shared::new(RequestBody::Again(Box::new(Again::new(kept, RequestBody::Empty))), true)
    }

    /// Reads so many frames: their bytes, and whether there were trailers.
    async fn read(body: &mut RequestBody, frames: usize) -> (usize, bool) {
        let (mut length, mut trailers) = (0, false);
        for _ in 0..frames {
            if body.is_end_stream() {
                break;
            }
            let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else {
                break;
            };
            let frame = frame.unwrap();
            trailers |= frame.is_trailers();
            length += frame.into_data().map_or(0, |data| data.len());
        }
        (length, trailers)
    }

    #[tokio::test]
    async fn each_reader_begins_at_the_beginning() {
        let body = shared(&[3, 4, 5], true);
        let mut first = body.read().unwrap();
        assert_eq!(first.size_hint().lower(), 12);
        assert_eq!(read(&mut first, 2).await, (7, false));
        let mut second = body.read().unwrap();
        assert_eq!(second.size_hint().lower(), 12);
        assert!(std::pin::pin!(body.ended()).as_mut().now_or_never().is_none());
        assert_eq!(read(&mut second, 9).await, (12, true));
        assert!(second.is_end_stream() && !first.is_end_stream());
        let nothing = poll_fn(|cx| Poll::Ready(Pin::new(&mut first).poll_frame(cx).is_pending())).await;
        assert!(nothing, "the first has lost its turn");
        body.ended().await;
        assert_eq!(read(&mut body.copy().unwrap(), 9).await, (12, true));
        body.forget();
        assert!(body.read().is_none() && body.copy().is_none());
        let body = shared(&[3, 4, 5], true);
        assert_eq!(read(&mut body.read().unwrap(), 2).await, (7, false));
        let mut second = body.read().unwrap();
        assert_eq!(read(&mut second, 1).await, (3, false));
        body.forget();
        assert_eq!(
            read(&mut second, 9).await,
            (9, true),
            "what was not read is still there"
        );
    }

    #[tokio::test]
    async fn what_is_too_large_passes_once() {
        let body = shared(&[MOST_KEPT, 1, 2], true);
        let mut first = body.read().unwrap();
        assert_eq!(read(&mut first, 9).await, (MOST_KEPT + 3, true));
        body.ended().await;
        assert!(body.read().is_none() && body.copy().is_none());
        assert!(first.is_end_stream());
    }

    /// Polls once.
    trait Once: Future + Unpin + Sized {
        fn now_or_never(mut self) -> Option<Self::Output> {
            match Pin::new(&mut self).poll(&mut Context::from_waker(std::task::Waker::noop())) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        }
    }

    impl<F: Future + Unpin> Once for F {}
}
