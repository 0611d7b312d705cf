//! Project Wycheproof's vectors for JSON web signatures (`testdata/wycheproof`).

use crate::jwt::token::Jws;
use crate::jwt::{Keys, Reason};
use serde_json::{Value, json};

/// Vectors that are valid there and refused here.
fn refused_here(key: &Value, comment: &str, reason: Option<Reason>) -> bool {
    // Shared secrets are no keys here, and RFC 7518 has no ES521.
    let no_key = key["kty"] == "oct" || key["alg"] == "ES521";
    match (comment, reason) {
        (_, None) => no_key,
        // A token without claims is none.
        ("emptyPayload", Some(Reason::BadFormat)) => true,
        // Signed with PS384, by a key that says that it is for PS256.
        ("Figure20", Some(Reason::UnknownKey)) => true,
        _ => false,
    }
}

fn verify(keys: &Keys, jws: &str) -> Result<(), Reason> {
    let jws = Jws::parse(jws)?;
    keys.verify(
        jws.algorithm,
        jws.key_id.as_deref(),
        jws.signed.as_bytes(),
        &jws.signature()?,
    )
}

#[test]
fn the_vectors_of_wycheproof() {
    let vectors = include_str!("../../../testdata/wycheproof/json_web_signature.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = group.get("public").unwrap_or(&group["private"]);
        let keys = Keys::parse(&json!({"keys": [key]}).to_string()).ok();
        for test in group["tests"].as_array().unwrap() {
            let result = match &keys {
                Some(keys) => verify(keys, test["jws"].as_str().unwrap()).map_err(Some),
                None => Err(None),
            };
            let comment = test["comment"].as_str().unwrap();
            match (test["result"].as_str().unwrap(), result) {
                ("valid", Ok(())) => accepted += 1,
                ("invalid", Err(_)) => refused += 1,
                ("valid", Err(reason)) if refused_here(key, comment, reason) => refused += 1,
                (expected, result) => {
                    wrong.push(format!("{} {comment}: {result:?}, expected {expected}", test["tcId"]));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!((accepted, refused), (26, 375));
}
