//! A token in its compact form (RFC 7515, section 7.1), taken apart and checked for form, and the moments it is valid.

use super::algorithm::Algorithm;
use super::refusal::Reason;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 32 * 1024;

/// How far the clocks of the issuer and of this host may be apart, as in Envoy.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// A token that has the form of one. Nothing of it is to be believed yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// The header and the payload as they were signed.
    pub(super) signed: &'a str,
    /// The payload as it was signed.
    pub(super) encoded_payload: &'a str,
    pub(super) signature: Vec<u8>,
    pub(super) issuer: String,
    pub(super) validity: Validity,
    pub(super) payload: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart, in the order in which Envoy does, so that the first fault is the same.
    pub(super) fn parse(text: &'a str) -> Result<Self, Reason> {
        let jws = Jws::parse(text)?;
        let payload = serde_json::from_slice::<Map<String, Value>>(&jws.payload).map_err(|_| Reason::PayloadJson)?;
        let issuer = text_of(&payload, "iss", Reason::IssuerType)?
            .unwrap_or_default()
            .to_owned();
        text_of(&payload, "sub", Reason::SubjectType)?;
        let issued_at = seconds(&payload, "iat", Reason::IssuedAtType, Reason::IssuedAtRange)?;
        let not_before = seconds(&payload, "nbf", Reason::NotBeforeType, Reason::NotBeforeRange)?;
        let expiry = seconds(&payload, "exp", Reason::ExpiryType, Reason::ExpiryRange)?;
        text_of(&payload, "jti", Reason::TokenIdType)?;
        match payload.get("aud") {
            None | Some(Value::String(_)) => {}
            Some(Value::Array(all)) if all.iter().all(Value::is_string) => {}
            Some(_) => return Err(Reason::AudienceType),
        }
        Ok(Self {
            signature: jws.signature()?,
            algorithm: jws.algorithm,
            key_id: jws.key_id,
            signed: jws.signed,
            encoded_payload: jws.encoded_payload,
            issuer,
            validity: Validity {
                from: issued_at.into_iter().chain(not_before).max().unwrap_or(0),
                to: expiry,
            },
            payload,
        })
    }
}

/// A JSON web signature in its compact form, whatever it signs.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) signed: &'a str,
    encoded_payload: &'a str,
    payload: Vec<u8>,
    encoded_signature: &'a str,
}

impl<'a> Jws<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Reason> {
        if text.len() > MAX_TOKEN_LENGTH {
            return Err(Reason::BadFormat);
        }
        let (signed, encoded_signature) = text.rsplit_once('.').ok_or(Reason::BadFormat)?;
        let (encoded_header, encoded_payload) = signed.split_once('.').ok_or(Reason::BadFormat)?;
        if encoded_header.is_empty()
            || encoded_payload.is_empty()
            || encoded_signature.is_empty()
            || encoded_payload.contains('.')
        {
            return Err(Reason::BadFormat);
        }
        let header = object(encoded_header)?;
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => Algorithm::parse(name).ok_or(Reason::AlgorithmUnsupported)?,
            _ => return Err(Reason::HeaderAlgorithm),
        };
        let key_id = text_of(&header, "kid", Reason::HeaderKeyId)?.filter(|id| !id.is_empty());
        let key_id = key_id.map(str::to_owned);
        if header.contains_key("crit") {
            return Err(Reason::HeaderCritical);
        }
        let payload = URL_SAFE_NO_PAD
            .decode(encoded_payload)
            .map_err(|_| Reason::PayloadBase64)?;
        Ok(Self {
            algorithm,
            key_id,
            signed,
            encoded_payload,
            payload,
            encoded_signature,
        })
    }

    /// The signature; looked at last, as in Envoy.
    pub(super) fn signature(&self) -> Result<Vec<u8>, Reason> {
        URL_SAFE_NO_PAD
            .decode(self.encoded_signature)
            .map_err(|_| Reason::SignatureBase64)
    }
}

fn object(encoded_header: &str) -> Result<Map<String, Value>, Reason> {
    let text = URL_SAFE_NO_PAD
        .decode(encoded_header)
        .map_err(|_| Reason::HeaderBase64)?;
    serde_json::from_slice(&text).map_err(|_| Reason::HeaderJson)
}

fn text_of<'a>(object: &'a Map<String, Value>, name: &str, otherwise: Reason) -> Result<Option<&'a str>, Reason> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(otherwise),
    }
}

/// A NumericDate (RFC 7519, section 2); what it has of a fraction does not count.
fn seconds(
    payload: &Map<String, Value>,
    name: &str,
    otherwise: Reason,
    out_of_range: Reason,
) -> Result<Option<u64>, Reason> {
    let number = match payload.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(otherwise),
    };
    if let Some(seconds) = number.as_u64() {
        return Ok(Some(seconds));
    }
    match number.as_f64() {
        // Larger ones cannot be told exactly, and no clock reaches them.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(seconds) if (0.0..9e15).contains(&seconds) => Ok(Some(seconds as u64)),
        _ => Err(out_of_range),
    }
}

/// When a token is valid, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    /// From the later of `nbf` and `iat`. Envoy does not look at the latter.
    pub(super) from: u64,
    /// To `exp`; without end where there is none.
    pub(super) to: Option<u64>,
}

impl Validity {
    pub(super) fn check(self, now: SystemTime) -> Result<(), Reason> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let skew = CLOCK_SKEW.as_secs();
        if now.saturating_add(skew) < self.from {
            return Err(Reason::NotYetValid);
        }
        if self.to.is_some_and(|to| now > to.saturating_add(skew)) {
            return Err(Reason::Expired);
        }
        Ok(())
    }
}
