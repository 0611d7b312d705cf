//! How old what is known is: as of now while a stream is open; else as of the end of the last one, which may have been
//! that of an earlier process that left its knowledge behind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

/// What is remembered of it.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// Told when anything that is known changed.
    pub(super) changed: Notify,
    /// When an operator last stood behind it, milliseconds since the epoch; 0 before one did.
    confirmed: AtomicU64,
    /// Whether it was read from a file, and no operator has answered since.
    restored: AtomicBool,
}

impl Freshness {
    /// A stream began to answer, or ended.
    pub(super) fn confirm(&self, at: SystemTime) {
        self.restored.store(false, Ordering::Relaxed);
        self.confirmed.store(millis(at), Ordering::Relaxed);
    }

    /// What is known was read from a file, in force as of `at`.
    pub(super) fn restore(&self, at: SystemTime) {
        self.restored.store(true, Ordering::Relaxed);
        self.confirmed.store(millis(at), Ordering::Relaxed);
    }

    /// Whether it was read from a file, and no operator has answered since.
    pub(super) fn restored(&self) -> bool {
        self.restored.load(Ordering::Relaxed)
    }

    /// When an operator last stood behind it.
    pub(super) fn confirmed(&self) -> Option<SystemTime> {
        let millis = self.confirmed.load(Ordering::Relaxed);
        (millis != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }
}

/// A time as it is stored.
pub(super) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
