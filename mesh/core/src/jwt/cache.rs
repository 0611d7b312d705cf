//! The tokens that were verified, so that a token that comes with every request is verified once.
//!
//! The key is a digest of the token and never the token. The cache belongs to an [`super::Authenticator`], which is
//! made anew when rules or keys change: nothing outlives its key.

use super::claims::Claims;
use super::token::Validity;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use http::{HeaderName, HeaderValue};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// How many parts have a lock of their own, so that threads seldom meet.
const PARTS: usize = 8;

/// The most tokens that a generation of a part holds; there are two generations.
const GENERATION: usize = 128;

/// The most bytes of tokens that a generation of a part holds.
const GENERATION_BYTES: usize = 192 * 1024;

/// What tells a token from every other one.
pub(super) type Digest = [u8; 16];

/// The key of [`digest`], this process's own.
static KEY: LazyLock<Option<LessSafeKey>> = LazyLock::new(|| {
    let mut key = [0; 16];
    rand::fill(&mut key).ok()?;
    UnboundKey::new(&AES_128_GCM, &key).ok().map(LessSafeKey::new)
});

/// AES-GCM's authenticator over the token, which costs a fraction of a hash: for whoever does not know the key, two tokens have
/// the same one with a chance of their length in 2^128. Neither the key nor a digest is ever shown, so that one nonce does for
/// all of them. Without a key, half of a SHA-256.
pub(super) fn digest(token: &str) -> Digest {
    let tag = KEY.as_ref().and_then(|key| {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(token.as_bytes()), &mut []);
        Digest::try_from(tag.ok()?.as_ref()).ok()
    });
    tag.unwrap_or_else(|| {
        let mut half = Digest::default();
        let whole = digest::digest(&digest::SHA256, token.as_bytes());
        for (to, from) in half.iter_mut().zip(whole.as_ref()) {
            *to = *from;
        }
        half
    })
}

/// A token that was verified.
#[derive(Debug)]
pub(super) struct Verified {
    /// Which rule took it.
    pub(super) rule: usize,
    pub(super) validity: Validity,
    pub(super) claims: Arc<Claims>,
    /// The headers that tell the application of it.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// How long the token is, in bytes.
    pub(super) length: usize,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    parts: [Mutex<Part>; PARTS],
}

/// Two generations: what is asked for moves to the younger one, and once that is full the older one is dropped.
#[derive(Debug, Default)]
struct Part {
    young: HashMap<Digest, Arc<Verified>>,
    young_bytes: usize,
    old: HashMap<Digest, Arc<Verified>>,
}

impl Cache {
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Verified>> {
        let mut part = self.part(digest).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = part.young.get(digest) {
            return Some(found.clone());
        }
        let found = part.old.remove(digest)?;
        part.insert(*digest, found.clone());
        Some(found)
    }

    pub(super) fn insert(&self, digest: Digest, verified: Arc<Verified>) {
        let mut part = self.part(&digest).lock().unwrap_or_else(PoisonError::into_inner);
        part.insert(digest, verified);
    }

    /// Forgets a token that has ended.
    pub(super) fn remove(&self, digest: &Digest) {
        let mut part = self.part(digest).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = part.young.remove(digest) {
            part.young_bytes -= gone.length;
        }
        part.old.remove(digest);
    }

    fn part(&self, digest: &Digest) -> &Mutex<Part> {
        &self.parts[usize::from(digest[0]) % PARTS]
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.lock().unwrap());
        parts.map(|part| part.young.len() + part.old.len()).sum()
    }
}

impl Part {
    fn insert(&mut self, digest: Digest, verified: Arc<Verified>) {
        let bytes = verified.length;
        if self.young.len() >= GENERATION || self.young_bytes + bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some(before) = self.young.insert(digest, verified) {
            self.young_bytes -= before.length;
        }
    }
}
