//! RequestAuthentication of `security.istio.io`, v1 and v1beta1: the resource as users write it, its parsing into the domain's
//! rules with Istio's validation, and the status that says whether it is in force.
//!
//! The schema accepts what Istio's accepts. [`parse`] is what the webhook, the operator and the command line share;
//! [`strictest`] is what holds of a policy that got into the cluster and does not parse.

mod parse;
mod resource;
mod status;
mod warnings;

pub use parse::{RequestAuthenticationPolicy, parse, read, strictest};
pub use resource::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication, RequestAuthenticationSpec};
pub use status::{KEYS_KNOWN, keys_known, status};
pub use warnings::warnings;
