//! Between the messages of routes and `mesh_core`'s types. Routes are refused whole when any match, target or fault in them
//! is not what it must be: what is half understood would send requests where they do not belong.

mod write;

use crate::check::{bounded, each, known, named, refused, shared, status, texts, within};
use crate::convert::{ConvertError, port};
use crate::resources as wire;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use mesh_core::destination::Destination;
use mesh_core::routing::{
    Abort, AbortWith, Action, Backoff, Cors, Delay, Direct, Fault, HeaderEdits, HttpMatch, HttpRoute, InSubset, Leads,
    Mirror, Pattern, PatternError, Percent, Redirect, RedirectPort, RedirectUri, Retries, RetryOn, Rewrite, Routes,
    StringMatch, Target, TcpMatch, TcpRoute, TlsMatch, TlsRoute, UriRewrite, Weighted,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The most routes of a kind for one host and port.
pub(crate) const MOST_ROUTES: usize = 10_000;
/// The most matches of a route, conditions of a match, targets, mirrors, or edits of headers.
pub(crate) const MOST_ENTRIES: usize = 1000;
/// The most regular expressions in all routes of a host and port.
pub(crate) const MOST_PATTERNS: usize = 5000;
/// The most destinations to which the routes of a host and port lead, and the most subsets of one.
pub(crate) const MOST_DESTINATIONS: usize = 5000;
/// The longest body of a direct response, in bytes.
pub(crate) const MOST_BODY_BYTES: usize = 1 << 20;

/// A header or a parameter, and what it must be.
type NamedMatch = (Arc<str>, Option<StringMatch>);

/// Reads the routes of a destination that has so many subsets.
///
/// # Errors
/// [`ConvertError`], which names the field.
pub(crate) fn routes(message: &wire::Routes, subsets: usize) -> Result<Routes, ConvertError> {
    if !(1..=wire::ROUTES_LANGUAGE).contains(&message.language) {
        return Err(ConvertError::Language(message.language));
    }
    bounded("routes.sources", &message.sources, MOST_ROUTES)?;
    bounded("routes.http", &message.http, MOST_ROUTES)?;
    bounded("routes.tls", &message.tls, MOST_ROUTES)?;
    bounded("routes.tcp", &message.tcp, MOST_ROUTES)?;
    bounded("routes.destinations", &message.destinations, MOST_DESTINATIONS)?;
    let destinations = each("routes.destinations", &message.destinations, |destination| {
        if destination.routes.is_some() {
            return Err(ConvertError::Nested);
        }
        Destination::try_from(destination).map(Arc::new)
    })?;
    let mut reader = Reader {
        subsets,
        destinations: &destinations,
        patterns: MOST_PATTERNS,
    };
    Ok(Routes {
        sources: shared(&message.sources),
        http: each("routes.http", &message.http, |route| reader.http(route))?,
        tls: each("routes.tls", &message.tls, |route| reader.tls(route))?,
        tcp: each("routes.tcp", &message.tcp, |route| reader.tcp(route))?,
        destinations,
    })
}

impl From<&Routes> for wire::Routes {
    fn from(routes: &Routes) -> Self {
        Self {
            language: wire::ROUTES_LANGUAGE,
            sources: texts(&routes.sources),
            http: routes.http.iter().map(Into::into).collect(),
            tls: routes.tls.iter().map(Into::into).collect(),
            tcp: routes.tcp.iter().map(Into::into).collect(),
            destinations: routes.destinations.iter().map(|it| (&**it).into()).collect(),
        }
    }
}

/// Reads routes, knowing what they may lead to.
struct Reader<'a> {
    subsets: usize,
    destinations: &'a [Arc<Destination>],
    /// How many more regular expressions there may be.
    patterns: usize,
}

