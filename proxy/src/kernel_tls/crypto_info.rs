//! What the kernel is told of one direction's keys: the structures `tls12_crypto_info_*` of `include/uapi/linux/tls.h`.

use rustls::{CipherSuite, ConnectionTrafficSecrets, SupportedCipherSuite};
use zeroize::Zeroizing;

/// The longest of the structures: that of AES-256-GCM, and of ChaCha20-Poly1305.
const MOST_BYTES: usize = 56;

/// The version, the cipher and the sequence number that every structure has around the keys.
const SEQUENCE_BYTES: usize = size_of::<u64>();

/// A version of TLS that the kernel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// A cipher that the kernel and rustls both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

/// What decides how records look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) version: Version,
    pub(super) cipher: Cipher,
}

/// Whose keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Of what is sent.
    Transmit,
    /// Of what is received.
    Receive,
}

impl Suite {
    /// All there are.
    pub(super) const ALL: [Self; 6] = {
        use {Cipher::*, Version::*};
        [
            Self::new(Tls13, Aes128Gcm),
            Self::new(Tls13, Aes256Gcm),
            Self::new(Tls13, Chacha20Poly1305),
            Self::new(Tls12, Aes128Gcm),
            Self::new(Tls12, Aes256Gcm),
            Self::new(Tls12, Chacha20Poly1305),
        ]
    };

    const fn new(version: Version, cipher: Cipher) -> Self {
        Self { version, cipher }
    }

    /// That of a connection; `None` for one that the kernel does not have.
    pub(super) fn of(negotiated: SupportedCipherSuite) -> Option<Self> {
        use {Cipher::*, Version::*};
        let (version, cipher) = match negotiated.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => (Tls13, Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => (Tls13, Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => (Tls13, Chacha20Poly1305),
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => (Tls12, Aes128Gcm),
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => (Tls12, Aes256Gcm),
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => (Tls12, Chacha20Poly1305),
            _ => return None,
        };
        Some(Self::new(version, cipher))
    }

    /// How it is called on the administration page.
    pub(super) fn name(self) -> &'static str {
        match (self.version, self.cipher) {
            (Version::Tls13, Cipher::Aes128Gcm) => "TLS 1.3 AES-128-GCM",
            (Version::Tls13, Cipher::Aes256Gcm) => "TLS 1.3 AES-256-GCM",
            (Version::Tls13, Cipher::Chacha20Poly1305) => "TLS 1.3 ChaCha20-Poly1305",
            (Version::Tls12, Cipher::Aes128Gcm) => "TLS 1.2 AES-128-GCM",
            (Version::Tls12, Cipher::Aes256Gcm) => "TLS 1.2 AES-256-GCM",
            (Version::Tls12, Cipher::Chacha20Poly1305) => "TLS 1.2 ChaCha20-Poly1305",
        }
    }

    /// By how many bytes a record is longer than what it carries: its header, the nonce where one is sent, the tag, and the
    /// type that TLS 1.3 hides inside (RFC 8446, section 5.2; RFC 5288, section 3; RFC 7905, section 2).
    pub(super) fn overhead(self) -> u64 {
        match (self.version, self.cipher) {
            (Version::Tls13, _) => 5 + 1 + 16,
            (Version::Tls12, Cipher::Chacha20Poly1305) => 5 + 16,
            (Version::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => 5 + 8 + 16,
        }
    }

    /// How many blocks of 16 bytes, with one more for each record, may be sent under one key: 2^24 records of the greatest
    /// size, a little less than RFC 8446, section 5.5, allows. `None` where no number that is ever reached matters.
    pub(super) fn most_blocks(self) -> Option<u64> {
        match self.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Some(1 << (24 + 10)),
            Cipher::Chacha20Poly1305 => None,
        }
    }

    fn lengths(self) -> Lengths {
        let (iv, key, salt) = match self.cipher {
            Cipher::Aes128Gcm => (8, 16, 4),
            Cipher::Aes256Gcm => (8, 32, 4),
            Cipher::Chacha20Poly1305 => (12, 32, 0),
        };
        Lengths { iv, key, salt }
    }

