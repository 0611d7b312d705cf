//! From somewhere to the pod's application. A captured connection passes through these files in this order:
//! [`connection`] (which port was dialled, what PeerAuthentication says of it, plain or TLS), [`tls`] (the handshake, who the
//! peer is), [`http`] or [`tcp`] (to the application), which ask `authorization` whether it may pass (`unknown_keys` waits for
//! the keys of tokens, `custom` asks an external authorizer, `denied` is what becomes of what may not); `standing` ends what
//! is taken no more once policies change, `in_the_clear` says what is not taken without TLS, `shadow` what candidate sets
//! would not take.

mod authorization;
pub mod connection;
mod custom;
mod denied;
pub mod http;
mod in_the_clear;
mod shadow;
mod standing;
pub mod tcp;
pub mod tls;
mod unknown_keys;
