//! What candidate sets would decide about calls to the pod, made once from what the operator sent. None of it is in force.

use std::sync::Arc;

use mesh_core::authorization::policy::Action;
use mesh_core::authorization::{Policies, RuleRef};
use mesh_core::candidates::{Kind, Member};
use mesh_core::jwt::Authenticator;
use mesh_core::peer_authentication::Effective;
use mesh_wire::candidates::{CandidateSet, CandidateSets};

use super::authorization::{Compiled, Ready, UnreadableKeys};

/// The most candidates of a set that a denial is put down to.
const MOST_BLAMED: usize = 8;

/// The candidate sets that concern the pod, at least one.
#[derive(Debug)]
pub struct Candidates {
    /// In the order of their names.
    pub sets: Vec<Set>,
    received: CandidateSets,
}

/// A set. Of what is `None`, what is in force is also what would be.
#[derive(Debug)]
pub struct Set {
    /// Its name.
    pub name: Box<str>,
    /// The modes on the pod's ports.
    pub peers: Option<Effective>,
    /// Which calls would be taken.
    pub policies: Option<Arc<Policies>>,
    /// Whose tokens would be believed.
    pub tokens: Option<Arc<Authenticator>>,
    blamed: Blamed,
}

/// What a denial is put down to, by what denies.
#[derive(Debug)]
struct Blamed {
    all: Vec<Member>,
    plaintext: Vec<Member>,
    tokens: Vec<Member>,
    allow: Vec<Member>,
}

/// Why a set would deny a call.
#[derive(Debug, Clone, Copy)]
pub enum Why<'a> {
    /// It came in the clear, and PeerAuthentication would say STRICT.
    Plaintext,
    /// Its token would be refused.
    Token,
    /// A DENY rule would match.
    Rule(&'a RuleRef),
    /// No ALLOW rule would match.
    NoRule,
}

impl Candidates {
    /// Compiles what was received; `None` where there is no set.
    ///
    /// # Errors
    /// The policy and issuer whose keys cannot be read.
    pub(super) fn new(received: CandidateSets) -> Result<Option<Self>, UnreadableKeys> {
        let sets: Vec<Set> = received.sets.iter().map(Set::new).collect::<Result<_, _>>()?;
        Ok((!sets.is_empty()).then_some(Self { sets, received }))
    }

    /// As the operator sent them.
    #[must_use]
    pub fn received(&self) -> &CandidateSets {
        &self.received
    }
}

impl Set {
    fn new(set: &CandidateSet) -> Result<Self, UnreadableKeys> {
        let compiled = set.authorization.clone().map(Compiled::new);
        let tokens = set.tokens.clone().map(Ready::new).transpose()?;
        Ok(Self {
            name: set.name.as_str().into(),
            peers: set.inbound.clone(),
            policies: compiled.map(|compiled| compiled.policies),
            tokens: tokens.map(|tokens| tokens.tokens),
            blamed: Blamed::new(set),
        })
    }

    /// The candidates that a denial is put down to: those that deny, or else those without which there would be none; at
    /// least one. Where no ALLOW rule matches these are all ALLOW policies of the set.
    #[must_use]
    pub fn blamed(&self, why: Why<'_>) -> &[Member] {
        let Blamed {
            all,
            plaintext,
            tokens,
            allow,
        } = &self.blamed;
        let of_kind: &[Member] = match why {
            Why::Plaintext => plaintext,
            Why::Token => tokens,
            Why::Rule(rule) => {
                let is_it = |member: &Member| {
                    member.kind == Kind::AuthorizationPolicy
                        && member.namespace == rule.namespace
                        && member.name == rule.name
                };
                match all.iter().position(is_it) {
                    Some(at) => &all[at..=at],
                    // It is in force already, and matches by what a candidate token rule makes of the token.
                    None => tokens,
                }
            }
            Why::NoRule if allow.is_empty() => tokens,
            Why::NoRule => allow,
        };
        let blamed = if of_kind.is_empty() { all } else { of_kind };
        &blamed[..blamed.len().min(MOST_BLAMED)]
    }
}