    fn numbers(self) -> [u16; 2] {
        let version = match self.version {
            Version::Tls12 => libc::TLS_1_2_VERSION,
            Version::Tls13 => libc::TLS_1_3_VERSION,
        };
        let cipher = match self.cipher {
            Cipher::Aes128Gcm => libc::TLS_CIPHER_AES_GCM_128,
            Cipher::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_256,
            Cipher::Chacha20Poly1305 => libc::TLS_CIPHER_CHACHA20_POLY1305,
        };
        [version, cipher]
    }
}

struct Lengths {
    iv: usize,
    key: usize,
    salt: usize,
}

/// One direction's keys as the kernel takes them. Forgotten when dropped; never printed.
pub(super) struct CryptoInfo {
    bytes: Zeroizing<[u8; MOST_BYTES]>,
    length: usize,
}

impl CryptoInfo {
    /// Of what rustls gave away; `None` for secrets that are not the suite's.
    pub(super) fn new(
        suite: Suite,
        direction: Direction,
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Option<Self> {
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
            _ => return None,
        };
        let lengths = suite.lengths();
        if key.len() != lengths.key || iv.len() != lengths.salt + lengths.iv {
            return None;
        }
        let (salt, iv) = iv.split_at(lengths.salt);
        let fresh = match (suite.version, <[u8; 8]>::try_from(iv)) {
            // With GCM in TLS 1.2 both count their nonces by themselves, and in another way: rustls mixes the sequence number
            // into a start, the kernel adds one to it each time.
            (Version::Tls12, Ok(start)) if direction == Direction::Transmit => Some(unused(start)),
            _ => None,
        };
        let iv = fresh.as_ref().map_or(iv, <[u8; 8]>::as_slice);
        Some(Self::lay_out(suite, [iv, key, salt], sequence))
    }

    /// Of no connection, to see whether the kernel takes it.
    pub(super) fn empty(suite: Suite) -> Self {
        let lengths = suite.lengths();
        let nothing = [0; MOST_BYTES];
        let parts = [lengths.iv, lengths.key, lengths.salt].map(|length| &nothing[..length]);
        Self::lay_out(suite, parts, 0)
    }

