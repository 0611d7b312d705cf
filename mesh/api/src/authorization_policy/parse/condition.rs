//! `spec.rules[].when[]`: an attribute and its values.

use mesh_core::authorization::policy::Condition;

use super::super::resource;
use super::values::{Lists, NAMESPACES, TRUST_DOMAINS};
use crate::Invalid;
use crate::header;

/// Every key, for messages.
const KEYS: &str = "request.headers[NAME], source.ip, remote.ip, source.namespace, source.serviceAccount, \
                    source.trustDomain, source.principal, request.auth.principal, request.auth.audiences, \
                    request.auth.presenter, request.auth.claims[NAME], destination.ip, destination.port or connection.sni";

/// Parses a condition at a path.
pub(super) fn parse(
    path: &str,
    given: &resource::Condition,
    namespace: &str,
    custom: bool,
    errors: &mut Vec<Invalid>,
) -> Option<Condition> {
    let key = given.key.as_str();
    let field = format!("{path}.key");
    let values = Lists::of(path, "values", given.values.as_ref(), given.not_values.as_ref());
    if values.is_empty() {
        let accepted = "at least one of values and notValues beside it";
        errors.push(Invalid::new(&field, key, accepted));
        return None;
    }
    if custom && of_identity(key) {
        let accepted = "another key beside action CUSTOM, which knows no identities";
        errors.push(Invalid::new(&field, key, accepted));
    }
    let condition = match key {
        "source.ip" => Condition::SourceIp(values.addresses(errors)),
        "remote.ip" => Condition::RemoteIp(values.addresses(errors)),
        "source.namespace" => Condition::SourceNamespace(values.names(errors, NAMESPACES)),
        "source.serviceAccount" => Condition::SourceServiceAccount(values.service_accounts(namespace, errors)),
        "source.trustDomain" => Condition::SourceTrustDomain(values.names(errors, TRUST_DOMAINS)),
        "source.principal" => Condition::SourcePrincipal(values.texts(errors)),
        "request.auth.principal" => Condition::RequestPrincipal(values.texts(errors)),
        "request.auth.audiences" => Condition::RequestAudiences(values.texts(errors)),
        "request.auth.presenter" => Condition::RequestPresenter(values.texts(errors)),
        "destination.ip" => Condition::DestinationIp(values.addresses(errors)),
        "destination.port" => Condition::DestinationPort(values.ports(errors)),
        "connection.sni" => Condition::Sni(values.texts(errors)),
        _ => {
            let header = key.strip_prefix("request.headers").and_then(in_brackets);
            let claim = key.strip_prefix("request.auth.claims").and_then(in_brackets);
            match (header, claim) {
                (Some(name), _) if header::is_name(name) => {
                    Condition::Header(name.to_ascii_lowercase(), values.texts(errors))
                }
                (_, Some(names)) => Condition::RequestClaim(claim_path(names), values.texts(errors)),
                _ => {
                    errors.push(Invalid::new(field, key, accepted(key)));
                    return None;
                }
            }
        }
    };
    Some(condition)
}

/// Whether Istio knows a key beside action CUSTOM no more than identities of sources.
fn of_identity(key: &str) -> bool {
    let of_source = [
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
        "source.principal",
    ];
    of_source.contains(&key) || key.starts_with("request.auth.")
}

/// What stands between `[` and `]`.
fn in_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('[')?
        .strip_suffix(']')
        .filter(|name| !name.is_empty())
}

/// The claims of `A][B`, each inside of the one before. A name that has brackets in another way is one claim's.
fn claim_path(names: &str) -> Vec<String> {
    let parts: Vec<&str> = names.split("][").collect();
    if parts.iter().any(|part| part.is_empty() || part.contains(['[', ']'])) {
        vec![names.to_owned()]
    } else {
        parts.into_iter().map(str::to_owned).collect()
    }
}

/// What is accepted in place of a key.
fn accepted(key: &str) -> String {
    if key.starts_with("experimental.envoy.filters.") {
        return format!("a key that asks for no metadata of Envoy's filters, which there are none of here: {KEYS}");
    }
    let instead = match key {
        "destination.namespace" => Some("the policy's own namespace"),
        "destination.name" | "destination.user" => Some("spec.selector"),
        _ if key.starts_with("destination.labels") => Some("spec.selector"),
        _ => None,
    };
    match instead {
        Some(instead) => format!("{KEYS}, and {instead} for which workloads the policy is for"),
        None => KEYS.to_owned(),
    }
}
