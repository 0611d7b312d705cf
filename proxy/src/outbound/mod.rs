//! From the pod's application to somewhere. A captured connection passes through these files in this order:
//! [`connection`] (what was dialled, what it speaks), [`http`] with [`send`] or [`tcp`] (which destination), [`secured`] (under which TLS),
//! [`crate::cluster`] (which of its pods), [`connect`] (the connection to it).

pub mod connect;
pub mod connection;
pub mod http;
pub mod mirror;
pub mod retry;
pub mod route;
pub mod secured;
pub mod send;
pub mod tcp;
