//! An AuthorizationPolicy, parsed: what may be decided from, whatever it was read from.

use super::matches::{AddressRange, PathMatch, TextMatch};
use crate::labels::{Labels, Selector};
use std::fmt;

/// `AuthorizationPolicy.spec.action`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets through what a rule matches; once there is such a policy, nothing else passes.
    Allow,
    /// Refuses what a rule matches.
    Deny,
    /// Notes what a rule matches.
    Audit,
    /// Asks the extension provider of this name (`meshConfig.extensionProviders`) about what a rule matches.
    Custom(String),
}

/// An AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.action`.
    pub action: Action,
    /// `spec.rules`. None at all match nothing; one without any field matches everything.
    pub rules: Vec<Rule>,
    /// Whether it only tells what it would do (annotation `istio.io/dry-run`).
    pub dry_run: bool,
}

impl Policy {
    /// `namespace/name`, as messages and records write it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The extension provider that it asks, if its action is CUSTOM.
    #[must_use]
    pub fn provider(&self) -> Option<&String> {
        match &self.action {
            Action::Custom(provider) => Some(provider),
            Action::Allow | Action::Deny | Action::Audit => None,
        }
    }
}

/// `spec.rules[]`: matches what some source, some operation and every condition match. An empty list asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// `from[].source`.
    pub from: Vec<Source>,
    /// `to[].operation`.
    pub to: Vec<Operation>,
    /// `when[]`.
    pub when: Vec<Condition>,
}

/// Values of which one must match, and values of which none may; empty lists ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted<T> {
    /// One of these, unless empty.
    pub any: Vec<T>,
    /// None of these.
    pub none: Vec<T>,
}

impl<T> Default for Wanted<T> {
    fn default() -> Self {
        Self {
            any: Vec::new(),
            none: Vec::new(),
        }
    }
}

impl<T> Wanted<T> {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

/// `rules[].from[].source`: every field must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// `principals`, `notPrincipals`: `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    pub principals: Wanted<TextMatch>,
    /// `requestPrincipals`, `notRequestPrincipals`: `ISSUER/SUBJECT` of a verified token.
    pub request_principals: Wanted<TextMatch>,
    /// `namespaces`, `notNamespaces`, of the caller's identity.
    pub namespaces: Wanted<TextMatch>,
    /// `serviceAccounts`, `notServiceAccounts`.
    pub service_accounts: Wanted<ServiceAccount>,
    /// `trustDomains`, `notTrustDomains`.
    pub trust_domains: Wanted<TextMatch>,
    /// `ipBlocks`, `notIpBlocks`, of the connection.
    pub ip_blocks: Wanted<AddressRange>,
    /// `remoteIpBlocks`, `notRemoteIpBlocks`, of the client that trusted proxies name.
    pub remote_ip_blocks: Wanted<AddressRange>,
}

/// A value of `serviceAccounts`: `NAMESPACE/SERVICE_ACCOUNT`; one that is written without a namespace is of the policy's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `rules[].to[].operation`: every field must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Operation {
    /// `hosts`, `notHosts`: without regard to case.
    pub hosts: Wanted<TextMatch>,
    /// `ports`, `notPorts`: of the workload.
    pub ports: Wanted<u16>,
    /// `methods`, `notMethods`.
    pub methods: Wanted<TextMatch>,
    /// `paths`, `notPaths`: of the normalised path, without its query.
    pub paths: Wanted<PathMatch>,
}

/// `rules[].when[]`: a `key` with its `values` and `notValues`, in the form that the key has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `request.headers[NAME]`: the name in lower case.
    Header(String, Wanted<TextMatch>),
    /// `source.ip`.
    SourceIp(Wanted<AddressRange>),
    /// `remote.ip`.
    RemoteIp(Wanted<AddressRange>),
    /// `source.namespace`.
    SourceNamespace(Wanted<TextMatch>),
    /// `source.serviceAccount`.
    SourceServiceAccount(Wanted<ServiceAccount>),
    /// `source.trustDomain`.
    SourceTrustDomain(Wanted<TextMatch>),
    /// `source.principal`.
    SourcePrincipal(Wanted<TextMatch>),
    /// `request.auth.principal`.
    RequestPrincipal(Wanted<TextMatch>),
    /// `request.auth.audiences`.
    RequestAudiences(Wanted<TextMatch>),
    /// `request.auth.presenter`: the claim `azp`.
    RequestPresenter(Wanted<TextMatch>),
    /// `request.auth.claims[NAME]`, or `[A][B]` for a claim inside of a claim.
    RequestClaim(Vec<String>, Wanted<TextMatch>),
    /// `destination.ip`.
    DestinationIp(Wanted<AddressRange>),
    /// `destination.port`.
    DestinationPort(Wanted<u16>),
    /// `connection.sni`.
    Sni(Wanted<TextMatch>),
}

/// Which workloads a policy is for: AuthorizationPolicy's and RequestAuthentication's `selector` and `targetRefs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// `spec.selector`.
    pub selector: Selector,
    /// Whether `spec.targetRef` or `targetRefs` name something: gateways and waypoints, so that no sidecar is meant.
    pub refs: bool,
}

impl Target {
    /// Whether a policy of `policy_namespace` is for a workload. All scopes that match add up: one in the root namespace
    /// is for the workloads of every namespace that its selector matches.
    #[must_use]
    pub fn is_for(&self, policy_namespace: &str, root_namespace: &str, namespace: &str, labels: &Labels) -> bool {
        !self.refs
            && (policy_namespace == namespace || policy_namespace == root_namespace)
            && self.selector.matches(labels)
    }
}
