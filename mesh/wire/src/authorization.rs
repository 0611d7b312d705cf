//! Between the messages of AuthorizationPolicies and `mesh_core`'s types. A message is refused whole when any match in it is
//! not what it must be: a policy that is half understood would let through what the whole of it refuses.

use crate::convert::ConvertError;
use crate::ext_authz;
use crate::resources as wire;
use crate::resources::{AuthorizationAction, ConditionKey, PathNormalization, Values};
use mesh_core::authorization::matches::{AddressRange, PathMatch, TextMatch};
use mesh_core::authorization::policy::{Action, Condition, Operation, Policy, Rule, ServiceAccount, Source, Wanted};
use mesh_core::ext_authz::Providers;
use mesh_core::identity::TrustDomain;
use mesh_core::request::Normalization;
use std::fmt::Display;

/// Every AuthorizationPolicy that is for a pod, and what decides beside them, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationPolicies {
    /// The policies, those of the root namespace first.
    pub policies: Vec<Policy>,
    /// How paths are normalised before anything is decided.
    pub paths: Normalization,
    /// How many proxies in front of the mesh are trusted to tell the client in `X-Forwarded-For`.
    pub trusted_proxies: u32,
    /// The mesh's trust domain, under which principals are compiled.
    pub trust_domain: TrustDomain,
    /// Further trust domains that count as the mesh's own.
    pub aliases: Vec<TrustDomain>,
    /// The providers that CUSTOM policies name.
    pub providers: Providers,
}

impl TryFrom<&wire::AuthorizationPolicies> for AuthorizationPolicies {
    type Error = ConvertError;

    fn try_from(message: &wire::AuthorizationPolicies) -> Result<Self, ConvertError> {
        let aliases = message.aliases.iter().map(|alias| TrustDomain::new(alias));
        Ok(Self {
            policies: message.policies.iter().map(policy).collect::<Result<_, _>>()?,
            paths: paths_from(message.paths)?,
            trusted_proxies: message.trusted_proxies,
            trust_domain: TrustDomain::new(&message.trust_domain)?,
            aliases: aliases.collect::<Result<_, _>>()?,
            providers: ext_authz::providers(&message.providers),
        })
    }
}

impl From<&AuthorizationPolicies> for wire::AuthorizationPolicies {
    fn from(policies: &AuthorizationPolicies) -> Self {
        Self {
            policies: policies.policies.iter().map(Into::into).collect(),
            paths: paths_to(policies.paths).into(),
            trusted_proxies: policies.trusted_proxies,
            trust_domain: policies.trust_domain.to_string(),
            aliases: policies.aliases.iter().map(ToString::to_string).collect(),
            providers: ext_authz::messages(&policies.providers),
        }
    }
}

fn paths_from(value: i32) -> Result<Normalization, ConvertError> {
    match PathNormalization::try_from(value) {
        Ok(PathNormalization::None) => Ok(Normalization::None),
        Ok(PathNormalization::Base) => Ok(Normalization::Base),
        Ok(PathNormalization::MergeSlashes) => Ok(Normalization::MergeSlashes),
        Ok(PathNormalization::DecodeAndMergeSlashes) => Ok(Normalization::DecodeAndMergeSlashes),
        Ok(PathNormalization::Invalid) | Err(_) => Err(ConvertError::Enumeration { field: "paths", value }),
    }
}

fn paths_to(paths: Normalization) -> PathNormalization {
    match paths {
        Normalization::None => PathNormalization::None,
        Normalization::Base => PathNormalization::Base,
        Normalization::MergeSlashes => PathNormalization::MergeSlashes,
        Normalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
    }
}

