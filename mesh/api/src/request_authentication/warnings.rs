//! What is accepted and worth a word to whoever applies it.

use serde_json::Value;

use super::parse::{is_http_url, strictest};
use super::resource::{JwtRule, RequestAuthentication};
use crate::target;

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(resource: &RequestAuthentication) -> Vec<String> {
    let (target, _) = strictest(resource);
    let mut warnings = target::warnings(resource.spec.selector.as_ref(), &target);
    for (at, rule) in resource.spec.jwt_rules.iter().flatten().enumerate() {
        let path = format!("spec.jwtRules[{at}]");
        of_rule(&path, rule, &mut warnings);
    }
    warnings
}

fn of_rule(path: &str, rule: &JwtRule, warnings: &mut Vec<String>) {
    let issuer = rule.issuer.as_deref().unwrap_or_default();
    if rule.audiences.as_ref().is_none_or(Vec::is_empty) {
        warnings.push(format!(
            "{path} has no audiences: tokens that {issuer:?} made for other services are accepted too"
        ));
    }
    let jwks = rule.jwks.as_deref().unwrap_or_default();
    if jwks.is_empty() && rule.jwks_uri.is_none() && rule.jwks_uri_alias.is_none() && !is_http_url(issuer) {
        warnings.push(format!(
            "{path} has neither jwksUri nor jwks, and {issuer:?} is no URL at which its keys could be discovered: its tokens \
             are refused"
        ));
    }
    for at in private(jwks) {
        warnings.push(format!(
            "{path}.jwks: key {at} holds a private or shared key: whoever may read this resource can make tokens"
        ));
    }
}

/// Which keys of a set are private (RFC 7518, section 6): `d`, or `k` of a shared secret.
fn private(jwks: &str) -> Vec<usize> {
    let set: Value = serde_json::from_str(jwks).unwrap_or_default();
    let keys = set["keys"].as_array().map_or(&[][..], |keys| keys);
    let is_private = |key: &Value| key.get("d").is_some() || key.get("k").is_some();
    let found = keys.iter().enumerate().filter(|(_, key)| is_private(key));
    found.map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read;
    use super::*;

    fn warned(spec: Value) -> String {
        let object = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec});
        warnings(&read(object).unwrap()).join("\n")
    }

    #[test]
    fn a_word_where_a_policy_does_not_do_what_it_seems_to() {
        let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}).to_string();
        for (spec, expected) in [
            (json!({"selector": {}}), "spec.selector has no labels"),
            (
                json!({"jwtRules": [{"issuer": "https://a"}]}),
                "spec.jwtRules[0] has no audiences: tokens that \"https://a\" made for other services",
            ),
            (
                json!({"jwtRules": [{"issuer": "me@example.org", "audiences": ["b"]}]}),
                "spec.jwtRules[0] has neither jwksUri nor jwks",
            ),
            (
                json!({"jwtRules": [{"issuer": "a", "audiences": ["b"], "jwks": secret}]}),
                "spec.jwtRules[0].jwks: key 0 holds a private",
            ),
        ] {
            let said = warned(spec);
            assert!(said.starts_with(expected), "{said:?}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        assert_eq!(
            warned(json!({"jwtRules": [{"issuer": "https://a", "audiences": ["b"]}]})),
            ""
        );
        assert_eq!(
            warned(json!({"jwtRules": [{"issuer": "a", "audiences": ["b"], "jwks_uri": "http://k"}]})),
            ""
        );
    }
}
