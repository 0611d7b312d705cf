//! One hash for all proxies, so that a key leads every client to the same endpoint.

/// Hashes bytes: FNV-1a, with its bits mixed in the end. Not for what an attacker must not foresee.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(folded)
}

/// Another hash of the same, by its number.
#[must_use]
pub fn rehash(hash: u64, number: u64) -> u64 {
    mix(hash.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Has every bit depend on all: splitmix64's last step.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn hashes_are_spread_and_stay_the_same_for_ever() {
        // All proxies of a mesh, of whatever version, must agree.
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"alice"), hash(b"alice"));
        let hashes: HashSet<u64> = (0..10_000_u32).map(|n| hash(&n.to_le_bytes())).collect();
        assert_eq!(hashes.len(), 10_000);
        let ones: u32 = hashes.iter().map(|hash| hash.count_ones()).sum();
        assert!((310_000..330_000).contains(&ones), "{ones}");
        assert_ne!(rehash(7, 1), rehash(7, 2));
    }
}
