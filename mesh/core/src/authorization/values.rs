//! The values of a field, in the form in which they are compared.

use super::matches::{AddressRange, PathMatch, PathTemplate, TextMatch};
use super::policy::ServiceAccount;
use super::seen::{Seen, Subject};
use crate::jwt::Claims;

/// The values of one list of a field.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Texts(Texts),
    Namespaces(Vec<Glob>),
    Tokens(Vec<TokenPrincipal>),
    Paths(Texts, Vec<PathTemplate>),
    Addresses(Vec<AddressRange>),
    Ports(Vec<u16>),
}

/// A necessary condition of a value, by which an index finds the rules that may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Range(AddressRange),
    Port(u16),
}

impl Values {
    pub(super) fn texts(values: &[TextMatch]) -> Self {
        Self::Texts(Texts::new(values.iter().cloned()))
    }

    pub(super) fn hosts(values: &[TextMatch]) -> Self {
        let lower = values
            .iter()
            .map(|value| TextMatch::parse(&value.to_string().to_ascii_lowercase()));
        Self::Texts(Texts::new(lower))
    }

    pub(super) fn service_accounts(values: &[ServiceAccount]) -> Self {
        Self::Texts(Texts::new(
            values.iter().map(|value| TextMatch::Exact(value.to_string())),
        ))
    }

    pub(super) fn namespaces(values: &[TextMatch]) -> Self {
        Self::Namespaces(values.iter().map(|value| Glob::new(&value.to_string())).collect())
    }

    pub(super) fn tokens(values: &[TextMatch]) -> Self {
        Self::Tokens(values.iter().map(|value| TokenPrincipal::new(value.clone())).collect())
    }

    pub(super) fn paths(values: &[PathMatch]) -> Self {
        let texts = values.iter().filter_map(|value| match value {
            PathMatch::Text(text) => Some(text.clone()),
            PathMatch::Template(_) => None,
        });
        let templates = values.iter().filter_map(|value| match value {
            PathMatch::Text(_) => None,
            PathMatch::Template(template) => Some(template.clone()),
        });
        Self::Paths(Texts::new(texts), templates.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Texts(texts) => texts.is_empty(),
            Self::Namespaces(globs) => globs.is_empty(),
            Self::Tokens(tokens) => tokens.is_empty(),
            Self::Paths(texts, templates) => texts.is_empty() && templates.is_empty(),
            Self::Addresses(ranges) => ranges.is_empty(),
            Self::Ports(ports) => ports.is_empty(),
        }
    }

    /// Whether any of the values matches any of what the subject has.
    pub(super) fn matches(&self, subject: &Subject, seen: &Seen<'_>) -> bool {
        match self {
            Self::Texts(texts) => {
                let empty = subject.may_be_empty();
                seen.any_text(subject, |text| texts.matches(text, empty))
            }
            Self::Namespaces(globs) => seen.any_text(subject, |text| globs.iter().any(|glob| glob.matches(text))),
            Self::Tokens(tokens) => {
                let claims = seen.facts.http.and_then(|http| http.claims);
                claims.is_some_and(|claims| tokens.iter().any(|token| token.matches(claims)))
            }
            Self::Paths(texts, templates) => seen.any_text(subject, |text| {
                texts.matches(text, false) || templates.iter().any(|template| template.matches(text))
            }),
            Self::Addresses(ranges) => seen
                .address(subject)
                .is_some_and(|address| ranges.iter().any(|range| range.contains(address))),
            Self::Ports(ports) => ports.contains(&seen.facts.destination.port()),
        }
    }

    /// Keys of which one fits whatever a value matches. `None`: there are no such keys.
    pub(super) fn keys(&self) -> Option<Vec<Key>> {
        Some(match self {
            Self::Texts(texts) => texts.keys().collect(),
            Self::Namespaces(globs) => globs.iter().map(Glob::key).collect(),
            Self::Tokens(tokens) => tokens.iter().map(TokenPrincipal::key).collect::<Option<_>>()?,
            Self::Paths(texts, templates) => {
                let prefixes = templates.iter().map(|template| Key::Prefix(template.literal_prefix()));
                texts.keys().chain(prefixes).collect()
            }
            Self::Addresses(ranges) => ranges.iter().copied().map(Key::Range).collect(),
            Self::Ports(ports) => ports.iter().copied().map(Key::Port).collect(),
        })
    }

