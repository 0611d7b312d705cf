//! The gRPC service that takes reports. A sidecar is heard as the pod whose service account it proved; another replica of the
//! operator, which passes on what it got, is believed about whose report that was. Who holds the lease enters it, everybody
//! else passes it on, and the answer comes from where it was entered: what was not answered is sent again.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use mesh_core::identity::SpiffeId;
use mesh_wire::reports::{MOST_PORTS, MOST_RECORDS, MOST_SEEN, Report, SEND, SERVICE, SeenKind, Taken};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tracing::debug;

use super::forward::Forward;
use super::ledger::Ledger;
use crate::discovery::accept::Peer;
use crate::discovery::service::authorized;
use crate::index::Index;
use crate::index::resolve::named;
use crate::kubernetes::leader::Leadership;
use crate::metrics::Metrics;

/// How long a pod that is not known yet is waited for.
const UNKNOWN_POD: Duration = Duration::from_secs(5);

/// The largest report that is taken.
const MOST_BYTES: usize = 4 << 20;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reports(Arc<Shared>);

/// What it works with.
#[derive(Debug)]
pub struct Shared {
    /// What is known of pods and policies.
    pub index: Arc<Index>,
    /// Where reports are entered.
    pub ledger: Ledger,
    /// Whether it is here that they are.
    pub leadership: Leadership,
    /// Where else they go.
    pub forward: Forward,
    /// The namespace and service account of the operator's replicas.
    pub replicas: (String, String),
    /// Where reports are counted.
    pub metrics: Arc<Metrics>,
}

impl From<Shared> for Reports {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Reports {
    /// Takes a report from who proved to be `peer`.
    async fn take(&self, peer: &SpiffeId, report: Report) -> Result<Taken, Status> {
        let Shared {
            index,
            leadership,
            forward,
            replicas,
            metrics,
            ..
        } = &*self.0;
        let counted = |result: &str| metrics.reports.with_label_values(&[result]).inc();
        let by_replica = *peer.namespace() == *replicas.0 && *peer.service_account() == *replicas.1;
        let pod = named(&report.namespace, &report.pod);
        let refused = match check(&report) {
            Ok(()) if by_replica => None,
            Ok(()) => match tokio::time::timeout(UNKNOWN_POD, authorized(index, &pod, peer)).await {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(Status::permission_denied(reason)),
                Err(_) => Some(Status::permission_denied(format!(
                    "there is no pod {}/{}",
                    pod.0, pod.1
                ))),
            },
            Err(reason) => Some(Status::invalid_argument(reason)),
        };
        if let Some(status) = refused {
            counted("refused");
            debug!(%peer, reason = status.message(), "a report is refused");
            return Err(status);
        }
        if leadership.held() {
            self.enter(&report, &pod);
            counted("entered");
            return Ok(Taken {});
        }
        if by_replica {
            counted("failed");
            return Err(Status::unavailable("the lease is not held here"));
        }
        let passed_on = forward.send(report).await;
        counted(if passed_on.is_ok() { "passed_on" } else { "failed" });
        passed_on
    }

    fn enter(&self, report: &Report, pod: &crate::index::changes::Named) {
        let Shared {
            index, ledger, metrics, ..
        } = &*self.0;
        let now = seconds(SystemTime::now());
        let entered = index.read(|world, mesh| ledger.enter(now, report, pod, world, &mesh.root_namespace));
        let kinds = [SeenKind::Denied, SeenKind::WouldDeny, SeenKind::Plaintext];
        for (kind, count) in kinds.into_iter().zip(entered.counted) {
            metrics.reported.with_label_values(&[label(kind)]).inc_by(count);
        }
        metrics.reports_dropped.inc_by(entered.dropped);
        let size = ledger.size();
        metrics.ledger_rows.set(i64::try_from(size.rows).unwrap_or(i64::MAX));
        let reporters = i64::try_from(size.reporters).unwrap_or(i64::MAX);
        metrics.ledger_reporters.set(reporters);
    }
}

/// A kind, as metrics name it.
#[must_use]
pub fn label(kind: SeenKind) -> &'static str {
    match kind {
        SeenKind::Invalid => "invalid",
        SeenKind::Denied => "denied",
        SeenKind::WouldDeny => "would_deny",
        SeenKind::Plaintext => "plaintext",
    }
}

/// Seconds since the epoch.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether a report keeps to its bounds.
fn check(report: &Report) -> Result<(), String> {
    let name = |field: &str, text: &str| match text.len() {
        1..=253 => Ok(()),
        _ => Err(format!("{field} must be a name")),
    };
    name("namespace", &report.namespace)?;
    name("pod", &report.pod)?;
    for (field, count, most) in [
        ("seen", report.seen.len(), MOST_SEEN),
        ("records", report.records.len(), MOST_RECORDS),
        ("plaintext", report.plaintext.len(), MOST_PORTS),
    ] {
        if count > most {
            return Err(format!("{field} has {count} entries, at most {most} are taken"));
        }
    }
    Ok(())
}

impl UnaryService<Report> for Reports {
    type Response = Taken;
    type Future = BoxFuture<'static, Result<Response<Taken>, Status>>;

    fn call(&mut self, request: Request<Report>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>().cloned();
            let peer = peer.ok_or_else(|| Status::unauthenticated("the connection proved no identity"))?;
            Ok(Response::new(this.take(&peer.identity, request.into_inner()).await?))
        })
    }
}

impl<B> tower::Service<http::Request<B>> for Reports
where
    B: hyper::body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = self.clone();
        Box::pin(async move {
            if request.uri().path() != SEND {
                return Ok(Status::unimplemented("only Send is served").into_http());
            }
            let codec = ProstCodec::<Taken, Report>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MOST_BYTES);
            Ok(grpc.unary(method, request).await)
        })
    }
}

impl NamedService for Reports {
    const NAME: &'static str = SERVICE;
}
