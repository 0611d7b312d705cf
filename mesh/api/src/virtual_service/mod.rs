//! VirtualService of `networking.istio.io`, v1, v1beta1 and v1alpha3: the resource as users write it ([`resource`]), its
//! parsing into the domain's type with Istio's validation ([`parse`]), which of its fields have no effect ([`later`]), and its
//! status ([`status`]).
//!
//! The schema accepts what Istio's accepts. [`parse`] is what the webhook, the operator and the command line share.

mod later;
mod parse;
pub mod resource;
mod status;

pub use later::later;
pub use parse::{parse, read, warnings};
pub use resource::{VirtualService, VirtualServiceSpec};
pub use status::status;
