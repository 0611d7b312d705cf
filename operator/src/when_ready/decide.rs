//! The decision, without a clock or a cluster: given what is known of a namespace at a moment, where it stands.
//!
//! Only time of which every sidecar has told counts as quiet. What is not known counts as if somebody had called: a sidecar
//! that went away without its last word after a silence, and a time in which no operator watched.

use std::sync::Arc;

use mesh_api::when_ready::Watched;

use crate::reports::ledger::SILENCE;

/// For how long nobody may have watched, in seconds, before the quiet time begins anew: the time in which the lease goes from
/// one replica to another, and in which the operator is upgraded.
pub(super) const MOST_UNOBSERVED: u64 = 300;

/// A running pod with a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sidecar {
    /// The pod's name.
    pub(super) name: Arc<str>,
    /// Up to when it has told, in seconds since the epoch; none where it has not told anything.
    pub(super) told_until: Option<u64>,
    /// When it was first seen to run: it may take a moment until it tells.
    pub(super) since: u64,
}

/// What is known of a namespace at a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// The moment, in seconds since the epoch.
    pub(super) now: u64,
    /// For how many seconds nobody may have called in the clear.
    pub(super) quiet: u64,
    /// The running pods with sidecars.
    pub(super) sidecars: Vec<Sidecar>,
    /// When somebody last called in the clear what STRICT would refuse; 0: nobody is known to have.
    pub(super) last_plaintext: u64,
    /// Whether somebody is known to have called within the quiet period.
    pub(super) called: bool,
    /// Up to when something is not known.
    pub(super) unknown_until: u64,
    /// `namespace/name` of the PeerAuthentication for the whole namespace that its owner wrote.
    pub(super) own: Option<String>,
    /// A workload and a port that take nothing but plaintext now, so that everybody calls them in the clear.
    pub(super) disabled: Option<String>,
    /// Whether it has turned STRICT.
    pub(super) strict: bool,
}

/// Where a namespace stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It has turned STRICT.
    Strict,
    /// It is to turn STRICT now.
    Ready,
    /// Another PeerAuthentication governs it.
    Conflict(String),
    /// A port takes plaintext only.
    PlaintextOnly(String),
    /// There is no sidecar that could tell.
    NoWorkloads,
    /// These sidecars do not tell.
    NotReporting(Vec<Arc<str>>),
    /// Somebody called within the quiet period.
    Callers,
    /// Nobody called, but not for long enough.
    Quiet,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) state: State,
    /// What is to be remembered.
    pub(super) watched: Watched,
    /// How many seconds are missing, as far as that can be told.
    pub(super) missing: u64,
    /// Whether the quiet time began anew because nobody had watched.
    pub(super) unobserved: bool,
}

