//! What is accepted and worth a word to whoever applies it.

use mesh_core::authorization::policy::Action;

use super::parse::{strictest, wildcard_inside};
use super::resource::{AuthorizationPolicy, Operation, Rule, Source};
use crate::target;

/// What is accepted and worth a word to whoever applies it, one sentence each.
#[must_use]
pub fn warnings(resource: &AuthorizationPolicy) -> Vec<String> {
    let (target, policy) = strictest(resource);
    let mut warnings = target::warnings(resource.spec.selector.as_ref(), &target);
    for (at, rule) in resource.spec.rules.iter().flatten().enumerate() {
        let path = format!("spec.rules[{at}]");
        if policy.action == Action::Deny && all_of_tcp(rule) {
            warnings.push(format!(
                "{path}: with fields of HTTP alone a DENY rule refuses every connection to ports that are not HTTP's; name \
                 ports beside them"
            ));
        }
        texts(&path, rule, &mut warnings);
    }
    warnings
}

/// Whether a DENY rule matches every opaque connection, since all that it asks for is HTTP's.
fn all_of_tcp(rule: &Rule) -> bool {
    let sources: Vec<&Source> = rule
        .from
        .iter()
        .flatten()
        .filter_map(|from| from.source.as_ref())
        .collect();
    let operations: Vec<&Operation> = rule
        .to
        .iter()
        .flatten()
        .filter_map(|to| to.operation.as_ref())
        .collect();
    let of_connections = sources.iter().any(|source| {
        [
            &source.principals,
            &source.not_principals,
            &source.namespaces,
            &source.not_namespaces,
            &source.service_accounts,
            &source.not_service_accounts,
            &source.trust_domains,
            &source.not_trust_domains,
            &source.ip_blocks,
            &source.not_ip_blocks,
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
        ]
        .iter()
        .any(|values| values.is_some())
    });
    let ports = operations
        .iter()
        .any(|operation| operation.ports.is_some() || operation.not_ports.is_some());
    if operations.is_empty() {
        !sources.is_empty() && !of_connections
    } else {
        !ports
    }
}

/// Values that are compared as they stand where their author may mean something else.
fn texts(path: &str, rule: &Rule, warnings: &mut Vec<String>) {
    let mut look = |field: String, values: Option<&Vec<String>>, identity: bool, path: bool| {
        for value in values.into_iter().flatten() {
            if wildcard_inside(value) && !value.contains(['{', '}']) {
                warnings.push(format!(
                    "{field}: {value:?} is compared as it stands: a wildcard counts alone, or once at the beginning or end"
                ));
            }
            if identity && value.starts_with("spiffe://") {
                warnings.push(format!(
                    "{field}: {value:?} matches no identity: they are written without spiffe://"
                ));
            }
            if path && value.contains('?') {
                warnings.push(format!(
                    "{field}: {value:?} matches no path: they are compared without their query"
                ));
            }
        }
    };
    for (at, from) in rule.from.iter().flatten().enumerate() {
        let Some(source) = &from.source else { continue };
        let of = |name: &str| format!("{path}.from[{at}].source.{name}");
        look(of("principals"), source.principals.as_ref(), true, false);
        look(of("notPrincipals"), source.not_principals.as_ref(), true, false);
        look(
            of("requestPrincipals"),
            source.request_principals.as_ref(),
            false,
            false,
        );
        look(
            of("notRequestPrincipals"),
            source.not_request_principals.as_ref(),
            false,
            false,
        );
    }
    for (at, to) in rule.to.iter().flatten().enumerate() {
        let Some(operation) = &to.operation else { continue };
        let of = |name: &str| format!("{path}.to[{at}].operation.{name}");
        look(of("hosts"), operation.hosts.as_ref(), false, false);
        look(of("notHosts"), operation.not_hosts.as_ref(), false, false);
        look(of("methods"), operation.methods.as_ref(), false, false);
        look(of("notMethods"), operation.not_methods.as_ref(), false, false);
        look(of("paths"), operation.paths.as_ref(), false, true);
        look(of("notPaths"), operation.not_paths.as_ref(), false, true);
    }
    for (at, condition) in rule.when.iter().flatten().enumerate() {
        let of = |name: &str| format!("{path}.when[{at}].{name}");
        let identity = condition.key == "source.principal";
        look(of("values"), condition.values.as_ref(), identity, false);
        look(of("notValues"), condition.not_values.as_ref(), identity, false);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::read;
    use super::*;

    fn warned(spec: Value) -> String {
        let object = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec});
        warnings(&read(object).unwrap()).join("\n")
    }

    #[test]
    fn a_word_where_a_policy_does_not_do_what_it_seems_to() {
        let deny = |rule: Value| json!({"action": "DENY", "rules": [rule]});
        for (spec, expected) in [
            (json!({"selector": {}}), "spec.selector has no labels"),
            (
                json!({"targetRef": {"kind": "Service", "name": "s"}}),
                "no sidecar follows the policy",
            ),
            (
                deny(json!({"to": [{"operation": {"paths": ["/a"]}}]})),
                "spec.rules[0]: with fields of HTTP alone",
            ),
            (
                deny(json!({"from": [{"source": {"requestPrincipals": ["*"]}}]})),
                "spec.rules[0]: with fields of HTTP alone",
            ),
            (
                deny(json!({
                    "from": [{"source": {"namespaces": ["a"]}}],
                    "to": [{"operation": {"methods": ["GET"]}}]
                })),
                "spec.rules[0]: with fields of HTTP alone",
            ),
            (
                json!({"rules": [{"from": [{"source": {"principals": ["*/ns/a/*"]}}]}]}),
                "spec.rules[0].from[0].source.principals: \"*/ns/a/*\" is compared as it stands",
            ),
            (
                json!({"rules": [{"when": [{"key": "source.principal", "notValues": ["spiffe://a/ns/b/sa/c"]}]}]}),
                "spec.rules[0].when[0].notValues: \"spiffe://a/ns/b/sa/c\" matches no identity",
            ),
            (
                json!({"rules": [{"to": [{"operation": {"notPaths": ["/a?b=c"]}}]}]}),
                "spec.rules[0].to[0].operation.notPaths: \"/a?b=c\" matches no path",
            ),
        ] {
            let said = warned(spec);
            assert!(said.starts_with(expected) || said.contains(expected), "{said:?}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn none_where_there_is_nothing_to_say() {
        for spec in [
            json!({}),
            json!({"action": "DENY", "rules": [{}]}),
            json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/a"], "ports": ["80"]}}]}]}),
            json!({"action": "DENY", "rules": [{"from": [{"source": {"trustDomains": ["a"], "requestPrincipals": ["b"]}}]}]}),
            json!({"action": "DENY", "rules": [{"when": [{"key": "request.headers[a]", "values": ["*"]}]}]}),
            json!({"rules": [{"to": [{"operation": {"paths": ["/a/{*}/b/{**}", "/p*", "*"], "hosts": ["*.a.b"]}}]}]}),
        ] {
            assert_eq!(warned(spec.clone()), "", "{spec}");
        }
    }
}
