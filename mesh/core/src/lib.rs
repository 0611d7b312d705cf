//! The mesh's domain: what an identity is, which policy governs a port, which protocol a port speaks, which names a
//! Service answers to, where requests go and how endpoints are used, when a certificate is renewed, which token proves who a
//! request's user is.
//!
//! Nothing here does I/O, waits, or knows Kubernetes' object types. The webhook, the operator, the proxy and the command
//! line decide with these functions, so they cannot disagree.

pub mod access_log;
pub mod authorization;
pub mod balance;
pub mod call;
pub mod candidates;
pub mod certificate;
pub mod client_tls;
pub mod destination;
pub mod destination_rule;
pub mod ext_authz;
pub mod hosts;
pub mod identity;
pub mod jwt;
pub mod labels;
pub mod peer_authentication;
pub mod protocol;
pub mod request;
pub mod routing;
pub mod service_entry;
pub mod sidecar_scope;
pub mod switch;
pub mod traffic;
pub mod workload;
