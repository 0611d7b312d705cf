//! The claims of a verified token, as policies read them.

use serde_json::{Map, Value};
use std::fmt;

/// The payload of a token whose signature and claims were verified.
#[derive(Clone, PartialEq)]
pub struct Claims {
    payload: Map<String, Value>,
    principal: Option<String>,
}

/// Claims are about people: of all of them only the principal is written anywhere.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

impl Claims {
    /// Takes a verified token's payload. A claim of `space_delimited`, where it is a text, counts as the list of its words
    /// (`jwtRules[].spaceDelimitedClaims`; Istio adds `scope` and `permission`).
    #[must_use]
    pub fn new(mut payload: Map<String, Value>, space_delimited: &[String]) -> Self {
        for name in space_delimited {
            if let Some(claim) = payload.get_mut(name)
                && let Value::String(words) = claim
            {
                *claim = words
                    .split_whitespace()
                    .map(|word| Value::String(word.to_owned()))
                    .collect();
            }
        }
        let text = |name: &str| {
            payload
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let principal = text("iss")
            .zip(text("sub"))
            .map(|(issuer, subject)| format!("{issuer}/{subject}"));
        Self { payload, principal }
    }

    /// The request principal, `ISSUER/SUBJECT`; none where the token lacks either.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.payload.get("iss").and_then(Value::as_str)
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.payload.get("sub").and_then(Value::as_str)
    }

    /// `aud`: one text or a list.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        texts(self.payload.get("aud"))
    }

    /// `azp`, the party that the token was issued to.
    #[must_use]
    pub fn presenter(&self) -> Option<&str> {
        self.payload.get("azp").and_then(Value::as_str)
    }

    /// The texts of the claim at a path of names: a text is one, a list has those of its elements that are texts; whatever
    /// else a claim may be has none, as in Istio.
    pub fn claim<'a>(&'a self, path: &[String]) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut names = path.iter();
        let mut found = names.next().and_then(|name| self.payload.get(name));
        for name in names {
            found = found.and_then(Value::as_object).and_then(|inner| inner.get(name));
        }
        texts(found)
    }

    /// The whole payload.
    #[must_use]
    pub fn payload(&self) -> &Map<String, Value> {
        &self.payload
    }
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, list) = match value {
        Some(Value::Array(list)) => (None, list.as_slice()),
        other => (other.and_then(Value::as_str), [].as_slice()),
    };
    one.into_iter().chain(list.iter().filter_map(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(payload: Value, space_delimited: &[&str]) -> Claims {
        let Value::Object(payload) = payload else {
            panic!("an object");
        };
        let names: Vec<String> = space_delimited.iter().map(|name| (*name).to_owned()).collect();
        Claims::new(payload, &names)
    }

    #[test]
    fn a_principal_needs_issuer_and_subject() {
        for (payload, expected) in [
            (serde_json::json!({"iss": "https://i", "sub": "s"}), Some("https://i/s")),
            (serde_json::json!({"iss": "https://i"}), None),
            (serde_json::json!({"iss": "https://i", "sub": ""}), None),
            (serde_json::json!({"iss": "https://i", "sub": 1}), None),
            (serde_json::json!({}), None),
        ] {
            assert_eq!(claims(payload.clone(), &[]).principal(), expected, "{payload}");
        }
    }

    #[test]
    fn claims_are_texts_and_lists_of_texts() {
        let claims = claims(
            serde_json::json!({
                "aud": "one", "groups": ["a", 1, "b"], "level": 3, "admin": true, "scope": "read  write",
                "realm": {"roles": ["r"], "name": "n"}, "words": "x y",
            }),
            &["scope", "groups", "absent"],
        );
        for (path, expected) in [
            (&["aud"][..], &["one"][..]),
            (&["groups"], &["a", "b"]),
            (&["level"], &[]),
            (&["admin"], &[]),
            (&["scope"], &["read", "write"]),
            (&["words"], &["x y"]),
            (&["realm", "roles"], &["r"]),
            (&["realm", "name"], &["n"]),
            (&["realm"], &[]),
            (&["realm", "none"], &[]),
            (&["aud", "x"], &[]),
            (&[], &[]),
        ] {
            let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(claims.claim(&path).collect::<Vec<_>>(), expected, "{path:?}");
        }
        assert_eq!(claims.audiences().collect::<Vec<_>>(), ["one"]);
    }
}
