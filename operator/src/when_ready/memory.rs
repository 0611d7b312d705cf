//! What is remembered of a labelled namespace between two looks, and the look itself: who calls in the clear, which sidecars
//! tell, what stands in the way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::when_ready::{PlaintextCaller, Progress, Watched, time};
use mesh_core::labels::Labels;
use mesh_core::peer_authentication::PortMode;

use super::decide::{Decision, Sidecar, State, View, decide};
use crate::index::changes::Named;
use crate::index::{MeshFacts, World};
use crate::reports::ledger::SILENCE;
use crate::reports::{Ledger, Row};

/// How often the status of a namespace changes at most, in seconds, unless it stands elsewhere.
const SHOWN_EVERY: u64 = 30;

/// How often it says up to when somebody watched, in seconds.
const CHECKPOINT: u64 = 60;

/// For how long a sidecar that said that it ends is not expected to tell more, in seconds: after that it has started again.
const ENDING: u64 = 600;

/// The most callers that are remembered, and that are named.
const MOST_CALLERS: usize = 256;
const NAMED: usize = 20;

/// The most sidecars that are named.
const NAMED_SIDECARS: usize = 10;

/// Who called what, as it is named.
type CallerKey = (String, String, u16);

/// A namespace's.
#[derive(Debug, Default)]
pub(super) struct Memory {
    watched: Option<Watched>,
    /// When each caller was last there.
    callers: BTreeMap<CallerKey, u64>,
    /// When each running sidecar was first seen here.
    present: HashMap<Arc<str>, u64>,
    /// Up to when something is not known.
    unknown_until: u64,
    shown: Option<(u64, Progress)>,
    /// Whose names an event has told.
    told: BTreeMap<CallerKey, u64>,
}

/// What comes of a look.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) decision: Decision,
    /// What the status is to say from now on, if that is to change.
    pub(super) progress: Option<Progress>,
    /// Callers that no event has named yet.
    pub(super) news: Vec<String>,
}

impl Memory {
    /// One that goes on from what a status says.
    pub(super) fn new(shown: Option<(Watched, Vec<PlaintextCaller>)>) -> Self {
        let Some((watched, callers)) = shown else {
            return Self::default();
        };
        let callers = callers.into_iter().map(|caller| {
            let last = u64::try_from(caller.last_seen.0.as_second()).unwrap_or(0);
            ((caller.caller, caller.workload, caller.port), last)
        });
        let callers: BTreeMap<_, _> = callers.collect();
        Self {
            watched: Some(watched),
            told: callers.clone(),
            callers,
            ..Self::default()
        }
    }

    /// Looks at a namespace at `now`.
    pub(super) fn look(
        &mut self,
        now: u64,
        quiet: Duration,
        strict: bool,
        namespace: &Named,
        ledger: &Ledger,
        (world, mesh): (&World, &MeshFacts),
    ) -> Look {
        let quiet = quiet.as_secs();
        let view = self.view(now, quiet, strict, namespace, ledger, (world, mesh));
        let decision = decide(&view, self.watched);
        self.watched = Some(decision.watched);
        let progress = self.progress(&view, &decision);
        let moved = self
            .shown
            .as_ref()
            .is_none_or(|(_, shown)| shown.reason != progress.reason);
        let since = self.shown.as_ref().map_or(u64::MAX, |(at, _)| now.saturating_sub(*at));
        let differs = self.shown.as_ref().is_none_or(|(_, shown)| {
            let same = |progress: &Progress| Progress {
                watched: None,
                ..progress.clone()
            };
            same(shown) != same(&progress)
        });
        let checkpoint = progress.watched.is_some() && since >= CHECKPOINT;
        let due = (moved && since >= SHOWN_EVERY / 3) || (differs && since >= SHOWN_EVERY) || checkpoint;
        let mut news = Vec::new();
        if due {
            if decision.state == State::Callers {
                for (key, last) in &self.callers {
                    if self.told.insert(key.clone(), *last).is_none() {
                        news.push(format!("{} -> {}:{}", key.0, key.1, key.2));
                    }
                }
            }
            self.shown = Some((now, progress.clone()));
        }
        Look {
            decision,
            progress: due.then_some(progress),
            news,
        }
    }

