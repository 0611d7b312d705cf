//! The proxy's side of the discovery stream: what the operator says of this pod, of whom it trusts and of the destinations
//! that its application calls.
//!
//! [`Mesh`] is what the data path reads, without locks and without waiting where the answer is known. [`Client`] runs on the
//! administration runtime, holds the stream to an operator and is the only writer. A destination is asked for when the
//! application first calls it, or before where a Sidecar resource declares it ([`ahead`]): the name enters the [`table`], goes through a bounded queue to the client, is subscribed to,
//! and from then on the operator sends its changes.
//!
//! A proxy outlives its control plane: what was received stays in force while no operator answers, and nothing is forgotten
//! meanwhile. What does not decode is refused with the reason, and the last good one stays in force. All of it is kept in a
//! file too ([`saved`]), for a proxy that starts again meanwhile.
//!
//! A request whose token names a key that is not known waits while the operator fetches that issuer's keys again ([`keys`]).

mod ahead;
mod apply;
mod authorization;
mod candidates;
mod client;
mod connect;
mod freshness;
mod keys;
mod mesh;
mod name;
mod saved;
mod snapshot;
mod stream;
mod table;

pub use authorization::{Authorization, Authorizers};
pub use candidates::{Candidates, Set as CandidateSet, Why};
pub use client::{Backoff, Client};
pub use connect::ConnectError;
pub use keys::{KeyWait, NoWait};
pub use mesh::{Answer, Limits, Lookup, Mesh, OwnVersions, Requests};
pub use saved::{File, SavedError};
pub use snapshot::{Found, destination_bytes};
pub use stream::StreamError;

#[cfg(test)]
mod tests;
