//! The gRPC probe: `grpc.health.v1.Health/Check` over plaintext HTTP/2, as the kubelet sends it. Serving is success.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

use super::Outcome;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; the status is `UNKNOWN` 0, `SERVING` 1, `NOT_SERVING` 2,
/// `SERVICE_UNKNOWN` 3.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// `SERVING`.
const SERVING: i32 = 1;
/// The path of the method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
/// An answer is a few bytes.
const BODY_LIMIT: usize = 4 * 1024;

/// Asks for `service` and judges the answer.
pub(super) async fn ask(stream: TcpStream, to: SocketAddr, service: &str) -> Outcome {
    let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = match handshake {
        Ok(pair) => pair,
        Err(e) => return Outcome::failure(format!("HTTP/2: {e}")),
    };
    let body = frame(&HealthCheckRequest {
        service: service.to_owned(),
    });
    let request = Request::post(format!("http://{to}{PATH}"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.0")
        .body(Full::new(body));
    let request = match request {
        Ok(request) => request,
        Err(e) => return Outcome::failure(format!("HTTP/2: {e}")),
    };
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| format!("HTTP/2: {e}"))?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            return Err(format!("answered {}", head.status));
        }
        // An answer of headers alone carries the status of the call in them.
        if let Some(status) = grpc_status(&head.headers) {
            return Ok((status, Bytes::new(), head.headers));
        }
        let body = Limited::new(body, BODY_LIMIT)
            .collect()
            .await
            .map_err(|e| format!("HTTP/2: {e}"))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = grpc_status(&trailers).ok_or("the answer has no grpc-status")?;
        Ok((status, body.to_bytes(), trailers))
    };
    let answer = tokio::select! {
        answer = answer => answer,
        () = async { let _ = connection.await; std::future::pending::<()>().await } => return Outcome::failure("HTTP/2"),
    };
    match answer {
        Ok((0, body, _)) => match unframe(&body) {
            Some(HealthCheckResponse { status: SERVING }) => Outcome::success("serving"),
            Some(HealthCheckResponse { status }) => Outcome::failure(format!("not serving (health status {status})")),
            None => Outcome::failure("the answer is no HealthCheckResponse"),
        },
        Ok((status, _, headers)) => {
            let message = headers
                .get("grpc-message")
                .and_then(|m| m.to_str().ok())
                .unwrap_or_default();
            Outcome::failure(format!("gRPC status {status} {message}"))
        }
        Err(reason) => Outcome::failure(reason),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A gRPC message on the wire: not compressed, its length in four bytes, the message.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut framed = BytesMut::with_capacity(5 + encoded.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    framed.put_slice(&encoded);
    framed.freeze()
}

fn unframe(body: &[u8]) -> Option<HealthCheckResponse> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    HealthCheckResponse::decode(message).ok()
}