    fn view(
        &mut self,
        now: u64,
        quiet: u64,
        strict: bool,
        namespace: &Named,
        ledger: &Ledger,
        (world, mesh): (&World, &MeshFacts),
    ) -> View {
        let (namespace, policy) = (&*namespace.0, &*namespace.1);
        let root = &*mesh.root_namespace;
        let reporters: HashMap<Arc<str>, _> = ledger
            .reporters(namespace)
            .into_iter()
            .map(|(pod, reporter)| (pod.1, reporter))
            .collect();
        let (mut sidecars, mut disabled, mut of_workload) = (Vec::new(), None, HashMap::new());
        for (name, pod) in world.sidecars(namespace) {
            of_workload.insert(&*pod.workload, &pod.labels);
            let reporter = reporters.get(&name.1);
            // Its pod may outlive it for a while.
            if reporter.is_some_and(|reporter| reporter.ended && reporter.told_until + ENDING > now) {
                continue;
            }
            sidecars.push(Sidecar {
                name: name.1.clone(),
                told_until: reporter.map(|reporter| reporter.told_until),
                since: self.present.get(&name.1).copied().unwrap_or(now),
            });
            let is = world.effective(root, namespace, &pod.labels);
            let would_be = world.under_strict(root, namespace, &pod.labels);
            let ports = is.ports.keys().chain(would_be.ports.keys()).copied();
            let blind = |port: u16| is.on_port(port) == PortMode::Disable && would_be.on_port(port) == PortMode::Strict;
            // Port 0 is none: it stands for those without a mode of their own.
            if let Some(port) = ports.chain([0]).find(|port| blind(*port)) {
                disabled.get_or_insert_with(|| match port {
                    0 => pod.workload.to_string(),
                    port => format!("{}:{port}", pod.workload),
                });
            }
        }
        sidecars.sort_by(|a, b| a.name.cmp(&b.name));
        let refused =
            |labels: &Labels, port: u16| world.under_strict(root, namespace, labels).on_port(port) == PortMode::Strict;

        let mut last_plaintext = 0;
        for (pod, reporter) in &reporters {
            self.unknown_until = self.unknown_until.max(reporter.unknown_until);
            let last = reporter
                .plaintext
                .iter()
                .filter(|(port, _)| refused(&reporter.labels, *port));
            last_plaintext = last.map(|(_, last)| *last).max().unwrap_or(0).max(last_plaintext);
            if reporter.ended {
                self.present.remove(pod);
            }
        }
        // What ran when last looked at, does not any more, and was silent before: nobody knows what it saw.
        let running: HashMap<Arc<str>, u64> = sidecars
            .iter()
            .filter(|sidecar| reporters.get(&sidecar.name).is_none_or(|reporter| !reporter.ended))
            .map(|sidecar| (sidecar.name.clone(), sidecar.since))
            .collect();
        for (gone, since) in self.present.iter().filter(|(name, _)| !running.contains_key(*name)) {
            let told = reporters.get(gone).map_or(0, |reporter| reporter.told_until);
            if told.max(*since) + SILENCE < now {
                self.unknown_until = now;
            }
        }
        self.present = running;

        let rows = ledger.plaintext(now, namespace);
        self.called(now, quiet, &rows, refused, &of_workload);

        let own = world
            .of_whole_namespace(namespace)
            .filter(|other| other.name != policy)
            .map(mesh_core::peer_authentication::Policy::key);
        View {
            now,
            quiet,
            sidecars,
            last_plaintext,
            called: !self.callers.is_empty(),
            unknown_until: self.unknown_until,
            own: own.min(),
            disabled,
            strict,
        }
    }

