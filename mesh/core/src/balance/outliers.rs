//! `outlierDetection`: when an endpoint is left out, and for how long.

use crate::traffic::OutlierDetection;
use std::time::Duration;

/// The longest ejection, where `baseEjectionTime` is not longer still.
const LONGEST: Duration = Duration::from_secs(300);

/// What became of a request or connection to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status; of gRPC, with the HTTP status that its own stands for.
    Answered(u16),
    /// It was connected to, where nothing more is looked at: opaque bytes.
    Connected,
    /// It could not be connected to.
    NotConnected,
    /// It did not answer in time.
    TimedOut,
    /// It ended the connection or the stream before it answered.
    Reset,
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// `consecutive5xxErrors`.
    ServerErrors,
    /// `consecutiveGatewayErrors`.
    GatewayErrors,
    /// `consecutiveLocalOriginFailures`.
    LocalFailures,
}

impl Cause {
    /// Envoy's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerErrors => "consecutive_5xx",
            Self::GatewayErrors => "consecutive_gateway_failure",
            Self::LocalFailures => "consecutive_local_origin_failure",
        }
    }
}

/// An endpoint's failures, each kind since the last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    server: u32,
    gateway: u32,
    local: u32,
}

impl Failures {
    /// Counts what became of a request; why the endpoint is to be ejected now, if it is.
    pub fn note(&mut self, rule: &OutlierDetection, outcome: Outcome) -> Option<Cause> {
        let split = rule.split_local_errors;
        match outcome {
            Outcome::Answered(status) => {
                if split {
                    self.local = 0;
                }
                self.status(rule, status)
            }
            Outcome::Connected if split => {
                self.local = 0;
                None
            }
            Outcome::Connected => self.status(rule, 200),
            Outcome::NotConnected | Outcome::TimedOut | Outcome::Reset if split => {
                reached(&mut self.local, rule.consecutive_local).then_some(Cause::LocalFailures)
            }
            Outcome::TimedOut => self.status(rule, 504),
            Outcome::NotConnected | Outcome::Reset => self.status(rule, 503),
        }
    }

    fn status(&mut self, rule: &OutlierDetection, status: u16) -> Option<Cause> {
        let counts = match &rule.error_codes[..] {
            [] => (500..600).contains(&status),
            codes => codes.contains(&status),
        };
        let gateway = matches!(status, 502..=504);
        if !counts && !gateway {
            (self.server, self.gateway) = (0, 0);
            return None;
        }
        let mut cause = None;
        if !gateway {
            self.gateway = 0;
        } else if reached(&mut self.gateway, rule.consecutive_gateway) {
            cause = Some(Cause::GatewayErrors);
        }
        if !counts {
            self.server = 0;
        } else if reached(&mut self.server, rule.consecutive_5xx) {
            cause = cause.or(Some(Cause::ServerErrors));
        }
        cause
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts one more, and begins anew at the threshold. One of zero is none.
fn reached(count: &mut u32, threshold: u32) -> bool {
    *count = count.saturating_add(1);
    let reached = *count == threshold;
    if reached {
        *count = 0;
    }
    reached
}

/// Whether another endpoint of a cluster may be ejected: one always may.
#[must_use]
pub fn may_eject(rule: &OutlierDetection, ejected: u32, total: u32) -> bool {
    let after = (u64::from(ejected) + 1) * 100;
    ejected == 0 || after <= u64::from(rule.max_ejection_percent.min(100)) * u64::from(total)
}

/// An endpoint's ejections. Clocks count from whatever moment, the same for all calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Since when it is ejected.
    since: Option<Duration>,
    /// What the next one's length is a multiple of.
    times: u32,
}

impl Ejection {
    /// Whether it is ejected.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.since.is_some()
    }

    /// Ejects it; it lasts for the base time, times the number of ejections so far.
    pub fn eject(&mut self, rule: &OutlierDetection, now: Duration) {
        self.since = Some(now);
        let longest = longest(rule) + rule.base_ejection_time;
        if rule.base_ejection_time.saturating_mul(self.times) < longest {
            self.times = self.times.saturating_add(1);
        }
    }

    /// Looks at it, as is done at each `interval`: whether it is ejected no more from now on. Each interval in which it was not
    /// ejected takes one off the number of ejections.
    pub fn look(&mut self, rule: &OutlierDetection, now: Duration) -> bool {
        let Some(since) = self.since else {
            self.times = self.times.saturating_sub(1);
            return false;
        };
        let lasts = rule.base_ejection_time.saturating_mul(self.times).min(longest(rule));
        let ends = now.saturating_sub(since) >= lasts;
        if ends {
            self.since = None;
        }
        ends
    }

    /// Ends it, as when the rule is gone.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// Whether there is anything to look at.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self == Self::default()
    }
}

