//! Tokens and keys: what verifies, and the words of every refusal.

use super::signer::{encoded, signer, stranger};
use super::*;
use crate::jwt::MAX_TOKEN_LENGTH;

const ALL: [&str; 10] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];

#[test]
fn every_algorithm_verifies_what_its_own_key_signed() {
    let authenticator = one_rule();
    for algorithm in ALL {
        let token = signer().token(algorithm, &payload());
        assert_eq!(
            principal(authenticate(&authenticator, &bearer(&token))),
            Ok(Some(format!("{ISSUER}/alice"))),
            "{algorithm}"
        );
        let foreign = stranger().token(algorithm, &payload());
        assert_eq!(
            principal(authenticate(&authenticator, &bearer(&foreign))),
            Err("Jwt verification fails"),
            "{algorithm}"
        );
    }
}

#[test]
fn a_key_is_used_for_what_it_says_and_nothing_else() {
    let unknown_key = "Jwks doesn't have key to match kid or alg from Jwt";
    for (algorithm, key, expected) in [
        ("RS256", json!({"alg": "RS256"}), Ok(())),
        ("RS256", json!({"use": "sig", "key_ops": ["verify"]}), Ok(())),
        ("RS256", json!({"alg": "RS384"}), Err(unknown_key)),
        ("RS256", json!({"alg": "PS256"}), Err(unknown_key)),
        ("PS256", json!({"alg": "RS256"}), Err(unknown_key)),
        ("RS256", json!({"alg": "ES256"}), Err("unusable")),
        ("RS256", json!({"alg": "HS256"}), Err("unusable")),
        ("RS256", json!({"alg": "RSA-OAEP"}), Err("unusable")),
        ("RS256", json!({"use": "enc"}), Err("unusable")),
        ("RS256", json!({"key_ops": ["encrypt"]}), Err("unusable")),
        ("RS256", json!({"kty": "oct", "k": "AAAA"}), Err("unusable")),
        ("RS256", json!({"kty": "EC"}), Err("unusable")),
        ("ES256", json!({"crv": "P-384"}), Err("unusable")),
        ("ES256", json!({"crv": "secp256k1"}), Err("unusable")),
        ("ES256", json!({"alg": "ES384"}), Err("unusable")),
        ("EdDSA", json!({"crv": "Ed448"}), Err("unusable")),
        ("EdDSA", json!({"kty": "RSA"}), Err("unusable")),
    ] {
        let jwks = json!({"keys": [signer().key(algorithm, &key)]}).to_string();
        let result = match Keys::parse(&jwks) {
            Err(_) => Err("unusable"),
            Ok(keys) => {
                let authenticator = Authenticator::new(vec![(rule(ISSUER), keys)]);
                let token = signer().token(algorithm, &payload());
                authenticate(&authenticator, &bearer(&token))
                    .map(|_| ())
                    .map_err(|refusal| refusal.message())
            }
        };
        assert_eq!(result, expected, "{algorithm} {key}");
    }
}

#[test]
fn keys_are_found_by_their_id() {
    let (own, other) = (signer(), stranger());
    let unknown_key = Err("Jwks doesn't have key to match kid or alg from Jwt");
    let fails = Err("Jwt verification fails");
    // Which keys there are, by signer and id; the id of the token.
    for (listed, id, expected) in [
        (vec![(own, Some("a"))], Some("a"), Ok(())),
        (vec![(own, Some("a"))], None, Ok(())),
        (vec![(own, None)], Some("a"), Ok(())),
        (vec![(own, Some("a"))], Some("b"), unknown_key),
        (vec![(other, Some("a")), (own, Some("a"))], Some("a"), Ok(())),
        (vec![(other, Some("a")), (own, Some("b"))], Some("a"), fails),
        (vec![(other, Some("a")), (own, Some("b"))], None, Ok(())),
        (vec![(other, Some("a")), (own, None)], Some("a"), Ok(())),
    ] {
        let keys: Vec<Value> = listed
            .iter()
            .map(|(signer, id)| signer.key("ES256", &id.map_or(json!({}), |id| json!({"kid": id}))))
            .collect();
        let keys = Keys::parse(&json!({"keys": keys}).to_string()).unwrap();
        let authenticator = Authenticator::new(vec![(rule(ISSUER), keys)]);
        let header = id.map_or(json!({"alg": "ES256"}), |id| json!({"alg": "ES256", "kid": id}));
        let token = own.sign("ES256", &header, &payload());
        let result = authenticate(&authenticator, &bearer(&token))
            .map(|_| ())
            .map_err(|refusal| refusal.message());
        assert_eq!(
            result,
            expected,
            "{:?} {id:?}",
            listed.iter().map(|(_, id)| id).collect::<Vec<_>>()
        );
    }
}

