//! Certificates in Secrets: what a Secret holds ([`held`]), what is to be done about it ([`plan`], pure), and the
//! Secret that is written ([`secret`]). Service accounts' and the webhook's certificates go through the same three.

pub mod held;
pub mod plan;
pub mod secret;

pub use held::{Defect, Expected, Held, Pair};
pub use plan::{Facts, Plan, Reason, Refusal, Use, plan};
