//! DestinationRule of `networking.istio.io`, v1, v1beta1 and v1alpha3: the resource as users write it ([`resource`]), its
//! parsing into the domain's rule with Istio's validation ([`parse`]), and the status that says whether it is in force and
//! which of its fields are not.
//!
//! The schema accepts what Istio's accepts. [`parse`] is what the webhook, the operator and the command line share.

mod later;
mod parse;
pub mod resource;
mod status;

pub use later::later;
pub(crate) use parse::check_connection_pool;
pub(crate) use parse::locality;
pub use parse::{parse, read, warnings};
pub use resource::{DestinationRule, DestinationRuleSpec};
pub use status::status;