    /// Takes note of who called what STRICT would refuse, and forgets who did before the quiet period or may do so.
    fn called(
        &mut self,
        now: u64,
        quiet: u64,
        rows: &[Row],
        refused: impl Fn(&Labels, u16) -> bool,
        of_workload: &HashMap<&str, &Labels>,
    ) {
        for row in rows.iter().filter(|row| refused(&row.labels, row.port)) {
            let key = (row.source.to_string(), row.destination.1.to_string(), row.port);
            let last = self.callers.entry(key).or_default();
            *last = (*last).max(row.last);
        }
        self.callers.retain(|(_, workload, port), last| {
            let counts = of_workload.get(workload.as_str());
            let counts = counts.is_none_or(|labels| refused(labels, *port));
            counts && last.saturating_add(quiet) > now
        });
        while self.callers.len() > MOST_CALLERS {
            let oldest = self.callers.iter().min_by_key(|(_, last)| **last);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.callers.remove(&oldest);
        }
        let callers = &self.callers;
        self.told.retain(|key, _| callers.contains_key(key));
    }

    fn progress(&self, view: &View, decision: &Decision) -> Progress {
        let strict = matches!(decision.state, State::Strict | State::Ready);
        let mut callers: Vec<(&CallerKey, &u64)> = self.callers.iter().collect();
        callers.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let more = callers.len().saturating_sub(NAMED);
        let named = callers.into_iter().take(if strict { 0 } else { NAMED });
        let named: Vec<_> = named
            .map(|((caller, workload, port), last)| PlaintextCaller {
                caller: caller.clone(),
                workload: workload.clone(),
                port: *port,
                last_seen: time(*last),
            })
            .collect();
        let quiet = told_as(view.quiet);
        // The moment, and not how long it takes from now: a text that changes all the time is written all the time.
        let by = time(decision.watched.quiet_since.saturating_add(view.quiet)).0;
        let (reason, message) = match &decision.state {
            State::Strict | State::Ready => (
                "QuietPeriodOver",
                format!("nobody had called in the clear for {quiet}: mutual TLS is required"),
            ),
            State::Conflict(own) => (
                "Conflict",
                format!(
                    "PeerAuthentication {own} governs the namespace, and nothing is changed beside it: remove it, or the \
                     namespace's label"
                ),
            ),
            State::PlaintextOnly(port) => (
                "PlaintextOnly",
                format!("{port} is under DISABLE, so that everybody calls it in the clear: make it PERMISSIVE first"),
            ),
            State::NoWorkloads => (
                "NoWorkloads",
                "no pod of the namespace has a sidecar that could tell who calls".to_owned(),
            ),
            State::NotReporting(silent) => {
                let names: Vec<&str> = silent.iter().take(NAMED_SIDECARS).map(|name| &**name).collect();
                let more = match silent.len().saturating_sub(NAMED_SIDECARS) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let names = names.join(", ");
                (
                    "NotReporting",
                    format!(
                        "the sidecars of {names}{more} do not report: they are older than the operator, or not connected"
                    ),
                )
            }
            State::Callers => {
                let more = if more == 0 {
                    String::new()
                } else {
                    format!(", and {more} more")
                };
                (
                    "PlaintextCallers",
                    format!(
                        "called in the clear within {quiet}, see status.plaintextCallers{more}; STRICT at {by} at the earliest"
                    ),
                )
            }
            State::Quiet if decision.unobserved => (
                "Quiet",
                format!(
                    "no operator watched for a while, so the time of {quiet} began anew; STRICT at {by} at the earliest"
                ),
            ),
            State::Quiet => (
                "Quiet",
                format!("nobody is known to call in the clear; STRICT at {by}, if nobody does within {quiet}"),
            ),
        };
        Progress {
            holds: strict,
            reason,
            message,
            callers: named,
            watched: (!strict).then_some(decision.watched),
        }
    }
}

/// Seconds as a text such as 24h, 90m or 45s.
fn told_as(seconds: u64) -> String {
    match seconds {
        hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}
