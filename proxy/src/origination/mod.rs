//! TLS that a DestinationRule asks for (SIMPLE, MUTUAL), to servers of whatever kind: from the rule and its files
//! ([`files`]) to a configuration that verifies as the rule says ([`verify`], [`configs`]).
//!
//! A configuration is made at the first use and looked after at the later ones: at most once a second somebody who uses it
//! sees whether a file has changed. New files make a new configuration; files that became unusable leave the last good one in
//! force; where there never was one, connections under the rule are refused with the file's name, and nothing else is.

mod configs;
mod files;
mod verify;

#[cfg(test)]
mod tests;

pub use configs::Originated;
pub use files::Problem;

use files::{Files, Stamp};
use mesh_core::client_tls::{ClientTls, TlsRule};
use prometheus::IntCounter;
use rustls::crypto::CryptoProvider;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The most rules whose configurations are kept; beyond it all are made anew when they are next needed.
const MOST: usize = 256;

/// Counts of what became of the files.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Configurations put in force.
    pub loaded: IntCounter,
    /// Sets of files refused.
    pub refused: IntCounter,
}

/// The configurations of all rules in use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Originations {
    entries: Arc<Mutex<HashMap<Arc<ClientTls>, Entry>>>,
    provider: Arc<CryptoProvider>,
    extraction: bool,
    counters: Counters,
}

#[derive(Debug, Clone)]
struct Entry {
    looked: Instant,
    /// The files that `made` is of.
    stamp: Stamp,
    made: Result<Arc<Originated>, Problem>,
    /// What was last wrong with newer files, said once.
    wrong: Option<Problem>,
}

impl Originations {
    /// None yet. With `extraction`, rustls gives away the keys of connections made under them, for TLS by the kernel.
    #[must_use]
    pub fn new(provider: Arc<CryptoProvider>, extraction: bool, counters: Counters) -> Self {
        Self {
            entries: Arc::default(),
            provider,
            extraction,
            counters,
        }
    }

    /// The configuration of a rule.
    ///
    /// # Errors
    /// [`Problem`] where its files cannot be used and never could.
    pub async fn get(&self, rule: &TlsRule) -> Result<Arc<Originated>, Problem> {
        let before = {
            let mut entries = self.lock();
            match entries.get_mut(&rule.tls) {
                Some(entry) if entry.looked.elapsed() < LOOK => return entry.made.clone(),
                Some(entry) => {
                    // Whoever comes meanwhile goes on with what there is.
                    entry.looked = Instant::now();
                    Some(entry.clone())
                }
                None => None,
            }
        };
        let stamp = Stamp::of(&rule.tls).await;
        if let Some(before) = &before
            && before.stamp == stamp
        {
            return before.made.clone();
        }
        let made = match Files::read(&rule.tls).await {
            Ok(files) => Originated::new(&rule.tls, &files, self.extraction, &self.provider).map(Arc::new),
            Err(problem) => Err(problem),
        };
        let entry = self.after(rule, before, stamp, made);
        let made = entry.made.clone();
        let mut entries = self.lock();
        if entries.len() >= MOST && !entries.contains_key(&rule.tls) {
            entries.clear();
        }
        entries.insert(rule.tls.clone(), entry);
        made
    }

    /// What holds after files were read.
    fn after(
        &self,
        rule: &TlsRule,
        before: Option<Entry>,
        stamp: Stamp,
        made: Result<Arc<Originated>, Problem>,
    ) -> Entry {
        let looked = Instant::now();
        let problem = match made {
            Ok(made) => {
                self.counters.loaded.inc();
                tracing::info!(
                    rule = &*rule.rule,
                    mode = rule.tls.mode(),
                    "TLS of a DestinationRule in use"
                );
                return Entry {
                    looked,
                    stamp,
                    made: Ok(made),
                    wrong: None,
                };
            }
            Err(problem) => problem,
        };
        let known = before
            .as_ref()
            .is_some_and(|entry| entry.wrong.as_ref() == Some(&problem));
        let kept = before.and_then(|entry| Some((entry.stamp, entry.made.ok()?)));
        if !known {
            self.counters.refused.inc();
            let stays = if kept.is_some() {
                "the loaded files stay"
            } else {
                "connections under it are refused"
            };
            tracing::error!(rule = &*rule.rule, %problem, "the files of a DestinationRule cannot be used: {stays}");
        }
        let wrong = Some(problem.clone());
        // With another stamp than theirs, the files are read again at the next look.
        let (stamp, made) = match kept {
            Some((stamp, made)) => (stamp, Ok(made)),
            None => (Stamp::default(), Err(problem)),
        };
        Entry {
            looked,
            stamp,
            made,
            wrong,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<ClientTls>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
