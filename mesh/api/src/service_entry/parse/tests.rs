use serde_json::{Value, json};

use super::*;

fn resource(spec: &Value) -> ServiceEntry {
    read(json!({"metadata": {"name": "e", "namespace": "a"}, "spec": spec})).unwrap()
}

/// An entry for one host and port, with fields in place of it or beside.
fn with(fields: Value) -> Value {
    let mut spec = json!({
        "hosts": ["api.example.com"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]
    });
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    spec
}

fn port(number: i64, protocol: &str) -> Value {
    json!({"number": number, "name": format!("p{number}"), "protocol": protocol})
}

#[test]
fn what_is_refused_names_the_field() {
    let endpoint = json!([{"address": "10.0.0.1"}]);
    for (fields, expected) in [
        (json!({"hosts": []}), "spec.hosts: \"\""),
        (json!({"hosts": ["*"]}), "spec.hosts[0]: \"*\""),
        (json!({"hosts": ["a.*.com"]}), "spec.hosts[0]: \"a.*.com\""),
        (json!({"hosts": ["10.0.0.1"]}), "spec.hosts[0]: \"10.0.0.1\""),
        (
            json!({"hosts": ["*.example.com"], "resolution": "DNS"}),
            "spec.hosts[0]: \"*.example.com\" is not accepted, expected a name that can be resolved, or endpoints, for DNS",
        ),
        (json!({"addresses": ["10.0.0"]}), "spec.addresses[0]: \"10.0.0\""),
        (
            json!({"addresses": ["10.0.0.0/33"]}),
            "spec.addresses[0]: \"10.0.0.0/33\"",
        ),
        (
            json!({"addresses": ["10.0.0.0/8"], "resolution": "DNS"}),
            "spec.addresses: \"10.0.0.0/8\" is not accepted, expected addresses alone",
        ),
        (json!({"ports": [port(0, "TCP")]}), "spec.ports[0].number: \"0\""),
        (
            json!({"ports": [port(65_536, "TCP")]}),
            "spec.ports[0].number: \"65536\"",
        ),
        (
            json!({"ports": [{"number": 80, "protocol": "TCP"}]}),
            "spec.ports[0].name: \"\"",
        ),
        (
            json!({"ports": [port(80, "TCP"), port(80, "TCP")]}),
            "spec.ports[1].name: \"p80\"",
        ),
        (
            json!({"ports": [{"number": 80, "name": "a"}, {"number": 80, "name": "b"}]}),
            "spec.ports[1].number: \"80\"",
        ),
        (
            json!({"ports": [{"number": 80, "name": "a", "targetPort": 70_000}]}),
            "spec.ports[0].targetPort: \"70000\"",
        ),
        (json!({"ports": [port(80, "FTP")]}), "spec.ports[0].protocol: \"FTP\""),
        (json!({"location": "MESH"}), "spec.location: \"MESH\""),
        (json!({"resolution": "SOME"}), "spec.resolution: \"SOME\""),
        (
            json!({"endpoints": endpoint}),
            "spec.endpoints: \"1\" is not accepted, expected no endpoints for NONE",
        ),
        (
            json!({"resolution": "STATIC", "endpoints": endpoint, "workloadSelector": {}}),
            "spec.endpoints: \"1\" is not accepted, expected one of endpoints and workloadSelector",
        ),
        (
            json!({"resolution": "STATIC", "endpoints": [{"address": "db.example.com"}]}),
            "spec.endpoints[0].address: \"db.example.com\" is not accepted, expected an IP address",
        ),
        (
            json!({"resolution": "STATIC", "endpoints": [{"address": "10.0.0.1", "ports": {"web": 80}}]}),
            "spec.endpoints[0].ports[web]: \"80\"",
        ),
        (
            json!({"resolution": "STATIC", "endpoints": [{}]}),
            "spec.endpoints[0].address: \"\"",
        ),
        (
            json!({"resolution": "DNS", "endpoints": [{"network": "n"}]}),
            "spec.endpoints[0].address: \"\"",
        ),
        (
            json!({"resolution": "DNS", "endpoints": [{"address": "unix:///a"}]}),
            "spec.endpoints[0].address: \"unix:///a\"",
        ),
        (
            json!({"resolution": "STATIC", "endpoints": [{"address": "unix:///a"}], "ports": [port(80, "HTTP"), port(81, "HTTP")]}),
            "spec.endpoints[0].address: \"unix:///a\"",
        ),
        (
            json!({"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.b"}, {"address": "c.d"}]}),
            "spec.endpoints: \"2\"",
        ),
        (
            json!({"resolution": "DYNAMIC_DNS"}),
            "spec.hosts[0]: \"api.example.com\" is not accepted, expected a wildcard, for DYNAMIC_DNS",
        ),
        (
            json!({"hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS", "addresses": ["10.0.0.1"]}),
            "spec.addresses: \"10.0.0.1\"",
        ),
        (
            json!({"hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS", "endpoints": endpoint}),
            "spec.endpoints: \"1\"",
        ),
        (
            json!({"hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS", "ports": [port(443, "HTTPS")]}),
            "spec.ports[0].protocol: \"HTTPS\"",
        ),
        (
            json!({"hosts": ["a.com", "b.com"], "resolution": "DNS", "ports": [port(80, "TCP")]}),
            "spec.ports[0].protocol: \"TCP\" is not accepted, expected a protocol that names the host",
        ),
        (
            json!({"resolution": "DNS", "workloadSelector": {"labels": {"a": "*"}}}),
            "spec.workloadSelector.labels[a]: \"*\"",
        ),
        (json!({"exportTo": ["*", "b"]}), "spec.exportTo: \"*, b\""),
        (json!({"exportTo": ["~", "b"]}), "spec.exportTo: \"~, b\""),
        (json!({"exportTo": [".", "a"]}), "spec.exportTo: \"a\""),
        (json!({"exportTo": ["a b"]}), "spec.exportTo: \"a b\""),
    ] {
        let errors = parse(&resource(&with(fields.clone()))).unwrap_err();
        let text = crate::join(&errors);
        assert!(text.starts_with(expected), "{fields}: {text}");
    }
}

