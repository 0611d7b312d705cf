//! Drawing by weight.

/// Weights that differ, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// At each index the sum of the weights up to it.
    sums: Box<[u64]>,
}

impl Weights {
    /// Sums weights up. `None` where all are the same: any index may be drawn then. A weight of zero counts as one.
    #[must_use]
    pub fn new(weights: &[u32]) -> Option<Self> {
        let first = weights.first()?;
        if weights.iter().all(|weight| weight == first) {
            return None;
        }
        let mut sum = 0;
        let sums = weights.iter().map(|weight| {
            sum += u64::from(*weight).max(1);
            sum
        });
        Some(Self { sums: sums.collect() })
    }

    /// The weight at an index; zero beyond them.
    #[must_use]
    pub fn at(&self, at: usize) -> u64 {
        let before = at.checked_sub(1).and_then(|before| self.sums.get(before));
        let sum = self.sums.get(at);
        sum.map_or(0, |sum| sum - before.copied().unwrap_or_default())
    }

    /// An index, by a draw of any number.
    #[must_use]
    pub fn draw(&self, draw: u32) -> usize {
        let total = self.sums.last().copied().unwrap_or_default();
        let point = (u128::from(total) * u128::from(draw)) >> 32;
        self.sums.partition_point(|sum| u128::from(*sum) <= point)
    }
}

/// An index below `len`, by a draw of any number; zero where there is none.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // It is below `len`.
pub(super) fn below(len: usize, draw: u32) -> usize {
    ((len as u64 * u64::from(draw)) >> 32) as usize
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // Of small numbers.
mod tests {
    use super::*;

    /// Draws that are spread evenly.
    fn draws(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(move |n| ((u64::from(n) << 32) / u64::from(count)) as u32)
    }

    #[test]
    fn each_is_drawn_as_often_as_it_weighs() {
        for weights in [&[1, 3][..], &[100, 1, 0, 7], &[u32::MAX, 1, u32::MAX]] {
            let drawn = Weights::new(weights).unwrap();
            let total: f64 = weights.iter().map(|weight| f64::from((*weight).max(1))).sum();
            let mut counts = vec![0; weights.len()];
            draws(10_000).for_each(|draw| counts[drawn.draw(draw)] += 1);
            for (at, (count, weight)) in counts.iter().zip(weights).enumerate() {
                let expected = f64::from((*weight).max(1)) / total * 10_000.0;
                assert!(
                    (f64::from(*count) - expected).abs() <= 2.0,
                    "{weights:?} at {at}: {count}"
                );
                assert_eq!(drawn.at(at), u64::from((*weight).max(1)));
            }
            assert!(drawn.draw(u32::MAX) < weights.len());
            assert_eq!(drawn.at(weights.len()), 0);
        }
    }

    #[test]
    fn equal_weights_are_none() {
        for weights in [&[][..], &[5], &[2, 2, 2], &[0, 0]] {
            assert_eq!(Weights::new(weights), None);
        }
        for len in [1, 3, 1000] {
            assert_eq!((below(len, 0), below(len, u32::MAX)), (0, len - 1));
        }
        assert_eq!(below(0, 7), 0);
    }
}
