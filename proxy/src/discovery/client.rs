//! The task that keeps a stream to an operator open.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use mesh_core::identity::SpiffeId;
use mesh_wire::resources::node_metadata;
use rand::Rng;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::ahead;
use super::apply::Applier;
use super::connect::connect;
use super::mesh::{Mesh, Requests};
use super::stream::{self, StreamError};

/// A stream that lasted this long was a good one: its end is no reason to wait.
const LASTED: Duration = Duration::from_secs(10);

/// How often a stream whose certificate grows old looks for a newer one, where it is not told: a share of what is left.
const LOOKS: u32 = 8;

/// How long to wait between attempts: doubled each time, and drawn between half of it and all of it so that the proxies of a
/// restarted operator do not come back in step.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub least: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            least: Duration::from_millis(100),
            most: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row, by `draw` in 0..1.
    fn delay(self, failures: u32, draw: f64) -> Duration {
        let doubled = self
            .least
            .saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.most).mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
    }
}

/// Who the proxy is to the operator, and where and who the operator is.
#[derive(Debug, Clone)]
pub struct Client {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The proxy's version.
    pub version: String,
    /// HOST:PORT of the operators (`DISCOVERY_ADDRESS`).
    pub address: String,
    /// Whom a server must prove to be (`DISCOVERY_SPIFFE_ID`).
    pub operator: SpiffeId,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// Where the connection is for whoever else calls the operator, for as long as its stream is open.
    pub connection: watch::Sender<Option<Channel>>,
}

impl Client {
    /// Keeps a stream open until `shutdown` is true, with the newest configuration of `tls` from the moment there is one. It
    /// holds our certificate and verifies that the peer is of the mesh; that it is the operator is verified here.
    ///
    /// The operator may drop a peer whose certificate has expired, so a stream is made anew with the next certificate: as
    /// soon as there is one after half of what was left of the old one's life when the stream began. Until then a healthy
    /// stream is not cut, however often certificates rotate.
    pub async fn run(
        self,
        mesh: Mesh,
        mut requests: Requests,
        mut tls: watch::Receiver<Option<Arc<ClientConfig>>>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let stopped = async move {
            // An owner that is gone does not need a client any more.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            () = stopped => {}
            () = self.keep_open(&mesh, &mut requests, &mut tls) => {}
            () = ahead::run(&mesh) => {}
        }
    }

    async fn keep_open(
        &self,
        mesh: &Mesh,
        requests: &mut Requests,
        tls: &mut watch::Receiver<Option<Arc<ClientConfig>>>,
    ) {
        let mut applier = Applier::default();
        let mut failures = 0u32;
        loop {
            let began = Instant::now();
            match self.session(mesh, requests, tls, &mut applier).await {
                Ok(()) => {
                    tracing::debug!("a newer certificate is there: the discovery stream is made anew with it");
                    failures = 0;
                    continue;
                }
                Err(_) => {
                    failures = if began.elapsed() >= LASTED {
                        1
                    } else {
                        failures.saturating_add(1)
                    }
                }
            }
            let delay = self.backoff.delay(failures, rand::rng().random());
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                // What failed may have failed for the certificate.
                () = changed(tls) => {}
                never = discard(requests) => match never {},
            }
        }
    }

    /// One connection and its stream. Ends well only for a newer certificate.
    async fn session(
        &self,
        mesh: &Mesh,
        requests: &mut Requests,
        tls: &mut watch::Receiver<Option<Arc<ClientConfig>>>,
        applier: &mut Applier,
    ) -> Result<(), StreamError> {
        let connecting = async {
            let config = loop {
                let current = tls.borrow_and_update().clone();
                match current {
                    Some(config) => break config,
                    None => changed(tls).await,
                }
            };
            let leaf = Leaf::of(&config);
            Ok::<_, StreamError>((connect(&self.address, &config, &self.operator).await?, leaf))
        };
        let connected = tokio::select! {
            connected = connecting => connected,
            never = discard(requests) => match never {},
        };
        let ended = match connected {
            Ok((channel, leaf)) => {
                self.connection.send_replace(Some(channel.clone()));
                tokio::select! {
                    ended = stream::run(self.node(), channel, mesh, requests, applier) => ended,
                    () = superseded(tls, leaf) => return Ok(()),
                }
            }
            Err(error) => Err(error),
        };
        let Err(error) = ended;
        self.connection.send_replace(None);
        if matches!(error, StreamError::Ended) {
            tracing::debug!(address = self.address, "the operator ended the stream");
        } else {
            tracing::warn!(address = self.address, %error, "no discovery; what was received stays in force");
        }
        Err(error)
    }

    fn node(&self) -> Node {
        let metadata = [
            (node_metadata::NAMESPACE, &self.namespace),
            (node_metadata::POD_NAME, &self.pod_name),
            (node_metadata::VERSION, &self.version),
        ];
        let text = |(key, value): (&str, &String)| {
            (
                key.to_owned(),
                Value {
                    kind: Some(Kind::StringValue(value.clone())),
                },
            )
        };
        Node {
            id: format!("sidecar~{}.{}", self.pod_name, self.namespace),
            metadata: Some(Struct {
                fields: metadata.into_iter().map(text).collect::<HashMap<_, _>>(),
            }),
            user_agent_name: "pinnace-proxy".to_owned(),
            ..Default::default()
        }
    }
}

