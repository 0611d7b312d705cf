//! The policies in force in a sidecar.

use serde::{Deserialize, Serialize};

/// The policies in force in a sidecar: `/policies`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policies {
    /// Whether all were received; until then nothing is taken.
    pub received: bool,
    /// The version of the discovery resource of PeerAuthentication.
    pub version: String,
    /// What PeerAuthentications say of ports, in the order of these.
    pub policies: Vec<Policy>,
    /// The AuthorizationPolicies, the root namespace's first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_policies: Vec<AuthorizationPolicy>,
    /// The RequestAuthentications, likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_authentications: Vec<RequestAuthentication>,
    /// `meshConfig.pathNormalization.normalization`; empty before it was received.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path_normalization: String,
    /// How many proxies in front of the mesh are trusted to tell the client.
    pub trusted_proxies: u32,
    /// What is tried and not in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidate_sets: Vec<CandidateSet>,
}

/// A candidate set that is evaluated, and what would be in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CandidateSet {
    /// Its name.
    pub name: String,
    /// Its candidates that concern the pod, `KIND/NAMESPACE/NAME`.
    pub candidates: Vec<String>,
    /// What PeerAuthentications would say of ports; none where the set has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
}

/// What holds on a port, and what decided it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// `PeerAuthentication`.
    pub kind: String,
    /// The workload's port; none for all that are not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `STRICT`, `PERMISSIVE` or `DISABLE`.
    pub mode: String,
    /// `NAMESPACE/NAME` of the resources that decided, narrowest first; none for the mesh's default.
    pub decided_by: Vec<String>,
}

/// An AuthorizationPolicy that is for the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationPolicy {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// `ALLOW`, `DENY`, `AUDIT` or `CUSTOM`.
    pub action: String,
    /// The extension provider that a CUSTOM action asks.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// How many rules it has; none match nothing.
    pub rules: usize,
    /// Whether it only tells what it would do.
    pub dry_run: bool,
}

/// A RequestAuthentication that is for the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestAuthentication {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// The issuers whose tokens it takes.
    pub rules: Vec<JwtRule>,
}

/// An issuer whose tokens are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JwtRule {
    /// The issuer.
    pub issuer: String,
    /// Whom a token must be for; anybody, where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Why its keys are not known, and its tokens refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_missing: Option<String>,
}
