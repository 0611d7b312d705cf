//! What AuthorizationPolicies and RequestAuthentications denied, audited or would have denied: counted by policy, logged at a
//! bounded rate, and the last denials kept for whoever asks.

use crate::reports::{Policy, Reports, Source};
use mesh_core::authorization::facts::Facts;
use mesh_core::authorization::{Nearest, Outcome, RuleRef};
use mesh_wire::admin::{self, Denial, NearestRule};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

/// How many records are kept.
const KEPT: usize = 256;

/// The most characters of a text in a record.
pub const MOST_CHARACTERS: usize = 256;

/// How many denials and audits are logged in one second.
const LOGGED_PER_SECOND: u64 = 10;

/// For how many denials in one second the nearest rule is looked for: that takes longer than to decide.
const EXPLAINED_PER_SECOND: u64 = 100;

/// The most policies that are counted by their names; further ones are `other`.
const MOST_POLICIES: usize = 1_000;

/// What a policy did, as it is counted: the labels `action` and `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// No ALLOW rule matched.
    AllowMiss,
    /// A DENY rule matched.
    Deny,
    /// A CUSTOM rule matched, and its provider says no or cannot be asked.
    Custom,
    /// A token was refused.
    Token,
    /// An AUDIT rule matched.
    Audit,
    /// No ALLOW rule would match if the dry-run policies were in force.
    WouldMiss,
    /// A dry-run DENY rule matched.
    WouldDeny,
}

impl Deed {
    const COUNT: usize = 7;

    /// The label `action`.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::AllowMiss | Self::WouldMiss => "ALLOW",
            Self::Deny | Self::WouldDeny => "DENY",
            Self::Custom => "CUSTOM",
            Self::Token => "JWT",
            Self::Audit => "AUDIT",
        }
    }

    fn result(self) -> &'static str {
        match self {
            Self::AllowMiss | Self::Deny | Self::Custom | Self::Token => "denied",
            Self::Audit => "audited",
            Self::WouldMiss | Self::WouldDeny => "would_deny",
        }
    }
}

/// Counters of one policy, made as they are needed.
type Counters = [Option<IntCounter>; Deed::COUNT];

/// So many of something in the second that is.
#[derive(Debug, Default)]
pub(crate) struct PerSecond(AtomicU64);

impl PerSecond {
    /// Whether one more of so many has room.
    pub(crate) fn take(&self, most: u64) -> bool {
        let second = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            let n = if held >> 16 == second { held & 0xffff } else { 0 };
            (n < most).then_some(second << 16 | (n + 1))
        });
        taken.is_ok()
    }
}

struct Shared {
    ring: Mutex<VecDeque<Arc<Denial>>>,
    total: AtomicU64,
    next: AtomicU64,
    explained: PerSecond,
    logged: PerSecond,
    by_policy: RwLock<HashMap<Box<str>, Counters>>,
    counted: IntCounterVec,
    unrecorded: IntCounter,
    dry_run: [IntCounter; 3],
    reports: Reports,
}

/// The denials of the proxy; cheap to clone.
#[derive(Clone)]
pub struct Denials(Arc<Shared>);

