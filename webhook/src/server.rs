//! The two listeners: reviews over HTTPS, and health and metrics in the clear.
//!
//! Everything that comes from outside is bounded: connections, handshakes, the time for a head and for a body, the
//! body's size, and how many reviews are worked on at once.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State as Extract},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    admission::{self, BadReview, Ended},
    metrics::Metrics,
    state::State,
};

/// The API server takes objects of up to 3 MiB, and a review can hold the old and the new one.
const MOST_BODY: usize = 8 * 1024 * 1024;
/// Reviews worked on at once; more wait for [`PATIENCE`] and are then sent away. Times [`MOST_BODY`] it stays below the
/// memory that the chart grants.
const MOST_REVIEWS: usize = 24;
/// Connections at once on either listener.
const MOST_CONNECTIONS: usize = 1024;
/// For a TLS handshake, a request's head, and a request's body, each.
const PATIENCE: Duration = Duration::from_secs(5);
/// For requests that are under way when the webhook ends.
const DRAIN: Duration = Duration::from_secs(20);

/// What both listeners work with.
#[derive(Clone, Debug)]
pub struct Context {
    /// What the watches have read.
    pub state: Arc<State>,
    /// The metrics.
    pub metrics: Metrics,
    /// The webhook's own namespace.
    pub namespace: Arc<str>,
    /// Set when the process ends: no longer ready, still serving.
    pub ending: Arc<AtomicBool>,
    reviews: Arc<Semaphore>,
}

impl Context {
    /// Makes the context of a webhook in a namespace.
    #[must_use]
    pub fn new(state: Arc<State>, metrics: Metrics, namespace: &str) -> Self {
        let reviews = Arc::new(Semaphore::new(MOST_REVIEWS));
        Self {
            state,
            metrics,
            namespace: namespace.into(),
            ending: Arc::default(),
            reviews,
        }
    }
}

/// Serves reviews until `stop` ends, then finishes what is under way.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_reviews(
    listener: TcpListener,
    context: Context,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/inject", post(inject))
        .route("/validate", post(validate))
        .with_state(context.clone());
    serve(listener, router, Some(context), stop).await
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `stop` ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_metrics(
    listener: TcpListener,
    context: Context,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context);
    serve(listener, router, None, stop).await
}

async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Context>,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the peer is gone already; neither ends the listener.
                tracing::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!(%peer, "too many connections");
            continue;
        };
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            match tls {
                None => answer(stream, router, watcher).await,
                Some(context) => {
                    if let Some(stream) = handshake(stream, peer, &context).await {
                        answer(stream, router, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut that did not end within {} s", DRAIN.as_secs());
    }
    Ok(())
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    context: &Context,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let Some(serving) = context.state.certificate.load_full() else {
        tracing::warn!(%peer, "connection refused: no serving certificate yet");
        return None;
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&serving.tls));
    match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::info!(%peer, "TLS handshake: {error}"),
        Err(_) => tracing::info!(%peer, "TLS handshake took too long"),
    }
    context.metrics.handshake_errors.inc();
    None
}

async fn answer<S>(stream: S, router: Router, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(PATIENCE * 12)
        .max_buf_size(64 * 1024);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("connection: {error}");
    }
}

async fn inject(Extract(context): Extract<Context>, request: Request) -> Response {
    let answered = reviewed(&context, "/inject", request, |body| {
        admission::inject(body, &context.state, &context.metrics)
    });
    answered.await
}

async fn validate(Extract(context): Extract<Context>, request: Request) -> Response {
    let answered = reviewed(&context, "/validate", request, |body| {
        admission::validate(body, &context.state, &context.namespace)
    });
    answered.await
}

/// Reads a body within bounds, has it answered, and counts.
async fn reviewed(
    context: &Context,
    path: &str,
    request: Request,
    answer: impl FnOnce(&[u8]) -> Result<(Vec<u8>, Ended), BadReview>,
) -> Response {
    let started = Instant::now();
    let (outcome, response) = match timeout(PATIENCE, context.reviews.acquire()).await {
        Ok(Ok(_permit)) => match timeout(PATIENCE, axum::body::to_bytes(request.into_body(), MOST_BODY)).await {
            Ok(Ok(body)) => match answer(&body) {
                Ok((review, ended)) => (ended.as_str(), json_response(review)),
                Err(error) => ("bad_request", refused(StatusCode::BAD_REQUEST, &error.to_string())),
            },
            Ok(Err(_)) => (
                "too_large",
                refused(StatusCode::PAYLOAD_TOO_LARGE, "a review has at most 8 MiB"),
            ),
            Err(_) => (
                "timeout",
                refused(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            ),
        },
        _ => (
            "overloaded",
            refused(StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once; try again"),
        ),
    };
    context.metrics.requests.with_label_values(&[path, outcome]).inc();
    context
        .metrics
        .duration
        .with_label_values(&[path])
        .observe(started.elapsed().as_secs_f64());
    response
}

fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

fn refused(status: StatusCode, message: &str) -> Response {
    // The rest of a body that was not read makes the connection unusable.
    (
        status,
        [(header::CONNECTION, "close")],
        format!("pinnace's webhook: {message}\n"),
    )
        .into_response()
}

async fn ready(Extract(context): Extract<Context>) -> Response {
    let missing = context.state.missing();
    if context.ending.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    }
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not read yet: {}\n", missing.join(", ")),
    )
        .into_response()
}

async fn metrics(Extract(context): Extract<Context>) -> Response {
    match context.metrics.page(&context.state) {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