fn longest(rule: &OutlierDetection) -> Duration {
    LONGEST.max(rule.base_ejection_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: 3,
            consecutive_gateway: 2,
            consecutive_local: 2,
            ..OutlierDetection::default()
        }
    }

    #[test]
    fn failures_in_a_row_eject() {
        use Outcome::{Answered, Connected, NotConnected, Reset, TimedOut};
        let split = OutlierDetection {
            split_local_errors: true,
            ..rule()
        };
        let codes = OutlierDetection {
            error_codes: vec![429],
            ..rule()
        };
        let nothing = OutlierDetection {
            consecutive_5xx: 0,
            consecutive_gateway: 0,
            consecutive_local: 0,
            ..rule()
        };
        let server = Some(Cause::ServerErrors);
        let gateway = Some(Cause::GatewayErrors);
        let local = Some(Cause::LocalFailures);
        for (case, rule, outcomes, expected) in [
            ("three of 500", rule(), &[Answered(500); 3][..], server),
            ("two", rule(), &[Answered(500); 2], None),
            (
                "one between",
                rule(),
                &[Answered(500), Answered(500), Answered(404), Answered(500)],
                None,
            ),
            ("gateway", rule(), &[Answered(503), Answered(502)], gateway),
            (
                "500 between gateway errors",
                rule(),
                &[Answered(503), Answered(500), Answered(503)],
                server,
            ),
            (
                "failures to connect are 503",
                rule(),
                &[NotConnected, NotConnected],
                gateway,
            ),
            ("timeouts are 504, resets 503", rule(), &[TimedOut, Reset], gateway),
            (
                "connected is success",
                rule(),
                &[NotConnected, Connected, NotConnected],
                None,
            ),
            ("apart: to connect", split.clone(), &[NotConnected, NotConnected], local),
            (
                "apart: an answer between",
                split.clone(),
                &[NotConnected, Answered(500), TimedOut],
                None,
            ),
            (
                "apart: connected between",
                split.clone(),
                &[NotConnected, Connected, TimedOut],
                None,
            ),
            (
                "apart: answers count on",
                split,
                &[Answered(500), NotConnected, Answered(500), Answered(500)],
                server,
            ),
            ("other codes", codes.clone(), &[Answered(429); 3], server),
            (
                "500 is none of them",
                codes.clone(),
                &[Answered(429), Answered(429), Answered(500), Answered(429)],
                None,
            ),
            (
                "nor is 503, but of the gateway's",
                codes,
                &[Answered(503), Answered(503)],
                gateway,
            ),
            ("no threshold", nothing, &[Answered(503); 100], None),
        ] {
            let mut failures = Failures::default();
            let causes: Vec<_> = outcomes.iter().map(|outcome| failures.note(&rule, *outcome)).collect();
            let (last, before) = causes.split_last().unwrap();
            assert_eq!(*last, expected, "{case}");
            assert!(before.iter().all(Option::is_none), "{case}");
        }
        let mut again = Failures::default();
        let ejected = (0..7).filter(|_| again.note(&rule(), Answered(500)).is_some()).count();
        assert_eq!(ejected, 2);
        assert!(!again.is_none());
        again.note(&rule(), Answered(200));
        assert!(again.is_none());
    }

    #[test]
    fn one_may_always_be_ejected_and_others_up_to_the_share() {
        for (percent, ejected, total, expected) in [
            (10, 0, 1, true),
            (10, 0, 3, true),
            (10, 1, 3, false),
            (10, 1, 20, true),
            (10, 2, 20, false),
            (50, 1, 4, true),
            (50, 2, 4, false),
            (100, 3, 4, true),
            (200, 4, 4, false),
            (0, 0, 4, true),
            (0, 1, 4, false),
        ] {
            let rule = OutlierDetection {
                max_ejection_percent: percent,
                ..rule()
            };
            assert_eq!(
                may_eject(&rule, ejected, total),
                expected,
                "{percent} {ejected} {total}"
            );
        }
    }

    #[test]
    fn each_ejection_lasts_longer_up_to_the_longest() {
        let seconds = Duration::from_secs;
        let mut ejection = Ejection::default();
        let mut now = seconds(1000);
        for expected in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
            ejection.eject(&rule(), now);
            assert!(!ejection.look(&rule(), now + seconds(expected - 1)) && ejection.is_ejected());
            now += seconds(expected);
            assert!(ejection.look(&rule(), now) && !ejection.is_ejected());
        }
        // Good times make up for it.
        for _ in 0..20 {
            assert!(!ejection.look(&rule(), now));
        }
        assert!(ejection.is_over());
        ejection.eject(&rule(), now);
        assert!(ejection.look(&rule(), now + seconds(30)));

        let long = OutlierDetection {
            base_ejection_time: seconds(400),
            ..rule()
        };
        let mut ejection = Ejection::default();
        for _ in 0..3 {
            ejection.eject(&long, now);
            assert!(!ejection.look(&long, now + seconds(399)) && ejection.look(&long, now + seconds(400)));
        }
        ejection.eject(&long, now);
        ejection.end();
        assert!(ejection.is_over());
    }
}
