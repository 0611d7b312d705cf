//! rustls configurations of a rule, and the numbers by which connections made under them are told apart.

use super::files::{CA_CERTIFICATES, CA_CRL, CERTIFICATE, Files, KEY, Problem};
use super::verify::{Check, Verifier};
use mesh_core::client_tls::{ClientCertificate, ClientTls, Origination, ServerCheck};
use mesh_wire::tls::verify::explain;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use webpki::{CertRevocationList, OwnedCertRevocationList};

/// How many sessions are kept for resumption.
const SESSIONS: usize = 256;

/// The most names under which one rule's servers are called and told apart; beyond it the numbers begin anew.
const MOST_NAMES: usize = 1024;

/// TLS as a rule describes it, of one version of its files.
#[derive(Debug)]
pub struct Originated {
    /// For HTTP/1.1.
    pub http1: Arc<ClientConfig>,
    /// For HTTP/2.
    pub http2: Arc<ClientConfig>,
    /// For opaque bytes.
    pub opaque: Arc<ClientConfig>,
    /// The name that the rule calls the server by, whatever the client does.
    sni: Option<ServerName<'static>>,
    ids: Mutex<HashMap<ServerName<'static>, u64>>,
}

impl Originated {
    /// With `extraction`, rustls gives away a connection's keys, for TLS by the kernel.
    pub(super) fn new(
        tls: &ClientTls,
        files: &Files,
        extraction: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Problem> {
        let nothing = Origination::default();
        let (origination, client) = match tls {
            ClientTls::Simple(origination) => (origination, None),
            ClientTls::Mutual(origination, client) => (origination, Some(client)),
            ClientTls::Disable | ClientTls::IstioMutual(_) | ClientTls::Refused(_) => (&nothing, None),
        };
        let sni = match &origination.sni {
            Some(sni) => Some(
                ServerName::try_from(sni.to_string())
                    .map_err(|_| Problem::new(("sni", sni), "makes no server name"))?,
            ),
            None => None,
        };
        let verifier = Arc::new(Verifier::new(check(&origination.server, files)?, provider.clone()));
        let resolver = client.map(|client| certified(client, files, provider)).transpose()?;
        let config = |alpn: &[&[u8]]| -> Result<Arc<ClientConfig>, Problem> {
            let builder = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(|error| Problem::new(("mode", &tls.mode().into()), error.to_string()))?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone());
            let mut config = match &resolver {
                Some(resolver) => builder.with_client_cert_resolver(resolver.clone()),
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            config.enable_secret_extraction = extraction;
            Ok(Arc::new(config))
        };
        Ok(Self {
            http1: config(&[b"http/1.1"])?,
            http2: config(&[b"h2"])?,
            opaque: config(&[])?,
            sni,
            ids: Mutex::default(),
        })
    }

    /// The name to call a server by: the rule's, else what the client calls it. `None` for what makes no name.
    #[must_use]
    pub fn name(&self, host: &str) -> Option<ServerName<'static>> {
        if let Some(sni) = &self.sni {
            return Some(sni.clone());
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = host
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(host);
        ServerName::try_from(host.to_owned()).ok()
    }

    /// A number for connections made under this with a name; never 0, and never that of another.
    #[must_use]
    pub fn id(&self, name: &ServerName<'static>) -> u64 {
        static IDS: AtomicU64 = AtomicU64::new(1);

        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.get(name) {
            return *id;
        }
        if ids.len() >= MOST_NAMES {
            ids.clear();
        }
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        ids.insert(name.clone(), id);
        id
    }
}

fn check(server: &ServerCheck, files: &Files) -> Result<Check, Problem> {
    let ServerCheck::Verified {
        ca_certificates,
        ca_crl,
        subject_alt_names,
    } = server
    else {
        return Ok(Check::Nothing);
    };
    let mut roots = RootCertStore::empty();
    match ca_certificates {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let file = (CA_CERTIFICATES, path);
            for certificate in certificates(file, &files.ca_certificates)? {
                roots.add(certificate).map_err(|error| {
                    Problem::new(file, format!("holds what is no CA certificate: {}", explain(&error)))
                })?;
            }
        }
    }
    let crls = match ca_crl {
        None => Vec::new(),
        Some(path) => revocations((CA_CRL, path), &files.ca_crl)?,
    };
    Ok(Check::Names {
        roots,
        crls,
        names: subject_alt_names.clone(),
    })
}

fn certified(
    client: &ClientCertificate,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<SingleCertAndKey>, Problem> {
    let key_file = (KEY, &client.key);
    let chain = certificates((CERTIFICATE, &client.certificate), &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| Problem::new(key_file, "not a PEM private key"))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|_| {
        Problem::new(
            key_file,
            format!("does not belong to the certificate in {}", client.certificate),
        )
    })?;
    Ok(Arc::new(SingleCertAndKey::from(key)))
}

fn certificates(file: (&'static str, &Arc<str>), pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(Problem::new(file, "holds no certificate")),
        Err(_) => Err(Problem::new(file, "not readable as PEM certificates")),
    }
}

fn revocations(file: (&'static str, &Arc<str>), pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>, Problem> {
    let mut lists = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(pem) {
        let der = der.map_err(|_| Problem::new(file, "not readable as PEM revocation lists"))?;
        let list = OwnedCertRevocationList::from_der(&der)
            .map_err(|error| Problem::new(file, format!("holds what is no revocation list: {error}")))?;
        lists.push(list.into());
    }
    if lists.is_empty() {
        return Err(Problem::new(file, "holds no revocation list"));
    }
    Ok(lists)
}
