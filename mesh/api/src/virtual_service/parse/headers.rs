//! `headers`, of a route or of one of its destinations.

use std::collections::BTreeMap;

use http::header::HOST;
use http::{HeaderName, HeaderValue};
use mesh_core::routing::HeaderEdits;

use super::Report;
use crate::header;
use crate::virtual_service::resource::{HeaderOperations, Headers};

/// Parses edits. What sets or adds `host` or `:authority` in requests becomes a `host` among what is set.
pub(super) fn parse(path: &str, headers: Option<&Headers>, report: &mut Report) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let Some(headers) = headers else { return edits };
    if let Some(operations) = &headers.request {
        let path = format!("{path}.request");
        edits.request_set = values(&format!("{path}.set"), operations.set.as_ref(), true, report);
        edits.request_add = values(&format!("{path}.add"), operations.add.as_ref(), true, report);
        edits.request_remove = names(&format!("{path}.remove"), operations, report);
        // Istio sets a host that is to be added, where none is set.
        let set = edits.request_set.iter().any(|(name, _)| name == HOST);
        let added = take_host(&mut edits.request_add);
        if let Some(value) = added.filter(|_| !set) {
            edits.request_set.push((HOST, value));
        }
    }
    if let Some(operations) = &headers.response {
        let path = format!("{path}.response");
        edits.response_set = values(&format!("{path}.set"), operations.set.as_ref(), false, report);
        edits.response_add = values(&format!("{path}.add"), operations.add.as_ref(), false, report);
        edits.response_remove = names(&format!("{path}.remove"), operations, report);
    }
    edits
}

/// Takes the host out of what is set.
pub(super) fn take_host(list: &mut Vec<(HeaderName, HeaderValue)>) -> Option<HeaderValue> {
    let found = list
        .iter()
        .rev()
        .find(|(name, _)| name == HOST)
        .map(|(_, value)| value.clone());
    list.retain(|(name, _)| name != HOST);
    found
}

/// Every host that the edits of a request write.
pub(super) fn authorities(headers: Option<&Headers>) -> impl Iterator<Item = &str> {
    let operations = headers.and_then(|headers| headers.request.as_ref());
    let set = operations.and_then(|operations| operations.set.as_ref());
    let add = operations.and_then(|operations| operations.add.as_ref());
    set.into_iter()
        .flatten()
        .chain(add.into_iter().flatten())
        .filter(|(name, _)| is_authority(name))
        .map(|(_, value)| value.as_str())
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

fn values(
    path: &str,
    list: Option<&BTreeMap<String, String>>,
    request: bool,
    report: &mut Report,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut parsed = Vec::new();
    for (name, text) in list.into_iter().flatten() {
        let field = format!("{path}[{name}]");
        let written = value(&field, text, report);
        if request && is_authority(name) {
            // A host is taken as it stands.
            parsed.extend(header::value(text).map(|value| (HOST, value)));
        } else if let (Some(name), Some(written)) = (checked(&field, name, report), written) {
            parsed.push((name, written));
        }
    }
    parsed
}

fn names(path: &str, operations: &HeaderOperations, report: &mut Report) -> Vec<HeaderName> {
    let list = operations.remove.iter().flatten().enumerate();
    list.filter_map(|(at, name)| checked(&format!("{path}[{at}]"), name, report))
        .collect()
}

/// A name that an edit may have, and that a header can have.
fn checked(field: &str, name: &str, report: &mut Report) -> Option<HeaderName> {
    if name.is_empty() {
        report.refuse(field, name, "the name of a header");
        return None;
    }
    if name.starts_with(':') || is_authority(name) {
        report.refuse(field, name, "a header that is neither the host nor begins with a colon");
        return None;
    }
    let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
    if parsed.is_none() {
        report.warn(format!(
            "{field}: {name:?} is no name of a header, and nothing is changed"
        ));
    }
    parsed
}

/// A value to write; `None` where it has commands, which [`has_command`] tells.
fn value(field: &str, text: &str, report: &mut Report) -> Option<HeaderValue> {
    let control = |byte: u8| matches!(byte, 0..=8 | 10..=31 | 127);
    if text.bytes().any(control) {
        report.refuse(field, text.escape_debug(), "a value without control characters");
        return None;
    }
    match commands(text) {
        Ok(false) => header::value(&text.replace("%%", "%")),
        Ok(true) => None,
        Err(why) => {
            report.refuse(field, text, format!("%% for a percent sign, or %COMMAND%: {why}"));
            None
        }
    }
}

/// Whether a value is to be filled in by the proxy, such as `%DOWNSTREAM_REMOTE_ADDRESS%`.
pub(in crate::virtual_service) fn has_command(text: &str) -> bool {
    commands(text).is_ok_and(|there| there)
}

/// Whether a value has commands, as Envoy writes them: `%NAME%`, `%NAME(argument)%`, `%NAME(["a", "b"])%`.
fn commands(text: &str) -> Result<bool, &'static str> {
    enum At {
        Text,
        Name,
        Arguments,
        Argument,
        Quote,
        AfterQuoted,
        AfterList,
        End,
    }
    let (mut at, mut found) = (At::Text, false);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        at = match (at, byte) {
            (At::Text, b'%') => match bytes.peek() {
                None => return Err("it ends in one percent sign"),
                Some(b'%') => {
                    bytes.next();
                    At::Text
                }
                Some(_) => {
                    found = true;
                    At::Name
                }
            },
            (At::Name | At::End, b'%') | (At::Text, _) => At::Text,
            (At::Name, b'(') => At::Arguments,
            (At::Name, _) => At::Name,
            (At::Arguments, b'[') | (At::AfterQuoted, b',') => At::Quote,
            (At::Quote, b'"') => At::Argument,
            (At::Argument, b'\\') => match bytes.next() {
                None => return Err("it ends in a backslash"),
                Some(_) => At::Argument,
            },
            (At::Argument, b')') | (At::AfterList, b')') => At::End,
            (At::Argument, b'"') => At::AfterQuoted,
            (At::AfterQuoted, b']') => At::AfterList,
            (At::Quote, b' ') => At::Quote,
            (At::Arguments, b' ') => At::Arguments,
            (At::AfterQuoted, b' ') => At::AfterQuoted,
            (At::AfterList, b' ') => At::AfterList,
            (At::End, b' ') => At::End,
            (At::Arguments | At::Argument, _) => At::Argument,
            (At::Quote, _) => return Err("an argument of a list begins with a quotation mark"),
            (At::AfterQuoted, _) => return Err("arguments of a list have commas between"),
            (At::AfterList, _) => return Err("a parenthesis comes after a list of arguments"),
            (At::End, _) => return Err("a percent sign comes after the arguments"),
        };
    }
    if matches!(at, At::Text) {
        Ok(found)
    } else {
        Err("a command has no end")
    }
}
