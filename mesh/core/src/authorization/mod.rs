//! AuthorizationPolicy: who may call what, and which rule says so.
//!
//! A [`policy::Policy`] is a resource, parsed; [`Policies`] are those in force on a workload, compiled. They decide about
//! [`facts::Facts`], a connection or request, as Istio does: CUSTOM first ([`Policies::custom`]), then DENY, then ALLOW
//! ([`Policies::decide`]); AUDIT only tells. A DENY rule that matches refuses. Where there are ALLOW policies, one of their
//! rules must match. On a connection that is not HTTP, a field that only HTTP has counts as matched, but an ALLOW rule
//! with such a field never matches. Nobody is what an unproven caller is: no principal, namespace, service account or trust
//! domain matches it, and so every negation of these does.
//!
//! A value is looked up in an [`index`], and the few rules that are left are matched field by field ([`rule`]).

mod aliases;
mod decision;
pub mod facts;
mod index;
mod keys;
pub mod matches;
pub mod policy;
mod rule;
mod seen;
mod values;

#[cfg(test)]
mod tests;

pub use decision::{Custom, Decision, Nearest, Outcome, RuleRef};

use crate::identity::TrustDomain;
use aliases::Domains;
use facts::Facts;
use index::Table;
use policy::{Action, Policy};
use rule::Compiled;
use seen::Seen;

/// The policies in force on a workload.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    custom: Vec<(String, Table)>,
    deny: Table,
    /// None where there is no ALLOW policy; one without rules lets nothing pass.
    allow: Option<Table>,
    audit: Table,
    dry_deny: Table,
    dry_allow: Option<Table>,
    dry: bool,
    any: bool,
}

/// The rules of some policies; none where there are no such policies.
fn table<'a>(policies: impl Iterator<Item = &'a Policy>, domains: &Domains) -> Option<Table> {
    let mut policies = policies.peekable();
    policies.peek()?;
    let rules = policies.flat_map(|policy| {
        policy.rules.iter().enumerate().map(|(place, rule)| {
            let reference = RuleRef {
                namespace: policy.namespace.clone(),
                name: policy.name.clone(),
                rule: place,
            };
            Compiled::new(reference, rule, domains)
        })
    });
    Some(Table::new(rules.collect()))
}

impl Policies {
    /// Compiles the policies that are in force on a workload, in the mesh's trust domain and its aliases.
    #[must_use]
    pub fn compile(policies: Vec<Policy>, trust_domain: &TrustDomain, aliases: &[TrustDomain]) -> Self {
        let domains = Domains::new(trust_domain, aliases);
        let of = |action: &Action, dry_run: bool| {
            let chosen = policies
                .iter()
                .filter(|policy| policy.action == *action && policy.dry_run == dry_run);
            table(chosen, &domains)
        };
        let mut providers: Vec<&String> = policies.iter().filter_map(Policy::provider).collect();
        providers.sort_unstable();
        providers.dedup();
        let custom = providers.into_iter().filter_map(|provider| {
            let rules = of(&Action::Custom(provider.clone()), false)?;
            Some((provider.clone(), rules))
        });
        let dry_deny = of(&Action::Deny, true);
        let dry_allow = of(&Action::Allow, true);
        Self {
            custom: custom.collect(),
            deny: of(&Action::Deny, false).unwrap_or_default(),
            allow: of(&Action::Allow, false),
            audit: of(&Action::Audit, false).unwrap_or_default(),
            dry: dry_deny.is_some() || dry_allow.is_some(),
            dry_deny: dry_deny.unwrap_or_default(),
            dry_allow,
            any: !policies.is_empty(),
        }
    }

    /// Whether there are none at all, so that everything passes and there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// The first CUSTOM rule that matches, by the names of providers and rules. Such rules are asked before all others;
    /// dry-run ones never. `of_connections` says whether a provider can be asked about what is not HTTP: rules of one that
    /// cannot are passed over there, if they ask for what only HTTP has.
    #[must_use]
    pub fn custom(&self, facts: &Facts<'_>, of_connections: impl Fn(&str) -> bool) -> Option<Custom<'_>> {
        let seen = Seen::new(facts);
        self.custom.iter().find_map(|(provider, rules)| {
            let strict = facts.http.is_none() && !of_connections(provider);
            let rule = rules.first(&seen, strict)?;
            Some(Custom {
                provider,
                rule: &rule.reference,
            })
        })
    }

    /// The names of the providers that CUSTOM policies in force ask. Istio takes no more than one on a workload.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.custom.iter().map(|(provider, _)| provider.as_str())
    }

    /// Decides by the DENY and ALLOW policies, and says which AUDIT rules match.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Decision<'_> {
        let seen = Seen::new(facts);
        let mut audits = Vec::new();
        if !self.audit.is_empty() {
            self.audit.each(&seen, false, |rule| {
                audits.push(&rule.reference);
                true
            });
        }
        let outcome = self.outcome(&seen);
        Decision {
            outcome,
            audits,
            shadow: self.dry.then(|| self.shadow(&seen, outcome)),
        }
    }

    fn outcome(&self, seen: &Seen<'_>) -> Outcome<'_> {
        if let Some(rule) = self.deny.first(seen, false) {
            let by = Some(&rule.reference);
            return Outcome::Denied { by };
        }
        match &self.allow {
            None => Outcome::Allowed { by: None },
            Some(allow) => match allow.first(seen, true) {
                Some(rule) => Outcome::Allowed {
                    by: Some(&rule.reference),
                },
                None => Outcome::Denied { by: None },
            },
        }
    }

    /// The outcome if the dry-run policies joined those in force.
    fn shadow<'a>(&'a self, seen: &Seen<'_>, outcome: Outcome<'a>) -> Outcome<'a> {
        if let Outcome::Denied { by: Some(_) } = outcome {
            return outcome;
        }
        if let Some(rule) = self.dry_deny.first(seen, false) {
            let by = Some(&rule.reference);
            return Outcome::Denied { by };
        }
        if let Outcome::Allowed { by: Some(_) } = outcome {
            return outcome;
        }
        match &self.dry_allow {
            None => outcome,
            Some(allow) => match allow.first(seen, true) {
                Some(rule) => Outcome::Allowed {
                    by: Some(&rule.reference),
                },
                None => Outcome::Denied { by: None },
            },
        }
    }

    /// Of what no ALLOW rule lets pass: the rule that came nearest, and its first field that does not match. Every ALLOW
    /// rule is looked at, so this is for denials only. `None`: a rule does match, or there is none.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>) -> Option<Nearest<'_>> {
        let seen = Seen::new(facts);
        let rules = self.allow.iter().flat_map(|allow| allow.rules());
        let nearest = rules
            .filter_map(|rule| rule.nearness(&seen))
            .min_by_key(|(nearness, _)| nearness.rank());
        nearest.map(|(_, nearest)| nearest)
    }
}
