//! The keys of an issuer: a JSON Web Key Set (RFC 7517), bounded, of which only keys that verify signatures are kept.

use super::algorithm::{Algorithm, Family};
use super::refusal::Reason;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The longest key set that is read, in bytes.
pub const MAX_JWKS_LENGTH: usize = 256 * 1024;

/// The most usable keys that a set may have: without a `kid` a token is tried with all of them.
pub const MAX_KEYS: usize = 64;

/// The shortest and longest RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The keys of an issuer, or why there are none.
#[derive(Clone)]
pub struct Keys {
    found: Arc<[Key]>,
    missing: Option<(Reason, Arc<str>)>,
    origin: Option<Arc<str>>,
    until: Option<SystemTime>,
}

struct Key {
    id: Option<String>,
    /// The only algorithm it may be used with, where it names one.
    algorithm: Option<Algorithm>,
    family: Family,
    public: Public,
}

enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Parsed(ParsedPublicKey),
}

/// A key set that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Too long.
    #[error("the key set has {0} bytes; at most {MAX_JWKS_LENGTH} are accepted")]
    TooLong(usize),
    /// No JSON, or no JSON object.
    #[error("the key set is not a JSON object: {0}")]
    NotJson(String),
    /// No list of keys.
    #[error("the key set has no list \"keys\"")]
    NoList,
    /// Too many keys.
    #[error("the key set has {0} usable keys; at most {MAX_KEYS} are accepted")]
    TooMany(usize),
    /// No key that is usable.
    #[error(
        "the key set has no key that verifies signatures{}; accepted are RSA of 2048 to 8192 bits, EC P-256, P-384 and P-521, and OKP Ed25519", .0.as_deref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    NoneUsable(Option<String>),
}

impl Keys {
    /// Reads a key set. Keys that are not for verifying signatures, of other kinds, or damaged are passed over, as long
    /// as one is left.
    ///
    /// # Errors
    /// When it is no key set, or none of its keys can be used.
    pub fn parse(jwks: &str) -> Result<Self, KeysError> {
        if jwks.len() > MAX_JWKS_LENGTH {
            return Err(KeysError::TooLong(jwks.len()));
        }
        let set: Map<String, Value> =
            serde_json::from_str(jwks).map_err(|error| KeysError::NotJson(error.to_string()))?;
        let Some(Value::Array(listed)) = set.get("keys") else {
            return Err(KeysError::NoList);
        };
        let (mut found, mut first_fault) = (Vec::new(), None);
        for (position, entry) in listed.iter().enumerate() {
            match Key::parse(entry) {
                Ok(key) => found.push(key),
                Err(why) => {
                    first_fault.get_or_insert_with(|| format!("keys[{position}]: {why}"));
                }
            }
        }
        match found.len() {
            0 => Err(KeysError::NoneUsable(first_fault)),
            1..=MAX_KEYS => Ok(Self {
                found: found.into(),
                missing: None,
                origin: None,
                until: None,
            }),
            too_many => Err(KeysError::TooMany(too_many)),
        }
    }

    /// No keys, because they could not be fetched: every token of the issuer is refused.
    #[must_use]
    pub fn not_fetched(why: &str) -> Self {
        Self::without(Reason::KeysNotFetched, why)
    }

    /// No keys, because those of the rule cannot be used: every token of the issuer is refused.
    #[must_use]
    pub fn unusable(why: &str) -> Self {
        Self::without(Reason::NoUsableKeys, why)
    }

    fn without(reason: Reason, why: &str) -> Self {
        Self {
            found: Arc::new([]),
            missing: Some((reason, why.into())),
            origin: None,
            until: None,
        }
    }

    /// The same keys, fetched from where this [name](super::KeyOrigin::name) says: there may be newer ones.
    #[must_use]
    pub fn fetched_from(self, origin: Option<Arc<str>>) -> Self {
        Self { origin, ..self }
    }

    /// The same keys, to be used until that time at the most: nobody can say whether they still hold.
    #[must_use]
    pub fn until(self, time: SystemTime) -> Self {
        let until = self.until.map_or(time, |before| before.min(time));
        Self {
            until: Some(until),
            ..self
        }
    }

    /// Whether they may be used now.
    pub(super) fn check(&self, now: SystemTime) -> Result<(), Reason> {
        match self.until {
            Some(until) if until <= now => Err(Reason::KeysNotFetched),
            _ => Ok(()),
        }
    }

    /// Where they were fetched.
    #[must_use]
    pub fn origin(&self) -> Option<&Arc<str>> {
        self.origin.as_ref()
    }