fn policy(message: &wire::AuthorizationPolicy) -> Result<Policy, ConvertError> {
    let action = match AuthorizationAction::try_from(message.action) {
        Ok(AuthorizationAction::Allow) => Action::Allow,
        Ok(AuthorizationAction::Deny) => Action::Deny,
        Ok(AuthorizationAction::Audit) => Action::Audit,
        Ok(AuthorizationAction::Custom) => Action::Custom(message.provider.clone()),
        Ok(AuthorizationAction::Invalid) | Err(_) => {
            return Err(ConvertError::Enumeration {
                field: "policies.action",
                value: message.action,
            });
        }
    };
    Ok(Policy {
        namespace: message.namespace.clone(),
        name: message.name.clone(),
        action,
        rules: message.rules.iter().map(rule).collect::<Result<_, _>>()?,
        dry_run: message.dry_run,
    })
}

impl From<&Policy> for wire::AuthorizationPolicy {
    fn from(policy: &Policy) -> Self {
        let (action, provider) = match &policy.action {
            Action::Allow => (AuthorizationAction::Allow, ""),
            Action::Deny => (AuthorizationAction::Deny, ""),
            Action::Audit => (AuthorizationAction::Audit, ""),
            Action::Custom(provider) => (AuthorizationAction::Custom, provider.as_str()),
        };
        Self {
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            action: action.into(),
            provider: provider.to_owned(),
            rules: policy.rules.iter().map(Into::into).collect(),
            dry_run: policy.dry_run,
        }
    }
}

fn rule(message: &wire::AuthorizationRule) -> Result<Rule, ConvertError> {
    Ok(Rule {
        from: message.from.iter().map(source).collect::<Result<_, _>>()?,
        to: message.to.iter().map(operation).collect::<Result<_, _>>()?,
        when: message.when.iter().map(condition).collect::<Result<_, _>>()?,
    })
}

impl From<&Rule> for wire::AuthorizationRule {
    fn from(rule: &Rule) -> Self {
        Self {
            from: rule.from.iter().map(Into::into).collect(),
            to: rule.to.iter().map(Into::into).collect(),
            when: rule.when.iter().map(Into::into).collect(),
        }
    }
}

fn source(message: &wire::AuthorizationSource) -> Result<Source, ConvertError> {
    Ok(Source {
        principals: wanted("from.principals", message.principals.as_ref(), text)?,
        request_principals: wanted("from.requestPrincipals", message.request_principals.as_ref(), text)?,
        namespaces: wanted("from.namespaces", message.namespaces.as_ref(), text)?,
        service_accounts: wanted("from.serviceAccounts", message.service_accounts.as_ref(), account)?,
        trust_domains: wanted("from.trustDomains", message.trust_domains.as_ref(), text)?,
        ip_blocks: wanted("from.ipBlocks", message.ip_blocks.as_ref(), addresses)?,
        remote_ip_blocks: wanted("from.remoteIpBlocks", message.remote_ip_blocks.as_ref(), addresses)?,
    })
}

impl From<&Source> for wire::AuthorizationSource {
    fn from(source: &Source) -> Self {
        Self {
            principals: values(&source.principals),
            request_principals: values(&source.request_principals),
            namespaces: values(&source.namespaces),
            service_accounts: values(&source.service_accounts),
            trust_domains: values(&source.trust_domains),
            ip_blocks: values(&source.ip_blocks),
            remote_ip_blocks: values(&source.remote_ip_blocks),
        }
    }
}

fn operation(message: &wire::AuthorizationOperation) -> Result<Operation, ConvertError> {
    Ok(Operation {
        hosts: wanted("to.hosts", message.hosts.as_ref(), text)?,
        ports: wanted("to.ports", message.ports.as_ref(), port)?,
        methods: wanted("to.methods", message.methods.as_ref(), text)?,
        paths: wanted("to.paths", message.paths.as_ref(), path)?,
    })
}

impl From<&Operation> for wire::AuthorizationOperation {
    fn from(operation: &Operation) -> Self {
        Self {
            hosts: values(&operation.hosts),
            ports: values(&operation.ports),
            methods: values(&operation.methods),
            paths: values(&operation.paths),
        }
    }
}

