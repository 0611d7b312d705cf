//! What passes between an operator and a proxy: the resources of the discovery stream, and the TLS that authenticates it
//! and every connection between two proxies.
//!
//! The transport is Envoy's incremental aggregated discovery (`envoy.service.discovery.v3`, `DeltaAggregatedResources`)
//! with the mesh's own resource types. Resources are plain protobuf messages ([`resources`]) that convert to and from
//! `mesh_core`'s types ([`convert`]); nothing behind the conversion sees a message. [`delta`] is a server's
//! memory of one stream. [`reports`] is what a proxy tells of what it saw. [`admin`] is what both tell whoever asks them what
//! they know.

pub mod admin;
pub mod authorization;
pub mod candidates;
mod check;
mod client_tls;
pub mod convert;
pub mod delta;
mod destination;
mod ext_authz;
mod names;
pub mod query;
pub mod reports;
pub mod request_authentication;
pub mod resources;
mod routing;
pub mod tls;
mod traffic;
