//! What candidate sets would have denied: counted by set, policy, source and port, logged at a bounded rate, and the last of it
//! kept for whoever asks.

use crate::denials::PerSecond;
use crate::discovery::Why;
use mesh_core::authorization::RuleRef;
use mesh_core::authorization::facts::Facts;
use mesh_core::candidates::Member;
use mesh_wire::admin::{Denial, TriedCall};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

/// How many records are kept.
const KEPT: usize = 64;

/// How many are recorded and logged in one second.
const RECORDED_PER_SECOND: u64 = 10;

/// The most series; what finds no room counts together, under `other`.
const MOST_SERIES: usize = 1_000;

/// What a caller in the clear is called, as in Istio's metrics.
const UNKNOWN: &str = "unknown";
const OTHER: &str = "other";

/// The labels of a series: set, policy, principal and port.
type Labels = (Box<str>, Box<str>, Box<str>, u16);

struct Shared {
    kept: Mutex<VecDeque<Arc<TriedCall>>>,
    total: AtomicU64,
    recorded: PerSecond,
    series: RwLock<HashMap<Labels, IntCounter>>,
    counted: IntCounterVec,
}

/// What candidate sets would have denied; cheap to clone.
#[derive(Clone)]
pub struct Tried(Arc<Shared>);

impl Tried {
    /// Nothing yet.
    ///
    /// # Errors
    /// That of the registry, for a name that is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counted = IntCounterVec::new(
            Opts::new(
                "pinnace_proxy_candidate_denials_total",
                "Calls that passed and that a candidate set would have denied.",
            ),
            &["set", "policy", "source_principal", "destination_port"],
        )?;
        registry.register(Box::new(counted.clone()))?;
        Ok(Self(Arc::new(Shared {
            kept: Mutex::default(),
            total: AtomicU64::new(0),
            recorded: PerSecond::default(),
            series: RwLock::default(),
            counted,
        })))
    }

    /// Takes note of a call that a set would have denied; `record` tells of it.
    pub fn note(&self, set: &str, why: Why<'_>, blamed: &[Member], facts: &Facts<'_>, record: impl FnOnce() -> Denial) {
        self.0.total.fetch_add(1, Ordering::Relaxed);
        let principal = facts.identity.map_or_else(|| UNKNOWN.to_owned(), ToString::to_string);
        for member in blamed {
            self.count(set, &member.to_string(), &principal, facts.destination.port());
        }
        if !self.0.recorded.take(RECORDED_PER_SECOND) {
            return;
        }
        let (action, rule) = match why {
            Why::Plaintext => ("STRICT", None),
            Why::Token => ("JWT", None),
            Why::Rule(rule) => ("DENY", Some(rule)),
            Why::NoRule => ("ALLOW", None),
        };
        let mut call = record();
        call.at = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        action.clone_into(&mut call.action);
        call.policy = rule.map(RuleRef::policy);
        call.rule = rule.map(|rule| rule.rule);
        let candidates: Vec<String> = blamed.iter().map(ToString::to_string).collect();
        tracing::info!(
            set,
            candidates = candidates.join(", "),
            detail = call.detail,
            identity = call.identity.as_deref().unwrap_or_default(),
            source = call.source,
            destination = call.destination,
            "would be denied by a candidate set"
        );
        let tried = Arc::new(TriedCall {
            set: set.to_owned(),
            candidates,
            call,
        });
        // Whoever serves a call does not wait for one who reads.
        if let Ok(mut kept) = self.0.kept.try_lock() {
            let oldest = if kept.len() == KEPT { kept.pop_front() } else { None };
            kept.push_back(tried);
            drop(kept);
            drop(oldest);
        }
    }

    fn count(&self, set: &str, policy: &str, principal: &str, port: u16) {
        let labels = |principal: &str| -> Labels { (set.into(), policy.into(), principal.into(), port) };
        let wanted = labels(principal);
        let known = self
            .0
            .series
            .try_read()
            .ok()
            .and_then(|held| held.get(&wanted).cloned());
        if let Some(counter) = known {
            return counter.inc();
        }
        let counter = |principal: &str, port: &str| self.0.counted.with_label_values(&[set, policy, principal, port]);
        let mut held = self.0.series.write().unwrap_or_else(PoisonError::into_inner);
        if held.len() < MOST_SERIES || held.contains_key(&wanted) {
            let make = || counter(principal, &port.to_string());
            held.entry(wanted).or_insert_with(make).inc();
        } else {
            drop(held);
            self.0.counted.with_label_values(&[OTHER, OTHER, OTHER, OTHER]).inc();
        }
    }

    /// The last records, oldest first, and how many calls there were in all.
    #[must_use]
    pub fn last(&self) -> (Vec<TriedCall>, u64) {
        let kept: Vec<Arc<TriedCall>> = {
            let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter().cloned().collect()
        };
        let kept = kept.iter().map(|tried| TriedCall::clone(tried)).collect();
        (kept, self.0.total.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::identity::SpiffeId;

    fn facts(identity: Option<&SpiffeId>) -> Facts<'_> {
        Facts {
            identity,
            source: [10, 0, 0, 1].into(),
            remote: [10, 0, 0, 1].into(),
            destination: ([10, 0, 0, 2], 80).into(),
            server_name: None,
            http: None,
        }
    }

    fn page(registry: &Registry) -> String {
        let families = registry.gather();
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap()
    }

    #[test]
    fn calls_are_counted_by_set_policy_source_and_port_and_the_last_are_kept() {
        let registry = Registry::new();
        let tried = Tried::new(&registry).unwrap();
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let strict: Member = "PeerAuthentication/shop/strict".parse().unwrap();
        let deny: Member = "AuthorizationPolicy/shop/deny".parse().unwrap();
        let rule = RuleRef {
            namespace: "shop".into(),
            name: "deny".into(),
            rule: 2,
        };
        for _ in 0..3 {
            tried.note(
                "go",
                Why::Plaintext,
                std::slice::from_ref(&strict),
                &facts(None),
                Denial::default,
            );
        }
        tried.note(
            "go",
            Why::Rule(&rule),
            &[deny],
            &facts(Some(&identity)),
            Denial::default,
        );
        let page = page(&registry);
        for line in [
            r#"{destination_port="80",policy="PeerAuthentication/shop/strict",set="go",source_principal="unknown"} 3"#,
            r#"{destination_port="80",policy="AuthorizationPolicy/shop/deny",set="go",source_principal="spiffe://cluster.local/ns/shop/sa/web"} 1"#,
        ] {
            assert!(
                page.contains(&format!("pinnace_proxy_candidate_denials_total{line}\n")),
                "{page}"
            );
        }
        let (kept, total) = tried.last();
        assert_eq!(total, 4);
        assert_eq!((kept[0].call.action.as_str(), kept[0].set.as_str()), ("STRICT", "go"));
        assert_eq!(kept[0].candidates, ["PeerAuthentication/shop/strict"]);
        let last = &kept.last().unwrap().call;
        assert_eq!(
            (last.action.as_str(), last.policy.as_deref(), last.rule),
            ("DENY", Some("shop/deny"), Some(2))
        );
    }

    #[test]
    fn series_and_records_are_bounded() {
        let registry = Registry::new();
        let tried = Tried::new(&registry).unwrap();
        let blamed: Vec<Member> = (0..MOST_SERIES + 5)
            .map(|at| format!("RequestAuthentication/shop/{at}").parse().unwrap())
            .collect();
        tried.note("go", Why::Token, &blamed, &facts(None), Denial::default);
        let other = r#"{destination_port="other",policy="other",set="other",source_principal="other"} 5"#;
        assert!(page(&registry).contains(other));
        for _ in 0..2 * KEPT {
            tried.note("go", Why::Token, &blamed[..1], &facts(None), Denial::default);
        }
        let (kept, total) = tried.last();
        assert!(kept.len() <= KEPT);
        assert_eq!(total, 1 + 2 * KEPT as u64);
    }
}