impl Denials {
    /// None yet; what comes is told in `reports` too.
    ///
    /// # Errors
    /// That of the registry, for a name that is taken.
    pub fn new(registry: &Registry, reports: Reports) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counted = IntCounterVec::new(
            Opts::new(
                "pinnace_proxy_authorization_total",
                "Calls that a policy denied, audited or would have denied.",
            ),
            &["action", "policy", "result"],
        )?;
        registry.register(Box::new(counted.clone()))?;
        Ok(Self(Arc::new(Shared {
            ring: Mutex::default(),
            total: AtomicU64::new(0),
            // Ids of an earlier process are not met again.
            next: AtomicU64::new(rand::random()),
            explained: PerSecond::default(),
            logged: PerSecond::default(),
            by_policy: RwLock::default(),
            counted,
            unrecorded: counter(
                "pinnace_proxy_denials_unrecorded_total",
                "Denials of which no record could be kept because the records were being read.",
            )?,
            dry_run: [
                counter(
                    "istio_dry_run_allow_shadow_allowed",
                    "Calls that would pass if the dry-run policies were in force.",
                )?,
                counter(
                    "istio_dry_run_allow_shadow_denied",
                    "Calls that no ALLOW rule would match if the dry-run policies were in force.",
                )?,
                counter(
                    "istio_dry_run_deny_shadow_denied",
                    "Calls that a DENY rule would deny if the dry-run policies were in force.",
                )?,
            ],
            reports,
        })))
    }

    /// Whether there is time to look for the rule that came nearest.
    #[must_use]
    pub fn may_explain(&self) -> bool {
        self.0.explained.take(EXPLAINED_PER_SECOND)
    }

    /// Takes note of the denial of a call; the id of its record.
    pub fn note(
        &self,
        deed: Deed,
        rule: Option<&RuleRef>,
        nearest: Option<&Nearest<'_>>,
        facts: &Facts<'_>,
        mut denial: Denial,
    ) -> String {
        self.0.total.fetch_add(1, Ordering::Relaxed);
        self.count(deed, rule);
        let id = format!("{:016x}", self.0.next.fetch_add(1, Ordering::Relaxed));
        denial.id.clone_from(&id);
        denial.at = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        deed.action().clone_into(&mut denial.action);
        denial.policy = rule.map(RuleRef::policy);
        denial.rule = rule.map(|rule| rule.rule);
        denial.nearest = nearest.map(|nearest| NearestRule {
            policy: nearest.rule.policy(),
            rule: nearest.rule.rule,
            field: nearest.field.clone(),
            expected: nearest.expected.iter().map(|value| cut(value)).collect(),
            seen: nearest.seen.as_deref().map(cut),
        });
        if self.0.logged.take(LOGGED_PER_SECOND) {
            let request = denial.request.as_ref();
            tracing::info!(
                id,
                detail = denial.detail,
                identity = denial.identity.as_deref().unwrap_or_default(),
                source = denial.source,
                destination = denial.destination,
                method = request.map(|request| request.method.as_str()).unwrap_or_default(),
                path = request.map(|request| request.path.as_str()).unwrap_or_default(),
                nearest = nearest.map(ToString::to_string).unwrap_or_default(),
                problem = denial.problem.as_deref().unwrap_or_default(),
                "denied by policy"
            );
        }
        let denial = Arc::new(denial);
        let policy = match deed {
            Deed::Token => Policy::TOKENS,
            _ => Policy::authorization(rule),
        };
        let port = facts.destination.port();
        self.0.reports.denied(policy, facts.into(), port, denial.clone());
        // Whoever serves a call does not wait for one who reads.
        let oldest = match self.0.ring.try_lock() {
            Ok(mut ring) => {
                let oldest = if ring.len() == KEPT { ring.pop_front() } else { None };
                ring.push_back(denial);
                oldest
            }
            Err(_) => {
                self.0.unrecorded.inc();
                None
            }
        };
        drop(oldest);
        id
    }

    /// Counts what an AUDIT rule matched; `what` tells of the call.
    pub fn audited(&self, rule: &RuleRef, what: impl FnOnce() -> String) {
        self.count(Deed::Audit, Some(rule));
        if self.0.logged.take(LOGGED_PER_SECOND) {
            tracing::info!(%rule, call = what(), "audited by policy");
        }
    }

    /// Counts what the dry-run policies would have done to a call; `what` tells of it.
    pub fn shadowed(&self, outcome: Outcome<'_>, facts: &Facts<'_>, what: impl FnOnce() -> String) {
        let [allowed, missed, denied] = &self.0.dry_run;
        let (deed, counter, rule) = match outcome {
            Outcome::Allowed { .. } => return allowed.inc(),
            Outcome::Denied { by: None } => (Deed::WouldMiss, missed, None),
            Outcome::Denied { by: Some(rule) } => (Deed::WouldDeny, denied, Some(rule)),
        };
        counter.inc();
        self.count(deed, rule);
        let source = Source::from(facts);
        let port = facts.destination.port();
        self.0.reports.would_deny("", Policy::authorization(rule), source, port);
        if self.0.logged.take(LOGGED_PER_SECOND) {
            let rule = rule.map(ToString::to_string).unwrap_or_default();
            tracing::info!(rule, call = what(), "would be denied by the dry-run policies");
        }
    }

    fn count(&self, deed: Deed, rule: Option<&RuleRef>) {
        let policy = rule.map_or_else(|| "none".to_owned(), RuleRef::policy);
        let known = self.0.by_policy.try_read().ok().and_then(|held| {
            let counters = held.get(policy.as_str())?;
            counters[deed as usize].clone()
        });
        if let Some(counter) = known {
            return counter.inc();
        }
        let mut held = self.0.by_policy.write().unwrap_or_else(PoisonError::into_inner);
        let policy = if held.len() < MOST_POLICIES || held.contains_key(policy.as_str()) {
            policy
        } else {
            "other".to_owned()
        };
        let make = || {
            self.0
                .counted
                .with_label_values(&[deed.action(), &policy, deed.result()])
        };
        let counters = held.entry(policy.as_str().into()).or_default();
        counters[deed as usize].get_or_insert_with(make).inc();
    }

    /// The last denials, oldest first.
    #[must_use]
    pub fn last(&self) -> admin::Denials {
        let kept: Vec<Arc<Denial>> = {
            let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.iter().cloned().collect()
        };
        admin::Denials {
            denials: kept.iter().map(|denial| Denial::clone(denial)).collect(),
            total: self.0.total.load(Ordering::Relaxed),
            ..admin::Denials::default()
        }
    }
}

