//! What decides about calls to the pod beside PeerAuthentication, made once from what the operator sent and read by every
//! request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_core::authorization::Policies;
use mesh_core::ext_authz::{Provider, Providers};
use mesh_core::jwt::{Authenticator, KeyOrigin, KeySource, Keys, KeysError};
use mesh_core::request::Normalization;
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::request_authentication::{Jwks, RequestAuthentications};

use super::candidates::{Candidates, Set};

/// What is in force.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// Which calls are taken.
    pub policies: Arc<Policies>,
    /// Whose tokens are believed.
    pub tokens: Arc<Authenticator>,
    /// Whom CUSTOM policies ask.
    pub authorizers: Arc<Authorizers>,
    /// How paths are normalised before anything is decided about them.
    pub paths: Normalization,
    /// How many proxies in front of the mesh are trusted to tell the client in `X-Forwarded-For`.
    pub trusted_proxies: u32,
    /// What is tried beside it; `None` where nothing is.
    pub candidates: Option<Arc<Candidates>>,
}

impl Authorization {
    /// The sets of candidates that are tried beside it.
    pub fn candidate_sets(&self) -> impl Iterator<Item = &Set> {
        self.candidates.iter().flat_map(|candidates| &candidates.sets)
    }
}

/// The providers that the CUSTOM policies in force ask, or why one cannot be asked.
#[derive(Debug, Default)]
pub struct Authorizers(BTreeMap<String, Result<Provider, String>>);

impl Authorizers {
    fn new(policies: &Policies, received: &Providers) -> Self {
        let several = policies.providers().count() > 1;
        let provider = |name: &str| match received.get(name) {
            _ if several => {
                Err("the workload's CUSTOM policies name several providers, and it may have one".to_owned())
            }
            Some(provider) => provider.clone(),
            None => Err("the operator does not say how it is asked".to_owned()),
        };
        Self(
            policies
                .providers()
                .map(|name| (name.to_owned(), provider(name)))
                .collect(),
        )
    }

    /// A provider.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub fn get(&self, name: &str) -> Result<&Provider, &str> {
        match self.0.get(name) {
            Some(Ok(provider)) => Ok(provider),
            Some(Err(problem)) => Err(problem),
            None => Err("no policy names it"),
        }
    }

    /// Whether a provider is asked about connections that are not HTTP, or denies them since it cannot be asked at all.
    #[must_use]
    pub fn knows_connections(&self, name: &str) -> bool {
        self.get(name)
            .map_or(true, |provider| provider.settings.knows_connections())
    }
}

/// AuthorizationPolicies as they were received, and compiled.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) received: Arc<AuthorizationPolicies>,
    pub(super) policies: Arc<Policies>,
    authorizers: Arc<Authorizers>,
}

impl Compiled {
    pub(super) fn new(received: AuthorizationPolicies) -> Self {
        let policies = Policies::compile(received.policies.clone(), &received.trust_domain, &received.aliases);
        let authorizers = Authorizers::new(&policies, &received.providers);
        Self {
            received: Arc::new(received),
            policies: Arc::new(policies),
            authorizers: Arc::new(authorizers),
        }
    }
}

/// RequestAuthentications as they were received, and ready to verify tokens.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) received: Arc<RequestAuthentications>,
    /// Where their keys are fetched, each once, by name.
    pub(super) origins: Arc<[Arc<str>]>,
    pub(super) tokens: Arc<Authenticator>,
}

impl Ready {
    /// Reads the keys.
    ///
    /// # Errors
    /// The policy and issuer whose keys cannot be read.
    pub(super) fn new(received: RequestAuthentications) -> Result<Self, UnreadableKeys> {
        let mut rules = Vec::new();
        let mut origins: BTreeSet<Arc<str>> = BTreeSet::new();
        for policy in &received.policies {
            for (rule, jwks) in &policy.rules {
                let keys = match jwks {
                    Jwks::Known(text) => Keys::parse(text).map_err(|error| UnreadableKeys {
                        policy: format!("{}/{}", policy.namespace, policy.name),
                        issuer: rule.issuer.chars().take(200).collect(),
                        error,
                    })?,
                    Jwks::Missing(reason) if matches!(rule.keys, KeySource::Inline(_)) => Keys::unusable(reason),
                    Jwks::Missing(reason) => Keys::not_fetched(reason),
                };
                let origin: Option<Arc<str>> =
                    KeyOrigin::of(&policy.namespace, rule).map(|origin| origin.name().into());
                origins.extend(origin.clone());
                rules.push((rule.clone(), keys.fetched_from(origin)));
            }
        }
        Ok(Self {
            received: Arc::new(received),
            origins: origins.into_iter().collect(),
            tokens: Arc::new(Authenticator::new(rules)),
        })
    }
}

/// Keys that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("RequestAuthentication {policy}: keys of issuer {issuer:?}: {error}")]
pub(super) struct UnreadableKeys {
    policy: String,
    issuer: String,
    error: KeysError,
}

/// Both, as far as they were received, and what is tried beside them, for which nobody waits.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) policies: Option<Compiled>,
    pub(super) tokens: Option<Ready>,
    pub(super) candidates: Option<Arc<Candidates>>,
}

impl Parts {
    /// What is in force once both were received: one without the other would let calls pass that the other refuses.
    pub(super) fn together(&self) -> Option<Authorization> {
        let (policies, tokens) = (self.policies.as_ref()?, self.tokens.as_ref()?);
        Some(Authorization {
            policies: policies.policies.clone(),
            tokens: tokens.tokens.clone(),
            authorizers: policies.authorizers.clone(),
            paths: policies.received.paths,
            trusted_proxies: policies.received.trusted_proxies,
            candidates: self.candidates.clone(),
        })
    }
}