impl Reader<'_> {
    fn http(&mut self, message: &wire::HttpRoute) -> Result<HttpRoute, ConvertError> {
        bounded("match", &message.matches, MOST_ENTRIES)?;
        bounded("mirrors", &message.mirrors, MOST_ENTRIES)?;
        let action = match known("action", message.action.as_ref())? {
            wire::HttpAction::Forward(forward) => Action::Forward {
                to: self.weighted(&forward.to)?,
                rewrite: Rewrite {
                    authority: forward
                        .authority
                        .as_ref()
                        .map(|value| header_value("rewrite.authority", value))
                        .transpose()?,
                    uri: match &forward.uri {
                        None => UriRewrite::Keep,
                        Some(uri) => self.uri_rewrite(uri)?,
                    },
                },
            },
            wire::HttpAction::Redirect(it) => Action::Redirect(redirect(it)?),
            wire::HttpAction::Direct(it) => Action::Direct(direct(it)?),
        };
        Ok(HttpRoute {
            name: message.name.as_str().into(),
            matches: each("match", &message.matches, |it| self.http_match(it))?,
            action,
            headers: edits(message.headers.as_ref())?,
            fault: Fault {
                delay: message.delay.as_ref().map(delay).transpose()?,
                abort: message.abort.as_ref().map(abort).transpose()?,
            },
            timeout: message.timeout.map(Duration::from_nanos),
            retries: message.retries.as_ref().map(retries).transpose()?,
            mirrors: each("mirrors", &message.mirrors, |mirror| {
                Ok(Mirror {
                    target: self.target(mirror.target.as_ref())?,
                    cluster: mirror.cluster.as_str().into(),
                    percent: percent(mirror.millionths)?,
                })
            })?,
            cors: message.cors.as_ref().map(|it| self.cors(it)).transpose()?,
        })
    }

    fn http_match(&mut self, message: &wire::HttpMatch) -> Result<HttpMatch, ConvertError> {
        Ok(HttpMatch {
            uri: self.optional("uri", message.uri.as_ref())?,
            ignore_uri_case: message.ignore_uri_case,
            scheme: self.optional("scheme", message.scheme.as_ref())?,
            method: self.optional("method", message.method.as_ref())?,
            authority: self.optional("authority", message.authority.as_ref())?,
            headers: self.named("headers", &message.headers)?,
            without_headers: self.named("without_headers", &message.without_headers)?,
            query_params: self.named("query_params", &message.query_params)?,
        })
    }

    fn named(&mut self, field: &'static str, messages: &[wire::NamedMatch]) -> Result<Vec<NamedMatch>, ConvertError> {
        bounded(field, messages, MOST_ENTRIES)?;
        each(field, messages, |message| {
            Ok((
                named("name", &message.name)?,
                self.optional("value", message.value.as_ref())?,
            ))
        })
    }

    fn optional(
        &mut self,
        field: &'static str,
        message: Option<&wire::StringMatch>,
    ) -> Result<Option<StringMatch>, ConvertError> {
        message.map(|message| self.text(field, message)).transpose()
    }

    fn text(&mut self, field: &'static str, message: &wire::StringMatch) -> Result<StringMatch, ConvertError> {
        Ok(match known(field, message.kind.as_ref())? {
            wire::StringMatchKind::Exact(text) => StringMatch::Exact(text.as_str().into()),
            wire::StringMatchKind::Prefix(text) => StringMatch::Prefix(text.as_str().into()),
            wire::StringMatchKind::Regex(text) => StringMatch::Regex(self.pattern(field, text)?),
        })
    }

    fn pattern(&mut self, field: &'static str, text: &str) -> Result<Pattern, ConvertError> {
        self.patterns = self.patterns.checked_sub(1).ok_or(ConvertError::TooMany {
            field: "routes: regular expressions",
            count: MOST_PATTERNS + 1,
            most: MOST_PATTERNS,
        })?;
        known_pattern(text).map_err(|error| refused(field, text, error))
    }

    fn uri_rewrite(&mut self, message: &wire::UriRewrite) -> Result<UriRewrite, ConvertError> {
        Ok(match known("rewrite.uri", message.kind.as_ref())? {
            wire::UriRewriteKind::Prefix(text) => UriRewrite::Prefix(text.as_str().into()),
            wire::UriRewriteKind::Regex(regex) => UriRewrite::Regex {
                pattern: self.pattern("rewrite.uri.regex", &regex.pattern)?,
                rewrite: regex.rewrite.as_str().into(),
            },
        })
    }

    fn cors(&mut self, message: &wire::Cors) -> Result<Cors, ConvertError> {
        bounded("cors.allow_origins", &message.allow_origins, MOST_ENTRIES)?;
        let value =
            |field, value: &Option<bytes::Bytes>| value.as_ref().map(|value| header_value(field, value)).transpose();
        Ok(Cors {
            allow_origins: each("cors.allow_origins", &message.allow_origins, |it| {
                self.text("origin", it)
            })?,
            allow_methods: value("cors.allow_methods", &message.allow_methods)?,
            allow_headers: value("cors.allow_headers", &message.allow_headers)?,
            expose_headers: value("cors.expose_headers", &message.expose_headers)?,
            max_age: value("cors.max_age", &message.max_age)?,
            allow_credentials: message.allow_credentials,
            forward_unmatched: message.forward_unmatched,
        })
    }

    fn weighted(&self, messages: &[wire::Weighted]) -> Result<Vec<Weighted>, ConvertError> {
        bounded("route", messages, MOST_ENTRIES)?;
        each("route", messages, |message| {
            Ok(Weighted {
                target: self.target(message.target.as_ref())?,
                cluster: message.cluster.as_str().into(),
                weight: message.weight,
                headers: edits(message.headers.as_ref())?,
            })
        })
    }

    fn target(&self, message: Option<&wire::Target>) -> Result<Target, ConvertError> {
        let message = known("target", message)?;
        let missing = |field, value| ConvertError::Index { field, value };
        let (leads, subsets) = match wire::Leads::try_from(message.leads) {
            Ok(wire::Leads::Own) => (Leads::Own, self.subsets),
            Ok(wire::Leads::Nowhere) => (Leads::Nowhere, 0),
            Ok(wire::Leads::Other) => {
                let at = usize::try_from(message.destination).ok();
                let other = at.and_then(|at| self.destinations.get(at));
                let other = other.ok_or(missing("target.destination", message.destination))?;
                (Leads::Other(message.destination), other.subsets.len())
            }
            Ok(wire::Leads::Invalid) | Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "target.leads",
                    value: message.leads,
                });
            }
        };
        let subset = match wire::InSubset::try_from(message.within) {
            Ok(wire::InSubset::All) => InSubset::All,
            Ok(wire::InSubset::Unknown) => InSubset::Unknown,
            Ok(wire::InSubset::Of) if usize::try_from(message.subset).is_ok_and(|at| at < subsets) => {
                InSubset::Of(message.subset)
            }
            Ok(wire::InSubset::Of) => return Err(missing("target.subset", message.subset)),
            Ok(wire::InSubset::Invalid) | Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "target.within",
                    value: message.within,
                });
            }
        };
        Ok(Target { leads, subset })
    }

    fn tls(&self, message: &wire::TlsRoute) -> Result<TlsRoute, ConvertError> {
        bounded("match", &message.matches, MOST_ENTRIES)?;
        Ok(TlsRoute {
            matches: each("match", &message.matches, |it| {
                bounded("sni_hosts", &it.sni_hosts, MOST_ENTRIES)?;
                Ok(TlsMatch {
                    sni_hosts: shared(&it.sni_hosts),
                    destination_subnets: subnets(&it.destination_subnets)?,
                })
            })?,
            to: self.weighted(&message.to)?,
        })
    }

    fn tcp(&self, message: &wire::TcpRoute) -> Result<TcpRoute, ConvertError> {
        bounded("match", &message.matches, MOST_ENTRIES)?;
        Ok(TcpRoute {
            matches: each("match", &message.matches, |it| {
                Ok(TcpMatch {
                    destination_subnets: subnets(&it.destination_subnets)?,
                    source_subnet: it
                        .source_subnet
                        .as_deref()
                        .map(|text| subnet("source_subnet", text))
                        .transpose()?,
                })
            })?,
            to: self.weighted(&message.to)?,
        })
    }
}

