//! ServiceEntry of `networking.istio.io`, v1, v1beta1 and v1alpha3: the resource as users write it ([`resource`]), its
//! parsing into the domain's entry with Istio's validation ([`parse`]), and the status that says whether it is in force.
//!
//! The schema accepts what Istio's accepts. [`parse`] is what the webhook, the operator and the command line share.

mod parse;
pub mod resource;
mod status;

pub use parse::{parse, read, warnings};
pub use resource::{ServiceEntry, ServiceEntrySpec};
pub use status::{Registered, later, status};
