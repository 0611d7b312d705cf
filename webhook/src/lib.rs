//! The admission webhook: gives pods their sidecars and refuses resources of the mesh that do not parse.
//!
//! A review comes in over HTTPS ([`server`]), is bounded and decoded ([`admission`]), and is answered by a pure function:
//! [`inject::inject`] for pods, [`validate::validate`] for resources. What those need to know arrives by watches on
//! three objects and the namespaces' labels ([`watch`]) and is held in [`state`]. The webhook writes nothing and keeps nothing between reviews, so
//! any number of replicas answer alike.

pub mod admission;
pub mod certificate;
pub mod config;
pub mod inject;
pub mod metrics;
pub mod server;
pub mod state;
pub mod validate;
pub mod version;
pub mod watch;
