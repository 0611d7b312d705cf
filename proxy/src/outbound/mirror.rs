//! Copies of requests for whom a route mirrors them to: sent once the request itself has been, with nobody waiting for the
//! answer.

use super::send::{self, Call};
use crate::cluster::Cluster;
use crate::http::body::RequestBody;
use crate::http::headers;
use crate::http::shared::Shared;
use crate::telemetry::Record;
use crate::worker::Worker;
use http::request::Parts;
use http::{HeaderValue, Request};
use hyper::body::Body;
use mesh_core::routing::{HttpRoute, shadow};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The most copies that a process has under way; further ones are not made.
const MOST: usize = 256;

/// How long one may take, the wait for the end of its request included.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that is read of an answer; with more to come its connection is closed.
const MOST_READ: u64 = 1 << 20;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// A copy's place among those under way.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        if UNDER_WAY.fetch_add(1, Ordering::Relaxed) < MOST {
            return Some(Self);
        }
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which clusters get a copy of a request, by a draw for each.
#[must_use]
pub fn drawn(cluster: &Arc<Cluster>, route: &HttpRoute) -> Vec<Arc<Cluster>> {
    let drawn = route
        .mirrors
        .iter()
        .filter(|mirror| mirror.percent.takes(rand::random()));
    // One that leads nowhere is passed over.
    drawn
        .filter_map(|mirror| cluster.led_to(mirror.target).cloned())
        .collect()
}

/// Sends copies of a request, of which this is the head, once its body has ended.
pub fn send(
    worker: &Arc<Worker>,
    to: Vec<Arc<Cluster>>,
    [peer, dialled]: [SocketAddr; 2],
    head: &Parts,
    shared: Option<&Shared>,
) {
    for cluster in to {
        let Some(place) = Place::take() else {
            worker.metrics.mirrors.with_label_values(&["dropped"]).inc();
            continue;
        };
        worker.metrics.mirrors.with_label_values(&["sent"]).inc();
        let (worker, mut head, shared) = (worker.clone(), head.clone(), shared.cloned());
        tokio::spawn(async move {
            let _place = place;
            let sent = async {
                let body = match shared {
                    None => Some(RequestBody::Empty),
                    Some(shared) => {
                        shared.ended().await;
                        shared.copy()
                    }
                };
                // A body that is too large is not copied.
                let Some(body) = body else { return };
                rename(&mut head);
                let call = Call {
                    peer,
                    dialled,
                    name: None,
                };
                let request = Request::from_parts(head, body);
                let response = send::to_destination(&worker, call, &cluster, request, &mut Record::untold()).await;
                let mut body = response.into_body();
                let mut read = 0;
                while read < MOST_READ
                    && let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
                {
                    read += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
            };
            // Nobody is told what came of it.
            let _ = tokio::time::timeout(PATIENCE, sent).await;
        });
    }
}

/// Marks a copy's authority, so that whoever gets it can tell.
fn rename(head: &mut Parts) {
    let authority = headers::authority(&head.uri, &head.headers);
    if let Some(name) = authority.and_then(|authority| HeaderValue::from_str(&shadow(authority)).ok()) {
        headers::set_authority(&mut head.uri, &mut head.headers, name);
    }
}
