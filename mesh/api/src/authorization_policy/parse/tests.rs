use mesh_core::authorization::matches::TextMatch;
use mesh_core::authorization::policy::{Condition, ServiceAccount};
use serde_json::{Value, json};

use super::*;

fn resource(spec: Value) -> AuthorizationPolicy {
    annotated(json!({}), spec)
}

fn annotated(annotations: Value, spec: Value) -> AuthorizationPolicy {
    read(json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "ns", "annotations": annotations}, "spec": spec
    }))
    .unwrap()
}

fn parsed(spec: Value) -> Result<(Target, Policy), String> {
    parse(&resource(spec)).map_err(|errors| crate::join(&errors))
}

fn rule(spec: Value) -> Rule {
    let (_, mut policy) = parsed(json!({ "rules": [spec] })).unwrap();
    policy.rules.remove(0)
}

fn texts(values: &[&str]) -> Vec<TextMatch> {
    values.iter().map(|value| TextMatch::parse(value)).collect()
}

#[test]
fn nothing_given_is_an_allow_policy_that_matches_nothing() {
    for spec in [
        json!({}),
        json!(null),
        json!({"rules": []}),
        json!({"fieldOfTheFuture": 1}),
    ] {
        let (target, policy) = parsed(spec).unwrap();
        assert_eq!(target, Target::default());
        assert_eq!((policy.namespace.as_str(), policy.name.as_str()), ("ns", "p"));
        assert_eq!(policy.action, Action::Allow);
        assert!(policy.rules.is_empty() && !policy.dry_run);
    }
}

#[test]
fn actions_targets_and_empty_rules() {
    let (target, policy) = parsed(json!({
        "selector": {"matchLabels": {"app": "web"}}, "action": "CUSTOM", "provider": {"name": "opa"}, "rules": [{}, {}]
    }))
    .unwrap();
    assert_eq!(target.selector.0["app"], "web");
    assert_eq!(policy.action, Action::Custom("opa".to_owned()));
    assert_eq!(policy.rules, [Rule::default(), Rule::default()]);
    for (name, action) in [
        ("ALLOW", Action::Allow),
        ("DENY", Action::Deny),
        ("AUDIT", Action::Audit),
    ] {
        assert_eq!(parsed(json!({"action": name, "rules": [{}]})).unwrap().1.action, action);
    }
    let (target, _) = parsed(json!({"targetRefs": [{"kind": "Service", "name": "s"}]})).unwrap();
    assert!(target.refs);
}

