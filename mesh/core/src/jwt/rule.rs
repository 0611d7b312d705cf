//! An entry of `jwtRules`, parsed.

use http::HeaderName;
use std::time::Duration;

/// How long fetching keys may take where a rule says nothing (Istio's default).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// `RequestAuthentication.spec.jwtRules[]`: an issuer whose tokens are accepted, and where they are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// `issuer`: a token's claim `iss` must equal it.
    pub issuer: String,
    /// `audiences`: a token must be for one of these; for any, where there is none.
    pub audiences: Vec<String>,
    /// `jwks`, `jwksUri`, or neither.
    pub keys: KeySource,
    /// `fromHeaders`.
    pub from_headers: Vec<TokenHeader>,
    /// `fromParams`: query parameters.
    pub from_params: Vec<String>,
    /// `fromCookies`.
    pub from_cookies: Vec<String>,
    /// `forwardOriginalToken`: whether the application sees the token.
    pub forward_original_token: bool,
    /// `outputPayloadToHeader`: the header that tells the application the verified payload, as base64url.
    pub output_payload_to_header: Option<HeaderName>,
    /// `outputClaimToHeaders`: headers that tell the application single claims.
    pub output_claim_to_headers: Vec<ClaimHeader>,
    /// `timeout`, of fetching the keys.
    pub timeout: Option<Duration>,
    /// `spaceDelimitedClaims`: claims whose text is a list; `scope` and `permission` are without being named.
    pub space_delimited_claims: Vec<String>,
}

impl Rule {
    /// A rule that says nothing but its issuer and where its keys are from.
    #[must_use]
    pub fn new(issuer: impl Into<String>, keys: KeySource) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: Vec::new(),
            keys,
            from_headers: Vec::new(),
            from_params: Vec::new(),
            from_cookies: Vec::new(),
            forward_original_token: false,
            output_payload_to_header: None,
            output_claim_to_headers: Vec::new(),
            timeout: None,
            space_delimited_claims: Vec::new(),
        }
    }
}

/// Where the keys of an issuer are from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// `jwks`: the JSON Web Key Set itself.
    Inline(String),
    /// `jwksUri`.
    Uri(String),
    /// Neither: the `jwks_uri` of the issuer's OpenID discovery document.
    Discovery,
}

/// `fromHeaders[]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenHeader {
    /// The header.
    pub name: HeaderName,
    /// What stands before the token, `Bearer ` for example; a value without it holds no token.
    pub prefix: String,
}

/// `outputClaimToHeaders[]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimHeader {
    /// The header.
    pub header: HeaderName,
    /// The claim; `a.b` is the claim `b` inside of `a`, where no claim is named `a.b`.
    pub claim: String,
}
