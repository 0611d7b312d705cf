//! The accept loops that all services share: HTTP (1.1, and 2 in the clear) and raw TCP, bounded in connections, headers and idle time, and
//! ended by the phases of [`crate::lifecycle`].

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::lifecycle::{FINISH, Phase};

/// Connections served at the same time; more wait in the listener's backlog.
const CONNECTIONS: u32 = 1024;

/// A connection may wait this long for a request's header, between requests too.
const IDLE: Duration = Duration::from_secs(75);

/// A TLS handshake may take this long.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A request's header may be this long, in bytes.
const HEADER_BYTES: usize = 64 << 10;

/// What a handler answers with.
pub(crate) type Answer = Response<Full<Bytes>>;

/// The two ends of a connection, as this side sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The address that was dialled.
    pub(crate) local: SocketAddr,
    /// Who dialled.
    pub(crate) peer: SocketAddr,
}

/// One HTTP service.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request. /health is answered before it gets here.
    fn answer(&self, request: Request<Incoming>, ends: Ends) -> impl Future<Output = Answer> + Send;
}

/// One raw TCP service.
pub(crate) trait Stream: Send + Sync + 'static {
    /// Serves one connection until either side ends it.
    fn serve(&self, stream: TcpStream, phases: watch::Receiver<Phase>) -> impl Future<Output = io::Result<()>> + Send;
}

/// Listens on all addresses, IPv6 included where the machine has it.
///
/// # Errors
/// When the port cannot be had.
pub(crate) async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

/// Serves HTTP/1.1 until the process is asked to leave and has finished what was in flight.
///
/// # Errors
/// None: a connection's errors end that connection alone.
pub(crate) async fn http<S: Service>(listener: TcpListener, service: S, phases: watch::Receiver<Phase>) {
    let service = Arc::new(service);
    accept(listener, phases, move |stream, phases| {
        http_connection(stream, service.clone(), phases)
    })
    .await;
}

/// The same under TLS.
pub(crate) async fn https<S: Service>(
    listener: TcpListener,
    tls: TlsAcceptor,
    service: S,
    phases: watch::Receiver<Phase>,
) {
    let service = Arc::new(service);
    accept(listener, phases, move |stream, phases| {
        let (tls, service) = (tls.clone(), service.clone());
        async move {
            let Some(ends) = ends(&stream) else { return };
            // What does not shake hands is its client's business.
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                http_on(stream, ends, service, phases).await;
            }
        }
    })
    .await;
}

/// Serves raw TCP until the process is asked to leave and its streams have ended.
pub(crate) async fn tcp<S: Stream>(listener: TcpListener, service: S, phases: watch::Receiver<Phase>) {
    let service = Arc::new(service);
    accept(listener, phases, move |stream, phases| {
        let service = service.clone();
        async move {
            if let Err(error) = service.serve(stream, phases).await {
                eprintln!("bookshop: stream: {error}");
            }
        }
    })
    .await;
}

async fn accept<F, C>(listener: TcpListener, mut phases: watch::Receiver<Phase>, serve: F)
where
    F: Fn(TcpStream, watch::Receiver<Phase>) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let watched = phases.clone();
    let mut closing = pin!(phases.wait_for(|phase| *phase == Phase::Closing));
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            _ = &mut closing => break,
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, or a connection that was gone before it was taken: neither passes by spinning.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let connection = serve(stream, watched.clone());
        tokio::spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    // All slots free means that all connections have ended.
    let _ = tokio::time::timeout(FINISH, slots.acquire_many(CONNECTIONS)).await;
}

async fn http_connection<S: Service>(stream: TcpStream, service: Arc<S>, phases: watch::Receiver<Phase>) {
    if let Some(ends) = ends(&stream) {
        http_on(stream, ends, service, phases).await;
    }
}

/// Both ends of a new connection, on which nothing is held back from now on.
fn ends(stream: &TcpStream) -> Option<Ends> {
    let _ = stream.set_nodelay(true);
    Some(Ends {
        local: plain(stream.local_addr().ok()?),
        peer: plain(stream.peer_addr().ok()?),
    })
}

