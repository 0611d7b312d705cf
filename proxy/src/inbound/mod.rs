//! From somewhere to the pod's application. A captured connection passes through these files in this order:
//! [`connection`] (which port was dialled, what PeerAuthentication says of it, plain or TLS), [`tls`] (the handshake, who the
//! peer is), [`http`] or [`tcp`] (to the application); `in_the_clear` ends what is no longer taken without TLS.

pub mod connection;
pub mod http;
mod in_the_clear;
pub mod tcp;
pub mod tls;
