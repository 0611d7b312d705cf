//! Counters that one worker writes and anybody may read.

use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of the buckets, in thousandths: Envoy's defaults, which Istio uses for milliseconds and bytes alike.
pub const BOUNDS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// The bounds as they are written in the label `le`.
pub const LE: [&str; 20] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1.8e+06", "3.6e+06", "+Inf",
];

/// A counter with one writer: adding is a load and a store, without a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; by the worker whose counter it is.
    pub fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values fell into each bucket, and their sum.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BOUNDS.len() + 1],
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: from_fn(|_| Counter::default()),
            sum: Counter::default(),
        }
    }
}

impl Histogram {
    /// Counts a value, in thousandths.
    pub fn observe(&self, thousandths: u64) {
        // Most values are small: looked for from there.
        let at = BOUNDS.iter().take_while(|bound| thousandths > **bound).count();
        if let Some(bucket) = self.buckets.get(at) {
            bucket.add(1);
        }
        self.sum.add(thousandths);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Counted {
        Counted {
            buckets: from_fn(|at| self.buckets.get(at).map_or(0, Counter::get)),
            sum: self.sum.get(),
        }
    }
}

/// A histogram at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Values by bucket, each in one alone.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// The sum of the values, in thousandths.
    pub sum: u64,
}

impl Counted {
    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        for (to, from) in self.buckets.iter_mut().zip(other.buckets) {
            *to += from;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_bounds_them() {
        for (thousandths, bucket) in [
            (0, 0),
            (500, 0),
            (501, 1),
            (1_000, 1),
            (25_000, 4),
            (25_001, 5),
            (3_600_000_000, 18),
            (u64::MAX / 2, 19),
        ] {
            let histogram = Histogram::default();
            histogram.observe(thousandths);
            let counted = histogram.read();
            assert_eq!(counted.buckets[bucket], 1, "{thousandths}");
            assert_eq!((counted.count(), counted.sum), (1, thousandths));
        }
    }

    #[test]
    fn the_labels_are_the_bounds() {
        for (bound, label) in BOUNDS.iter().zip(LE) {
            let label: f64 = label.parse().unwrap();
            assert_eq!(label * 1000.0, *bound as f64);
        }
    }
}
