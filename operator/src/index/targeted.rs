//! Policies that are for workloads by namespace, selector and labels, and of which all that match add up:
//! AuthorizationPolicies and RequestAuthentications.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mesh_core::authorization::policy::Target;
use mesh_core::labels::Labels;

use super::changes::Named;

/// The policies of a kind.
#[derive(Debug)]
pub struct Targeted<P> {
    by_namespace: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Entry<P>>>,
    live: HashSet<u64>,
    next: u64,
}

/// A policy.
#[derive(Debug)]
pub struct Entry<P> {
    /// Whose it is.
    pub name: Named,
    /// Another one after each change, so that a list of them names a set of policies as they are.
    pub id: u64,
    /// Which workloads it is for.
    pub target: Target,
    /// What it says.
    pub policy: P,
    /// Whether it parsed, and is not what holds in the place of one that did not.
    good: bool,
}

/// Which workloads a change concerns: those of any of these targets.
pub(super) type Concerned = Vec<Target>;

impl<P> Default for Targeted<P> {
    fn default() -> Self {
        Self {
            by_namespace: BTreeMap::new(),
            live: HashSet::new(),
            next: 0,
        }
    }
}

impl<P: PartialEq> Targeted<P> {
    /// Takes a policy, new or changed (`Some`), or its end.
    pub(super) fn set(&mut self, name: &Named, policy: Option<(Target, P)>) -> Concerned {
        self.replace(name, policy, true)
    }

    /// Takes what holds in the place of a policy that does not parse, unless there is a good one of that name.
    pub(super) fn set_unless_good(&mut self, name: &Named, policy: (Target, P)) -> Concerned {
        let held = self.by_namespace.get(&name.0).and_then(|of| of.get(&name.1));
        if held.is_some_and(|held| held.good) {
            return Vec::new();
        }
        self.replace(name, Some(policy), false)
    }

    fn replace(&mut self, name: &Named, policy: Option<(Target, P)>, good: bool) -> Concerned {
        let of_namespace = self.by_namespace.entry(name.0.clone()).or_default();
        let before = of_namespace.remove(&name.1);
        let mut concerned = Vec::new();
        match (before, policy) {
            (Some(before), Some((target, policy))) if before.target == target && before.policy == policy => {
                of_namespace.insert(name.1.clone(), Entry { good, ..before });
            }
            (before, policy) => {
                if let Some(before) = before {
                    self.live.remove(&before.id);
                    concerned.push(before.target);
                }
                if let Some((target, policy)) = policy {
                    concerned.push(target.clone());
                    let id = self.next;
                    self.next += 1;
                    self.live.insert(id);
                    let entry = Entry {
                        name: name.clone(),
                        id,
                        target,
                        policy,
                        good,
                    };
                    of_namespace.insert(name.1.clone(), entry);
                }
            }
        }
        if of_namespace.is_empty() {
            self.by_namespace.remove(&name.0);
        }
        concerned
    }
}

impl<P> Targeted<P> {
    /// Those for a workload, the root namespace's first, each in the order of their names.
    pub fn concerning<'a>(
        &'a self,
        root: &'a str,
        namespace: &'a str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Entry<P>> {
        let of = move |policies: &'a str| {
            let entries = self.by_namespace.get(policies).into_iter().flat_map(BTreeMap::values);
            entries.filter(move |entry| entry.target.is_for(policies, root, namespace, labels))
        };
        let mesh = (namespace != root).then(|| of(root)).into_iter().flatten();
        mesh.chain(of(namespace))
    }

    /// Those of a workload's namespace and of the root namespace, whichever workloads they are for; the root namespace's first.
    pub fn near<'a>(&'a self, root: &str, namespace: &str) -> impl Iterator<Item = &'a Entry<P>> + use<'a, P> {
        let mesh = (namespace != root).then(|| self.by_namespace.get(root)).flatten();
        let both = mesh.into_iter().chain(self.by_namespace.get(namespace));
        both.flat_map(BTreeMap::values)
    }

    /// Whether all of them are as they were when these ids were given.
    pub(super) fn are_live(&self, ids: &[u64]) -> bool {
        ids.iter().all(|id| self.live.contains(id))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &Named) -> Option<&Entry<P>> {
        self.by_namespace.get(&name.0)?.get(&name.1)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Entry<P>> {
        self.by_namespace.values().flat_map(BTreeMap::values)
    }

    /// The names of all of them.
    pub fn names(&self) -> impl Iterator<Item = Named> {
        self.all().map(|entry| entry.name.clone())
    }

    /// Gives another id to those that `of` chooses, as if they had changed; which workloads that concerns.
    pub(super) fn renew(&mut self, of: impl Fn(&Named, &P) -> bool) -> Vec<(Named, Target)> {
        let mut renewed = Vec::new();
        for entry in self.by_namespace.values_mut().flat_map(BTreeMap::values_mut) {
            if of(&entry.name, &entry.policy) {
                self.live.remove(&entry.id);
                entry.id = self.next;
                self.next += 1;
                self.live.insert(entry.id);
                renewed.push((entry.name.clone(), entry.target.clone()));
            }
        }
        renewed
    }
}
