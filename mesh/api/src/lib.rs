//! The mesh's Kubernetes surface: resources, annotations, labels and the mesh configuration.
//!
//! What a user writes comes in here as text or as an API object and leaves as types of `mesh_core` that cannot be
//! wrong, or as an [`Invalid`] that names the field, the value and what would have been accepted. The names are
//! Istio's, so that existing manifests apply as they stand. Nothing here talks to a cluster.

pub mod annotations;
pub mod authorization_policy;
pub mod candidate;
pub mod crd;
pub mod destination_rule;
mod duration;
mod export;
mod header;
pub mod injection;
mod invalid;
pub mod labels;
pub mod mesh_config;
pub mod migration;
mod names;
mod object;
pub mod peer_authentication;
mod report;
pub mod request_authentication;
mod schema;
pub mod selector;
pub mod service_entry;
pub mod sidecar_resource;
pub mod status;
pub mod target;
mod unknown;
pub mod validation;
pub mod virtual_service;
pub mod when_ready;
pub mod workload_entry;

pub use authorization_policy::{AuthorizationPolicy, AuthorizationPolicySpec};
pub use destination_rule::{DestinationRule, DestinationRuleSpec};
pub use invalid::{Invalid, join};
pub use mesh_config::MeshConfig;
pub use peer_authentication::{PeerAuthentication, PeerAuthenticationSpec};
pub use request_authentication::{RequestAuthentication, RequestAuthenticationSpec};
pub use service_entry::{ServiceEntry, ServiceEntrySpec};
pub use sidecar_resource::{Sidecar, SidecarSpec};
pub use virtual_service::{VirtualService, VirtualServiceSpec};
pub use workload_entry::{WorkloadEntry, WorkloadEntrySpec};
