//! Maglev: a table of places, each of which is one endpoint's, in turn by each endpoint's own order of preference. Keys are
//! spread more evenly than on a ring and found in one step; a few more of them move when an endpoint leaves.

use super::hash::rehash;
use super::rota::gcd;

/// How many further places are looked at before all endpoints are.
const TRIES: u64 = 64;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev {
    places: Box<[u32]>,
    members: usize,
}

impl Maglev {
    /// The most places: Envoy's.
    pub const MOST_PLACES: u32 = 5_000_011;

    /// Makes a table of so many places, a prime, at most [`Maglev::MOST_PLACES`]. `members` are told by hashes of what they are, and have places in proportion
    /// to their weights.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // Below the number of places.
    pub fn new(members: &[(u64, u32)], table_size: u32) -> Self {
        const FREE: u32 = u32::MAX;
        let size = u64::from(table_size.clamp(1, Self::MOST_PLACES));
        let mut places = vec![FREE; size as usize].into_boxed_slice();
        let most = members.iter().map(|member| member.1.max(1)).max().unwrap_or(1);
        // Where each looks next, by how much it goes on, and what it has waited for.
        let mut walks: Vec<(u64, u64, u64)> = members
            .iter()
            .map(|(id, _)| (rehash(*id, 1) % size, step(rehash(*id, 2), size), 0))
            .collect();
        let mut left = if members.is_empty() { 0 } else { size };
        while left > 0 {
            for ((walk, (_, weight)), at) in walks.iter_mut().zip(members).zip(0..) {
                // Who weighs less sits out rounds.
                walk.2 += u64::from((*weight).max(1));
                if walk.2 < u64::from(most) {
                    continue;
                }
                walk.2 -= u64::from(most);
                while let Some(place) = places.get_mut(walk.0 as usize) {
                    walk.0 = (walk.0 + walk.1) % size;
                    if *place == FREE {
                        *place = at;
                        left -= 1;
                        break;
                    }
                }
                if left == 0 {
                    break;
                }
            }
        }
        Self {
            places: if members.is_empty() { Box::default() } else { places },
            members: members.len(),
        }
    }

    /// The member that a key belongs to, or where that is not `taken` another one that is. `None` where none is.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // Below the number of places.
    pub fn find(&self, key: u64, taken: impl Fn(usize) -> bool) -> Option<usize> {
        let size = self.places.len() as u64;
        if size == 0 {
            return None;
        }
        let place = |key: u64| self.places.get((key % size) as usize).map(|at| *at as usize);
        let mut keys = (0..TRIES).map(|number| if number == 0 { key } else { rehash(key, number) });
        keys.find_map(|key| place(key).filter(|at| taken(*at)))
            .or_else(|| (0..self.members).find(|at| taken(*at)))
    }
}

/// A step that leads past every place before it comes back; of a prime number of places any does.
fn step(hash: u64, size: u64) -> u64 {
    let mut step = hash % (size - 1).max(1) + 1;
    while gcd(step, size) != 1 {
        step = step % size + 1;
    }
    step
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // Of small numbers.
mod tests {
    use super::*;
    use crate::balance::hash;

    fn members(weights: &[u32]) -> Vec<(u64, u32)> {
        let ids = (0_u32..).map(|n| hash(&n.to_be_bytes()));
        ids.zip(weights.iter().copied()).collect()
    }

    #[test]
    fn places_are_as_many_as_weights_say() {
        for weights in [&[1, 1, 1][..], &[1, 2], &[5, 0, 10], &[1; 100]] {
            let table = Maglev::new(&members(weights), 65_537);
            let total: f64 = weights.iter().map(|weight| f64::from((*weight).max(1))).sum();
            for (at, weight) in weights.iter().enumerate() {
                let count = table.places.iter().filter(|place| **place as usize == at).count();
                let expected = f64::from((*weight).max(1)) / total * 65_537.0;
                assert!(
                    (count as f64 / expected - 1.0).abs() < 0.01,
                    "{weights:?} at {at}: {count}"
                );
            }
        }
    }

    #[test]
    fn whom_is_not_taken_is_passed_over() {
        let table = Maglev::new(&members(&[1, 1, 1]), 101);
        for key in 0..1000 {
            let own = table.find(key, |_| true).unwrap();
            assert_ne!(table.find(key, |at| at != own).unwrap(), own);
            assert_eq!(table.find(key, |at| at == 2), Some(2));
            assert_eq!(table.find(key, |_| false), None);
        }
        assert_eq!(Maglev::new(&[], 101).find(5, |_| true), None);
        assert_eq!(Maglev::new(&members(&[1]), 0).find(5, |_| true), Some(0));
        for size in [2, 12, 100, 65_536] {
            let table = Maglev::new(&members(&[1, 1, 1]), size);
            assert!(table.places.iter().all(|place| *place < 3), "{size}");
        }
    }
}
