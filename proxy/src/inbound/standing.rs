//! Connections stay open only for as long as the policies take them: when these change, the opaque ones that are taken no more
//! end at once, and so do tunnels and other protocols that a request has opened. Of the others the next request is refused.

use super::authorization::{self, Caller, Opener};
use super::connection::Facts;
use super::custom::Consent;
use super::denied::Denied;
use super::in_the_clear;
use super::shadow;
use crate::net::relay;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::telemetry::Connection;
use crate::worker::Worker;

/// Why a connection is taken no more.
#[derive(Debug)]
pub(super) enum Ended {
    /// It came in the clear, and PeerAuthentication says STRICT now.
    Plaintext(String),
    /// A policy denies it now.
    Denied(Denied),
}

/// Relays until both ends have closed or the connection is taken no more.
pub(super) async fn join(
    worker: &Worker,
    facts: &Facts,
    caller: &Caller,
    consent: Consent,
    client: &mut Stream,
    application: &mut Stream,
    record: &mut Connection,
) {
    let ended = tokio::select! {
        () = relay::join(client, application, record) => return,
        ended = ended(worker, facts, caller, consent, None) => ended,
    };
    match ended {
        Ended::Plaintext(detail) => {
            record.failed(Reason::Plaintext, &detail);
            in_the_clear::refuse(worker, facts, detail);
        }
        Ended::Denied(denied) => denied.end(record),
    }
    client.reset();
    application.reset();
}

/// Waits until a connection is taken no more; why it is not. `consent` is by whose it passed, `opener` the request that made
/// it what it is.
pub(super) async fn ended(
    worker: &Worker,
    facts: &Facts,
    caller: &Caller,
    mut consent: Consent,
    opener: Option<&Opener>,
) -> Ended {
    let mut changes = worker.mesh.inbound_changes();
    // What a request opened was tried as a request.
    let mut tell = opener.is_none();
    loop {
        // Marked as seen before the look, so that a change after it is not missed.
        changes.borrow_and_update();
        if caller.in_the_clear()
            && let Some(detail) = in_the_clear::refused(worker, facts)
        {
            return Ended::Plaintext(detail);
        }
        let decided = match opener {
            Some(opener) => authorization::still(worker, caller, opener, &mut consent).await,
            None => authorization::connection(worker, caller, &mut consent, false).await,
        };
        if let Err(denied) = decided {
            return Ended::Denied(denied);
        }
        let again = shadow::open(worker, caller, opener, std::mem::replace(&mut tell, true));
        let changed = match again {
            Some(again) => tokio::time::timeout(again, changes.changed()).await.unwrap_or(Ok(())),
            None => changes.changed().await,
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
    }
}
