//! The messages of RequestAuthentications.

use prost::Message;

/// Every RequestAuthentication that is for the pod, with the keys that verify its tokens.
#[derive(Clone, PartialEq, Message)]
pub struct RequestAuthentications {
    /// The policies, those of the root namespace first.
    #[prost(message, repeated, tag = "1")]
    pub policies: Vec<RequestAuthentication>,
}

/// A RequestAuthentication.
#[derive(Clone, PartialEq, Message)]
pub struct RequestAuthentication {
    /// The resource's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The resource's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// `spec.jwtRules`.
    #[prost(message, repeated, tag = "3")]
    pub rules: Vec<JwtRule>,
}

/// See [`mesh_core::jwt::Rule`].
#[derive(Clone, PartialEq, Message)]
pub struct JwtRule {
    /// `issuer`.
    #[prost(string, tag = "1")]
    pub issuer: String,
    /// `audiences`.
    #[prost(string, repeated, tag = "2")]
    pub audiences: Vec<String>,
    /// Where the keys are from.
    #[prost(enumeration = "KeySource", tag = "3")]
    pub key_source: i32,
    /// `jwksUri`, for that source.
    #[prost(string, tag = "4")]
    pub jwks_uri: String,
    /// The keys, as a JWKS (RFC 7517, section 5); absent where none are known.
    #[prost(string, optional, tag = "5")]
    pub jwks: Option<String>,
    /// Why none are known.
    #[prost(string, tag = "6")]
    pub jwks_missing: String,
    /// Whether there were some, which are too old to be used any longer.
    #[prost(bool, tag = "15")]
    pub jwks_ended: bool,
    /// `fromHeaders`.
    #[prost(message, repeated, tag = "7")]
    pub from_headers: Vec<JwtHeader>,
    /// `fromParams`.
    #[prost(string, repeated, tag = "8")]
    pub from_params: Vec<String>,
    /// `fromCookies`.
    #[prost(string, repeated, tag = "9")]
    pub from_cookies: Vec<String>,
    /// `forwardOriginalToken`.
    #[prost(bool, tag = "10")]
    pub forward_original_token: bool,
    /// `outputPayloadToHeader`; empty is none.
    #[prost(string, tag = "11")]
    pub output_payload_to_header: String,
    /// `outputClaimToHeaders`.
    #[prost(message, repeated, tag = "12")]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// `timeout`, milliseconds; absent is the default.
    #[prost(uint64, optional, tag = "13")]
    pub timeout_milliseconds: Option<u64>,
    /// `spaceDelimitedClaims`.
    #[prost(string, repeated, tag = "14")]
    pub space_delimited_claims: Vec<String>,
}

/// `fromHeaders[]`.
#[derive(Clone, PartialEq, Message)]
pub struct JwtHeader {
    /// The header.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What stands before the token.
    #[prost(string, tag = "2")]
    pub prefix: String,
}

/// `outputClaimToHeaders[]`.
#[derive(Clone, PartialEq, Message)]
pub struct ClaimToHeader {
    /// The header.
    #[prost(string, tag = "1")]
    pub header: String,
    /// The claim.
    #[prost(string, tag = "2")]
    pub claim: String,
}

/// Where a rule's keys are from. A rule whose source cannot be decoded must not be passed over, so the numbers leave zero
/// without a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum KeySource {
    /// Not a source: refuse the message.
    Invalid = 0,
    /// `jwks`.
    Inline = 1,
    /// `jwksUri`.
    Uri = 2,
    /// The issuer's OpenID discovery document.
    Discovery = 3,
}
