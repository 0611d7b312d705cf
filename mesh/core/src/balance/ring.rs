//! A ring of hashes: a key belongs to the first point at or after its hash.

use super::hash::rehash;

/// How many points there are as long as that is enough for each member to have the smallest size by itself: a member's points
/// then do not depend on how many others there are, so that no key moves between two that stay.
const USUAL_POINTS: f64 = 32_768.0;

/// The most points, unless there are more members.
const MOST_POINTS: f64 = 8_388_608.0;

/// A ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring(Box<[(u64, u32)]>);

impl Ring {
    /// Makes a ring with at least so many points. `members` are told by hashes of what they are, so that each has the same
    /// points whoever else is there, and have points in proportion to their weights, the lightest at least one.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Positive, and at most `MOST_POINTS`.
    pub fn new(members: &[(u64, u32)], minimum_size: u32) -> Self {
        let least = members.iter().map(|member| member.1.max(1)).min().unwrap_or(1);
        let ratio = |weight: u32| f64::from(weight.max(1)) / f64::from(least);
        let total: f64 = members.iter().map(|member| ratio(member.1)).sum();
        let size = f64::from(minimum_size);
        let of_least = size
            .min(USUAL_POINTS / total)
            .max(size / total)
            .min(MOST_POINTS / total);
        let mut points = Vec::new();
        for ((id, weight), at) in members.iter().zip(0..) {
            let own = ((of_least * ratio(*weight)).ceil() as u64).max(1);
            points.extend((0..own).map(|number| (rehash(*id, number), at)));
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// The member that a key belongs to: the first from there on that is `taken`. `None` where none is.
    #[must_use]
    pub fn find(&self, key: u64, taken: impl Fn(usize) -> bool) -> Option<usize> {
        let from = self.0.partition_point(|(point, _)| *point < key);
        let (before, after) = self.0.split_at(from);
        let round = after.iter().chain(before);
        round.map(|(_, at)| *at as usize).find(|at| taken(*at))
    }

    /// How many points there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // Of small numbers.
mod tests {
    use super::*;
    use crate::balance::hash;

    #[test]
    fn points_are_as_many_as_weights_say() {
        let ids: Vec<u64> = (0..4_u32).map(|n| hash(&n.to_be_bytes())).collect();
        for (weights, size, expected) in [
            (&[1, 1, 1][..], 1024, &[1024, 1024, 1024][..]),
            (&[1, 2], 1024, &[1024, 2048]),
            (&[2, 2, 4, 2], 2, &[2, 2, 4, 2]),
            (&[1, 1], 100_000, &[50_000, 50_000]),
            (&[1, 4_000_000_000], 1024, &[1, 32_768]),
            (&[0], 1, &[1]),
            (&[], 10, &[]),
        ] {
            let members: Vec<(u64, u32)> = ids.iter().copied().zip(weights.iter().copied()).collect();
            let ring = Ring::new(&members, size);
            let count = |at| ring.0.iter().filter(|point| point.1 == at).count();
            let counts: Vec<usize> = (0..members.len()).map(|at| count(at as u32)).collect();
            assert_eq!(counts, expected, "{weights:?}");
        }
    }

    #[test]
    fn a_key_goes_on_round_the_ring_past_whom_is_not_taken() {
        let ring = Ring(Box::new([(10, 0), (20, 1), (30, 2)]));
        for (key, left_out, expected) in [
            (5, &[][..], Some(0)),
            (10, &[], Some(0)),
            (11, &[], Some(1)),
            (31, &[], Some(0)),
            (31, &[0], Some(1)),
            (15, &[1, 2], Some(0)),
            (15, &[0, 1, 2], None),
        ] {
            assert_eq!(
                ring.find(key, |at| !left_out.contains(&at)),
                expected,
                "{key} {left_out:?}"
            );
        }
        assert_eq!(Ring::new(&[], 1024).find(7, |_| true), None);
    }
}