fn condition(message: &wire::AuthorizationCondition) -> Result<Condition, ConvertError> {
    let key = ConditionKey::try_from(message.key).unwrap_or(ConditionKey::Invalid);
    let given = message.values.as_ref();
    let texts = || wanted("when.values", given, text);
    let ranges = || wanted("when.values", given, addresses);
    let condition = match (key, &message.name[..]) {
        (ConditionKey::Header, [name]) if !name.is_empty() => Condition::Header(name.clone(), texts()?),
        (ConditionKey::RequestClaim, [_, ..]) => Condition::RequestClaim(message.name.clone(), texts()?),
        (ConditionKey::Header | ConditionKey::RequestClaim, _) => return Err(ConvertError::Empty("when.name")),
        // A name that means nothing here may mean something to whoever sent it.
        (_, [_, ..]) => return Err(unknown(message.key)),
        (ConditionKey::SourceIp, []) => Condition::SourceIp(ranges()?),
        (ConditionKey::RemoteIp, []) => Condition::RemoteIp(ranges()?),
        (ConditionKey::SourceNamespace, []) => Condition::SourceNamespace(texts()?),
        (ConditionKey::SourceServiceAccount, []) => {
            Condition::SourceServiceAccount(wanted("when.values", given, account)?)
        }
        (ConditionKey::SourceTrustDomain, []) => Condition::SourceTrustDomain(texts()?),
        (ConditionKey::SourcePrincipal, []) => Condition::SourcePrincipal(texts()?),
        (ConditionKey::RequestPrincipal, []) => Condition::RequestPrincipal(texts()?),
        (ConditionKey::RequestAudiences, []) => Condition::RequestAudiences(texts()?),
        (ConditionKey::RequestPresenter, []) => Condition::RequestPresenter(texts()?),
        (ConditionKey::DestinationIp, []) => Condition::DestinationIp(ranges()?),
        (ConditionKey::DestinationPort, []) => Condition::DestinationPort(wanted("when.values", given, port)?),
        (ConditionKey::Sni, []) => Condition::Sni(texts()?),
        (ConditionKey::Invalid, []) => return Err(unknown(message.key)),
    };
    Ok(condition)
}

fn unknown(key: i32) -> ConvertError {
    ConvertError::Enumeration {
        field: "when.key",
        value: key,
    }
}

impl From<&Condition> for wire::AuthorizationCondition {
    fn from(condition: &Condition) -> Self {
        let (key, name, values) = match condition {
            Condition::Header(name, wanted) => (ConditionKey::Header, vec![name.clone()], values(wanted)),
            Condition::SourceIp(wanted) => (ConditionKey::SourceIp, Vec::new(), values(wanted)),
            Condition::RemoteIp(wanted) => (ConditionKey::RemoteIp, Vec::new(), values(wanted)),
            Condition::SourceNamespace(wanted) => (ConditionKey::SourceNamespace, Vec::new(), values(wanted)),
            Condition::SourceServiceAccount(wanted) => (ConditionKey::SourceServiceAccount, Vec::new(), values(wanted)),
            Condition::SourceTrustDomain(wanted) => (ConditionKey::SourceTrustDomain, Vec::new(), values(wanted)),
            Condition::SourcePrincipal(wanted) => (ConditionKey::SourcePrincipal, Vec::new(), values(wanted)),
            Condition::RequestPrincipal(wanted) => (ConditionKey::RequestPrincipal, Vec::new(), values(wanted)),
            Condition::RequestAudiences(wanted) => (ConditionKey::RequestAudiences, Vec::new(), values(wanted)),
            Condition::RequestPresenter(wanted) => (ConditionKey::RequestPresenter, Vec::new(), values(wanted)),
            Condition::RequestClaim(name, wanted) => (ConditionKey::RequestClaim, name.clone(), values(wanted)),
            Condition::DestinationIp(wanted) => (ConditionKey::DestinationIp, Vec::new(), values(wanted)),
            Condition::DestinationPort(wanted) => (ConditionKey::DestinationPort, Vec::new(), values(wanted)),
            Condition::Sni(wanted) => (ConditionKey::Sni, Vec::new(), values(wanted)),
        };
        Self {
            key: key.into(),
            name,
            values,
        }
    }
}

