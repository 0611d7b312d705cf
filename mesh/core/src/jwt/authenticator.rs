//! All rules that are for a workload, and what they say of a request.
//!
//! As in Istio a request passes when one rule takes its tokens, or when no rule finds a token; a token that no rule takes
//! refuses it. Beyond that, as Istio's documentation promises and Envoy's filter does not always do: beside a good token no
//! bad one passes.

use super::cache::{self, Cache, Digest, Verified};
use super::claims::Claims;
use super::edits::Edits;
use super::keys::Keys;
use super::locations::{self, Locations, Place};
use super::origin::{KeyId, UnknownKey};
use super::refusal::{Reason, Refusal};
use super::rule::Rule;
use super::token::Token;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The most tokens that a request may bring.
const MAX_TOKENS: usize = 16;

/// The most keys that a refusal names.
const MAX_UNKNOWN_KEYS: usize = 16;

/// Claims whose text is a list without a rule's saying so.
const SPACE_DELIMITED: [&str; 2] = ["permission", "scope"];

/// The rules of a workload with their keys, ready to decide about requests.
pub struct Authenticator {
    rules: Vec<Compiled>,
    /// The headers that tell claims, of all rules.
    cleared: Arc<[HeaderName]>,
    cache: Cache,
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    keys: Keys,
    locations: Locations,
    audiences: Vec<String>,
    space_delimited: Vec<String>,
}

/// A request that passes.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// What its token says. `None`: it has none.
    pub claims: Option<Arc<Claims>>,
    /// What is changed before the application sees it.
    pub edits: Edits,
}

/// A token of the request that is being looked at.
struct Seen<'a> {
    text: Cow<'a, str>,
    digest: Digest,
    cached: Option<Arc<Verified>>,
    /// Whether a rule took it.
    taken: bool,
    /// What the rules had against it.
    fault: Option<Reason>,
}

