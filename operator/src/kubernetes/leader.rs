//! Leader election on a Lease (coordination.k8s.io/v1), by client-go's rules: a replica takes the lease when nobody holds
//! it or when its record has not changed for the lease's duration by the replica's own clock, so that clocks need not
//! agree. Whoever writes asks [`Leadership::held`] first, which says yes only while no other can have taken over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// How long a lease is good for without renewal.
const LEASE_DURATION: Duration = Duration::from_secs(10);

/// How often it is renewed, or looked at by those who do not hold it.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// How long before the end a holder stops writing, for a write that is under way.
const MARGIN: Duration = Duration::from_secs(3);

/// How long one call to the API server may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this replica may write.
#[derive(Debug, Clone)]
pub struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    holder: Arc<Mutex<Option<String>>>,
    changes: watch::Sender<bool>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self {
            until: Arc::default(),
            holder: Arc::default(),
            changes: watch::Sender::new(false),
        }
    }
}

impl Leadership {
    /// Whether the lease is surely held now.
    #[must_use]
    pub fn held(&self) -> bool {
        self.until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|until| Instant::now() < until)
    }

    /// Who held the lease when it was last looked at, this replica or another.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says who was seen to hold the lease.
    pub fn saw(&self, holder: Option<String>) {
        let holder = holder.filter(|name| !name.is_empty());
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
    }

    /// Waits until the lease is held.
    pub async fn gained(&self) {
        // The sender is `self`, so waiting cannot fail.
        let _ = self.changes.subscribe().wait_for(|held| *held).await;
    }

    /// Waits until the lease is no longer held.
    pub async fn lost(&self) {
        let mut changes = self.changes.subscribe();
        let _ = changes.wait_for(|held| !*held).await;
    }

    /// Says until when the lease is surely held.
    pub fn set(&self, until: Option<Instant>, metrics: &Metrics) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        let held = self.held();
        metrics.leader.set(i64::from(held));
        self.changes
            .send_if_modified(|before| std::mem::replace(before, held) != held);
    }
}

/// What a replica remembers of the lease between two looks.
#[derive(Debug, Default)]
struct Observed {
    record: Option<(Option<String>, Option<MicroTime>)>,
    since: Option<Instant>,
}

/// What to do about the lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Make it.
    Create,
    /// Hold on to it.
    Renew,
    /// Nobody holds it any more.
    TakeOver,
    /// Another holds it.
    Wait,
}

/// Decides by the record that was just read.
fn decide(lease: Option<&LeaseSpec>, observed: &mut Observed, me: &str, now: Instant) -> Step {
    let Some(spec) = lease else { return Step::Create };
    let record = Some((spec.holder_identity.clone(), spec.renew_time.clone()));
    if observed.record != record {
        observed.record = record;
        observed.since = Some(now);
    }
    match spec.holder_identity.as_deref() {
        Some(holder) if holder == me => Step::Renew,
        None | Some("") => Step::TakeOver,
        Some(_) => {
            let seconds = spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok());
            let duration = seconds.map_or(LEASE_DURATION, Duration::from_secs);
            match observed.since {
                Some(since) if now.duration_since(since) > duration => Step::TakeOver,
                _ => Step::Wait,
            }
        }
    }
}

/// Takes part in the election until `stop` resolves, then gives the lease back if it is held. The lease goes with `owner`,
/// where there is one.
pub async fn run(
    leases: Api<Lease>,
    name: String,
    me: String,
    owner: Option<OwnerReference>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut observed = Observed::default();
    loop {
        let asked = Instant::now();
        let attempt = tokio::time::timeout(
            CALL_TIMEOUT,
            attempt(&leases, &name, &me, owner.as_ref(), &mut observed),
        )
        .await;
        leadership.saw(observed.record.as_ref().and_then(|(holder, _)| holder.clone()));
        let before = leadership.held();
        match attempt {
            Ok(Ok(true)) => {
                leadership.set(Some(asked + LEASE_DURATION - MARGIN), &metrics);
                if !before {
                    info!(lease = name, holder = me, "holds the lease");
                }
            }
            Ok(Ok(false)) => {
                leadership.set(None, &metrics);
                if before {
                    warn!(lease = name, holder = me, "lost the lease to another replica");
                }
            }
            Ok(Err(error)) => warn!(lease = name, %error, "the lease cannot be read or renewed"),
            Err(_) => warn!(lease = name, "the API server did not answer about the lease in time"),
        }
        // A lease that could not be renewed ends by the clock; say so as soon as it does.
        let ends = *leadership.until.lock().unwrap_or_else(PoisonError::into_inner);
        let wake = ends
            .map_or(asked + RETRY_PERIOD, |ends| ends.min(asked + RETRY_PERIOD))
            .max(Instant::now() + RETRY_PERIOD / 4);
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => {}
            () = &mut stop => break,
        }
        if !leadership.held() {
            leadership.set(None, &metrics);
        }
    }
    if leadership.held() {
        leadership.set(None, &metrics);
        match tokio::time::timeout(CALL_TIMEOUT, release(&leases, &name, &me)).await {
            Ok(Ok(())) => info!(lease = name, "gave the lease back"),
            Ok(Err(error)) => warn!(lease = name, %error, "the lease could not be given back and will run out"),
            Err(_) => warn!(
                lease = name,
                "the lease could not be given back in time and will run out"
            ),
        }
    }
}

