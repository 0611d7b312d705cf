//! Routes and matches that nothing can reach, since others come before them: what Istio's admission warns of.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::Report;
use crate::virtual_service::resource::{HttpMatch, StringMatch, VirtualServiceSpec};

pub(super) fn check(spec: &VirtualServiceSpec, report: &mut Report) {
    let http = spec.http.iter().flatten().enumerate().map(|(at, route)| Route {
        name: shown("spec.http", at, route.name.as_deref()),
        matches: route
            .matches
            .iter()
            .flatten()
            .enumerate()
            .map(|(at, found)| found_match(at, found))
            .collect(),
    });
    let http: Vec<Route> = http.collect();
    repeated(&http, report);
    overlapping(spec, &http, report);
    let plain = |list: &str, at: usize, matches: Vec<String>| Route {
        name: shown(list, at, None),
        matches: matches
            .into_iter()
            .enumerate()
            .map(|(at, text)| Match {
                name: format!("match[{at}]"),
                text,
            })
            .collect(),
    };
    let tcp = spec.tcp.iter().flatten().enumerate();
    let tcp = tcp.map(|(at, route)| plain("spec.tcp", at, route.matches.iter().flatten().map(written).collect()));
    repeated(&tcp.collect::<Vec<_>>(), report);
    let tls = spec.tls.iter().flatten().enumerate();
    let tls = tls.map(|(at, route)| plain("spec.tls", at, route.matches.iter().map(written).collect()));
    repeated(&tls.collect::<Vec<_>>(), report);
}

/// A route, as far as messages and comparison need it.
struct Route {
    name: String,
    matches: Vec<Match>,
}

struct Match {
    name: String,
    /// Equal for equal matches.
    text: String,
}

fn shown(list: &str, at: usize, name: Option<&str>) -> String {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{list}[{at}] {name:?}"),
        None => format!("{list}[{at}]"),
    }
}

fn found_match(at: usize, found: &HttpMatch) -> Match {
    let unnamed = HttpMatch {
        name: None,
        ..found.clone()
    };
    Match {
        name: shown("match", at, found.name.as_deref()),
        text: written(&unnamed),
    }
}

fn written<T: Serialize>(found: &T) -> String {
    serde_json::to_string(found).unwrap_or_default()
}

/// Warns of routes after one without matches, and of matches that stand in two places.
fn repeated(routes: &[Route], report: &mut Report) {
    let mut before: HashMap<&str, &str> = HashMap::new();
    let mut open = None;
    for route in routes {
        let name = &route.name;
        if let Some(open) = open {
            report.warn(format!(
                "{name} is never reached: {open} comes before it and has no match"
            ));
            continue;
        }
        if route.matches.is_empty() {
            open = Some(name);
            continue;
        }
        let mut duplicates = 0;
        for found in &route.matches {
            if let Some(other) = before.get(&*found.text) {
                report.warn(format!(
                    "{name}: {} is never reached: {other} has the same match",
                    found.name
                ));
                duplicates += 1;
            } else {
                before.insert(&found.text, name);
            }
        }
        if duplicates == route.matches.len() {
            report.warn(format!(
                "{name} is never reached: routes before it have all its matches"
            ));
        }
    }
}

/// A match by the prefix of a path, and what else it asks for; regular expressions are left out.
struct Prefixed<'a> {
    route: &'a str,
    name: &'a str,
    prefix: &'a str,
    port: i64,
    method: String,
    authority: String,
    texts: [BTreeMap<&'a str, String>; 3],
}

/// Warns of matches by prefix that one before them covers.
fn overlapping(spec: &VirtualServiceSpec, shown: &[Route], report: &mut Report) {
    let mut all: Vec<Prefixed<'_>> = Vec::new();
    for (route, shown) in spec.http.iter().flatten().zip(shown) {
        if shown.matches.is_empty() {
            break;
        }
        for (found, Match { name, .. }) in route.matches.iter().flatten().zip(&shown.matches) {
            let Some(prefix) = found.uri.as_ref().and_then(|uri| uri.prefix.as_deref()) else {
                continue;
            };
            if prefix.is_empty() {
                continue;
            }
            let texts = [&found.headers, &found.query_params, &found.without_headers].map(|map| {
                let pairs = map.iter().flatten();
                pairs
                    .map(|(name, found)| (name.as_str(), text(found.as_ref())))
                    .collect()
            });
            let method = text(found.method.as_ref());
            let next = Prefixed {
                route: &shown.name,
                name,
                prefix,
                port: found.port.unwrap_or(0),
                method: if method.is_empty() {
                    "exact:GET".to_owned()
                } else {
                    method
                },
                authority: text(found.authority.as_ref()),
                texts,
            };
            // One is enough to say, and of nested prefixes there may be as many pairs as the square of their number.
            if let Some(earlier) = all.iter().find(|earlier| covers(earlier, &next)) {
                report.warn(format!(
                    "{}: {} of prefix {prefix} is never reached: {} of {} has the prefix {}, which covers it",
                    next.route, next.name, earlier.name, earlier.route, earlier.prefix
                ));
            }
            all.push(next);
        }
    }
}

fn text(found: Option<&StringMatch>) -> String {
    let exact = found
        .and_then(|found| found.exact.as_deref())
        .filter(|text| !text.is_empty());
    let prefix = found
        .and_then(|found| found.prefix.as_deref())
        .filter(|text| !text.is_empty());
    match (exact, prefix) {
        (Some(exact), _) => format!("exact:{exact}"),
        (None, Some(prefix)) => format!("prefix:{prefix}"),
        (None, None) => String::new(),
    }
}

/// Whether Istio takes a match for covered by an earlier one.
fn covers(earlier: &Prefixed<'_>, later: &Prefixed<'_>) -> bool {
    let same_keys = |one: &BTreeMap<&str, String>, other: &BTreeMap<&str, String>| {
        one.len() == other.len()
            && one
                .iter()
                .all(|(key, value)| other.get(key).is_some_and(|other| value.starts_with(other.as_str())))
    };
    earlier.prefix != later.prefix
        && later.prefix.starts_with(earlier.prefix)
        && earlier.port == later.port
        && earlier.method.starts_with(&later.method)
        && earlier.authority.starts_with(&later.authority)
        && earlier
            .texts
            .iter()
            .zip(&later.texts)
            .all(|(one, other)| same_keys(one, other))
}
