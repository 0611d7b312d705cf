use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// An Ed25519 key (RFC 8037, appendix A.2).
fn jwks() -> String {
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}).to_string()
}

fn resource(spec: Value) -> RequestAuthentication {
    read(json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "RequestAuthentication",
        "metadata": {"name": "p", "namespace": "ns"}, "spec": spec
    }))
    .unwrap()
}

fn parsed(spec: Value) -> Result<(Target, RequestAuthenticationPolicy), String> {
    parse(&resource(spec)).map_err(|errors| crate::join(&errors))
}

fn rule_of(rule: Value) -> Result<Rule, String> {
    let (_, mut policy) = parsed(json!({ "jwtRules": [rule] }))?;
    Ok(policy.rules.remove(0))
}

#[test]
fn what_istio_accepts_parses() {
    for spec in [json!({}), json!(null), json!({"jwtRules": []}), json!({"selector": {}})] {
        let (target, policy) = parsed(spec).unwrap();
        assert_eq!(target, Target::default());
        assert_eq!((policy.namespace.as_str(), policy.name.as_str()), ("ns", "p"));
        assert!(policy.rules.is_empty());
    }
    let whole = rule_of(json!({
        "issuer": "https://issuer", "audiences": ["a", "b"], "jwksUri": "https://issuer/keys",
        "fromHeaders": [{"name": "X-Token", "prefix": "Bearer "}, {"name": "other"}],
        "fromParams": ["token"], "fromCookies": ["session"], "outputPayloadToHeader": "X-Payload",
        "forwardOriginalToken": true, "outputClaimToHeaders": [{"header": "x-group", "claim": "realm.group"}],
        "timeout": "250ms", "spaceDelimitedClaims": ["scp"], "presence": "OPTIONAL"
    }))
    .unwrap();
    let token = |header: &str, prefix: &str| TokenHeader {
        name: header.parse().unwrap(),
        prefix: prefix.to_owned(),
    };
    assert_eq!(
        whole,
        Rule {
            audiences: vec!["a".to_owned(), "b".to_owned()],
            from_headers: vec![token("x-token", "Bearer "), token("other", "")],
            from_params: vec!["token".to_owned()],
            from_cookies: vec!["session".to_owned()],
            output_payload_to_header: Some("x-payload".parse().unwrap()),
            forward_original_token: true,
            output_claim_to_headers: vec![ClaimHeader {
                header: "x-group".parse().unwrap(),
                claim: "realm.group".to_owned()
            }],
            timeout: Some(Duration::from_millis(250)),
            space_delimited_claims: vec!["scp".to_owned()],
            ..Rule::new("https://issuer", KeySource::Uri("https://issuer/keys".to_owned()))
        }
    );
}

#[test]
fn where_keys_are_from() {
    let uri = |text: &str| KeySource::Uri(text.to_owned());
    for (rule, keys) in [
        (json!({}), KeySource::Discovery),
        (json!({"jwks": ""}), KeySource::Discovery),
        (json!({"jwks": jwks()}), KeySource::Inline(jwks())),
        (json!({"jwksUri": "http://keys"}), uri("http://keys")),
        (
            json!({"jwks_uri": "hTTps://keys:8443/a?b=c"}),
            uri("hTTps://keys:8443/a?b=c"),
        ),
    ] {
        let mut rule = rule;
        rule["issuer"] = json!("i");
        assert_eq!(rule_of(rule).unwrap().keys, keys);
    }
}

