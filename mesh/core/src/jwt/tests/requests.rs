//! Requests: where tokens are found, what several rules make of them, and what the application is told.

use super::signer::{encoded, signer, stranger};
use super::*;
use crate::jwt::authenticator::is_cors_preflight;
use crate::jwt::{ClaimHeader, Reason, TokenHeader};
use http::Method;

const OTHER: &str = "https://other.example";

fn good() -> String {
    signer().token("ES256", &payload())
}

fn of(issuer: &str) -> String {
    signer().token("ES256", &json!({"iss": issuer, "sub": "alice"}))
}

fn header(name: &str, prefix: &str) -> TokenHeader {
    TokenHeader {
        name: HeaderName::from_bytes(name.as_bytes()).unwrap(),
        prefix: prefix.to_owned(),
    }
}

fn from_headers(issuer: &str, name: &str) -> Rule {
    Rule {
        from_headers: vec![header(name, "")],
        ..rule(issuer)
    }
}

/// What passed on of a request: its headers and its path.
fn forwarded(rule: Rule, headers: &HeaderMap, path: &str) -> (HeaderMap, String) {
    let authenticator = Authenticator::new(vec![(rule, keys())]);
    let passes = authenticator.authenticate(&Method::GET, headers, path, now()).unwrap();
    let mut after = headers.clone();
    passes.edits.apply(&mut after);
    (after, passes.edits.path_and_query().unwrap_or(path).to_owned())
}

