//! Routes into messages.

use crate::check::{nanos, texts};
use crate::resources as wire;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use mesh_core::routing::{
    Abort, AbortWith, Action, Cors, Direct, HeaderEdits, HttpMatch, HttpRoute, InSubset, Leads, Mirror, Redirect,
    RedirectPort, RedirectUri, Retries, Rewrite, StringMatch, Target, TcpMatch, TcpRoute, TlsMatch, TlsRoute,
    UriRewrite, Weighted,
};
use std::sync::Arc;

impl From<&HttpRoute> for wire::HttpRoute {
    fn from(route: &HttpRoute) -> Self {
        let action = match &route.action {
            Action::Forward { to, rewrite } => wire::HttpAction::Forward(forward(to, rewrite)),
            Action::Redirect(redirect) => wire::HttpAction::Redirect(redirect.into()),
            Action::Direct(Direct { status, body, text }) => wire::HttpAction::Direct(wire::Direct {
                status: (*status).into(),
                body: body.clone(),
                text: *text,
            }),
        };
        Self {
            name: route.name.to_string(),
            matches: route.matches.iter().map(Into::into).collect(),
            action: Some(action),
            headers: edits(&route.headers),
            delay: route.fault.delay.as_ref().map(|delay| wire::Delay {
                fixed: nanos(delay.fixed),
                millionths: delay.percent.0,
            }),
            abort: route.fault.abort.as_ref().map(abort),
            timeout: route.timeout.map(nanos),
            retries: route.retries.as_ref().map(Into::into),
            mirrors: route.mirrors.iter().map(Into::into).collect(),
            cors: route.cors.as_ref().map(Into::into),
        }
    }
}

fn abort(abort: &Abort) -> wire::Abort {
    wire::Abort {
        with: Some(match abort.with {
            AbortWith::Status(code) => wire::AbortWith::Status(code.into()),
            AbortWith::Grpc(code) => wire::AbortWith::Grpc(code.into()),
        }),
        millionths: abort.percent.0,
    }
}

fn forward(to: &[Weighted], rewrite: &Rewrite) -> wire::Forward {
    wire::Forward {
        to: to.iter().map(Into::into).collect(),
        authority: rewrite.authority.as_ref().map(value),
        uri: match &rewrite.uri {
            UriRewrite::Keep => None,
            UriRewrite::Prefix(text) => Some(wire::UriRewriteKind::Prefix(text.to_string())),
            UriRewrite::Regex { pattern, rewrite } => Some(wire::UriRewriteKind::Regex(wire::RegexRewrite {
                pattern: pattern.text().to_string(),
                rewrite: rewrite.to_string(),
            })),
        }
        .map(|kind| wire::UriRewrite { kind: Some(kind) }),
    }
}

impl From<&HttpMatch> for wire::HttpMatch {
    fn from(it: &HttpMatch) -> Self {
        let optional = |text: &Option<StringMatch>| text.as_ref().map(Into::into);
        let named = |list: &[(Arc<str>, Option<StringMatch>)]| {
            list.iter()
                .map(|(name, value)| wire::NamedMatch {
                    name: name.to_string(),
                    value: optional(value),
                })
                .collect()
        };
        Self {
            uri: optional(&it.uri),
            ignore_uri_case: it.ignore_uri_case,
            scheme: optional(&it.scheme),
            method: optional(&it.method),
            authority: optional(&it.authority),
            headers: named(&it.headers),
            without_headers: named(&it.without_headers),
            query_params: named(&it.query_params),
        }
    }
}

impl From<&StringMatch> for wire::StringMatch {
    fn from(text: &StringMatch) -> Self {
        Self {
            kind: Some(match text {
                StringMatch::Exact(text) => wire::StringMatchKind::Exact(text.to_string()),
                StringMatch::Prefix(text) => wire::StringMatchKind::Prefix(text.to_string()),
                StringMatch::Regex(pattern) => wire::StringMatchKind::Regex(pattern.text().to_string()),
            }),
        }
    }
}

impl From<&Target> for wire::Target {
    fn from(target: &Target) -> Self {
        let (leads, destination) = match target.leads {
            Leads::Own => (wire::Leads::Own, 0),
            Leads::Other(at) => (wire::Leads::Other, at),
            Leads::Nowhere => (wire::Leads::Nowhere, 0),
        };
        let (within, subset) = match target.subset {
            InSubset::All => (wire::InSubset::All, 0),
            InSubset::Of(at) => (wire::InSubset::Of, at),
            InSubset::Unknown => (wire::InSubset::Unknown, 0),
        };
        Self {
            leads: leads.into(),
            destination,
            within: within.into(),
            subset,
        }
    }
}

impl From<&Weighted> for wire::Weighted {
    fn from(to: &Weighted) -> Self {
        Self {
            target: Some((&to.target).into()),
            cluster: to.cluster.to_string(),
            weight: to.weight,
            headers: edits(&to.headers),
        }
    }
}