#[test]
fn every_error_names_the_field_the_value_and_what_is_accepted() {
    for (fields, expected) in [
        (
            json!({"issuer": "https://i", "presence": "REQUIRED"}),
            "spec.jwtRules[0].presence: \"REQUIRED\" is not accepted, expected OPTIONAL; what every request must have is asked \
             for by an AuthorizationPolicy: an ALLOW rule from requestPrincipals [\"https://i/*\"]",
        ),
        (
            json!({"issuer": null}),
            "spec.jwtRules[0].issuer: \"\" is not accepted, expected what tokens name",
        ),
        (
            json!({"audiences": [""]}),
            "spec.jwtRules[0].audiences[0]: \"\" is not accepted, expected text",
        ),
        (
            json!({"jwksUri": "ftp://a"}),
            "spec.jwtRules[0].jwksUri: \"ftp://a\" is not accepted, expected a URL",
        ),
        (
            json!({"jwksUri": ""}),
            "spec.jwtRules[0].jwksUri: \"\" is not accepted, expected a URL",
        ),
        (
            json!({"jwksUri": "https:///a"}),
            "spec.jwtRules[0].jwksUri: \"https:///a\" is not accepted",
        ),
        (
            json!({"jwks_uri": "hTTp\\\\blah"}),
            "spec.jwtRules[0].jwks_uri: \"hTTp\\\\\\\\blah\" is not accepted",
        ),
        (
            json!({"jwksUri": format!("https://a/{}", "b".repeat(2048))}),
            "spec.jwtRules[0].jwksUri: \"https://a/bbb",
        ),
        (
            json!({"jwksUri": "https://a", "jwks_uri": "https://a"}),
            "spec.jwtRules[0]: \"jwksUri beside jwks_uri\" is not accepted, expected only one of jwksUri and jwks",
        ),
        (
            json!({"jwksUri": "https://a", "jwks": jwks()}),
            "spec.jwtRules[0]: \"jwksUri beside jwks\" is not accepted",
        ),
        (
            json!({"jwks": "{}"}),
            "spec.jwtRules[0].jwks: \"{}\" is not accepted, expected a JSON Web Key Set (",
        ),
        (
            json!({"fromHeaders": [{"name": ""}]}),
            "spec.jwtRules[0].fromHeaders[0].name: \"\" is not accepted",
        ),
        (
            json!({"fromHeaders": [{"prefix": "b"}]}),
            "spec.jwtRules[0].fromHeaders[0].name: \"\" is not accepted",
        ),
        (
            json!({"fromParams": ["a", ""]}),
            "spec.jwtRules[0].fromParams[1]: \"\" is not accepted",
        ),
        (
            json!({"fromCookies": [""]}),
            "spec.jwtRules[0].fromCookies[0]: \"\" is not accepted",
        ),
        (
            json!({"outputPayloadToHeader": ":path"}),
            "spec.jwtRules[0].outputPayloadToHeader: \":path\" is not accepted, expected the name of a header",
        ),
        (
            json!({"outputClaimToHeaders": [{"claim": "x", "header": ":authority"}]}),
            "spec.jwtRules[0].outputClaimToHeaders[0].header: \":authority\" is not accepted",
        ),
        (
            json!({"outputClaimToHeaders": [{"claim": "x"}]}),
            "spec.jwtRules[0].outputClaimToHeaders[0].header: \"\" is not accepted",
        ),
        (
            json!({"outputClaimToHeaders": [{"claim": "", "header": "h"}]}),
            "spec.jwtRules[0].outputClaimToHeaders[0].claim: \"\" is not accepted",
        ),
        (
            json!({"timeout": "apple"}),
            "spec.jwtRules[0].timeout: \"apple\" is not accepted, expected a duration",
        ),
        (
            json!({"timeout": "100us"}),
            "spec.jwtRules[0].timeout: \"100us\" is not accepted",
        ),
        (
            json!({"spaceDelimitedClaims": [""]}),
            "spec.jwtRules[0].spaceDelimitedClaims[0]: \"\" is not accepted",
        ),
        (
            json!({"spaceDelimitedClaims": vec!["a"; 65]}),
            "spec.jwtRules[0].spaceDelimitedClaims: \"65 claims\" is not accepted, expected at most 64",
        ),
    ] {
        let mut rule = json!({"issuer": "https://i"});
        rule.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let message = rule_of(rule).unwrap_err();
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("; spec."), "one mistake, one error: {message}");
    }
    let many = parsed(json!({"jwtRules": vec![json!({"issuer": "i"}); 4097]})).unwrap_err();
    assert!(
        many.starts_with("spec.jwtRules: \"4097 rules\" is not accepted"),
        "{many}"
    );
    let mut dry = resource(json!({}));
    dry.annotations_mut().insert(DRY_RUN.to_owned(), "true".to_owned());
    assert_eq!(
        parse(&dry).unwrap_err()[0].field,
        "metadata.annotations[istio.io/dry-run]"
    );
}

#[test]
fn a_rule_that_does_not_parse_knows_no_key() {
    let resource = resource(json!({"jwtRules": [
        {"issuer": "a", "jwks": jwks(), "timeout": "soon"}, {"issuer": "b", "jwks": jwks()}
    ]}));
    assert!(parse(&resource).is_err());
    let (_, policy) = strictest(&resource);
    assert_eq!(policy.rules[0], Rule::new("a", KeySource::Inline(String::new())));
    assert_eq!(policy.rules[1], Rule::new("b", KeySource::Inline(jwks())));
}

#[test]
fn a_shape_that_is_not_the_resources_is_an_error() {
    for object in [json!(1), json!({"spec": []}), json!({"spec": {"jwtRules": [null]}})] {
        assert!(read(object.clone()).is_err(), "{object}");
    }
}