fn wanted<T>(
    field: &'static str,
    values: Option<&Values>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Wanted<T>, ConvertError> {
    let Some(values) = values else {
        return Ok(Wanted::default());
    };
    let each = |value: &String| {
        parse(value).map_err(|reason| ConvertError::Text {
            field,
            value: value.chars().take(100).collect(),
            reason,
        })
    };
    Ok(Wanted {
        any: values.any.iter().map(each).collect::<Result<_, _>>()?,
        none: values.none.iter().map(each).collect::<Result<_, _>>()?,
    })
}

fn values<T: Display>(wanted: &Wanted<T>) -> Option<Values> {
    (!wanted.is_empty()).then(|| Values {
        any: wanted.any.iter().map(ToString::to_string).collect(),
        none: wanted.none.iter().map(ToString::to_string).collect(),
    })
}

#[allow(clippy::unnecessary_wraps, reason = "one of several parsers")]
fn text(value: &str) -> Result<TextMatch, String> {
    Ok(TextMatch::parse(value))
}

fn path(value: &str) -> Result<PathMatch, String> {
    PathMatch::parse(value).map_err(|error| error.to_string())
}

fn addresses(value: &str) -> Result<AddressRange, String> {
    AddressRange::parse(value).map_err(|error| error.to_string())
}

fn account(value: &str) -> Result<ServiceAccount, String> {
    match value.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        _ => Err("expected NAMESPACE/SERVICE_ACCOUNT".to_owned()),
    }
}