#[test]
fn tokens_are_found_where_the_rule_says() {
    let token = good();
    let everywhere = Rule {
        from_headers: vec![header("x-token", ""), header("x-jwt", "jwt ")],
        from_params: vec!["t".to_owned()],
        from_cookies: vec!["session".to_owned()],
        ..rule(ISSUER)
    };
    let alice = Ok(Some(format!("{ISSUER}/alice")));
    let bad = Err("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
    for (rule, list, path, expected) in [
        (
            rule(ISSUER),
            vec![("authorization", format!("Bearer {token}"))],
            "/",
            alice.clone(),
        ),
        (
            rule(ISSUER),
            vec![("authorization", format!("Bearer   {token}"))],
            "/",
            alice.clone(),
        ),
        (
            rule(ISSUER),
            vec![("authorization", format!("bearer {token}"))],
            "/",
            Ok(None),
        ),
        (
            rule(ISSUER),
            vec![("authorization", "Basic dTpw".to_owned())],
            "/",
            Ok(None),
        ),
        (
            rule(ISSUER),
            vec![("authorization", "Bearer x".to_owned())],
            "/",
            bad.clone(),
        ),
        (
            rule(ISSUER),
            vec![("authorization", "Bearer !".to_owned())],
            "/",
            bad.clone(),
        ),
        (rule(ISSUER), vec![("x-token", token.clone())], "/", Ok(None)),
        (
            rule(ISSUER),
            vec![],
            &format!("/?a=b&access_token={token}"),
            alice.clone(),
        ),
        (
            rule(ISSUER),
            vec![],
            &format!("/?access%5Ftoken={}", token.replace('.', "%2e")),
            alice.clone(),
        ),
        (rule(ISSUER), vec![], "/?access_token=", bad.clone()),
        (rule(ISSUER), vec![], "/?access_tokens=x", Ok(None)),
        (
            everywhere.clone(),
            vec![("authorization", format!("Bearer {token}"))],
            "/?access_token=x",
            Ok(None),
        ),
        (everywhere.clone(), vec![("x-token", token.clone())], "/", alice.clone()),
        (
            everywhere.clone(),
            vec![("x-token", format!("Bearer {token}"))],
            "/",
            Err("Jwt header is an invalid Base64url encoded"),
        ),
        (
            everywhere.clone(),
            vec![("x-jwt", format!("jwt {token}"))],
            "/",
            alice.clone(),
        ),
        (everywhere.clone(), vec![("x-jwt", token.clone())], "/", Ok(None)),
        (everywhere.clone(), vec![], &format!("/x?t={token}"), alice.clone()),
        (
            everywhere.clone(),
            vec![("cookie", format!("a=b; session={token}; c=d"))],
            "/",
            alice.clone(),
        ),
        (
            everywhere.clone(),
            vec![("cookie", format!("session=\"{token}\""))],
            "/",
            alice.clone(),
        ),
        (
            everywhere.clone(),
            vec![("cookie", "a=b".to_owned()), ("cookie", format!("session={token}"))],
            "/",
            alice.clone(),
        ),
        // Every one of several must be good, whichever the application would take.
        (
            everywhere.clone(),
            vec![("x-token", token.clone()), ("x-jwt", "jwt x".to_owned())],
            "/",
            bad.clone(),
        ),
        (
            everywhere.clone(),
            vec![("x-token", token.clone()), ("x-token", "x".to_owned())],
            "/",
            bad.clone(),
        ),
        (everywhere.clone(), vec![], &format!("/?t={token}&t=x"), bad.clone()),
        (
            everywhere,
            vec![("cookie", format!("session={token}; session=x"))],
            "/",
            bad,
        ),
    ] {
        let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let authenticator = Authenticator::new(vec![(rule, keys())]);
        let result = authenticator.authenticate(&Method::GET, &headers(&list), path, now());
        assert_eq!(principal(result), expected, "{list:?} {path}");
    }
}

#[test]
fn too_many_tokens_are_not_looked_at() {
    let many: Vec<String> = (0..17).map(|number| format!("Bearer x{number}")).collect();
    let list: Vec<(&str, &str)> = many.iter().map(|value| ("authorization", value.as_str())).collect();
    let refusal = authenticate(&one_rule(), &headers(&list)).unwrap_err();
    assert_eq!(refusal.reason(), Reason::TooManyTokens);
}

#[test]
fn several_rules_are_as_in_istio() {
    let both = || Authenticator::new(vec![(rule(OTHER), keys()), (rule(ISSUER), keys())]);
    let apart = || {
        Authenticator::new(vec![
            (from_headers(ISSUER, "x-a"), keys()),
            (from_headers(OTHER, "x-b"), keys()),
        ])
    };
    let named = |issuer: &str| Ok(Some(format!("{issuer}/alice")));
    let unknown = Err("Jwt issuer is not configured");
    let fails = Err("Jwt verification fails");
    let forged = |issuer: &str| stranger().token("ES256", &json!({"iss": issuer, "sub": "alice"}));
    let expired = |issuer: &str| signer().token("ES256", &json!({"iss": issuer, "exp": 1}));
    for (authenticator, list, expected) in [
        (both(), vec![], Ok(None)),
        (
            both(),
            vec![("authorization", format!("Bearer {}", of(ISSUER)))],
            named(ISSUER),
        ),
        (
            both(),
            vec![("authorization", format!("Bearer {}", of(OTHER)))],
            named(OTHER),
        ),
        (
            both(),
            vec![("authorization", format!("Bearer {}", of("https://third.example")))],
            unknown.clone(),
        ),
        (
            both(),
            vec![("authorization", format!("Bearer {}", forged(ISSUER)))],
            fails.clone(),
        ),
        (
            both(),
            vec![("authorization", format!("Bearer {}", forged(OTHER)))],
            fails.clone(),
        ),
        (
            both(),
            vec![("authorization", format!("Bearer {}", expired(OTHER)))],
            Err("Jwt is expired"),
        ),
        (apart(), vec![], Ok(None)),
        (apart(), vec![("x-a", of(ISSUER))], named(ISSUER)),
        (apart(), vec![("x-b", of(OTHER))], named(OTHER)),
        (apart(), vec![("x-a", of(OTHER))], unknown.clone()),
        (apart(), vec![("x-a", of(ISSUER)), ("x-b", of(OTHER))], named(ISSUER)),
        (
            apart(),
            vec![("x-a", forged(ISSUER)), ("x-b", of(OTHER))],
            fails.clone(),
        ),
        (apart(), vec![("x-a", of(ISSUER)), ("x-b", forged(OTHER))], fails),
        (apart(), vec![("x-a", of(ISSUER)), ("x-b", of(ISSUER))], unknown),
    ] {
        let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // A second time from the cache.
        for _ in 0..2 {
            assert_eq!(
                principal(authenticate(&authenticator, &headers(&list))),
                expected,
                "{list:?}"
            );
        }
    }
}

#[test]
fn rules_of_one_issuer_are_alternatives() {
    let for_ = |audience: &str| Rule {
        audiences: vec![audience.to_owned()],
        ..rule(ISSUER)
    };
    let authenticator = Authenticator::new(vec![(for_("a"), keys()), (for_("b"), keys())]);
    for (audience, expected) in [
        ("a", Ok(Some(format!("{ISSUER}/alice")))),
        ("b", Ok(Some(format!("{ISSUER}/alice")))),
        ("c", Err("Audiences in Jwt are not allowed")),
    ] {
        let token = signer().token("ES256", &json!({"iss": ISSUER, "sub": "alice", "aud": audience}));
        for _ in 0..2 {
            assert_eq!(
                principal(authenticate(&authenticator, &bearer(&token))),
                expected,
                "{audience}"
            );
        }
    }
}

#[test]
fn audiences_are_compared_as_envoy_does() {
    for (wanted, audience, passes) in [
        (vec![], json!(null), true),
        (vec!["a"], json!("a"), true),
        (vec!["a"], json!(["x", "a"]), true),
        (vec!["a", "b"], json!("b"), true),
        (vec!["a"], json!("A"), false),
        (vec!["a"], json!([]), false),
        (vec!["a"], json!(null), false),
        (vec!["https://a/"], json!("a"), true),
        (vec!["a"], json!("http://a/"), true),
    ] {
        let rule = Rule {
            audiences: wanted.iter().map(|audience| (*audience).to_owned()).collect(),
            ..rule(ISSUER)
        };
        let mut payload = payload();
        if !audience.is_null() {
            payload["aud"] = audience.clone();
        }
        let token = signer().token("ES256", &payload);
        let authenticator = Authenticator::new(vec![(rule, keys())]);
        let result = authenticate(&authenticator, &bearer(&token));
        assert_eq!(
            result.as_ref().map(|_| ()).map_err(Refusal::status),
            passes.then_some(()).ok_or(403),
            "{wanted:?} {audience}"
        );
    }
}

#[test]
fn the_application_does_not_see_the_token_unless_it_shall() {
    let token = good();
    let cookies = Rule {
        from_cookies: vec!["session".to_owned()],
        ..rule(ISSUER)
    };
    let keep = Rule {
        forward_original_token: true,
        ..rule(ISSUER)
    };
    for (rule, list, path, left, path_left) in [
        (
            rule(ISSUER),
            vec![("authorization", format!("Bearer {token}")), ("x", "y".to_owned())],
            "/a",
            vec![("x", "y")],
            "/a".to_owned(),
        ),
        (
            rule(ISSUER),
            vec![],
            &format!("/a?x=%20&access_token={token}&y"),
            vec![],
            "/a?x=%20&y".to_owned(),
        ),
        (
            rule(ISSUER),
            vec![],
            &format!("/a?access_token={token}"),
            vec![],
            "/a".to_owned(),
        ),
        (
            cookies.clone(),
            vec![("cookie", format!("a=b; session={token}; c=d"))],
            "/",
            vec![("cookie", "a=b; c=d")],
            "/".to_owned(),
        ),
        (
            cookies,
            vec![("cookie", format!("session={token}"))],
            "/",
            vec![],
            "/".to_owned(),
        ),
        (
            keep,
            vec![("authorization", "Basic x".to_owned())],
            &format!("/?access_token={token}"),
            vec![("authorization", "Basic x")],
            format!("/?access_token={token}"),
        ),
    ] {
        let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(
            forwarded(rule, &headers(&list), path),
            (headers(&left), path_left),
            "{list:?} {path}"
        );
    }
}

#[test]
fn claims_become_headers_that_nobody_else_can_set() {
    let rule = Rule {
        output_payload_to_header: Some(HeaderName::from_static("x-payload")),
        output_claim_to_headers: [
            ("x-sub", "sub"),
            ("x-level", "level"),
            ("x-admin", "admin"),
            ("x-role", "realm.role"),
            ("x-dotted", "a.b"),
            ("x-list", "groups"),
            ("x-scope", "scope"),
            ("x-none", "none"),
            ("x-break", "break"),
        ]
        .map(|(header, claim)| ClaimHeader {
            header: HeaderName::from_static(header),
            claim: claim.to_owned(),
        })
        .into(),
        ..rule(ISSUER)
    };
    let claims = json!({
        "iss": ISSUER, "sub": "alice", "level": 3, "admin": true, "realm": {"role": "r"}, "a.b": "dotted",
        "groups": ["a", "b"], "scope": "read write", "break": "a\r\nx-sub: eve",
    });
    let token = signer().token("ES256", &claims);
    let mut sent = bearer(&token);
    let spoofed = ["x-payload", "x-sub", "x-none", "x-break"];
    for name in spoofed {
        sent.append(HeaderName::from_static(name), HeaderValue::from_static("spoofed"));
    }
    let expected = headers(&[
        ("x-payload", &encoded(claims.to_string())),
        ("x-sub", "alice"),
        ("x-level", "3"),
        ("x-admin", "true"),
        ("x-role", "r"),
        ("x-dotted", "dotted"),
        ("x-list", "WyJhIiwiYiJd"),
        ("x-scope", "read write"),
    ]);
    assert_eq!(forwarded(rule.clone(), &sent, "/").0, expected);
    // Without a token, too, and of a preflight, whose tokens are not looked at.
    let preflight = headers(&[
        ("origin", "https://a"),
        ("access-control-request-method", "PUT"),
        ("authorization", "Bearer none"),
    ]);
    let mut asks = sent.clone();
    asks.extend(preflight.clone());
    let authenticator = Authenticator::new(vec![(rule.clone(), keys())]);
    let passes = authenticator.authenticate(&Method::OPTIONS, &asks, "/", now()).unwrap();
    assert!(passes.claims.is_none());
    passes.edits.apply(&mut asks);
    assert_eq!(asks, preflight);
    assert!(
        authenticator
            .authenticate(&Method::PUT, &preflight, "/", now())
            .is_err()
    );
    sent.remove("authorization");
    assert_eq!(forwarded(rule, &sent, "/").0, HeaderMap::new());
}

#[test]
fn policies_see_the_claims() {
    let rule = Rule {
        space_delimited_claims: vec!["roles".to_owned()],
        ..rule(ISSUER)
    };
    let claims = json!({"iss": ISSUER, "sub": "alice", "azp": "app", "aud": ["a", "b"], "scope": "read write", "roles": "x y", "words": "v w"});
    let token = signer().token("ES256", &claims);
    let authenticator = Authenticator::new(vec![(rule, keys())]);
    let claims = authenticate(&authenticator, &bearer(&token)).unwrap().claims.unwrap();
    assert_eq!(claims.presenter(), Some("app"));
    assert_eq!(claims.audiences().collect::<Vec<_>>(), ["a", "b"]);
    for (name, expected) in [
        ("scope", &["read", "write"][..]),
        ("roles", &["x", "y"]),
        ("words", &["v w"]),
    ] {
        assert_eq!(claims.claim(&[name.to_owned()]).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn a_token_is_verified_once_and_not_beyond_its_end() {
    let authenticator = one_rule();
    let token = bearer(&good());
    let first = authenticate(&authenticator, &token).unwrap().claims.unwrap();
    let second = authenticate(&authenticator, &token).unwrap().claims.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    assert_eq!(authenticator.cached(), 1);
    let later = now() + Duration::from_secs(661);
    let refusal = authenticator
        .authenticate(&Method::GET, &token, "/", later)
        .unwrap_err();
    assert_eq!(refusal.reason(), Reason::Expired);
    assert_eq!(authenticator.cached(), 0);
    // What is refused is not remembered.
    let forged = bearer(&stranger().token("ES256", &payload()));
    assert!(authenticate(&authenticator, &forged).is_err());
    assert_eq!(authenticator.cached(), 0);
}

#[test]
fn the_cache_is_bounded() {
    let authenticator = one_rule();
    for number in 0..3000 {
        let token = signer().token("EdDSA", &json!({"iss": ISSUER, "sub": number.to_string()}));
        assert!(authenticate(&authenticator, &bearer(&token)).is_ok());
    }
    assert!(authenticator.cached() <= 2048, "{}", authenticator.cached());
}

#[test]
fn the_challenge_names_the_resource_and_never_the_query() {
    let refusal = authenticate(&one_rule(), &bearer("x")).unwrap_err();
    for (authority, path, expected) in [
        (
            "shop:80",
            "/a?access_token=secret",
            "Bearer realm=\"http://shop:80/a\", error=\"invalid_token\"",
        ),
        (
            "shop",
            "/\"x\\",
            "Bearer realm=\"http://shop/\\\"x\\\\\", error=\"invalid_token\"",
        ),
        (
            "shop",
            "/\u{e9}\r",
            "Bearer realm=\"http://shop/??\", error=\"invalid_token\"",
        ),
    ] {
        assert_eq!(refusal.www_authenticate("http", authority, path), expected);
    }
    let long = refusal.www_authenticate("http", "shop", &"/".repeat(1000));
    assert_eq!(
        long.len(),
        "Bearer realm=\"http://shop\", error=\"invalid_token\"".len() + 256
    );
}

#[test]
fn preflights_are_told_by_three_signs() {
    let all = [("origin", "https://a"), ("access-control-request-method", "GET")];
    assert!(is_cors_preflight(&Method::OPTIONS, &headers(&all)));
    assert!(!is_cors_preflight(&Method::GET, &headers(&all)));
    assert!(!is_cors_preflight(&Method::OPTIONS, &headers(&all[..1])));
    assert!(!is_cors_preflight(
        &Method::OPTIONS,
        &headers(&[("origin", ""), all[1]])
    ));
}
