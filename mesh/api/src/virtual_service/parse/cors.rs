//! `corsPolicy`.

use mesh_core::routing::{Cors, StringMatch};

use super::{Report, matches};
use crate::virtual_service::resource::{self, CorsPolicy};
use crate::{duration, header};

const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];

pub(super) fn parse(path: &str, policy: &CorsPolicy, report: &mut Report) -> Cors {
    for (at, method) in policy.allow_methods.iter().flatten().enumerate() {
        report.one_of(format!("{path}.allowMethods[{at}]"), Some(method), &METHODS);
    }
    for (name, list) in [
        ("allowHeaders", &policy.allow_headers),
        ("exposeHeaders", &policy.expose_headers),
    ] {
        for (at, header) in list.iter().flatten().enumerate() {
            if header != "*" && !matches::is_header(header) {
                report.refuse(format!("{path}.{name}[{at}]"), header, "the name of a header, or *");
            }
        }
    }
    let preflights = policy.unmatched_preflights.as_deref();
    report.one_of(
        format!("{path}.unmatchedPreflights"),
        preflights,
        &["UNSPECIFIED", "FORWARD", "IGNORE"],
    );
    Cors {
        allow_origins: origins(path, policy, report),
        allow_methods: joined(policy.allow_methods.as_deref()),
        allow_headers: joined(policy.allow_headers.as_deref()),
        expose_headers: joined(policy.expose_headers.as_deref()),
        max_age: max_age(&format!("{path}.maxAge"), policy.max_age.as_deref(), report),
        allow_credentials: policy.allow_credentials.unwrap_or(false),
        forward_unmatched: preflights != Some("IGNORE"),
    }
}

fn origins(path: &str, policy: &CorsPolicy, report: &mut Report) -> Vec<StringMatch> {
    let list = policy.allow_origins.as_deref().unwrap_or_default();
    if list.is_empty() {
        let old = policy.allow_origin.iter().flatten();
        return old.map(|origin| exact(origin)).collect();
    }
    let mut parsed = Vec::new();
    for (at, origin) in list.iter().enumerate() {
        let field = format!("{path}.allowOrigins[{at}]");
        let resource::StringMatch {
            exact: text,
            prefix,
            regex,
        } = origin;
        if [text, prefix, regex].into_iter().flatten().all(String::is_empty) {
            report.refuse(field, "", "exact, prefix or regex, and not empty");
            continue;
        }
        match matches::text(&field, Some(origin), matches::Empty::Anything, report) {
            Some(StringMatch::Exact(text)) => parsed.push(exact(&text)),
            Some(found) => parsed.push(found),
            None => {}
        }
    }
    parsed
}

/// `*` is every origin.
fn exact(origin: &str) -> StringMatch {
    if origin == "*" {
        StringMatch::Prefix("".into())
    } else {
        StringMatch::Exact(origin.into())
    }
}

fn joined(list: Option<&[String]>) -> Option<http::HeaderValue> {
    let list = list.filter(|list| !list.is_empty())?;
    header::value(&list.join(","))
}

/// In whole seconds.
fn max_age(field: &str, text: Option<&str>, report: &mut Report) -> Option<http::HeaderValue> {
    let text = text?;
    let age = duration::whole_milliseconds(text).filter(|age| age.subsec_nanos() == 0);
    if age.is_none() {
        report.refuse(
            field,
            text,
            "a duration of at least a second, in whole seconds, such as 10m",
        );
    }
    age.map(|age| age.as_secs().into())
}
