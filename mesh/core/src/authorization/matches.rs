//! What the values of a policy match: texts, paths, ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A value as Istio's policies write texts. At most one wildcard counts, at the beginning or else at the end; any other
/// `*` is an ordinary character.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextMatch {
    /// `abc`: that text.
    Exact(String),
    /// `abc*`: what begins so.
    Prefix(String),
    /// `*abc`: what ends so.
    Suffix(String),
    /// `*`: anything that is not empty; of a header, that it is there.
    Presence,
}

impl TextMatch {
    /// Reads a value; every text is one.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match (text, text.strip_prefix('*'), text.strip_suffix('*')) {
            ("*", ..) => Self::Presence,
            (_, Some(suffix), _) => Self::Suffix(suffix.to_owned()),
            (_, None, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            (exact, None, None) => Self::Exact(exact.to_owned()),
        }
    }

    /// Whether it matches, with regard to case.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Presence => !text.is_empty(),
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Presence => f.write_str("*"),
        }
    }
}

/// Why a value is not a path or a range of addresses. Says what is accepted; the caller names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Braces that are not a template's.
    #[error("{0:?}: '{{' and '}}' are accepted only as the whole segments {{*}} and {{**}}")]
    Braces(String),
    /// A template that does not begin with a slash.
    #[error("{0:?}: a path with {{*}} or {{**}} must begin with '/'")]
    Relative(String),
    /// Something that matches any after `{**}`.
    #[error("{0:?}: no {{*}} or {{**}} may follow {{**}}")]
    AfterRest(String),
    /// A segment of a template that no path has.
    #[error("{path:?}: segment {segment:?} must not be empty and may hold only letters, digits and -._~%!$&'()+,;:@=")]
    Segment {
        /// The whole value.
        path: String,
        /// What is wrong in it.
        segment: String,
    },
    /// Neither an address nor a range.
    #[error("{0:?}: expected an IP address or a range such as 10.0.0.0/8 or fd00::/8")]
    Addresses(String),
}

/// A value of `paths`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// A text.
    Text(TextMatch),
    /// A path with `{*}` or `{**}`.
    Template(PathTemplate),
}

impl PathMatch {
    /// Reads a value of `paths`.
    ///
    /// # Errors
    /// [`MatchError`] when a template is one that Istio refuses, or braces are not a template's.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        if text.contains("{*}") || text.contains("{**}") {
            PathTemplate::parse(text).map(Self::Template)
        } else if text.contains(['{', '}']) {
            Err(MatchError::Braces(text.to_owned()))
        } else {
            Ok(Self::Text(TextMatch::parse(text)))
        }
    }

    /// Whether it matches a normalised path without query.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.matches(path),
            Self::Template(template) => template.matches(path),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Template(template) => template.fmt(f),
        }
    }
}

/// A path of which `{*}` is one segment of at least a character, and `{**}` any number of segments, also none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    text: String,
    /// What comes before `{**}`, or all of it. `None` is `{*}`.
    before: Vec<Option<String>>,
    /// `{**}`'s place taken, the literal text after it, from its slash on; empty when it is the last.
    rest: Option<String>,
}

