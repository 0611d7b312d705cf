//! What a request must be for a route to take it: `HTTPMatchRequest`.

use regex::bytes::{Regex, RegexBuilder};
use std::fmt;
use std::sync::Arc;

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
        let whole = RegexBuilder::new(&format!("^(?:{text})$"))
            // As RE2 has it: \d and its like are ASCII's.
            .unicode(false)
            .size_limit(Self::MAX_COMPILED)
            .build()
            .map_err(|error| PatternError::Syntax(error.to_string()))?;
        Ok(Self {
            text: text.into(),
            whole,
        })
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
