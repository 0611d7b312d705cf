//! What becomes of a request: `route`, `redirect`, `directResponse`, with `rewrite`.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::HOST;
use mesh_core::routing::{
    Action, Direct, HeaderEdits, Redirect, RedirectPort, RedirectUri, Reference, Rewrite, UriRewrite, Weighted,
};

use super::{Report, destination, fault, headers, matches};
use crate::header;
use crate::virtual_service::resource::{self, HttpRoute};

/// The size from which on a body is refused, and warned of, in bytes.
const BODY: [usize; 2] = [1024 * 1024, 100 * 1024];

const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Refuses what cannot stand together.
pub(super) fn check_conflicts(path: &str, route: &HttpRoute, in_delegate: bool, report: &mut Report) {
    let routed = route.route.as_ref().is_some_and(|list| !list.is_empty());
    let mut refuse = |name: &str, accepted: &str| report.refuse(format!("{path}.{name}"), "given", accepted);
    if route.delegate.is_some() && !in_delegate {
        for (name, given) in [("redirect", route.redirect.is_some()), ("route", routed)] {
            if given {
                refuse(name, "none beside delegate");
            }
        }
        return;
    }
    if route.delegate.is_some() {
        refuse(
            "delegate",
            "none in a VirtualService without hosts, to which others delegate",
        );
    }
    let beside = [
        ("route", routed),
        ("fault", route.fault.is_some()),
        ("rewrite", route.rewrite.is_some()),
    ];
    if route.redirect.is_some() || route.direct_response.is_some() {
        for (name, _) in beside.into_iter().filter(|(_, given)| *given) {
            refuse(name, "none beside redirect or directResponse");
        }
        if route.redirect.is_some() && route.direct_response.is_some() {
            refuse("directResponse", "none beside redirect");
        }
    } else if !routed {
        report.refuse(path, "none of them", "one of route, redirect and directResponse");
    }
    if route.mirror.is_some() && route.mirrors.as_ref().is_some_and(|list| !list.is_empty()) {
        report.refuse(format!("{path}.mirrors"), "given", "none beside mirror");
    }
}

/// Parses what is done. A host among the headers that are set moves to where hosts are rewritten.
pub(super) fn parse(path: &str, route: &HttpRoute, edits: &mut HeaderEdits, report: &mut Report) -> Action<Reference> {
    let redirect = route
        .redirect
        .as_ref()
        .map(|found| redirect(&format!("{path}.redirect"), found, route, report));
    let direct = route
        .direct_response
        .as_ref()
        .map(|found| direct(&format!("{path}.directResponse"), found, report));
    let mut rewrite = rewrite(path, route, report);
    let mut to = weighted(&format!("{path}.route"), route, report);
    let host = headers::take_host(&mut edits.request_set);
    if let Some(redirect) = redirect {
        return Action::Redirect(redirect);
    }
    if let Some(direct) = direct {
        return Action::Direct(direct);
    }
    if route.delegate.is_some() {
        // The delegate's routes may inherit the headers without the rewrite.
        edits.request_set.extend(host.map(|value| (HOST, value)));
    } else {
        rewrite.authority = rewrite.authority.or(host);
        if rewrite.authority.is_some() {
            // The route's own prevails over the destinations'.
            for weighted in &mut to {
                headers::take_host(&mut weighted.headers.request_set);
            }
        }
    }
    Action::Forward { to, rewrite }
}

fn weighted(path: &str, route: &HttpRoute, report: &mut Report) -> Vec<Weighted<Reference>> {
    let mut parsed = Vec::new();
    for (at, entry) in route.route.iter().flatten().enumerate() {
        let path = format!("{path}[{at}]");
        parsed.push(Weighted {
            target: destination::needed(&format!("{path}.destination"), entry.destination.as_ref(), report),
            cluster: "".into(),
            weight: destination::weight(format!("{path}.weight"), entry.weight, report),
            headers: headers::parse(&format!("{path}.headers"), entry.headers.as_ref(), report),
        });
    }
    destination::check_weights(path, parsed.iter().map(|entry| entry.weight), report);
    parsed
}

fn rewrite(path: &str, route: &HttpRoute, report: &mut Report) -> Rewrite {
    let nothing = resource::Rewrite::default();
    let rewrite = route.rewrite.as_ref().unwrap_or(&nothing);
    let path = format!("{path}.rewrite");
    let uri = text(rewrite.uri.as_deref());
    let authority = text(rewrite.authority.as_deref());
    let regex = rewrite.uri_regex_rewrite.as_ref();
    if uri.is_some() && regex.is_some() {
        report.refuse(&path, "uri, uriRegexRewrite", "one of uri and uriRegexRewrite");
    }
    if route.rewrite.is_some() && uri.is_none() && regex.is_none() && authority.is_none() {
        report.refuse(&path, "{}", "at least one of uri, uriRegexRewrite and authority");
    }
    let mut before = authority.unwrap_or_default();
    for host in headers::authorities(route.headers.as_ref()) {
        if !before.is_empty() {
            report.refuse(
                &path,
                host,
                format!("the host written once, and {before} is written too"),
            );
        }
        before = host;
    }
    let by_regex = regex.and_then(|regex| regex_rewrite(&format!("{path}.uriRegexRewrite"), regex, report));
    Rewrite {
        authority: authority.and_then(|name| {
            let value = header::value(name);
            if value.is_none() {
                report.warn(format!(
                    "{path}.authority: {name:?} cannot be a host, and nothing is rewritten"
                ));
            }
            value
        }),
        uri: by_regex
            .or(uri.map(|uri| UriRewrite::Prefix(uri.into())))
            .unwrap_or_default(),
    }
}

