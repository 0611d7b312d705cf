//! Why a request was refused, in the words of Envoy's filter, so that what reads logs and answers goes on working.

use super::origin::UnknownKey;
use std::fmt::Write as _;

/// The longest path that a `WWW-Authenticate` header repeats, as in Envoy.
const MAX_REALM_PATH: usize = 256;

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not three parts, or longer than [`super::MAX_TOKEN_LENGTH`].
    BadFormat,
    /// The header is not base64url without padding.
    HeaderBase64,
    /// The header is no JSON object.
    HeaderJson,
    /// `alg` is missing or no text.
    HeaderAlgorithm,
    /// `none`, a shared secret (`HS…`), or an unknown algorithm.
    AlgorithmUnsupported,
    /// `kid` is no text.
    HeaderKeyId,
    /// `crit` names an extension (RFC 7515, 4.1.11): none is understood.
    HeaderCritical,
    /// The payload is not base64url without padding.
    PayloadBase64,
    /// The payload is no JSON object.
    PayloadJson,
    /// `iss` is no text.
    IssuerType,
    /// `sub` is no text.
    SubjectType,
    /// `iat` is no number.
    IssuedAtType,
    /// `iat` is negative or too large.
    IssuedAtRange,
    /// `nbf` is no number.
    NotBeforeType,
    /// `nbf` is negative or too large.
    NotBeforeRange,
    /// `exp` is no number.
    ExpiryType,
    /// `exp` is negative or too large.
    ExpiryRange,
    /// `jti` is no text.
    TokenIdType,
    /// `aud` is neither a text nor a list of texts.
    AudienceType,
    /// The signature is not base64url without padding.
    SignatureBase64,
    /// No rule is for the issuer.
    UnknownIssuer,
    /// `nbf`, or `iat`, lies ahead.
    NotYetValid,
    /// `exp` has passed.
    Expired,
    /// The token is for others.
    Audience,
    /// No key verifies the signature.
    Signature,
    /// No key has the token's `kid` and algorithm.
    UnknownKey,
    /// The issuer's keys are not known, because they could not be fetched.
    KeysNotFetched,
    /// The issuer's keys are not known, because the rule's own cannot be used.
    NoUsableKeys,
    /// More tokens than a request may bring.
    TooManyTokens,
}

impl Reason {
    /// Envoy's sentence, which is also the answer's body.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Self::HeaderBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderJson => "Jwt header is an invalid JSON",
            Self::HeaderAlgorithm => "Jwt header [alg] field is required and must be a string",
            Self::AlgorithmUnsupported => "Jwt header [alg] is not supported",
            Self::HeaderKeyId => "Jwt header [kid] field is not a string",
            // Envoy does not look at it.
            Self::HeaderCritical => "Jwt header [crit] is not supported",
            Self::PayloadBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadJson => "Jwt payload is an invalid JSON",
            Self::IssuerType => "Jwt payload [iss] field is not a string",
            Self::SubjectType => "Jwt payload [sub] field is not a string",
            Self::IssuedAtType => "Jwt payload [iat] field is not an integer",
            Self::IssuedAtRange => "Jwt payload [iat] field is not a positive 64 bit integer",
            Self::NotBeforeType => "Jwt payload [nbf] field is not an integer",
            Self::NotBeforeRange => "Jwt payload [nbf] field is not a positive 64 bit integer",
            Self::ExpiryType => "Jwt payload [exp] field is not an integer",
            Self::ExpiryRange => "Jwt payload [exp] field is not a positive 64 bit integer",
            Self::TokenIdType => "Jwt payload [jti] field is not a string",
            Self::AudienceType => "Jwt payload [aud] field is not a string or string list",
            Self::SignatureBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::Signature => "Jwt verification fails",
            Self::UnknownKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::KeysNotFetched => "Jwks remote fetch is failed",
            Self::NoUsableKeys => "Jwks doesn't have any valid public key",
            Self::TooManyTokens => "Found multiple Jwt tokens",
        }
    }
}

/// A request that is refused for its token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .reason.message())]
pub struct Refusal {
    reason: Reason,
    unknown_keys: Vec<UnknownKey>,
}

impl Refusal {
    pub(super) const fn new(reason: Reason, unknown_keys: Vec<UnknownKey>) -> Self {
        Self { reason, unknown_keys }
    }

    /// What is wrong.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The keys that its tokens ask for and that were not among those fetched. Once they are, the request may pass.
    #[must_use]
    pub fn unknown_keys(&self) -> &[UnknownKey] {
        &self.unknown_keys
    }

    /// The answer's status: 401, and 403 for a token that is for others, as in Envoy.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self.reason {
            Reason::Audience => 403,
            _ => 401,
        }
    }

    /// The answer's body.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.reason.message()
    }

    /// The response code detail: `jwt_authn_access_denied{Jwt_is_expired}`.
    #[must_use]
    pub fn detail(&self) -> String {
        format!("jwt_authn_access_denied{{{}}}", self.message().replace(' ', "_"))
    }

    /// The answer's `WWW-Authenticate` (RFC 6750, section 3): `Bearer realm="http://HOST/PATH", error="invalid_token"`. The
    /// query is left out: it may hold the token.
    #[must_use]
    pub fn www_authenticate(&self, scheme: &str, authority: &str, path_and_query: &str) -> String {
        let path = path_and_query.split(['?', '#']).next().unwrap_or_default();
        let mut value = format!("Bearer realm=\"{scheme}://");
        for character in authority.chars().chain(path.chars().take(MAX_REALM_PATH)) {
            match character {
                '"' | '\\' => value.extend(['\\', character]),
                ' '..='~' => value.push(character),
                _ => value.push('?'),
            }
        }
        // Writing to a text does not fail.
        let _ = write!(value, "\", error=\"invalid_token\"");
        value
    }
}

#[cfg(test)]
mod tests {
    const SOURCE: &str = include_str!("refusal.rs");
    const PAGE: &str = include_str!("../../../../docs/denials.md");

    #[test]
    fn every_sentence_is_explained() {
        let arms = SOURCE
            .split("pub const fn message")
            .nth(1)
            .unwrap()
            .split("\n    }\n")
            .next()
            .unwrap();
        let sentences: Vec<&str> = arms.lines().filter_map(|line| line.split('"').nth(1)).collect();
        assert!(sentences.len() >= 29, "one for each reason: {sentences:?}");
        for sentence in sentences {
            assert!(
                PAGE.contains(&format!("`{sentence}`")),
                "docs/denials.md does not explain {sentence:?}"
            );
        }
    }
}
