//! ROUND_ROBIN where weights differ: a sequence in which each endpoint comes as often as it weighs, and as evenly as can be.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The longest sequence, unless there are more endpoints than an eighth of it: weights are rounded to fit in.
const LONGEST: u64 = 4096;

/// A sequence of indices to walk round and round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rota(Box<[u32]>);

impl Rota {
    /// Makes it. A weight of zero counts as one.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight).max(1)).collect();
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        let total: u64 = weights.iter().map(|weight| weight / divisor).sum();
        let longest = LONGEST.max(weights.len() as u64 * 8);
        let times: Vec<u64> = weights
            .iter()
            .map(|weight| match total > longest {
                true => ((weight / divisor).saturating_mul(longest) / total).max(1),
                false => weight / divisor,
            })
            .collect();
        let length: u64 = times.iter().sum();
        // Each comes first in the middle of its first interval, so that none comes in bursts.
        let scale = 1 << 40;
        let mut next: BinaryHeap<Reverse<(u64, u32)>> = times
            .iter()
            .zip(0..)
            .map(|(times, at)| Reverse((scale / times / 2, at)))
            .collect();
        let mut sequence = Vec::new();
        for _ in 0..length {
            let Some(Reverse((due, at))) = next.pop() else { break };
            sequence.push(at);
            let interval = times.get(at as usize).map_or(scale, |times| scale / times);
            next.push(Reverse((due + interval, at)));
        }
        Self(sequence.into())
    }

    /// Whose turn it is; zero where there is nobody.
    #[must_use]
    pub fn at(&self, turn: usize) -> usize {
        let len = self.0.len().max(1);
        self.0.get(turn % len).map_or(0, |at| *at as usize)
    }
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_as_often_as_it_weighs_and_evenly() {
        for (weights, expected) in [
            (&[1, 1, 1][..], &[0, 1, 2][..]),
            (&[2, 1], &[0, 1, 0]),
            (&[10, 20], &[1, 0, 1]),
            (&[3, 1, 1], &[0, 1, 0, 2, 0]),
            (&[0, 1], &[0, 1]),
            (&[], &[]),
        ] {
            let rota = Rota::new(weights);
            let got: Vec<usize> = (0..rota.0.len()).map(|turn| rota.at(turn)).collect();
            let mut counts = (vec![0; weights.len()], vec![0; weights.len()]);
            got.iter().for_each(|at| counts.0[*at] += 1);
            expected.iter().for_each(|at: &usize| counts.1[*at] += 1);
            assert_eq!(counts.0, counts.1, "{weights:?}: {got:?}");
            assert_eq!(got.len(), expected.len());
        }
        let spread = Rota::new(&[5, 1]);
        let lone = (0..6).filter(|turn| spread.at(*turn) == 1).count();
        assert_eq!(lone, 1);
    }

    #[test]
    fn weights_however_large_make_a_short_sequence() {
        let rota = Rota::new(&[1, 1_000_000, 1_000_001]);
        assert!(rota.0.len() <= 4097, "{}", rota.0.len());
        let often = rota.0.iter().filter(|at| **at == 1).count();
        assert!((2040..2056).contains(&often), "{often}");
        assert_eq!(rota.0.iter().filter(|at| **at == 0).count(), 1);
        assert_eq!(Rota::new(&[7; 10_000]).0.len(), 10_000);
        assert_eq!(Rota::new(&[]).at(5), 0);
    }
}
