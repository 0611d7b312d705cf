//! Rules of one namespace that name the same host count as one.
//!
//! Istio's way: the oldest rule begins; a later one with the same `exportTo` and selector adds the subsets whose names are
//! new, and its traffic policy only where none was there. Rules that differ in either stay apart.

use super::{Export, Rule, Subset, TrafficPolicy};
use crate::labels::Selector;
use std::sync::Arc;

/// One or more rules of a namespace for one host, taken as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The host, resolved: a fully qualified name or a wildcard.
    pub host: Arc<str>,
    /// The namespace of the rules.
    pub namespace: Arc<str>,
    /// Where they count.
    pub(super) export: Export,
    /// The clients that they are for.
    pub(super) selector: Option<Selector>,
    /// Which rule said what, the oldest first.
    pub parts: Vec<Part>,
    /// The traffic policy in force, and the name of the rule that it is from.
    pub policy: Option<(Arc<str>, TrafficPolicy)>,
    /// The subsets of all of them.
    pub subsets: Vec<Subset>,
}

/// A rule's part in what it was merged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The rule's name.
    pub name: Arc<str>,
    /// Whether its traffic policy is the one in force; true where it has none and stands first.
    pub policy: bool,
    /// The subsets of it that an older rule has already.
    pub repeated: Vec<String>,
    /// How many of its subsets were added.
    pub subsets: usize,
}

impl Merged {
    fn begin(rule: &Rule, host: Arc<str>, export: Export) -> Self {
        Self {
            host,
            namespace: rule.namespace.clone(),
            export,
            selector: rule.selector.clone(),
            parts: vec![Part {
                name: rule.name.clone(),
                policy: true,
                repeated: Vec::new(),
                subsets: rule.subsets.len(),
            }],
            policy: rule.policy.clone().map(|policy| (rule.name.clone(), policy)),
            subsets: rule.subsets.clone(),
        }
    }

    fn add(&mut self, rule: &Rule) {
        let mut part = Part {
            name: rule.name.clone(),
            policy: false,
            repeated: Vec::new(),
            subsets: 0,
        };
        for subset in &rule.subsets {
            if self.subsets.iter().any(|held| held.name == subset.name) {
                part.repeated.push(subset.name.clone());
            } else {
                self.subsets.push(subset.clone());
                part.subsets += 1;
            }
        }
        if let (None, Some(policy)) = (&self.policy, &rule.policy) {
            self.policy = Some((rule.name.clone(), policy.clone()));
            part.policy = true;
        }
        self.parts.push(part);
    }

    /// The names of all rules in it, `namespace/name`, joined: what tells it from others of the same moment.
    #[must_use]
    pub fn id(&self) -> String {
        let names: Vec<String> = self
            .parts
            .iter()
            .map(|part| format!("{}/{}", self.namespace, part.name))
            .collect();
        names.join(",")
    }
}

/// Takes a rule into those of its namespace and resolved host. Rules come in the order of their precedence.
pub(super) fn take(held: &mut Vec<Merged>, rule: &Rule, host: Arc<str>, export: &Export) {
    let same = held
        .iter_mut()
        .find(|merged| merged.export == *export && merged.selector == rule.selector);
    match same {
        Some(merged) => merged.add(rule),
        None => held.push(Merged::begin(rule, host, export.clone())),
    }
}