#[test]
fn every_field_of_a_rule() {
    let parsed = rule(json!({
        "from": [
            {"source": {
                "principals": ["cluster.local/ns/a/sa/b"], "notPrincipals": ["*/sa/c"],
                "requestPrincipals": ["*"], "notRequestPrincipals": ["iss/*"],
                "namespaces": ["a"], "notNamespaces": ["b*"], "trustDomains": ["td"], "notTrustDomains": ["*.org"],
                "ipBlocks": ["10.0.0.0/8"], "notIpBlocks": ["10.1.2.3"],
                "remoteIpBlocks": ["fd00::/8"], "notRemoteIpBlocks": ["fd00::1"]
            }},
            {"source": {"serviceAccounts": ["web", "other/api"], "notServiceAccounts": ["bad"]}}
        ],
        "to": [{"operation": {
            "hosts": ["*.example.org"], "notHosts": ["x"], "ports": ["80", "080"], "notPorts": ["0", "65535"],
            "methods": ["GET"], "notMethods": ["P*"], "paths": ["/a/{*}/b", "/c*"], "notPaths": ["*.php"]
        }}]
    }));
    let [of_identity, of_account] = &parsed.from[..] else {
        panic!("{parsed:?}")
    };
    assert_eq!(of_identity.principals.any, texts(&["cluster.local/ns/a/sa/b"]));
    assert_eq!(of_identity.principals.none, texts(&["*/sa/c"]));
    assert_eq!(of_identity.request_principals.any, texts(&["*"]));
    assert_eq!(of_identity.request_principals.none, texts(&["iss/*"]));
    assert_eq!(of_identity.namespaces.any, texts(&["a"]));
    assert_eq!(of_identity.namespaces.none, texts(&["b*"]));
    assert_eq!(of_identity.trust_domains.any, texts(&["td"]));
    assert_eq!(of_identity.trust_domains.none, texts(&["*.org"]));
    let shown = |ranges: &[mesh_core::authorization::matches::AddressRange]| ranges[0].to_string();
    assert_eq!(shown(&of_identity.ip_blocks.any), "10.0.0.0/8");
    assert_eq!(shown(&of_identity.ip_blocks.none), "10.1.2.3");
    assert_eq!(shown(&of_identity.remote_ip_blocks.any), "fd00::/8");
    assert_eq!(shown(&of_identity.remote_ip_blocks.none), "fd00::1");
    let account = |namespace: &str, name: &str| ServiceAccount {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    assert_eq!(
        of_account.service_accounts.any,
        [account("ns", "web"), account("other", "api")]
    );
    assert_eq!(of_account.service_accounts.none, [account("ns", "bad")]);
    let operation = &parsed.to[0];
    assert_eq!(operation.hosts.any, texts(&["*.example.org"]));
    assert_eq!(operation.hosts.none, texts(&["x"]));
    assert_eq!(
        (&operation.ports.any[..], &operation.ports.none[..]),
        (&[80, 80][..], &[0, 65535][..])
    );
    assert_eq!(operation.methods.any, texts(&["GET"]));
    assert_eq!(operation.methods.none, texts(&["P*"]));
    assert_eq!(operation.paths.any.len(), 2);
    assert_eq!(operation.paths.any[0].to_string(), "/a/{*}/b");
    assert_eq!(operation.paths.none[0].to_string(), "*.php");
}

#[test]
fn every_key_of_a_condition() {
    let header = |values: &Condition| matches!(values, Condition::Header(name, _) if name == "x-user");
    let claim =
        |values: &Condition, path: &[&str]| matches!(values, Condition::RequestClaim(names, _) if names == path);
    type Is = fn(&Condition) -> bool;
    let cases: &[(&str, &str, Is)] = &[
        ("source.ip", "10.0.0.1", |c| matches!(c, Condition::SourceIp(_))),
        ("remote.ip", "10.0.0.0/8", |c| matches!(c, Condition::RemoteIp(_))),
        ("source.namespace", "a*", |c| matches!(c, Condition::SourceNamespace(_))),
        (
            "source.serviceAccount",
            "a",
            |c| matches!(c, Condition::SourceServiceAccount(accounts) if accounts.any[0].namespace == "ns"),
        ),
        ("source.trustDomain", "*", |c| {
            matches!(c, Condition::SourceTrustDomain(_))
        }),
        ("source.principal", "*", |c| matches!(c, Condition::SourcePrincipal(_))),
        ("request.auth.principal", "*", |c| {
            matches!(c, Condition::RequestPrincipal(_))
        }),
        ("request.auth.audiences", "a", |c| {
            matches!(c, Condition::RequestAudiences(_))
        }),
        ("request.auth.presenter", "a", |c| {
            matches!(c, Condition::RequestPresenter(_))
        }),
        ("destination.ip", "::1", |c| matches!(c, Condition::DestinationIp(_))),
        ("destination.port", "80", |c| matches!(c, Condition::DestinationPort(_))),
        ("connection.sni", "*.org", |c| matches!(c, Condition::Sni(_))),
    ];
    let condition = |key: &str, value: &str| {
        let rule = rule(json!({"when": [{"key": key, "values": [value], "notValues": [value]}]}));
        rule.when.into_iter().next().unwrap()
    };
    for (key, value, is) in cases {
        let condition = condition(key, value);
        assert!(is(&condition), "{key}: {condition:?}");
    }
    assert!(header(&condition("request.headers[X-User]", "a")));
    for (key, path) in [
        ("request.auth.claims[group]", &["group"][..]),
        ("request.auth.claims[realm_access][roles]", &["realm_access", "roles"]),
        ("request.auth.claims[https://a/b]", &["https://a/b"]),
        ("request.auth.claims[a]b]", &["a]b"]),
        ("request.auth.claims[a][]", &["a]["]),
    ] {
        assert!(claim(&condition(key, "x"), path), "{key}");
    }
}

#[test]
fn every_error_names_the_field_the_value_and_what_is_accepted() {
    let source = |source: Value| json!({"rules": [{"from": [{ "source": source }]}]});
    let operation = |operation: Value| json!({"rules": [{"to": [{ "operation": operation }]}]});
    let when = |key: &str, values: Value| json!({"rules": [{"when": [{"key": key, "values": values}]}]});
    let custom = |rule: Value| json!({"action": "CUSTOM", "provider": {"name": "p"}, "rules": [rule]});
    for (spec, expected) in [
        (
            json!({"action": "allow"}),
            "spec.action: \"allow\" is not accepted, expected one of ALLOW, DENY, AUDIT, CUSTOM",
        ),
        (
            json!({"action": "DENY"}),
            "spec.rules: \"[]\" is not accepted, expected at least one rule beside action DENY or CUSTOM",
        ),
        (
            json!({"action": "CUSTOM", "provider": {"name": "p"}}),
            "spec.rules: \"[]\" is not accepted, expected at least one rule",
        ),
        (
            json!({"action": "CUSTOM", "rules": [{}]}),
            "spec.provider.name: \"\" is not accepted, expected the name of one of meshConfig.extensionProviders",
        ),
        (
            json!({"provider": {"name": "opa"}}),
            "spec.provider.name: \"opa\" is not accepted, expected no provider beside action ALLOW",
        ),
        (
            json!({"rules": vec![json!({}); 513]}),
            "spec.rules: \"513 rules\" is not accepted, expected at most 512",
        ),
        (
            json!({"rules": [{"from": []}]}),
            "spec.rules[0].from: \"[]\" is not accepted, expected at least one item",
        ),
        (
            json!({"rules": [{"from": vec![json!({"source": {"namespaces": ["a"]}}); 513]}]}),
            "spec.rules[0].from: \"513 sources\" is not accepted, expected at most 512",
        ),
        (
            json!({"rules": [{"to": []}]}),
            "spec.rules[0].to: \"[]\" is not accepted, expected at least one item",
        ),
        (
            json!({"rules": [{"from": [{}]}]}),
            "spec.rules[0].from[0].source: \"\" is not accepted, expected fields",
        ),
        (
            source(json!({"namespaces": []})),
            "spec.rules[0].from[0].source: \"\" is not accepted, expected fields",
        ),
        (
            operation(json!({})),
            "spec.rules[0].to[0].operation: \"\" is not accepted, expected fields",
        ),
        (
            source(json!({"serviceAccounts": ["a/b"], "notNamespaces": ["a"]})),
            "spec.rules[0].from[0].source: \"serviceAccounts beside principals or namespaces\" is not accepted",
        ),
        (
            source(json!({"notPrincipals": ["a", ""]})),
            "spec.rules[0].from[0].source.notPrincipals[1]: \"\" is not accepted, expected text that is not empty",
        ),
        (
            source(json!({"namespaces": ["a*b"]})),
            "spec.rules[0].from[0].source.namespaces[0]: \"a*b\" is not accepted, expected the name of a namespace",
        ),
        (
            source(json!({"notTrustDomains": ["a/b"]})),
            "spec.rules[0].from[0].source.notTrustDomains[0]: \"a/b\" is not accepted, expected a trust domain",
        ),
        (
            source(json!({"ipBlocks": ["10.0.0.0/33"]})),
            "spec.rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/33\" is not accepted, expected an IP address",
        ),
        (
            source(json!({"notRemoteIpBlocks": ["host"]})),
            "spec.rules[0].from[0].source.notRemoteIpBlocks[0]: \"host\" is not accepted, expected an IP address",
        ),
        (
            source(json!({"serviceAccounts": vec!["a"; 17]})),
            "spec.rules[0].from[0].source.serviceAccounts: \"17 values\" is not accepted, expected at most 16",
        ),
        (
            operation(json!({"ports": ["http"]})),
            "spec.rules[0].to[0].operation.ports[0]: \"http\" is not accepted, expected a port from 0 to 65535",
        ),
        (
            operation(json!({"notPorts": ["65536"]})),
            "spec.rules[0].to[0].operation.notPorts[0]: \"65536\" is not accepted",
        ),
        (
            operation(json!({"ports": ["+80"]})),
            "spec.rules[0].to[0].operation.ports[0]: \"+80\" is not accepted",
        ),
        (
            operation(json!({"paths": ["/{**}/{*}"]})),
            "spec.rules[0].to[0].operation.paths[0]: \"/{**}/{*}\" is not accepted",
        ),
        (
            operation(json!({"notPaths": ["/a/{x}"]})),
            "spec.rules[0].to[0].operation.notPaths[0]: \"/a/{x}\" is not accepted",
        ),
        (
            operation(json!({"hosts": [""]})),
            "spec.rules[0].to[0].operation.hosts[0]: \"\" is not accepted, expected text",
        ),
        (
            when("source.ip", json!([])),
            "spec.rules[0].when[0].key: \"source.ip\" is not accepted, expected at least one of values and notValues",
        ),
        (
            when("", json!(["a"])),
            "spec.rules[0].when[0].key: \"\" is not accepted, expected request.headers[NAME], source.ip",
        ),
        (
            when("source.colour", json!(["a"])),
            "spec.rules[0].when[0].key: \"source.colour\" is not accepted, expected request.headers[NAME]",
        ),
        (
            when("request.headers", json!(["a"])),
            "spec.rules[0].when[0].key: \"request.headers\" is not accepted",
        ),
        (
            when("request.headers[a b]", json!(["a"])),
            "spec.rules[0].when[0].key: \"request.headers[a b]\" is not accepted",
        ),
        (
            when("request.headers[]", json!(["a"])),
            "spec.rules[0].when[0].key: \"request.headers[]\" is not accepted",
        ),
        (
            when("request.auth.claims", json!(["a"])),
            "spec.rules[0].when[0].key: \"request.auth.claims\" is not accepted",
        ),
        (
            when("destination.labels[version]", json!(["a"])),
            "spec.rules[0].when[0].key: \"destination.labels[version]\" is not accepted",
        ),
        (
            when("experimental.envoy.filters.a.b[c]", json!(["a"])),
            "spec.rules[0].when[0].key: \"experimental.envoy.filters.a.b[c]\" is not accepted, expected a key that asks for \
             no metadata",
        ),
        (
            when("destination.port", json!(["x"])),
            "spec.rules[0].when[0].values[0]: \"x\" is not accepted, expected a port",
        ),
        (
            when("source.serviceAccount", json!(["a/b/c"])),
            "spec.rules[0].when[0].values[0]: \"a/b/c\" is not accepted, expected NAMESPACE/SERVICE_ACCOUNT",
        ),
        (
            custom(json!({"from": [{"source": {"notPrincipals": ["a"]}}]})),
            "spec.rules[0].from[0].source.notPrincipals: \"a\" is not accepted, expected no such field beside action CUSTOM",
        ),
        (
            custom(json!({"when": [{"key": "request.auth.claims[a]", "values": ["a"]}]})),
            "spec.rules[0].when[0].key: \"request.auth.claims[a]\" is not accepted, expected another key beside action CUSTOM",
        ),
    ] {
        let message = parsed(spec).unwrap_err();
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("; spec."), "one mistake, one error: {message}");
    }
    for account in ["a/", "/a", "a*", "a/b/c", &"a".repeat(321)] {
        assert!(
            parsed(source(json!({"notServiceAccounts": [account]}))).is_err(),
            "{account}"
        );
    }
}

