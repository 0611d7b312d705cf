//! Sockets: where captured connections come from ([`listen`], [`original`]), what they are joined to ([`dial`]), and how
//! bytes pass between the two ([`relay`]). Nothing here knows a policy.

pub mod client_hello;
pub mod dial;
pub mod first_bytes;
pub mod listen;
pub mod original;
pub mod relay;
pub mod stream;