impl PathTemplate {
    fn parse(text: &str) -> Result<Self, MatchError> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err(MatchError::Relative(text.to_owned()));
        };
        let mut before = Vec::new();
        let mut rest: Option<String> = None;
        let mut segments = relative.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            match (segment, &mut rest) {
                ("{*}" | "{**}", Some(_)) => return Err(MatchError::AfterRest(text.to_owned())),
                ("{*}", None) => before.push(None),
                ("{**}", None) => rest = Some(String::new()),
                (literal, _) if literal.contains(['{', '}']) => return Err(MatchError::Braces(text.to_owned())),
                (literal, _) if !(literal.bytes().all(is_literal) && (last || !literal.is_empty())) => {
                    return Err(MatchError::Segment {
                        path: text.to_owned(),
                        segment: literal.to_owned(),
                    });
                }
                (literal, Some(rest)) => {
                    rest.push('/');
                    rest.push_str(literal);
                }
                (literal, None) => before.push(Some(literal.to_owned())),
            }
        }
        Ok(Self {
            text: text.to_owned(),
            before,
            rest,
        })
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        let mut left = Some(path);
        for wanted in &self.before {
            let Some(after_slash) = left.and_then(|left| left.strip_prefix('/')) else {
                return false;
            };
            let end = after_slash.find('/').unwrap_or(after_slash.len());
            let (segment, after) = after_slash.split_at(end);
            let matched = match wanted {
                Some(literal) => segment == literal,
                None => !segment.is_empty() && segment.bytes().all(is_globbed),
            };
            if !matched {
                return false;
            }
            left = Some(after);
        }
        let left = left.unwrap_or_default();
        match &self.rest {
            None => left.is_empty(),
            Some(rest) => left
                .strip_prefix('/')
                .and_then(|left| left.strip_suffix(rest.as_str()))
                .is_some_and(|middle| middle.bytes().all(|byte| byte == b'/' || is_globbed(byte))),
        }
    }

    /// The literal text with which every path that it matches begins.
    pub(super) fn literal_prefix(&self) -> String {
        let literals = self.before.iter().map_while(Option::as_deref);
        let mut prefix: String = literals.clone().flat_map(|literal| ["/", literal]).collect();
        if self.rest.is_some() || literals.count() < self.before.len() {
            prefix.push('/');
        }
        prefix
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// RFC 3986's `pchar` but for `*`, which templates keep for themselves.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

/// What Envoy lets a template's wildcards stand for.
fn is_globbed(byte: u8) -> bool {
    is_literal(byte) || byte == b'*'
}

/// Addresses with a common beginning; a single address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    /// IPv4 addresses in the form that IPv6 maps them to, so that both are compared alike.
    network: u128,
    /// Bits of `network` that count.
    bits: u8,
    v4: bool,
}

impl AddressRange {
    /// Reads `ADDRESS` or `ADDRESS/BITS`; bits of the address beyond those do not count.
    ///
    /// # Errors
    /// [`MatchError::Addresses`] when it is neither.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        let refused = || MatchError::Addresses(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse::<u8>().map_err(|_| refused())?))
            }
            Some(_) => return Err(refused()),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let (v4, width) = (address.is_ipv4(), if address.is_ipv4() { 32 } else { 128 });
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(refused());
        }
        let bits = bits + (128 - width);
        Ok(Self {
            network: number(address) & mask(bits),
            bits,
            v4,
        })
    }

    /// Whether an address is in it. An IPv4 address in IPv6's form is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.v4 && number(address) & mask(self.bits) == self.network
    }

    /// Its first bits, and how many they are, in IPv6's numbering: what an index finds it by.
    pub(super) fn key(&self) -> (u8, u128) {
        (self.bits, self.network)
    }
}

/// An address as a number, IPv4 mapped into IPv6.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The first `bits` bits.
pub(super) fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from_bits(self.network);
        let (address, bits, width) = match address.to_ipv4_mapped() {
            Some(v4) if self.v4 => (IpAddr::V4(v4), self.bits - 96, 32),
            _ => (IpAddr::V6(address), self.bits, 128),
        };
        if bits == width {
            write!(f, "{address}")
        } else {
            write!(f, "{address}/{bits}")
        }
    }
}

impl FromStr for AddressRange {
    type Err = MatchError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_by_their_wildcard() {
        for (value, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc", "ABC", false),
            ("abc*", "abc", true),
            ("abc*", "abcd", true),
            ("abc*", "xabc", false),
            ("*abc", "abc", true),
            ("*abc", "xabc", true),
            ("*abc", "abcx", false),
            ("*", "x", true),
            ("*", "", false),
            ("**", "a*", true),
            ("**", "a", false),
            ("*b*", "ab*", true),
            ("*b*", "abc", false),
            ("a*c", "a*c", true),
            ("a*c", "abc", false),
            ("", "", true),
            ("", "a", false),
        ] {
            let parsed = TextMatch::parse(value);
            assert_eq!(parsed.matches(text), expected, "{value:?} of {text:?}");
            assert_eq!(parsed.to_string(), value);
        }
    }

