//! The policies in force, as `/policies` shows them.

use crate::discovery::Candidates;
use mesh_core::authorization::policy::{Action, Policy as Rules};
use mesh_core::peer_authentication::{Effective, PortMode};
use mesh_wire::admin::{AuthorizationPolicy, CandidateSet, JwtRule, Policies, Policy, RequestAuthentication};
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::request_authentication::{Jwks, RequestAuthentications};

/// What holds, and what decided it.
pub(in crate::sidecar) fn policies(
    peers: Option<&Effective>,
    calls: Option<(&AuthorizationPolicies, &RequestAuthentications)>,
    version: String,
) -> Policies {
    let mut shown = Policies {
        received: peers.is_some() && calls.is_some(),
        version,
        ..Policies::default()
    };
    if let Some(policy) = peers {
        shown.policies = peer_authentication(policy);
    }
    if let Some((authorization, tokens)) = calls {
        shown.authorization_policies = authorization.policies.iter().map(authorization_policy).collect();
        shown.request_authentications = request_authentications(tokens);
        shown.path_normalization = authorization.paths.to_string();
        shown.trusted_proxies = authorization.trusted_proxies;
    }
    shown
}

/// What is tried and not in force.
pub(in crate::sidecar) fn candidate_sets(candidates: &Candidates) -> Vec<CandidateSet> {
    let sets = candidates.received().sets.iter().map(|set| CandidateSet {
        name: set.name.clone(),
        candidates: set.members.iter().map(ToString::to_string).collect(),
        policies: set.inbound.as_ref().map(peer_authentication).unwrap_or_default(),
    });
    sets.collect()
}

fn peer_authentication(policy: &Effective) -> Vec<Policy> {
    let row = |port, mode: PortMode| Policy {
        kind: "PeerAuthentication".to_owned(),
        port,
        mode: mode.to_string(),
        decided_by: policy.decided_by.clone(),
    };
    let ports = policy.ports.iter().map(|(port, mode)| row(Some(*port), *mode));
    std::iter::once(row(None, policy.mode)).chain(ports).collect()
}

fn authorization_policy(policy: &Rules) -> AuthorizationPolicy {
    let (action, provider) = match &policy.action {
        Action::Allow => ("ALLOW", ""),
        Action::Deny => ("DENY", ""),
        Action::Audit => ("AUDIT", ""),
        Action::Custom(provider) => ("CUSTOM", provider.as_str()),
    };
    AuthorizationPolicy {
        name: policy.key(),
        action: action.to_owned(),
        provider: provider.to_owned(),
        rules: policy.rules.len(),
        dry_run: policy.dry_run,
    }
}

fn request_authentications(tokens: &RequestAuthentications) -> Vec<RequestAuthentication> {
    let shown = tokens.policies.iter().map(|policy| RequestAuthentication {
        name: format!("{}/{}", policy.namespace, policy.name),
        rules: policy
            .rules
            .iter()
            .map(|(rule, keys)| JwtRule {
                issuer: rule.issuer.clone(),
                audiences: rule.audiences.clone(),
                keys_missing: match keys {
                    Jwks::Known(_) => None,
                    Jwks::Missing(reason) | Jwks::Ended(reason) => Some(reason.to_string()),
                },
            })
            .collect(),
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::authorization::policy;
    use mesh_core::jwt::{KeySource, Rule};
    use mesh_core::request::Normalization;
    use mesh_wire::request_authentication;

    fn calls() -> (AuthorizationPolicies, RequestAuthentications) {
        let authorization = AuthorizationPolicies {
            policies: vec![Rules {
                namespace: "shop".into(),
                name: "ask".into(),
                action: Action::Custom("opa".into()),
                rules: vec![policy::Rule::default()],
                dry_run: false,
            }],
            paths: Normalization::Base,
            trusted_proxies: 1,
            trust_domain: "cluster.local".parse().unwrap(),
            aliases: Vec::new(),
            providers: mesh_core::ext_authz::Providers::new(),
        };
        let rule = Rule::new("https://issuer.example", KeySource::Discovery);
        let tokens = RequestAuthentications {
            policies: vec![request_authentication::RequestAuthentication {
                namespace: "shop".into(),
                name: "jwt".into(),
                rules: vec![(rule, Jwks::Missing("not fetched".into()))],
            }],
        };
        (authorization, tokens)
    }

    #[test]
    fn policies_name_what_decided() {
        let (authorization, tokens) = calls();
        let effective = Effective {
            mode: PortMode::Strict,
            ports: [(9000, PortMode::Disable)].into(),
            decided_by: vec!["shop/default".into()],
        };
        assert!(!policies(None, None, String::new()).received);
        assert!(!policies(Some(&effective), None, String::new()).received);
        let shown = policies(Some(&effective), Some((&authorization, &tokens)), "7".into());
        assert!(shown.received);
        let rows: Vec<_> = shown.policies.iter().map(|it| (it.port, it.mode.as_str())).collect();
        assert_eq!(rows, [(None, "STRICT"), (Some(9000), "DISABLE")]);
        assert_eq!(shown.policies[0].decided_by, ["shop/default"]);
        let authorization = &shown.authorization_policies[0];
        assert_eq!(
            (
                authorization.name.as_str(),
                authorization.action.as_str(),
                authorization.provider.as_str()
            ),
            ("shop/ask", "CUSTOM", "opa")
        );
        assert_eq!((shown.path_normalization.as_str(), shown.trusted_proxies), ("BASE", 1));
        let authentication = &shown.request_authentications[0];
        assert_eq!(authentication.name, "shop/jwt");
        assert_eq!(authentication.rules[0].keys_missing.as_deref(), Some("not fetched"));
    }
}
