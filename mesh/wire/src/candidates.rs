//! Between the messages of candidate sets and `mesh_core`'s types. A message is refused whole when any part of it is not what
//! it must be: a set that is half understood would tell of denials that never come, or hide those that do.

use crate::authorization::AuthorizationPolicies;
use crate::convert::ConvertError;
use crate::request_authentication::RequestAuthentications;
use crate::resources as wire;
use mesh_core::candidates::Member;
use mesh_core::peer_authentication::Effective;

/// The candidate sets that concern a pod, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CandidateSets {
    /// In the order of their names.
    pub sets: Vec<CandidateSet>,
}

/// What would be in force if a set's policies were; of a kind that is `None`, what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateSet {
    /// Its name.
    pub name: String,
    /// Its candidates that concern the pod; at least one.
    pub members: Vec<Member>,
    /// The modes on the pod's ports.
    pub inbound: Option<Effective>,
    /// The AuthorizationPolicies for the pod.
    pub authorization: Option<AuthorizationPolicies>,
    /// The RequestAuthentications for the pod.
    pub tokens: Option<RequestAuthentications>,
}

impl TryFrom<&wire::CandidateSets> for CandidateSets {
    type Error = ConvertError;

    fn try_from(message: &wire::CandidateSets) -> Result<Self, ConvertError> {
        Ok(Self {
            sets: message.sets.iter().map(set).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&CandidateSets> for wire::CandidateSets {
    fn from(candidates: &CandidateSets) -> Self {
        let set = |set: &CandidateSet| wire::CandidateSet {
            name: set.name.clone(),
            members: set.members.iter().map(ToString::to_string).collect(),
            inbound: set.inbound.as_ref().map(Into::into),
            authorization: set.authorization.as_ref().map(Into::into),
            tokens: set.tokens.as_ref().map(Into::into),
        };
        Self {
            sets: candidates.sets.iter().map(set).collect(),
        }
    }
}

fn set(message: &wire::CandidateSet) -> Result<CandidateSet, ConvertError> {
    if message.name.is_empty() {
        return Err(ConvertError::Empty("sets.name"));
    }
    if message.members.is_empty() {
        return Err(ConvertError::Empty("sets.members"));
    }
    let members = message.members.iter().map(|text| {
        text.parse::<Member>().map_err(|error| ConvertError::Text {
            field: "sets.members",
            value: text.chars().take(100).collect(),
            reason: error.to_string(),
        })
    });
    Ok(CandidateSet {
        name: message.name.clone(),
        members: members.collect::<Result<_, _>>()?,
        inbound: message.inbound.as_ref().map(TryInto::try_into).transpose()?,
        authorization: message.authorization.as_ref().map(TryInto::try_into).transpose()?,
        tokens: message.tokens.as_ref().map(TryInto::try_into).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::peer_authentication::PortMode;
    use mesh_core::request::Normalization;

    fn sets() -> CandidateSets {
        CandidateSets {
            sets: vec![
                CandidateSet {
                    name: "strict".into(),
                    members: vec!["PeerAuthentication/shop/strict".parse().unwrap()],
                    inbound: Some(Effective {
                        mode: PortMode::Strict,
                        ports: [(9000, PortMode::Disable)].into(),
                        decided_by: vec!["shop/strict".into()],
                    }),
                    authorization: None,
                    tokens: None,
                },
                CandidateSet {
                    name: "tokens".into(),
                    members: vec!["AuthorizationPolicy/shop/a".parse().unwrap()],
                    inbound: None,
                    authorization: Some(AuthorizationPolicies {
                        policies: Vec::new(),
                        paths: Normalization::Base,
                        trusted_proxies: 0,
                        trust_domain: "cluster.local".parse().unwrap(),
                        aliases: Vec::new(),
                        providers: mesh_core::ext_authz::Providers::new(),
                    }),
                    tokens: Some(RequestAuthentications::default()),
                },
            ],
        }
    }

    #[test]
    fn what_is_sent_is_what_comes() {
        let message = wire::CandidateSets::from(&sets());
        assert_eq!(CandidateSets::try_from(&message), Ok(sets()));
        assert_eq!(
            CandidateSets::try_from(&wire::CandidateSets::default()),
            Ok(CandidateSets::default())
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        type Change = fn(&mut wire::CandidateSet);
        let changes: [(&str, Change); 5] = [
            ("sets.name", |set| set.name.clear()),
            ("sets.members", |set| set.members.clear()),
            ("sets.members", |set| set.members.push("Gateway/a/b".into())),
            ("mode", |set| set.inbound = Some(wire::InboundPolicy::default())),
            ("paths", |set| {
                set.authorization = Some(wire::AuthorizationPolicies::default())
            }),
        ];
        for (field, change) in changes {
            let mut message = wire::CandidateSets::from(&sets());
            change(&mut message.sets[1]);
            let error = CandidateSets::try_from(&message).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