    /// Why there are none.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_ref().map(|(_, why)| &**why)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Verifies a signature. A token with a `kid` is tried with the keys of that `kid` and those without one, a token
    /// without with all; in both cases only with those of its algorithm.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), Reason> {
        if let Some((reason, _)) = self.missing {
            return Err(reason);
        }
        let mut fits = false;
        for key in self.found.iter().filter(|key| key.fits(algorithm, id)) {
            fits = true;
            if key.verifies(algorithm, signed, signature) {
                return Ok(());
            }
        }
        Err(if fits { Reason::Signature } else { Reason::UnknownKey })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.found.iter().map(|key| key.id.as_deref().unwrap_or("-")).collect();
        f.debug_struct("Keys")
            .field("ids", &ids)
            .field("missing", &self.missing())
            .finish()
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.family == algorithm.family()
            && self.algorithm.is_none_or(|only| only == algorithm)
            && match (&self.id, id) {
                (Some(own), Some(wanted)) => own == wanted,
                _ => true,
            }
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa(key) => algorithm
                .rsa()
                .is_some_and(|parameters| key.verify(parameters, signed, signature).is_ok()),
            Public::Parsed(key) => key.verify_sig(signed, signature).is_ok(),
        }
    }

    fn parse(entry: &Value) -> Result<Self, String> {
        let text = |name: &str| match entry.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("\"{name}\" is not a text")),
        };
        let kind = text("kty")?.ok_or("there is no \"kty\"")?;
        match text("use")? {
            None | Some("sig") => {}
            Some(other) => return Err(format!("\"use\" is {other:?} and not \"sig\"")),
        }
        match entry.get("key_ops") {
            None => {}
            Some(Value::Array(all)) if all.iter().any(|operation| operation == "verify") => {}
            Some(_) => return Err("\"key_ops\" has no \"verify\"".to_owned()),
        }
        let algorithm = match text("alg")? {
            None | Some("") => None,
            Some(name) => Some(Algorithm::parse(name).ok_or_else(|| format!("\"alg\" {name:?} is not accepted"))?),
        };
        let bytes = |name: &str| {
            let encoded = text(name)?.ok_or_else(|| format!("there is no \"{name}\""))?;
            URL_SAFE_NO_PAD
                .decode(encoded.trim_end_matches('='))
                .map_err(|_| format!("\"{name}\" is not base64url"))
        };
        let (family, public) = match (kind, text("crv")?) {
            ("RSA", _) => (Family::Rsa, rsa(&bytes("n")?, &bytes("e")?)?),
            ("EC", Some("P-256")) => (Family::P256, curve(Family::P256, &bytes("x")?, &bytes("y")?)?),
            ("EC", Some("P-384")) => (Family::P384, curve(Family::P384, &bytes("x")?, &bytes("y")?)?),
            ("EC", Some("P-521")) => (Family::P521, curve(Family::P521, &bytes("x")?, &bytes("y")?)?),
            ("OKP", Some("Ed25519")) => (Family::Ed25519, edwards(&bytes("x")?)?),
            (kind, None) => return Err(format!("\"kty\" {kind:?} is not accepted")),
            (kind, Some(name)) => return Err(format!("\"kty\" {kind:?} with \"crv\" {name:?} is not accepted")),
        };
        if algorithm.is_some_and(|algorithm| algorithm.family() != family) {
            return Err("\"alg\" is of another kind of keys".to_owned());
        }
        Ok(Self {
            id: text("kid")?.filter(|id| !id.is_empty()).map(str::to_owned),
            algorithm,
            family,
            public,
        })
    }
}

/// An RSA key: the exponent odd, 3 at least, and short, so that verifying is cheap.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Public, String> {
    let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
    let bits = modulus
        .first()
        .map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!(
            "an RSA key of {bits} bits; {} to {} are accepted",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    let even = |number: &[u8]| number.last().is_none_or(|last| last % 2 == 0);
    if even(modulus) || even(exponent) || exponent == [1] || exponent.len() > 4 {
        return Err("\"n\" and \"e\" are no RSA key".to_owned());
    }
    Ok(Public::Rsa(RsaPublicKeyComponents {
        n: modulus.to_vec(),
        e: exponent.to_vec(),
    }))
}

/// A point, checked to lie on its curve.
fn curve(family: Family, x: &[u8], y: &[u8]) -> Result<Public, String> {
    let (verification, length) = family.curve().ok_or("not a curve")?;
    let mut point = vec![4];
    for coordinate in [x, y] {
        let coordinate = without_zeros(coordinate);
        let zeros = length
            .checked_sub(coordinate.len())
            .ok_or("\"x\" or \"y\" is too long for the curve")?;
        point.resize(point.len() + zeros, 0);
        point.extend_from_slice(coordinate);
    }
    ParsedPublicKey::new(verification, point)
        .map(Public::Parsed)
        .map_err(|_| "\"x\" and \"y\" are no point of the curve".to_owned())
}

fn edwards(x: &[u8]) -> Result<Public, String> {
    if x.len() != 32 {
        return Err("\"x\" has not 32 bytes".to_owned());
    }
    ParsedPublicKey::new(&ED25519, x)
        .map(Public::Parsed)
        .map_err(|_| "\"x\" is no Ed25519 key".to_owned())
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[first..]
}
