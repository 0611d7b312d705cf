//! Sidecar of `networking.istio.io`, v1, v1beta1 and v1alpha3, the resource that says what a workload sees: as users write it
//! ([`resource`]), its parsing into the domain's scope with Istio's validation ([`parse`]), and which of its fields have no
//! effect ([`later`]). The proxy beside a workload, which has the same name, is elsewhere.
//!
//! The schema accepts what Istio's accepts. [`parse`] is what the webhook, the operator and the command line share.

mod later;
mod parse;
pub mod resource;

pub use later::later;
pub use parse::{parse, read, warnings};
pub use resource::{Sidecar, SidecarSpec};
