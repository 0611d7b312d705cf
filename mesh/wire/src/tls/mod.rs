//! The TLS of the mesh: certificate material as the kubelet mounts it ([`material`]), and who is believed ([`verify`]).
//!
//! A server asks every client for a certificate and believes it when it verifies under a root of the trust bundle and
//! carries one SPIFFE ID of the mesh's trust domain or an alias. A client believes a server likewise; whether the server is
//! one of the destination's is then the caller's to check with [`verify::peer_identity`], before it sends anything.

pub mod material;
pub mod verify;

#[cfg(test)]
mod tests;
