//! Candidate sets: what would be in force for a pod if the policies of a set were. Nothing here is in force.

use std::collections::BTreeSet;

use mesh_core::authorization::policy::{Policy, Target};
use mesh_core::candidates::{self, Candidacy, Kind, MOST_SETS, Member, Replaced};
use mesh_core::jwt::Rule;
use mesh_core::labels::Labels;
use mesh_core::peer_authentication;
use mesh_wire::candidates::{CandidateSet, CandidateSets};

use super::changes::Named;
use super::enforced;
use super::shared::MeshFacts;
use super::targeted::{Entry, Targeted};
use super::world::World;

/// All candidates.
#[derive(Debug, Default)]
pub struct Candidates {
    /// The PeerAuthentications.
    pub peers: Targeted<Candidacy<peer_authentication::Policy>>,
    /// The AuthorizationPolicies.
    pub authorization: Targeted<Candidacy<Policy>>,
    /// The RequestAuthentications.
    pub tokens: Targeted<Candidacy<Vec<Rule>>>,
}

impl Candidates {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.all().next().is_none()
            && self.authorization.all().next().is_none()
            && self.tokens.all().next().is_none()
    }

    /// The names of all sets.
    #[must_use]
    pub fn sets(&self) -> BTreeSet<&str> {
        let peers = self.peers.all().map(|entry| &entry.policy.candidate);
        let authorization = self.authorization.all().map(|entry| &entry.policy.candidate);
        let tokens = self.tokens.all().map(|entry| &entry.policy.candidate);
        let all = peers.chain(authorization).chain(tokens);
        all.map(|candidate| candidate.set.as_str()).collect()
    }

    /// The names of the candidates of a kind.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<Named> {
        match kind {
            Kind::PeerAuthentication => self.peers.names().collect(),
            Kind::AuthorizationPolicy => self.authorization.names().collect(),
            Kind::RequestAuthentication => self.tokens.names().collect(),
        }
    }
}

/// A workload: where it is, and its labels.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    root: &'a str,
    namespace: &'a str,
    labels: &'a Labels,
}

impl Place<'_> {
    fn has(self, policies: &str, target: &Target) -> bool {
        target.is_for(policies, self.root, self.namespace, self.labels)
    }

    fn of_peers(self, policy: &peer_authentication::Policy) -> bool {
        policy.scope_for(self.root, self.namespace, self.labels).is_some()
    }
}

/// The candidates of a kind that concern a workload: those that are for it, and those that replace what is for it.
fn concerning<'a, P>(
    candidates: &'a Targeted<Candidacy<P>>,
    place: Place<'a>,
    is_for: impl Fn(&Entry<Candidacy<P>>) -> bool + 'a,
    in_force_is_for: impl Fn(&Named) -> bool + 'a,
) -> impl Iterator<Item = &'a Entry<Candidacy<P>>> {
    candidates.near(place.root, place.namespace).filter(move |entry| {
        let replaced = entry.policy.candidate.replaces.as_deref();
        is_for(entry) || replaced.is_some_and(|name| in_force_is_for(&(entry.name.0.clone(), name.into())))
    })
}

fn peers<'a>(
    world: &'a World,
    place: Place<'a>,
) -> impl Iterator<Item = &'a Entry<Candidacy<peer_authentication::Policy>>> {
    concerning(
        &world.enforced().candidates().peers,
        place,
        move |entry| place.of_peers(&entry.policy.policy),
        move |name| world.policy_named(name).is_some_and(|policy| place.of_peers(policy)),
    )
}

fn authorization<'a>(world: &'a World, place: Place<'a>) -> impl Iterator<Item = &'a Entry<Candidacy<Policy>>> {
    let in_force = world.enforced().authorization();
    concerning(
        &world.enforced().candidates().authorization,
        place,
        move |entry| place.has(&entry.name.0, &entry.target),
        move |name| in_force.get(name).is_some_and(|held| place.has(&name.0, &held.target)),
    )
}

fn tokens<'a>(world: &'a World, place: Place<'a>) -> impl Iterator<Item = &'a Entry<Candidacy<Vec<Rule>>>> {
    let in_force = world.enforced().tokens();
    concerning(
        &world.enforced().candidates().tokens,
        place,
        move |entry| place.has(&entry.name.0, &entry.target),
        move |name| in_force.get(name).is_some_and(|held| place.has(&name.0, &held.target)),
    )
}

