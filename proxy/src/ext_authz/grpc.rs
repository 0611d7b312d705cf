//! Asking over gRPC: `envoy.service.auth.v3.Authorization/Check`, with the attributes that Envoy fills in.

use super::body::Shown;
use super::verdict::{Changes, Denial, Verdict, status};
use super::{AskedRequest, Question, destination, response, send};
use crate::http::body::RequestBody;
use crate::worker::Worker;
use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use ::http::{HeaderMap, Method, Request, StatusCode, Version};
use bytes::{BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{
    HttpRequest, Peer, Request as Attributes, TlsSession,
};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse, OkHttpResponse};
use envoy_types::pb::google::protobuf::Timestamp;
use mesh_core::ext_authz::{Edit, How, Provider};
use mesh_core::identity::SpiffeId;
use prost::Message as _;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::SystemTime;

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Says whether a body was shown in part; taken from no client.
pub(super) const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// Asks.
pub(super) async fn ask(worker: &Worker, provider: &Provider, question: &Question<'_>) -> Result<Verdict, String> {
    let destination = destination(worker, provider).await?;
    let own = worker.identity.tls();
    let own = own.as_ref().map(|tls| &tls.material.identity);
    let as_bytes = provider.settings.body.is_some_and(|body| body.as_bytes);
    let check = check(question, own, as_bytes);
    let request = Request::post(format!("http://{}{METHOD}", destination.host))
        .version(Version::HTTP_2)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .body(RequestBody::Own(Some(framed(&check)?)))
        .map_err(|error| error.to_string())?;
    let (head, body) = send(worker, &destination, question, request).await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!(
            "{} answered {}, which is no gRPC",
            destination.host, head.status
        ));
    }
    ended_well(&head.headers, false)?;
    let (body, trailers) = response::read(body).await?;
    ended_well(&trailers.unwrap_or_default(), true)?;
    verdict(unframed(&body)?)
}

/// The message as gRPC sends it.
fn framed(check: &CheckRequest) -> Result<Bytes, String> {
    let length = check.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).map_err(|_| "the question is too long")?);
    check.encode(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes.freeze())
}

/// The one message of an answer.
fn unframed(body: &[u8]) -> Result<CheckResponse, String> {
    let (prefix, message) = body.split_first_chunk::<PREFIX>().ok_or("its answer has no message")?;
    let [compressed, a, b, c, d] = *prefix;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 || length != message.len() {
        return Err("its answer is not one plain message".to_owned());
    }
    CheckResponse::decode(message).map_err(|error| format!("its answer: {error}"))
}

/// Whether headers or trailers say that the call went well; in trailers they must.
fn ended_well(headers: &HeaderMap, must: bool) -> Result<(), String> {
    let status = headers.get("grpc-status").map(HeaderValue::as_bytes);
    match status {
        Some(b"0") => Ok(()),
        None if !must => Ok(()),
        None => Err("its answer broke off".to_owned()),
        Some(status) => Err(format!("it answered grpc-status {}", String::from_utf8_lossy(status))),
    }
}

/// What is asked.
fn check(question: &Question<'_>, own: Option<&SpiffeId>, as_bytes: bool) -> CheckRequest {
    let encrypted = question.identity.is_some();
    let request = question.request.as_ref();
    let cluster = request.and_then(|request| request.headers.get("x-envoy-downstream-service-cluster"));
    let source = Peer {
        address: Some(address(question.source)),
        service: cluster.map(|name| text(name.as_bytes())).unwrap_or_default(),
        principal: question.identity.map(SpiffeId::to_string).unwrap_or_default(),
        ..Peer::default()
    };
    let destination = Peer {
        address: Some(address(question.destination)),
        principal: own.filter(|_| encrypted).map(SpiffeId::to_string).unwrap_or_default(),
        ..Peer::default()
    };
    let attributes = request.map(|request| Attributes {
        time: Some(now()),
        http: Some(http_request(request, as_bytes)),
    });
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            destination: Some(destination),
            request: attributes,
            metadata_context: Some(core::Metadata::default()),
            tls_session: question.server_name.map(|name| TlsSession { sni: name.to_owned() }),
            ..AttributeContext::default()
        }),
    }
}

fn http_request(request: &AskedRequest<'_>, as_bytes: bool) -> HttpRequest {
    let id = request.headers.get(crate::http::headers::X_REQUEST_ID);
    let shown = request.shown.map(|shown| &shown.bytes[..]).unwrap_or_default();
    HttpRequest {
        id: id.map(|id| text(id.as_bytes())).unwrap_or_default(),
        method: request.method.to_owned(),
        headers: headers(request),
        path: request.target.to_owned(),
        host: request.host.to_owned(),
        scheme: "http".to_owned(),
        size: request.length.and_then(|length| length.try_into().ok()).unwrap_or(-1),
        protocol: match request.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
        .to_owned(),
        body: if as_bytes { String::new() } else { text(shown) },
        raw_body: if as_bytes { shown.to_vec() } else { Vec::new() },
        ..HttpRequest::default()
    }
}

