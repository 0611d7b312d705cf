//! Routes of other VirtualServices in the place of a route: `delegate`.
//!
//! A delegate's route takes part where what it matches is within what the root's route matches; it has the root's settings
//! where it has none of its own. One level deep, as in Istio.

use super::Fault;
use super::http::{Action, HeaderEdits, HttpRoute, Rewrite};
use super::matches::{HttpMatch, StringMatch};
use super::services::resolved;
use super::virtual_service::{ClientMatch, Condition, HttpRule, Reference, VirtualService};
use std::sync::Arc;

/// A VirtualService's `http` with its delegates followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) http: Vec<HttpRule>,
    /// Where each of them is written.
    pub(super) fields: Vec<Arc<str>>,
    pub(super) sources: Vec<Arc<str>>,
    pub(super) problems: Vec<String>,
}

type Name = (Arc<str>, Arc<str>);

/// Follows the delegates of a VirtualService, which `find` finds, and qualifies the names of destinations.
pub(super) fn follow<'a>(
    root: &VirtualService,
    cluster_domain: &str,
    find: impl Fn(&Name) -> Option<&'a VirtualService>,
) -> Followed {
    let mut followed = Followed {
        sources: vec![format!("{}/{}", root.namespace, root.name).into()],
        ..Followed::default()
    };
    for (at, rule) in root.http.iter().enumerate() {
        let rule = qualified(rule, &root.namespace, cluster_domain);
        let Some(name) = &rule.delegate else {
            followed.http.push(rule);
            followed.fields.push(format!("http[{at}]").into());
            continue;
        };
        let key = format!("{}/{}", name.0, name.1);
        let mut problem = |text: &str| followed.problems.push(format!("http[{at}].delegate {key}: {text}"));
        let Some(delegate) = find(name).filter(|delegate| delegate.hosts.is_empty()) else {
            problem("there is no VirtualService of that name without hosts");
            continue;
        };
        if !delegate.export_to.reaches(&root.namespace, &delegate.namespace) {
            problem("its exportTo leaves this namespace out");
            continue;
        }
        for (number, leaf) in delegate.http.iter().enumerate() {
            if leaf.delegate.is_some() {
                problem(&format!(
                    "its http[{number}] has a delegate, which is followed one level deep"
                ));
                continue;
            }
            match merged(&rule, &qualified(leaf, &delegate.namespace, cluster_domain)) {
                Some(merged) => {
                    followed.http.push(merged);
                    followed.fields.push(format!("{key} http[{number}]").into());
                }
                None => problem(&format!(
                    "its http[{number}] matches what http[{at}] does not, and is ignored"
                )),
            }
        }
        let key: Arc<str> = key.into();
        if !followed.sources.contains(&key) {
            followed.sources.push(key);
        }
    }
    followed
}

/// A rule with the names of its destinations fully qualified.
fn qualified(rule: &HttpRule, namespace: &str, cluster_domain: &str) -> HttpRule {
    let mut rule = rule.clone();
    let qualify = |target: &mut Reference| *target = resolved(target, namespace, cluster_domain);
    if let Action::Forward { to, .. } = &mut rule.route.action {
        for one in to {
            qualify(&mut one.target);
        }
    }
    for mirror in &mut rule.route.mirrors {
        qualify(&mut mirror.target);
    }
    rule
}

/// A delegate's route in the place of the root's; `None` where it matches what the root's does not.
fn merged(root: &HttpRule, leaf: &HttpRule) -> Option<HttpRule> {
    let matches = match (&root.matches[..], &leaf.matches[..]) {
        ([], matches) | (matches, []) => matches.to_vec(),
        (roots, leaves) => {
            let mut merged = Vec::new();
            for leaf in leaves {
                let within = roots.iter().filter(|root| !conflicts(root, leaf));
                let before = merged.len();
                merged.extend(within.map(|root| merged_condition(root, leaf)));
                if merged.len() == before {
                    return None;
                }
            }
            merged
        }
    };
    Some(HttpRule {
        matches,
        delegate: None,
        route: inherited(&root.route, &leaf.route),
    })
}

/// A delegate's route with what it has not from the root's.
fn inherited(root: &HttpRoute<Reference>, leaf: &HttpRoute<Reference>) -> HttpRoute<Reference> {
    let mut route = leaf.clone();
    route.name = match (&*root.name, &*leaf.name) {
        (_, "") => root.name.clone(),
        ("", _) => leaf.name.clone(),
        (root, leaf) => format!("{root}-{leaf}").into(),
    };
    match (&root.action, &mut route.action) {
        (Action::Direct(direct), action @ Action::Forward { .. }) => *action = Action::Direct(direct.clone()),
        (Action::Forward { rewrite: outer, .. }, Action::Forward { rewrite, .. }) if *rewrite == Rewrite::default() => {
            rewrite.clone_from(outer);
        }
        _ => {}
    }
    if route.headers == HeaderEdits::default() {
        route.headers = root.headers.clone();
    }
    if route.fault == Fault::default() {
        route.fault = root.fault.clone();
    }
    route.timeout = route.timeout.or(root.timeout);
    route.retries = route.retries.or_else(|| root.retries.clone());
    route.cors = route.cors.or_else(|| root.cors.clone());
    if route.mirrors.is_empty() {
        route.mirrors = root.mirrors.clone();
    }
    route
}

