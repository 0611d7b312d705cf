//! PeerAuthentication: which mutual TLS mode governs a workload's port, and which resource says so.
//!
//! Istio's rules: the narrowest scope wins (workload, namespace, mesh), the oldest resource wins within a scope, `UNSET`
//! inherits from the next wider scope, a port's mode counts only in a policy with a selector and by the workload's port, a
//! policy with a selector in the root namespace is ignored, and without any policy the mode is `PERMISSIVE`.

use crate::labels::{Labels, Selector};
use std::collections::BTreeMap;
use std::fmt;

/// `PeerAuthentication.spec.mtls.mode` as written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Inherit from the next wider scope.
    #[default]
    Unset,
    /// Plaintext only.
    Disable,
    /// Plaintext and mutual TLS.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// A mode that is in force on a port: never unset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PortMode {
    /// Plaintext only; TLS that a client brings is the application's own.
    Disable,
    /// Plaintext and mutual TLS.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl Mode {
    fn resolved(self) -> Option<PortMode> {
        match self {
            Self::Unset => None,
            Self::Disable => Some(PortMode::Disable),
            Self::Permissive => Some(PortMode::Permissive),
            Self::Strict => Some(PortMode::Strict),
        }
    }
}

impl fmt::Display for PortMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        })
    }
}

/// A PeerAuthentication, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.creationTimestamp`, in seconds since the epoch: the oldest wins within a scope.
    pub created: i64,
    /// `spec.selector`.
    pub selector: Selector,
    /// `spec.mtls.mode`.
    pub mode: Mode,
    /// `spec.portLevelMtls`, by the workload's port.
    pub ports: BTreeMap<u16, Mode>,
}

/// How far a policy reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The whole mesh: in the root namespace, no selector.
    Mesh,
    /// A namespace: no selector.
    Namespace,
    /// The workloads of its namespace that its selector matches.
    Workload,
}

impl Policy {
    /// How far this policy reaches; `None` for one with a selector in the root namespace, which Istio ignores.
    #[must_use]
    pub fn scope(&self, root_namespace: &str) -> Option<Scope> {
        match (self.namespace == root_namespace, self.selector.is_empty()) {
            (true, true) => Some(Scope::Mesh),
            (true, false) => None,
            (false, true) => Some(Scope::Namespace),
            (false, false) => Some(Scope::Workload),
        }
    }

    /// The scope in which this policy is for a workload; `None` where it is not for it.
    #[must_use]
    pub fn scope_for(&self, root_namespace: &str, namespace: &str, labels: &Labels) -> Option<Scope> {
        let scope = self.scope(root_namespace)?;
        let concerns = match scope {
            Scope::Mesh => true,
            Scope::Namespace => self.namespace == namespace,
            Scope::Workload => self.namespace == namespace && self.selector.matches(labels),
        };
        concerns.then_some(scope)
    }

    /// `namespace/name`, as messages and records write it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Sorts before every policy of the same scope that it prevails over: the oldest, then by name.
    fn precedence(&self) -> (i64, &str, &str) {
        (self.created, &self.namespace, &self.name)
    }
}

/// The modes in force on a workload's ports and what decided them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    /// The mode of every port that is not in `ports`.
    pub mode: PortMode,
    /// Ports with a mode of their own.
    pub ports: BTreeMap<u16, PortMode>,
    /// `namespace/name` of the policies that decided, narrowest first.
    pub decided_by: Vec<String>,
}

impl Effective {
    /// The mode in force on a workload's port.
    #[must_use]
    pub fn on_port(&self, port: u16) -> PortMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }

    /// `namespace/name` of the policies that decided the mode on a workload's port, narrowest first.
    #[must_use]
    pub fn decided_on(&self, port: u16) -> &[String] {
        // A port's mode comes from the workload's policy, which stands first.
        let all = self.decided_by.as_slice();
        if self.ports.contains_key(&port) {
            all.get(..1).unwrap_or(all)
        } else {
            all
        }
    }
}

/// Decides the modes of a workload.
///
/// `policies` may hold those of every namespace; the ones that do not concern the workload are passed over.
#[must_use]
pub fn effective<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    root_namespace: &str,
    namespace: &str,
    labels: &Labels,
) -> Effective {
    decided(chosen(policies, root_namespace, namespace, labels))
}

/// The policy of each [`Scope`] that prevails for a workload.
pub(crate) type Chosen<'a> = [Option<&'a Policy>; 3];