fn regex_rewrite(path: &str, regex: &resource::RegexRewrite, report: &mut Report) -> Option<UriRewrite> {
    let (Some(pattern), Some(rewrite)) = (text(regex.pattern.as_deref()), text(regex.rewrite.as_deref())) else {
        report.refuse(path, "", "both match and rewrite");
        return None;
    };
    Some(UriRewrite::Regex {
        pattern: matches::pattern(&format!("{path}.match"), pattern, report)?,
        rewrite: rewrite.into(),
    })
}

fn redirect(path: &str, redirect: &resource::Redirect, route: &HttpRoute, report: &mut Report) -> Redirect {
    let uri = text(redirect.uri.as_deref());
    let prefix = text(redirect.prefix_rewrite.as_deref());
    let authority = text(redirect.authority.as_deref());
    let scheme = text(redirect.scheme.as_deref());
    let derived = redirect.derive_port.as_deref();
    if uri.is_some() && prefix.is_some() {
        report.refuse(path, "uri, prefixRewrite", "one of uri and prefixRewrite");
    }
    let is_prefix = |found: &resource::StringMatch| found.prefix.is_some();
    let mut uris = route.matches.iter().flatten().filter_map(|found| found.uri.as_ref());
    if prefix.is_some() && !uris.all(is_prefix) {
        report.refuse(
            format!("{path}.prefixRewrite"),
            "given",
            "none where a match's uri is no prefix",
        );
    }
    if redirect.port.is_some() && derived.is_some() {
        report.refuse(path, "port, derivePort", "one of port and derivePort");
    }
    let ported = redirect.port.is_some() || derived.is_some();
    if uri.is_none() && prefix.is_none() && authority.is_none() && scheme.is_none() && !ported {
        report.refuse(
            path,
            "{}",
            "at least one of uri, prefixRewrite, authority, port, derivePort and scheme",
        );
    }
    let code = redirect.redirect_code.filter(|code| *code != 0);
    report.range(format!("{path}.redirectCode"), code, 300, 399);
    report.one_of(format!("{path}.scheme"), scheme, &["http", "https"]);
    report.range(
        format!("{path}.port"),
        redirect.port.filter(|port| *port != 0),
        1,
        65535,
    );
    let names = ["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"];
    report.one_of(format!("{path}.derivePort"), derived, &names);
    let number = redirect
        .port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0);
    Redirect {
        uri: match (uri, prefix) {
            (Some(uri), _) => Some(RedirectUri::Path(uri.into())),
            (None, Some(prefix)) => Some(RedirectUri::Prefix(prefix.into())),
            (None, None) => None,
        },
        authority: authority.map(Arc::from),
        port: match (number, derived) {
            (Some(number), _) => RedirectPort::Number(number),
            (None, Some("FROM_REQUEST_PORT")) => RedirectPort::OfRequest,
            (None, Some(_)) => RedirectPort::ProtocolDefault,
            (None, None) => RedirectPort::Absent,
        },
        scheme: scheme.map(Arc::from),
        code: code.and_then(|code| u16::try_from(code).ok()).unwrap_or(301),
    }
}

fn direct(path: &str, direct: &resource::DirectResponse, report: &mut Report) -> Direct {
    let status = direct.status.unwrap_or(0);
    let body = direct.body.as_ref();
    let string = body.and_then(|body| body.string.as_deref());
    let bytes = body.and_then(|body| body.bytes.as_deref());
    if string.is_some() && bytes.is_some() {
        report.refuse(format!("{path}.body"), "string, bytes", "one of string and bytes");
    }
    let text = string.is_some() || bytes.is_none();
    let body = match (string, bytes) {
        (Some(string), _) => Bytes::copy_from_slice(string.as_bytes()),
        (None, Some(bytes)) => decoded(&format!("{path}.body.bytes"), bytes, report),
        (None, None) => Bytes::new(),
    };
    let [most, much] = BODY;
    if body.len() > most {
        report.refuse(
            format!("{path}.body"),
            format!("{} bytes", body.len()),
            format!("at most {most} bytes"),
        );
    } else if body.len() > much {
        report.warn(format!(
            "{path}.body has {} bytes, which every client's proxy holds",
            body.len()
        ));
    }
    Direct {
        status: fault::status_code(&format!("{path}.status"), status, report).unwrap_or(500),
        body,
        text,
    }
}

/// Bytes as protobuf's JSON has them: either alphabet, with padding or without.
fn decoded(field: &str, text: &str, report: &mut Report) -> Bytes {
    let alphabets = [alphabet::STANDARD, alphabet::URL_SAFE];
    let decoded = alphabets
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, PADDING).decode(text).ok());
    if decoded.is_none() {
        report.refuse(field, text, "base64");
    }
    decoded.unwrap_or_default().into()
}

/// A text that is there and not empty.
fn text(value: Option<&str>) -> Option<&str> {
    value.filter(|text| !text.is_empty())
}
