//! Candidate sets: policies that are tried before they are in force.
//!
//! A set is evaluated as if its candidates had joined what is in force: AuthorizationPolicies and RequestAuthentications add
//! up, and a PeerAuthentication takes the place of the one that governs its scope. A candidate may name the policy of its
//! kind and namespace that it replaces; then that one is left out, and everything else is as Istio has it.

use crate::labels::Labels;
use crate::peer_authentication::{self, Effective, Policy};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The most sets that are evaluated for one workload: the first by name.
pub const MOST_SETS: usize = 8;

/// What makes a policy a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The set that it belongs to.
    pub set: String,
    /// The name of the policy, of the same kind and namespace, that it takes the place of.
    pub replaces: Option<String>,
}

/// A candidate, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidacy<P> {
    /// What makes it one.
    pub candidate: Candidate,
    /// What would be in force.
    pub policy: P,
}

/// The kinds that may be candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// PeerAuthentication.
    PeerAuthentication,
    /// AuthorizationPolicy.
    AuthorizationPolicy,
    /// RequestAuthentication.
    RequestAuthentication,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [
        Self::PeerAuthentication,
        Self::AuthorizationPolicy,
        Self::RequestAuthentication,
    ];

    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PeerAuthentication => "PeerAuthentication",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::RequestAuthentication => "RequestAuthentication",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A candidate by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `KIND/NAMESPACE/NAME`, as counts and reports name it.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// A text that names no candidate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected PeerAuthentication, AuthorizationPolicy or RequestAuthentication, as in KIND/NAMESPACE/NAME")]
pub struct NoMember;

impl FromStr for Member {
    type Err = NoMember;

