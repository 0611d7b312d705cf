//! What the lease holder writes: the Secrets of service accounts ([`identities`]) and the nudge to their pods' kubelets
//! ([`nudge`]), the webhook's serving certificate ([`serving`]) and the caBundles of its configurations ([`ca_bundle`]),
//! and the status of policies ([`status`]). Each asks whether the lease is held before it writes.

pub mod ca_bundle;
mod candidates;
mod entries;
pub mod identities;
pub mod nudge;
pub mod serving;
pub mod status;
