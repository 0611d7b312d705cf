//! One request and its response over a leased HTTP/1.1 connection, upgrades and tunnels included; and what is done to every
//! request and response that passes, in whatever version.

use super::body::{BodyError, RequestBody, ResponseBody};
use super::pool::{Connection, Lease};
use super::{expect, headers};
use crate::net::relay;
use crate::net::stream::Stream;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_core::identity::SpiffeId;
use std::net::SocketAddr;

/// The most that is buffered of a message head; a larger one is refused (Envoy's default is 60 KiB).
pub const MOST_HEAD_BYTES: usize = 64 * 1024;

/// Opens HTTP/1.1 on a stream.
///
/// # Errors
/// hyper's.
pub async fn open(stream: Stream, peer: Option<SpiffeId>, generation: u64) -> Result<Connection, hyper::Error> {
    let handshake = http1::Builder::new()
        .max_buf_size(MOST_HEAD_BYTES)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await?;
    tokio::spawn(async move {
        // How it ends shows in the exchange under way, or nowhere if it was idle.
        let _ = connection.with_upgrades().await;
    });
    Ok(Connection {
        sender,
        peer,
        generation,
        idle_since: None,
    })
}

/// How far an exchange came that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Nothing of the request was sent.
    Unsent,
    /// The server says that it has not looked at it (HTTP/2).
    Unseen,
    /// It was sent on a connection that had served others, whose server may have closed it before.
    Stale,
    /// It was sent.
    Sent,
}

/// Why an exchange failed, and the request if it can be sent again.
#[derive(Debug)]
pub struct Failed {
    /// How far it came.
    pub came: Came,
    /// hyper's or h2's word.
    pub error: BodyError,
    /// Given back when the server cannot have acted on it, or may act on it twice.
    pub again: Option<Request<RequestBody>>,
}

/// Sends a request on a connection and waits for the response's head. The lease goes with the response's body. Unless whoever
/// asks has `kept` a copy of the request, one is kept here as far as it may be needed.
///
/// # Errors
/// [`Failed`]; the connection is gone with it.
pub async fn send(
    mut lease: Lease,
    mut connection: Connection,
    request: Request<RequestBody>,
    kept: bool,
) -> Result<Response<ResponseBody>, Failed> {
    let spare = if kept { None } else { spare(&request, &connection) };
    let reused = connection.idle_since.is_some();
    let tunnel = request.method() == Method::CONNECT;
    match connection.sender.try_send_request(request).await {
        Ok(response) => {
            lease.connection = Some(connection);
            let ended = response.body().is_end_stream();
            if ended && !switches(response.status(), tunnel) {
                lease.finish();
                return Ok(response.map(|body| ResponseBody::Upstream { body, lease: None }));
            }
            Ok(response.map(|body| ResponseBody::Upstream {
                body,
                lease: Some(lease),
            }))
        }
        Err(mut error) => {
            // Not written at all, or safe to repeat and on a connection that may have been closing.
            let unsent = error.take_message();
            Err(Failed {
                came: match unsent {
                    Some(_) => Came::Unsent,
                    None if reused => Came::Stale,
                    None => Came::Sent,
                },
                error: error.into_error().into(),
                again: unsent.or(spare),
            })
        }
    }
}

/// A copy of a request that may be sent twice (RFC 9110, section 9.2.2), where it may be needed: on a connection that has
/// served others, whose server may have closed it by the time the request arrives, however short that time is.
fn spare(request: &Request<RequestBody>, connection: &Connection) -> Option<Request<RequestBody>> {
    if !is_repeatable(request) || connection.idle_since.is_none() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Whether a request may be sent twice (RFC 9110, section 9.2.2).
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// Whether a request can and may be sent twice: see [`is_idempotent`], and it has no body that would be gone by then.
#[must_use]
pub fn is_repeatable(request: &Request<RequestBody>) -> bool {
    is_idempotent(request.method()) && request.body().is_end_stream()
}

/// Whether the server of a waiting connection has left it open, as far as the kernel knows by now. To be asked for what cannot
/// be repeated: a server may close a waiting connection at any time.
pub async fn is_open(connection: &Connection) -> bool {
    // Before this task goes on the kernel is asked for news, and the connection's own task notes an end.
    tokio::task::yield_now().await;
    !connection.sender.is_closed()
}

/// Whether a response's connection is no HTTP any more: another protocol was agreed on, or a tunnel is open.
#[must_use]
pub fn switches(status: StatusCode, tunnel: bool) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (tunnel && status.is_success())
}

