//! Connections in the clear stay open only for as long as PeerAuthentication takes them: a port that turns STRICT ends the
//! opaque ones at once and refuses the next request of the others.

use super::connection::Facts;
use crate::net::relay;
use crate::net::stream::Stream;
use crate::refusals::Reason;
use crate::telemetry::Connection;
use crate::worker::Worker;
use mesh_core::peer_authentication::PortMode;

/// Why plaintext is not taken on the connection's port now; `None` where it is.
pub(super) fn refused(worker: &Worker, facts: &Facts) -> Option<String> {
    let Some(policy) = worker.mesh.inbound_policy() else {
        return Some("no PeerAuthentication is known".into());
    };
    let strict = policy.on_port(facts.address.port()) == PortMode::Strict;
    strict.then(|| {
        format!(
            "plaintext where PeerAuthentication {} says STRICT",
            policy.decided_by.join(", ")
        )
    })
}

/// Counts, logs and remembers such a refusal.
pub(super) fn refuse(worker: &Worker, facts: &Facts, detail: String) {
    worker.refuse(Reason::Plaintext, facts.peer, Some(facts.address), detail);
}

/// Relays until both ends have closed or plaintext is refused.
pub(super) async fn join(
    worker: &Worker,
    facts: &Facts,
    client: &mut Stream,
    application: &mut Stream,
    record: &mut Connection,
) {
    let detail = tokio::select! {
        () = relay::join(client, application, record) => return,
        detail = turned_strict(worker, facts) => detail,
    };
    record.failed(Reason::Plaintext, &detail);
    refuse(worker, facts, detail);
    client.reset();
    application.reset();
}

/// Waits until plaintext is refused; why it is.
pub(super) async fn turned_strict(worker: &Worker, facts: &Facts) -> String {
    let mut changes = worker.mesh.inbound_changes();
    loop {
        // Marked as seen before the look, so that a change after it is not missed.
        changes.borrow_and_update();
        if let Some(detail) = refused(worker, facts) {
            return detail;
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
