//! From the resource to the domain's rules, with Istio's validation (istio/istio pkg/config/validation,
//! `ValidateRequestAuthentication`).

use std::str::FromStr;

use kube::ResourceExt;
use mesh_core::authorization::policy::Target;
use mesh_core::jwt::{ClaimHeader, KeySource, Keys, Rule, TokenHeader};

use super::RequestAuthentication;
use super::resource::{JwtRule, LONGEST_URI, MOST_CLAIMS, MOST_RULES};
use crate::authorization_policy::DRY_RUN;
use crate::{Invalid, duration, target};

const NOT_EMPTY: &str = "text that is not empty";
const HEADER: &str = "the name of a header";
/// `presence` that asks for nothing, which is Istio's default.
const OPTIONAL: &str = "OPTIONAL";

/// A RequestAuthentication, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAuthenticationPolicy {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.jwtRules`.
    pub rules: Vec<Rule>,
}

/// Reads a resource from an API object of either version. Unknown fields and an absent `spec` are fine, as for the API
/// server.
///
/// # Errors
/// One that names the object when it is not of the resource's shape at all.
pub fn read(object: serde_json::Value) -> Result<RequestAuthentication, Invalid> {
    crate::object::read(object, "an object of security.istio.io/v1")
}

/// Parses a resource into which workloads it is for and whose tokens they accept.
///
/// # Errors
/// Every field that is not accepted, with its path, its value and what is.
pub fn parse(resource: &RequestAuthentication) -> Result<(Target, RequestAuthenticationPolicy), Vec<Invalid>> {
    let mut errors = Vec::new();
    let parsed = strictest_of(resource, &mut errors);
    if errors.is_empty() { Ok(parsed) } else { Err(errors) }
}

/// What holds of a resource whether it parses or not: a rule that does not parse knows no key, so that the tokens of its
/// issuer are refused, and not ignored.
#[must_use]
pub fn strictest(resource: &RequestAuthentication) -> (Target, RequestAuthenticationPolicy) {
    strictest_of(resource, &mut Vec::new())
}

fn strictest_of(resource: &RequestAuthentication, errors: &mut Vec<Invalid>) -> (Target, RequestAuthenticationPolicy) {
    let spec = &resource.spec;
    let target = target::parse(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        spec.target_refs.as_deref(),
        errors,
    );
    if let Some(value) = resource.annotations().get(DRY_RUN) {
        let field = format!("metadata.annotations[{DRY_RUN}]");
        errors.push(Invalid::new(
            field,
            value,
            "no such annotation, which only AuthorizationPolicy has",
        ));
    }
    let given = spec.jwt_rules.as_deref().unwrap_or_default();
    if given.len() > MOST_RULES {
        let number = format!("{} rules", given.len());
        errors.push(Invalid::new("spec.jwtRules", number, format!("at most {MOST_RULES}")));
    }
    let rules = given.iter().enumerate().map(|(at, given)| {
        let before = errors.len();
        let mut rule = rule(&format!("spec.jwtRules[{at}]"), given, errors);
        if errors.len() > before {
            rule.keys = KeySource::Inline(String::new());
        }
        rule
    });
    let policy = RequestAuthenticationPolicy {
        rules: rules.collect(),
        namespace: resource.namespace().unwrap_or_default(),
        name: resource.name_any(),
    };
    (target, policy)
}

fn rule(path: &str, given: &JwtRule, errors: &mut Vec<Invalid>) -> Rule {
    let issuer = given.issuer.clone().unwrap_or_default();
    if issuer.is_empty() {
        errors.push(Invalid::new(
            format!("{path}.issuer"),
            "",
            "what tokens name as their issuer",
        ));
    }
    let mut texts = |name: &str, values: Option<&Vec<String>>| {
        let values = values.cloned().unwrap_or_default();
        for (at, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
            errors.push(Invalid::new(format!("{path}.{name}[{at}]"), "", NOT_EMPTY));
        }
        values
    };
    let audiences = texts("audiences", given.audiences.as_ref());
    let from_params = texts("fromParams", given.from_params.as_ref());
    let from_cookies = texts("fromCookies", given.from_cookies.as_ref());
    let space_delimited_claims = texts("spaceDelimitedClaims", given.space_delimited_claims.as_ref());
    if space_delimited_claims.len() > MOST_CLAIMS {
        errors.push(Invalid::new(
            format!("{path}.spaceDelimitedClaims"),
            format!("{} claims", space_delimited_claims.len()),
            format!("at most {MOST_CLAIMS}"),
        ));
    }
    let from_headers = given
        .from_headers
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(at, from)| {
            Some(TokenHeader {
                name: header(format!("{path}.fromHeaders[{at}].name"), &from.name, errors)?,
                prefix: from.prefix.clone().unwrap_or_default(),
            })
        });
    let from_headers = from_headers.collect();
    let output_payload_to_header = given
        .output_payload_to_header
        .as_ref()
        .filter(|name| !name.is_empty())
        .and_then(|name| header(format!("{path}.outputPayloadToHeader"), name, errors));
    let timeout = given.timeout.as_deref().and_then(|text| {
        let timeout = duration::whole_milliseconds(text);
        if timeout.is_none() {
            errors.push(Invalid::new(
                format!("{path}.timeout"),
                text,
                duration::WHOLE_MILLISECONDS,
            ));
        }
        timeout
    });
    presence(path, given, errors);
    Rule {
        audiences,
        keys: keys(path, given, errors),
        from_headers,
        from_params,
        from_cookies,
        forward_original_token: given.forward_original_token.unwrap_or_default(),
        output_payload_to_header,
        output_claim_to_headers: claims(path, given, errors),
        timeout,
        space_delimited_claims,
        ..Rule::new(issuer, KeySource::Discovery)
    }
}

