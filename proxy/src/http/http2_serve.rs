//! A client's HTTP/2 connection (RFC 9113), served until it ends or the proxy drains.

use super::body::BodyError;
use super::exchange::MOST_HEAD_BYTES;
use super::http2_client::STREAM_WINDOW;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// The most requests that a client may have open on one connection.
const MOST_STREAMS: u32 = 1000;

/// How much of all bodies of a connection may be on its way without having been read.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 100;

/// How many streams that a client reset before they were looked at may wait; one more ends the connection (CVE-2023-44487).
const MOST_RESET_UNSEEN: usize = 100;

/// Serves a connection. Once the proxy drains the client is told (GOAWAY), and the requests that it has begun are finished.
pub async fn serve<S, F, R, B>(stream: S, mut drains: watch::Receiver<bool>, handle: F) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = BodyError> + Send + 'static,
{
    let service = service_fn(|request| {
        let response = handle(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(u32::try_from(MOST_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MOST_RESET_UNSEEN)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        _ = drains.wait_for(|drains| *drains) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