    fn lay_out(suite: Suite, parts: [&[u8]; 3], sequence: u64) -> Self {
        let mut bytes = Zeroizing::new([0; MOST_BYTES]);
        let mut length = 0;
        let [version, cipher] = suite.numbers().map(u16::to_ne_bytes);
        let [iv, key, salt] = parts;
        for part in [&version[..], &cipher, iv, key, salt, &sequence.to_be_bytes()] {
            bytes[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        Self { bytes, length }
    }

    /// What the kernel reads.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Where the kernel writes.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// The number of the next record.
    pub(super) fn sequence(&self) -> u64 {
        let mut bytes = [0; SEQUENCE_BYTES];
        bytes.copy_from_slice(&self.bytes[self.length - SEQUENCE_BYTES..self.length]);
        u64::from_be_bytes(bytes)
    }
}

/// A nonce from which one may count on upwards without meeting any that `start`, with a number below 2^63 mixed in, has been:
/// those have its first bit, these have the other. A nonce that is used twice gives the key away.
fn unused(start: [u8; 8]) -> [u8; 8] {
    let first = !start[0] & 0x80;
    [first, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::cipher::{AeadKey, Iv};

    const IV: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn key() -> AeadKey {
        AeadKey::from(std::array::from_fn(|at| u8::try_from(at).unwrap() + 100))
    }

    /// The kernel's structure as bytes.
    fn raw<T>(structure: &T) -> Vec<u8> {
        // SAFETY: the structures are made of integers without padding, and live while they are read.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(structure).cast::<u8>(), size_of::<T>()) }.to_vec()
    }

    fn info(version: u16, cipher_type: u16) -> libc::tls_crypto_info {
        libc::tls_crypto_info { version, cipher_type }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let sequence = 0x0102_0304_0506_0708_u64;
        let rec_seq = sequence.to_be_bytes();
        let whole: [u8; 32] = key().as_ref().try_into().unwrap();
        let (salt, iv) = ([1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11, 12]);
        for (version, number) in [
            (Version::Tls12, libc::TLS_1_2_VERSION),
            (Version::Tls13, libc::TLS_1_3_VERSION),
        ] {
            let gcm_256 = libc::tls12_crypto_info_aes_gcm_256 {
                info: info(number, libc::TLS_CIPHER_AES_GCM_256),
                iv,
                key: whole,
                salt,
                rec_seq,
            };
            let chacha = libc::tls12_crypto_info_chacha20_poly1305 {
                info: info(number, libc::TLS_CIPHER_CHACHA20_POLY1305),
                iv: IV,
                key: whole,
                salt: [],
                rec_seq,
            };
            let secrets = |cipher| match cipher {
                Cipher::Chacha20Poly1305 => ConnectionTrafficSecrets::Chacha20Poly1305 {
                    key: key(),
                    iv: Iv::new(IV),
                },
                _ => ConnectionTrafficSecrets::Aes256Gcm {
                    key: key(),
                    iv: Iv::new(IV),
                },
            };
            for (cipher, expected) in [
                (Cipher::Aes256Gcm, raw(&gcm_256)),
                (Cipher::Chacha20Poly1305, raw(&chacha)),
            ] {
                let suite = Suite::new(version, cipher);
                let made = CryptoInfo::new(suite, Direction::Receive, sequence, &secrets(cipher)).unwrap();
                assert_eq!(made.bytes(), expected, "{}", suite.name());
                assert_eq!(made.sequence(), sequence);
                assert_eq!(CryptoInfo::empty(suite).bytes().len(), expected.len());
            }
            // Of AES-128-GCM by its parts alone: rustls makes no short key outside of a connection.
            let gcm_128 = libc::tls12_crypto_info_aes_gcm_128 {
                info: info(number, libc::TLS_CIPHER_AES_GCM_128),
                iv,
                key: whole[..16].try_into().unwrap(),
                salt,
                rec_seq,
            };
            let suite = Suite::new(version, Cipher::Aes128Gcm);
            let made = CryptoInfo::lay_out(suite, [&iv, &whole[..16], &salt], sequence);
            assert_eq!(made.bytes(), raw(&gcm_128), "{}", suite.name());
        }
    }

    #[test]
    fn secrets_of_another_suite_are_refused() {
        let secrets = ConnectionTrafficSecrets::Aes256Gcm {
            key: key(),
            iv: Iv::new(IV),
        };
        let suite = Suite::new(Version::Tls13, Cipher::Aes128Gcm);
        assert!(CryptoInfo::new(suite, Direction::Transmit, 0, &secrets).is_none());
    }

    #[test]
    fn no_nonce_is_used_twice() {
        for start in [
            [0; 8],
            [255; 8],
            [0x7f, 255, 255, 255, 255, 255, 255, 255],
            [3, 1, 4, 1, 5, 9, 2, 6],
        ] {
            let start_number = u64::from_be_bytes(start);
            let first = u64::from_be_bytes(unused(start));
            for before in (0..64).map(|bit| 1_u64.checked_shl(bit).unwrap_or(0) >> 1) {
                // Whatever rustls used, and however far the kernel counts, the first bit tells them apart.
                let (used, next) = (start_number ^ before, first + (before >> 1));
                assert_ne!(used >> 63, next >> 63, "{start_number:x} {before:x}");
            }
        }
        let secrets = ConnectionTrafficSecrets::Aes256Gcm {
            key: key(),
            iv: Iv::new(IV),
        };
        for (version, iv) in [
            (Version::Tls12, [0x80, 0, 0, 0, 0, 0, 0, 0]),
            (Version::Tls13, [5, 6, 7, 8, 9, 10, 11, 12]),
        ] {
            let suite = Suite::new(version, Cipher::Aes256Gcm);
            let made = CryptoInfo::new(suite, Direction::Transmit, 1, &secrets).unwrap();
            assert_eq!(made.bytes()[4..12], iv, "{}", suite.name());
        }
    }
}
