//! The messages of candidate sets: what would be in force if their policies were. Nothing in them is in force.

use super::{AuthorizationPolicies, InboundPolicy, RequestAuthentications};
use prost::Message;

/// The candidate sets that concern the pod; none, where there are none. See [`mesh_core::candidates`].
#[derive(Clone, PartialEq, Message)]
pub struct CandidateSets {
    /// In the order of their names.
    #[prost(message, repeated, tag = "1")]
    pub sets: Vec<CandidateSet>,
}

/// A set. Of a kind that it has no candidate of, what is in force is also what would be.
#[derive(Clone, PartialEq, Message)]
pub struct CandidateSet {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its candidates that concern the pod, `KIND/NAMESPACE/NAME`.
    #[prost(string, repeated, tag = "2")]
    pub members: Vec<String>,
    /// What PeerAuthentications would say of the pod's ports.
    #[prost(message, optional, tag = "3")]
    pub inbound: Option<InboundPolicy>,
    /// The AuthorizationPolicies that there would be for the pod.
    #[prost(message, optional, tag = "4")]
    pub authorization: Option<AuthorizationPolicies>,
    /// The RequestAuthentications.
    #[prost(message, optional, tag = "5")]
    pub tokens: Option<RequestAuthentications>,
}
