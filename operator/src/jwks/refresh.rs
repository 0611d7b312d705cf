//! Keeps the keys of all origins that rules name: a task per origin fetches, waits, and fetches again, sooner when it is
//! asked to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::jwt::KeyOrigin;
use mesh_wire::request_authentication::Jwks;
use rand::Rng as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::asked::{Askings, Fetches};
use super::client::{Client, is_refused};
use crate::metrics::Metrics;

/// The most origins that are asked; rules of further ones have no keys.
const MAX_ORIGINS: usize = 1000;

/// Fetches under way at a time.
const CONCURRENT: usize = 8;

/// The first and the longest wait after a failure; the latter is Istio's.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long the last good keys stay when they cannot be fetched again.
pub const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// The least time from the end of a fetch to one that is asked for: a token with a made-up key costs its issuer no more
/// than that, however many come. Shorter than a sidecar lets a request wait.
pub const ASKED: Duration = Duration::from_secs(2);

/// The origins that rules name, with the longest of their timeouts.
pub type Wanted = BTreeMap<KeyOrigin, Duration>;

/// How often keys are fetched, and how long they stay when they cannot be.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From one good fetch to the next.
    pub refresh: Duration,
    /// From the last good fetch until its keys are dropped.
    pub keep: Duration,
    /// From the end of a fetch to one that is asked for, at the least.
    pub asked: Duration,
}

/// When keys in force were fetched, by origin; `None` where there are none.
type Ages = Arc<Mutex<HashMap<KeyOrigin, Option<SystemTime>>>>;

/// Follows the origins that are wanted and publishes what is known of each whenever it changes, and `None` once it is not
/// wanted any more. Runs until the sender of `wanted` is gone.
pub async fn keep<P>(
    client: Arc<Client>,
    times: Times,
    mut wanted: watch::Receiver<Wanted>,
    publish: P,
    askings: Askings,
    metrics: Arc<Metrics>,
) where
    P: Fn(&KeyOrigin, Option<Jwks>) + Clone + Send + Sync + 'static,
{
    let running: Arc<Semaphore> = Arc::new(Semaphore::new(CONCURRENT));
    let ages = Ages::default();
    let mut tasks: HashMap<KeyOrigin, (watch::Sender<Duration>, JoinHandle<()>)> = HashMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        tasks.retain(|origin, (timeout, task)| {
            if let Some(now) = now.get(origin) {
                timeout.send_replace(*now);
                return true;
            }
            task.abort();
            askings.end(origin);
            ages.lock().unwrap_or_else(PoisonError::into_inner).remove(origin);
            publish(origin, None);
            false
        });
        let mut left_out = 0;
        for (origin, timeout) in now {
            if tasks.contains_key(&origin) {
                continue;
            }
            if tasks.len() >= MAX_ORIGINS {
                left_out += 1;
                publish(
                    &origin,
                    Some(Jwks::Missing(format!("more than {MAX_ORIGINS} key sets").into())),
                );
                continue;
            }
            let (say, timeout) = watch::channel(timeout);
            let one = Origin {
                client: client.clone(),
                origin: origin.clone(),
                timeout,
                times,
                running: running.clone(),
                publish: publish.clone(),
                metrics: metrics.clone(),
                ages: ages.clone(),
                fetches: askings.begin(&origin),
            };
            tasks.insert(origin, (say, tokio::spawn(one.run())));
        }
        if left_out > 0 {
            warn!(
                left_out,
                most = MAX_ORIGINS,
                "rules name more key sets than are fetched"
            );
        }
        count(&ages, &metrics);
        if wanted.changed().await.is_err() {
            tasks.values().for_each(|(_, task)| task.abort());
            return;
        }
    }
}

/// An origin that is being kept.
struct Origin<P> {
    client: Arc<Client>,
    origin: KeyOrigin,
    timeout: watch::Receiver<Duration>,
    times: Times,
    running: Arc<Semaphore>,
    publish: P,
    metrics: Arc<Metrics>,
    ages: Ages,
    fetches: Arc<Fetches>,
}

impl<P: Fn(&KeyOrigin, Option<Jwks>)> Origin<P> {
    async fn run(self) {
        let mut known: Option<(Arc<str>, Instant)> = None;
        let mut failures = 0;
        loop {
            let fetched = {
                // It is never closed.
                let _permit = self.running.acquire().await;
                let timeout = *self.timeout.borrow();
                self.fetches.began();
                self.client.fetch(&self.origin, timeout).await
            };
            let fetched_any = fetched.is_ok();
            let wait = match fetched {
                Ok(jwks) => {
                    failures = 0;
                    self.metrics.jwks_fetches.with_label_values(&["success"]).inc();
                    let same = |(before, at): &(Arc<str>, Instant)| *before == jwks && at.elapsed() < self.times.keep;
                    if !known.as_ref().is_some_and(same) {
                        info!(origin = %self.origin, "keys are fetched");
                        (self.publish)(&self.origin, Some(Jwks::Known(jwks.clone())));
                    }
                    known = Some((jwks, Instant::now()));
                    self.note(Some(SystemTime::now()));
                    jittered(self.times.refresh)
                }
                Err(error) => {
                    let result = if is_refused(&error) { "refused" } else { "failure" };
                    self.metrics.jwks_fetches.with_label_values(&[result]).inc();
                    let wait = jittered(back_off(failures));
                    failures += 1;
                    self.failed(&format!("{error:#}"), known.as_ref(), wait);
                    wait
                }
            };
            self.fetches.ended(fetched_any);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.asked_for() => {}
            }
        }
    }

    /// Waits until a fetch is asked for, and may be made.
    async fn asked_for(&self) {
        let distance = tokio::time::sleep(self.times.asked);
        self.fetches.asked_for().await;
        distance.await;
    }

    /// Goes on with the last good keys, or with none. Who fetched none ever leaves it to the sidecars what they know from
    /// before.
    fn failed(&self, error: &str, known: Option<&(Arc<str>, Instant)>, wait: Duration) {
        let age = known.map(|(_, at)| at.elapsed());
        if let Some(age) = age.filter(|age| *age < self.times.keep) {
            warn!(origin = %self.origin, error, age = age.as_secs(), again_in = wait.as_secs(), "keys cannot be fetched; the last ones stay");
            return;
        }
        warn!(origin = %self.origin, error, again_in = wait.as_secs(), "keys cannot be fetched; tokens of this issuer are refused");
        self.note(None);
        let none = if age.is_some() { Jwks::Ended } else { Jwks::Missing };
        (self.publish)(&self.origin, Some(none(error.into())));
    }

    fn note(&self, fetched: Option<SystemTime>) {
        self.ages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.origin.clone(), fetched);
        count(&self.ages, &self.metrics);
    }
}

fn count(ages: &Ages, metrics: &Metrics) {
    let ages = ages.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = ages.values().filter(|fetched| fetched.is_none()).count();
    let oldest = ages.values().flatten().min();
    let oldest = oldest.and_then(|oldest| oldest.duration_since(UNIX_EPOCH).ok());
    metrics.jwks_missing.set(i64::try_from(missing).unwrap_or(i64::MAX));
    metrics
        .jwks_oldest
        .set(oldest.map_or(f64::INFINITY, |oldest| oldest.as_secs_f64()));
}

/// How long to wait after so many failures before.
fn back_off(failures: u32) -> Duration {
    BACK_OFF.0.saturating_mul(1 << failures.min(10)).min(BACK_OFF.1)
}

/// Up to a tenth more or less, so that what began together does not stay so.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.9..1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<u64> = (0..9).map(|failures| back_off(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(back_off(u32::MAX), BACK_OFF.1);
    }
}