/// Chooses for a workload: of each scope the oldest.
pub(crate) fn chosen<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    root_namespace: &str,
    namespace: &str,
    labels: &Labels,
) -> Chosen<'a> {
    let mut chosen = Chosen::default();
    for policy in policies {
        let Some(scope) = policy.scope_for(root_namespace, namespace, labels) else {
            continue;
        };
        let slot = &mut chosen[scope as usize];
        if slot.is_none_or(|held| policy.precedence() < held.precedence()) {
            *slot = Some(policy);
        }
    }
    chosen
}

/// The modes that follow from the policies of the three scopes.
pub(crate) fn decided(chosen: Chosen<'_>) -> Effective {
    let [mesh, of_namespace, workload] = chosen;
    let mut result = Effective::default();
    let ports = workload.iter().flat_map(|policy| &policy.ports);
    for policy in [workload, of_namespace, mesh].into_iter().flatten() {
        result.decided_by.push(policy.key());
        if let Some(mode) = policy.mode.resolved() {
            result.mode = mode;
            break;
        }
    }
    // A port that is UNSET inherits the workload's mode, so it needs no entry.
    result.ports = ports
        .filter_map(|(port, mode)| Some((*port, mode.resolved()?)))
        .collect();
    result
}

/// The modes that would be in force on a workload's ports if its namespace as a whole said STRICT: policies of the workload
/// itself still prevail. Parameters are those of [`effective`].
#[must_use]
pub fn under_strict<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    root_namespace: &str,
    namespace: &str,
    labels: &Labels,
) -> Effective {
    let strict = Policy {
        namespace: namespace.to_owned(),
        name: String::new(),
        created: i64::MIN,
        selector: Selector::default(),
        mode: Mode::Strict,
        ports: BTreeMap::new(),
    };
    let all = policies.into_iter().map(|policy: &Policy| policy);
    effective(all.chain(std::iter::once(&strict)), root_namespace, namespace, labels)
}

/// Whether a policy decides anything, and if not, why. The text goes to `.status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It governs its scope.
    InForce(Scope),
    /// A selector in the root namespace: Istio ignores such a policy.
    SelectorInRootNamespace,
    /// An older policy with the same scope and selector prevails.
    Shadowed {
        /// `namespace/name` of the policy that prevails.
        by: String,
    },
}

