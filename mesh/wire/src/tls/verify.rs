//! Whom a peer's certificate makes it, and whether that is believed (SPIFFE X.509-SVID, section 5; RFC 5280 path validation
//! by webpki).

use mesh_core::identity::{SpiffeId, TrustDomain};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage};

/// Why a peer's certificate, although it verifies, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The connection carries no certificate.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The leaf is not a certificate that can be read.
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    /// Not exactly one URI name (SPIFFE X.509-SVID, section 2).
    #[error("the peer's certificate has {0} URI names, expected exactly one SPIFFE ID")]
    UriNames(usize),
    /// The URI is not an identity of the mesh's form.
    #[error("the peer's identity {0:?} is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    Form(String),
    /// The peer belongs to another trust domain.
    #[error("the peer's trust domain {0} is neither the mesh's nor an alias of it")]
    TrustDomain(TrustDomain),
}

/// Reads the SPIFFE ID of a leaf. It says nothing about whether the certificate verifies.
///
/// # Errors
/// [`PeerError`] unless the leaf has exactly one URI name and it is an identity of the mesh's form.
pub fn spiffe_id(leaf: &CertificateDer<'_>) -> Result<SpiffeId, PeerError> {
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| PeerError::Unreadable)?;
    let mut names = leaf.valid_uri_names();
    match (names.next(), names.count()) {
        (Some(name), 0) => name.parse().map_err(|_| PeerError::Form(name.to_owned())),
        (first, more) => Err(PeerError::UriNames(more + usize::from(first.is_some()))),
    }
}

/// The identity that a finished handshake gave the peer. Its chain was verified by this module's verifiers, in this
/// handshake or in the one that a resumed session goes back to.
///
/// # Errors
/// [`PeerError`] when there is no certificate or it holds no identity.
pub fn peer_identity(connection: &rustls::CommonState) -> Result<SpiffeId, PeerError> {
    let chain = connection.peer_certificates().unwrap_or_default();
    spiffe_id(chain.first().ok_or(PeerError::NoCertificate)?)
}

/// The trust domains that count as the mesh's own.
#[derive(Debug, Clone)]
pub struct TrustDomains {
    /// The mesh's trust domain and its aliases.
    domains: Vec<TrustDomain>,
}

impl TrustDomains {
    /// The mesh's own domain and its aliases.
    #[must_use]
    pub fn new(own: TrustDomain, aliases: impl IntoIterator<Item = TrustDomain>) -> Self {
        Self {
            domains: std::iter::once(own).chain(aliases).collect(),
        }
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, domain: &TrustDomain) -> bool {
        self.domains.contains(domain)
    }
}

/// Verifies peers, as a server and as a client.
#[derive(Debug)]
pub struct PeerVerifier {
    roots: RootCertStore,
    domains: TrustDomains,
    provider: Arc<CryptoProvider>,
}

impl PeerVerifier {
    /// A verifier that believes certificates under `roots` with an identity in one of `domains`.
    #[must_use]
    pub fn new(roots: RootCertStore, domains: TrustDomains, provider: Arc<CryptoProvider>) -> Self {
        Self {
            roots,
            domains,
            provider,
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<SpiffeId, rustls::Error> {
        let parsed = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
        parsed
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(certificate_error)?;
        let identity = spiffe_id(leaf).map_err(refused)?;
        if !self.domains.contains(identity.trust_domain()) {
            return Err(refused(PeerError::TrustDomain(identity.trust_domain().clone())));
        }
        Ok(identity)
    }
}

fn refused(error: PeerError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// Why a handshake failed, in words: rustls shows what a verifier of its own adds only in the form for debugging.
#[must_use]
pub fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.to_string(),
        other => other.to_string(),
    }
}

/// [`explain`] for the error of a stream, as tokio-rustls gives it.
#[must_use]
pub fn explain_io(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => explain(inner),
        None => error.to_string(),
    }
}

/// webpki's verdict in rustls' words, so that the alert sent and the error logged say what was wrong.
#[must_use]
pub fn certificate_error(error: webpki::Error) -> rustls::Error {
    match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired.into(),
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature.into(),
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
        other => CertificateError::Other(OtherError(Arc::new(other))).into(),
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name sent is Istio's routing key, not the server's: who it is, its SPIFFE ID says.
        self.verify(end_entity, intermediates, now, KeyUsage::server_auth())
            .map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now, KeyUsage::client_auth())
            .map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
