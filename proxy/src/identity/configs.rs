//! rustls configurations for each kind of connection, made anew for each certificate and each trust bundle.
//!
//! Made anew, because a configuration holds the sessions that may be resumed: rustls restores a resumed client's chain
//! without verifying it again, so a session must not outlive the leaf or the roots under which it began.

use mesh_core::identity::TrustDomain;
use mesh_core::protocol::Declared;
use mesh_wire::tls::material::{Material, MaterialError, root_store};
use mesh_wire::tls::verify::{PeerVerifier, TrustDomains};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What a client offers where HTTP/1.1 follows: Istio's tokens first, by which a PERMISSIVE server knows mesh traffic.
const ALPN_HTTP: [&[u8]; 3] = [b"istio-http/1.1", b"istio", b"http/1.1"];

/// What a client offers where HTTP/2 follows.
const ALPN_HTTP2: [&[u8]; 3] = [b"istio-h2", b"istio", b"h2"];

/// What a client offers where opaque bytes follow. Istio offers `istio-peer-exchange` too, which obliges both sides to a
/// framing of its own; `istio` alone says the same without it.
const ALPN_OPAQUE: [&[u8]; 1] = [b"istio"];

/// The tokens by which a server knows that a client speaks for the mesh.
const ALPN_MESH_PREFIX: &[u8] = b"istio";

/// How many sessions a client keeps for resumption: about one per destination that is in use.
const CLIENT_SESSIONS: usize = 1024;

/// Whom a server must trust beyond what the Secret says: the trust bundle of the discovery stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Trust domains that count as its own.
    pub aliases: Vec<TrustDomain>,
    /// Root certificates.
    pub roots: Vec<CertificateDer<'static>>,
}

/// How connections are made, whatever the certificate.
#[derive(Debug, Clone, Copy)]
pub struct Handling {
    /// Whether sessions may be resumed; without it every handshake is a full one.
    pub resumption: bool,
    /// Whether rustls gives away a connection's keys, which TLS by the kernel needs. It gives them to this process alone, and
    /// without it not even to that.
    pub extraction: bool,
}

/// Everything that a handshake needs, of one certificate and one trust bundle.
#[derive(Debug)]
pub struct Tls {
    /// Tells pooled connections of this TLS from those of an earlier one.
    pub generation: u64,
    /// The certificate in use.
    pub material: Arc<Material>,
    /// When the certificate ends.
    pub not_after: SystemTime,
    /// A server for clients that speak HTTP/2 or HTTP/1.1 under TLS.
    pub server_http: Arc<ServerConfig>,
    /// A server for opaque bytes; it selects no protocol.
    pub server_opaque: Arc<ServerConfig>,
    /// A client that will speak HTTP/1.1.
    pub client_http: Arc<ClientConfig>,
    /// A client that will speak HTTP/2.
    pub client_http2: Arc<ClientConfig>,
    /// A client that will pass opaque bytes.
    pub client_opaque: Arc<ClientConfig>,
    /// The client of the discovery stream (HTTP/2).
    pub client_discovery: Arc<ClientConfig>,
    /// The trust in force.
    pub trust: Trust,
}

/// Why no TLS can be made of a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The files.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// rustls.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The leaf's validity cannot be read.
    #[error("tls.crt: the validity cannot be read")]
    Validity,
}

impl Tls {
    /// Makes the configurations. Without a trust bundle from the stream, the Secret's roots and the leaf's own trust domain
    /// are the trust.
    ///
    /// # Errors
    /// [`TlsError`]; the caller keeps what it has.
    pub fn new(
        material: Arc<Material>,
        trust: Option<Trust>,
        handling: Handling,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);

        let trust = trust.unwrap_or_else(|| Trust {
            trust_domain: material.identity.trust_domain().clone(),
            aliases: Vec::new(),
            roots: material.roots.clone(),
        });
        let domains = TrustDomains::new(trust.trust_domain.clone(), trust.aliases.iter().cloned());
        let verifier = Arc::new(PeerVerifier::new(root_store(&trust.roots)?, domains, provider.clone()));
        let resolver = Arc::new(SingleCertAndKey::from(material.certified_key.clone()));

        let server = |alpn: &[&[u8]]| -> Result<Arc<ServerConfig>, rustls::Error> {
            let mut config = ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .with_client_cert_verifier(verifier.clone())
                .with_cert_resolver(resolver.clone());
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            config.enable_secret_extraction = handling.extraction;
            if handling.resumption {
                config.ticketer = Ticketer::new()?;
                // A ticket is good for one connection (RFC 8446, section C.4): with two, a pool that grows resumes.
                config.send_tls13_tickets = 2;
            } else {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            Ok(Arc::new(config))
        };
        let client = |alpn: &[&[u8]], extraction: bool| -> Result<Arc<ClientConfig>, rustls::Error> {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_cert_resolver(resolver.clone());
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            config.enable_secret_extraction = extraction;
            config.resumption = match handling.resumption {
                true => Resumption::in_memory_sessions(CLIENT_SESSIONS),
                false => Resumption::disabled(),
            };
            Ok(Arc::new(config))
        };
        Ok(Self {
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            not_after: not_after(material.leaf()).ok_or(TlsError::Validity)?,
            server_http: server(&[b"h2", b"http/1.1"])?,
            server_opaque: server(&[])?,
            client_http: client(&ALPN_HTTP, handling.extraction)?,
            client_http2: client(&ALPN_HTTP2, handling.extraction)?,
            client_opaque: client(&ALPN_OPAQUE, handling.extraction)?,
            client_discovery: client(&[b"h2"], false)?,
            material,
            trust,
        })
    }
}

/// What a client offers by ALPN to a port that was declared to speak something; to one that was not, where HTTP/1.1 follows.
pub fn offered(declared: Declared) -> impl Iterator<Item = &'static str> {
    let protocols: &[&[u8]] = match declared {
        Declared::Http | Declared::Detect => &ALPN_HTTP,
        Declared::Http2 => &ALPN_HTTP2,
        Declared::Tcp | Declared::Udp => &ALPN_OPAQUE,
    };
    protocols
        .iter()
        .filter_map(|protocol| std::str::from_utf8(protocol).ok())
}

/// Whether a client that offers these protocols speaks for the mesh, as Istio's PERMISSIVE servers decide.
pub fn is_mesh<'a>(mut alpn: impl Iterator<Item = &'a [u8]>) -> bool {
    alpn.any(|protocol| protocol.starts_with(ALPN_MESH_PREFIX))
}

/// When a certificate ends; `None` where it cannot be read.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