thread_local! {
    /// Expressions that were compiled before. An endpoint that comes or goes makes a new version of a destination with its
    /// routes, and in nearly all of them the expressions stay as they are.
    static COMPILED: RefCell<HashMap<Box<str>, Pattern>> = RefCell::default();
}

fn known_pattern(text: &str) -> Result<Pattern, PatternError> {
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(pattern) = compiled.get(text) {
            return Ok(pattern.clone());
        }
        let pattern = Pattern::new(text)?;
        if compiled.len() >= MOST_ENTRIES {
            compiled.clear();
        }
        compiled.insert(text.into(), pattern.clone());
        Ok(pattern)
    })
}

fn subnets(messages: &[String]) -> Result<Vec<IpNet>, ConvertError> {
    bounded("destination_subnets", messages, MOST_ENTRIES)?;
    messages
        .iter()
        .map(|text| subnet("destination_subnets", text))
        .collect()
}

fn subnet(field: &'static str, text: &str) -> Result<IpNet, ConvertError> {
    text.parse()
        .map_err(|_| refused(field, text, "expected ADDRESS/PREFIX_LENGTH"))
}

fn percent(millionths: u32) -> Result<Percent, ConvertError> {
    let holds = |value| value <= Percent::ALL.0;
    within("percentage", millionths, holds, "0 to 1000000 millionths").map(Percent)
}