fn port(value: &str) -> Result<u16, String> {
    let port = value.parse::<u16>().ok().filter(|port| *port != 0);
    port.ok_or_else(|| "expected 1 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn texts(any: &[&str], none: &[&str]) -> Wanted<TextMatch> {
        let list = |list: &[&str]| list.iter().map(|value| TextMatch::parse(value)).collect();
        Wanted {
            any: list(any),
            none: list(none),
        }
    }

    fn ranges(any: &str, none: &str) -> Wanted<AddressRange> {
        Wanted {
            any: vec![AddressRange::parse(any).unwrap()],
            none: vec![AddressRange::parse(none).unwrap()],
        }
    }

    fn accounts() -> Wanted<ServiceAccount> {
        Wanted {
            any: vec![account("shop/web").unwrap()],
            none: vec![account("shop/batch").unwrap()],
        }
    }

    fn ports() -> Wanted<u16> {
        Wanted {
            any: vec![80],
            none: vec![65535],
        }
    }

    fn whole() -> AuthorizationPolicies {
        let forms = || texts(&["abc", "abc*", "*abc"], &["*", ""]);
        let rule = Rule {
            from: vec![
                Source {
                    principals: forms(),
                    request_principals: texts(&["https://issuer.example/*"], &["*"]),
                    namespaces: forms(),
                    service_accounts: accounts(),
                    trust_domains: forms(),
                    ip_blocks: ranges("10.0.0.0/8", "10.1.2.3"),
                    remote_ip_blocks: ranges("fd00::/8", "::1"),
                },
                Source::default(),
            ],
            to: vec![
                Operation {
                    hosts: texts(&["*.example", "example:8080"], &["a.*"]),
                    ports: ports(),
                    methods: forms(),
                    paths: Wanted {
                        any: ["/", "/a*", "*.html", "*", "/a/{*}/b", "/a/{**}"]
                            .map(|path| PathMatch::parse(path).unwrap())
                            .into(),
                        none: vec![PathMatch::parse("/{**}/x").unwrap()],
                    },
                },
                Operation::default(),
            ],
            when: vec![
                Condition::Header("x-tenant".into(), forms()),
                Condition::SourceIp(ranges("10.0.0.0/8", "10.1.2.3")),
                Condition::RemoteIp(ranges("10.0.0.0/8", "10.1.2.3")),
                Condition::SourceNamespace(forms()),
                Condition::SourceServiceAccount(accounts()),
                Condition::SourceTrustDomain(forms()),
                Condition::SourcePrincipal(forms()),
                Condition::RequestPrincipal(forms()),
                Condition::RequestAudiences(forms()),
                Condition::RequestPresenter(forms()),
                Condition::RequestClaim(vec!["realm_access".into(), "roles".into()], forms()),
                Condition::DestinationIp(ranges("10.0.0.0/8", "10.1.2.3")),
                Condition::DestinationPort(ports()),
                Condition::Sni(forms()),
            ],
        };
        let policy = |name: &str, action, rules: Vec<Rule>| Policy {
            namespace: "shop".into(),
            name: name.into(),
            action,
            rules,
            dry_run: name == "tried",
        };
        AuthorizationPolicies {
            policies: vec![
                policy("all", Action::Allow, vec![rule, Rule::default()]),
                policy("nothing", Action::Allow, Vec::new()),
                policy("tried", Action::Deny, vec![Rule::default()]),
                policy("noted", Action::Audit, vec![Rule::default()]),
                policy("asked", Action::Custom("opa".into()), vec![Rule::default()]),
            ],
            paths: Normalization::MergeSlashes,
            trusted_proxies: 2,
            trust_domain: "cluster.local".parse().unwrap(),
            aliases: vec!["old.example".parse().unwrap()],
            providers: [("opa".to_owned(), Err("no such provider".to_owned()))].into(),
        }
    }

    #[test]
    fn everything_survives_the_wire() {
        let bytes = wire::AuthorizationPolicies::from(&whole()).encode_to_vec();
        let message = wire::AuthorizationPolicies::decode(&bytes[..]).unwrap();
        assert_eq!(AuthorizationPolicies::try_from(&message), Ok(whole()));
        for paths in [
            Normalization::None,
            Normalization::Base,
            Normalization::MergeSlashes,
            Normalization::DecodeAndMergeSlashes,
        ] {
            let policies = AuthorizationPolicies { paths, ..whole() };
            let message = wire::AuthorizationPolicies::from(&policies);
            assert_eq!(AuthorizationPolicies::try_from(&message), Ok(policies));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        type Damage = (&'static str, fn(&mut wire::AuthorizationPolicies));
        fn rule(message: &mut wire::AuthorizationPolicies) -> &mut wire::AuthorizationRule {
            &mut message.policies[0].rules[0]
        }
        fn only(value: &str) -> Option<Values> {
            Some(Values {
                any: vec![value.to_owned()],
                none: Vec::new(),
            })
        }
        let damage: [Damage; 15] = [
            ("paths: 0 is not", |m| m.paths = 0),
            ("paths: 99 is not", |m| m.paths = 99),
            ("trust domain", |m| m.trust_domain.clear()),
            ("trust domain \"X\"", |m| m.aliases.push("X".into())),
            ("policies.action: 0", |m| m.policies[0].action = 0),
            ("policies.action: 9", |m| m.policies[0].action = 9),
            ("from.ipBlocks: \"10.0.0.0/33\"", |m| {
                rule(m).from[0].ip_blocks = only("10.0.0.0/33")
            }),
            ("from.remoteIpBlocks: \"x\"", |m| {
                rule(m).from[0].remote_ip_blocks = only("x")
            }),
            ("from.serviceAccounts: \"web\"", |m| {
                rule(m).from[0].service_accounts = only("web")
            }),
            ("to.ports: \"0\"", |m| rule(m).to[0].ports = only("0")),
            ("to.paths: \"/{x}\"", |m| rule(m).to[0].paths = only("/{x}")),
            ("when.key: 0", |m| rule(m).when[1].key = 0),
            ("when.key: 77", |m| rule(m).when[1].key = 77),
            ("when.name: empty", |m| rule(m).when[0].name.clear()),
            ("when.key: 2", |m| rule(m).when[1].name.push("x".into())),
        ];
        for (reason, damage) in damage {
            let mut message = wire::AuthorizationPolicies::from(&whole());
            damage(&mut message);
            let error = AuthorizationPolicies::try_from(&message).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{reason}: {error}");
        }
        assert!(AuthorizationPolicies::try_from(&wire::AuthorizationPolicies::default()).is_err());
    }
}