/// A text of the network, of bounded length.
#[must_use]
pub fn cut(text: &str) -> String {
    text.chars().take(MOST_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> RuleRef {
        RuleRef {
            namespace: "shop".into(),
            name: name.into(),
            rule: 1,
        }
    }

    fn denials() -> (Denials, Registry) {
        let registry = Registry::new();
        (Denials::new(&registry, Reports::default()).unwrap(), registry)
    }

    fn facts() -> Facts<'static> {
        Facts {
            identity: None,
            source: [10, 0, 0, 1].into(),
            remote: [10, 0, 0, 1].into(),
            destination: ([10, 0, 0, 2], 80).into(),
            server_name: None,
            http: None,
        }
    }

    fn metric(registry: &Registry, labels: &str) -> Option<String> {
        let page = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let start = format!("pinnace_proxy_authorization_total{{{labels}}} ");
        page.lines()
            .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    }

    #[test]
    fn the_last_records_are_kept_and_all_are_counted() {
        let (denials, registry) = denials();
        let (deny, allow) = (rule("deny"), rule("allow"));
        let nearest = Nearest {
            rule: &allow,
            field: "from[0].source.principals".into(),
            expected: vec!["a".into()],
            seen: Some("x".repeat(1000)),
        };
        let mut ids = Vec::new();
        for at in 0..KEPT + 10 {
            let (deed, by, nearest) = match at % 2 {
                0 => (Deed::Deny, Some(&deny), None),
                _ => (Deed::AllowMiss, None, Some(&nearest)),
            };
            ids.push(denials.note(deed, by, nearest, &facts(), Denial::default()));
        }
        let shown = denials.last();
        assert_eq!((shown.denials.len(), shown.total), (KEPT, (KEPT + 10) as u64));
        let kept: Vec<_> = shown.denials.iter().map(|denial| denial.id.clone()).collect();
        assert_eq!(kept, ids[10..]);
        assert_eq!(shown.denials[0].policy.as_deref(), Some("shop/deny"));
        assert_eq!(
            (shown.denials[0].action.as_str(), shown.denials[0].rule),
            ("DENY", Some(1))
        );
        let nearest = shown.denials[1].nearest.as_ref().unwrap();
        assert_eq!(nearest.policy, "shop/allow");
        assert_eq!(nearest.seen.as_ref().unwrap().len(), MOST_CHARACTERS);
        for labels in [
            "action=\"DENY\",policy=\"shop/deny\",result=\"denied\"",
            "action=\"ALLOW\",policy=\"none\",result=\"denied\"",
        ] {
            assert_eq!(metric(&registry, labels).as_deref(), Some("133"), "{labels}");
        }
    }

    #[test]
    fn policies_beyond_a_bound_are_counted_together() {
        let (denials, registry) = denials();
        for at in 0..MOST_POLICIES + 5 {
            denials.audited(&rule(&at.to_string()), String::new);
        }
        let one = metric(&registry, "action=\"AUDIT\",policy=\"shop/7\",result=\"audited\"");
        let other = metric(&registry, "action=\"AUDIT\",policy=\"other\",result=\"audited\"");
        assert_eq!((one.as_deref(), other.as_deref()), (Some("1"), Some("5")));
    }

    #[test]
    fn dry_runs_have_istios_names() {
        let (denials, registry) = denials();
        let deny = rule("deny");
        denials.shadowed(Outcome::Denied { by: Some(&deny) }, &facts(), String::new);
        denials.shadowed(Outcome::Denied { by: None }, &facts(), String::new);
        denials.shadowed(Outcome::Allowed { by: None }, &facts(), String::new);
        let page = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for name in ["allow_shadow_allowed", "allow_shadow_denied", "deny_shadow_denied"] {
            assert!(page.contains(&format!("\nistio_dry_run_{name} 1\n")), "{name}: {page}");
        }
    }

    #[test]
    fn a_second_has_room_for_so_many() {
        let second = PerSecond::default();
        let taken = (0..40).filter(|_| second.take(10)).count();
        // The clock may turn once meanwhile.
        assert!(taken == 10 || taken == 20, "{taken}");
    }
}