fn delay(message: &wire::Delay) -> Result<Delay, ConvertError> {
    Ok(Delay {
        fixed: Duration::from_nanos(message.fixed),
        percent: percent(message.millionths)?,
    })
}

fn abort(message: &wire::Abort) -> Result<Abort, ConvertError> {
    Ok(Abort {
        with: match known("fault.abort", message.with)? {
            wire::AbortWith::Status(code) => AbortWith::Status(status("fault.abort.status", code)?),
            wire::AbortWith::Grpc(code) => AbortWith::Grpc(grpc_status("fault.abort.grpc", code)?),
        },
        percent: percent(message.millionths)?,
    })
}

fn grpc_status(field: &'static str, value: u32) -> Result<u8, ConvertError> {
    within(field, value, |_| true, "0 to 255")
}

fn direct(message: &wire::Direct) -> Result<Direct, ConvertError> {
    bounded("direct.body", &message.body, MOST_BODY_BYTES)?;
    Ok(Direct {
        status: status("direct.status", message.status)?,
        body: message.body.clone(),
        text: message.text,
    })
}

fn redirect(message: &wire::Redirect) -> Result<Redirect, ConvertError> {
    let optional = |text: &Option<String>| text.as_deref().map(Into::into);
    let uri = |message: &wire::RedirectUri| -> Result<RedirectUri, ConvertError> {
        Ok(match known("redirect.uri", message.kind.as_ref())? {
            wire::RedirectUriKind::Path(text) => RedirectUri::Path(text.as_str().into()),
            wire::RedirectUriKind::Prefix(text) => RedirectUri::Prefix(text.as_str().into()),
        })
    };
    Ok(Redirect {
        uri: message.uri.as_ref().map(uri).transpose()?,
        authority: optional(&message.authority),
        port: match wire::RedirectPort::try_from(message.port_of) {
            Ok(wire::RedirectPort::Absent) => RedirectPort::Absent,
            Ok(wire::RedirectPort::Number) => RedirectPort::Number(port("redirect.port", message.port)?),
            Ok(wire::RedirectPort::ProtocolDefault) => RedirectPort::ProtocolDefault,
            Ok(wire::RedirectPort::OfRequest) => RedirectPort::OfRequest,
            Ok(wire::RedirectPort::Invalid) | Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "redirect.port_of",
                    value: message.port_of,
                });
            }
        },
        scheme: optional(&message.scheme),
        code: within(
            "redirect.code",
            message.code,
            |code| (300..400).contains(&code),
            "300 to 399",
        )?,
    })
}