/// One look at the lease and what follows; says whether it is held now. A conflict means that another was faster.
async fn attempt(
    leases: &Api<Lease>,
    name: &str,
    me: &str,
    owner: Option<&OwnerReference>,
    observed: &mut Observed,
) -> Result<bool, kube::Error> {
    let current = leases.get_opt(name).await?;
    let spec = current.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
    let step = decide(spec.as_ref(), observed, me, Instant::now());
    let now = MicroTime(jiff::Timestamp::now());
    let written = match (step, current) {
        (Step::Wait, _) => return Ok(false),
        (Step::Create, _) | (_, None) => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    owner_references: owner.map(|owner| vec![owner.clone()]),
                    ..ObjectMeta::default()
                },
                spec: Some(record(me, 0, now.clone(), now)),
            };
            leases.create(&PostParams::default(), &lease).await
        }
        (step, Some(mut lease)) => {
            if let Some(owner) = owner {
                lease.metadata.owner_references = Some(vec![owner.clone()]);
            }
            let old = lease.spec.take().unwrap_or_default();
            let transitions = old.lease_transitions.unwrap_or(0);
            lease.spec = Some(match step {
                Step::Renew => record(me, transitions, old.acquire_time.unwrap_or_else(|| now.clone()), now),
                _ => record(me, transitions.saturating_add(1), now.clone(), now),
            });
            leases.replace(name, &PostParams::default(), &lease).await
        }
    };
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

async fn release(leases: &Api<Lease>, name: &str, me: &str) -> Result<(), kube::Error> {
    let mut lease = leases.get(name).await?;
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() == Some(me) {
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
        leases.replace(name, &PostParams::default(), &lease).await?;
    }
    Ok(())
}

fn record(me: &str, transitions: i32, acquired: MicroTime, renewed: MicroTime) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: Some(acquired),
        renew_time: Some(renewed),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, renewed: i64) -> LeaseSpec {
        let time = MicroTime(jiff::Timestamp::from_second(renewed).unwrap());
        let mut spec = record(holder, 0, time.clone(), time);
        if holder.is_empty() {
            spec.holder_identity = None;
        }
        spec
    }

    #[test]
    fn a_lease_is_taken_only_when_nobody_can_hold_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut observed = Observed::default();
        assert_eq!(decide(None, &mut observed, "a", at(0)), Step::Create);
        assert_eq!(decide(Some(&held_by("b", 1)), &mut observed, "a", at(0)), Step::Wait);
        assert_eq!(decide(Some(&held_by("b", 1)), &mut observed, "a", at(9)), Step::Wait);
        // Renewed in between: the wait starts anew, whatever the holder's clock says.
        assert_eq!(decide(Some(&held_by("b", 2)), &mut observed, "a", at(11)), Step::Wait);
        assert_eq!(decide(Some(&held_by("b", 2)), &mut observed, "a", at(20)), Step::Wait);
        assert_eq!(
            decide(Some(&held_by("b", 2)), &mut observed, "a", at(22)),
            Step::TakeOver
        );
        assert_eq!(
            decide(Some(&held_by("", 2)), &mut observed, "a", at(22)),
            Step::TakeOver
        );
        assert_eq!(decide(Some(&held_by("a", 3)), &mut observed, "a", at(23)), Step::Renew);
    }

    #[tokio::test]
    async fn leadership_ends_by_the_clock() {
        let (leadership, metrics) = (Leadership::default(), Metrics::new());
        assert!(!leadership.held());
        leadership.set(Some(Instant::now() + Duration::from_millis(30)), &metrics);
        leadership.gained().await;
        assert!(leadership.held());
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert!(!leadership.held());
    }
}
