//! Where tokens are looked for in a request, and how they are taken out of it.

use super::rule::{Rule, TokenHeader};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;

/// The places of a rule.
#[derive(Debug)]
pub(super) struct Locations {
    headers: Vec<TokenHeader>,
    params: Vec<String>,
    cookies: Vec<String>,
}

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Header(&'a HeaderName),
    Param(&'a str),
    Cookie(&'a str),
}

impl Locations {
    /// The places that a rule names; `Authorization: Bearer` and the parameter `access_token` where it names none.
    pub(super) fn of(rule: &Rule) -> Self {
        if rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty() {
            return Self {
                headers: vec![TokenHeader {
                    name: AUTHORIZATION,
                    prefix: "Bearer ".to_owned(),
                }],
                params: vec!["access_token".to_owned()],
                cookies: Vec::new(),
            };
        }
        Self {
            headers: rule.from_headers.clone(),
            params: rule.from_params.clone(),
            cookies: rule.from_cookies.clone(),
        }
    }

    /// Every token in these places. Envoy takes only the first of parameters and cookies of one name; an application may
    /// take another, so each of them counts here.
    pub(super) fn find<'a>(
        &'a self,
        headers: &'a HeaderMap,
        path_and_query: &'a str,
        mut found: impl FnMut(Cow<'a, str>, Place<'a>),
    ) {
        for place in &self.headers {
            for value in headers.get_all(&place.name) {
                // A token is ASCII: what is not text is a damaged one.
                let value = text(value.as_bytes());
                if let Some(token) = after_prefix(value, &place.prefix) {
                    found(token, Place::Header(&place.name));
                }
            }
        }
        if !self.params.is_empty() {
            for (name, value) in params(path_and_query) {
                if let Some(place) = self.params.iter().find(|place| **place == name) {
                    found(decode(value), Place::Param(place));
                }
            }
        }
        if !self.cookies.is_empty() {
            for value in headers.get_all(COOKIE) {
                let place_of = |name: &str| self.cookies.iter().find(|place| **place == name);
                match text(value.as_bytes()) {
                    Cow::Borrowed(text) => {
                        for (name, value) in text.split(';').filter_map(cookie) {
                            if let Some(place) = place_of(name) {
                                found(Cow::Borrowed(value), Place::Cookie(place));
                            }
                        }
                    }
                    Cow::Owned(text) => {
                        for (name, value) in text.split(';').filter_map(cookie) {
                            if let Some(place) = place_of(name) {
                                found(Cow::Owned(value.to_owned()), Place::Cookie(place));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The token of a header's value. As in Envoy the prefix counts wherever it stands, and what no token can begin with is
/// passed over.
fn after_prefix<'a>(value: Cow<'a, str>, prefix: &str) -> Option<Cow<'a, str>> {
    if prefix.is_empty() {
        return Some(value);
    }
    // Almost all values begin with it.
    let at = if value.starts_with(prefix) {
        0
    } else {
        value.find(prefix)?
    };
    let after = at + prefix.len();
    let begins = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    Some(match (value[after..].find(begins), value) {
        (None, value) => value,
        (Some(more), Cow::Borrowed(text)) => Cow::Borrowed(&text[after + more..]),
        (Some(more), Cow::Owned(text)) => Cow::Owned(text[after + more..].to_owned()),
    })
}

/// The parameters of a query, names decoded and values as written.
fn params(path_and_query: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let query = path_and_query.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter(|param| !param.is_empty()).map(|param| {
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        (decode(name), value)
    })
}

fn cookie(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some((name.trim(), unquoted.unwrap_or(value)))
}

/// Percent-decoding. What is no escape stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escaped = match more {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// A header's value as text. What is text already, as almost all of it, is looked at several bytes at a time.
fn text(value: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// A path with its query, without the parameters of these names; everything else stays as written.
pub(super) fn without_params(path_and_query: &str, names: &[&str]) -> String {
    let Some((path, query)) = path_and_query.split_once('?') else {
        return path_and_query.to_owned();
    };
    let kept = query.split('&').filter(|param| {
        let name = decode(param.split('=').next().unwrap_or_default());
        !names.contains(&&*name)
    });
    let kept = kept.collect::<Vec<_>>().join("&");
    if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{kept}")
    }
}

/// The `Cookie` headers without the cookies of these names; one that is left empty is left out.
pub(super) fn without_cookies(headers: &HeaderMap, names: &[&str]) -> Vec<HeaderValue> {
    let values = headers.get_all(COOKIE).iter();
    values
        .filter_map(|value| {
            let text = text(value.as_bytes());
            let kept = text.split(';').filter(|part| match cookie(part) {
                Some((name, _)) => !names.contains(&name),
                None => true,
            });
            let kept = kept.collect::<Vec<_>>().join(";");
            let kept = kept.trim_matches([' ', ';']);
            (!kept.is_empty())
                .then(|| HeaderValue::from_bytes(kept.as_bytes()).ok())
                .flatten()
        })
        .collect()
}
