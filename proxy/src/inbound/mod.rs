//! From somewhere to the pod's application. A captured connection passes through these files in this order:
//! [`connection`] (which port was dialled, what PeerAuthentication says of it, plain or TLS), [`tls`] (the handshake, who the
//! peer is), [`http`] or [`tcp`] (to the application).

pub mod connection;
pub mod http;
pub mod tcp;
pub mod tls;
