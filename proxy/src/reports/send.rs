//! The task that sends reports, over the connection that the discovery stream goes over too. What could not be sent stays and
//! is sent again; meanwhile the next report comes together.

use super::{Gathered, Reports};
use http::uri::PathAndQuery;
use mesh_wire::reports::{HEARTBEAT_SECONDS, Report, SEND, Taken};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// How long the operator may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last report may take, once the process is to end.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an operator that knows nothing of reports is left alone.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(60);

/// The connection to the operator, while there is one.
pub type Connection = watch::Receiver<Option<Channel>>;

/// What is counted of sending.
#[derive(Debug, Clone)]
pub struct Counters {
    results: IntCounterVec,
    dropped: IntCounter,
}

impl Counters {
    /// None yet.
    ///
    /// # Errors
    /// That of the registry, for a name that is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let results = IntCounterVec::new(
            Opts::new(
                "pinnace_proxy_reports_total",
                "Reports to the operator; those that failed are sent again.",
            ),
            &["result"],
        )?;
        let dropped = IntCounter::new(
            "pinnace_proxy_reports_dropped_total",
            "Denials and callers in the clear that found no room in a report.",
        )?;
        registry.register(Box::new(results.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        for result in ["taken", "failed"] {
            results.with_label_values(&[result]);
        }
        Ok(Self { results, dropped })
    }
}

/// Who reports, and how often.
#[derive(Debug)]
pub struct Sender {
    /// What is to be told.
    pub reports: Reports,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// How often, where there is something to tell.
    pub interval: Duration,
    /// Where to.
    pub connection: Connection,
    /// What is counted.
    pub counters: Counters,
}

/// A report that no operator has taken yet, and when it was made.
struct Pending {
    report: Report,
    made: Instant,
}

/// How far it has come.
struct Progress {
    /// Up to where reports were taken; before the first, the start.
    told: Instant,
    /// Whether any was.
    greeted: bool,
    pending: Option<Pending>,
}

impl Sender {
    /// Sends until `stop` is true, and then what is left.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut progress = Progress {
            told: Instant::now(),
            greeted: false,
            pending: None,
        };
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                // An owner that is gone does not need reports any more.
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(wait) => {}
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = self.connection.wait_for(Option::is_some) => {}
            }
            wait = self.interval;
            if progress.pending.is_none() {
                progress.pending = self.next(&progress);
            }
            if let Err(status) = self.send(&mut progress, ANSWER_TIMEOUT).await {
                tracing::debug!(code = ?status.code(), reason = status.message(), "a report was not taken and is sent again");
                if status.code() == Code::Unimplemented {
                    wait = UNKNOWN_PAUSE;
                }
            }
        }
        let rest = async {
            self.send(&mut progress, LAST_TIMEOUT).await?;
            let mut last = self.made(progress.told, self.reports.take());
            last.report.ends = true;
            progress.pending = Some(last);
            self.send(&mut progress, LAST_TIMEOUT).await
        };
        if !matches!(tokio::time::timeout(LAST_TIMEOUT, rest).await, Ok(Ok(()))) {
            tracing::debug!("the last report was not taken");
        }
    }

    /// A report of what came together, or one that says no more than that the sidecar is there.
    fn next(&self, progress: &Progress) -> Option<Pending> {
        let gathered = self.reports.take();
        let due = !progress.greeted || progress.told.elapsed() >= Duration::from_secs(HEARTBEAT_SECONDS);
        (due || !gathered.is_empty()).then(|| self.made(progress.told, gathered))
    }

    fn made(&self, told: Instant, gathered: Gathered) -> Pending {
        self.counters.dropped.inc_by(gathered.dropped);
        Pending {
            report: Report {
                namespace: self.namespace.clone(),
                pod: self.pod_name.clone(),
                id: rand::random(),
                seconds: told.elapsed().as_secs(),
                seen: gathered.seen,
                dropped: gathered.dropped,
                records: gathered.records,
                plaintext: gathered.plaintext,
                ends: false,
                age: 0,
            },
            made: Instant::now(),
        }
    }

    /// Sends what is pending, if anything is, and lets go of it once it was taken.
    async fn send(&self, progress: &mut Progress, limit: Duration) -> Result<(), Status> {
        let Some(waiting) = &mut progress.pending else {
            return Ok(());
        };
        let channel = self.connection.borrow().clone();
        let channel = channel.ok_or_else(|| Status::unavailable("no operator is connected"))?;
        waiting.report.age = waiting.made.elapsed().as_secs();
        let sent = tokio::time::timeout(limit, call(channel, waiting.report.clone())).await;
        let sent = sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        let result = if sent.is_ok() { "taken" } else { "failed" };
        self.counters.results.with_label_values(&[result]).inc();
        sent?;
        progress.told = waiting.made;
        progress.greeted = true;
        progress.pending = None;
        Ok(())
    }
}

async fn call(channel: Channel, report: Report) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    let unready = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    grpc.ready().await.map_err(unready)?;
    let codec = ProstCodec::<Report, Taken>::default();
    grpc.unary(Request::new(report), PathAndQuery::from_static(SEND), codec)
        .await?;
    Ok(())
}
