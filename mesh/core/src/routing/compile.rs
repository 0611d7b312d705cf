//! From the VirtualServices that speak for a host to what one client gets of them.

use super::http::{Action, HttpRoute, Mirror, Retries, Weighted};
use super::matches::{HttpMatch, StringMatch};
use super::services::{Effective, Speaking};
use super::tcp::{TcpMatch, TcpRoute, TlsMatch, TlsRoute};
use super::{ConnectionRule, HeaderEdits, HttpRule, Percent, Reference, Routes, Target};
use std::sync::Arc;

/// What a reference leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// The destination and its subset.
    pub target: Target,
    /// The port of its host, whether it exists or not.
    pub port: u16,
}

impl Speaking<'_> {
    /// The routes that are for the client; `None` where none is. `lead` says what a reference, with a fully qualified host,
    /// leads to; whoever calls puts the other destinations into [`Routes::destinations`]. `retries` are the mesh's own, for
    /// routes that say nothing of retries.
    #[must_use]
    pub fn compile(&self, retries: Option<&Retries>, mut lead: impl FnMut(&Reference) -> Lead) -> Option<Routes> {
        let mut routes = Routes::default();
        let mut from = |one: &Effective| {
            for source in &one.sources {
                if !routes.sources.contains(source) {
                    routes.sources.push(source.clone());
                }
            }
        };
        if let Some(one) = self.requests {
            from(one);
            for rule in &one.http {
                let Some(matches) = self.left_of(rule) else { continue };
                let everything = matches.is_empty() || matches.iter().any(is_everything);
                routes.http.push(http(rule, matches, retries, &mut lead));
                if everything {
                    break;
                }
            }
        }
        for one in &self.connections {
            let tls: Vec<_> = one.tls.iter().filter_map(|rule| self.tls(rule, &mut lead)).collect();
            if !tls.is_empty() {
                from(one);
                routes.tls.extend(tls);
            }
        }
        'all: for one in &self.connections {
            for rule in &one.tcp {
                let Some(route) = self.tcp(rule, &mut lead) else {
                    continue;
                };
                from(one);
                let everything = route.matches.is_empty() || route.matches.contains(&TcpMatch::default());
                routes.tcp.push(route);
                if everything {
                    break 'all;
                }
            }
        }
        let any = !routes.http.is_empty() || !routes.tls.is_empty() || !routes.tcp.is_empty();
        any.then_some(routes)
    }

    /// The matches of a rule that this client can make; `None` where it has some, and none is left.
    fn left_of(&self, rule: &HttpRule) -> Option<Vec<HttpMatch>> {
        let of_client = rule
            .matches
            .iter()
            .filter(|one| one.client.holds_of_requests(&self.client, self.port));
        let left: Vec<HttpMatch> = of_client.map(|one| one.asked.clone()).collect();
        (rule.matches.is_empty() || !left.is_empty()).then_some(left)
    }

    fn tls(&self, rule: &ConnectionRule<TlsMatch>, lead: &mut impl FnMut(&Reference) -> Lead) -> Option<TlsRoute> {
        let matches = self.connections_of(rule);
        (!matches.is_empty() && !rule.to.is_empty()).then(|| TlsRoute {
            matches,
            to: by_weight(&rule.to, lead),
        })
    }

    fn tcp(&self, rule: &ConnectionRule<TcpMatch>, lead: &mut impl FnMut(&Reference) -> Lead) -> Option<TcpRoute> {
        let matches = self.connections_of(rule);
        let any = rule.matches.is_empty() || !matches.is_empty();
        (any && !rule.to.is_empty()).then(|| TcpRoute {
            matches,
            to: by_weight(&rule.to, lead),
        })
    }

    fn connections_of<M: Clone>(&self, rule: &ConnectionRule<M>) -> Vec<M> {
        let of_client = rule
            .matches
            .iter()
            .filter(|one| one.client.holds_of_connections(&self.client, self.port));
        of_client.map(|one| one.asked.clone()).collect()
    }
}

fn http(
    rule: &HttpRule,
    matches: Vec<HttpMatch>,
    retries: Option<&Retries>,
    lead: &mut impl FnMut(&Reference) -> Lead,
) -> HttpRoute {
    let route = &rule.route;
    let action = match &route.action {
        Action::Forward { to, rewrite } => Action::Forward {
            to: counting(to, |to| to.weight)
                .map(|to| weighted(&to.target, to.weight, to.headers.clone(), lead))
                .collect(),
            rewrite: rewrite.clone(),
        },
        Action::Redirect(redirect) => Action::Redirect(redirect.clone()),
        Action::Direct(direct) => Action::Direct(direct.clone()),
    };
    let mirrors = route.mirrors.iter().filter(|mirror| mirror.percent > Percent(0));
    let mirrors = mirrors.map(|mirror| {
        let found = lead(&mirror.target);
        Mirror {
            target: found.target,
            cluster: cluster(&mirror.target, found.port),
            percent: mirror.percent,
        }
    });
    HttpRoute {
        name: route.name.clone(),
        matches,
        action,
        headers: route.headers.clone(),
        fault: route.fault.clone(),
        timeout: route.timeout,
        retries: route.retries.clone().or_else(|| retries.cloned()),
        mirrors: mirrors.collect(),
        cors: route.cors.clone(),
    }
}

/// Those of several that have a weight, else the first.
fn counting<T>(all: &[T], weight: impl Fn(&T) -> u32) -> impl Iterator<Item = &T> {
    let any = all.iter().any(|one| weight(one) > 0);
    let counts = move |(at, one): &(usize, &T)| if any { weight(one) > 0 } else { *at == 0 };
    all.iter().enumerate().filter(counts).map(|(_, one)| one)
}

fn by_weight(to: &[(Reference, u32)], lead: &mut impl FnMut(&Reference) -> Lead) -> Vec<Weighted> {
    counting(to, |(_, weight)| *weight)
        .map(|(reference, weight)| weighted(reference, *weight, HeaderEdits::default(), lead))
        .collect()
}

fn weighted(
    reference: &Reference,
    weight: u32,
    headers: HeaderEdits,
    lead: &mut impl FnMut(&Reference) -> Lead,
) -> Weighted {
    let found = lead(reference);
    Weighted {
        target: found.target,
        cluster: cluster(reference, found.port),
        weight,
        headers,
    }
}

/// Istio's name for a cluster, whether it exists or not.
fn cluster(reference: &Reference, port: u16) -> Arc<str> {
    let subset = reference.subset.as_deref().unwrap_or_default();
    format!("outbound|{port}|{subset}|{}", reference.host).into()
}

/// Whether every request matches: no route behind it is ever reached.
fn is_everything(one: &HttpMatch) -> bool {
    let uri = match &one.uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => **prefix == *"/",
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => false,
    };
    let rest = HttpMatch {
        uri: one.uri.clone(),
        ignore_uri_case: one.ignore_uri_case,
        ..HttpMatch::default()
    };
    uri && *one == rest
}