impl From<&Mirror> for wire::Mirror {
    fn from(mirror: &Mirror) -> Self {
        Self {
            target: Some((&mirror.target).into()),
            cluster: mirror.cluster.to_string(),
            millionths: mirror.percent.0,
        }
    }
}

impl From<&Redirect> for wire::Redirect {
    fn from(redirect: &Redirect) -> Self {
        let (port_of, port) = match redirect.port {
            RedirectPort::Absent => (wire::RedirectPort::Absent, 0),
            RedirectPort::Number(port) => (wire::RedirectPort::Number, port),
            RedirectPort::ProtocolDefault => (wire::RedirectPort::ProtocolDefault, 0),
            RedirectPort::OfRequest => (wire::RedirectPort::OfRequest, 0),
        };
        Self {
            uri: redirect.uri.as_ref().map(|uri| wire::RedirectUri {
                kind: Some(match uri {
                    RedirectUri::Path(text) => wire::RedirectUriKind::Path(text.to_string()),
                    RedirectUri::Prefix(text) => wire::RedirectUriKind::Prefix(text.to_string()),
                }),
            }),
            authority: redirect.authority.as_ref().map(ToString::to_string),
            port_of: port_of.into(),
            port: port.into(),
            scheme: redirect.scheme.as_ref().map(ToString::to_string),
            code: redirect.code.into(),
        }
    }
}

fn edits(edits: &HeaderEdits) -> Option<wire::HeaderEdits> {
    let pairs = |list: &[(HeaderName, HeaderValue)]| {
        list.iter()
            .map(|(name, content)| wire::Header {
                name: name.to_string(),
                value: value(content),
            })
            .collect()
    };
    let names = |list: &[HeaderName]| list.iter().map(ToString::to_string).collect();
    (*edits != HeaderEdits::default()).then(|| wire::HeaderEdits {
        request_set: pairs(&edits.request_set),
        request_add: pairs(&edits.request_add),
        request_remove: names(&edits.request_remove),
        response_set: pairs(&edits.response_set),
        response_add: pairs(&edits.response_add),
        response_remove: names(&edits.response_remove),
    })
}

fn value(value: &HeaderValue) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(value.as_bytes())
}

impl From<&Retries> for wire::Retries {
    fn from(retries: &Retries) -> Self {
        let on = &retries.on;
        let conditions = [
            (on.server_errors, wire::RetryCondition::ServerErrors),
            (on.gateway_errors, wire::RetryCondition::GatewayErrors),
            (on.reset, wire::RetryCondition::Reset),
            (on.reset_before_request, wire::RetryCondition::ResetBeforeRequest),
            (on.connect_failure, wire::RetryCondition::ConnectFailure),
            (on.refused_stream, wire::RetryCondition::RefusedStream),
            (on.conflict, wire::RetryCondition::Conflict),
            (on.rate_limited, wire::RetryCondition::RateLimited),
        ];
        Self {
            attempts: retries.attempts,
            per_try_timeout: retries.per_try_timeout.map(nanos),
            on: conditions
                .into_iter()
                .filter_map(|(set, condition)| set.then_some(condition.into()))
                .collect(),
            statuses: on.statuses.iter().map(|code| (*code).into()).collect(),
            grpc: on.grpc.iter().map(|code| (*code).into()).collect(),
            remote_localities: retries.remote_localities,
            avoid_previous: retries.avoid_previous,
            backoff: nanos(retries.backoff.base),
        }
    }
}

impl From<&Cors> for wire::Cors {
    fn from(cors: &Cors) -> Self {
        let optional = |content: &Option<HeaderValue>| content.as_ref().map(value);
        Self {
            allow_origins: cors.allow_origins.iter().map(Into::into).collect(),
            allow_methods: optional(&cors.allow_methods),
            allow_headers: optional(&cors.allow_headers),
            expose_headers: optional(&cors.expose_headers),
            max_age: optional(&cors.max_age),
            allow_credentials: cors.allow_credentials,
            forward_unmatched: cors.forward_unmatched,
        }
    }
}

impl From<&TlsRoute> for wire::TlsRoute {
    fn from(route: &TlsRoute) -> Self {
        let matches = route.matches.iter().map(
            |TlsMatch {
                 sni_hosts,
                 destination_subnets,
             }| wire::TlsMatch {
                sni_hosts: texts(sni_hosts),
                destination_subnets: subnets(destination_subnets),
            },
        );
        Self {
            matches: matches.collect(),
            to: route.to.iter().map(Into::into).collect(),
        }
    }
}

impl From<&TcpRoute> for wire::TcpRoute {
    fn from(route: &TcpRoute) -> Self {
        let matches = route.matches.iter().map(
            |TcpMatch {
                 destination_subnets,
                 source_subnet,
             }| wire::TcpMatch {
                destination_subnets: subnets(destination_subnets),
                source_subnet: source_subnet.as_ref().map(ToString::to_string),
            },
        );
        Self {
            matches: matches.collect(),
            to: route.to.iter().map(Into::into).collect(),
        }
    }
}

fn subnets(list: &[IpNet]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}
