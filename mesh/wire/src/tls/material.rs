//! A certificate, its key and the trusted roots, as a `kubernetes.io/tls` Secret holds them: `tls.crt` (leaf first, then
//! intermediates), `tls.key`, `ca.crt` (all trusted roots), each PEM.
//!
//! A [`Material`] exists only if its parts fit together, so what was loaded stays in force until the next whole one.

use super::verify::{PeerError, PeerVerifier, TrustDomains, explain, spiffe_id};
use mesh_core::identity::SpiffeId;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;

/// Why a set of files is refused. The text never holds key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// No certificate, or PEM that cannot be read.
    #[error("{file}: {reason}")]
    Pem {
        /// `tls.crt`, `tls.key` or `ca.crt`.
        file: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key does not belong to the leaf.
    #[error("tls.key does not belong to the certificate in tls.crt")]
    KeyMismatch,
    /// The leaf does not verify under the roots, or is out of its time.
    #[error("tls.crt does not verify under ca.crt: {0}")]
    Chain(String),
    /// The leaf carries no identity of the mesh.
    #[error("tls.crt: {0}")]
    Identity(#[from] PeerError),
}

/// A verified leaf with its key, and the roots that came with it.
#[derive(Debug, Clone)]
pub struct Material {
    /// Leaf, intermediates and key.
    pub certified_key: Arc<CertifiedKey>,
    /// Who the leaf makes its holder.
    pub identity: SpiffeId,
    /// The roots of `ca.crt`.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Material {
    /// Parses and checks the three files at a point in time.
    ///
    /// # Errors
    /// [`MaterialError`], which names the file.
    pub fn parse(
        tls_crt: &[u8],
        tls_key: &[u8],
        ca_crt: &[u8],
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, MaterialError> {
        let chain = certificates("tls.crt", tls_crt)?;
        let roots = certificates("ca.crt", ca_crt)?;
        let key = PrivateKeyDer::from_pem_slice(tls_key).map_err(|_| MaterialError::Pem {
            file: "tls.key",
            reason: "not a PEM private key",
        })?;
        let certified_key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => MaterialError::KeyMismatch,
            _ => MaterialError::Pem {
                file: "tls.key",
                reason: "not a key that can sign for this certificate",
            },
        })?;

        let leaf = &certified_key.cert[0];
        let identity = spiffe_id(leaf)?;
        let domains = TrustDomains::new(identity.trust_domain().clone(), []);
        let verifier = PeerVerifier::new(root_store(&roots)?, domains, provider.clone());
        // Which name is asked for does not matter: the verifier looks at the SPIFFE ID alone.
        let any_name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        verifier
            .verify_server_cert(leaf, &certified_key.cert[1..], &any_name, &[], now)
            .map_err(|error| MaterialError::Chain(explain(&error)))?;
        Ok(Self {
            certified_key: Arc::new(certified_key),
            identity,
            roots,
        })
    }

    /// The leaf, DER.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certified_key.cert[0]
    }
}

/// Root certificates as rustls takes them.
///
/// # Errors
/// [`MaterialError::Pem`] for one that is not a certificate, or where there is none.
pub fn root_store(roots: &[CertificateDer<'_>]) -> Result<RootCertStore, MaterialError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone().into_owned()).map_err(|_| MaterialError::Pem {
            file: "ca.crt",
            reason: "holds something that is not a CA certificate",
        })?;
    }
    if store.is_empty() {
        return Err(MaterialError::Pem {
            file: "ca.crt",
            reason: "holds no certificate",
        });
    }
    Ok(store)
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(MaterialError::Pem {
            file,
            reason: "holds no certificate",
        }),
        Err(_) => Err(MaterialError::Pem {
            file,
            reason: "not readable as PEM certificates",
        }),
    }
}
