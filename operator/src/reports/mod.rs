//! What sidecars report of what they saw: taken over the discovery port ([`service`]), passed on to the replica that holds
//! the lease ([`forward`]), and kept there for an hour ([`ledger`]). Status and `strict=when-ready` are made of it.

pub mod forward;
pub mod ledger;
pub mod minutes;
pub mod service;

pub use forward::{Forward, Outgoing};
pub use ledger::{Caller, Ledger, Recorded, Reporter, Row};
pub use service::Reports;

#[cfg(test)]
mod tests;
