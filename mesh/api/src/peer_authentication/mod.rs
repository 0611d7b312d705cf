//! PeerAuthentication of `security.istio.io`, v1 and v1beta1: the resource as users write it, its parsing into the
//! domain's policy, and the status that says whether it is in force.
//!
//! The schema accepts what Istio's accepts. [`parse`] is what the webhook, the operator and the command line share.

mod parse;
mod resource;
mod status;

pub use parse::{parse, parse_spec, read, warnings};
pub use resource::{ModeName, MutualTls, PeerAuthentication, PeerAuthenticationSpec};
pub use status::status;
