//! What a question is answered with: by the mesh, from the cache, or by a resolver.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hickory_resolver::proto::rr::Name;
use mesh_core::destination::Destination;
use rand::seq::SliceRandom as _;

use super::cache::Cache;
use super::message::{Question, Unusable};
use super::server::Counters;
use super::upstream::{Failure, Upstream};
use crate::cluster::Cluster;
use crate::discovery::{Answer, Mesh};

/// All that answers.
#[derive(Debug)]
pub(super) struct Answers {
    mesh: Mesh,
    /// What the pod's resolvers' clients put behind a name first, with a dot before it.
    first_search: Option<String>,
    cache: Mutex<Cache>,
    upstream: Upstream,
    counters: Counters,
}

impl Answers {
    pub(super) fn new(mesh: Mesh, search: &[String], upstream: Upstream, counters: Counters) -> Self {
        Self {
            mesh,
            first_search: search.first().map(|domain| format!(".{domain}")),
            cache: Mutex::default(),
            upstream,
            counters,
        }
    }

    /// The answer to a message, of whatever length; with the question, for who must cut it. `datagram_from` is the port that
    /// it came from by UDP. `None` for what is not answered.
    pub(super) async fn to(&self, bytes: &[u8], datagram_from: Option<u16>) -> Option<(Option<Question>, Vec<u8>)> {
        let counted = |outcome| self.counters.queries.with_label_values(&[outcome]).inc();
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(unusable) => {
                counted("malformed");
                return match unusable {
                    Unusable::Answer(answer) => Some((None, answer)),
                    Unusable::Nothing => None,
                };
            }
        };
        if datagram_from.is_some_and(|port| self.upstream.is_own(port)) {
            counted("looped");
            tracing::warn!("a question of this proxy came back to it: its redirect rules are of another user");
            return None;
        }
        let (outcome, answer) = self.answer(&question).await;
        counted(outcome);
        Some((Some(question), answer))
    }

    async fn answer(&self, question: &Question) -> (&'static str, Vec<u8>) {
        if let Some(answer) = self.of_mesh(question).await {
            return ("mesh", answer);
        }
        let key = question.key();
        if let Some(answer) = self.cache().get(&key, Instant::now()) {
            return ("cached", question.adopt(answer));
        }
        match self.upstream.ask(question).await {
            Ok(answer) => {
                self.cache().insert(key, &answer, Instant::now());
                ("forwarded", question.adopt(answer))
            }
            Err(failure) => {
                tracing::debug!(%failure, "a question is not answered");
                let outcome = if matches!(failure, Failure::Full) {
                    "refused"
                } else {
                    "failed"
                };
                (outcome, question.failed())
            }
        }
    }

    /// The mesh's answer, where the name is one of its own. The name with what a resolver's client puts behind it first is
    /// answered with the name itself, as in Istio: it is what the client would ask for a few questions later.
    async fn of_mesh(&self, question: &Question) -> Option<Vec<u8>> {
        let (name, _) = question.addresses_of()?;
        let text = name.to_lowercase().to_ascii();
        let text = text.strip_suffix('.').unwrap_or(&text);
        let short = self
            .first_search
            .as_deref()
            .and_then(|search| text.strip_suffix(search));
        // One label is a name of the pod's own namespace, as which the whole name was asked for already.
        let short = short.filter(|short| short.contains('.'));
        let of_short = async {
            match short {
                Some(short) => self.known(short).await,
                None => None,
            }
        };
        let (exact, of_short) = tokio::join!(self.known(text), of_short);
        if let Some(found) = exact {
            return Some(addresses(question, None, &found));
        }
        let canonical = Name::from_ascii(format!("{}.", short?)).ok()?;
        let found = of_short?;
        Some(addresses(question, Some(canonical), &found))
    }

    async fn known(&self, name: &str) -> Option<Arc<Cluster>> {
        match self.mesh.name(name).await {
            Answer::Found(found) => Some(found),
            Answer::Absent | Answer::Unavailable => None,
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In another order each time: many clients take the first.
fn addresses(question: &Question, alias_of: Option<Name>, found: &Destination) -> Vec<u8> {
    let mut addresses: Vec<_> = found.endpoints.iter().map(|endpoint| endpoint.address.ip()).collect();
    addresses.shuffle(&mut rand::rng());
    question.addresses(alias_of, addresses.into_iter())
}
