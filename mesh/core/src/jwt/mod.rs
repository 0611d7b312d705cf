//! End-user authentication: the tokens of a request (JSON Web Tokens, RFC 7519) are found, verified and turned into
//! [`Claims`], or the request is refused.
//!
//! [`Rule`] is an entry of `RequestAuthentication.spec.jwtRules`; [`Keys`] are the keys of its issuer; an
//! [`Authenticator`] holds all rules that are for a workload. What is refused, with which words, and which requests pass
//! without a token is as in Istio with Envoy's filter; where this is stricter, the code says so. A token is never part of
//! an error, a log line or a record.

mod algorithm;
mod authenticator;
mod cache;
mod claims;
mod edits;
mod keys;
mod locations;
mod origin;
mod refusal;
mod rule;
mod token;

pub use authenticator::{Authenticated, Authenticator};
pub use claims::Claims;
pub use edits::Edits;
pub use keys::{Keys, KeysError, MAX_JWKS_LENGTH, MAX_KEYS};
pub use origin::{KeyId, KeyOrigin, KeyPlace, UnknownKey};
pub use refusal::{Reason, Refusal};
pub use rule::{ClaimHeader, DEFAULT_TIMEOUT, KeySource, Rule, TokenHeader};
pub use token::{CLOCK_SKEW, MAX_TOKEN_LENGTH};

#[cfg(test)]
mod tests;
