//! Verifies a server as a rule says (RFC 5280 path validation by webpki; names as RFC 6125 matches them).

use mesh_wire::tls::verify::certificate_error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use webpki::{CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder};

/// What is asked of a server's certificate.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing (`insecureSkipVerify`).
    Nothing,
    /// A chain and a name.
    Names {
        roots: RootCertStore,
        crls: Vec<CertRevocationList<'static>>,
        /// One of these; if empty, the name that the server was called by.
        names: Vec<Arc<str>>,
    },
}

/// The certificate verifies, and is somebody else's.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is for {1}, expected {0}")]
struct OtherName(String, String);

#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(check: Check, provider: Arc<CryptoProvider>) -> Self {
        Self { check, provider }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Check::Names { roots, crls, names } = &self.check else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let crls: Vec<&CertRevocationList<'_>> = crls.iter().collect();
        // As Envoy: with a list given, every certificate of the chain must be on the good side of one that is in time.
        let revocation = RevocationOptionsBuilder::new(&crls)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        parsed
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &roots.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                revocation,
                None,
            )
            .map_err(certificate_error)?;
        let fits = if names.is_empty() {
            parsed.verify_is_valid_for_subject_name(server_name).is_ok()
        } else {
            names.iter().any(|name| has(&parsed, name))
        };
        if !fits {
            let wanted = match &names[..] {
                [] => server_name.to_str().into_owned(),
                names => names.iter().map(|name| &**name).collect::<Vec<_>>().join(", "),
            };
            let dns = parsed.valid_dns_names();
            let held = dns.chain(parsed.valid_uri_names()).collect::<Vec<_>>().join(", ");
            return Err(CertificateError::Other(OtherError(Arc::new(OtherName(wanted, held)))).into());
        }
        Ok(ServerCertVerified::assertion())
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

/// Whether a certificate has a name: a DNS name (which a wildcard of the certificate may cover), an address or a URI.
fn has(certificate: &EndEntityCert<'_>, name: &str) -> bool {
    certificate.valid_uri_names().any(|uri| uri == name)
        || ServerName::try_from(name).is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}
