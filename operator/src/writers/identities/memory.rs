//! What rounds remember between each other, and what may be believed of a Secret without reading it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::identity::SpiffeId;

use super::journal::Journal;
use crate::ca::Authority;
use crate::certificates::{Pair, Refusal};
use crate::index::changes::Named;

/// How long a verdict stands before the Secret is read again although nothing was told of it.
const BELIEVED: Duration = Duration::from_secs(1800);

/// What rounds remember of service accounts.
#[derive(Debug, Default)]
pub struct Memory {
    /// The Secrets of ours that the watch has told of, with their resource versions.
    pub(super) secrets: HashMap<Named, String>,
    /// Whether the watch's first list is complete, so that what it did not tell of is not there.
    pub(super) listed: bool,
    /// What Secrets were found to be.
    judged: HashMap<Named, Judged>,
    /// Since when nothing uses a Secret.
    pub(super) unused: HashMap<Named, Instant>,
    /// When certificates end, seconds since the epoch.
    pub(super) ends: HashMap<Named, i64>,
    /// Service accounts whose Secrets changed, on their way to a round.
    pub(super) touched: HashSet<Named>,
    /// Service accounts that a trigger named and no round has begun for.
    pub(super) waiting: HashSet<Named>,
    /// Failures in a row.
    pub(super) failures: HashMap<Named, u32>,
    /// Refusals that were reported.
    pub(super) refused: HashMap<Named, Refusal>,
    /// What the log was told lately.
    pub(super) journal: Journal,
}

/// A verdict on a Secret: that it is as it should be.
#[derive(Debug)]
pub(super) struct Judged {
    /// The version of the Secret that it is about.
    version: String,
    pair: Pair,
    authority: Arc<Authority>,
    id: SpiffeId,
    owner: String,
    at: Instant,
}

impl Judged {
    /// A verdict of now.
    pub(super) fn new(version: String, pair: Pair, authority: &Arc<Authority>, id: &SpiffeId, owner: &str) -> Self {
        Self {
            version,
            pair,
            authority: authority.clone(),
            id: id.clone(),
            owner: owner.to_owned(),
            at: Instant::now(),
        }
    }
}

/// What may be believed of a Secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// There is none of ours, and probably none at all.
    Nothing,
    /// It is as it should be.
    Good(Pair),
    /// It has to be read.
    Unknown,
}

impl Memory {
    /// What may be believed without reading.
    pub(super) fn belief(&self, name: &Named, authority: &Arc<Authority>, id: &SpiffeId, owner: &str) -> Belief {
        let Some(version) = self.secrets.get(name) else {
            // Where something was in the way before, it is likely to be so still.
            return if self.listed && !self.refused.contains_key(name) {
                Belief::Nothing
            } else {
                Belief::Unknown
            };
        };
        match self.judged.get(name) {
            Some(judged)
                if judged.version == *version
                    && Arc::ptr_eq(&judged.authority, authority)
                    && judged.id == *id
                    && judged.owner == owner
                    && judged.at.elapsed() < BELIEVED =>
            {
                Belief::Good(judged.pair.clone())
            }
            _ => Belief::Unknown,
        }
    }

    /// Keeps a verdict. The watch need not tell of that version any more.
    pub(super) fn judge(&mut self, name: &Named, judged: Judged) {
        self.secrets.insert(name.clone(), judged.version.clone());
        self.judged.insert(name.clone(), judged);
    }

    /// The watch told of a Secret; whether a round is needed for it.
    pub(super) fn told(&mut self, name: &Named, version: String) -> bool {
        let news = self.judged.get(name).is_none_or(|judged| judged.version != version);
        self.secrets.insert(name.clone(), version);
        news
    }

    /// A Secret is gone.
    pub(super) fn gone(&mut self, name: &Named) {
        self.secrets.remove(name);
        self.judged.remove(name);
        self.ends.remove(name);
        self.unused.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn only_what_nothing_was_told_of_since_is_believed() {
        let authority = Arc::new(Authority::generate(SystemTime::now()).unwrap());
        let other = Arc::new(Authority::generate(SystemTime::now()).unwrap());
        let id: SpiffeId = "spiffe://cluster.local/ns/a/sa/b".parse().unwrap();
        let renamed: SpiffeId = "spiffe://example.org/ns/a/sa/b".parse().unwrap();
        let name: Named = ("a".into(), "b".into());
        let pair = Pair {
            not_before: 0,
            not_after: 9,
            serial: "1".to_owned(),
        };
        let mut memory = Memory::default();
        let belief = |memory: &Memory| memory.belief(&name, &authority, &id, "u");
        assert_eq!(belief(&memory), Belief::Unknown, "before the first list");
        memory.listed = true;
        assert_eq!(belief(&memory), Belief::Nothing);
        memory.refused.insert(name.clone(), Refusal::Foreign);
        assert_eq!(belief(&memory), Belief::Unknown, "something was in the way");
        memory.refused.clear();

        memory.judge(&name, Judged::new("7".to_owned(), pair.clone(), &authority, &id, "u"));
        assert_eq!(belief(&memory), Belief::Good(pair.clone()));
        assert!(!memory.told(&name, "7".to_owned()), "our own write comes back");
        assert_eq!(belief(&memory), Belief::Good(pair));
        for (case, authority, id, owner) in [
            ("another authority", &other, &id, "u"),
            ("another identity", &authority, &renamed, "u"),
            ("another ServiceAccount object", &authority, &id, "v"),
        ] {
            assert_eq!(memory.belief(&name, authority, id, owner), Belief::Unknown, "{case}");
        }
        assert!(memory.told(&name, "8".to_owned()), "an edit");
        assert_eq!(belief(&memory), Belief::Unknown);
        memory.gone(&name);
        assert_eq!(belief(&memory), Belief::Nothing);
    }
}
