//! A client's HTTP/1.x connection, served until it ends or the proxy drains.

use super::body::BodyError;
use super::exchange::{MOST_HEAD_BYTES, switches};
use super::headers;
use super::heads::{Heads, Malformed};
use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};

/// How long a client may take for the next request's head, the wait for its first byte included (Envoy's idle timeout).
const NEXT_REQUEST: Duration = Duration::from_secs(3600);

/// How long a connection that has not said anything yet may still begin its first request once it drains.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Why a connection ended before its client ended it.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// What came is no HTTP, or could be taken for more than one thing.
    #[error("{0}")]
    Malformed(String),
    /// Anything else.
    #[error(transparent)]
    Early(hyper::Error),
}

impl Ended {
    fn new(error: hyper::Error, malformed: Option<Malformed>) -> Self {
        match malformed {
            Some(malformed) => Self::Malformed(malformed.to_string()),
            None if error.is_parse() => Self::Malformed(error.to_string()),
            None => Self::Early(error),
        }
    }
}

/// Serves a connection. Once it drains, the request under way is the last: its response says `Connection: close`. One whose
/// first request is still to come gets to make it, since hyper would close it unread.
///
/// # Errors
/// [`Ended`].
pub async fn serve<S, F, R, B>(stream: S, mut drains: watch::Receiver<bool>, handle: F) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error = BodyError> + 'static,
{
    let begun = Notify::new();
    let stream = Heads::new(stream);
    let seen = stream.seen();
    let service = service_fn(|request: Request<Incoming>| {
        begun.notify_one();
        let tunnel = request.method() == Method::CONNECT;
        let asks = tunnel || headers::asks_for_upgrade(request.headers());
        // Boxed, since hyper keeps room for it for as long as the connection lives, and most connections wait.
        let response = Box::pin(handle(request));
        let seen = &seen;
        async move {
            let response = response.await;
            if asks && !switches(response.status(), tunnel) {
                seen.resume();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .max_buf_size(MOST_HEAD_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_REQUEST)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let ended = |error| Ended::new(error, seen.malformed());
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result.map_err(ended),
        _ = drains.wait_for(|drains| *drains) => {}
    }
    // What was noted before stays noted: only a connection without any request waits here.
    tokio::select! {
        biased;
        () = begun.notified() => {}
        result = connection.as_mut() => return result.map_err(ended),
        () = tokio::time::sleep(FIRST_REQUEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(ended)
}