    fn from_str(text: &str) -> Result<Self, NoMember> {
        let mut parts = text.splitn(3, '/');
        let (kind, namespace, name) = (parts.next(), parts.next(), parts.next());
        let kind = Kind::ALL.into_iter().find(|known| Some(known.as_str()) == kind);
        match (kind, namespace, name) {
            (Some(kind), Some(namespace), Some(name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(NoMember),
        }
    }
}

/// The policies of a kind that candidates of one set take the place of.
#[derive(Debug, Default)]
pub struct Replaced<'a>(BTreeSet<(&'a str, &'a str)>);

impl<'a> Replaced<'a> {
    /// Those that these candidates name, each given with its namespace.
    pub fn by(candidates: impl IntoIterator<Item = (&'a str, &'a Candidate)>) -> Self {
        let named =
            |(namespace, candidate): (&'a str, &'a Candidate)| Some((namespace, candidate.replaces.as_deref()?));
        Self(candidates.into_iter().filter_map(named).collect())
    }

    /// Whether a policy is one of them.
    #[must_use]
    pub fn contains(&self, namespace: &str, name: &str) -> bool {
        self.0.contains(&(namespace, name))
    }
}

/// The modes of a workload if the candidates of a set were in force.
///
/// Candidates that replace none take the place of whatever governs their scope, even of an older policy; the others compete
/// with what is left, by Istio's precedence. Both lists may hold policies that do not concern the workload.
#[must_use]
pub fn effective<'a>(
    in_force: impl IntoIterator<Item = &'a Policy>,
    candidates: impl IntoIterator<Item = &'a Candidacy<Policy>>,
    root_namespace: &str,
    namespace: &str,
    labels: &Labels,
) -> Effective {
    let candidates: Vec<&Candidacy<Policy>> = candidates.into_iter().collect();
    let replaced = Replaced::by(
        candidates
            .iter()
            .map(|it| (it.policy.namespace.as_str(), &it.candidate)),
    );
    let (replacing, joining): (Vec<&Candidacy<Policy>>, Vec<_>) =
        candidates.iter().partition(|it| it.candidate.replaces.is_some());
    let left = in_force
        .into_iter()
        .filter(|policy| !replaced.contains(&policy.namespace, &policy.name))
        .chain(replacing.into_iter().map(|it| &it.policy));
    let left = peer_authentication::chosen(left, root_namespace, namespace, labels);
    let joining = joining.into_iter().map(|it| &it.policy);
    let mut chosen = peer_authentication::chosen(joining, root_namespace, namespace, labels);
    for (slot, left) in chosen.iter_mut().zip(left) {
        *slot = slot.or(left);
    }
    peer_authentication::decided(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Selector;
    use crate::peer_authentication::{Mode, PortMode};
    use Mode::{Disable, Permissive, Strict, Unset};

    const ROOT: &str = "istio-system";
    const WEB: &[(&str, &str)] = &[("app", "web")];

    fn labels(of: &[(&str, &str)]) -> Labels {
        of.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    fn policy(key: &str, created: i64, selector: &[(&str, &str)], mode: Mode, ports: &[(u16, Mode)]) -> Policy {
        let (namespace, name) = key.split_once('/').unwrap();
        Policy {
            namespace: namespace.into(),
            name: name.into(),
            created,
            selector: Selector(labels(selector)),
            mode,
            ports: ports.iter().copied().collect(),
        }
    }

    fn candidate(policy: Policy, replaces: &str) -> Candidacy<Policy> {
        Candidacy {
            candidate: Candidate {
                set: "s".into(),
                replaces: (!replaces.is_empty()).then(|| replaces.to_owned()),
            },
            policy,
        }
    }

    /// What a case expects on the ports 8080 and 9999, and what decides.
    type Expected = (PortMode, PortMode, &'static [&'static str]);

    /// What is in force, what is tried, and what comes of it.
    type Case = (&'static str, Vec<Policy>, Vec<Candidacy<Policy>>, Expected);

    #[test]
    fn a_peer_authentication_takes_the_place_of_the_one_at_its_scope() {
        let mesh = |mode| policy("istio-system/default", 1, &[], mode, &[]);
        let shop = |mode| policy("a/default", 1, &[], mode, &[]);
        let web = |mode, ports: &[(u16, Mode)]| policy("a/web", 1, WEB, mode, ports);
        let new =
            |key: &str, selector: &[(&str, &str)], mode, ports: &[(u16, Mode)]| policy(key, 9, selector, mode, ports);
        let (strict, permissive) = (PortMode::Strict, PortMode::Permissive);
        let cases: Vec<Case> = vec![
            (
                "mesh, where nothing is",
                vec![],
                vec![candidate(new("istio-system/new", &[], Strict, &[]), "")],
                (strict, strict, &["istio-system/new"]),
            ),
            (
                "mesh, in the place of an older one",
                vec![mesh(Permissive)],
                vec![candidate(new("istio-system/new", &[], Strict, &[]), "")],
                (strict, strict, &["istio-system/new"]),
            ),
            (
                "mesh, under a namespace that says otherwise",
                vec![mesh(Permissive), shop(Permissive)],
                vec![candidate(new("istio-system/new", &[], Strict, &[]), "")],
                (permissive, permissive, &["a/default"]),
            ),
            (
                "namespace, above the mesh's",
                vec![mesh(Permissive)],
                vec![candidate(new("a/new", &[], Strict, &[]), "")],
                (strict, strict, &["a/new"]),
            ),
            (
                "namespace, in the place of an older one",
                vec![shop(Permissive)],
                vec![candidate(new("a/new", &[], Strict, &[]), "")],
                (strict, strict, &["a/new"]),
            ),
            (
                "another namespace's",
                vec![shop(Permissive)],
                vec![candidate(new("b/new", &[], Strict, &[]), "")],
                (permissive, permissive, &["a/default"]),
            ),
            (
                "workload, in the place of an older one with its ports",
                vec![shop(Permissive), web(Permissive, &[(8080, Disable)])],
                vec![candidate(new("a/new", WEB, Strict, &[]), "")],
                (strict, strict, &["a/new"]),
            ),
            (
                "workload, one port",
                vec![shop(Permissive)],
                vec![candidate(new("a/new", WEB, Unset, &[(8080, Strict)]), "")],
                (strict, permissive, &["a/new", "a/default"]),
            ),
            (
                "a selector that does not match",
                vec![shop(Permissive)],
                vec![candidate(new("a/new", &[("app", "db")], Strict, &[]), "")],
                (permissive, permissive, &["a/default"]),
            ),
            (
                "a selector in the root namespace",
                vec![],
                vec![candidate(new("istio-system/new", WEB, Strict, &[]), "")],
                (permissive, permissive, &[]),
            ),
            (
                "of several candidates the oldest",
                vec![],
                vec![
                    candidate(new("a/new", &[], Strict, &[]), ""),
                    candidate(policy("a/older", 5, &[], Permissive, &[]), ""),
                ],
                (permissive, permissive, &["a/older"]),
            ),
            (
                "replacing the one at its scope",
                vec![shop(Permissive)],
                vec![candidate(new("a/new", &[], Strict, &[]), "default")],
                (strict, strict, &["a/new"]),
            ),
            (
                "replacing one of two: the other is older",
                vec![shop(Permissive), policy("a/other", 2, &[], Permissive, &[])],
                vec![candidate(new("a/new", &[], Strict, &[]), "default")],
                (permissive, permissive, &["a/other"]),
            ),
            (
                "replacing one of another scope, which is gone",
                vec![mesh(Strict), web(Permissive, &[])],
                vec![candidate(new("a/new", &[], Unset, &[]), "web")],
                (strict, strict, &["a/new", "istio-system/default"]),
            ),
            (
                "replacing a name of another namespace",
                vec![mesh(Strict), policy("b/web", 1, &[], Permissive, &[])],
                vec![candidate(new("a/new", &[("app", "db")], Permissive, &[]), "web")],
                (strict, strict, &["istio-system/default"]),
            ),
            (
                "replacing what is for this workload by what is not",
                vec![mesh(Strict), web(Permissive, &[])],
                vec![candidate(new("a/new", &[("app", "db")], Permissive, &[]), "web")],
                (strict, strict, &["istio-system/default"]),
            ),
            (
                "narrow and wide of one set",
                vec![shop(Permissive)],
                vec![
                    candidate(new("a/new", &[], Strict, &[]), ""),
                    candidate(new("a/web", WEB, Permissive, &[(8080, Strict)]), ""),
                ],
                (strict, permissive, &["a/web"]),
            ),
        ];
        for (case, in_force, candidates, (on_8080, other, by)) in cases {
            let got = effective(&in_force, &candidates, ROOT, "a", &labels(WEB));
            assert_eq!((got.on_port(8080), got.on_port(9999)), (on_8080, other), "{case}");
            assert_eq!(got.decided_by, by, "{case}");
        }
    }

    #[test]
    fn a_member_is_written_and_read() {
        let member: Member = "AuthorizationPolicy/shop/a.b".parse().unwrap();
        assert_eq!((member.kind, &*member.name), (Kind::AuthorizationPolicy, "a.b"));
        assert_eq!(member.to_string(), "AuthorizationPolicy/shop/a.b");
        for bad in [
            "",
            "Gateway/a/b",
            "AuthorizationPolicy/a",
            "AuthorizationPolicy//b",
            "AuthorizationPolicy/a/",
        ] {
            assert_eq!(bad.parse::<Member>(), Err(NoMember), "{bad}");
        }
    }
}
