//! What a request is, before any policy sees it and before the application does: its path, here, and its [`headers`].
//!
//! Under four settings, `meshConfig.pathNormalization.normalization`, with the results that Envoy gives under Istio's
//! configuration: escaped slashes first, then dot segments with path parameters, then RFC 3986's normal form
//! ([`canonical`]), and repeated slashes last. Queries stay as they are. What is forwarded is what policies saw.

mod canonical;
pub mod headers;

use std::borrow::Cow;
use std::fmt;

/// `meshConfig.pathNormalization.normalization`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// `NONE`: paths are taken as they come.
    None,
    /// `BASE`, and `DEFAULT`: dot segments are resolved, escaped letters, digits and `-._~` are unescaped, backslashes are
    /// slashes, and what must not stand in a path is escaped.
    #[default]
    Base,
    /// `MERGE_SLASHES`: that, and repeated slashes are one.
    MergeSlashes,
    /// `DECODE_AND_MERGE_SLASHES`: that, and `%2F` and `%5C` are slashes from the start.
    DecodeAndMergeSlashes,
}

/// Why a path is refused, with status 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `#` belongs to the client; applications disagree about it.
    #[error("the path holds a fragment (#)")]
    Fragment,
    /// `%00`.
    #[error("the path holds an escaped null character (%00)")]
    Null,
    /// RFC 9112 and 9113 let no request have it.
    #[error("the path holds a character that is not printable ASCII")]
    Character,
}

impl Normalization {
    /// Normalises the path of a request's target, `/PATH` or `/PATH?QUERY`.
    ///
    /// # Errors
    /// [`Refused`] when no request with it may be let through.
    pub fn normalize(self, path_and_query: &str) -> Result<Cow<'_, str>, Refused> {
        for byte in path_and_query.bytes() {
            match byte {
                b'#' => return Err(Refused::Fragment),
                b'!'..=b'~' => {}
                _ => return Err(Refused::Character),
            }
        }
        // The form of `OPTIONS *` has no path.
        if self == Self::None || path_and_query == "*" {
            return Ok(Cow::Borrowed(path_and_query));
        }
        let (path, query) = split(path_and_query);
        if self.is_normal(path) {
            return Ok(Cow::Borrowed(path_and_query));
        }
        let mut path = Cow::Borrowed(path);
        if self == Self::DecodeAndMergeSlashes && path.contains('%') {
            path = Cow::Owned(unescape_slashes(&path));
        }
        if path.contains("/.;") || path.contains("/..;") {
            path = Cow::Owned(without_parameters_of_dots(&path));
        }
        let mut normal = canonical::canonical(&path)?;
        if matches!(self, Self::MergeSlashes | Self::DecodeAndMergeSlashes) && normal.contains("//") {
            normal = merge_slashes(&normal);
        }
        normal.push_str(query);
        Ok(Cow::Owned(normal))
    }

    /// Whether a look at each byte shows that nothing is to be done, as for most paths.
    fn is_normal(self, path: &str) -> bool {
        let bytes = path.as_bytes();
        let merging = self != Self::Base;
        bytes.first() == Some(&b'/')
            && bytes.iter().all(|&byte| canonical::stands(byte))
            && !bytes.windows(2).any(|two| two == b"/." || merging && two == b"//")
    }

    /// The setting of a name in the configuration; `DEFAULT` is `BASE`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "NONE" => Some(Self::None),
            "DEFAULT" | "BASE" => Some(Self::Base),
            "MERGE_SLASHES" => Some(Self::MergeSlashes),
            "DECODE_AND_MERGE_SLASHES" => Some(Self::DecodeAndMergeSlashes),
            _ => None,
        }
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "NONE",
            Self::Base => "BASE",
            Self::MergeSlashes => "MERGE_SLASHES",
            Self::DecodeAndMergeSlashes => "DECODE_AND_MERGE_SLASHES",
        })
    }
}

/// The path of a normalised target, as policies see it: without its query.
#[must_use]
pub fn path_of(path_and_query: &str) -> &str {
    split(path_and_query).0
}

/// The path, and the query with its question mark.
fn split(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}

fn unescape_slashes(path: &str) -> String {
    let mut unescaped = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        unescaped.push_str(before);
        let (slash, length) = match escape.as_bytes() {
            [b'%', b'2', b'f' | b'F', ..] => ('/', 3),
            [b'%', b'5', b'c' | b'C', ..] => ('\\', 3),
            _ => ('%', 1),
        };
        unescaped.push(slash);
        rest = &escape[length..];
    }
    unescaped.push_str(rest);
    unescaped
}

/// A segment `..;x` is what some applications take for `..`, and so does Envoy; other parameters stay.
fn without_parameters_of_dots(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots,
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Joins the segments that are not empty; a slash at the end stays, so that `//` is what it was, as in Envoy.
fn merge_slashes(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = if path.ends_with('/') { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests;