#[test]
fn what_is_accepted_with_a_word() {
    for (fields, expected) in [
        (json!({}), &[][..]),
        (json!({"resolution": "DNS", "ports": [port(80, "TCP")]}), &[]),
        (
            json!({"hosts": ["*-api.example.com"]}),
            &["spec.hosts[0]: \"*-api.example.com\" has a wildcard for a part of a label"],
        ),
        (
            json!({"hosts": ["*-api.example.com"], "resolution": "DYNAMIC_DNS"}),
            &[],
        ),
        (
            json!({"ports": [port(80, "TCP")]}),
            &["spec.ports[0]: without spec.addresses"],
        ),
        (
            json!({"ports": [port(80, "")]}),
            &["spec.ports[0]: without spec.addresses"],
        ),
        (json!({"ports": [port(80, "TCP")], "addresses": ["10.0.0.1"]}), &[]),
        (
            json!({"ports": [port(53, "UDP")]}),
            &["spec.ports[0]: UDP is not captured"],
        ),
        (
            json!({"workloadSelector": {}}),
            &[
                "spec.workloadSelector has no labels",
                "spec.workloadSelector has no effect",
            ],
        ),
        (
            json!({"hosts": ["a.com", "b.com"], "resolution": "DNS", "addresses": ["10.0.0.1"], "ports": [port(443, "TLS")]}),
            &["spec.hosts: several hosts share spec.addresses"],
        ),
        (
            json!({"resolution": "STATIC", "endpoints": [{"address": "unix:///a"}]}),
            &["spec.endpoints[0].address: Unix sockets"],
        ),
        (
            json!({"resolution": "STATIC", "endpoints": [{"address": "10.0.0.1", "network": "n"}]}),
            &["spec.endpoints[0].network has no effect"],
        ),
    ] {
        let resource = resource(&with(fields.clone()));
        assert!(parse(&resource).is_ok(), "{fields}");
        let warnings = warnings(&resource);
        assert_eq!(warnings.len(), expected.len(), "{fields}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.starts_with(expected), "{fields}: {warning}");
        }
    }
}

#[test]
fn what_is_accepted_is_kept() {
    let entry = parse(&resource(&with(json!({
        "hosts": ["API.example.com.", "api.example.com"], "addresses": ["10.0.0.1", "10.1.2.3/8", "fd00::/64"],
        "ports": [
            {"number": 443, "name": "tls", "protocol": "tls", "targetPort": 8443},
            {"number": 80, "name": "web", "protocol": "GRPC-Web"}, {"number": 81, "name": "any"}
        ],
        "location": "MESH_INTERNAL", "resolution": "NONE", "exportTo": ["."], "subjectAltNames": ["spiffe://a/b"]
    }))))
    .unwrap();
    assert_eq!(entry.hosts, ["api.example.com".into()]);
    let addresses: Vec<String> = entry.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1/32", "10.0.0.0/8", "fd00::/64"]);
    assert!(entry.has_address("10.200.0.1".parse().unwrap()) && !entry.has_address("11.0.0.1".parse().unwrap()));
    let ports: Vec<_> = entry
        .ports
        .iter()
        .map(|port| (port.number, port.protocol, port.tls, port.target))
        .collect();
    assert_eq!(
        ports,
        [
            (443, Declared::Tcp, true, Some(8443)),
            (80, Declared::Http2, false, None),
            (81, Declared::Detect, false, None)
        ]
    );
    assert_eq!(
        (entry.location, entry.resolution),
        (Location::Internal, Resolution::None)
    );
    assert!(entry.reaches("a") && !entry.reaches("b") && !entry.auto_allocate);
    let auto = |labels: Value| {
        let object = json!({"metadata": {"name": "e", "labels": labels}, "spec": with(json!({"resolution": "DNS"}))});
        parse(&read(object).unwrap()).unwrap().auto_allocate
    };
    assert!(auto(json!({})) && !auto(json!({AUTO_ALLOCATE: "False"})));
}
