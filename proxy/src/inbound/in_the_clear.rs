//! What PeerAuthentication says of a connection that came without mutual TLS.

use super::connection::Facts;
use crate::refusals::Reason;
use crate::reports::InTheClear;
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

/// Tells the operator of a caller that STRICT would refuse and that is taken; for as long as what is returned is held, it is
/// there.
pub(super) fn noted(worker: &Worker, facts: &Facts) -> Option<InTheClear> {
    let taken = facts.mode == PortMode::Permissive;
    taken.then(|| worker.reports.plaintext(facts.peer.ip(), facts.address.port()))
}

/// Counts, logs and remembers such a refusal.
pub(super) fn refuse(worker: &Worker, facts: &Facts, detail: String) {
    worker.refuse(Reason::Plaintext, facts.peer, Some(facts.address), detail);
}
