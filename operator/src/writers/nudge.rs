//! The nudge: an annotation of a pod, changed through its status, makes the kubelet look at the pod's volumes at once
//! instead of within its sync period. One pod's failure concerns no other, and the rate is limited.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::index::Index;
use crate::index::changes::Named;
use crate::index::records::CERTIFICATE_SERIAL;
use crate::kubernetes::leader::Leadership;
use crate::metrics::Metrics;

/// Pods that are told per second, and at once.
const PER_SECOND: u32 = 50;

/// Service accounts that wait for their pods to be told.
pub const QUEUED: usize = 16_384;

/// With more than this many waiting, certificates are being written in bulk.
const BULK: usize = 64;

/// Nothing was written in bulk for this long: it is done.
const SETTLED: Duration = Duration::from_millis(200);

/// How long pods wait for that at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often one pod is tried.
const ATTEMPTS: u32 = 3;

/// A certificate that pods should be told of.
#[derive(Debug, Clone)]
pub struct News {
    /// The service account.
    pub account: Named,
    /// The serial number of its new certificate.
    pub serial: String,
    /// When it was issued, seconds since the epoch: pods made later read it by themselves.
    pub issued: i64,
}

/// The pods of a service account that do not know of a certificate yet.
#[must_use]
pub fn uninformed(index: &Index, news: &News) -> Vec<String> {
    index.read(|world, _| {
        let users = world.users(&news.account);
        let lacking = users.filter(|(_, pod)| match pod.told_serial.as_deref() {
            Some(told) => told != news.serial,
            // A clock's difference between here and the API server is forgiven.
            None => pod.created <= news.issued + 5,
        });
        lacking.map(|(name, _)| name.to_string()).collect()
    })
}

/// Tells pods of certificates until the sender is gone.
pub async fn run(
    client: Client,
    index: Arc<Index>,
    mut news: mpsc::Receiver<News>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
) {
    let limit = NonZeroU32::new(PER_SECOND).unwrap_or(NonZeroU32::MIN);
    let limiter: DefaultDirectRateLimiter = RateLimiter::direct(Quota::per_second(limit));
    let mut waited = false;
    while let Some(next) = news.recv().await {
        if news.len() <= BULK {
            waited = false;
        } else if !waited {
            settled(&news).await;
            waited = true;
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), &next.account.0);
        for pod in uninformed(&index, &next) {
            while limiter.check().is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if !leadership.held() {
                break;
            }
            let result = tell(&pods, &pod, &next.serial).await;
            metrics.nudges.with_label_values(&[result]).inc();
        }
    }
}

/// Waits while certificates are written in bulk. A nudge costs the API server, and everyone who watches pods, several times
/// what a Secret does, and a pod without a certificate waits for its Secret first.
async fn settled(news: &mpsc::Receiver<News>) {
    let started = Instant::now();
    let mut queued = news.len();
    while started.elapsed() < LONGEST_WAIT {
        tokio::time::sleep(SETTLED).await;
        let now = news.len();
        if now == queued {
            return;
        }
        queued = now;
    }
}

async fn tell(pods: &Api<Pod>, pod: &str, serial: &str) -> &'static str {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {CERTIFICATE_SERIAL: serial}}}));
    for attempt in 1..=ATTEMPTS {
        match pods.patch_status(pod, &PatchParams::default(), &patch).await {
            Ok(_) => {
                debug!(pod, serial, "told a pod's kubelet of a new certificate");
                return "told";
            }
            Err(Error::Api(status)) if status.code == 404 => return "gone",
            Err(error) if attempt == ATTEMPTS => {
                warn!(pod, %error, "a pod's kubelet could not be told of a new certificate and reads it within its sync period");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200) * attempt).await,
        }
    }
    "failed"
}