/// Whether a request asks, as browsers do, whether another one may be made.
pub(super) fn is_cors_preflight(method: &Method, headers: &HeaderMap) -> bool {
    let has = |name: HeaderName| headers.get(name).is_some_and(|value| !value.is_empty());
    method == Method::OPTIONS && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Authenticator {
    /// Prepares rules with the keys of their issuers.
    #[must_use]
    pub fn new(rules: Vec<(Rule, Keys)>) -> Self {
        let mut rules: Vec<Compiled> = rules.into_iter().map(Compiled::new).collect();
        // As in Istio: the first that takes a token names the principal.
        rules.sort_by(|a, b| a.rule.issuer.cmp(&b.rule.issuer));
        let mut cleared: Vec<HeaderName> = rules.iter().flat_map(Compiled::output_headers).cloned().collect();
        cleared.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        cleared.dedup();
        Self {
            rules,
            cleared: cleared.into(),
            cache: Cache::default(),
        }
    }

    /// Whether there are no rules, so that every request passes as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What becomes of a request that has no token.
    fn without_token(&self) -> Authenticated {
        Authenticated {
            claims: None,
            edits: Edits::new(self.cleared.clone()),
        }
    }

    /// Finds and verifies the tokens of a request. As in Istio a CORS preflight passes without a look at them: browsers send
    /// none with it.
    ///
    /// # Errors
    /// When a token is not one that a rule takes.
    pub fn authenticate(
        &self,
        method: &Method,
        headers: &HeaderMap,
        path_and_query: &str,
        now: SystemTime,
    ) -> Result<Authenticated, Refusal> {
        let mut passes = self.without_token();
        if is_cors_preflight(method, headers) {
            return Ok(passes);
        }
        // Most requests bring one token, which one rule takes: that costs no memory.
        let mut seen: SmallVec<[Seen<'_>; 1]> = SmallVec::new();
        let mut stripped: SmallVec<[Place<'_>; 1]> = SmallVec::new();
        let mut statuses: SmallVec<[Option<Reason>; 4]> = SmallVec::new();
        let mut unknown_keys: Vec<UnknownKey> = Vec::new();
        let mut taken_by = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let mut found: SmallVec<[(usize, Place<'_>); 1]> = SmallVec::new();
            let mut too_many = false;
            rule.locations.find(headers, path_and_query, |text, place| {
                let known = seen.iter().position(|seen| seen.text == text);
                if known.is_none() && seen.len() == MAX_TOKENS {
                    too_many = true;
                    return;
                }
                let position = known.unwrap_or_else(|| {
                    seen.push(self.look_at(text));
                    seen.len() - 1
                });
                found.push((position, place));
            });
            if too_many {
                return Err(Refusal::new(Reason::TooManyTokens, Vec::new()));
            }
            let (mut status, mut first) = (None, None);
            // As in Envoy the last place is looked at first, and the first place's token counts.
            for (position, place) in found.iter().rev() {
                let token = &mut seen[*position];
                match self.verify(index, token, now, &mut unknown_keys) {
                    Ok(verified) => {
                        token.taken = true;
                        if !rule.rule.forward_original_token {
                            stripped.push(*place);
                        }
                        first = Some(verified);
                    }
                    Err(reason) => {
                        token.fault = Some(worse(token.fault, reason));
                        status.get_or_insert(reason);
                    }
                }
            }
            if let (None, None, Some(verified)) = (taken_by.as_ref(), status, first) {
                taken_by = Some(verified);
            }
            statuses.push(status);
        }
        match taken_by {
            Some(verified) => {
                if let Some(reason) = seen.iter().filter(|seen| !seen.taken).find_map(|seen| seen.fault) {
                    return Err(Refusal::new(reason, unknown_keys));
                }
                passes.edits.added.clone_from(&verified.headers);
                strip(&stripped, headers, path_and_query, &mut passes.edits);
                passes.claims = Some(verified.claims.clone());
                Ok(passes)
            }
            None if seen.is_empty() => Ok(passes),
            None => Err(Refusal::new(overall(&statuses), unknown_keys)),
        }
    }

    fn look_at<'a>(&self, text: Cow<'a, str>) -> Seen<'a> {
        let digest = cache::digest(&text);
        Seen {
            cached: self.cache.get(&digest),
            text,
            digest,
            taken: false,
            fault: None,
        }
    }

    /// Verifies a token by a rule, in the order in which Envoy does: form, issuer, time, audience, signature.
    /// A key that is not known is added to `unknown`, where there may be newer ones.
    fn verify(
        &self,
        index: usize,
        token: &Seen<'_>,
        now: SystemTime,
        unknown: &mut Vec<UnknownKey>,
    ) -> Result<Arc<Verified>, Reason> {
        let rule = &self.rules[index];
        if let Some(known) = &token.cached {
            if known.rule == index {
                return match known.validity.check(now).and_then(|()| rule.keys.check(now)) {
                    Ok(()) => Ok(known.clone()),
                    Err(reason) => {
                        self.cache.remove(&token.digest);
                        Err(reason)
                    }
                };
            }
            if self.rules[known.rule].rule.issuer != rule.rule.issuer {
                return Err(Reason::UnknownIssuer);
            }
        }
        let parsed = Token::parse(&token.text)?;
        if parsed.issuer != rule.rule.issuer {
            return Err(Reason::UnknownIssuer);
        }
        parsed.validity.check(now)?;
        if !rule.is_for(&parsed.payload) {
            return Err(Reason::Audience);
        }
        rule.keys.check(now)?;
        let key_id = parsed.key_id.as_deref();
        let signed = parsed.signed.as_bytes();
        if let Err(reason) = rule.keys.verify(parsed.algorithm, key_id, signed, &parsed.signature) {
            if let (Reason::UnknownKey, Some(origin)) = (reason, rule.keys.origin()) {
                let key = UnknownKey {
                    origin: origin.clone(),
                    id: KeyId::new(parsed.algorithm, key_id),
                };
                if unknown.len() < MAX_UNKNOWN_KEYS && !unknown.contains(&key) {
                    unknown.push(key);
                }
            }
            return Err(reason);
        }
        let verified = Arc::new(Verified {
            rule: index,
            validity: parsed.validity,
            headers: rule.headers(&parsed),
            claims: Arc::new(Claims::new(parsed.payload, &rule.space_delimited)),
            length: token.text.len(),
        });
        if token.cached.is_none() {
            self.cache.insert(token.digest, verified.clone());
        }
        Ok(verified)
    }

    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        self.cache.len()
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Compiled {
    fn new((rule, keys): (Rule, Keys)) -> Self {
        let defaults = SPACE_DELIMITED.iter().map(|name| (*name).to_owned());
        Self {
            locations: Locations::of(&rule),
            audiences: rule
                .audiences
                .iter()
                .map(|audience| bare(audience).to_owned())
                .collect(),
            space_delimited: rule.space_delimited_claims.iter().cloned().chain(defaults).collect(),
            rule,
            keys,
        }
    }

    fn output_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let claims = self.rule.output_claim_to_headers.iter().map(|output| &output.header);
        self.rule.output_payload_to_header.iter().chain(claims)
    }

    fn is_for(&self, payload: &Map<String, Value>) -> bool {
        let wanted = |audience: &str| self.audiences.iter().any(|own| own == bare(audience));
        self.audiences.is_empty()
            || match payload.get("aud") {
                Some(Value::String(audience)) => wanted(audience),
                Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(wanted),
                _ => false,
            }
    }

    /// The headers that tell the application of a token what the rule says it is to be told.
    fn headers(&self, token: &Token<'_>) -> Vec<(HeaderName, HeaderValue)> {
        let payload = self.rule.output_payload_to_header.iter();
        let payload = payload.map(|name| (name, token.encoded_payload.to_owned()));
        let claims = self.rule.output_claim_to_headers.iter();
        let claims = claims.filter_map(|output| {
            let text = named(&token.payload, &output.claim).and_then(as_text)?;
            Some((&output.header, text))
        });
        // What no header can hold (a line break, for example) is left out.
        let valid = |(name, text): (&HeaderName, String)| {
            let value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
            Some((name.clone(), value))
        };
        payload.chain(claims).filter_map(valid).collect()
    }
}

/// A claim by name, or by names with dots between them for a claim inside of claims.
fn named<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    payload.get(name).or_else(|| {
        let mut names = name.split('.');
        let first = payload.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    })
}

/// A claim as a header's value: numbers without fraction as such, lists and objects as base64 of their JSON. An empty text
/// has none.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(value.to_string())),
    }
}

