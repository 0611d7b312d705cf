//! The HTTP probe: one GET over HTTP/1.1. A redirect is not followed and counts as success, as every status from 200
//! to 399 does for the kubelet.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Outcome;

/// How much of the answer's body is read, so that the application can finish writing it; the kubelet reads 10 KiB.
const BODY_LIMIT: usize = 64 * 1024;

/// The request: the kubelet's own User-Agent, then what the probe says. A header with an empty value takes that
/// header away, as for the kubelet.
pub(super) fn request(
    to: SocketAddr,
    path: &PathAndQuery,
    authority: Option<&HeaderValue>,
    headers: &[(HeaderName, HeaderValue)],
    asked: &HeaderMap,
) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.clone().into();
    let map = request.headers_mut();
    map.insert(ACCEPT, HeaderValue::from_static("*/*"));
    let agent = asked.get(USER_AGENT).cloned();
    map.insert(
        USER_AGENT,
        agent.unwrap_or_else(|| HeaderValue::from_static("kube-probe/1.0")),
    );
    for default in [ACCEPT, USER_AGENT] {
        if headers.iter().any(|(name, _)| *name == default) {
            map.remove(default);
        }
    }
    for (name, value) in headers {
        if !value.is_empty() {
            map.append(name, value.clone());
        }
    }
    map.insert(CONNECTION, HeaderValue::from_static("close"));
    let authority = authority
        .cloned()
        .or_else(|| HeaderValue::from_str(&to.to_string()).ok());
    if let Some(authority) = authority {
        map.insert(HOST, authority);
    }
    request
}

/// Sends the request and judges the answer.
pub(super) async fn ask<S>(stream: S, request: Request<Empty<Bytes>>) -> Outcome
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = match handshake {
        Ok(pair) => pair,
        Err(e) => return Outcome::failure(format!("HTTP: {e}")),
    };
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // What does not fit, or breaks off, changes nothing: the status has been said.
        let _ = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        Ok::<_, hyper::Error>(status)
    };
    // The connection is driven here and not in a task, so that it ends with the probe's time.
    let answer = tokio::select! {
        answer = answer => answer,
        // Driving ends only when nothing more can come; the answer, if there is one, was seen above.
        () = async { let _ = connection.await; std::future::pending::<()>().await } => return Outcome::failure("HTTP"),
    };
    match answer {
        Ok(status) if status.is_success() || status.is_redirection() => Outcome::success(format!("answered {status}")),
        Ok(status) => Outcome {
            status,
            reason: format!("answered {status}"),
        },
        Err(e) => Outcome::failure(format!("HTTP: {e}")),
    }
}
