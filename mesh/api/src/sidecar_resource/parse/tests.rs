use mesh_core::sidecar_scope::{Egress, EgressPort, Import, InNamespace};
use serde_json::{Value, json};

use super::*;

fn resource(spec: &Value) -> Sidecar {
    read(json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "Sidecar",
        "metadata": {"name": "s", "namespace": "ns", "creationTimestamp": "1970-01-01T00:01:00Z"}, "spec": spec
    }))
    .unwrap()
}

fn parsed(spec: &Value) -> Result<Scope, String> {
    parse(&resource(spec)).map_err(|errors| crate::join(&errors))
}

fn import(namespace: InNamespace, host: &str) -> Import {
    Import {
        namespace,
        host: host.into(),
    }
}

#[test]
fn what_counts_comes_through() {
    let scope = parsed(&json!({
        "workloadSelector": {"labels": {"app": "web"}},
        "egress": [
            {"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "hosts": ["shop/*"]},
            {"port": {"number": 8080, "protocol": "HTTP_PROXY"}, "bind": "127.0.0.1", "hosts": ["*/*"]},
            {"port": {"protocol": "MONGO"}, "bind": "unix:///var/run/m.sock", "captureMode": "NONE", "hosts": ["./*"]},
            {"hosts": ["./*", "istio-system/*", "*/*.example.com", "~other/a.example.com", "~*/b.example.com"]}
        ],
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY"}
    }))
    .unwrap();
    assert_eq!((&*scope.namespace, &*scope.name, scope.created), ("ns", "s", 60));
    assert_eq!(scope.selector.unwrap().0["app"], "web");
    assert_eq!(scope.outbound, Some(Outbound::AllowAny));
    let ports: Vec<EgressPort> = scope.egress.iter().map(|egress| egress.port).collect();
    assert_eq!(
        ports,
        [
            EgressPort::Number(80),
            EgressPort::Never,
            EgressPort::Never,
            EgressPort::Other
        ]
    );
    assert_eq!(
        scope.egress[3],
        Egress {
            port: EgressPort::Other,
            hosts: vec![
                import(InNamespace::Own, "*"),
                import(InNamespace::Of("istio-system".into()), "*"),
                import(InNamespace::Any, "*.example.com")
            ],
            excluded: vec![
                import(InNamespace::Of("other".into()), "a.example.com"),
                import(InNamespace::Any, "b.example.com")
            ],
        }
    );
    let policy = |policy: Value| parsed(&json!({"outboundTrafficPolicy": policy})).unwrap().outbound;
    assert_eq!(policy(json!({})), Some(Outbound::RegistryOnly));
    assert_eq!(parsed(&json!({"egress": [{"hosts": ["*/*"]}]})).unwrap().outbound, None);
}

#[test]
fn what_istio_accepts_parses_with_its_warnings() {
    let pool = json!({"http": {"http1MaxPendingRequests": 1}});
    let ingress = |fields: Value| {
        let mut entry = json!({"port": {"number": 443, "protocol": "HTTPS", "name": "https"}});
        entry
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"ingress": [entry]})
    };
    let hosts = |hosts: &[&str]| json!({"egress": [{"hosts": hosts}]});
    let files = json!({"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"});
    let none: &[&str] = &[];
    let without = "accepted, and without effect in this version: spec.ingress";
    for (spec, expected) in [
        (hosts(&["./*"]), none),
        (hosts(&["*/*", "~ns/x.example.com"]), none),
        (
            hosts(&["a/b.c", "a/b.c"]),
            &["spec.egress[0].hosts[1]: a/b.c is covered"],
        ),
        (
            hosts(&["./*", "ns/b.c"]),
            &["spec.egress[0].hosts[1]: ns/b.c is covered"],
        ),
        (hosts(&["*/*", "a/b.c"]), &["spec.egress[0].hosts: */* is every host"]),
        (
            json!({"workloadSelector": {"labels": {}}, "egress": [{"hosts": ["./*"]}]}),
            &["spec.workloadSelector has no labels"],
        ),
        (ingress(json!({"defaultEndpoint": "127.0.0.1:80"})), &[without]),
        (ingress(json!({"defaultEndpoint": ":80", "bind": "::"})), &[without]),
        (
            ingress(json!({"defaultEndpoint": "unix://@abstract", "tls": files})),
            &[without],
        ),
        (
            ingress(json!({"tls": {"caCrl": "/r"}})),
            &["spec.ingress[0].tls: PASSTHROUGH uses no certificates", without],
        ),
        (
            ingress(json!({"connectionPool": pool})),
            &["spec.ingress[0].connectionPool.http has no effect on a port", without],
        ),
        (
            json!({"inboundConnectionPool": pool}),
            &["accepted, and without effect in this version: spec.inboundConnectionPool"],
        ),
        (
            json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "e.ns.svc.cluster.local", "subset": "v1", "port": {"number": 80}}}}),
            &["accepted, and without effect in this version: spec.outboundTrafficPolicy.egressProxy"],
        ),
        (
            json!({"egress": [{"port": {"number": 80}, "bind": "10.0.0.1", "hosts": ["./*"]}]}),
            &["accepted, and without effect in this version: spec.egress[0].bind"],
        ),
    ] {
        let resource = resource(&spec);
        assert!(parse(&resource).is_ok(), "{spec}: {:?}", parse(&resource));
        let warnings = warnings(&resource);
        assert_eq!(warnings.len(), expected.len(), "{spec}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.starts_with(expected), "{expected}: {warning}");
        }
    }
    assert!(read(json!({"metadata": {"name": "no-spec"}})).is_ok());
    assert!(read(json!({"spec": {"egress": 7}})).is_err());
}

