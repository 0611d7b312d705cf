//! The application's probes and hooks, which the kubelet asks the proxy for: under STRICT mutual TLS it could not ask
//! the application itself. Read once at start from `ISTIO_KUBE_APP_PROBERS`, then run on request against the pod's
//! own address from 127.0.0.6 (`::6`), which the redirect rules leave alone.

mod grpc;
mod http;
mod parse;
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

pub use parse::ProbeError;

/// The probes by the path under which the kubelet asks for them.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    by_path: HashMap<String, Probe>,
}

/// One probe or hook.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Probe {
    action: Action,
    timeout: Duration,
}

/// What is done to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Http {
        /// Where, if not at the pod's address.
        host: Option<IpAddr>,
        port: u16,
        path: PathAndQuery,
        https: bool,
        /// The `Host` of the request, if not address and port.
        authority: Option<HeaderValue>,
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    Tcp {
        host: Option<IpAddr>,
        port: u16,
    },
    Grpc {
        port: u16,
        /// The service asked for; empty asks for the server as a whole.
        service: String,
    },
}

/// What came of a probe: the status for the kubelet, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// 200 for success; else the application's own status, or 500 when it gave none.
    pub(super) status: StatusCode,
    /// One line for whoever looks.
    pub(super) reason: String,
}

impl Outcome {
    fn success(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            reason: reason.into(),
        }
    }

    fn failure(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            reason: reason.into(),
        }
    }
}

impl Probes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// The longest that any of them may take.
    pub(super) fn longest(&self) -> Duration {
        self.by_path.values().map(|p| p.timeout).max().unwrap_or_default()
    }
}

/// Runs the probes of one pod.
pub(super) struct Prober {
    probes: Probes,
    pod: IpAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Prober {
    /// For the pod at `pod`.
    pub(super) fn new(probes: Probes, pod: IpAddr) -> Result<Self, rustls::Error> {
        Ok(Self {
            probes,
            pod,
            tls: tls::config()?,
        })
    }

    /// Runs the probe of `path`, with the kubelet's own headers at hand; none if there is no such probe.
    pub(super) async fn run(&self, path: &str, asked: &HeaderMap) -> Option<Outcome> {
        let probe = self.probes.by_path.get(path)?;
        let outcome = timeout(probe.timeout, self.act(&probe.action, asked)).await;
        Some(outcome.unwrap_or_else(|_| Outcome::failure(format!("no answer within {} s", probe.timeout.as_secs()))))
    }

    async fn act(&self, action: &Action, asked: &HeaderMap) -> Outcome {
        let (host, port) = match action {
            Action::Http { host, port, .. } | Action::Tcp { host, port } => (*host, *port),
            Action::Grpc { port, .. } => (None, *port),
        };
        let to = SocketAddr::new(host.unwrap_or(self.pod), port);
        let stream = match dial(to, host.is_none()).await {
            Ok(stream) => stream,
            Err(e) => return Outcome::failure(format!("cannot connect to {to}: {e}")),
        };
        match action {
            Action::Tcp { .. } => Outcome::success(format!("connected to {to}")),
            Action::Http {
                https,
                path,
                authority,
                headers,
                ..
            } => {
                let request = http::request(to, path, authority.as_ref(), headers, asked);
                if *https {
                    match tls::connect(&self.tls, to.ip(), stream).await {
                        Ok(stream) => http::ask(stream, request).await,
                        Err(e) => Outcome::failure(format!("TLS handshake with {to}: {e}")),
                    }
                } else {
                    http::ask(stream, request).await
                }
            }
            Action::Grpc { service, .. } => grpc::ask(stream, to, service).await,
        }
    }
}

/// Connects, from the source that the redirect rules leave alone when it is the pod itself that is asked.
async fn dial(to: SocketAddr, own_pod: bool) -> io::Result<TcpStream> {
    let (socket, source): (_, IpAddr) = match to {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, Ipv4Addr::new(127, 0, 0, 6).into()),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into()),
    };
    if own_pod {
        socket
            .bind(SocketAddr::new(source, 0))
            .map_err(|e| io::Error::new(e.kind(), format!("cannot bind the source {source}: {e}")))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