/// An audience without its scheme and its last slash, neither of which counts in Envoy's comparison.
fn bare(audience: &str) -> &str {
    let bare = audience
        .strip_prefix("http://")
        .or_else(|| audience.strip_prefix("https://"));
    let bare = bare.unwrap_or(audience);
    bare.strip_suffix('/').unwrap_or(bare)
}

/// Takes the tokens out of the request.
fn strip(places: &[Place<'_>], headers: &HeaderMap, path_and_query: &str, edits: &mut Edits) {
    let (mut params, mut cookies) = (Vec::new(), Vec::new());
    for place in places {
        match place {
            Place::Header(name) => edits.removed.push((*name).clone()),
            Place::Param(name) => params.push(*name),
            Place::Cookie(name) => cookies.push(*name),
        }
    }
    if !params.is_empty() {
        edits.path_and_query = Some(locations::without_params(path_and_query, &params));
    }
    if !cookies.is_empty() {
        edits.cookies = Some(locations::without_cookies(headers, &cookies));
    }
}

/// Of two faults of a token the one that says more: that a rule is not for its issuer says least.
fn worse(before: Option<Reason>, now: Reason) -> Reason {
    match before {
        Some(before) if now == Reason::UnknownIssuer => before,
        _ => now,
    }
}

/// What Envoy answers, given what each rule had against the request's tokens: the first fault if it says more than that
/// the issuer is unknown, else the last that does.
fn overall(statuses: &[Option<Reason>]) -> Reason {
    let mut faults = statuses.iter().flatten().copied();
    let telling = |reason: &Reason| *reason != Reason::UnknownIssuer;
    let last_telling = faults.clone().rfind(telling);
    let first = faults.next().filter(telling);
    first.or(last_telling).unwrap_or(Reason::UnknownIssuer)
}
