mod requests;
mod signer;
mod tokens;
mod wycheproof;

use super::{Authenticated, Authenticator, KeySource, Keys, Refusal, Rule};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ISSUER: &str = "https://issuer.example";

/// The moment of all tests, in seconds since the epoch.
const NOW: u64 = 1_700_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn rule(issuer: &str) -> Rule {
    Rule::new(issuer, KeySource::Discovery)
}

fn keys() -> Keys {
    Keys::parse(&signer::signer().jwks()).unwrap()
}

fn payload() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "exp": NOW + 600})
}

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in list.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn bearer(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}"))])
}

fn one_rule() -> Authenticator {
    Authenticator::new(vec![(rule(ISSUER), keys())])
}

fn authenticate(authenticator: &Authenticator, headers: &HeaderMap) -> Result<Authenticated, Refusal> {
    authenticator.authenticate(&Method::GET, headers, "/", now())
}

fn principal(result: Result<Authenticated, Refusal>) -> Result<Option<String>, &'static str> {
    result
        .map(|passes| passes.claims.and_then(|claims| claims.principal().map(str::to_owned)))
        .map_err(|refusal| refusal.message())
}