fn edits(message: Option<&wire::HeaderEdits>) -> Result<HeaderEdits, ConvertError> {
    let Some(message) = message else {
        return Ok(HeaderEdits::default());
    };
    let pairs = |field, headers: &[wire::Header]| {
        bounded(field, headers, MOST_ENTRIES)?;
        each(field, headers, |header| {
            Ok((header_name(&header.name)?, header_value("value", &header.value)?))
        })
    };
    let names = |field, names: &[String]| {
        bounded(field, names, MOST_ENTRIES)?;
        each(field, names, |name| header_name(name))
    };
    Ok(HeaderEdits {
        request_set: pairs("headers.request.set", &message.request_set)?,
        request_add: pairs("headers.request.add", &message.request_add)?,
        request_remove: names("headers.request.remove", &message.request_remove)?,
        response_set: pairs("headers.response.set", &message.response_set)?,
        response_add: pairs("headers.response.add", &message.response_add)?,
        response_remove: names("headers.response.remove", &message.response_remove)?,
    })
}

fn header_name(name: &str) -> Result<HeaderName, ConvertError> {
    name.parse()
        .map_err(|_| refused("name", name, "not the name of a header"))
}

fn header_value(field: &'static str, value: &[u8]) -> Result<HeaderValue, ConvertError> {
    HeaderValue::from_bytes(value)
        .map_err(|_| refused(field, &String::from_utf8_lossy(value), "not the value of a header"))
}

fn retries(message: &wire::Retries) -> Result<Retries, ConvertError> {
    bounded("retries.on", &message.on, MOST_ENTRIES)?;
    bounded("retries.statuses", &message.statuses, MOST_ENTRIES)?;
    bounded("retries.grpc", &message.grpc, MOST_ENTRIES)?;
    let mut on = RetryOn {
        statuses: each("retries.statuses", &message.statuses, |code| status("status", *code))?,
        grpc: each("retries.grpc", &message.grpc, |code| grpc_status("status", *code))?,
        ..RetryOn::default()
    };
    for condition in &message.on {
        let flag = match wire::RetryCondition::try_from(*condition) {
            Ok(wire::RetryCondition::ServerErrors) => &mut on.server_errors,
            Ok(wire::RetryCondition::GatewayErrors) => &mut on.gateway_errors,
            Ok(wire::RetryCondition::Reset) => &mut on.reset,
            Ok(wire::RetryCondition::ResetBeforeRequest) => &mut on.reset_before_request,
            Ok(wire::RetryCondition::ConnectFailure) => &mut on.connect_failure,
            Ok(wire::RetryCondition::RefusedStream) => &mut on.refused_stream,
            Ok(wire::RetryCondition::Conflict) => &mut on.conflict,
            Ok(wire::RetryCondition::RateLimited) => &mut on.rate_limited,
            Ok(wire::RetryCondition::Invalid) | Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "retries.on",
                    value: *condition,
                });
            }
        };
        *flag = true;
    }
    Ok(Retries {
        attempts: message.attempts,
        per_try_timeout: message.per_try_timeout.map(Duration::from_nanos),
        on,
        remote_localities: message.remote_localities,
        avoid_previous: message.avoid_previous,
        backoff: Backoff {
            base: Duration::from_nanos(message.backoff),
        },
    })
}

#[cfg(test)]
mod tests;