    #[test]
    fn templates_match_whole_segments() {
        for (value, path, expected) in [
            ("/a/{*}", "/a/b", true),
            ("/a/{*}", "/a/", false),
            ("/a/{*}", "/a", false),
            ("/a/{*}", "/a/b/", false),
            ("/a/{*}", "/a/b/c", false),
            ("/a/{*}/c", "/a/b/c", true),
            ("/a/{*}/c", "/a//c", false),
            ("/{*}/{*}", "/x/y", true),
            ("/{*}/{*}", "/x", false),
            ("/a/{**}", "/a/", true),
            ("/a/{**}", "/a/b", true),
            ("/a/{**}", "/a/b/c/", true),
            ("/a/{**}", "/a", false),
            ("/a/{**}", "/ab", false),
            ("/{**}", "/", true),
            ("/{**}", "/x/y", true),
            ("/{**}/c", "/c", false),
            ("/{**}/c", "//c", true),
            ("/{**}/c", "/a/b/c", true),
            ("/{**}/c", "/a/b/cc", false),
            ("/{**}/c", "/a/b/c/", false),
            ("/a/{*}/{**}", "/a/b/", true),
            ("/a/{*}/{**}", "/a/b/c/d", true),
            ("/a/{*}/{**}", "/a/b", false),
            ("/a/{*}/", "/a/b/", true),
            ("/a/{*}/", "/a/b", false),
            ("/a/{**}/c/d", "/a/b/b/c/d", true),
            ("/a/{**}/c/d", "/a/c/d", false),
            // What Envoy's wildcards stand for.
            ("/a/{*}", "/a/b*=%20;x", true),
            ("/a/{*}", "/a/[b]", false),
            ("/a/{**}", "/a/b\"c", false),
        ] {
            let parsed = PathMatch::parse(value).unwrap();
            assert_eq!(parsed.matches(path), expected, "{value:?} of {path:?}");
            assert_eq!(parsed.to_string(), value);
            if let PathMatch::Template(template) = parsed
                && expected
            {
                assert!(path.starts_with(&template.literal_prefix()), "{value:?} of {path:?}");
            }
        }
    }

    #[test]
    fn braces_are_accepted_only_as_istio_accepts_them() {
        for value in [
            "/a/{b}",
            "/a/{",
            "/a/}",
            "/a/{*}b",
            "/a/b{*}",
            "/a/{**}/{*}",
            "/a/{**}/b/{**}",
            "/a/{*}/b*",
            "/a//{*}",
            "/a/{*}/b c",
            "a/{*}",
            "{**}",
        ] {
            assert!(PathMatch::parse(value).is_err(), "{value:?} must be refused");
        }
        for value in ["/a", "*", "/a*", "*/a", "a", "/a/*/b"] {
            assert!(matches!(PathMatch::parse(value), Ok(PathMatch::Text(_))), "{value:?}");
        }
    }

    #[test]
    fn ranges_contain_their_addresses() {
        for (range, address, expected) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.2.3/16", "10.1.9.9", true),
            ("0.0.0.0/0", "255.1.1.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.9.9.9", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("fd00::1", "fd00::1", true),
        ] {
            let parsed = AddressRange::parse(range).unwrap();
            assert_eq!(
                parsed.contains(address.parse().unwrap()),
                expected,
                "{range} of {address}"
            );
        }
        for (range, shown) in [
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("::/0", "::/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::1", "fd00::1"),
        ] {
            assert_eq!(AddressRange::parse(range).unwrap().to_string(), shown);
        }
        for range in [
            "",
            "10.1.2",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "fd00::/129",
            "a",
            "10.0.0.0/8/8",
        ] {
            assert!(AddressRange::parse(range).is_err(), "{range:?} must be refused");
        }
    }
}
