//! One request and its response over a leased connection, upgrades included.

use super::body::{RequestBody, ResponseBody};
use super::headers;
use super::pool::{Connection, Lease};
use crate::net::relay;
use crate::net::stream::Stream;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
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

/// Why an exchange failed, and the request if it can be sent again.
#[derive(Debug)]
pub struct Failed {
    /// hyper's word.
    pub error: hyper::Error,
    /// Given back when the server cannot have acted on it, or may act on it twice.
    pub again: Option<Request<RequestBody>>,
}

/// Sends a request on a connection and waits for the response's head. The lease goes with the response's body.
///
/// # Errors
/// [`Failed`]; the connection is gone with it.
pub async fn send(
    mut lease: Lease,
    mut connection: Connection,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Failed> {
    let spare = spare(&request, &connection);
    match connection.sender.try_send_request(request).await {
        Ok(response) => {
            lease.connection = Some(connection);
            let ended = response.body().is_end_stream();
            if ended && response.status() != StatusCode::SWITCHING_PROTOCOLS {
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
            let again = error.take_message().or(spare);
            Err(Failed {
                error: error.into_error(),
                again,
            })
        }
    }
}

/// A copy of a request that may be sent twice (RFC 9110, section 9.2.2), where it may be needed: on a connection that has
/// served others, whose server may have closed it by the time the request arrives, however short that time is.
fn spare(request: &Request<RequestBody>, connection: &Connection) -> Option<Request<RequestBody>> {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE
    );
    if !idempotent || !request.body().is_end_stream() || connection.idle_since.is_none() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// The refusal of a request that cannot be sent on: a tunnel, or one that does not say once whom it is meant for. `dialled` is
/// the address that the client's connection went to.
pub fn unfit(request: &mut Request<Incoming>, dialled: SocketAddr) -> Option<Response<ResponseBody>> {
    if request.method() == Method::CONNECT {
        return Some(own(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not carried"));
    }
    (!headers::settle_host(request, dialled)).then(|| own(StatusCode::BAD_REQUEST, "exactly one Host is needed"))
}

/// Takes a client's request as it is to be sent on; where it asks for another protocol, the client's side of that too.
pub fn take(mut request: Request<Incoming>) -> (Request<RequestBody>, Option<OnUpgrade>) {
    let upgrade = headers::is_upgrade(request.headers());
    let on_upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
    headers::strip_hop_by_hop(request.headers_mut(), upgrade);
    headers::to_origin_form(&mut request);
    *request.version_mut() = http::Version::HTTP_11;
    (request.map(RequestBody::Incoming), on_upgrade)
}

/// Makes an upstream's response ready for the client, and joins the two connections if both agreed on another protocol. `until`
/// ends them before they do themselves, and holds what counts them as open.
pub fn give(
    mut response: Response<ResponseBody>,
    client: Option<OnUpgrade>,
    until: impl Future<Output = ()> + Send + 'static,
) -> Response<ResponseBody> {
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    headers::strip_hop_by_hop(response.headers_mut(), switched);
    *response.version_mut() = http::Version::HTTP_11;
    if !switched {
        return response;
    }
    let Some(client) = client else {
        // A server may not switch unasked (RFC 9110, section 15.2.2).
        return own(StatusCode::BAD_GATEWAY, "the upstream switched protocols unasked");
    };
    let server = hyper::upgrade::on(&mut response);
    let (parts, body) = response.into_parts();
    tokio::spawn(async move {
        // The body holds the lease: the endpoint counts as in use until the joined connections end.
        let _body = body;
        let joined = async {
            if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
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

/// A response of the proxy's own.
#[must_use]
pub fn own(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(Some(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
        .headers_mut()
        .insert(http::header::SERVER, HeaderValue::from_static("istio-envoy"));
    response
}
