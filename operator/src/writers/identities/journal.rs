//! What the log says of certificates: each by itself, until so many are written at once that their number says more.

use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::Context;
use crate::certificates::Reason;
use crate::index::changes::Named;

/// Certificates told one by one in one second.
const ONE_BY_ONE: u32 = 20;

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Journal {
    second: Option<Instant>,
    told: u32,
    withheld: u32,
}

impl Journal {
    /// Whether one more is told by itself, and how many before it were not and are to be told of now.
    fn one(&mut self, now: Instant) -> (bool, u32) {
        let withheld = self.rest(now);
        let alone = self.told < ONE_BY_ONE;
        if alone {
            self.told += 1;
        } else {
            self.withheld += 1;
        }
        (alone, withheld)
    }

    /// How many were not told of in a second that is over.
    fn rest(&mut self, now: Instant) -> u32 {
        if self
            .second
            .is_some_and(|began| now.duration_since(began) < Duration::from_secs(1))
        {
            return 0;
        }
        self.second = Some(now);
        self.told = 0;
        std::mem::take(&mut self.withheld)
    }
}

/// Tells of a certificate that was written.
pub(super) fn wrote(context: &Context, account: &Named, serial: &str, reason: Reason) {
    let (alone, withheld) = context.remember(|memory| memory.journal.one(Instant::now()));
    tell_rest(withheld);
    let (namespace, service_account) = (&*account.0, &*account.1);
    if alone {
        info!(namespace, service_account, serial, ?reason, "wrote a certificate");
    } else {
        debug!(namespace, service_account, serial, ?reason, "wrote a certificate");
    }
}

/// Tells of what a second that is over has left.
pub(super) fn flush(context: &Context) {
    tell_rest(context.remember(|memory| memory.journal.rest(Instant::now())));
}

fn tell_rest(withheld: u32) {
    if withheld > 0 {
        info!(withheld, "wrote further certificates; level debug tells each");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_are_counted() {
        let mut journal = Journal::default();
        let start = Instant::now();
        for _ in 0..ONE_BY_ONE {
            assert_eq!(journal.one(start), (true, 0));
        }
        for _ in 0..7 {
            assert_eq!(journal.one(start), (false, 0));
        }
        let later = start + Duration::from_secs(1);
        assert_eq!(journal.one(later), (true, 7));
        assert_eq!(journal.rest(later), 0);
        for _ in 0..ONE_BY_ONE {
            journal.one(later);
        }
        assert_eq!(journal.rest(later + Duration::from_secs(5)), 1);
    }
}
