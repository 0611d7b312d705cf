//! End-user tokens: what a verified JSON Web Token (RFC 7519) says.

mod claims;

pub use claims::Claims;
