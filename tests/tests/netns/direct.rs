//! Calls straight to a pod's sidecar, as a peer of the mesh with whatever certificate, server name and source address, or in the
//! clear: every byte of the head is the test's own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use super::namespaces::inside;
use super::pod::Pod;
use super::secrets::Secret;

/// How long a call may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    Opaque,
}

/// A stream of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A caller's side of the mesh's mutual TLS.
pub(crate) struct Peer<'a> {
    /// Its certificate.
    pub(crate) secret: &'a Secret,
    /// The name that it asks for.
    pub(crate) server_name: Option<&'a str>,
}

/// An answer: its status, none where the connection ended without one; and its headers.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: Option<u16>,
    pub(crate) headers: HeaderMap,
}

/// Connects from an address of a pod, within so long; without a `peer` in the clear.
pub(crate) async fn connect(
    (from, source): (&Pod, Ipv4Addr),
    to: SocketAddr,
    spoken: Spoken,
    peer: Option<Peer<'_>>,
    patience: Duration,
) -> io::Result<Box<dyn Stream>> {
    let connecting = async {
        // A socket stays in the namespace that it was made in.
        let socket = inside(&from.namespace, TcpSocket::new_v4)?;
        // The port is chosen at connecting, so that it is none that the other side still remembers.
        let (on, size) = (1_i32, libc::socklen_t::try_from(size_of::<i32>()).unwrap());
        // SAFETY: a plain system call on an open descriptor, with a value of the size that is said.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size,
            )
        };
        assert_eq!(set, 0);
        socket.bind(SocketAddr::new(source.into(), 0))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let Some(peer) = peer else {
            return Ok(Box::new(stream) as Box<dyn Stream>);
        };
        let name = match peer.server_name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
            // No name is sent for an address.
            None => ServerName::IpAddress(to.ip().into()),
        };
        let connector = TlsConnector::from(Arc::new(config(peer.secret, spoken)));
        Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Stream>)
    };
    tokio::time::timeout(patience, connecting).await?
}

fn config(secret: &Secret, spoken: Spoken) -> ClientConfig {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(secret.crt.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(secret.key.as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_auth_cert(chain, key)
        .unwrap();
    let offered: &[&[u8]] = match spoken {
        Spoken::Http1 => &[b"istio-http/1.1", b"istio", b"http/1.1"],
        Spoken::Http2 => &[b"istio-h2", b"istio", b"h2"],
        Spoken::Opaque => &[b"istio"],
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    config
}

/// Whom the test calls is no question here.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Sends a head in HTTP/1.1, which asks that the connection be closed after it.
pub(crate) async fn http1(mut stream: Box<dyn Stream>, head: &str) -> Told {
    let mut answer = Vec::new();
    let asking = async {
        stream.write_all(head.as_bytes()).await?;
        // An end without a word is one too.
        stream.read_to_end(&mut answer).await
    };
    let _ = tokio::time::timeout(PATIENCE, asking).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer);
    let (head, _) = text.split_once("\r\n\r\n").unwrap_or_default();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.parse::<http::HeaderName>().ok()?, value.trim().parse().ok()?))
    });
    Told {
        status,
        headers: headers.collect(),
    }
}

/// Makes a request without a body in HTTP/2.
pub(crate) async fn http2(stream: Box<dyn Stream>, request: Request<()>) -> Told {
    let asking = async {
        let (mut sender, connection) = h2::client::handshake(stream).await?;
        let driven = tokio::spawn(connection);
        let answer = async {
            std::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
            sender.send_request(request, true)?.0.await
        };
        let answer = answer.await;
        driven.abort();
        answer
    };
    let none = Told {
        status: None,
        headers: HeaderMap::new(),
    };
    let answer: Result<_, h2::Error> = tokio::time::timeout(PATIENCE, asking).await.expect("an answer");
    answer.map_or(none, |answer| Told {
        status: Some(answer.status().as_u16()),
        headers: answer.headers().clone(),
    })
}

/// Whether bytes come back.
pub(crate) async fn echoed(mut stream: Box<dyn Stream>) -> bool {
    let asking = async {
        stream.write_all(&Bytes::from_static(b"ping")).await?;
        stream.read_exact(&mut [0; 4]).await
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an end").is_ok()
}
