//! When a certificate is renewed. Times are seconds since the epoch, handed in, so that the rules can be tested.

use std::time::Duration;

/// How far a leaf's not-before lies before its issue, for clocks that are behind. No part of its lifetime.
pub const BACK_DATING: Duration = Duration::from_secs(120);

/// The default lifetime of a workload's certificate (Istio's `DEFAULT_WORKLOAD_CERT_TTL`).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest lifetime that may be asked for (Istio's `MAX_WORKLOAD_CERT_TTL`).
pub const MAX_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The share of the lifetime by which renewals are spread, to each side of its half.
const JITTER: f64 = 0.05;

/// When a leaf is due for renewal: when half of the time from issue to not-after has passed, moved by up to 5 % of that
/// time to either side so that leaves issued together are not renewed together.
///
/// `draw` is a random number in 0..1 that the caller keeps for the life of the leaf (or derives from its serial number).
#[must_use]
pub fn renew_at(not_before: i64, not_after: i64, draw: f64) -> i64 {
    let issued = issued_at(not_before, not_after);
    #[allow(clippy::cast_precision_loss)]
    let lifetime = (not_after - issued).max(0) as f64;
    let share = 0.5 + JITTER * (draw.clamp(0.0, 1.0) * 2.0 - 1.0);
    #[allow(clippy::cast_possible_truncation)]
    let offset = (lifetime * share) as i64;
    issued + offset
}

/// When a leaf was issued: its not-before without the back-dating.
#[must_use]
pub fn issued_at(not_before: i64, not_after: i64) -> i64 {
    (not_before + i64::try_from(BACK_DATING.as_secs()).unwrap_or(0)).min(not_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_from_issue_to_not_after() {
        for (lifetime, draw, expected) in [
            (86_400, 0.5, 43_200),
            (60, 0.5, 30),
            (60, 0.0, 27),
            (60, 1.0, 33),
            (0, 0.5, 0),
        ] {
            let issued = 1_000_000;
            assert_eq!(
                renew_at(issued - 120, issued + lifetime, draw) - issued,
                expected,
                "{lifetime} {draw}"
            );
        }
    }
}
