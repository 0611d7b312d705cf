//! Names of headers as providers list them.

use std::fmt;

/// A name of headers, in lower case: `abc`, `abc*` or `*abc`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NameMatch {
    /// This one.
    Exact(String),
    /// Those that begin so.
    Prefix(String),
    /// Those that end so.
    Suffix(String),
}

impl NameMatch {
    /// Parses a name; a `*` alone is none, as in Istio.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let kind = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(end), _) => Self::Suffix(end.to_owned()),
            (None, Some(start)) => Self::Prefix(start.to_owned()),
            (None, None) => Self::Exact(text),
        };
        let (Self::Exact(part) | Self::Prefix(part) | Self::Suffix(part)) = &kind;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~:".contains(&byte);
        (!part.is_empty() && part.bytes().all(token)).then_some(kind)
    }

    /// Whether a name in lower case is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(start) => name.starts_with(start.as_str()),
            Self::Suffix(end) => name.ends_with(end.as_str()),
        }
    }
}

impl fmt::Display for NameMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(start) => write!(f, "{start}*"),
            Self::Suffix(end) => write!(f, "*{end}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_or_begin_or_end_so() {
        for (text, name, expected) in [
            ("X-User", "x-user", Some(true)),
            ("x-user", "x-users", Some(false)),
            ("x-*", "x-user", Some(true)),
            ("x-*", "y-x-", Some(false)),
            ("*-Id", "x-request-id", Some(true)),
            ("*-id", "x-ids", Some(false)),
            ("*", "a", None),
            ("", "a", None),
            ("*a*", "a", None),
            ("a b", "a b", None),
        ] {
            let parsed = NameMatch::parse(text);
            assert_eq!(parsed.as_ref().map(|it| it.matches(name)), expected, "{text}");
            if let Some(parsed) = parsed {
                assert_eq!(NameMatch::parse(&parsed.to_string()), Some(parsed));
            }
        }
    }
}
