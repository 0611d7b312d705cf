//! Between the messages of RequestAuthentications and `mesh_core`'s types. A rule comes with the keys that verify its
//! tokens, or with the reason why none are known: then it refuses them.

use crate::convert::ConvertError;
use crate::resources as wire;
use mesh_core::jwt::{ClaimHeader, KeySource, Rule, TokenHeader};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Every RequestAuthentication that is for a pod, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestAuthentications {
    /// The policies, those of the root namespace first.
    pub policies: Vec<RequestAuthentication>,
}

/// A RequestAuthentication with the keys of its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's name.
    pub name: String,
    /// `spec.jwtRules`.
    pub rules: Vec<(Rule, Jwks)>,
}

/// What is known of a rule's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// The keys, as a JWKS (RFC 7517, section 5).
    Known(Arc<str>),
    /// None yet, for this reason. Who knew some before goes on with them for a while.
    Missing(Arc<str>),
    /// None any more, for this reason: those that were known are too old.
    Ended(Arc<str>),
}

impl TryFrom<&wire::RequestAuthentications> for RequestAuthentications {
    type Error = ConvertError;

    fn try_from(message: &wire::RequestAuthentications) -> Result<Self, ConvertError> {
        let policy = |policy: &wire::RequestAuthentication| {
            Ok(RequestAuthentication {
                namespace: policy.namespace.clone(),
                name: policy.name.clone(),
                rules: policy.rules.iter().map(rule).collect::<Result<_, ConvertError>>()?,
            })
        };
        Ok(Self {
            policies: message
                .policies
                .iter()
                .map(policy)
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

impl From<&RequestAuthentications> for wire::RequestAuthentications {
    fn from(authentications: &RequestAuthentications) -> Self {
        let policy = |policy: &RequestAuthentication| wire::RequestAuthentication {
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            rules: policy.rules.iter().map(|(rule, keys)| message(rule, keys)).collect(),
        };
        Self {
            policies: authentications.policies.iter().map(policy).collect(),
        }
    }
}

fn rule(message: &wire::JwtRule) -> Result<(Rule, Jwks), ConvertError> {
    let source = match wire::KeySource::try_from(message.key_source) {
        Ok(wire::KeySource::Inline) => KeySource::Inline(message.jwks.clone().unwrap_or_default()),
        Ok(wire::KeySource::Uri) => KeySource::Uri(message.jwks_uri.clone()),
        Ok(wire::KeySource::Discovery) => KeySource::Discovery,
        Ok(wire::KeySource::Invalid) | Err(_) => {
            return Err(ConvertError::Enumeration {
                field: "rules.key_source",
                value: message.key_source,
            });
        }
    };
    let keys = match &message.jwks {
        Some(jwks) => Jwks::Known(jwks.as_str().into()),
        None if message.jwks_missing.is_empty() => return Err(ConvertError::Empty("rules.jwks")),
        None if message.jwks_ended => Jwks::Ended(message.jwks_missing.as_str().into()),
        None => Jwks::Missing(message.jwks_missing.as_str().into()),
    };
    let from_headers = message.from_headers.iter().map(|header| {
        Ok(TokenHeader {
            name: header_name("rules.fromHeaders", &header.name)?,
            prefix: header.prefix.clone(),
        })
    });
    let claims = message.output_claim_to_headers.iter().map(|output| {
        Ok(ClaimHeader {
            header: header_name("rules.outputClaimToHeaders", &output.header)?,
            claim: output.claim.clone(),
        })
    });
    let payload = match message.output_payload_to_header.as_str() {
        "" => None,
        name => Some(header_name("rules.outputPayloadToHeader", name)?),
    };
    let rule = Rule {
        audiences: message.audiences.clone(),
        from_headers: from_headers.collect::<Result<_, ConvertError>>()?,
        from_params: message.from_params.clone(),
        from_cookies: message.from_cookies.clone(),
        forward_original_token: message.forward_original_token,
        output_payload_to_header: payload,
        output_claim_to_headers: claims.collect::<Result<_, ConvertError>>()?,
        timeout: message.timeout_milliseconds.map(Duration::from_millis),
        space_delimited_claims: message.space_delimited_claims.clone(),
        ..Rule::new(message.issuer.clone(), source)
    };
    Ok((rule, keys))
}

fn header_name<T: FromStr>(field: &'static str, name: &str) -> Result<T, ConvertError> {
    name.parse().map_err(|_| ConvertError::Text {
        field,
        value: name.chars().take(100).collect(),
        reason: "not a header's name".to_owned(),
    })
}

fn message(rule: &Rule, keys: &Jwks) -> wire::JwtRule {
    let (source, uri) = match &rule.keys {
        KeySource::Inline(_) => (wire::KeySource::Inline, ""),
        KeySource::Uri(uri) => (wire::KeySource::Uri, uri.as_str()),
        KeySource::Discovery => (wire::KeySource::Discovery, ""),
    };
    let (jwks, missing) = match keys {
        Jwks::Known(jwks) => (Some(jwks.to_string()), String::new()),
        Jwks::Missing(reason) | Jwks::Ended(reason) => (None, reason.to_string()),
    };
    wire::JwtRule {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        key_source: source.into(),
        jwks_uri: uri.to_owned(),
        jwks,
        jwks_missing: missing,
        jwks_ended: matches!(keys, Jwks::Ended(_)),
        from_headers: rule
            .from_headers
            .iter()
            .map(|header| wire::JwtHeader {
                name: header.name.to_string(),
                prefix: header.prefix.clone(),
            })
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_original_token: rule.forward_original_token,
        output_payload_to_header: rule
            .output_payload_to_header
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        output_claim_to_headers: rule
            .output_claim_to_headers
            .iter()
            .map(|output| wire::ClaimToHeader {
                header: output.header.to_string(),
                claim: output.claim.clone(),
            })
            .collect(),
        timeout_milliseconds: rule
            .timeout
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        space_delimited_claims: rule.space_delimited_claims.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn whole() -> RequestAuthentications {
        let inline = Rule {
            audiences: vec!["web".into(), "api".into()],
            from_headers: vec![TokenHeader {
                name: "x-token".parse().unwrap(),
                prefix: "Bearer ".into(),
            }],
            from_params: vec!["token".into()],
            from_cookies: vec!["session".into()],
            forward_original_token: true,
            output_payload_to_header: Some("x-payload".parse().unwrap()),
            output_claim_to_headers: vec![ClaimHeader {
                header: "x-groups".parse().unwrap(),
                claim: "realm_access.roles".into(),
            }],
            timeout: Some(Duration::from_millis(1500)),
            space_delimited_claims: vec!["groups".into()],
            ..Rule::new("https://one.example", KeySource::Inline("{\"keys\": []}".into()))
        };
        let uri = Rule::new("two", KeySource::Uri("http://keys/jwks".into()));
        let found = Rule::new("https://three.example", KeySource::Discovery);
        RequestAuthentications {
            policies: vec![
                RequestAuthentication {
                    namespace: "istio-system".into(),
                    name: "all".into(),
                    rules: vec![
                        (inline, Jwks::Known("{\"keys\": []}".into())),
                        (uri.clone(), Jwks::Known("{}".into())),
                        (found.clone(), Jwks::Missing("not fetched yet".into())),
                        (found, Jwks::Ended("not fetched for a day".into())),
                        (
                            Rule::new("four", KeySource::Inline(String::new())),
                            Jwks::Missing("holds no key".into()),
                        ),
                    ],
                },
                RequestAuthentication {
                    namespace: "shop".into(),
                    name: "none".into(),
                    rules: Vec::new(),
                },
            ],
        }
    }

    #[test]
    fn everything_survives_the_wire() {
        let bytes = wire::RequestAuthentications::from(&whole()).encode_to_vec();
        let message = wire::RequestAuthentications::decode(&bytes[..]).unwrap();
        assert_eq!(RequestAuthentications::try_from(&message), Ok(whole()));
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        type Damage = (&'static str, fn(&mut wire::JwtRule));
        let damage: [Damage; 6] = [
            ("rules.key_source: 0", |rule| rule.key_source = 0),
            ("rules.key_source: 9", |rule| rule.key_source = 9),
            ("rules.jwks: empty", |rule| rule.jwks = None),
            ("rules.fromHeaders: \"a b\"", |rule| {
                rule.from_headers[0].name = "a b".into()
            }),
            ("rules.outputPayloadToHeader: \"a:\"", |rule| {
                rule.output_payload_to_header = "a:".into();
            }),
            ("rules.outputClaimToHeaders: \"\"", |rule| {
                rule.output_claim_to_headers[0].header.clear();
            }),
        ];
        for (reason, damage) in damage {
            let mut message = wire::RequestAuthentications::from(&whole());
            damage(&mut message.policies[0].rules[0]);
            let error = RequestAuthentications::try_from(&message).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{reason}: {error}");
        }
    }
}