#[test]
fn what_istio_refuses_is_refused() {
    let egress = |list: Value| json!({"egress": list});
    let hosts = |host: &str| json!({"egress": [{"hosts": [host]}]});
    let ingress = |fields: Value| {
        let mut entry = json!({"port": {"number": 443, "protocol": "HTTPS"}});
        entry
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"ingress": [entry]})
    };
    let tls = |settings: Value| ingress(json!({"tls": settings}));
    let policy = |policy: Value| json!({"outboundTrafficPolicy": policy});
    let host = json!(["./*"]);
    for (spec, field) in [
        (json!({}), "spec: "),
        (json!({"workloadSelector": {"labels": {"a": "b"}}}), "spec: "),
        (
            json!({"workloadSelector": {"labels": {"a*": "b"}}, "egress": [{"hosts": host}]}),
            "spec.workloadSelector.labels",
        ),
        (
            json!({"workloadSelector": {"labels": {"a": "*"}}, "egress": [{"hosts": host}]}),
            "spec.workloadSelector.labels[a]",
        ),
        (egress(json!([{"hosts": []}])), "spec.egress[0].hosts"),
        (egress(json!([{"hosts": host}, {"hosts": host}])), "spec.egress[0].port"),
        (
            egress(json!([{"port": {"number": 80}, "hosts": host}, {"port": {"number": 80}, "hosts": host}])),
            "spec.egress[1].port.number",
        ),
        (
            egress(json!([{"port": {"number": 70000}, "hosts": host}])),
            "spec.egress[0].port.number",
        ),
        (
            egress(json!([{"port": {"number": 80, "targetPort": 1}, "hosts": host}])),
            "spec.egress[0].port.targetPort",
        ),
        (
            egress(json!([{"port": {"number": 80, "protocol": "SPDY"}, "hosts": host}])),
            "spec.egress[0].port.protocol",
        ),
        (
            egress(json!([{"port": {"number": 80, "name": "a_b"}, "hosts": host}])),
            "spec.egress[0].port.name",
        ),
        (
            egress(json!([{"port": {"number": 80}, "bind": "a", "hosts": host}])),
            "spec.egress[0].bind",
        ),
        (
            egress(json!([{"port": {}, "bind": "127.0.0.1", "hosts": host}])),
            "spec.egress[0].bind",
        ),
        (
            egress(json!([{"port": {}, "bind": "unix://a", "hosts": host}])),
            "spec.egress[0].bind",
        ),
        (
            egress(json!([{"port": {}, "bind": "unix:///a", "captureMode": "IPTABLES", "hosts": host}])),
            "spec.egress[0].captureMode",
        ),
        (hosts("reviews"), "spec.egress[0].hosts[0]"),
        (hosts("ns/reviews"), "spec.egress[0].hosts[0]"),
        (hosts("/a.b"), "spec.egress[0].hosts[0]"),
        (hosts("ns/"), "spec.egress[0].hosts[0]"),
        (hosts("a_b/*"), "spec.egress[0].hosts[0]"),
        (hosts("ns/*a.b"), "spec.egress[0].hosts[0]"),
        (hosts("ns/a.*.b"), "spec.egress[0].hosts[0]"),
        (hosts("ns/a/b.c"), "spec.egress[0].hosts[0]"),
        (ingress(json!({"port": null})), "spec.ingress[0].port"),
        (ingress(json!({"port": {"number": 0}})), "spec.ingress[0].port.number"),
        (ingress(json!({"bind": "unix:///a"})), "spec.ingress[0].bind"),
        (
            ingress(json!({"defaultEndpoint": "10.0.0.1:80"})),
            "spec.ingress[0].defaultEndpoint",
        ),
        (
            ingress(json!({"defaultEndpoint": "127.0.0.1"})),
            "spec.ingress[0].defaultEndpoint",
        ),
        (
            ingress(json!({"defaultEndpoint": "unix://a"})),
            "spec.ingress[0].defaultEndpoint",
        ),
        (
            json!({"ingress": [{"port": {"number": 80, "protocol": "HTTP"}, "tls": {}}]}),
            "spec.ingress[0].tls",
        ),
        (
            json!({"ingress": [{"port": {"number": 80}}, {"port": {"number": 80}}]}),
            "spec.ingress[1].port.number",
        ),
        (tls(json!({"mode": "ISTIO_MUTUAL"})), "spec.ingress[0].tls.mode"),
        (
            tls(json!({"mode": "SIMPLE", "privateKey": "/k"})),
            "spec.ingress[0].tls.serverCertificate",
        ),
        (
            tls(json!({"mode": "MUTUAL", "serverCertificate": "/c", "privateKey": "/k"})),
            "spec.ingress[0].tls.caCertificates",
        ),
        (
            tls(json!({"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k", "caCrl": "/r"})),
            "spec.ingress[0].tls.caCrl",
        ),
        (
            tls(json!({"credentialName": "s"})),
            "spec.ingress[0].tls.credentialName",
        ),
        (tls(json!({"httpsRedirect": true})), "spec.ingress[0].tls.httpsRedirect"),
        (ingress(json!({"connectionPool": {}})), "spec.ingress[0].connectionPool"),
        (
            json!({"inboundConnectionPool": {"tcp": {"maxConnections": -1}}}),
            "spec.inboundConnectionPool.tcp.maxConnections",
        ),
        (
            policy(json!({"mode": "ALLOW_ANY_DYNAMIC_DNS"})),
            "spec.outboundTrafficPolicy.mode",
        ),
        (
            policy(json!({"egressProxy": {"host": "a.b"}})),
            "spec.outboundTrafficPolicy.egressProxy",
        ),
        (
            policy(json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "a.b"}})),
            "spec.outboundTrafficPolicy.egressProxy.port.number",
        ),
        (
            policy(json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "*.b", "port": {"number": 1}}})),
            "spec.outboundTrafficPolicy.egressProxy.host",
        ),
    ] {
        let Err(refused) = parsed(&spec) else {
            panic!("accepted: {spec}")
        };
        assert!(refused.starts_with(field), "{field}: {refused}");
    }
}
