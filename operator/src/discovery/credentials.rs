//! The server's own certificate, issued in memory by every replica for itself, and whom it believes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use mesh_core::certificate::renew_at;
use mesh_core::identity::SpiffeId;
use mesh_wire::tls::material::root_store;
use mesh_wire::tls::verify::{PeerVerifier, TrustDomains};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;
use tracing::{error, info};

use crate::ca::{Authority, Subject, pem};
use crate::index::MeshFacts;
use crate::metrics::Metrics;
use crate::reports::Outgoing;

/// How long after a failed issue the next is tried.
const RETRY: Duration = Duration::from_secs(5);

/// What new connections are accepted with; none until the authority is loaded.
pub type Current = Arc<ArcSwapOption<ServerConfig>>;

/// Whose certificate it is: the operator's service account.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The operator's namespace.
    pub namespace: String,
    /// The operator's service account.
    pub service_account: String,
    /// The lifetime of its certificates.
    pub ttl: Duration,
}

/// What one certificate is used with.
#[derive(Debug)]
pub struct Configured {
    /// For those who connect.
    pub server: ServerConfig,
    /// For connections to other replicas.
    pub client: ClientConfig,
    /// When the certificate is to be renewed.
    pub renewal: SystemTime,
}

/// Makes the configurations for one certificate.
///
/// # Errors
/// A sentence that says what is missing or wrong.
pub fn configure(
    authority: &Authority,
    mesh: &MeshFacts,
    holder: &Holder,
    provider: &Arc<CryptoProvider>,
    now: SystemTime,
) -> Result<Configured, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let id = SpiffeId::new(mesh.trust_domain.clone(), &holder.namespace, &holder.service_account)
        .map_err(|error| said(&error))?;
    let leaf = authority
        .issue(&Subject::Workload(id), holder.ttl, now)
        .map_err(|error| said(&error))?;
    let key = pem::private_key(leaf.key_pem.as_bytes())?;
    let roots = root_store(authority.roots()).map_err(|error| said(&error))?;
    let domains = TrustDomains::new(mesh.trust_domain.clone(), mesh.aliases.iter().cloned());
    let verifier = PeerVerifier::new(roots, domains, provider.clone());
    let verifier = Arc::new(verifier);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| said(&error))?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(leaf.chain.clone(), key.clone_key())
        .map_err(|error| said(&error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session's certificate is not verified again, and streams are long: no tickets.
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| said(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(leaf.chain, key)
        .map_err(|error| said(&error))?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = Resumption::disabled();
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .unwrap_or(0)
    };
    let backdated = seconds(now) - i64::try_from(mesh_core::certificate::BACK_DATING.as_secs()).unwrap_or(0);
    let renewal = renew_at(backdated, seconds(leaf.not_after), rand::random());
    Ok(Configured {
        server,
        client,
        renewal: UNIX_EPOCH + Duration::from_secs(u64::try_from(renewal).unwrap_or(0)),
    })
}

/// Keeps the configuration fresh: a new one when the authority or the trust domain changes, and at half of the
/// certificate's life. When that fails the old one stays. Runs until the process ends.
pub async fn keep(
    current: Current,
    outgoing: Outgoing,
    mut authority: watch::Receiver<Option<Arc<Authority>>>,
    mut mesh: watch::Receiver<Arc<MeshFacts>>,
    holder: Holder,
    provider: Arc<CryptoProvider>,
    metrics: Arc<Metrics>,
) {
    loop {
        let root = authority.borrow_and_update().clone();
        let facts = mesh.borrow_and_update().clone();
        let wait = match root.map(|root| configure(&root, &facts, &holder, &provider, SystemTime::now())) {
            None => Duration::MAX,
            Some(Ok(configured)) => {
                let counter = if current.load().is_some() {
                    &metrics.certificates_rotated
                } else {
                    &metrics.certificates_issued
                };
                counter.with_label_values(&["discovery"]).inc();
                current.store(Some(Arc::new(configured.server)));
                outgoing.store(Some(Arc::new(configured.client)));
                info!("the discovery server has a new certificate");
                let left = configured.renewal.duration_since(SystemTime::now());
                left.unwrap_or(RETRY).max(RETRY)
            }
            Some(Err(reason)) => {
                metrics.certificates_failed.with_label_values(&["discovery"]).inc();
                error!(reason, "the discovery server's certificate cannot be issued");
                RETRY
            }
        };
        tokio::select! {
            // A sender that is gone means that the process ends.
            changed = authority.changed() => if changed.is_err() { return },
            changed = mesh.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}
