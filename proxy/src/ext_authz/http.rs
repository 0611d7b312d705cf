//! Asking over HTTP: a request of the same method and path, with the headers that the provider lists.

use super::grpc::PARTIAL_BODY;
use super::verdict::{Changes, Denial, Verdict, instead};
use super::{AskedRequest, Question, destination, response, send};
use crate::http::body::RequestBody;
use crate::http::headers;
use crate::worker::Worker;
use ::http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, Method, Request, StatusCode, Version};
use bytes::Bytes;
use mesh_core::ext_authz::{Edit, How, Http, NameMatch, Provider, is_of_one_hop};
use mesh_core::protocol::Declared;

/// By which an authorizer names headers that the request is to lose.
const TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";

/// Asks.
pub(super) async fn ask(
    worker: &Worker,
    provider: &Provider,
    settings: &Http,
    question: &Question<'_>,
) -> Result<Verdict, String> {
    let asked = question.request.as_ref().ok_or("it is asked about HTTP alone")?;
    let destination = destination(worker, provider).await?;
    let mut request = check(settings, asked)?;
    if destination.protocol == Declared::Http2 {
        *request.version_mut() = Version::HTTP_2;
        headers::to_absolute_form(&mut request);
    }
    let (head, body) = send(worker, &destination, question, request).await?.into_parts();
    if head.status.is_server_error() {
        return Err(format!("{} answered {}", destination.host, head.status));
    }
    let (body, _) = response::read(body).await?;
    Ok(verdict(settings, head.status, &head.headers, body))
}

/// The request that asks.
fn check(settings: &Http, asked: &AskedRequest<'_>) -> Result<Request<RequestBody>, String> {
    let method = Method::from_bytes(asked.method.as_bytes()).map_err(|error| error.to_string())?;
    if method == Method::CONNECT {
        return Err("over HTTP nobody can be asked about a tunnel".to_owned());
    }
    let target = PathAndQuery::try_from(format!("{}{}", settings.path_prefix, asked.target));
    let target = target.map_err(|error| format!("the path that it is asked at: {error}"))?;
    let shown = asked.shown.map(|shown| shown.bytes.clone()).unwrap_or_default();
    let mut request = Request::new(RequestBody::Own((!shown.is_empty()).then(|| shown.clone())));
    *request.method_mut() = method;
    *request.uri_mut() = target.into();
    let map = request.headers_mut();
    for (name, value) in asked.headers {
        let listed = || any(&settings.request_headers, name);
        if (name == AUTHORIZATION || listed()) && !is_of_one_hop(name) && name != HOST && name != PARTIAL_BODY {
            map.append(name, value.clone());
        }
    }
    let host = HeaderValue::from_str(asked.host).map_err(|_| "the request's host makes no header")?;
    map.insert(HOST, host);
    map.insert(CONTENT_LENGTH, HeaderValue::from(shown.len()));
    if let Some(shown) = asked.shown {
        let partial = if shown.partial { "true" } else { "false" };
        map.insert(HeaderName::from_static(PARTIAL_BODY), HeaderValue::from_static(partial));
    }
    for (name, value) in &settings.additional_headers {
        if !is_of_one_hop(name) {
            map.insert(name, value.clone());
        }
    }
    Ok(request)
}

fn any(names: &[NameMatch], name: &HeaderName) -> bool {
    names.iter().any(|it| it.matches(name.as_str()))
}