/// The headers by their names in lower case, several of one name joined by commas, and what HTTP/2 has in its pseudo-headers.
fn headers(request: &AskedRequest<'_>) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = HashMap::with_capacity(request.headers.keys_len() + 5);
    for (name, value) in request.headers {
        let name = name.as_str();
        if name == PARTIAL_BODY || name == "host" {
            continue;
        }
        let value = text(value.as_bytes());
        match all.get_mut(name) {
            Some(joined) => {
                joined.push(',');
                joined.push_str(&value);
            }
            None => drop(all.insert(name.to_owned(), value)),
        }
    }
    for (name, value) in [
        (":authority", request.host),
        (":method", request.method),
        (":path", request.target),
        (":scheme", "http"),
    ] {
        all.insert(name.to_owned(), value.to_owned());
    }
    if let Some(Shown { partial, .. }) = request.shown {
        all.insert(PARTIAL_BODY.to_owned(), partial.to_string());
    }
    all
}

fn address(address: SocketAddr) -> core::Address {
    use core::address::Address::SocketAddress;
    use core::socket_address::PortSpecifier::PortValue;
    core::Address {
        address: Some(SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortValue(address.port().into())),
            ..core::SocketAddress::default()
        })),
    }
}

/// Bytes as text, with `!` for what is none.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

fn now() -> Timestamp {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: now.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: now.subsec_nanos().try_into().unwrap_or_default(),
    }
}

/// What an answer means. One that would change what cannot be changed is none: a header that stays as the client sent it
/// could be taken for the authorizer's.
fn verdict(answer: CheckResponse) -> Result<Verdict, String> {
    // Without a status it is OK, as protobuf has it.
    let ok = answer.status.is_none_or(|status| status.code == 0);
    match (ok, answer.http_response) {
        (true, Some(HttpResponse::OkResponse(said))) => Ok(Verdict::Allowed(Box::new(changes(said)?))),
        (true, _) => Ok(Verdict::Allowed(Box::default())),
        (false, Some(HttpResponse::ErrorResponse(_))) => Err("it answered that it failed".to_owned()),
        (false, Some(HttpResponse::DeniedResponse(said))) => Ok(Verdict::Denied(Box::new(Denial {
            status: status(
                said.status
                    .map_or(0, |status| status.code)
                    .try_into()
                    .unwrap_or_default(),
            ),
            headers: edits(said.headers, How::Overwrite)?,
            body: said.body.into(),
        }))),
        (false, _) => Ok(Verdict::Denied(Box::new(Denial {
            status: StatusCode::FORBIDDEN,
            headers: Vec::new(),
            body: Bytes::new(),
        }))),
    }
}

fn changes(said: OkHttpResponse) -> Result<Changes, String> {
    let mut changes = Changes {
        response: edits(said.response_headers_to_add, How::Append)?,
        parameters: said
            .query_parameters_to_set
            .into_iter()
            .map(|parameter| (parameter.key, parameter.value))
            .collect(),
        removed_parameters: said.query_parameters_to_remove,
        // What is no header's name is no header of the request.
        removed: said
            .headers_to_remove
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        ..Changes::default()
    };
    let (special, ordinary): (Vec<_>, Vec<_>) = said.headers.into_iter().partition(|option| {
        let key = option.header.as_ref().map(|header| header.key.as_str());
        key.is_some_and(|key| key.starts_with(':') || key.eq_ignore_ascii_case("host"))
    });
    changes.request = edits(ordinary, How::Overwrite)?;
    for header in special.into_iter().filter_map(|option| option.header) {
        let value = header.value;
        match header.key.to_ascii_lowercase().as_str() {
            ":path" => changes.path = Some(value),
            ":method" => {
                let method = Method::from_bytes(value.as_bytes()).ok();
                let method = method.filter(|method| *method != Method::CONNECT);
                changes.method = Some(method.ok_or("its answer sets a method that is none")?);
            }
            ":authority" | "host" => {
                let host = HeaderValue::from_str(&value);
                changes.host = Some(host.map_err(|_| "its answer sets an authority that is none")?);
            }
            ":scheme" => {}
            other => return Err(format!("its answer sets {:?}, which no request has", cut(other))),
        }
    }
    Ok(changes)
}

/// Headers that are set. `unsaid` is what is meant where an option says nothing: of requests, by Envoy's documentation, that a
/// header takes the place of the client's.
fn edits(options: Vec<core::HeaderValueOption>, unsaid: How) -> Result<Vec<Edit>, String> {
    let edit = |option: core::HeaderValueOption| {
        let how = how(&option, unsaid)?;
        let header = option.header.ok_or("its answer sets a header without a name")?;
        let wrong = || format!("its answer sets the header {:?} to what is none", cut(&header.key));
        let bytes = match header.value.is_empty() {
            true => &header.raw_value[..],
            false => header.value.as_bytes(),
        };
        Ok(Edit {
            name: HeaderName::from_bytes(header.key.as_bytes()).map_err(|_| wrong())?,
            value: HeaderValue::from_bytes(bytes).map_err(|_| wrong())?,
            how,
        })
    };
    options.into_iter().map(edit).collect()
}

#[allow(deprecated, reason = "what most authorizers say")]
fn how(option: &core::HeaderValueOption, unsaid: How) -> Result<How, String> {
    match (&option.append, HeaderAppendAction::try_from(option.append_action)) {
        (Some(append), _) if append.value => Ok(How::Append),
        (Some(_), _) => Ok(How::Overwrite),
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => Ok(unsaid),
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => Ok(How::AddIfAbsent),
        (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => Ok(How::Overwrite),
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => Ok(How::OverwriteIfPresent),
        (None, Err(_)) => Err(format!(
            "its answer's append_action {} is unknown",
            option.append_action
        )),
    }
}

fn cut(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
