//! DNS capture: what the pod asks its resolvers comes here instead, where the redirect rules say so.
//!
//! `server` takes questions by UDP and TCP → `answers` has the mesh's own word for names that the operator knows (`mesh`'s
//! table of names) → for everything else `cache`, and behind it `upstream`: the pod's own resolvers. `message` reads and
//! writes what goes over the wire, with the protocol's parser from hickory.
//!
//! Nothing here decides where a connection goes: a name that is answered wrongly late or not at all leads to an address that
//! the outbound side looks at as ever.

mod answers;
mod cache;
mod message;
mod resolv_conf;
mod server;
mod upstream;

pub use resolv_conf::{RESOLV_CONF, ResolvConf};
pub use server::{Counters, Server};

/// The port to which the redirect rules send questions; Istio's.
pub const PORT: u16 = 15053;
