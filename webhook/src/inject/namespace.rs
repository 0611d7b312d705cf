//! The namespace of a pod that may be injected.

use std::collections::BTreeMap;

use mesh_api::injection;

use super::pod_security::Level;
use crate::config::Values;

/// A pod's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels, as [`injection::Namespace`] has them.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The pod security level that it enforces, when that forbids anything; `None` also when it is not known.
    pub enforces: Option<Level>,
}

impl<'a> Namespace<'a> {
    /// What decides whether its pods are injected.
    pub(super) fn to_decide(self) -> injection::Namespace<'a> {
        let Self { name, labels, .. } = self;
        injection::Namespace { name, labels }
    }

    /// The pod security level that pods must meet, unless the chart says not to look.
    pub(super) fn enforced(&self, values: &Values) -> Option<Level> {
        self.enforces.filter(|_| values.pod_security_check)
    }
}
