//! What a pod's own proxy enforces beside PeerAuthentication: AuthorizationPolicies, and RequestAuthentications with the
//! keys that were fetched for them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mesh_core::authorization::policy::{Policy, Target};
use mesh_core::jwt::{DEFAULT_TIMEOUT, KeyOrigin, KeySource, Keys, Rule};
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::request_authentication::{Jwks, RequestAuthentication, RequestAuthentications};

use super::candidates::Candidates;
use super::changes::Named;
use super::providers;
use super::shared::MeshFacts;
use super::targeted::Targeted;

/// All of it.
#[derive(Debug, Default)]
pub struct Enforced {
    authorization: Targeted<Policy>,
    tokens: Targeted<Vec<Rule>>,
    keys: HashMap<KeyOrigin, Jwks>,
    candidates: Candidates,
}

impl Enforced {
    /// The AuthorizationPolicies.
    #[must_use]
    pub fn authorization(&self) -> &Targeted<Policy> {
        &self.authorization
    }

    /// The RequestAuthentications.
    #[must_use]
    pub fn tokens(&self) -> &Targeted<Vec<Rule>> {
        &self.tokens
    }

    /// Where keys are to be fetched, and how long that may take: as long as the most patient rule says.
    #[must_use]
    pub fn key_origins(&self) -> BTreeMap<KeyOrigin, Duration> {
        let mut origins = BTreeMap::new();
        let in_force = self.tokens.all().map(|entry| (&entry.name, &entry.policy));
        let tried = self.candidates.tokens.all();
        for (name, rules) in in_force.chain(tried.map(|entry| (&entry.name, &entry.policy.policy))) {
            for rule in rules {
                if let Some(origin) = KeyOrigin::of(&name.0, rule) {
                    let longest: &mut Duration = origins.entry(origin).or_default();
                    *longest = (*longest).max(rule.timeout.unwrap_or(DEFAULT_TIMEOUT));
                }
            }
        }
        origins
    }

    pub(super) fn authorization_mut(&mut self) -> &mut Targeted<Policy> {
        &mut self.authorization
    }

    /// What is tried and not in force.
    #[must_use]
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    pub(super) fn candidates_mut(&mut self) -> &mut Candidates {
        &mut self.candidates
    }

    pub(super) fn tokens_mut(&mut self) -> &mut Targeted<Vec<Rule>> {
        &mut self.tokens
    }

    /// Takes what was fetched from an origin, or nothing that is known of it any more; the policies that it concerns.
    pub(super) fn set_keys(&mut self, origin: &KeyOrigin, keys: Option<Jwks>) -> Vec<(Named, Target)> {
        let same = self.keys.get(origin) == keys.as_ref();
        match keys {
            Some(keys) => self.keys.insert(origin.clone(), keys),
            None => self.keys.remove(origin),
        };
        if same {
            return Vec::new();
        }
        let uses = |name: &Named, rules: &[Rule]| {
            let mut origins = rules.iter().filter_map(|rule| KeyOrigin::of(&name.0, rule));
            origins.any(|used| used == *origin)
        };
        let mut concerned = self.tokens.renew(|name, rules| uses(name, rules));
        let tried = &mut self.candidates.tokens;
        concerned.extend(tried.renew(|name, tried| uses(name, &tried.policy)));
        concerned
    }

    /// What is known of a rule's keys.
    #[must_use]
    pub fn keys_of(&self, namespace: &str, rule: &Rule) -> Jwks {
        if let KeySource::Inline(text) = &rule.keys {
            // What a proxy could not read would keep it from taking all the others.
            return match Keys::parse(text) {
                Ok(_) => Jwks::Known(text.as_str().into()),
                Err(error) => Jwks::Missing(error.to_string().into()),
            };
        }
        let fetched = KeyOrigin::of(namespace, rule).and_then(|origin| self.keys.get(&origin));
        fetched
            .cloned()
            .unwrap_or_else(|| Jwks::Missing("they are not fetched yet".into()))
    }

    /// RequestAuthentications as a proxy gets them.
    pub(super) fn with_keys<'a>(
        &self,
        policies: impl Iterator<Item = (&'a Named, &'a Vec<Rule>)>,
    ) -> RequestAuthentications {
        let with_keys = |(name, rules): (&Named, &Vec<Rule>)| RequestAuthentication {
            namespace: name.0.to_string(),
            name: name.1.to_string(),
            rules: rules
                .iter()
                .map(|rule| (rule.clone(), self.keys_of(&name.0, rule)))
                .collect(),
        };
        RequestAuthentications {
            policies: policies.map(with_keys).collect(),
        }
    }
}

/// AuthorizationPolicies as a proxy gets them.
pub(super) fn authorization(mesh: &MeshFacts, policies: Vec<Policy>) -> AuthorizationPolicies {
    let asked = policies.iter().filter_map(Policy::provider);
    AuthorizationPolicies {
        providers: asked.map(|name| (name.clone(), providers::named(mesh, name))).collect(),
        policies,
        paths: mesh.paths,
        trusted_proxies: mesh.trusted_proxies,
        trust_domain: mesh.trust_domain.clone(),
        aliases: mesh.aliases.clone(),
    }
}