    /// The values as they are shown, and how many there are.
    pub(super) fn shown(&self, most: usize) -> (Vec<String>, usize) {
        fn shown<T: ToString>(values: impl Iterator<Item = T> + Clone, most: usize) -> (Vec<String>, usize) {
            (
                values.clone().take(most).map(|value| value.to_string()).collect(),
                values.count(),
            )
        }
        match self {
            Self::Texts(texts) => shown(texts.values(), most),
            Self::Namespaces(globs) => shown(globs.iter().map(|glob| glob.0.join("*")), most),
            Self::Tokens(tokens) => shown(tokens.iter().map(|token| &token.text), most),
            Self::Paths(texts, templates) => {
                shown(texts.values().chain(templates.iter().map(ToString::to_string)), most)
            }
            Self::Addresses(ranges) => shown(ranges.iter(), most),
            Self::Ports(ports) => shown(ports.iter(), most),
        }
    }
}

/// Texts, those without wildcard in order, so that a long list costs no more than a short one.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    exact: Vec<Box<str>>,
    patterns: Vec<TextMatch>,
}

impl Texts {
    fn new(values: impl Iterator<Item = TextMatch>) -> Self {
        let (mut exact, mut patterns) = (Vec::new(), Vec::new());
        for value in values {
            match value {
                TextMatch::Exact(text) => exact.push(text.into_boxed_str()),
                pattern => patterns.push(pattern),
            }
        }
        exact.sort_unstable();
        exact.dedup();
        Self { exact, patterns }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty()
    }

    fn matches(&self, text: &str, may_be_empty: bool) -> bool {
        self.exact.binary_search_by(|exact| (**exact).cmp(text)).is_ok()
            || self
                .patterns
                .iter()
                .any(|pattern| pattern.matches(text) || may_be_empty && *pattern == TextMatch::Presence)
    }

    fn values(&self) -> impl Iterator<Item = String> + Clone {
        let exact = self.exact.iter().map(ToString::to_string);
        exact.chain(self.patterns.iter().map(ToString::to_string))
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let exact = self.exact.iter().map(|exact| Key::Exact(exact.to_string()));
        exact.chain(self.patterns.iter().map(key))
    }
}

fn key(value: &TextMatch) -> Key {
    match value {
        TextMatch::Exact(text) => Key::Exact(text.clone()),
        TextMatch::Prefix(prefix) => Key::Prefix(prefix.clone()),
        TextMatch::Suffix(suffix) => Key::Suffix(suffix.clone()),
        TextMatch::Presence => Key::Prefix(String::new()),
    }
}

/// A namespace's name, in which every `*` stands for any characters, as Istio has it: what is between them.
#[derive(Debug, Clone)]
pub(super) struct Glob(Vec<String>);

impl Glob {
    fn new(text: &str) -> Self {
        Self(text.split('*').map(str::to_owned).collect())
    }

    fn matches(&self, text: &str) -> bool {
        let [first, between @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|exact| exact == text);
        };
        let middle = text
            .strip_prefix(first.as_str())
            .and_then(|rest| rest.strip_suffix(last.as_str()));
        let mut left = middle;
        for part in between {
            left = left
                .and_then(|left| left.split_once(part.as_str()))
                .map(|(_, after)| after);
        }
        left.is_some()
    }

    fn key(&self) -> Key {
        match self.0.as_slice() {
            [exact] => Key::Exact(exact.clone()),
            [first, .., last] if first.is_empty() => Key::Suffix(last.clone()),
            [first, ..] => Key::Prefix(first.clone()),
            [] => Key::Prefix(String::new()),
        }
    }
}

