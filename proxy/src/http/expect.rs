//! `Expect: 100-continue` (RFC 9110, section 10.1.1): the client waits with its body until the server asks for it, so its body
//! is not asked for here before the server does.

use super::body::RequestBody;
use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// How long a server may take to ask for a body. Some never do, and only read.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that is not touched until the server asks for it.
#[derive(Debug)]
pub struct Held {
    body: Incoming,
    asked: Option<oneshot::Receiver<()>>,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Held {
    /// As [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(patience) = &mut self.patience {
            let asked = match self.asked.as_mut().map(|asked| Pin::new(asked).poll(cx)) {
                Some(Poll::Ready(Ok(()))) => true,
                // Answered without having asked: who reads the body now would make the client send it for nothing.
                Some(Poll::Ready(Err(_))) => {
                    self.asked = None;
                    false
                }
                Some(Poll::Pending) | None => false,
            };
            if !asked && patience.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.patience = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// The body itself: whoever reads it now asks the client for it.
    pub fn asked_for(self) -> Incoming {
        self.body
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

/// Holds the body of a request that says so.
#[must_use]
pub fn hold(mut request: Request<Incoming>) -> Request<RequestBody> {
    let expects = request.version() == Version::HTTP_11
        && request
            .headers()
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && !request.body().is_end_stream();
    if !expects {
        return request.map(RequestBody::Incoming);
    }
    let (ask, asked) = oneshot::channel();
    let ask = Mutex::new(Some(ask));
    hyper::ext::on_informational(&mut request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(ask) = ask.lock().ok().and_then(|mut ask| ask.take())
        {
            // Nobody waits any more: the exchange has ended.
            let _ = ask.send(());
        }
    });
    request.map(|body| {
        RequestBody::Held(Box::new(Held {
            body,
            asked: Some(asked),
            patience: Some(Box::pin(sleep(PATIENCE))),
        }))
    })
}