#[test]
fn key_sets_that_cannot_be_used_say_why() {
    let rsa = |n: Vec<u8>, e: &[u8]| json!({"keys": [{"kty": "RSA", "n": encoded(n), "e": encoded(e)}]}).to_string();
    let odd = |length: usize| vec![0xff; length];
    let (modulus, _) = signer().modulus_and_exponent();
    for (jwks, expected) in [
        ("".to_owned(), "not a JSON object"),
        ("[]".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "no list \"keys\""),
        (json!({"keys": {}}).to_string(), "no list \"keys\""),
        (json!({"keys": []}).to_string(), "no key that verifies"),
        (json!({"keys": [1]}).to_string(), "there is no \"kty\""),
        (
            json!({"keys": [{"kty": "oct", "k": "AAAA"}]}).to_string(),
            "\"kty\" \"oct\" is not accepted",
        ),
        (
            rsa(odd(128), &[1, 0, 1]),
            "an RSA key of 1024 bits; 2048 to 8192 are accepted",
        ),
        (rsa(odd(1025), &[1, 0, 1]), "an RSA key of 8200 bits"),
        (rsa(modulus.clone(), &[1]), "no RSA key"),
        (rsa(modulus.clone(), &[2]), "no RSA key"),
        (rsa(modulus.clone(), &[1, 0, 0, 0, 1]), "no RSA key"),
        (rsa(modulus, &[]), "no RSA key"),
        (
            json!({"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]}).to_string(),
            "\"n\" is not base64url",
        ),
        (
            json!({"keys": [{"kty": "RSA", "e": "AQAB"}]}).to_string(),
            "there is no \"n\"",
        ),
        (
            json!({"keys": [{"kty": "EC", "crv": "P-256", "x": encoded([1; 32]), "y": encoded([1; 32])}]}).to_string(),
            "no point of the curve",
        ),
        (
            json!({"keys": [{"kty": "EC", "crv": "P-256", "x": encoded([1; 33]), "y": encoded([1; 32])}]}).to_string(),
            "too long for the curve",
        ),
        (
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": encoded([1; 31])}]}).to_string(),
            "not 32 bytes",
        ),
        (
            json!({"keys": vec![signer().key("ES256", &json!({})); crate::jwt::MAX_KEYS + 1]}).to_string(),
            "65 usable keys; at most 64",
        ),
        (
            " ".repeat(crate::jwt::MAX_JWKS_LENGTH + 1),
            "at most 262144 are accepted",
        ),
    ] {
        let error = Keys::parse(&jwks).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
    // A bad key takes nothing from the good ones.
    let mixed = json!({"keys": [{"kty": "oct"}, signer().key("ES256", &json!({})), 7]}).to_string();
    assert_eq!(Keys::parse(&mixed).unwrap().len(), 1);
}

#[test]
fn without_keys_every_token_is_refused() {
    let token = signer().token("ES256", &payload());
    for (keys, expected) in [
        (Keys::not_fetched("no answer"), "Jwks remote fetch is failed"),
        (Keys::unusable("no keys"), "Jwks doesn't have any valid public key"),
    ] {
        assert!(keys.missing().is_some());
        let authenticator = Authenticator::new(vec![(rule(ISSUER), keys)]);
        assert_eq!(principal(authenticate(&authenticator, &bearer(&token))), Err(expected));
        assert_eq!(principal(authenticate(&authenticator, &HeaderMap::new())), Ok(None));
    }
}

#[test]
fn every_fault_has_envoys_words() {
    let sign = |header: Value, payload: Value| signer().sign("ES256", &header, &payload);
    let header = json!({"alg": "ES256"});
    let claims = |more: Value| {
        let mut all = payload();
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        sign(header.clone(), all)
    };
    let good = sign(header.clone(), payload());
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = |header: Value| format!("{}.{}.", encoded(header.to_string()), parts[1]);
    let form = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    let algorithm = "Jwt header [alg] is not supported";
    for (token, expected) in [
        ("x".to_owned(), form),
        ("a.b".to_owned(), form),
        ("a.b.c.d".to_owned(), form),
        ("..".to_owned(), form),
        (format!("{}.{}.", parts[0], parts[1]), form),
        (format!("{}..{}", parts[0], parts[2]), form),
        (unsigned(json!({"alg": "none"})), form),
        (format!("{good}.{}", "A".repeat(MAX_TOKEN_LENGTH)), form),
        (
            format!("A!.{}.{}", parts[1], parts[2]),
            "Jwt header is an invalid Base64url encoded",
        ),
        (
            format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
            "Jwt header is an invalid Base64url encoded",
        ),
        (
            format!("{}.{}.{}", encoded("[]"), parts[1], parts[2]),
            "Jwt header is an invalid JSON",
        ),
        (
            sign(json!({}), payload()),
            "Jwt header [alg] field is required and must be a string",
        ),
        (
            sign(json!({"alg": 1}), payload()),
            "Jwt header [alg] field is required and must be a string",
        ),
        (sign(json!({"alg": "none"}), payload()), algorithm),
        (sign(json!({"alg": "None"}), payload()), algorithm),
        (sign(json!({"alg": "HS256"}), payload()), algorithm),
        (sign(json!({"alg": "HS512"}), payload()), algorithm),
        (sign(json!({"alg": "ES256K"}), payload()), algorithm),
        (sign(json!({"alg": "es256"}), payload()), algorithm),
        (sign(json!({"alg": ""}), payload()), algorithm),
        (
            sign(json!({"alg": "ES256", "kid": 7}), payload()),
            "Jwt header [kid] field is not a string",
        ),
        (
            sign(json!({"alg": "ES256", "crit": ["b64"], "b64": false}), payload()),
            "Jwt header [crit] is not supported",
        ),
        (
            format!("{}.!!.{}", parts[0], parts[2]),
            "Jwt payload is an invalid Base64url encoded",
        ),
        (
            format!("{}.{}.{}", parts[0], encoded("7"), parts[2]),
            "Jwt payload is an invalid JSON",
        ),
        (
            format!("{}.{}.{}", parts[0], encoded([0xff]), parts[2]),
            "Jwt payload is an invalid JSON",
        ),
        (claims(json!({"iss": 1})), "Jwt payload [iss] field is not a string"),
        (claims(json!({"sub": 1})), "Jwt payload [sub] field is not a string"),
        (claims(json!({"jti": 1})), "Jwt payload [jti] field is not a string"),
        (claims(json!({"iat": "1"})), "Jwt payload [iat] field is not an integer"),
        (
            claims(json!({"iat": -1})),
            "Jwt payload [iat] field is not a positive 64 bit integer",
        ),
        (claims(json!({"nbf": "1"})), "Jwt payload [nbf] field is not an integer"),
        (
            claims(json!({"nbf": -1})),
            "Jwt payload [nbf] field is not a positive 64 bit integer",
        ),
        (
            claims(json!({"exp": null})),
            "Jwt payload [exp] field is not an integer",
        ),
        (
            claims(json!({"exp": -1})),
            "Jwt payload [exp] field is not a positive 64 bit integer",
        ),
        (
            claims(json!({"exp": 1e300})),
            "Jwt payload [exp] field is not a positive 64 bit integer",
        ),
        (
            claims(json!({"aud": 1})),
            "Jwt payload [aud] field is not a string or string list",
        ),
        (
            claims(json!({"aud": ["a", 1]})),
            "Jwt payload [aud] field is not a string or string list",
        ),
        (
            format!("{}.{}.!!", parts[0], parts[1]),
            "Jwt signature is an invalid Base64url encoded",
        ),
        (
            claims(json!({"iss": "https://issuer.example/"})),
            "Jwt issuer is not configured",
        ),
        (claims(json!({"iss": ""})), "Jwt issuer is not configured"),
        (claims(json!({"nbf": NOW + 61})), "Jwt not yet valid"),
        (claims(json!({"iat": NOW + 61})), "Jwt not yet valid"),
        (claims(json!({"exp": NOW - 61})), "Jwt is expired"),
        (claims(json!({"exp": 0})), "Jwt is expired"),
        (
            format!(
                "{}.{}.{}",
                parts[0],
                encoded(json!({"iss": ISSUER}).to_string()),
                parts[2]
            ),
            "Jwt verification fails",
        ),
        (
            format!("{}.{}.{}", parts[0], parts[1], encoded([0; 64])),
            "Jwt verification fails",
        ),
        (
            format!("{}.{}.{}", parts[0], parts[1], encoded([0; 63])),
            "Jwt verification fails",
        ),
        (
            format!("{}.{}.{}", parts[0], parts[1], encoded([0; 1])),
            "Jwt verification fails",
        ),
    ] {
        let refusal = authenticate(&one_rule(), &bearer(&token)).unwrap_err();
        assert_eq!(refusal.message(), expected, "{token}");
        assert_eq!(refusal.status(), 401);
        assert_eq!(
            refusal.detail(),
            format!("jwt_authn_access_denied{{{}}}", expected.replace(' ', "_"))
        );
    }
    for good in [
        claims(json!({"nbf": NOW + 60})),
        claims(json!({"iat": NOW + 60})),
        claims(json!({"exp": NOW - 60})),
        claims(json!({"exp": 1_700_000_600.5})),
        sign(header.clone(), json!({"iss": ISSUER, "sub": "alice"})),
    ] {
        assert!(principal(authenticate(&one_rule(), &bearer(&good))).is_ok(), "{good}");
    }
}

#[test]
fn what_a_shared_secret_made_of_the_public_key_signed_is_refused() {
    // The attack of RFC 8725, 2.1: the token says HS256, and its secret is the public key that everybody knows.
    let header = encoded(json!({"alg": "HS256"}).to_string());
    let signed = format!("{header}.{}", encoded(payload().to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, signer().jwks().as_bytes());
    let token = format!("{signed}.{}", encoded(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(
        principal(authenticate(&one_rule(), &bearer(&token))),
        Err("Jwt header [alg] is not supported")
    );
}