/// A request principal: what its issuer and its subject must be. Istio divides at the last slash.
#[derive(Debug, Clone)]
pub(super) struct TokenPrincipal {
    text: TextMatch,
    issuer: TextMatch,
    subject: TextMatch,
}

impl TokenPrincipal {
    fn new(text: TextMatch) -> Self {
        let any = || TextMatch::Presence;
        let (issuer, subject) = match &text {
            TextMatch::Presence => (any(), any()),
            TextMatch::Suffix(suffix) => match suffix.rsplit_once('/') {
                Some(("", subject)) => (any(), TextMatch::Exact(subject.to_owned())),
                Some((issuer, subject)) => (
                    TextMatch::Suffix(issuer.to_owned()),
                    TextMatch::Exact(subject.to_owned()),
                ),
                None => (any(), TextMatch::Suffix(suffix.clone())),
            },
            TextMatch::Prefix(prefix) => match prefix.rsplit_once('/') {
                Some((issuer, "")) => (TextMatch::Exact(issuer.to_owned()), any()),
                Some((issuer, subject)) => (
                    TextMatch::Exact(issuer.to_owned()),
                    TextMatch::Prefix(subject.to_owned()),
                ),
                None => (TextMatch::Prefix(prefix.clone()), any()),
            },
            TextMatch::Exact(exact) => {
                let (issuer, subject) = exact.rsplit_once('/').unwrap_or((exact, ""));
                (
                    TextMatch::Exact(issuer.to_owned()),
                    TextMatch::Exact(subject.to_owned()),
                )
            }
        };
        Self { text, issuer, subject }
    }

    fn matches(&self, claims: &Claims) -> bool {
        claims.issuer().is_some_and(|issuer| self.issuer.matches(issuer))
            && claims.subject().is_some_and(|subject| self.subject.matches(subject))
    }

    /// None where it may match a token that has no principal, for want of an issuer or subject.
    fn key(&self) -> Option<Key> {
        let empty = TextMatch::Exact(String::new());
        (self.issuer != empty && self.subject != empty).then(|| key(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_may_have_wildcards_anywhere() {
        for (pattern, namespace, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*", "ab", true),
            ("a*d", "abcd", true),
            ("a*d", "ad", true),
            ("a*a", "a", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*b*", "abc", true),
            ("*b*", "ac", false),
            ("a.c", "abc", false),
        ] {
            let glob = Glob::new(pattern);
            assert_eq!(glob.matches(namespace), expected, "{pattern} of {namespace}");
        }
    }

    #[test]
    fn a_request_principal_is_an_issuer_and_a_subject() {
        for (value, issuer, subject, expected) in [
            ("*", "i", "s", true),
            ("*", "i", "", false),
            ("*", "", "s", false),
            ("https://i/s", "https://i", "s", true),
            ("https://i/s", "https://i", "t", false),
            ("https://i/a/b", "https://i/a", "b", true),
            ("https://i/a/b", "https://i", "a/b", false),
            ("https://i/*", "https://i", "anyone", true),
            ("https://i/*", "https://j", "anyone", false),
            ("https://i/an*", "https://i", "anyone", true),
            ("https*", "https://i", "s", true),
            ("https://i*", "https://i", "s", false),
            ("i*", "issuer", "s", true),
            ("*/s", "https://i", "s", true),
            ("*.org/s", "https://a.org", "s", true),
            ("*.org/s", "https://a.com", "s", false),
            ("*@a.org", "i", "me@a.org", true),
            ("*@a.org", "i", "me@b.org", false),
            ("i", "i", "", true),
            ("i", "i", "s", false),
        ] {
            let serde_json::Value::Object(payload) = serde_json::json!({"iss": issuer, "sub": subject}) else {
                panic!("an object");
            };
            let claims = Claims::new(payload, &[]);
            let token = TokenPrincipal::new(TextMatch::parse(value));
            assert_eq!(token.matches(&claims), expected, "{value} of {issuer} {subject}");
        }
    }
}
