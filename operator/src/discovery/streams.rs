//! What this replica knows of the streams that it serves: who is connected, what each was sent, and what it made of it. Written
//! by the streams themselves, read by the debug pages.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mesh_core::identity::SpiffeId;
use mesh_wire::admin::{ProxyStatus, Refused, Rejection, page};
use mesh_wire::delta::Verdict;

use crate::index::changes::Named;

/// How many rejections are kept.
const KEPT: usize = 256;

/// Bytes of a reason that are kept: it is a peer's.
const REASON_BYTES: usize = 1024;

/// Bytes that a stream takes on a page, about.
const STREAM_BYTES: usize = 1024;

/// The open streams of a replica. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    open: Mutex<BTreeMap<Key, Arc<Mutex<ProxyStatus>>>>,
    rejections: Mutex<VecDeque<Rejection>>,
}

/// The proxy's name, and a number since it may be connected twice for a moment.
type Key = (String, u64);

/// One open stream, for as long as it is held.
#[derive(Debug)]
pub struct Tracked {
    streams: Streams,
    key: Key,
    status: Arc<Mutex<ProxyStatus>>,
}

impl Streams {
    /// Takes note of a stream that begins.
    #[must_use]
    pub fn open(&self, pod: &Named, identity: &SpiffeId, address: SocketAddr, version: &str) -> Tracked {
        let name = format!("{}.{}", pod.1, pod.0);
        let key = (name.clone(), self.shared.next.fetch_add(1, Ordering::Relaxed));
        let status = Arc::new(Mutex::new(ProxyStatus {
            name,
            identity: identity.to_string(),
            version: version.to_owned(),
            address: address.to_string(),
            connected_since: now(),
            types: BTreeMap::new(),
        }));
        held(&self.shared.open).insert(key.clone(), status.clone());
        Tracked {
            streams: self.clone(),
            key,
            status,
        }
    }

    /// Takes note of something refused; `proxy` is its name, or who claimed to be one.
    pub fn rejected(&self, proxy: String, kind: &str, reason: &str) {
        let mut rejections = held(&self.shared.rejections);
        if rejections.len() == KEPT {
            rejections.pop_front();
        }
        rejections.push_back(Rejection {
            at: now(),
            proxy,
            kind: kind.to_owned(),
            reason: cut(reason),
        });
    }

    /// The last rejections, oldest first.
    #[must_use]
    pub fn rejections(&self) -> Vec<Rejection> {
        held(&self.shared.rejections).iter().cloned().collect()
    }

    /// How many streams are open; those that follow `after`, at most `limit`; and the name of the last one if more follow.
    /// Streams of one proxy stay together.
    #[must_use]
    pub fn page(&self, after: Option<&str>, limit: usize) -> (usize, Vec<ProxyStatus>, Option<String>) {
        let open: Vec<(String, Vec<Arc<Mutex<ProxyStatus>>>)> = {
            let open = held(&self.shared.open);
            let mut by_name: Vec<(String, Vec<_>)> = Vec::new();
            for ((name, _), status) in open.iter() {
                match by_name.last_mut().filter(|(last, _)| last == name) {
                    Some((_, statuses)) => statuses.push(status.clone()),
                    None => by_name.push((name.clone(), vec![status.clone()])),
                }
            }
            by_name
        };
        let total = open.iter().map(|(_, statuses)| statuses.len()).sum();
        let size = |entry: &(String, Vec<_>)| entry.1.len() * STREAM_BYTES;
        let (entries, next) = page(open, |entry| &entry.0, size, after, limit);
        let statuses = entries.iter().flat_map(|(_, statuses)| statuses);
        (total, statuses.map(|status| held(status).clone()).collect(), next)
    }
}

impl Tracked {
    /// A request came: how many names the proxy is subscribed to, whether it came with versions, its verdict.
    pub fn requested(&self, kind: &str, subscribed: usize, holds: bool, verdict: Option<&Verdict>) {
        let mut status = held(&self.status);
        let of = status.types.entry(kind.to_owned()).or_default();
        of.subscribed = subscribed;
        of.held |= holds;
        match verdict {
            Some(Verdict::Accepted) => {
                of.acknowledged = of.sent;
                of.acknowledged_at = Some(now());
            }
            Some(Verdict::Refused(reason)) => {
                of.refused = Some(Refused {
                    response: of.sent,
                    reason: cut(reason),
                });
                drop(status);
                self.streams.rejected(self.key.0.clone(), kind, reason);
            }
            None => {}
        }
    }

    /// A response goes out; `version` is that of a resource of which there is one.
    pub fn sent(&self, kind: &str, version: Option<&str>) {
        let mut status = held(&self.status);
        let of = status.types.entry(kind.to_owned()).or_default();
        of.sent += 1;
        of.sent_at = Some(now());
        if let Some(version) = version {
            version.clone_into(&mut of.version);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        held(&self.streams.shared.open).remove(&self.key);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cut(reason: &str) -> String {
    let end = (0..=reason.len().min(REASON_BYTES)).rev();
    let end = end.into_iter().find(|at| reason.is_char_boundary(*at));
    reason[..end.unwrap_or(0)].to_owned()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::resolve::named;
    use mesh_wire::admin::Sync;

    fn open(streams: &Streams, pod: &str) -> Tracked {
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        streams.open(
            &named("shop", pod),
            &identity,
            "10.0.0.1:4000".parse().unwrap(),
            "0.1.0",
        )
    }

    #[test]
    fn a_stream_is_shown_for_as_long_as_it_lives() {
        let streams = Streams::default();
        let first = open(&streams, "web-1");
        let again = open(&streams, "web-1");
        let other = open(&streams, "web-2");
        let (total, shown, next) = streams.page(None, 1);
        assert_eq!((total, shown.len(), next.as_deref()), (3, 2, Some("web-1.shop")));
        let (_, shown, next) = streams.page(next.as_deref(), 1);
        assert_eq!((shown[0].name.as_str(), next), ("web-2.shop", None));
        drop((first, again));
        assert_eq!(streams.page(None, 10).0, 1);
        drop(other);
        assert_eq!(streams.page(None, 10).0, 0);
    }

    #[test]
    fn verdicts_are_remembered() {
        let streams = Streams::default();
        let stream = open(&streams, "web-1");
        let state = || {
            let (_, shown, _) = streams.page(None, 10);
            shown[0].types["Workload"].sync()
        };
        stream.requested("Workload", 1, false, None);
        assert_eq!(state(), Sync::NotSent);
        stream.sent("Workload", Some("7"));
        assert_eq!(state(), Sync::Stale);
        stream.requested("Workload", 1, false, Some(&Verdict::Accepted));
        assert_eq!(state(), Sync::Synced);
        stream.sent("Workload", Some("8"));
        let reason = "ä".repeat(REASON_BYTES);
        stream.requested("Workload", 1, false, Some(&Verdict::Refused(reason)));
        assert_eq!(state(), Sync::Rejected);
        let rejections = streams.rejections();
        assert_eq!((rejections.len(), rejections[0].proxy.as_str()), (1, "web-1.shop"));
        assert!(rejections[0].reason.len() <= REASON_BYTES && rejections[0].reason.len() > REASON_BYTES - 4);
        for _ in 0..2 * KEPT {
            streams.rejected("x".into(), "stream", "no");
        }
        assert_eq!(streams.rejections().len(), KEPT);
    }
}
