//! The resource's fields, from which its CRD is generated. Everything stays text here, as an object may come from a cluster
//! whose CRD is not ours; [`super::parse`] decides what it means.

#![allow(clippy::duplicated_attributes, reason = "two printed columns may be of one type")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::selector::WorkloadSelector;
use crate::status::Status;
use crate::target::TargetReference;

/// The most rules of a policy (Istio's CRD).
pub(super) const MOST_RULES: usize = 4096;
/// The most claims of `spaceDelimitedClaims` (Istio's CRD).
pub(super) const MOST_CLAIMS: usize = 64;
/// The longest `jwksUri` (Istio's CRD), in characters.
pub(super) const LONGEST_URI: usize = 2048;

/// Whose tokens workloads accept.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "security.istio.io",
    version = "v1",
    kind = "RequestAuthentication",
    plural = "requestauthentications",
    shortname = "ra",
    category = "istio-io",
    category = "security-istio-io",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "Status",
    doc = "Whose tokens workloads accept: of the whole mesh, a namespace or selected ones.",
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.jwtRules[0].issuer",
        description = "The first issuer whose tokens are accepted."
    ),
    printcolumn(
        name = "Workloads",
        type_ = "integer",
        json_path = ".status.workloads",
        description = "How many workloads the policy is for now."
    ),
    printcolumn(
        name = "Denials",
        type_ = "integer",
        json_path = ".status.denialsLastHour",
        description = "How many calls the policy denied in the last hour."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "When the resource was created."
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "only one of targetRefs or selector can be set",
    "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1"
}]))]
pub struct RequestAuthenticationSpec {
    /// Which workloads the policy is for, by their labels; absent: all of the namespace, or of the mesh in the root
    /// namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<WorkloadSelector>,
    /// What the policy is attached to in place of workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetReference>,
    /// What the policy is attached to in place of workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 16))]
    pub target_refs: Option<Vec<TargetReference>>,
    /// Issuers whose tokens are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxItems" = 4096))]
    pub jwt_rules: Option<Vec<JwtRule>>,
}

/// An issuer whose tokens are accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "message": "only one of jwks or jwksUri can be set",
    "rule": "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1"
}]))]
pub struct JwtRule {
    /// What tokens name as their issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1))]
    pub issuer: Option<String>,
    /// Whom tokens may be for; absent: anyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<NotEmpty>>")]
    pub audiences: Option<Vec<String>>,
    /// Where the issuer's keys are; absent beside an absent jwks: where its OpenID discovery document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::http_url")]
    pub jwks_uri: Option<String>,
    /// Another name of jwksUri.
    #[serde(rename = "jwks_uri", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::http_url")]
    pub jwks_uri_alias: Option<String>,
    /// The issuer's keys, as a JSON Web Key Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// Headers that tokens are looked for in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_headers: Option<Vec<JwtHeader>>,
    /// Query parameters that tokens are looked for in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<NotEmpty>>")]
    pub from_params: Option<Vec<String>>,
    /// Cookies that tokens are looked for in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<NotEmpty>>")]
    pub from_cookies: Option<Vec<String>>,
    /// The header that tells the application the verified payload, in base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_payload_to_header: Option<String>,
    /// Whether the application sees the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_original_token: Option<bool>,
    /// Headers that tell the application single claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_claim_to_headers: Option<Vec<ClaimToHeader>>,
    /// How long fetching the keys may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<String>,
    /// Claims whose text is a list with spaces between its items.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<NotEmpty>>", extend("maxItems" = 64))]
    pub space_delimited_claims: Option<Vec<String>>,
    /// Whether every request must have this issuer's token: only OPTIONAL is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<String>,
}

/// Text.
#[derive(JsonSchema)]
#[schemars(extend("minLength" = 1))]
struct NotEmpty(#[allow(dead_code, reason = "only its schema is used")] String);

/// A header that tokens are looked for in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["name"]))]
pub struct JwtHeader {
    /// Its name.
    #[schemars(extend("minLength" = 1))]
    #[serde(default)]
    pub name: String,
    /// What stands before the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// A header that tells the application a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["header", "claim"]))]
pub struct ClaimToHeader {
    /// The header's name.
    #[schemars(extend("minLength" = 1, "pattern" = "^[-_A-Za-z0-9]+$"))]
    #[serde(default)]
    pub header: String,
    /// The claim; a.b is the claim b inside of a.
    #[schemars(extend("minLength" = 1))]
    #[serde(default)]
    pub claim: String,
}
