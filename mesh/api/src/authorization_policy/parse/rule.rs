//! `spec.rules[]`: sources, operations and conditions.

use mesh_core::authorization::policy::{Operation, Rule, Source};

use super::super::resource;
use super::condition;
use super::values::{Lists, NAMESPACES, TRUST_DOMAINS};
use crate::Invalid;

/// The most sources of a rule (Istio's CRD).
const MOST_SOURCES: usize = 512;

/// Parses a rule at a path. `custom` says whether the policy's action is CUSTOM, with which Istio knows fewer fields.
pub(super) fn parse(
    path: &str,
    rule: &resource::Rule,
    namespace: &str,
    custom: bool,
    errors: &mut Vec<Invalid>,
) -> Rule {
    let mut parsed = Rule::default();
    if let Some(from) = &rule.from {
        let path = format!("{path}.from");
        not_empty(&path, from, errors);
        if from.len() > MOST_SOURCES {
            let number = format!("{} sources", from.len());
            errors.push(Invalid::new(&path, number, format!("at most {MOST_SOURCES}")));
        }
        for (at, from) in from.iter().enumerate() {
            let path = format!("{path}[{at}].source");
            match &from.source {
                Some(given) => parsed.from.push(source(&path, given, namespace, custom, errors)),
                None => absent(&path, errors),
            }
        }
    }
    if let Some(to) = &rule.to {
        let path = format!("{path}.to");
        not_empty(&path, to, errors);
        for (at, to) in to.iter().enumerate() {
            let path = format!("{path}[{at}].operation");
            match &to.operation {
                Some(given) => parsed.to.push(operation(&path, given, errors)),
                None => absent(&path, errors),
            }
        }
    }
    for (at, given) in rule.when.iter().flatten().enumerate() {
        let path = format!("{path}.when[{at}]");
        parsed
            .when
            .extend(condition::parse(&path, given, namespace, custom, errors));
    }
    parsed
}

/// Refuses a list that is there and has nothing in it: it would ask for nothing, which whoever wrote it did not mean.
fn not_empty<T>(path: &str, items: &[T], errors: &mut Vec<Invalid>) {
    if items.is_empty() {
        errors.push(Invalid::new(path, "[]", "at least one item, or no such field"));
    }
}

fn absent(path: &str, errors: &mut Vec<Invalid>) {
    errors.push(Invalid::new(path, "", "fields of which at least one has a value"));
}

fn source(path: &str, given: &resource::Source, namespace: &str, custom: bool, errors: &mut Vec<Invalid>) -> Source {
    let lists = |name, any, none| Lists::of(path, name, any, none);
    let principals = lists("principals", given.principals.as_ref(), given.not_principals.as_ref());
    let request_principals = lists(
        "requestPrincipals",
        given.request_principals.as_ref(),
        given.not_request_principals.as_ref(),
    );
    let namespaces = lists("namespaces", given.namespaces.as_ref(), given.not_namespaces.as_ref());
    let accounts = lists(
        "serviceAccounts",
        given.service_accounts.as_ref(),
        given.not_service_accounts.as_ref(),
    );
    let trust_domains = lists(
        "trustDomains",
        given.trust_domains.as_ref(),
        given.not_trust_domains.as_ref(),
    );
    let ip_blocks = lists("ipBlocks", given.ip_blocks.as_ref(), given.not_ip_blocks.as_ref());
    let remote_ip_blocks = lists(
        "remoteIpBlocks",
        given.remote_ip_blocks.as_ref(),
        given.not_remote_ip_blocks.as_ref(),
    );

    let identities = [&principals, &request_principals, &namespaces, &accounts, &trust_domains];
    if identities.iter().all(|lists| lists.is_empty()) && ip_blocks.is_empty() && remote_ip_blocks.is_empty() {
        absent(path, errors);
    }
    if !accounts.is_empty() && (!principals.is_empty() || !namespaces.is_empty()) {
        errors.push(Invalid::new(
            path,
            "serviceAccounts beside principals or namespaces",
            "serviceAccounts, or principals and namespaces: they go into sources of their own",
        ));
    }
    if custom {
        for lists in identities {
            for (path, values) in [&lists.any, &lists.none] {
                if let Some(value) = values.first() {
                    let accepted = "no such field beside action CUSTOM, which knows no identities";
                    errors.push(Invalid::new(path, value, accepted));
                }
            }
        }
    }
    Source {
        principals: principals.texts(errors),
        request_principals: request_principals.texts(errors),
        namespaces: namespaces.names(errors, NAMESPACES),
        service_accounts: accounts.service_accounts(namespace, errors),
        trust_domains: trust_domains.names(errors, TRUST_DOMAINS),
        ip_blocks: ip_blocks.addresses(errors),
        remote_ip_blocks: remote_ip_blocks.addresses(errors),
    }
}

fn operation(path: &str, given: &resource::Operation, errors: &mut Vec<Invalid>) -> Operation {
    let lists = |name, any, none| Lists::of(path, name, any, none);
    let hosts = lists("hosts", given.hosts.as_ref(), given.not_hosts.as_ref());
    let ports = lists("ports", given.ports.as_ref(), given.not_ports.as_ref());
    let methods = lists("methods", given.methods.as_ref(), given.not_methods.as_ref());
    let paths = lists("paths", given.paths.as_ref(), given.not_paths.as_ref());
    if [&hosts, &ports, &methods, &paths].iter().all(|lists| lists.is_empty()) {
        absent(path, errors);
    }
    Operation {
        hosts: hosts.texts(errors),
        ports: ports.ports(errors),
        methods: methods.texts(errors),
        paths: paths.paths(errors),
    }
}