/// Refuses a rule that asks for a token of every request: to read it as one that does not would let requests without pass.
fn presence(path: &str, given: &JwtRule, errors: &mut Vec<Invalid>) {
    let presence = given.presence.as_deref().unwrap_or_default();
    if presence.is_empty() || presence == OPTIONAL {
        return;
    }
    let issuer = given.issuer.as_deref().unwrap_or_default();
    let accepted = format!(
        "{OPTIONAL}; what every request must have is asked for by an AuthorizationPolicy: an ALLOW rule from \
         requestPrincipals [\"{issuer}/*\"]"
    );
    errors.push(Invalid::new(format!("{path}.presence"), presence, accepted));
}

fn keys(path: &str, given: &JwtRule, errors: &mut Vec<Invalid>) -> KeySource {
    let uri = |name: &'static str, value: Option<&String>| value.map(|value| (name, value.clone()));
    let given: Vec<(&str, String)> = [
        uri("jwksUri", given.jwks_uri.as_ref()),
        uri("jwks_uri", given.jwks_uri_alias.as_ref()),
        uri("jwks", given.jwks.as_ref().filter(|text| !text.is_empty())),
    ]
    .into_iter()
    .flatten()
    .collect();
    if given.len() > 1 {
        let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
        errors.push(Invalid::new(
            path,
            names.join(" beside "),
            "only one of jwksUri and jwks",
        ));
    }
    match given.into_iter().next() {
        None => KeySource::Discovery,
        Some(("jwks", text)) => {
            if let Err(reason) = Keys::parse(&text) {
                let accepted = format!("a JSON Web Key Set ({reason})");
                errors.push(Invalid::new(format!("{path}.jwks"), &text, accepted));
            }
            KeySource::Inline(text)
        }
        Some((name, uri)) => {
            if !is_http_url(&uri) {
                let accepted = "a URL that begins with http:// or https://, of at most 2048 characters";
                errors.push(Invalid::new(format!("{path}.{name}"), &uri, accepted));
            }
            KeySource::Uri(uri)
        }
    }
}

/// Whether a text is a URL that keys can be fetched from.
pub(super) fn is_http_url(text: &str) -> bool {
    let printable = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")
        && !host.is_empty()
        && !host.starts_with(':')
        && text.len() <= LONGEST_URI
        && text.bytes().all(printable)
}

fn claims(path: &str, given: &JwtRule, errors: &mut Vec<Invalid>) -> Vec<ClaimHeader> {
    let mut parsed = Vec::new();
    for (at, given) in given.output_claim_to_headers.iter().flatten().enumerate() {
        let path = format!("{path}.outputClaimToHeaders[{at}]");
        if given.claim.is_empty() {
            errors.push(Invalid::new(format!("{path}.claim"), "", "the name of a claim"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let field = format!("{path}.header");
        if !given.header.bytes().all(plain) {
            let accepted = "the name of a header, of letters, digits, '-' and '_'";
            errors.push(Invalid::new(field, &given.header, accepted));
        } else if let Some(header) = header(field, &given.header, errors) {
            let claim = given.claim.clone();
            parsed.push(ClaimHeader { header, claim });
        }
    }
    parsed
}

/// The name of a header, as the type that holds one.
fn header<N: FromStr>(field: String, name: &str, errors: &mut Vec<Invalid>) -> Option<N> {
    let parsed = name.parse().ok();
    if parsed.is_none() {
        errors.push(Invalid::new(field, name, HEADER));
    }
    parsed
}

#[cfg(test)]
mod tests;