/// Decides, given what was remembered before.
pub(super) fn decide(view: &View, before: Option<Watched>) -> Decision {
    let now = view.now;
    let unobserved = before.is_some_and(|before| now.saturating_sub(before.observed_until) > MOST_UNOBSERVED);
    let began = match before {
        Some(before) if !unobserved => before.quiet_since,
        _ => now,
    };
    let began = began.max(view.last_plaintext).max(view.unknown_until);
    // What takes nothing but plaintext tells nothing of who could do otherwise, and where nobody is, nobody is called.
    let blind = view.own.is_some() || view.disabled.is_some() || view.sidecars.is_empty();
    let quiet_since = if blind { now } else { began.min(now) };
    let told_until = view.sidecars.iter().map(|sidecar| sidecar.told_until.unwrap_or(0));
    let told = told_until.min().unwrap_or(0).saturating_sub(quiet_since);
    let missing = view.quiet.saturating_sub(told);
    let silent = view.sidecars.iter().filter(|sidecar| {
        let heard = sidecar.told_until.unwrap_or(sidecar.since);
        heard.saturating_add(SILENCE) < now
    });
    let silent: Vec<_> = silent.map(|sidecar| sidecar.name.clone()).collect();
    let state = if let Some(own) = &view.own {
        State::Conflict(own.clone())
    } else if view.strict {
        State::Strict
    } else if let Some(disabled) = &view.disabled {
        State::PlaintextOnly(disabled.clone())
    } else if view.sidecars.is_empty() {
        State::NoWorkloads
    } else if !silent.is_empty() {
        State::NotReporting(silent)
    } else if missing == 0 {
        State::Ready
    } else if view.called {
        State::Callers
    } else {
        State::Quiet
    };
    Decision {
        state,
        watched: Watched {
            quiet_since,
            observed_until: now,
        },
        missing,
        unobserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const START: u64 = 1_000_000;

    /// A namespace of one sidecar that tells every moment, walked through time.
    struct Walk {
        view: View,
        watched: Option<Watched>,
    }

    impl Walk {
        fn new() -> Self {
            let view = View {
                now: START,
                quiet: DAY,
                sidecars: vec![sidecar("web", START)],
                ..View::default()
            };
            // The label was just put there.
            let watched = Some(decide(&view, None).watched);
            Self { view, watched }
        }

        /// The state after that many seconds, all of which the sidecars told of and the operator watched.
        fn after(&mut self, seconds: u64) -> Decision {
            let mut left = seconds;
            loop {
                let step = left.min(60);
                self.view.now += step;
                left -= step;
                for sidecar in &mut self.view.sidecars {
                    sidecar.told_until = sidecar.told_until.map(|_| self.view.now);
                }
                let decision = decide(&self.view, self.watched);
                self.watched = Some(decision.watched);
                if left == 0 {
                    return decision;
                }
            }
        }
    }

    fn sidecar(name: &str, told_until: u64) -> Sidecar {
        Sidecar {
            name: name.into(),
            told_until: Some(told_until),
            since: START,
        }
    }

    #[test]
    fn it_turns_strict_after_the_quiet_time_and_stays() {
        let mut walk = Walk::new();
        let first = walk.after(0);
        assert_eq!((first.state, first.missing), (State::Quiet, DAY));
        let later = walk.after(DAY - 1);
        assert_eq!((later.state, later.missing), (State::Quiet, 1));
        assert_eq!(walk.after(1).state, State::Ready);
        walk.view.strict = true;
        walk.view.last_plaintext = walk.view.now;
        assert_eq!(walk.after(DAY).state, State::Strict);
    }

    #[test]
    fn a_caller_begins_it_anew() {
        let mut walk = Walk::new();
        walk.after(DAY - 60);
        walk.view.last_plaintext = walk.view.now;
        walk.view.called = true;
        assert_eq!(walk.after(60).state, State::Callers);
        assert_eq!(walk.after(DAY - 61).state, State::Callers);
        assert_eq!(walk.after(1).state, State::Ready);
    }

    #[test]
    fn it_survives_a_change_of_the_leader_but_no_time_without_one() {
        let mut walk = Walk::new();
        walk.after(DAY / 2);
        // The next leader begins with what was remembered last.
        walk.view.now += MOST_UNOBSERVED;
        let next = decide(&walk.view, walk.watched);
        assert!(!next.unobserved);
        assert_eq!(next.watched.quiet_since, START);
        walk.watched = Some(next.watched);
        assert_eq!(walk.after(DAY / 2 - MOST_UNOBSERVED).state, State::Ready);

        let mut walk = Walk::new();
        walk.after(DAY - 60);
        walk.view.now += MOST_UNOBSERVED + 1;
        let next = walk.after(0);
        assert!(next.unobserved);
        assert_eq!((next.state, next.missing), (State::Quiet, DAY));
        assert!(!walk.after(60).unobserved);
    }

    #[test]
    fn only_time_of_which_all_have_told_counts() {
        let mut walk = Walk::new();
        walk.after(DAY - 60);
        // This one told last a minute ago; nothing is known of the time since.
        let told = walk.view.now;
        walk.view.now += 60;
        walk.view.sidecars = vec![sidecar("web", walk.view.now), sidecar("db", told)];
        let decision = decide(&walk.view, walk.watched);
        assert_eq!((decision.state, decision.missing), (State::Quiet, 60));
        walk.view.sidecars[1].told_until = Some(walk.view.now);
        assert_eq!(decide(&walk.view, walk.watched).state, State::Ready);
        for told_until in [None, Some(walk.view.now - SILENCE - 1)] {
            walk.view.sidecars[1].told_until = told_until;
            let decision = decide(&walk.view, walk.watched);
            assert_eq!(decision.state, State::NotReporting(vec!["db".into()]));
        }
        // It is not its silence that begins the time anew, but what nobody can know any more.
        walk.view.sidecars.pop();
        walk.view.unknown_until = walk.view.now;
        let decision = decide(&walk.view, walk.watched);
        assert_eq!((decision.state, decision.missing), (State::Quiet, DAY));
    }

    #[test]
    fn where_nothing_can_be_known_the_time_does_not_run() {
        type Case = (fn(&mut View), State);
        let cases: [Case; 3] = [
            (
                |view| view.own = Some("shop/default".into()),
                State::Conflict("shop/default".into()),
            ),
            (
                |view| view.disabled = Some("web:80".into()),
                State::PlaintextOnly("web:80".into()),
            ),
            (|view| view.sidecars.clear(), State::NoWorkloads),
        ];
        for (set, expected) in cases {
            let mut walk = Walk::new();
            let sidecars = walk.view.sidecars.clone();
            walk.after(DAY - 60);
            set(&mut walk.view);
            assert_eq!(walk.after(2 * DAY).state, expected);
            walk.view.own = None;
            walk.view.disabled = None;
            walk.view.sidecars = sidecars;
            let again = walk.after(0);
            assert_eq!((again.state, again.missing), (State::Quiet, DAY), "{expected:?}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_ends_nothing_early() {
        let mut walk = Walk::new();
        walk.after(DAY / 2);
        walk.view.now = START - DAY;
        walk.view.sidecars[0].told_until = Some(walk.view.now);
        let decision = decide(&walk.view, walk.watched);
        assert_eq!((decision.state, decision.missing), (State::Quiet, DAY));
    }
}
