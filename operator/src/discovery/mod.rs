//! The discovery server on 15012. A connection passes [`accept`] (mutual TLS with the mesh's certificates, which says
//! who calls), a stream passes [`service`] (is the pod that it speaks for one of the caller's?) and lives in [`stream`]
//! (what it subscribed to, what it was sent). [`credentials`] keeps the server's own certificate fresh.

pub mod accept;
pub mod credentials;
pub mod service;
mod stream;
