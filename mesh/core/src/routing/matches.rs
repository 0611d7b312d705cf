//! What a request must be for a route to take it: `HTTPMatchRequest`.

use super::re2;
use regex::bytes::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// One entry of `match`: all of it must hold. What depends on the client alone was decided before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HttpMatch {
    /// `uri`: the path without its query.
    pub uri: Option<StringMatch>,
    /// `ignoreUriCase`: for an exact or a prefix `uri`.
    pub ignore_uri_case: bool,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `authority`: the host as it was sent.
    pub authority: Option<StringMatch>,
    /// `headers`, by name in lower case; `None`: it must be there.
    pub headers: Vec<(Arc<str>, Option<StringMatch>)>,
    /// `withoutHeaders`; `None`: it must not be there.
    pub without_headers: Vec<(Arc<str>, Option<StringMatch>)>,
    /// `queryParams`; `None`: it must be there.
    pub query_params: Vec<(Arc<str>, Option<StringMatch>)>,
}

/// What of a request routes look at.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The path with its query, normalised as the mesh has it.
    pub path_and_query: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The method.
    pub method: &'a str,
    /// The authority, as it was sent.
    pub authority: &'a str,
    /// The headers.
    pub headers: &'a ::http::HeaderMap,
}

impl<'a> Seen<'a> {
    /// The path without its query.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.path_and_query
            .split_once('?')
            .map_or(self.path_and_query, |(path, _)| path)
    }

    /// The first parameter of the query by a name, as it was sent; the empty text where it has no `=`.
    fn parameter(&self, name: &str) -> Option<&'a str> {
        let (_, query) = self.path_and_query.split_once('?')?;
        let parameter = |pair: &'a str| pair.split_once('=').unwrap_or((pair, ""));
        query
            .split('&')
            .map(parameter)
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// A header, or what HTTP/2 has as a pseudo header; several values are joined with commas.
    fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            ":method" => return Some(self.method.into()),
            ":scheme" => return Some(self.scheme.into()),
            ":path" => return Some(self.path_and_query.into()),
            ":authority" | "host" => return Some(self.authority.into()),
            _ => {}
        }
        let mut values = self.headers.get_all(name).iter();
        let first = String::from_utf8_lossy(values.next()?.as_bytes());
        Some(values.fold(first, |joined, value| {
            (joined.into_owned() + "," + &String::from_utf8_lossy(value.as_bytes())).into()
        }))
    }
}

impl HttpMatch {
    /// Whether a request is what this asks for.
    #[must_use]
    pub fn takes(&self, seen: &Seen<'_>) -> bool {
        let is = |wanted: &Option<StringMatch>, text: &str| wanted.as_ref().is_none_or(|wanted| wanted.matches(text));
        self.takes_path(seen.path())
            && is(&self.method, seen.method)
            && is(&self.authority, seen.authority)
            && is(&self.scheme, seen.scheme)
            && self.headers.iter().all(|(name, wanted)| {
                let value = seen.header(name);
                value.is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted.matches(&value)))
            })
            && self.without_headers.iter().all(|(name, unwanted)| {
                let value = seen.header(name);
                match unwanted {
                    None => value.is_none(),
                    // One that is not there counts as empty.
                    Some(unwanted) => !unwanted.matches(&value.unwrap_or_default()),
                }
            })
            && self.query_params.iter().all(|(name, wanted)| {
                let value = seen.parameter(name);
                value.is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted.matches(value)))
            })
    }

    fn takes_path(&self, path: &str) -> bool {
        match &self.uri {
            None => path.starts_with('/'),
            Some(StringMatch::Exact(exact)) if self.ignore_uri_case => path.eq_ignore_ascii_case(exact),
            Some(StringMatch::Prefix(prefix)) if self.ignore_uri_case => path
                .as_bytes()
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())),
            Some(wanted) => wanted.matches(path),
        }
    }

    /// How much of a path that it takes is what it asked for: its prefix, and of any other kind of match the whole path. A
    /// match without `uri` is one by the prefix `/`.
    #[must_use]
    pub fn matched(&self, path: &str) -> usize {
        match &self.uri {
            None => path.len().min(1),
            Some(StringMatch::Prefix(prefix)) => prefix.len().min(path.len()),
            Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => path.len(),
        }
    }
}

/// `StringMatch`.
#[derive(Debug, Clone, PartialEq)]
pub enum StringMatch {
    /// `exact`.
    Exact(Arc<str>),
    /// `prefix`.
    Prefix(Arc<str>),
    /// `regex`: of the whole text.
    Regex(Pattern),
}

impl StringMatch {
    /// Whether a text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == &**exact,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Regex(pattern) => pattern.is_match(text),
        }
    }
}

/// A regular expression in RE2's syntax, matched in time linear in the text.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    /// For the whole of a text.
    whole: Regex,
    /// For what of a text is replaced; `None` inside where it cannot be had.
    part: OnceLock<Option<Regex>>,
}

/// Why a regular expression is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is longer than [`Pattern::MAX_BYTES`].
    #[error("it is longer than {} bytes", Pattern::MAX_BYTES)]
    Long,
    /// It is none, or too large when compiled.
    #[error("{0}")]
    Syntax(String),
}

impl Pattern {
    /// The longest text of one, in bytes; as Istio's admission has it.
    pub const MAX_BYTES: usize = 1024;

    /// The most memory of one, compiled, in bytes.
    const MAX_COMPILED: usize = 256 * 1024;

    /// Compiles a text.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > Self::MAX_BYTES {
            return Err(PatternError::Long);
        }
        let whole = re2::translate(text).and_then(|text| Self::compile(&format!("^(?:{text})$")));
        Ok(Self {
            text: text.into(),
            whole: whole.map_err(PatternError::Syntax)?,
            part: OnceLock::new(),
        })
    }

    fn compile(text: &str) -> Result<Regex, String> {
        RegexBuilder::new(text)
            // As RE2 has it: \d and its like are ASCII's.
            .unicode(false)
            .size_limit(Self::MAX_COMPILED)
            .build()
            .map_err(|error| error.to_string())
    }

    /// The text that it was compiled from.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether the whole of a text matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.whole.is_match(text.as_bytes())
    }

    /// A text with each part that matches replaced, as RE2 does it: in what takes its place a backslash and a digit are the
    /// match (0) or one of its groups, and two backslashes are one.
    #[must_use]
    pub fn replace(&self, text: &str, with: &str) -> String {
        let compiled = || re2::translate(&self.text).and_then(|text| Self::compile(&text)).ok();
        let part = self.part.get_or_init(compiled);
        let Some(part) = part else { return text.to_owned() };
        let mut replaced = Vec::with_capacity(text.len() + with.len());
        let mut kept = 0;
        for captures in part.captures_iter(text.as_bytes()) {
            let Some(whole) = captures.get(0) else { continue };
            replaced.extend_from_slice(&text.as_bytes()[kept..whole.start()]);
            kept = whole.end();
            let mut bytes = with.bytes();
            while let Some(byte) = bytes.next() {
                if byte != b'\\' {
                    replaced.push(byte);
                    continue;
                }
                match bytes.next() {
                    Some(digit @ b'0'..=b'9') => {
                        let group = captures.get(usize::from(digit - b'0'));
                        replaced.extend_from_slice(group.map_or(&[][..], |group| group.as_bytes()));
                    }
                    other => replaced.extend(other),
                }
            }
        }
        replaced.extend_from_slice(&text.as_bytes()[kept..]);
        String::from_utf8_lossy(&replaced).into_owned()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}
