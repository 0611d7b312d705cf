//! `policy.pinnace.dev/strict=when-ready`: the label of a namespace that turns it STRICT once nobody has called its workloads
//! in the clear for a set time.
//!
//! What sidecars report says who calls ([`crate::reports`]); [`decide`] says where a namespace stands; [`run`] watches the
//! labels, writes the operator's own PeerAuthentication and tells by events. Nothing of the users' is ever written. What is
//! known goes into that PeerAuthentication's status by way of the [`board`], and comes from there after a restart.

pub mod board;
mod decide;
mod memory;
pub mod run;

pub use board::Board;

#[cfg(test)]
mod tests;
