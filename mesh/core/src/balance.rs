//! Choosing an endpoint. Istio's default is LEAST_REQUEST: of two drawn at random, the one with fewer requests under way.

/// Chooses among `len` endpoints with two draws (any numbers, evenly spread) and a measure of load; `None` where there is none.
///
/// `tried` endpoints are avoided while another is left.
#[must_use]
pub fn least_request(len: usize, draws: [usize; 2], tried: &[usize], load: impl Fn(usize) -> usize) -> Option<usize> {
    let left = len - tried.iter().filter(|at| **at < len).count().min(len);
    if len == 0 {
        return None;
    }
    // The n-th endpoint that was not tried; with few tries this is a short walk.
    let nth = |n: usize| {
        if left == 0 {
            Some(n % len)
        } else {
            (0..len).filter(|at| !tried.contains(at)).nth(n % left)
        }
    };
    let (first, second) = if tried.is_empty() {
        // The second draw is over the others, so that two are always compared.
        let first = draws[0] % len;
        (
            first,
            if len == 1 {
                first
            } else {
                (first + 1 + draws[1] % (len - 1)) % len
            },
        )
    } else {
        (nth(draws[0])?, nth(draws[1])?)
    };
    Some(if load(second) < load(first) { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_loaded_of_two_that_were_not_tried() {
        let load = |at: usize| [5, 1, 3][at];
        for (len, draws, tried, expected) in [
            (0, [0, 0], &[][..], None),
            (1, [7, 9], &[], Some(0)),
            (3, [0, 0], &[], Some(1)),
            (3, [0, 1], &[], Some(2)),
            (3, [2, 0], &[], Some(2)),
            (3, [0, 1], &[1], Some(2)),
            (3, [0, 0], &[1, 2], Some(0)),
            (2, [1, 1], &[0, 1], Some(1)),
        ] {
            assert_eq!(
                least_request(len, draws, tried, load),
                expected,
                "{len} {draws:?} {tried:?}"
            );
        }
    }
}