/// The refusal of a request that cannot be sent on: one that does not say once whom it is meant for, or a tunnel over a stream of
/// HTTP/2. `dialled` is the address that the client's connection went to.
pub fn unfit(request: &mut Request<Incoming>, dialled: SocketAddr) -> Option<Response<ResponseBody>> {
    if request.method() == Method::CONNECT && request.version() == Version::HTTP_2 {
        return Some(own(
            StatusCode::METHOD_NOT_ALLOWED,
            "CONNECT is carried over HTTP/1.1 alone",
        ));
    }
    if headers::settle_host(request, dialled) {
        return None;
    }
    let mut refused = own(StatusCode::BAD_REQUEST, "exactly one Host is needed");
    if request.version() != Version::HTTP_2 {
        // Whoever sent this may mean what follows it for somebody else.
        let close = HeaderValue::from_static("close");
        refused.headers_mut().insert(CONNECTION, close);
    }
    Some(refused)
}

/// The client's side of a connection that may come to speak something else.
#[derive(Debug)]
pub struct Switch {
    on_upgrade: OnUpgrade,
    /// Whether the client asks for a tunnel.
    tunnel: bool,
}

/// Takes a client's request as it is to be sent on; where it asks for another protocol or a tunnel, the client's side of that too.
pub fn take(mut request: Request<Incoming>) -> (Request<RequestBody>, Option<Switch>) {
    if request.version() == Version::HTTP_2 {
        // What concerns one hop alone is not allowed in it, and h2 refuses it.
        headers::to_absolute_form(&mut request);
        return (request.map(RequestBody::Incoming), None);
    }
    let tunnel = request.method() == Method::CONNECT;
    let upgrade = !tunnel && headers::is_upgrade(request.headers());
    let switch = (tunnel || upgrade).then(|| Switch {
        on_upgrade: hyper::upgrade::on(&mut request),
        tunnel,
    });
    headers::strip_hop_by_hop(request.headers_mut(), upgrade);
    if !tunnel {
        headers::to_origin_form(&mut request);
    }
    *request.version_mut() = Version::HTTP_11;
    (expect::hold(request), switch)
}

/// Makes an upstream's response ready for the client, and joins the two connections if both agreed on another protocol or a
/// tunnel. `until` ends them before they do themselves, and holds what counts them as open.
pub fn give(
    mut response: Response<ResponseBody>,
    client: Option<Switch>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response<ResponseBody> {
    if response.version() == Version::HTTP_2 {
        return response;
    }
    let tunnel = client.as_ref().is_some_and(|client| client.tunnel);
    // The proxy's own answer opens nothing.
    let switched = switches(response.status(), tunnel) && !matches!(response.body(), ResponseBody::Own(_));
    headers::strip_hop_by_hop(response.headers_mut(), switched && !tunnel);
    *response.version_mut() = Version::HTTP_11;
    if !switched {
        return response;
    }
    let Some(client) = client else {
        // A server may not switch unasked (RFC 9110, section 15.2.2).
        return own(StatusCode::BAD_GATEWAY, "the upstream switched protocols unasked");
    };
    let server = hyper::upgrade::on(&mut response);
    let (mut parts, body) = response.into_parts();
    if tunnel {
        // It says nothing about what follows (RFC 9110, section 9.3.6).
        parts.headers.remove(CONTENT_LENGTH);
    }
    tokio::spawn(async move {
        // The body holds the lease: the endpoint counts as in use until the joined connections end.
        let _body = body;
        let joined = async {
            if let (Ok(client), Ok(server)) = tokio::join!(client.on_upgrade, server) {
                let (client, server) = (&mut TokioIo::new(client), &mut TokioIo::new(server));
                relay::both_ways(client, server, &mut ()).await.1.ok();
            }
        };
        tokio::select! {
            () = joined => {}
            () = until => {}
        }
    });
    Response::from_parts(parts, ResponseBody::Own(None))
}

/// The answer where no try at a request brought one, as Envoy words it.
#[must_use]
pub fn unreachable() -> Response<ResponseBody> {
    own(
        StatusCode::SERVICE_UNAVAILABLE,
        "upstream connect error or disconnect/reset before headers",
    )
}

/// A response of the proxy's own.
#[must_use]
pub fn own(status: StatusCode, text: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(Some(text.into())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
        .headers_mut()
        .insert(http::header::SERVER, HeaderValue::from_static("istio-envoy"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn an_end_that_the_kernel_knows_of_is_noticed_before_a_request_is_lost() {
        // As a task like the connection's own: what the runtime blocks on runs before all tasks.
        tokio::spawn(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            let mut connection = open(Stream::Plain(client), None, 0).await.unwrap();
            connection.sender.ready().await.unwrap();
            let request = Request::get("/").header("host", "a").body(RequestBody::Empty).unwrap();
            let mut answer = std::pin::pin!(connection.sender.try_send_request(request));
            let mut seen = [0; 1024];
            tokio::select! {
                _ = &mut answer => panic!("nobody has answered yet"),
                read = server.read(&mut seen) => assert!(read.unwrap() > 0),
            }
            server
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(answer.await.unwrap().status(), 200);
            connection.sender.ready().await.unwrap();
            drop(server);
            assert!(!is_open(&connection).await);
        })
        .await
        .unwrap();
    }
}