#[test]
fn the_annotation_of_a_dry_run() {
    let deny = json!({"action": "DENY", "rules": [{}]});
    let annotated = |value: &str, spec: &Value| annotated(json!({ DRY_RUN: value }), spec.clone());
    for (value, expected) in [("true", true), ("T", true), ("1", true), ("false", false), ("0", false)] {
        assert_eq!(parse(&annotated(value, &deny)).unwrap().1.dry_run, expected);
    }
    for (value, spec, accepted) in [
        ("yes", deny, "true or false"),
        ("true", json!({"action": "AUDIT"}), "no such annotation unless"),
        (
            "true",
            json!({"action": "CUSTOM", "provider": {"name": "p"}, "rules": [{}]}),
            "no such annotation unless",
        ),
    ] {
        let resource = annotated(value, &spec);
        let errors = parse(&resource).unwrap_err();
        assert_eq!(errors[0].field, "metadata.annotations[istio.io/dry-run]");
        assert!(errors[0].accepted.starts_with(accepted), "{errors:?}");
        assert!(!strictest(&resource).1.dry_run);
    }
}

#[test]
fn a_policy_that_does_not_parse_opens_nothing() {
    let bad = json!({"from": [{"source": {"ipBlocks": ["host"]}}]});
    let good = json!({"to": [{"operation": {"methods": ["GET"]}}]});
    let of = |action: &str| {
        let provider = (action == "CUSTOM").then(|| json!({"name": "p"}));
        let resource = resource(json!({"action": action, "rules": [bad, good], "provider": provider}));
        assert!(parse(&resource).is_err());
        strictest(&resource).1
    };
    let parsed_good = rule(good.clone());
    assert_eq!(of("ALLOW").rules, std::slice::from_ref(&parsed_good));
    assert_eq!(of("AUDIT").rules, std::slice::from_ref(&parsed_good));
    assert_eq!(of("DENY").rules, [Rule::default(), parsed_good.clone()]);
    assert_eq!(of("CUSTOM").rules, [Rule::default(), parsed_good]);
    let unknown = of("PERMIT");
    assert_eq!((unknown.action, unknown.rules), (Action::Deny, vec![Rule::default()]));

    // Of a selector beside references, the selector counts.
    let both = resource(json!({"selector": {}, "targetRef": {"kind": "Service", "name": "s"}}));
    assert!(parse(&both).is_err());
    assert!(!strictest(&both).0.refs);
}

#[test]
fn a_shape_that_is_not_the_resources_is_an_error() {
    for object in [
        json!(1),
        json!({"spec": []}),
        json!({"spec": {"rules": [null]}}),
        json!({"spec": {"rules": {}}}),
    ] {
        assert!(read(object.clone()).is_err(), "{object}");
    }
}
