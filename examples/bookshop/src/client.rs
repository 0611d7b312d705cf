//! HTTP/1.1 and HTTP/2 calls to other services: a name becomes addresses, an address a connection, a request an answer, each
//! with a limit on time and size. Names are resolved in process, since a static binary has no working getaddrinfo.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderValue};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// An answer's body may be this long, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// A name's resolution and a connection may each take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The URL is not one that can be called.
    #[error("{0} is not a URL of the form http://HOST[:PORT]/PATH")]
    Url(Uri),
    /// The name has no address.
    #[error("cannot resolve {name}: {reason}")]
    Resolve {
        /// The name as it was asked for.
        name: String,
        /// What the resolver said.
        reason: String,
    },
    /// No address took the connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// The connection broke, or what came was not HTTP.
    #[error("{}", chain(.0))]
    Http(#[from] hyper::Error),
    /// The answer's body broke off or was too long.
    #[error("the answer's body: {0}")]
    Body(String),
    /// Nothing in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// An answer, but not a success.
    #[error("answered {0}")]
    Status(StatusCode),
    /// A raw TCP peer broke off or answered nonsense.
    #[error("{0}")]
    Stream(String),
}

/// hyper keeps the system's own words in the error's source.
fn chain(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The whole body.
    pub(crate) body: Bytes,
}

/// Opens connections by name or address.
#[derive(Clone)]
pub(crate) struct Dialer {
    resolver: TokioResolver,
}

impl Dialer {
    /// Reads /etc/resolv.conf and /etc/hosts.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn new() -> Result<Self, std::io::Error> {
        let resolver = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
        Ok(Self {
            resolver: resolver.map_err(std::io::Error::other)?,
        })
    }

    /// Connects to the first address of `host` that takes the connection. `host` is a name or an address.
    ///
    /// # Errors
    /// When the name has no address, or none of them answers in time.
    pub(crate) async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, CallError> {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let unresolved = |reason: String| CallError::Resolve {
            name: name.to_owned(),
            reason,
        };
        let found = tokio::time::timeout(CONNECT_TIMEOUT, self.resolver.lookup_ip(name));
        let found = found.await.map_err(|_| CallError::TimedOut(CONNECT_TIMEOUT))?;
        let mut last = unresolved("no address".to_owned());
        let found = found.map_err(|error| {
            unresolved(if error.is_no_records_found() {
                "no such name".to_owned()
            } else {
                error.to_string()
            })
        });
        for ip in found?.iter() {
            let address = SocketAddr::new(ip, port);
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small messages both ways: without this the last of them may wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = CallError::Connect(address, error),
                Err(_) => last = CallError::Connect(address, std::io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    /// Opens an HTTP/1.1 connection to the authority of `uri`.
    ///
    /// # Errors
    /// As [`Dialer::tcp`]; also when `uri` is not an http URL.
    pub(crate) async fn http(&self, uri: &Uri) -> Result<Connection, CallError> {
        let (host, port) = endpoint(uri)?;
        let stream = self.tcp(host, port).await?;
        let (sender, driver) = http1::Builder::new()
            .max_headers(100)
            .handshake(TokioIo::new(stream))
            .await?;
        // The driver ends with the connection; what went wrong with it reaches the caller through the sender.
        tokio::spawn(driver);
        Ok(Connection {
            sender: Sender::One(sender),
        })
    }

    /// Opens an HTTP/2 connection in the clear, as both sides know beforehand (RFC 9113, 3.3).
    ///
    /// # Errors
    /// As [`Dialer::http`].
    pub(crate) async fn http2(&self, uri: &Uri) -> Result<Connection, CallError> {
        let (host, port) = endpoint(uri)?;
        let stream = self.tcp(host, port).await?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(driver);
        Ok(Connection {
            sender: Sender::Two(sender),
        })
    }

    /// One GET on a connection of its own, within `limit` as a whole.
    ///
    /// # Errors
    /// When no complete answer comes in time. An answer of any status is an answer.
    pub(crate) async fn get(&self, uri: &Uri, headers: HeaderMap, limit: Duration) -> Result<Answer, CallError> {
        let call = async { self.http(uri).await?.get(uri, headers).await };
        tokio::time::timeout(limit, call)
            .await
            .map_err(|_| CallError::TimedOut(limit))?
    }

    /// As [`Dialer::get`], and gives the body of a success alone.
    ///
    /// # Errors
    /// Also when the answer is not a success.
    pub(crate) async fn fetch(&self, uri: &Uri, headers: HeaderMap, limit: Duration) -> Result<Bytes, CallError> {
        let answer = self.get(uri, headers, limit).await?;
        if answer.status.is_success() {
            Ok(answer.body)
        } else {
            Err(CallError::Status(answer.status))
        }
    }
}

/// A connection that serves one request after the other.
pub(crate) struct Connection {
    sender: Sender,
}

enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    /// Sends a GET and reads the whole answer. A `host` in `headers` replaces the URL's.
    ///
    /// # Errors
    /// When the connection breaks or the body is too long.
    pub(crate) async fn get(&mut self, uri: &Uri, headers: HeaderMap) -> Result<Answer, CallError> {
        let authority = uri.authority().ok_or_else(|| CallError::Url(uri.clone()))?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::new(Empty::new());
        *request.headers_mut() = headers;
        let response = match &mut self.sender {
            Sender::One(sender) => {
                *request.uri_mut() = target.parse().map_err(|_| CallError::Url(uri.clone()))?;
                if !request.headers().contains_key(HOST) {
                    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| CallError::Url(uri.clone()))?;
                    request.headers_mut().insert(HOST, host);
                }
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Two(sender) => {
                // The authority is a part of the target there.
                let host = request.headers_mut().remove(HOST);
                let host = host.as_ref().and_then(|host| host.to_str().ok());
                let whole = format!("http://{}{target}", host.unwrap_or(authority.as_str()));
                *request.uri_mut() = whole.parse().map_err(|_| CallError::Url(uri.clone()))?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let body = body.map_err(|error| CallError::Body(error.to_string()))?.to_bytes();
        Ok(Answer { status, body })
    }

    /// Whether the other side has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }
}

/// Host and port of an http URL.
fn endpoint(uri: &Uri) -> Result<(&str, u16), CallError> {
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) if !host.is_empty() => Ok((host, uri.port_u16().unwrap_or(80))),
        _ => Err(CallError::Url(uri.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_http_urls_only() {
        let rows = [
            ("http://reviews:9080/reviews/0", Some(("reviews", 9080))),
            ("http://reviews", Some(("reviews", 80))),
            ("http://[::1]:8080/", Some(("[::1]", 8080))),
            ("https://reviews/", None),
            ("/reviews", None),
            ("reviews:9080", None),
        ];
        for (url, expected) in rows {
            let uri: Uri = url.parse().unwrap();
            assert_eq!(endpoint(&uri).ok(), expected, "{url}");
        }
    }
}
