//! How a sidecar ends (SIGTERM, `/drain`, `/quitquitquit`).
//!
//! New connections are taken to the last, since peers learn of a pod's end later than the pod does. Once they should have, those
//! to the application are told (`Connection: close`, GOAWAY) and finish what they have begun. The application's own calls are
//! left alone until then: it may need them to finish. `/drain` alone begins this, before the pod's processes are told to end,
//! and lets the proxy run on.

use crate::admin::Phase;
use crate::net::listen::Slots;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Istio's `EXIT_ON_ZERO_ACTIVE_CONNECTIONS` looks this often; here a drained proxy always ends early.
const LOOK: Duration = Duration::from_millis(100);

/// How long after a pod began to end its clients are not told: whoever is told before it has learned would come back.
const PEERS_LEARN: Duration = Duration::from_secs(1);

/// How long new connections are taken at the least.
const LEAST: Duration = Duration::from_secs(2);

/// Which connections are to end in order.
pub(super) struct Drains {
    /// Those to the application.
    pub(super) inbound: watch::Sender<bool>,
    /// Those of the application.
    pub(super) outbound: watch::Sender<bool>,
    began: watch::Receiver<Option<Instant>>,
}

impl Drains {
    /// None yet; those to the application end some time after `phase` says that the proxy drains.
    pub(super) fn new(phase: &watch::Sender<Phase>) -> Self {
        let inbound = watch::Sender::new(false);
        let (begins, began) = watch::channel(None);
        let (mut phase, drains) = (phase.subscribe(), inbound.clone());
        tokio::spawn(async move {
            if phase.wait_for(|phase| *phase != Phase::Serving).await.is_ok() {
                begins.send_replace(Some(Instant::now()));
                tokio::time::sleep(PEERS_LEARN).await;
                drains.send_replace(true);
            }
        });
        Self {
            inbound,
            outbound: watch::Sender::new(false),
            began,
        }
    }

    /// Waits until no connection is open, at most `most`.
    pub(super) async fn run(mut self, slots: &Slots, most: Duration) {
        let told = Instant::now();
        // Perhaps long ago.
        let began = self.began.wait_for(Option::is_some).await.ok().and_then(|began| *began);
        let began = began.unwrap_or(told);
        while told.elapsed() < most {
            if *self.inbound.borrow() && slots.inbound() == 0 {
                self.outbound.send_replace(true);
            }
            if began.elapsed() >= LEAST && slots.open() == 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::info!(open = slots.open(), waited_ms = told.elapsed().as_millis(), "drained");
    }
}