/// The sets that have a candidate for a workload, in the order of their names.
fn sets<'a>(world: &'a World, place: Place<'a>) -> BTreeSet<&'a str> {
    let peers = peers(world, place).map(|entry| &entry.policy.candidate);
    let authorization = authorization(world, place).map(|entry| &entry.policy.candidate);
    let tokens = tokens(world, place).map(|entry| &entry.policy.candidate);
    let all = peers.chain(authorization).chain(tokens);
    all.map(|candidate| candidate.set.as_str()).collect()
}

/// Whether a set is among those that a workload's proxy evaluates, of the sets that have a candidate for it.
#[must_use]
pub fn is_evaluated(world: &World, mesh: &MeshFacts, set: &str, namespace: &str, labels: &Labels) -> bool {
    let place = Place {
        root: &mesh.root_namespace,
        namespace,
        labels,
    };
    sets(world, place)
        .into_iter()
        .take(MOST_SETS)
        .any(|evaluated| evaluated == set)
}

/// Compiles the sets that concern a workload.
#[must_use]
pub fn compile(world: &World, mesh: &MeshFacts, namespace: &str, labels: &Labels) -> CandidateSets {
    if world.enforced().candidates().is_empty() {
        return CandidateSets::default();
    }
    let place = Place {
        root: &mesh.root_namespace,
        namespace,
        labels,
    };
    let evaluated = sets(world, place).into_iter().take(MOST_SETS);
    CandidateSets {
        sets: evaluated.map(|set| compile_set(world, mesh, place, set)).collect(),
    }
}

fn compile_set(world: &World, mesh: &MeshFacts, place: Place<'_>, set: &str) -> CandidateSet {
    let mut members = Vec::new();
    let mut note = |kind, names: Vec<&Named>| {
        members.extend(names.iter().map(|name| Member {
            kind,
            namespace: name.0.to_string(),
            name: name.1.to_string(),
        }));
        !names.is_empty()
    };
    let mut of_peers: Vec<_> = peers(world, place)
        .filter(|entry| entry.policy.candidate.set == set)
        .collect();
    let mut of_authorization: Vec<_> = authorization(world, place)
        .filter(|entry| entry.policy.candidate.set == set)
        .collect();
    let mut of_tokens: Vec<_> = tokens(world, place)
        .filter(|entry| entry.policy.candidate.set == set)
        .collect();
    let any_peers = note(
        Kind::PeerAuthentication,
        of_peers.iter().map(|entry| &entry.name).collect(),
    );
    let any_policies = note(
        Kind::AuthorizationPolicy,
        of_authorization.iter().map(|entry| &entry.name).collect(),
    );
    let any_tokens = note(
        Kind::RequestAuthentication,
        of_tokens.iter().map(|entry| &entry.name).collect(),
    );
    CandidateSet {
        name: set.to_owned(),
        members,
        inbound: any_peers.then(|| {
            let candidates = of_peers.drain(..).map(|entry| &entry.policy);
            let in_force = world.policies_near(place.root, place.namespace);
            candidates::effective(in_force, candidates, place.root, place.namespace, place.labels)
        }),
        authorization: any_policies.then(|| {
            let in_force = world.enforced().authorization();
            let left = left(in_force, &of_authorization, place).map(|entry| entry.policy.clone());
            of_authorization.retain(|entry| place.has(&entry.name.0, &entry.target));
            let joining = of_authorization.iter().map(|entry| entry.policy.policy.clone());
            enforced::authorization(mesh, left.chain(joining).collect())
        }),
        tokens: any_tokens.then(|| {
            let in_force = world.enforced().tokens();
            let left = left(in_force, &of_tokens, place).map(|entry| (&entry.name, &entry.policy));
            of_tokens.retain(|entry| place.has(&entry.name.0, &entry.target));
            let joining = of_tokens.iter().map(|entry| (&entry.name, &entry.policy.policy));
            world.enforced().with_keys(left.chain(joining))
        }),
    }
}

/// What is in force for a workload and is not replaced.
fn left<'a, P>(
    in_force: &'a Targeted<P>,
    candidates: &[&'a Entry<Candidacy<P>>],
    place: Place<'a>,
) -> impl Iterator<Item = &'a Entry<P>> + use<'a, P> {
    let replaced = Replaced::by(candidates.iter().map(|entry| (&*entry.name.0, &entry.policy.candidate)));
    in_force
        .concerning(place.root, place.namespace, place.labels)
        .filter(move |entry| !replaced.contains(&entry.name.0, &entry.name.1))
}
