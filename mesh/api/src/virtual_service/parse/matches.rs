//! `http[].match`, and texts that must match.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::routing::{Condition, HttpMatch, Pattern, PatternError, StringMatch};

use super::client::{self, Given};
use super::{Report, Whole};
use crate::names;
use crate::virtual_service::resource;

/// How the names of headers begin that stand for claims of a token.
const CLAIMS: &str = "@request.auth.claims";

const PSEUDO_HEADERS: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];

/// What an empty prefix is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    /// It matches everything.
    Anything,
    /// A mistake.
    Refused,
}

pub(super) fn parse(
    path: &str,
    found: &resource::HttpMatch,
    whole: &Whole<'_>,
    report: &mut Report,
) -> Condition<HttpMatch> {
    let namespace = found.source_namespace.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = namespace.filter(|name| !names::is_label(name)) {
        report.refuse(format!("{path}.sourceNamespace"), name, "the name of a namespace");
    }
    let field = |name: &str| format!("{path}.{name}");
    for (name, header) in found.headers.iter().flatten() {
        if header.is_none() {
            report.refuse(
                format!("{path}.headers[{name}]"),
                "null",
                "exact, prefix, regex, or {} for presence",
            );
        }
    }
    check_names(&field("headers"), found.headers.as_ref(), whole, report);
    check_names(&field("withoutHeaders"), found.without_headers.as_ref(), whole, report);
    Condition {
        client: client::parse(
            path,
            &Given {
                gateways: found.gateways.as_ref(),
                port: found.port,
                source_labels: found.source_labels.as_ref(),
                source_namespace: found.source_namespace.as_deref(),
            },
            report,
        ),
        asked: HttpMatch {
            uri: text(&field("uri"), found.uri.as_ref(), Empty::Anything, report),
            ignore_uri_case: found.ignore_uri_case.unwrap_or(false),
            scheme: text(&field("scheme"), found.scheme.as_ref(), Empty::Refused, report),
            method: text(&field("method"), found.method.as_ref(), Empty::Refused, report),
            authority: text(&field("authority"), found.authority.as_ref(), Empty::Refused, report),
            headers: named(&field("headers"), found.headers.as_ref(), Kind::Headers, report),
            without_headers: named(
                &field("withoutHeaders"),
                found.without_headers.as_ref(),
                Kind::Without,
                report,
            ),
            query_params: named(
                &field("queryParams"),
                found.query_params.as_ref(),
                Kind::Parameters,
                report,
            ),
        },
    }
}

/// Texts that may be absent, by name.
type Named = BTreeMap<String, Option<resource::StringMatch>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Headers,
    Without,
    Parameters,
}

fn named(path: &str, list: Option<&Named>, kind: Kind, report: &mut Report) -> Vec<(Arc<str>, Option<StringMatch>)> {
    let mut parsed = Vec::new();
    for (name, found) in list.into_iter().flatten() {
        // Not a regular expression but a sign of its own: whatever the header says, it must not be there.
        let any = kind == Kind::Without && found.as_ref().is_some_and(|found| found.regex.as_deref() == Some("*"));
        let found = found.as_ref().filter(|_| !any);
        let text = text(&format!("{path}[{name}]"), found, Empty::Refused, report);
        let key = match kind {
            Kind::Parameters => name.as_str().into(),
            Kind::Headers | Kind::Without => name.to_ascii_lowercase().into(),
        };
        parsed.push((key, text));
    }
    parsed
}

fn check_names(path: &str, list: Option<&Named>, whole: &Whole<'_>, report: &mut Report) {
    for name in list.into_iter().flat_map(BTreeMap::keys) {
        if is_claim(name) {
            if !whole.is_for_gateways() {
                report.refuse(
                    path,
                    name,
                    "headers of requests: claims of tokens can be matched in gateways alone, and this is for the mesh",
                );
            }
        } else if !PSEUDO_HEADERS.contains(&name.as_str()) && !is_header(name) {
            report.refuse(path, name, "the name of a header");
        }
    }
}

/// Whether a header's name stands for a claim of the request's token.
pub(in crate::virtual_service) fn is_claim(name: &str) -> bool {
    let Some((start, rest)) = name.split_at_checked(CLAIMS.len()) else {
        return false;
    };
    let dotted = rest.starts_with('.') && rest.len() > 1;
    let bracketed = rest.starts_with('[') && rest.ends_with(']') && rest.len() > 2;
    start.eq_ignore_ascii_case(CLAIMS) && (dotted || bracketed)
}

/// Whether Istio's admission takes a text for a header's name: a token, in which it lets commas be.
pub(super) fn is_header(text: &str) -> bool {
    !text.is_empty()
        && text
            .split(',')
            .all(|part| part.is_empty() || crate::header::is_name(part))
}

/// Parses a text that must match; `None` where nothing is said of it.
pub(super) fn text(
    field: &str,
    found: Option<&resource::StringMatch>,
    empty: Empty,
    report: &mut Report,
) -> Option<StringMatch> {
    let resource::StringMatch { exact, prefix, regex } = found?;
    let kinds = [("exact", exact), ("prefix", prefix), ("regex", regex)];
    let given: Vec<&str> = kinds
        .iter()
        .filter(|(_, it)| it.is_some())
        .map(|(name, _)| *name)
        .collect();
    if given.len() > 1 {
        report.refuse(field, given.join(", "), "one of exact, prefix and regex");
    }
    if let Some(exact) = exact {
        Some(StringMatch::Exact(exact.as_str().into()))
    } else if let Some(prefix) = prefix {
        if prefix.is_empty() && empty == Empty::Refused {
            report.refuse(format!("{field}.prefix"), "", "a prefix that is not empty");
        }
        Some(StringMatch::Prefix(prefix.as_str().into()))
    } else {
        let pattern = pattern(&format!("{field}.regex"), regex.as_deref()?, report)?;
        Some(StringMatch::Regex(pattern))
    }
}

/// Compiles a regular expression.
pub(super) fn pattern(field: &str, text: &str, report: &mut Report) -> Option<Pattern> {
    if text.is_empty() {
        report.refuse(field, "", "a regular expression that is not empty");
        return None;
    }
    match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(PatternError::Long) => {
            report.refuse(field, text, format!("at most {} bytes", Pattern::MAX_BYTES));
            None
        }
        Err(PatternError::Syntax(why)) => {
            report.refuse(field, text, format!("a regular expression in RE2's syntax: {why}"));
            None
        }
    }
}
