//! Leaving out endpoints that fail. What is common, a success after a success, is one load; a lock, one host's or one
//! cluster's, is taken around failures alone.

use super::registry::{Host, State, lock};
use mesh_core::balance::{Cause, Ejection, Failures, Outcome, may_eject};
use mesh_core::traffic::OutlierDetection;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is remembered of a host.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: Failures,
    ejection: Ejection,
}

/// Takes what became of a try at a host.
pub(super) fn note(state: &State, rule: &OutlierDetection, hosts: &[Arc<Host>], host: &Host, outcome: Outcome) {
    let well = match outcome {
        Outcome::Answered(status) => status < 500 && rule.error_codes.is_empty(),
        Outcome::Connected => true,
        Outcome::NotConnected | Outcome::TimedOut | Outcome::Reset => false,
    };
    if well && !host.troubled.load(Ordering::Relaxed) {
        return;
    }
    let cause = {
        let mut health = host.health();
        let cause = health.failures.note(rule, outcome);
        host.troubled.store(!health.failures.is_none(), Ordering::Relaxed);
        cause
    };
    if let Some(cause) = cause {
        eject(state, rule, hosts, host, cause);
    }
}

fn eject(state: &State, rule: &OutlierDetection, hosts: &[Arc<Host>], host: &Host, cause: Cause) {
    // One at a time, so that no more are ejected than may be.
    let _deciding = lock(&state.looked);
    if host.is_ejected() {
        return;
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let ejected = count(hosts.iter().filter(|host| host.is_ejected()).count());
    if !may_eject(rule, ejected, count(hosts.len())) {
        tracing::debug!(
            cluster = &*state.name,
            cause = cause.as_str(),
            "no more endpoints may be ejected"
        );
        return;
    }
    host.health().ejection.eject(rule, state.now());
    host.set_ejected(true);
    state.changed();
    state.look_after();
    tracing::info!(cluster = &*state.name, cause = cause.as_str(), "an endpoint is ejected");
}

impl State {
    /// Looks at all hosts, if it is time to; whether there is anything to look at later.
    pub(super) fn look(&self, now: Duration) -> bool {
        let rule = self.rule();
        let mut looked = lock(&self.looked);
        if let Some(rule) = &rule
            && now.saturating_sub(*looked) < rule.interval
        {
            return true;
        }
        *looked = now;
        let (mut left, mut changed) = (false, false);
        for host in self.all_hosts() {
            let mut health = host.health();
            let ends = match &rule {
                Some(rule) => health.ejection.look(rule, now),
                None => {
                    health.ejection.end();
                    host.is_ejected()
                }
            };
            if ends {
                // A few more errors are not to eject it again at once.
                health.failures = Failures::default();
                host.troubled.store(false, Ordering::Relaxed);
                host.set_ejected(false);
                changed = true;
            }
            left |= !health.ejection.is_over();
        }
        if changed {
            self.changed();
            tracing::info!(cluster = &*self.name, "ejected endpoints take part again");
        }
        left
    }
}