/// What an answer means: 200 allows, and everything else that is no error denies, as in Envoy.
fn verdict(settings: &Http, status: StatusCode, headers: &HeaderMap, body: Bytes) -> Verdict {
    let taken = |names: &[NameMatch], how: How| {
        let named = headers.iter().filter(|(name, _)| any(names, name));
        named
            .map(|(name, value)| Edit {
                name: name.clone(),
                value: value.clone(),
                how,
            })
            .collect()
    };
    if status == StatusCode::OK {
        let removed = headers
            .get_all(TO_REMOVE)
            .iter()
            .filter_map(|names| names.to_str().ok());
        let removed = removed.flat_map(|names| names.split(','));
        return Verdict::Allowed(Box::new(Changes {
            request: taken(&settings.to_upstream_on_allow, How::Overwrite),
            response: taken(&settings.to_downstream_on_allow, How::Append),
            removed: removed.filter_map(|name| name.trim().parse().ok()).collect(),
            ..Changes::default()
        }));
    }
    let names = &settings.to_downstream_on_deny;
    let headers = instead(headers, |name| match names.is_empty() {
        true => name != "host",
        false => matches!(name, "www-authenticate" | "location") || names.iter().any(|it| it.matches(name)),
    });
    Verdict::Denied(Box::new(Denial {
        status: super::verdict::status(status.as_u16().into()),
        headers,
        body,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::body::Shown;
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.iter().map(pair).collect()
    }

    fn names(names: &[&str]) -> Vec<NameMatch> {
        names.iter().map(|name| NameMatch::parse(name).unwrap()).collect()
    }

    #[test]
    fn what_is_shown_is_what_is_listed() {
        let settings = Http {
            path_prefix: "/check".to_owned(),
            request_headers: names(&["x-ext-authz", "x-b3-*", "transfer-encoding", "host"]),
            additional_headers: vec![(HeaderName::from_static("x-b3-mesh"), HeaderValue::from_static("own"))],
            ..Http::default()
        };
        let headers = map(&[
            ("host", "other"),
            ("x-ext-authz", "allow"),
            ("x-b3-mesh", "client"),
            ("authorization", "Bearer x"),
            ("cookie", "secret"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
            ("x-envoy-auth-partial-body", "true"),
        ]);
        let shown = Shown {
            bytes: Bytes::from_static(b"abc"),
            partial: false,
        };
        let asked = AskedRequest {
            method: "POST",
            target: "/a?b",
            host: "shop:80",
            version: Version::HTTP_11,
            headers: &headers,
            length: None,
            shown: Some(&shown),
        };
        let request = check(&settings, &asked).unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::POST, "/check/a?b")
        );
        let mut found: Vec<_> = request
            .headers()
            .iter()
            .map(|(k, v)| format!("{k}: {}", v.to_str().unwrap()))
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "authorization: Bearer x",
                "content-length: 3",
                "host: shop:80",
                "x-b3-mesh: own",
                "x-envoy-auth-partial-body: false",
                "x-ext-authz: allow",
            ]
        );
        let tunnel = AskedRequest {
            method: "CONNECT",
            ..asked
        };
        assert!(check(&settings, &tunnel).is_err());
    }

    #[test]
    fn answers_are_200_and_all_others() {
        let headers = map(&[
            ("x-user", "ann"),
            ("x-trace", "1"),
            ("content-type", "text/html"),
            ("location", "/login"),
            ("content-length", "3"),
            ("x-envoy-auth-headers-to-remove", "cookie, x-old"),
        ]);
        let settings = |deny: &[&str]| Http {
            to_upstream_on_allow: names(&["x-user"]),
            to_downstream_on_allow: names(&["x-tr*"]),
            to_downstream_on_deny: names(deny),
            ..Http::default()
        };
        let told = |verdict: Verdict| match verdict {
            Verdict::Allowed(changes) => {
                let edits = |edits: &[Edit]| edits.iter().map(|it| it.name.to_string()).collect::<Vec<_>>().join(" ");
                let removed: Vec<_> = changes.removed.iter().map(HeaderName::as_str).collect();
                format!(
                    "allowed {} | {} | {}",
                    edits(&changes.request),
                    edits(&changes.response),
                    removed.join(" ")
                )
            }
            Verdict::Denied(denial) => {
                let mut response = ::http::Response::new(());
                denial.apply(&mut response);
                let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
                names.sort_unstable();
                format!("denied {} {}", denial.status.as_u16(), names.join(" "))
            }
        };
        for (status, deny, expected) in [
            (200, &[][..], "allowed x-user | x-trace | cookie x-old"),
            (204, &["x-user"], "denied 204 location x-user"),
            (302, &["x-user"], "denied 302 location x-user"),
            (
                401,
                &[],
                "denied 401 content-type location x-envoy-auth-headers-to-remove x-trace x-user",
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = verdict(&settings(deny), status, &headers, Bytes::new());
            assert_eq!(told(found), expected);
        }
    }
}
