//! /metrics, /healthz and /readyz on 15014. Ready means that this replica can serve: caches filled, authority and
//! certificate loaded, discovery listening. Who holds the lease has no part in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::discovery::credentials::Current;
use crate::feeds::{FEEDS, Progress};
use crate::metrics::Metrics;

/// What readiness is asked of.
#[derive(Debug, Clone)]
pub struct Health {
    /// Where the numbers are.
    pub metrics: Arc<Metrics>,
    /// How far the first lists are.
    pub progress: Progress,
    /// The discovery server's certificate.
    pub credentials: Current,
    /// Whether discovery listens.
    pub listening: Arc<AtomicBool>,
}

impl Health {
    /// What is still lacking; empty when ready.
    #[must_use]
    pub fn lacking(&self) -> Vec<&'static str> {
        [
            (*self.progress.borrow() >= FEEDS, "the first lists are not complete"),
            (
                self.credentials.load().is_some(),
                "no certificate: the authority or the mesh configuration is not loaded",
            ),
            (self.listening.load(Ordering::Relaxed), "discovery does not listen"),
        ]
        .into_iter()
        .filter_map(|(there, lack)| (!there).then_some(lack))
        .collect()
    }
}

/// Serves until `stop` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .route("/metrics", get(page))
        .with_state(health);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn readiness(State(health): State<Health>) -> (StatusCode, String) {
    let lacking = health.lacking();
    if lacking.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, lacking.join("\n") + "\n")
    }
}

async fn page(State(health): State<Health>) -> impl IntoResponse {
    let (media_type, page) = health.metrics.render();
    ([(header::CONTENT_TYPE, media_type)], page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_said() {
        let health = Health {
            metrics: Arc::default(),
            progress: Progress::new(0),
            credentials: Current::default(),
            listening: Arc::default(),
        };
        assert_eq!(health.lacking().len(), 3);
        health.progress.send_replace(FEEDS);
        health.listening.store(true, Ordering::Relaxed);
        assert_eq!(health.lacking().len(), 1);
    }
}
