//! A connection to an operator: its name resolved, TCP, mutual TLS, and the check that it is the operator.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hyper_util::rt::TokioIo;
use mesh_core::identity::SpiffeId;
use mesh_wire::tls::verify::{PeerError, peer_identity};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// The longest that each step of a connection takes.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 pings: an operator whose node vanished is noticed after the sum of the two.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection to an operator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured address.
    #[error("discovery address {0:?}: expected HOST:PORT")]
    Address(String),
    /// The operator's name does not resolve.
    #[error("{host} does not resolve: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// Nothing takes the connection.
    #[error("{0}: {1}")]
    Tcp(SocketAddr, #[source] std::io::Error),
    /// The handshake failed, or the operator's certificate is not believed.
    #[error("TLS handshake with {0}: {1}")]
    Tls(SocketAddr, #[source] std::io::Error),
    /// The server's certificate holds no identity.
    #[error(transparent)]
    Identity(#[from] PeerError),
    /// The server is of the mesh, but it is not the operator.
    #[error("the server is {found}, expected {expected}")]
    NotTheOperator {
        /// Whom the proxy was told to expect.
        expected: SpiffeId,
        /// Who answered.
        found: SpiffeId,
    },
    /// HTTP/2 was not agreed upon.
    #[error("HTTP/2: {0}")]
    Http2(#[from] tonic::transport::Error),
}

/// Connects to the first address behind `address` (HOST:PORT) that takes the connection and proves to be `operator`.
///
/// # Errors
/// [`ConnectError`] of the last address tried.
pub(super) async fn connect(
    address: &str,
    config: &ClientConfig,
    operator: &SpiffeId,
) -> Result<Channel, ConnectError> {
    let malformed = || ConnectError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().map_err(|_| malformed())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| malformed())?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| malformed())?
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);

    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Each connection verifies the operator's certificate as it is now.
    config.resumption = Resumption::disabled();
    let tls = TlsConnector::from(Arc::new(config));

    let mut last = ConnectError::Resolve {
        host: host.to_owned(),
        reason: "no address".to_owned(),
    };
    for ip in resolve(host).await? {
        match secure(SocketAddr::new(ip, port), &tls, name.clone(), operator).await {
            Ok(stream) => {
                // A lost connection is not made anew behind our back: the stream over it is lost too.
                let mut once = Some(TokioIo::new(stream));
                let connector = tower::service_fn(move |_: http::Uri| {
                    let io = once.take().ok_or(std::io::ErrorKind::NotConnected);
                    async move { io.map_err(std::io::Error::from) }
                });
                return Ok(endpoint.connect_with_connector(connector).await?);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn secure(
    address: SocketAddr,
    tls: &TlsConnector,
    name: ServerName<'static>,
    operator: &SpiffeId,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let stream = tokio::time::timeout(STEP_TIMEOUT, TcpStream::connect(address)).await;
    let stream = stream
        .unwrap_or_else(|_| Err(timed_out()))
        .map_err(|error| ConnectError::Tcp(address, error))?;
    // Requests are small and wait for nothing. Where it cannot be set, they are late.
    let _ = stream.set_nodelay(true);
    let stream = tokio::time::timeout(STEP_TIMEOUT, tls.connect(name, stream)).await;
    let stream = stream
        .unwrap_or_else(|_| Err(timed_out()))
        .map_err(|error| ConnectError::Tls(address, error))?;
    let found = peer_identity(stream.get_ref().1)?;
    // Its trust domain was verified to be the mesh's or an alias. The one that this pod was told at its start is the old one
    // after the mesh was renamed.
    if !found.same_account(operator) {
        return Err(ConnectError::NotTheOperator {
            expected: operator.clone(),
            found,
        });
    }
    Ok(stream)
}

/// The addresses of a name by /etc/hosts and /etc/resolv.conf, read anew each time: a static binary has no other resolver,
/// and reconnecting is rare.
async fn resolve(host: &str) -> Result<Vec<IpAddr>, ConnectError> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let failed = |reason: String| ConnectError::Resolve {
        host: host.to_owned(),
        reason,
    };
    let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build()
    });
    let resolver = resolver.map_err(|error| failed(error.to_string()))?;
    let found = tokio::time::timeout(STEP_TIMEOUT, resolver.lookup_ip(host)).await;
    let found = found.map_err(|_| failed("no answer in time".to_owned()))?;
    Ok(found.map_err(|error| failed(error.to_string()))?.iter().collect())
}
