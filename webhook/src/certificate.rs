//! The serving certificate: from the Secret that the operator writes to what the listener uses.

use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// The name of the Secret; `-REVISION` follows when there is a revision.
pub const SECRET: &str = "pinnace-webhook-tls";

/// A certificate that can be served.
#[derive(Debug)]
pub struct Serving {
    /// The listener's configuration.
    pub tls: Arc<ServerConfig>,
    /// When the leaf ends, in seconds since the epoch.
    pub not_after: i64,
}

impl Serving {
    /// Reads `tls.crt` and `tls.key` of a Secret.
    ///
    /// # Errors
    /// What is lacking or damaged, or that key and certificate do not belong together.
    pub fn from_secret(secret: &Secret) -> anyhow::Result<Self> {
        let data = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            bytes
                .map(|bytes| bytes.0.as_slice())
                .with_context(|| format!("the Secret has no {key}"))
        };
        Self::from_pem(data("tls.crt")?, data("tls.key")?)
    }

    /// Reads a chain and its key.
    ///
    /// # Errors
    /// As [`Self::from_secret`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .context("tls.crt is not PEM")?;
        let leaf = chain.first().context("tls.crt holds no certificate")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).context("tls.crt holds no X.509 certificate")?;
        let not_after = parsed.validity().not_after.timestamp();
        let key = PrivateKeyDer::from_pem_slice(key).context("tls.key is no private key in PEM")?;
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("tls.crt and tls.key do not belong together")?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: Arc::new(tls),
            not_after,
        })
    }
}
