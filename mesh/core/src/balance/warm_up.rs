//! `warmup`: an endpoint that is new takes less at first.

use crate::traffic::Warmup;
use std::time::Duration;

/// The share of its weight that an endpoint of some age takes: from `minimumPercent` to 1, as Envoy's slow start has it.
#[must_use]
pub fn factor(warmup: &Warmup, age: Duration) -> f64 {
    if age >= warmup.duration {
        return 1.0;
    }
    let passed = age.as_secs_f64() / warmup.duration.as_secs_f64();
    let aggression = if warmup.aggression > 0.0 {
        warmup.aggression
    } else {
        1.0
    };
    let least = (warmup.minimum_percent / 100.0).clamp(0.0, 1.0);
    passed.powf(1.0 / aggression).max(least).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_the_least_to_all() {
        for (seconds, least, aggression, expected) in [
            (0, 10.0, 1.0, 0.1),
            (3, 10.0, 1.0, 0.1),
            (15, 10.0, 1.0, 0.5),
            (30, 10.0, 1.0, 1.0),
            (900, 10.0, 1.0, 1.0),
            (6, 0.0, 2.0, 0.447_213_595),
            (15, 80.0, 1.0, 0.8),
            (15, 200.0, 1.0, 1.0),
            (15, 0.0, 0.0, 0.5),
        ] {
            let warmup = Warmup {
                duration: Duration::from_secs(30),
                minimum_percent: least,
                aggression,
            };
            let got = factor(&warmup, Duration::from_secs(seconds));
            assert!((got - expected).abs() < 1e-6, "{seconds} {least} {aggression}: {got}");
        }
        let none = Warmup {
            duration: Duration::ZERO,
            minimum_percent: 10.0,
            aggression: 1.0,
        };
        assert!((factor(&none, Duration::ZERO) - 1.0).abs() < f64::EPSILON);
    }
}
