//! An operator over loopback for these tests: real mutual TLS, HTTP/2 and gRPC; what it says on a stream, the test decides.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use mesh_core::identity::TrustDomain;
use mesh_wire::resources::TAKES_CANDIDATE_SETS;
use mesh_wire::tls::material::root_store;
use mesh_wire::tls::verify::{PeerVerifier, TrustDomains};
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Server, server::Connected};
use tonic::{Request, Response, Status, Streaming};

pub(super) const OPERATOR: &str = "spiffe://cluster.local/ns/istio-system/sa/pinnace-operator";
pub(super) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// The longest that anything in these tests may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::OrganizationName, "test");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn leaf(&self, uri: &str, life: Duration) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = (std::time::SystemTime::now() + life).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
    }

    fn verifier(&self) -> Arc<PeerVerifier> {
        let domains = TrustDomains::new(TrustDomain::new("cluster.local").unwrap(), []);
        Arc::new(PeerVerifier::new(
            root_store(&[self.root()]).unwrap(),
            domains,
            provider(),
        ))
    }

    /// What a proxy with a leaf of this CA dials with.
    pub(super) fn client(&self, uri: &str, life: Duration) -> Arc<ClientConfig> {
        let (chain, key) = self.leaf(uri, life);
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config.dangerous().with_custom_certificate_verifier(self.verifier());
        Arc::new(config.with_client_auth_cert(chain, key).unwrap())
    }

    fn server(&self, uri: &str) -> Arc<ServerConfig> {
        let (chain, key) = self.leaf(uri, Duration::from_secs(3600));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = config
            .with_client_cert_verifier(self.verifier())
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A running operator.
pub(super) struct Operator {
    pub(super) address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    tasks: Vec<AbortHandle>,
}

impl Operator {
    pub(super) async fn start(ca: &Ca, uri: &str) -> Self {
        Self::start_at(ca, uri, ([127, 0, 0, 1], 0).into()).await
    }

    /// One that is asked for nothing beside what every operator has.
    pub(super) async fn of_before(ca: &Ca) -> Self {
        Self::taking(ca, OPERATOR, ([127, 0, 0, 1], 0).into(), &[]).await
    }

    pub(super) async fn start_at(ca: &Ca, uri: &str, address: SocketAddr) -> Self {
        Self::taking(ca, uri, address, &[TAKES_CANDIDATE_SETS]).await
    }

    async fn taking(ca: &Ca, uri: &str, address: SocketAddr, takes: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(ca.server(uri));
        let (send, incoming) = mpsc::channel(8);
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(socket).await {
                    let _ = send.send(Ok::<_, io::Error>(Secured(stream))).await;
                }
            }
        });
        let (send, streams) = mpsc::channel(8);
        let service = AggregatedDiscoveryServiceServer::new(Service { streams: send, takes });
        let server = Server::builder()
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(incoming));
        let serving = tokio::spawn(server);
        Self {
            address,
            streams,
            tasks: vec![accepting.abort_handle(), serving.abort_handle()],
        }
    }

    /// The next stream that a proxy opens.
    pub(super) async fn stream(&mut self) -> Stream {
        tokio::time::timeout(PATIENCE, self.streams.recv())
            .await
            .expect("a stream in time")
            .unwrap()
    }

    /// Whether no stream is opened for a while.
    pub(super) async fn no_stream(&mut self, within: Duration) -> bool {
        tokio::time::timeout(within, self.streams.recv()).await.is_err()
    }

    /// No connection is taken any more.
    pub(super) fn stop(self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// One stream, seen from the operator.
pub(super) struct Stream {
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    nonce: u32,
}

impl Stream {
    pub(super) async fn request(&mut self) -> DeltaDiscoveryRequest {
        tokio::time::timeout(PATIENCE, self.requests.message())
            .await
            .expect("a request in time")
            .unwrap()
            .unwrap()
    }

    /// Whether the proxy says nothing for a while.
    pub(super) async fn quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(200), self.requests.message())
            .await
            .is_err()
    }

    /// Sends a response; answers with the proxy's verdict: `None` when it was accepted.
    pub(super) async fn say(&mut self, type_url: &str, resources: Vec<Resource>, removed: &[&str]) -> Option<String> {
        self.verdict(type_url, resources, removed)
            .await
            .error_detail
            .map(|status| status.message)
    }

    pub(super) async fn verdict(
        &mut self,
        type_url: &str,
        resources: Vec<Resource>,
        removed: &[&str],
    ) -> DeltaDiscoveryRequest {
        self.nonce += 1;
        let response = DeltaDiscoveryResponse {
            type_url: type_url.into(),
            resources,
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        };
        self.responses.send(Ok(response)).await.unwrap();
        let verdict = self.request().await;
        assert_eq!(
            (verdict.type_url.as_str(), verdict.response_nonce),
            (type_url, self.nonce.to_string())
        );
        DeltaDiscoveryRequest {
            response_nonce: String::new(),
            ..verdict
        }
    }
}

pub(super) fn resource(type_url: &str, name: &str, version: &str, message: &impl Message) -> Resource {
    raw(type_url, name, version, message.encode_to_vec())
}

pub(super) fn raw(type_url: &str, name: &str, version: &str, value: Vec<u8>) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(Any {
            type_url: type_url.into(),
            value,
        }),
        ..Default::default()
    }
}

struct Service {
    streams: mpsc::Sender<Stream>,
    /// The headers of its answers.
    takes: &'static [&'static str],
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, receiver) = mpsc::channel(8);
        let stream = Stream {
            requests: request.into_inner(),
            responses,
            nonce: 0,
        };
        self.streams
            .send(stream)
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        let mut response = Response::new(ReceiverStream::new(receiver));
        for taken in self.takes {
            response.metadata_mut().insert(*taken, MetadataValue::from_static("1"));
        }
        Ok(response)
    }
}

struct Secured(TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
