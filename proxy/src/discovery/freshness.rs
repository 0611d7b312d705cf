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
    /// When an operator last stood behind it.
    confirmed: Moment,
    /// Whether it was read from a file, and no operator has answered since.
    restored: AtomicBool,
}

impl Freshness {
    /// A stream began to answer, or ended.
    pub(super) fn confirm(&self, at: SystemTime) {
        self.restored.store(false, Ordering::Relaxed);
        self.confirmed.set(at);
    }

    /// What is known was read from a file, in force as of `at`.
    pub(super) fn restore(&self, at: SystemTime) {
        self.restored.store(true, Ordering::Relaxed);
        self.confirmed.set(at);
    }

    /// Whether it was read from a file, and no operator has answered since.
    pub(super) fn restored(&self) -> bool {
        self.restored.load(Ordering::Relaxed)
    }

    /// When an operator last stood behind it.
    pub(super) fn confirmed(&self) -> Option<SystemTime> {
        self.confirmed.get()
    }
}

/// A time that is set without a lock: milliseconds since the epoch, 0 before the first.
#[derive(Debug, Default)]
pub(super) struct Moment(AtomicU64);

impl Moment {
    /// Remembers a time in place of the one before.
    pub(super) fn set(&self, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    /// The time, if there was one.
    pub(super) fn get(&self) -> Option<SystemTime> {
        let millis = self.0.load(Ordering::Relaxed);
        (millis != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }
}
