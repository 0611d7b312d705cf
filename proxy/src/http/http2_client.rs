//! One request and its response as a stream of an HTTP/2 connection (RFC 9113).
//!
//! The request's body is passed on as it comes, while the response is waited for and after it has begun. What was sent of it
//! is kept until then, up to a bound, so that a request that its server has certainly not looked at can be sent again.

use super::body::{RequestBody, ResponseBody};
use super::exchange::{Came, Failed, MOST_HEAD_BYTES, is_idempotent};
use super::http2_pool::{Connection, Lease, MOST_STREAMS};
use super::replay::Kept;
use crate::net::stream::Stream;
use bytes::Bytes;
use h2::{Reason, SendStream, client};
use http::{Request, Response};
use hyper::body::Body;
use mesh_core::identity::SpiffeId;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How much of one body may be on its way without having been read: enough for 1 Gb/s over 8 ms.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// The same of all bodies of a connection: as much as all of its streams may have, so that bodies that nobody reads do not
/// stop the others.
pub const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 100;

/// How many streams that were reset are remembered, for what their server sent before it knew.
const REMEMBERED_RESETS: usize = 1000;

/// How often a server under mutual TLS that is asked something is asked whether it is still there. In the clear nobody is:
/// some applications end connections over pings.
const PING: Duration = Duration::from_secs(60);

/// How long the answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens HTTP/2 on a stream.
///
/// # Errors
/// That of the first write.
pub async fn open(stream: Stream, peer: Option<SpiffeId>, generation: u64) -> Result<Connection, h2::Error> {
    let handshake = client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(MOST_STREAMS)
        .max_header_list_size(u32::try_from(MOST_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .enable_push(false)
        .handshake(stream);
    let (sender, mut connection) = handshake.await?;
    let streams = Arc::new(AtomicUsize::new(0));
    let ping = connection.ping_pong().filter(|_| peer.is_some());
    let open = streams.clone();
    tokio::spawn(async move {
        // How it ends shows in the streams that it carried, or nowhere if there were none.
        tokio::select! {
            _ = connection => {}
            () = silent(ping, &open) => {}
        }
    });
    Ok(Connection {
        sender,
        peer,
        generation,
        streams,
    })
}

/// Returns when the server has not answered a ping in time.
async fn silent(ping: Option<h2::PingPong>, streams: &AtomicUsize) {
    let Some(mut ping) = ping else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(PING).await;
        if streams.load(Ordering::Relaxed) == 0 {
            continue;
        }
        match tokio::time::timeout(PING_TIMEOUT, ping.ping(h2::Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection ends by itself.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Sends a request as a stream of a connection and waits for the response's head. The lease goes with the response's body.
///
/// # Errors
/// [`Failed`]: the stream alone, or the connection with it.
pub async fn send(mut lease: Lease, request: Request<RequestBody>) -> Result<Response<ResponseBody>, Failed> {
    let (head, body) = request.into_parts();
    let without_body = body.is_end_stream();
    let sent = Request::from_parts(head.clone(), ());
    let (mut answer, sink) = match lease.sender.send_request(sent, without_body) {
        Ok(begun) => begun,
        Err(error) => {
            return Err(Failed {
                came: Came::Unsent,
                error: error.into(),
                again: Some(Request::from_parts(head, body)),
            });
        }
    };
    let mut pump = Pump::new(body, sink, without_body);
    let result = poll_fn(|cx| {
        // Where it fails the answer tells why, except where it is the client that is gone.
        if let Poll::Ready(Err(PumpError::Client(error))) = pump.poll(cx) {
            return Poll::Ready(Err(Err(error)));
        }
        Pin::new(&mut answer).poll(cx).map_err(Ok)
    });
    match result.await {
        Ok(response) => {
            if !pump.done {
                pump.kept = Kept::nothing();
                tokio::spawn(async move {
                    // It ends with the stream, whose response is looked at elsewhere.
                    let _ = poll_fn(|cx| pump.poll(cx)).await;
                });
            }
            Ok(response.map(|body| ResponseBody::Stream {
                body,
                lease: Some(Box::new(lease)),
            }))
        }
        Err(Ok(error)) => {
            let stale = lease.reused && !error.is_reset();
            let unseen = is_unprocessed(&error);
            let again = if unseen || (stale && without_body && is_idempotent(&head.method)) {
                pump.again().map(|body| Request::from_parts(head, body))
            } else {
                None
            };
            Err(Failed {
                came: match (unseen, stale) {
                    (true, _) => Came::Unseen,
                    (false, true) => Came::Stale,
                    (false, false) => Came::Sent,
                },
                error: error.into(),
                again,
            })
        }
        Err(Err(error)) => Err(Failed {
            came: Came::Sent,
            error: error.into(),
            again: None,
        }),
    }
}

/// Whether the server says that it has not looked at the request (RFC 9113, sections 6.8 and 8.7). h2 ends streams with the
/// server's GOAWAY only if their number is above the one in it.
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

/// Why a body was not passed on to its end.
enum PumpError {
    /// The client broke off.
    Client(hyper::Error),
    /// The server did, or the connection.
    Server,
}

/// Passes a request's body on.
struct Pump {
    body: RequestBody,
    sink: SendStream<Bytes>,
    /// What waits for room in the server's window, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
    kept: Kept,
    done: bool,
}

impl Pump {
    fn new(body: RequestBody, sink: SendStream<Bytes>, done: bool) -> Self {
        // What is shared is kept elsewhere.
        let kept = match body {
            RequestBody::Shared(_) => Kept::nothing(),
            _ => Kept::default(),
        };
        Self {
            body,
            sink,
            waiting: None,
            kept,
            done,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(self.pass(cx));
        self.done = true;
        if let Err(PumpError::Client(error)) = &result {
            self.sink.send_reset(reason(error).unwrap_or(Reason::CANCEL));
        }
        Poll::Ready(result)
    }

    fn pass(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        let server = |_: h2::Error| PumpError::Server;
        loop {
            if let Some((chunk, last)) = self.waiting.take() {
                if !chunk.is_empty() && self.sink.capacity() == 0 {
                    match self.sink.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(PumpError::Server)),
                        Poll::Pending => {
                            self.waiting = Some((chunk, last));
                            return Poll::Pending;
                        }
                    }
                    self.waiting = Some((chunk, last));
                    continue;
                }
                self.sink.send_data(chunk, last).map_err(server)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) => {
                        let last = self.body.is_end_stream();
                        self.kept.data(&chunk);
                        // Little is asked for: the window is the connection's, and a body that waits must not hold it.
                        self.sink.reserve_capacity(usize::from(!chunk.is_empty()));
                        self.waiting = Some((chunk, last));
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.kept.trailers(&trailers);
                            self.sink.send_trailers(trailers).map_err(server)?;
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(PumpError::Client(error))),
                Poll::Ready(None) => {
                    self.sink.send_data(Bytes::new(), true).map_err(server)?;
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    // A client that says no more must not keep what the server has given up.
                    return match self.sink.poll_reset(cx) {
                        Poll::Ready(_) => Poll::Ready(Err(PumpError::Server)),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// The body once more, from its beginning, if all that was sent of it is still there.
    fn again(self) -> Option<RequestBody> {
        self.kept.then(self.body)
    }
}

/// The code by which a peer broke a stream off.
fn reason(error: &(dyn std::error::Error + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason();
        }
        cause = error.source();
    }
    None
}
