//! Requests whose tokens name a key that is not known: they wait, for a bounded time, while the operator fetches that issuer's
//! keys again, and are then looked at under what is in force at that moment.

use super::authorization::tokens_of;
use crate::discovery::{Authorization, NoWait};
use crate::http::body::RequestBody;
use crate::worker::Worker;
use http::Request;
use mesh_core::jwt::{Authenticated, Refusal};
use prometheus::IntGauge;
use std::sync::Arc;

/// Waits until a request's tokens can be decided about. `authorization` becomes what decided.
///
/// # Errors
/// The last refusal.
pub(super) async fn wait(
    worker: &Worker,
    authorization: &mut Arc<Authorization>,
    request: &Request<RequestBody>,
    mut refusal: Refusal,
) -> Result<Authenticated, Refusal> {
    let count = |result| worker.metrics.key_waits.with_label_values(&[result]).inc();
    let mut wait = match worker.mesh.wait_for_keys(refusal.unknown_keys()) {
        Ok(wait) => wait,
        Err(reason) => {
            count(if reason == NoWait::Full { "full" } else { "unknown" });
            return Err(refusal);
        }
    };
    let _waiting = Waiting::new(&worker.metrics.waiting_for_keys);
    let mut more = true;
    while more {
        more = wait.again().await;
        if let Some(newest) = worker.mesh.authorization()
            && !Arc::ptr_eq(&newest, authorization)
        {
            *authorization = newest;
            match tokens_of(request, &authorization.tokens) {
                Err(still) if !still.unknown_keys().is_empty() => refusal = still,
                decided => {
                    count("known");
                    return decided;
                }
            }
        }
    }
    count("unknown");
    Err(refusal)
}

/// Counts a request for as long as it waits, however that ends.
struct Waiting<'a>(&'a IntGauge);

impl<'a> Waiting<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