fn merged_condition(root: &Condition<HttpMatch>, leaf: &Condition<HttpMatch>) -> Condition<HttpMatch> {
    let (outer, inner) = (&root.asked, &leaf.asked);
    let either = |inner: &Option<StringMatch>, outer: &Option<StringMatch>| inner.as_ref().or(outer.as_ref()).cloned();
    let mut source_labels = root.client.source_labels.clone();
    source_labels.extend(leaf.client.source_labels.clone());
    let own = |gateways: &[Arc<str>]| !gateways.is_empty();
    Condition {
        client: ClientMatch {
            gateways: if own(&leaf.client.gateways) {
                leaf.client.gateways.clone()
            } else {
                root.client.gateways.clone()
            },
            port: leaf.client.port.or(root.client.port),
            source_labels,
            source_namespace: leaf
                .client
                .source_namespace
                .clone()
                .or_else(|| root.client.source_namespace.clone()),
        },
        asked: HttpMatch {
            uri: either(&inner.uri, &outer.uri),
            ignore_uri_case: inner.ignore_uri_case,
            scheme: either(&inner.scheme, &outer.scheme),
            method: either(&inner.method, &outer.method),
            authority: either(&inner.authority, &outer.authority),
            headers: united(&outer.headers, &inner.headers),
            without_headers: united(&outer.without_headers, &inner.without_headers),
            query_params: united(&outer.query_params, &inner.query_params),
        },
    }
}

type Named = (Arc<str>, Option<StringMatch>);

/// Both; what the delegate says of a name prevails.
fn united(root: &[Named], leaf: &[Named]) -> Vec<Named> {
    let mut all: Vec<Named> = root
        .iter()
        .filter(|(name, _)| !leaf.iter().any(|(other, _)| other == name))
        .cloned()
        .collect();
    all.extend_from_slice(leaf);
    all
}

/// Whether a delegate's match asks for something that the root's does not let through.
fn conflicts(root: &Condition<HttpMatch>, leaf: &Condition<HttpMatch>) -> bool {
    let (outer, inner) = (&root.asked, &leaf.asked);
    let texts = [
        (&outer.uri, &inner.uri),
        (&outer.scheme, &inner.scheme),
        (&outer.method, &inner.method),
        (&outer.authority, &inner.authority),
    ];
    let text = texts.into_iter().any(|(root, leaf)| match (root, leaf) {
        (Some(root), Some(leaf)) => !contains(root, leaf),
        _ => false,
    });
    text || named_conflict(&outer.headers, &inner.headers)
        || named_conflict(&outer.without_headers, &inner.without_headers)
        || named_conflict(&outer.query_params, &inner.query_params)
        || outer.ignore_uri_case != inner.ignore_uri_case
        || client_conflict(&root.client, &leaf.client)
}

fn named_conflict(root: &[Named], leaf: &[Named]) -> bool {
    leaf.iter().any(|(name, leaf)| {
        let found = root.iter().find(|(other, _)| other == name);
        found.is_some_and(|(_, root)| match (root, leaf) {
            (Some(root), Some(leaf)) => !contains(root, leaf),
            // Istio lets a name whose value nobody looks at through in one of the two alone.
            _ => true,
        })
    })
}

/// Whether every text that the second matches is one that the first does, as far as Istio looks: never for a regular
/// expression.
fn contains(root: &StringMatch, leaf: &StringMatch) -> bool {
    match (root, leaf) {
        (StringMatch::Exact(root), StringMatch::Exact(leaf)) => root == leaf,
        (StringMatch::Prefix(root), StringMatch::Exact(leaf) | StringMatch::Prefix(leaf)) => leaf.starts_with(&**root),
        _ => false,
    }
}

fn client_conflict(root: &ClientMatch, leaf: &ClientMatch) -> bool {
    let port = matches!((root.port, leaf.port), (Some(root), Some(leaf)) if root != leaf);
    // Only in this field does a delegate have to repeat what the root says.
    let namespace = root.source_namespace.is_some() && leaf.source_namespace != root.source_namespace;
    let labels = leaf.source_labels.iter().any(|(key, value)| {
        let root = root.source_labels.get(key);
        root.is_some_and(|root| root != value)
    });
    let gateways = !root.gateways.is_empty()
        && (root.gateways.len() < leaf.gateways.len()
            || leaf.gateways.iter().any(|gateway| !root.gateways.contains(gateway)));
    port || namespace || labels || gateways
}