/// Takes names off the queues while no operator could be asked: whatever is in the table is subscribed to on the next stream,
/// and keys without an answer are asked for again.
async fn discard(requests: &mut Requests) -> Infallible {
    loop {
        let more = tokio::select! {
            name = requests.names.recv() => name.is_some(),
            name = requests.keys.recv() => name.is_some(),
        };
        if !more {
            break;
        }
    }
    // The mesh that this client writes holds the sending half, so the queue does not end.
    std::future::pending().await
}

/// Waits for the next configuration; for ever, once there will be none.
async fn changed(tls: &mut watch::Receiver<Option<Arc<ClientConfig>>>) {
    if tls.changed().await.is_err() {
        std::future::pending().await
    }
}

/// The certificate that a configuration presents.
#[derive(PartialEq, Eq)]
struct Leaf {
    certificate: CertificateDer<'static>,
    /// Seconds since the epoch.
    not_after: u64,
}

impl Leaf {
    fn of(config: &ClientConfig) -> Option<Self> {
        let schemes = config
            .crypto_provider()
            .signature_verification_algorithms
            .supported_schemes();
        let key = config.client_auth_cert_resolver.resolve(&[], &schemes)?;
        let certificate = key.cert.first()?.clone().into_owned();
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        Some(Self { certificate, not_after })
    }

    fn left(&self) -> Duration {
        Duration::from_secs(self.not_after.saturating_sub(UnixTime::now().as_secs()))
    }
}

/// Waits until the leaf of a stream that begins now is to be replaced and another one is there.
async fn superseded(tls: &mut watch::Receiver<Option<Arc<ClientConfig>>>, leaf: Option<Leaf>) {
    let Some(leaf) = leaf else {
        return std::future::pending().await;
    };
    tokio::time::sleep(leaf.left() / 2).await;
    loop {
        let current = tls.borrow_and_update().clone();
        if current
            .and_then(|config| Leaf::of(&config))
            .is_some_and(|newest| newest != leaf)
        {
            return;
        }
        let look = (leaf.left() / LOOKS).clamp(Duration::from_secs(1), Duration::from_secs(60));
        tokio::select! {
            () = changed(tls) => {}
            () = tokio::time::sleep(look) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_are_spread() {
        let backoff = Backoff::default();
        for (failures, draw, millis) in [
            (1, 1.0, 100),
            (1, 0.0, 50),
            (2, 1.0, 200),
            (3, 0.5, 300),
            (8, 1.0, 10_000),
            (8, 0.0, 5_000),
            (100, 1.0, 10_000),
        ] {
            assert_eq!(
                backoff.delay(failures, draw),
                Duration::from_millis(millis),
                "{failures} {draw}"
            );
        }
    }
}
