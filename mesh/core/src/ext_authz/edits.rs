//! What an authorizer's answer changes of a message's headers.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// How a header that is there already is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It stays, and another one joins it.
    Append,
    /// It stays.
    AddIfAbsent,
    /// It goes.
    Overwrite,
    /// It goes; where there is none, none is added.
    OverwriteIfPresent,
}

/// A header that an authorizer sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
    /// What becomes of those that are there.
    pub how: How,
}

impl Edit {
    /// Changes the headers of a message. What says how the message travels is nobody's to set.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if is_of_one_hop(&self.name) {
            return;
        }
        let (name, value) = (self.name.clone(), self.value.clone());
        match (self.how, headers.contains_key(&self.name)) {
            (How::Append, _) | (How::AddIfAbsent, false) => drop(headers.append(name, value)),
            (How::Overwrite, _) | (How::OverwriteIfPresent, true) => drop(headers.insert(name, value)),
            (How::AddIfAbsent, true) | (How::OverwriteIfPresent, false) => {}
        }
    }
}

/// Takes a header away. The host, and what says how the message travels, stay.
pub fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    if !is_of_one_hop(name) && name != http::header::HOST {
        headers.remove(name);
    }
}

/// Whether a header says how a message is framed or carried on one connection (RFC 9110, section 7.6.1): whoever sends the
/// message writes it.
#[must_use]
pub fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_appended_and_overwritten() {
        let value = HeaderValue::from_static;
        for (how, name, expected) in [
            (How::Append, "x-a", &["1", "2"][..]),
            (How::Append, "x-b", &["2"]),
            (How::AddIfAbsent, "x-a", &["1"]),
            (How::AddIfAbsent, "x-b", &["2"]),
            (How::Overwrite, "x-a", &["2"]),
            (How::Overwrite, "x-b", &["2"]),
            (How::OverwriteIfPresent, "x-a", &["2"]),
            (How::OverwriteIfPresent, "x-b", &[]),
            (How::Overwrite, "content-length", &["5"]),
            (How::Append, "transfer-encoding", &[]),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-a", value("1"));
            headers.insert("content-length", value("5"));
            let edit = Edit {
                name: HeaderName::from_static(name),
                value: value("2"),
                how,
            };
            edit.apply(&mut headers);
            let found: Vec<_> = headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect();
            assert_eq!(found, expected, "{how:?} {name}");
        }
    }

    #[test]
    fn what_a_message_needs_stays() {
        let mut headers = HeaderMap::new();
        for name in ["host", "content-length", "authorization"] {
            headers.insert(name, HeaderValue::from_static("1"));
            remove(&mut headers, &HeaderName::from_static(name));
        }
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "content-length"]);
    }
}
