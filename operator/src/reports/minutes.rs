//! A count of the last hour, by minutes, in a fixed size.

/// How many minutes are kept.
pub const KEPT: u64 = 60;

/// As many places.
const PLACES: usize = 60;

/// Counts of the minutes up to the newest that was counted in.
#[derive(Debug, Clone)]
pub struct Minutes {
    newest: u64,
    counts: [u32; PLACES],
}

impl Default for Minutes {
    fn default() -> Self {
        Self {
            newest: 0,
            counts: [0; PLACES],
        }
    }
}

impl Minutes {
    /// Counts at `now`, in seconds since the epoch. A clock that went back counts in the newest minute.
    pub fn add(&mut self, now: u64, count: u64) {
        let minute = (now / 60).max(self.newest);
        let passed = (minute - self.newest).min(KEPT);
        for at in 0..passed {
            self.counts[Self::place(minute - at)] = 0;
        }
        self.newest = minute;
        let held = &mut self.counts[Self::place(minute)];
        *held = held.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The count of the hour before `now`.
    #[must_use]
    pub fn sum(&self, now: u64) -> u64 {
        let minute = (now / 60).max(self.newest);
        let passed = minute - self.newest;
        let kept = (0..KEPT.saturating_sub(passed)).filter(|at| *at <= self.newest);
        kept.map(|at| u64::from(self.counts[Self::place(self.newest - at)]))
            .sum()
    }

    fn place(minute: u64) -> usize {
        usize::try_from(minute % KEPT).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_passes() {
        let mut minutes = Minutes::default();
        let start = 1_000_000 * 60;
        minutes.add(start, 5);
        minutes.add(start + 59, 1);
        minutes.add(start + 60, 2);
        for (now, sum) in [
            (start, 8),
            (start + 60, 8),
            (start + 59 * 60, 8),
            (start + 60 * 60, 2),
            (start + 61 * 60, 0),
            (start + 10_000 * 60, 0),
            (start - 600, 8),
        ] {
            assert_eq!(minutes.sum(now), sum, "{}", now - start.min(now));
        }
        minutes.add(start + 60 * 60, 1);
        assert_eq!(minutes.sum(start + 60 * 60), 3);
        minutes.add(start + 1000 * 60, u64::MAX);
        assert_eq!(minutes.sum(start + 1000 * 60), u64::from(u32::MAX));
    }
}
