//! What decides about calls to the pod beside PeerAuthentication, made once from what the operator sent and read by every
//! request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::authorization::Policies;
use mesh_core::ext_authz::{Provider, Providers};
use mesh_core::jwt::{Authenticator, KeyOrigin, KeySource, Keys, KeysError, Rule};
use mesh_core::request::Normalization;
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::request_authentication::{Jwks, RequestAuthentications};

use super::candidates::{Candidates, Set};

/// How long keys stay that no operator has fetched since, as long as one that cannot fetch them any more keeps them.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// The keys in use that were fetched, by the name of their origin.
    keys: HashMap<Arc<str>, Keys>,
}

impl Ready {
    /// Reads the keys.
    ///
    /// # Errors
    /// The policy and issuer whose keys cannot be read.
    pub(super) fn new(received: RequestAuthentications) -> Result<Self, UnreadableKeys> {
        Self::build(Arc::new(received), |_| None)
    }

    /// With the keys that were in use `before`, for a bounded time, where the operator has not fetched any yet: one that has
    /// just begun knows none, and its provider may be down at that moment.
    ///
    /// # Errors
    /// As [`Ready::new`].
    pub(super) fn keeping(self, before: &Self, now: SystemTime) -> Result<Self, UnreadableKeys> {
        let kept = |origin: &str| before.keys.get(origin).map(|keys| keys.clone().until(now + KEPT));
        let unfetched = |(namespace, (rule, jwks)): (&str, &(Rule, Jwks))| {
            let origin = KeyOrigin::of(namespace, rule).filter(|_| matches!(jwks, Jwks::Missing(_)));
            origin
                .map(|origin| origin.name())
                .filter(|name| before.keys.contains_key(name.as_str()))
        };
        let policies = self.received.policies.iter();
        let rules = policies.flat_map(|policy| policy.rules.iter().map(|rule| (policy.namespace.as_str(), rule)));
        let origins: BTreeSet<String> = rules.filter_map(unfetched).collect();
        if origins.is_empty() {
            return Ok(self);
        }
        tracing::warn!(
            ?origins,
            "the operator has not fetched these keys yet; the last ones stay"
        );
        Self::build(self.received, kept)
    }

    fn build(
        received: Arc<RequestAuthentications>,
        kept: impl Fn(&str) -> Option<Keys>,
    ) -> Result<Self, UnreadableKeys> {
        let mut in_use = HashMap::new();
        let mut rules = Vec::new();
        let mut origins: BTreeSet<Arc<str>> = BTreeSet::new();
        for policy in &received.policies {
            for (rule, jwks) in &policy.rules {
                let origin: Option<Arc<str>> =
                    KeyOrigin::of(&policy.namespace, rule).map(|origin| origin.name().into());
                let keys = match jwks {
                    Jwks::Known(text) => Keys::parse(text).map_err(|error| UnreadableKeys {
                        policy: format!("{}/{}", policy.namespace, policy.name),
                        issuer: rule.issuer.chars().take(200).collect(),
                        error,
                    })?,
                    Jwks::Missing(reason) if matches!(rule.keys, KeySource::Inline(_)) => Keys::unusable(reason),
                    Jwks::Missing(reason) => {
                        let kept = origin.as_deref().and_then(&kept);
                        kept.unwrap_or_else(|| Keys::not_fetched(reason))
                    }
                    Jwks::Ended(reason) => Keys::not_fetched(reason),
                };
                let keys = keys.fetched_from(origin.clone());
                if let Some(origin) = origin {
                    if keys.missing().is_none() {
                        in_use.insert(origin.clone(), keys.clone());
                    }
                    origins.insert(origin);
                }
                rules.push((rule.clone(), keys));
            }
        }
        Ok(Self {
            origins: origins.into_iter().collect(),
            tokens: Arc::new(Authenticator::new(rules)),
            keys: in_use,
            received,
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

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use mesh_core::jwt::Reason;
    use mesh_wire::request_authentication::RequestAuthentication;

    const HOUR: Duration = Duration::from_secs(3600);

    fn told(namespace: &str, jwks: Jwks) -> Ready {
        let rule = Rule::new("https://issuer.example", KeySource::Discovery);
        let policy = RequestAuthentication {
            namespace: namespace.into(),
            name: "jwt".into(),
            rules: vec![(rule, jwks)],
        };
        Ready::new(RequestAuthentications { policies: vec![policy] }).unwrap()
    }

    /// Why a token that nobody has signed is refused: where there are keys, for its signature.
    fn refused(ready: &Ready, now: SystemTime) -> Reason {
        let [head, payload] = ["{\"alg\": \"EdDSA\"}", "{\"iss\": \"https://issuer.example\"}"];
        let [head, payload] = [head, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        let mut headers = http::HeaderMap::new();
        headers.insert(
            "authorization",
            format!("Bearer {head}.{payload}.AAAA").parse().unwrap(),
        );
        let refusal = ready.tokens.authenticate(&http::Method::GET, &headers, "/", now);
        refusal.unwrap_err().reason()
    }

    #[test]
    fn keys_outlive_an_operator_that_has_fetched_none_for_a_bounded_time() {
        let now = SystemTime::now();
        let known = || told("shop", Jwks::Known(crate::discovery::tests::JWKS.into()));
        let missing = || told("shop", Jwks::Missing("they are not fetched yet".into()));
        let ended = || told("shop", Jwks::Ended("connection refused".into()));
        assert_eq!(refused(&known(), now), Reason::Signature);
        assert_eq!(refused(&missing(), now), Reason::KeysNotFetched);

        let kept = missing().keeping(&known(), now).unwrap();
        assert_eq!(kept.origins.len(), 1, "newer ones may be asked for");
        // Another operator that knows none makes it no longer.
        let again = missing().keeping(&kept, now + HOUR).unwrap();
        for ready in [&kept, &again] {
            assert_eq!(refused(ready, now), Reason::Signature);
            assert_eq!(refused(ready, now + KEPT - HOUR), Reason::Signature);
            assert_eq!(refused(ready, now + KEPT), Reason::KeysNotFetched);
        }
        let fresh = known().keeping(&kept, now).unwrap();
        assert_eq!(refused(&fresh, now + KEPT), Reason::Signature);

        // What the operator gave up is given up.
        let ended = ended().keeping(&kept, now).unwrap();
        assert_eq!(refused(&ended, now), Reason::KeysNotFetched);
        assert_eq!(
            refused(&missing().keeping(&ended, now).unwrap(), now),
            Reason::KeysNotFetched
        );
        // Another namespace sees another address under that name.
        let other = told("other", Jwks::Missing("they are not fetched yet".into()));
        assert_eq!(
            refused(&other.keeping(&known(), now).unwrap(), now),
            Reason::KeysNotFetched
        );
    }
}