impl Blamed {
    fn new(set: &CandidateSet) -> Self {
        let of = |kind: Kind| set.members.iter().filter(move |member| member.kind == kind).cloned();
        let decided: Vec<Member> = of(Kind::PeerAuthentication)
            .filter(|member| {
                let key = format!("{}/{}", member.namespace, member.name);
                set.inbound
                    .as_ref()
                    .is_some_and(|inbound| inbound.decided_by.contains(&key))
            })
            .collect();
        let allows = |member: &Member| {
            let policies = set.authorization.iter().flat_map(|all| &all.policies);
            let mut named = policies.filter(|it| it.namespace == member.namespace && it.name == member.name);
            named.any(|policy| policy.action == Action::Allow)
        };
        Self {
            all: set.members.clone(),
            plaintext: if decided.is_empty() {
                of(Kind::PeerAuthentication).collect()
            } else {
                decided
            },
            tokens: of(Kind::RequestAuthentication).collect(),
            allow: of(Kind::AuthorizationPolicy).filter(allows).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::authorization::policy::{Policy, Rule};
    use mesh_core::peer_authentication::PortMode;
    use mesh_core::request::Normalization;
    use mesh_wire::authorization::AuthorizationPolicies;

    fn set(members: &[&str]) -> Set {
        let policy = |name: &str, action| Policy {
            namespace: "shop".into(),
            name: name.into(),
            action,
            rules: vec![Rule::default()],
            dry_run: false,
        };
        let received = CandidateSets {
            sets: vec![CandidateSet {
                name: "s".into(),
                members: members.iter().map(|member| member.parse().unwrap()).collect(),
                inbound: Some(Effective {
                    mode: PortMode::Strict,
                    decided_by: vec!["shop/web".into(), "shop/default".into()],
                    ..Effective::default()
                }),
                authorization: Some(AuthorizationPolicies {
                    policies: vec![
                        policy("allow", Action::Allow),
                        policy("in-force", Action::Allow),
                        policy("deny", Action::Deny),
                    ],
                    paths: Normalization::Base,
                    trusted_proxies: 0,
                    trust_domain: "cluster.local".parse().unwrap(),
                    aliases: Vec::new(),
                    providers: mesh_core::ext_authz::Providers::new(),
                }),
                tokens: None,
            }],
        };
        Candidates::new(received).unwrap().unwrap().sets.remove(0)
    }

    #[test]
    fn a_denial_is_put_down_to_what_brings_it() {
        let rule = |name: &str| RuleRef {
            namespace: "shop".into(),
            name: name.into(),
            rule: 0,
        };
        let (deny, other) = (rule("deny"), rule("in-force"));
        let everything = [
            "PeerAuthentication/shop/default",
            "PeerAuthentication/shop/idle",
            "AuthorizationPolicy/shop/allow",
            "AuthorizationPolicy/shop/deny",
            "RequestAuthentication/shop/jwt",
        ];
        for (members, why, expected) in [
            (&everything[..], Why::Plaintext, vec!["PeerAuthentication/shop/default"]),
            (&everything[..], Why::Token, vec!["RequestAuthentication/shop/jwt"]),
            (&everything[..], Why::Rule(&deny), vec!["AuthorizationPolicy/shop/deny"]),
            (
                &everything[..],
                Why::Rule(&other),
                vec!["RequestAuthentication/shop/jwt"],
            ),
            (&everything[..], Why::NoRule, vec!["AuthorizationPolicy/shop/allow"]),
            (&everything[4..], Why::NoRule, vec!["RequestAuthentication/shop/jwt"]),
            // One that replaces what allowed, and allows nothing itself.
            (&everything[3..4], Why::NoRule, vec!["AuthorizationPolicy/shop/deny"]),
            // One that is for other workloads, and replaces what was for this one.
            (&everything[1..2], Why::Plaintext, vec!["PeerAuthentication/shop/idle"]),
        ] {
            let blamed: Vec<String> = set(members).blamed(why).iter().map(ToString::to_string).collect();
            assert_eq!(blamed, expected, "{members:?} {why:?}");
        }
        let many: Vec<String> = (0..20).map(|at| format!("RequestAuthentication/shop/{at}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(set(&many).blamed(Why::Token).len(), MOST_BLAMED);
    }

    #[test]
    fn no_set_is_nothing() {
        assert!(Candidates::new(CandidateSets::default()).unwrap().is_none());
    }
}
