//! LEAST_REQUEST: of two drawn at random, the one with fewer requests under way.

use super::weights::{Weights, below};

/// Chooses among `len` endpoints with two draws of any numbers and a measure of load; `None` where there is none. Where weights
/// differ, the two are drawn by weight, and load counts in proportion to it.
#[must_use]
pub fn least_request(
    len: usize,
    weights: Option<&Weights>,
    draws: [u32; 2],
    load: impl Fn(usize) -> u32,
) -> Option<usize> {
    if len < 2 {
        return len.checked_sub(1);
    }
    let Some(weights) = weights else {
        // The second draw is over the others, so that two are always compared.
        let first = below(len, draws[0]);
        let second = (first + 1 + below(len - 1, draws[1])) % len;
        return Some(if load(second) < load(first) { second } else { first });
    };
    let (first, second) = (weights.draw(draws[0]), weights.draw(draws[1]));
    let scaled = |load: u32, other: usize| u128::from(load) * u128::from(weights.at(other));
    let less = scaled(load(second), first) < scaled(load(first), second);
    Some(if less { second } else { first })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // Of small numbers.
mod tests {
    use super::*;

    const HALF: u32 = 1 << 31;

    #[test]
    fn the_less_loaded_of_two() {
        let load = |at: usize| [5, 1, 3][at];
        for (len, draws, expected) in [
            (0, [0, 0], None),
            (1, [7, u32::MAX], Some(0)),
            (3, [0, 0], Some(1)),
            (3, [0, u32::MAX], Some(2)),
            (3, [u32::MAX, 0], Some(2)),
            (3, [HALF, 0], Some(1)),
        ] {
            assert_eq!(least_request(len, None, draws, load), expected, "{len} {draws:?}");
        }
    }

    #[test]
    fn weights_count_both_for_the_draw_and_for_the_load() {
        let weights = Weights::new(&[1, 9]).unwrap();
        let chosen = |draws, loads: [u32; 2]| least_request(2, Some(&weights), draws, |at| loads[at]);
        // Idle ones are shared by weight alone.
        assert_eq!(chosen([0, HALF], [0, 0]), Some(0));
        assert_eq!(chosen([HALF, 0], [0, 0]), Some(1));
        // Eight of nine beside one of one is less; ten is more.
        assert_eq!(chosen([0, HALF], [1, 8]), Some(1));
        assert_eq!(chosen([0, HALF], [1, 10]), Some(0));
    }

    #[test]
    fn under_load_no_endpoint_is_left_behind() {
        // Requests come faster than they end: all get their share.
        let mut loads = [0_u32; 5];
        let mut seed = 1_u64;
        let mut draw = || {
            seed = crate::balance::rehash(seed, 1);
            (seed >> 32) as u32
        };
        for _ in 0..5000 {
            let at = least_request(5, None, [draw(), draw()], |at| loads[at]).unwrap();
            loads[at] += 1;
        }
        assert!(loads.iter().all(|load| load.abs_diff(1000) < 20), "{loads:?}");
    }
}
