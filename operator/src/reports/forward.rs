//! The way to the replica that holds the lease: over mutual TLS, under the operator's own certificate, to a peer that proves
//! to be of the operator's service account.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use mesh_wire::reports::{Report, SEND, Taken};
use mesh_wire::tls::verify::peer_identity;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::index::Index;
use crate::index::resolve::named;
use crate::kubernetes::leader::Leadership;

/// The longest that a connection, or an answer, takes.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What connections to other replicas are made with; none until there is a certificate.
pub type Outgoing = Arc<ArcSwapOption<ClientConfig>>;

/// The way. Cheap to share by reference.
#[derive(Debug)]
pub struct Forward {
    /// Who holds the lease.
    pub leadership: Leadership,
    /// Where its pod is.
    pub index: Arc<Index>,
    /// What to connect with.
    pub outgoing: Outgoing,
    /// The namespace and service account of the operator's replicas.
    pub replicas: (String, String),
    /// The port of discovery.
    pub port: u16,
    /// The connection that was made last, and to whom.
    pub connection: Mutex<Option<(String, Channel)>>,
}

impl Forward {
    /// Sends a report to who holds the lease.
    ///
    /// # Errors
    /// Nobody is known to hold it, or its holder cannot be reached or does not take the report.
    pub(crate) async fn send(&self, report: Report) -> Result<Taken, Status> {
        let channel = self.channel().await?;
        let sent = tokio::time::timeout(TIMEOUT, call(channel, report)).await;
        let sent = sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("the holder of the lease does not answer")));
        if sent.is_err() {
            // Whatever it was, the next one starts anew.
            *self.connection.lock().await = None;
        }
        sent
    }

    async fn channel(&self) -> Result<Channel, Status> {
        let holder = self.leadership.holder();
        let holder = holder.ok_or_else(|| Status::unavailable("nobody is known to hold the lease"))?;
        let mut connection = self.connection.lock().await;
        if let Some((to, channel)) = &*connection
            && *to == holder
        {
            return Ok(channel.clone());
        }
        let made = tokio::time::timeout(TIMEOUT, self.connect(&holder)).await;
        let made = made.unwrap_or_else(|_| Err("no connection in time".to_owned()));
        let channel =
            made.map_err(|reason| Status::unavailable(format!("{holder}, which holds the lease: {reason}")))?;
        *connection = Some((holder, channel.clone()));
        Ok(channel)
    }

    async fn connect(&self, holder: &str) -> Result<Channel, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let pod = named(&self.replicas.0, holder);
        let address = self
            .index
            .read(|world, _| world.pod_named(&pod).and_then(|pod| pod.addresses.first().copied()))
            .ok_or("its pod has no address")?;
        let address = SocketAddr::new(address, self.port);
        let config = self.outgoing.load_full().ok_or("there is no certificate yet")?;
        let stream = TcpStream::connect(address).await.map_err(|error| said(&error))?;
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = self.verified(stream.map_err(|error| said(&error))?)?;
        let mut once = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: http::Uri| {
            let io = once.take().ok_or(std::io::ErrorKind::NotConnected);
            async move { io.map_err(std::io::Error::from) }
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| said(&error))?;
        let endpoint = endpoint.http2_keep_alive_interval(TIMEOUT).keep_alive_timeout(TIMEOUT);
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| said(&error))
    }

    /// The connection, if its peer is an operator.
    fn verified(&self, stream: TlsStream<TcpStream>) -> Result<TlsStream<TcpStream>, String> {
        let found = peer_identity(stream.get_ref().1).map_err(|error| error.to_string())?;
        let (namespace, account) = &self.replicas;
        if *found.namespace() != **namespace || *found.service_account() != **account {
            return Err(format!(
                "the server is {found}, expected service account {namespace}/{account}"
            ));
        }
        Ok(stream)
    }
}

async fn call(channel: Channel, report: Report) -> Result<Taken, Status> {
    let mut grpc = Grpc::new(channel);
    let unready = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    grpc.ready().await.map_err(unready)?;
    let codec = ProstCodec::<Report, Taken>::default();
    let answer = grpc.unary(Request::new(report), PathAndQuery::from_static(SEND), codec);
    Ok(answer.await?.into_inner())
}