/// Says how a policy stands among all of them.
///
/// Two workload policies with different selectors may overlap on some workloads; only an equal selector shadows wholly.
#[must_use]
pub fn standing<'a>(policy: &Policy, all: impl IntoIterator<Item = &'a Policy>, root_namespace: &str) -> Standing {
    let Some(scope) = policy.scope(root_namespace) else {
        return Standing::SelectorInRootNamespace;
    };
    let prevails = |other: &&Policy| {
        other.namespace == policy.namespace
            && other.name != policy.name
            && other.selector == policy.selector
            && other.precedence() < policy.precedence()
    };
    match all.into_iter().filter(prevails).min_by_key(|other| other.precedence()) {
        Some(other) => Standing::Shadowed { by: other.key() },
        None => Standing::InForce(scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "istio-system";

    fn policy(key: &str, created: i64, selector: &[(&str, &str)], mode: Mode, ports: &[(u16, Mode)]) -> Policy {
        let (namespace, name) = key.split_once('/').unwrap();
        Policy {
            namespace: namespace.into(),
            name: name.into(),
            created,
            selector: Selector(selector.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()),
            mode,
            ports: ports.iter().copied().collect(),
        }
    }

    #[test]
    fn the_narrowest_scope_wins_and_unset_inherits() {
        use Mode::{Disable, Permissive, Strict, Unset};
        let web = [("app", "web")];
        let mesh_strict = || policy("istio-system/default", 1, &[], Strict, &[]);
        let cases: Vec<(&str, Vec<Policy>, PortMode, PortMode)> = vec![
            ("no policy", vec![], PortMode::Permissive, PortMode::Permissive),
            ("mesh", vec![mesh_strict()], PortMode::Strict, PortMode::Strict),
            (
                "namespace beats mesh",
                vec![mesh_strict(), policy("a/default", 2, &[], Disable, &[])],
                PortMode::Disable,
                PortMode::Disable,
            ),
            (
                "another namespace's does not count",
                vec![policy("b/default", 2, &[], Strict, &[])],
                PortMode::Permissive,
                PortMode::Permissive,
            ),
            (
                "unset namespace inherits the mesh's",
                vec![mesh_strict(), policy("a/default", 2, &[], Unset, &[])],
                PortMode::Strict,
                PortMode::Strict,
            ),
            (
                "workload beats namespace, port beats workload",
                vec![
                    policy("a/default", 2, &[], Strict, &[]),
                    policy("a/web", 3, &web, Permissive, &[(8080, Disable)]),
                ],
                PortMode::Permissive,
                PortMode::Disable,
            ),
            (
                "an unset workload with a port inherits for the others",
                vec![mesh_strict(), policy("a/web", 3, &web, Unset, &[(8080, Permissive)])],
                PortMode::Strict,
                PortMode::Permissive,
            ),
            (
                "an unset port inherits the workload's mode",
                vec![mesh_strict(), policy("a/web", 3, &web, Permissive, &[(8080, Unset)])],
                PortMode::Permissive,
                PortMode::Permissive,
            ),
            (
                "the oldest wins a tie",
                vec![
                    policy("a/z", 5, &web, Strict, &[]),
                    policy("a/y", 9, &web, Disable, &[]),
                ],
                PortMode::Strict,
                PortMode::Strict,
            ),
            (
                "at the same age the name decides",
                vec![
                    policy("a/z", 5, &web, Strict, &[]),
                    policy("a/y", 5, &web, Disable, &[]),
                ],
                PortMode::Disable,
                PortMode::Disable,
            ),
            (
                "a selector in the root namespace is ignored",
                vec![policy("istio-system/web", 1, &web, Strict, &[])],
                PortMode::Permissive,
                PortMode::Permissive,
            ),
            (
                "a selector that does not match is ignored",
                vec![policy("a/db", 1, &[("app", "db")], Strict, &[])],
                PortMode::Permissive,
                PortMode::Permissive,
            ),
            (
                "port modes without a selector do not count",
                vec![policy("a/default", 1, &[], Permissive, &[(8080, Strict)])],
                PortMode::Permissive,
                PortMode::Permissive,
            ),
        ];
        let labels: Labels = web.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        for (case, policies, other, on_8080) in cases {
            let got = effective(&policies, ROOT, "a", &labels);
            assert_eq!((got.on_port(9999), got.on_port(8080)), (other, on_8080), "{case}");
        }
    }

    #[test]
    fn says_which_policies_decided() {
        let policies = [
            policy("istio-system/default", 1, &[], Mode::Strict, &[]),
            policy("a/default", 2, &[], Mode::Unset, &[]),
            policy("b/default", 2, &[], Mode::Disable, &[]),
        ];
        assert_eq!(
            effective(&policies, ROOT, "a", &Labels::new()).decided_by,
            ["a/default", "istio-system/default"]
        );
        assert_eq!(
            effective(&policies, ROOT, "b", &Labels::new()).decided_by,
            ["b/default"]
        );
        let web = [("app", "web")];
        let of_port = policy("a/web", 3, &web, Mode::Unset, &[(8080, Mode::Disable)]);
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        let got = effective(policies.iter().chain([&of_port]), ROOT, "a", &labels);
        assert_eq!(got.decided_on(8080), ["a/web"]);
        assert_eq!(got.decided_on(80), ["a/web", "a/default", "istio-system/default"]);
    }

    #[test]
    fn what_strict_would_change_is_known_before() {
        use Mode::{Disable, Permissive};
        let policies = [
            policy("a/default", 1, &[], Permissive, &[]),
            policy("a/web", 1, &[("app", "web")], Mode::Unset, &[(8080, Permissive)]),
            policy("a/db", 1, &[("app", "db")], Disable, &[]),
        ];
        let labels = |app: &str| [("app".to_owned(), app.to_owned())].into();
        for (app, other, on_8080) in [
            ("web", PortMode::Strict, PortMode::Permissive),
            ("db", PortMode::Disable, PortMode::Disable),
            ("cart", PortMode::Strict, PortMode::Strict),
        ] {
            let got = under_strict(&policies, ROOT, "a", &labels(app));
            assert_eq!((got.on_port(1), got.on_port(8080)), (other, on_8080), "{app}");
        }
    }

    #[test]
    fn a_policy_stands_or_says_why_not() {
        let old = policy("a/old", 1, &[], Mode::Strict, &[]);
        let new = policy("a/new", 2, &[], Mode::Disable, &[]);
        let root = policy("istio-system/web", 1, &[("app", "web")], Mode::Strict, &[]);
        let all = [old.clone(), new.clone(), root.clone()];
        assert_eq!(standing(&old, &all, ROOT), Standing::InForce(Scope::Namespace));
        assert_eq!(standing(&new, &all, ROOT), Standing::Shadowed { by: "a/old".into() });
        assert_eq!(standing(&root, &all, ROOT), Standing::SelectorInRootNamespace);
    }
}