async fn http_on<S, T>(stream: T, ends: Ends, service: Arc<S>, mut phases: watch::Receiver<Phase>)
where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watched = phases.clone();
    let is_http2 = Arc::new(AtomicBool::new(false));
    let seen = is_http2.clone();
    let handler = service_fn(move |request: Request<Incoming>| {
        let (service, phase) = (service.clone(), watched.clone());
        let http2 = request.version() == Version::HTTP_2;
        seen.store(http2, Ordering::Relaxed);
        async move {
            let mut answer = match request.uri().path() {
                "/health" => text(StatusCode::OK, "ok\n"),
                _ => service.answer(request, ends).await,
            };
            if !http2 && *phase.borrow() != Phase::Serving {
                // The client learns with an answer in hand that it should connect elsewhere, so no request is lost
                // to a connection that closes just when it is written to.
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEADER_BYTES)
        .half_close(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), handler));
    // HTTP/2 has a word for "no more of them here" that loses none (GOAWAY), so it is said at once.
    let leave = async {
        let draining = phases.wait_for(|phase| *phase != Phase::Serving).await.is_ok();
        if draining && !is_http2.load(Ordering::Relaxed) {
            // A sender that is gone means that the process ends.
            let _ = phases.wait_for(|phase| *phase == Phase::Closing).await;
        }
    };
    // A connection's error is its client's business: it went away, or it did not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = leave => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// An IPv4 address that came by a socket for both families, as what it is.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    of_type(status, "text/plain; charset=utf-8", body.into())
}

/// An answer in HTML.
pub(crate) fn html(status: StatusCode, body: String) -> Answer {
    of_type(status, "text/html; charset=utf-8", body)
}

/// An answer in JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Answer {
    match serde_json::to_string(body) {
        Ok(body) => of_type(status, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// An answer of a media type.
pub(crate) fn of_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// The number that ends a path such as /reviews/0, when the request is a GET of a path under `prefix`.
///
/// # Errors
/// The answer to give instead: not found, not allowed, or a number that is none.
pub(crate) fn item(request: &Request<Incoming>, prefix: &str) -> Result<u32, Box<Answer>> {
    item_of(request.method(), request.uri().path(), prefix).map_err(|(status, why)| Box::new(text(status, why)))
}

fn item_of(method: &Method, path: &str, prefix: &str) -> Result<u32, (StatusCode, String)> {
    let Some(number) = path.strip_prefix(prefix) else {
        return Err((
            StatusCode::NOT_FOUND,
            format!("there is only {prefix}NUMBER and /health here\n"),
        ));
    };
    if method != Method::GET && method != Method::HEAD {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned()));
    }
    number.parse().map_err(|_| {
        (
            StatusCode::BAD_REQUEST,
            format!("{prefix}NUMBER needs a whole number\n"),
        )
    })
}

/// The pod's name, for pages and answers that say who answered.
pub(crate) fn host_name() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "an unknown host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_a_number_under_the_prefix() {
        let rows = [
            (Method::GET, "/reviews/0", Ok(0)),
            (Method::HEAD, "/reviews/12", Ok(12)),
            (Method::POST, "/reviews/0", Err(StatusCode::METHOD_NOT_ALLOWED)),
            (Method::GET, "/reviews/", Err(StatusCode::BAD_REQUEST)),
            (Method::GET, "/reviews/-1", Err(StatusCode::BAD_REQUEST)),
            (Method::GET, "/reviews/99999999999", Err(StatusCode::BAD_REQUEST)),
            (Method::GET, "/", Err(StatusCode::NOT_FOUND)),
        ];
        for (method, path, expected) in rows {
            let got = item_of(&method, path, "/reviews/").map_err(|(status, _)| status);
            assert_eq!(got, expected, "{method} {path}");
        }
    }
}
