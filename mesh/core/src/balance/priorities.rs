//! Which priority takes a request: the first while enough of it is healthy, and the next ones for what it cannot take.

/// By how much a priority may be short of healthy endpoints before any of its share goes to the next one: Envoy's factor, in
/// percent.
const OVERPROVISIONED: u64 = 140;

/// How a priority stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its healthy endpoints.
    pub healthy: u32,
    /// All of them.
    pub total: u32,
}

impl Standing {
    /// What it can take, in percent of all.
    fn takes(self) -> u64 {
        let total = u64::from(self.total);
        if total == 0 {
            return 0;
        }
        (OVERPROVISIONED * u64::from(self.healthy) / total).min(100)
    }

    fn is_below(self, percent: u32) -> bool {
        u64::from(self.healthy) * 100 < u64::from(percent) * u64::from(self.total)
    }
}

/// What a priority is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Its share, in percent.
    pub percent: u32,
    /// Whether all its endpoints take part, healthy or not: too few are left.
    pub panics: bool,
}

/// What each priority is given. `panic_below` is `minHealthPercent`: with fewer healthy ones than that a priority panics, if
/// all priorities together cannot take everything. Where nothing is healthy and none panics, no priority is given anything.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // Percents.
pub fn loads(standings: &[Standing], panic_below: u32) -> Vec<Load> {
    let sum: u64 = standings.iter().map(|it| it.takes()).sum();
    let panics = |it: &Standing| sum < 100 && it.is_below(panic_below);
    let mut all: Vec<Load> = standings
        .iter()
        .map(|it| Load {
            percent: 0,
            panics: panics(it),
        })
        .collect();
    if sum == 0 {
        // All panic, or none has anybody: by how many they are.
        let total: u64 = standings.iter().map(|it| u64::from(it.total)).sum();
        if panic_below > 0 && total > 0 {
            share(&mut all, standings, |it| u64::from(it.total) * 100 / total);
        }
        return all;
    }
    let normalised = sum.min(100);
    share(&mut all, standings, |it| it.takes() * 100 / normalised);
    all
}

/// Gives each in order what it can take of what is left, and what rounding leaves to the first that takes any.
#[allow(clippy::cast_possible_truncation)] // Percents.
fn share(all: &mut [Load], standings: &[Standing], takes: impl Fn(&Standing) -> u64) {
    let mut left = 100;
    for (load, standing) in all.iter_mut().zip(standings) {
        load.percent = takes(standing).min(left) as u32;
        left -= u64::from(load.percent);
    }
    if let Some(first) = all.iter_mut().find(|load| load.percent > 0) {
        first.percent += left as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standings(of: &[(u32, u32)]) -> Vec<Standing> {
        of.iter()
            .map(|(healthy, total)| Standing {
                healthy: *healthy,
                total: *total,
            })
            .collect()
    }

    #[test]
    fn what_a_priority_cannot_take_goes_to_the_next() {
        // Envoy's own examples, and the edges.
        for (of, panic_below, percents, panic) in [
            (&[(10, 10)][..], 0, &[100][..], &[false][..]),
            (&[(10, 10), (10, 10)], 0, &[100, 0], &[false, false]),
            (&[(72, 100), (10, 10)], 0, &[100, 0], &[false, false]),
            (&[(71, 100), (1, 1)], 0, &[99, 1], &[false, false]),
            (&[(50, 100), (1, 1)], 0, &[70, 30], &[false, false]),
            (&[(25, 100), (1, 1)], 0, &[35, 65], &[false, false]),
            (&[(0, 100), (1, 1)], 0, &[0, 100], &[false, false]),
            (&[(25, 100), (25, 100)], 0, &[50, 50], &[false, false]),
            (&[(5, 100), (65, 100)], 0, &[8, 92], &[false, false]),
            (&[(0, 3)], 0, &[0], &[false]),
            (&[(0, 3)], 1, &[100], &[true]),
            (&[(0, 3), (0, 1)], 10, &[75, 25], &[true, true]),
            (&[(1, 10), (0, 10)], 50, &[100, 0], &[true, true]),
            (&[(4, 10)], 50, &[100], &[true]),
            (&[(4, 10)], 40, &[100], &[false]),
            (&[(4, 10), (10, 10)], 50, &[56, 44], &[false, false]),
            (&[(0, 0), (3, 3)], 0, &[0, 100], &[false, false]),
            (&[(0, 0)], 50, &[0], &[false]),
            (&[], 0, &[], &[]),
        ] {
            let got = loads(&standings(of), panic_below);
            assert_eq!(
                got.iter().map(|load| load.percent).collect::<Vec<_>>(),
                percents,
                "{of:?}"
            );
            assert_eq!(got.iter().map(|load| load.panics).collect::<Vec<_>>(), panic, "{of:?}");
        }
    }

    #[test]
    fn all_is_given_while_anybody_is_healthy() {
        for a in 0..=7 {
            for b in 0..=5 {
                for c in 0..=3 {
                    let got = loads(&standings(&[(a, 7), (b, 5), (c, 3)]), 0);
                    let sum: u32 = got.iter().map(|load| load.percent).sum();
                    assert_eq!(sum, if a + b + c > 0 { 100 } else { 0 }, "{a} {b} {c}");
                    assert!(a > 0 || got[0].percent == 0);
                }
            }
        }
    }
}
