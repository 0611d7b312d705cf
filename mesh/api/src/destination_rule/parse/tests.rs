use std::sync::Arc;
use std::time::Duration;

use mesh_core::client_tls::ClientTls;
use mesh_core::destination_rule::{ConnectionPool, LoadBalancer, Settings};
use mesh_core::traffic::{
    Balancer, ConsistentHash, Cookie, Distribute, HashAlgorithm, HashKey, Http2KeepAlive, HttpLimits, Keepalive,
    LocalitySetting, OutlierDetection, ProxyProtocol, RetryBudget, TcpLimits, UpgradePolicy, Warmup,
};
use serde_json::{Value, json};

use super::*;

fn resource(spec: &Value) -> DestinationRule {
    read(json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "DestinationRule",
        "metadata": {"name": "r", "namespace": "ns", "creationTimestamp": "1970-01-01T00:01:00Z"}, "spec": spec
    }))
    .unwrap()
}

fn parsed(spec: Value) -> Result<Rule, String> {
    parse(&resource(&spec)).map_err(|errors| crate::join(&errors))
}

fn tls(settings: Value) -> Value {
    json!({"host": "reviews", "trafficPolicy": {"tls": settings}})
}

/// The manifests that users of Istio have, and every field of the resource at once.
#[test]
fn what_istio_accepts_parses() {
    let rule =
        parsed(json!({"host": "*.default.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}));
    let rule = rule.unwrap();
    assert_eq!((&*rule.namespace, &*rule.name, rule.created), ("ns", "r", 60));
    assert!(rule.export_to.public && rule.selector.is_none());
    assert_eq!(rule.policy.unwrap().tls_on(80).unwrap().mode(), "ISTIO_MUTUAL");

    let rule = parsed(json!({
        "host": "reviews", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]
    }))
    .unwrap();
    assert_eq!(rule.subsets.len(), 2);
    assert_eq!(rule.subsets[1].labels["version"], "v2");

    let policy = json!({
        "loadBalancer": {
            "consistentHash": {
                "httpCookie": {"name": "c", "path": "/", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Lax"}]},
                "maglev": {"tableSize": 65537}
            },
            "localityLbSetting": {
                "enabled": true,
                "distribute": [
                    {"from": "us-west/zone1/*", "to": {"us-west/zone1/*": 80, "us-west/zone2/*": 20}},
                    {"from": "us-west/zone2/*", "to": {"*": 100}}
                ]
            },
            "warmup": {"duration": "30s", "minimumPercent": 10, "aggression": 1.5}
        },
        "connectionPool": {
            "tcp": {
                "maxConnections": 100, "connectTimeout": "30ms", "idleTimeout": "0s", "maxConnectionDuration": "1h",
                "tcpKeepalive": {"probes": 9, "time": "7200s", "interval": "75s"}
            },
            "http": {
                "http1MaxPendingRequests": 1, "http2MaxRequests": 2, "maxRequestsPerConnection": 3, "maxRetries": 4,
                "idleTimeout": "1h", "h2UpgradePolicy": "UPGRADE", "useClientProtocol": false,
                "maxConcurrentStreams": 5, "http2KeepAlive": {"interval": "1s", "timeout": "2s"}
            }
        },
        "outlierDetection": {
            "splitExternalLocalOriginErrors": true, "consecutiveLocalOriginFailures": 5, "consecutiveGatewayErrors": 5,
            "consecutive5xxErrors": 7, "interval": "5m", "baseEjectionTime": "15m", "maxEjectionPercent": 50,
            "minHealthPercent": 10, "outlierDetectionHttpErrorCodes": [500, 503]
        },
        "tls": {
            "mode": "MUTUAL", "clientCertificate": "/etc/c.pem", "privateKey": "/etc/k.pem", "caCertificates": "/etc/ca.pem",
            "caCrl": "/etc/crl.pem", "sni": "sni.example", "subjectAltNames": ["a.example"], "insecureSkipVerify": false
        },
        "portLevelSettings": [
            {"port": {"number": 443}, "tls": {"mode": "SIMPLE"}},
            {"port": {"number": 9090}, "loadBalancer": {"simple": "ROUND_ROBIN"}}
        ],
        "proxyProtocol": {"version": "V2"},
        "retryBudget": {"percent": 20, "minRetryConcurrency": 3, "budgetInterval": "10s"}
    });
    let whole = json!({
        "host": "reviews.shop.svc.cluster.local", "exportTo": [".", "web"], "trafficPolicy": policy,
        "subsets": [{"name": "v1", "labels": {"example.com/version": "", "v": "1.0_a"}, "trafficPolicy": policy}]
    });
    let rule = parsed(whole).unwrap();
    let policy = rule.policy.unwrap();
    let modes: Vec<_> = [80, 443, 9090]
        .map(|port| policy.tls_on(port).map(|tls| tls.mode()))
        .into();
    assert_eq!(modes, [Some("MUTUAL"), Some("SIMPLE"), None]);
    assert!(rule.export_to.own && rule.export_to.namespaces.contains("web") && !rule.export_to.public);
    let of_subset = rule.subsets[0].policy.as_ref().unwrap();
    assert_eq!(of_subset.tls.as_ref().unwrap().mode(), "MUTUAL");
    assert_eq!((&*rule.subsets[0].rule, &of_subset.settings), ("r", &policy.settings));
    assert_eq!(policy.settings, whole_settings());
    assert_eq!(policy.proxy_protocol, Some(ProxyProtocol::V2));
    let budget = RetryBudget {
        percent: 20.0,
        min_concurrency: 3,
        interval: Some(Duration::from_secs(10)),
    };
    assert_eq!(policy.retry_budget, Some(budget));
    let of_port = &policy.ports[&9090].settings;
    assert_eq!(of_port.balancer.as_ref().unwrap().balancer, Balancer::RoundRobin);
    assert_eq!((&of_port.pool, &of_port.outliers), (&None, &None));

    for spec in [
        json!({"host": "*"}),
        json!({"host": "*-web.ns.svc.cluster.local"}),
        json!({"host": "r", "exportTo": ["*"]}),
        json!({"host": "r", "exportTo": ["."], "workloadSelector": {"matchLabels": {"app": "web"}}}),
        json!({"host": "r", "exportTo": ["ns"], "workloadSelector": {}}),
        json!({"host": "r", "trafficPolicy": null}),
        json!({"host": "r", "trafficPolicy": {"tunnel": {"protocol": "POST", "targetHost": "a.b", "targetPort": 443}}}),
        json!({"host": "r", "trafficPolicy": {"loadBalancer": {"zoneAwareLbSetting": {"enabled": null, "minClusterSize": 3}}}}),
        tls(json!({"mode": "SIMPLE", "insecureSkipVerify": true})),
        tls(json!({"mode": "SIMPLE", "caCertificates": "system"})),
    ] {
        assert!(parsed(spec.clone()).is_ok(), "{spec}: {:?}", parsed(spec.clone()));
    }
    assert!(read(json!({"metadata": {"name": "no-spec"}})).is_ok());
    assert!(read(json!({"spec": {"host": 7}})).is_err());
}

/// What the whole policy of [`what_istio_accepts_parses`] says.
fn whole_settings() -> Settings {
    let seconds = Duration::from_secs;
    let place = |place: &str, share| (Arc::from(place), share);
    Settings {
        balancer: Some(LoadBalancer {
            balancer: Balancer::Hash(ConsistentHash {
                key: HashKey::Cookie(Cookie {
                    name: "c".into(),
                    path: Some("/".into()),
                    ttl: Some(Duration::ZERO),
                    attributes: vec![("SameSite".into(), "Lax".into())],
                }),
                algorithm: HashAlgorithm::Maglev { table_size: 65537 },
            }),
            locality: LocalityRule::Set(LocalitySetting {
                distribute: vec![
                    Distribute {
                        from: "us-west/zone1/*".into(),
                        to: [place("us-west/zone1/*", 80), place("us-west/zone2/*", 20)].into(),
                    },
                    Distribute {
                        from: "us-west/zone2/*".into(),
                        to: [place("*", 100)].into(),
                    },
                ],
                ..LocalitySetting::default()
            }),
            warmup: Some(Warmup {
                duration: seconds(30),
                minimum_percent: 10.0,
                aggression: 1.5,
            }),
        }),
        pool: Some(ConnectionPool {
            tcp: TcpLimits {
                max_connections: Some(100),
                connect_timeout: Some(Duration::from_millis(30)),
                keepalive: Some(Keepalive {
                    probes: Some(9),
                    time: Some(seconds(7200)),
                    interval: Some(seconds(75)),
                }),
                max_connection_duration: Some(seconds(3600)),
                idle_timeout: Some(Duration::ZERO),
            },
            http: HttpLimits {
                max_pending: Some(1),
                max_requests: Some(2),
                max_requests_per_connection: Some(3),
                max_retries: Some(4),
                idle_timeout: Some(seconds(3600)),
                upgrade: UpgradePolicy::Upgrade,
                use_client_protocol: false,
                max_concurrent_streams: Some(5),
                http2_keep_alive: Some(Http2KeepAlive {
                    interval: seconds(1),
                    timeout: seconds(2),
                }),
            },
        }),
        outliers: Some(OutlierDetection {
            split_local_errors: true,
            consecutive_local: 5,
            consecutive_gateway: 5,
            consecutive_5xx: 7,
            interval: seconds(300),
            base_ejection_time: seconds(900),
            max_ejection_percent: 50,
            min_health_percent: 10,
            error_codes: vec![500, 503],
        }),
    }
}

/// What is absent, zero or written in an older way.
#[test]
fn balancers_and_what_is_not_said() {
    let of = |settings: Value| {
        let policy = parsed(json!({"host": "r", "trafficPolicy": settings}));
        policy.unwrap().policy.unwrap()
    };
    let balancer = |it: Value| of(json!({"loadBalancer": it})).settings.balancer.unwrap();
    for (simple, expected) in [
        ("UNSPECIFIED", Balancer::LeastRequest),
        ("LEAST_CONN", Balancer::LeastRequest),
        ("LEAST_REQUEST", Balancer::LeastRequest),
        ("ROUND_ROBIN", Balancer::RoundRobin),
        ("RANDOM", Balancer::Random),
        ("PASSTHROUGH", Balancer::Passthrough),
    ] {
        assert_eq!(balancer(json!({"simple": simple})).balancer, expected, "{simple}");
    }
    let ring = |minimum_size| HashAlgorithm::Ring { minimum_size };
    for (hash, key, algorithm) in [
        (
            json!({"httpHeaderName": "X-User"}),
            HashKey::Header("x-user".into()),
            ring(1024),
        ),
        (
            json!({"useSourceIp": true, "ringHash": {"minimumRingSize": 64}}),
            HashKey::SourceIp,
            ring(64),
        ),
        (
            json!({"httpQueryParameterName": "User", "minimumRingSize": 2048}),
            HashKey::QueryParameter("User".into()),
            ring(2048),
        ),
        (
            json!({"useSourceIp": true, "ringHash": {"minimumRingSize": 1_000_000_000}}),
            HashKey::SourceIp,
            ring(8 << 20),
        ),
    ] {
        let expected = Balancer::Hash(ConsistentHash { key, algorithm });
        assert_eq!(balancer(json!({"consistentHash": hash})).balancer, expected);
    }
    let nothing = json!({"consistentHash": {"useSourceIp": false}});
    assert_eq!(balancer(nothing).balancer, Balancer::Random);
    let older = balancer(json!({"warmupDurationSecs": "20s"})).warmup.unwrap();
    let newer = balancer(json!({"warmup": {"duration": "20s"}})).warmup.unwrap();
    assert_eq!((older.minimum_percent, older.aggression), (10.0, 1.0));
    assert_eq!(older, newer);
    let off = balancer(json!({"localityLbSetting": {"enabled": false, "failover": [{"from": "a", "to": "b"}]}}));
    assert_eq!(off.locality, LocalityRule::Off);
    assert_eq!(balancer(json!({"simple": "RANDOM"})).locality, LocalityRule::Unsaid);

    let zero = json!({"tcp": {"maxConnections": 0}, "http": {"http2MaxRequests": 0, "maxRetries": 0}});
    assert_eq!(
        of(json!({"connectionPool": zero})).settings.pool,
        Some(ConnectionPool::default())
    );
    let outliers = |it: Value| of(json!({"outlierDetection": it})).settings.outliers.unwrap();
    let default = OutlierDetection::default();
    assert_eq!(outliers(json!({"maxEjectionPercent": 0})), default);
    let off = outliers(json!({"consecutive5xxErrors": 0}));
    assert_eq!((off.consecutive_5xx, off.consecutive_gateway), (0, 0));
    let policy = of(json!({"proxyProtocol": {}, "retryBudget": {"minRetryConcurrency": 0}}));
    assert_eq!(policy.proxy_protocol, Some(ProxyProtocol::V1));
    let budget = policy.retry_budget.unwrap();
    assert_eq!(
        (budget.percent, budget.min_concurrency, budget.interval),
        (20.0, 3, None)
    );
}

#[test]
fn tls_keeps_what_belongs_to_its_mode() {
    let of = |settings: Value| (*parsed(tls(settings)).unwrap().policy.unwrap().tls.unwrap()).clone();
    assert_eq!(of(json!({})), ClientTls::Disable);
    assert_eq!(of(json!({"mode": "DISABLE", "sni": "a"})), ClientTls::Disable);
    let ClientTls::IstioMutual(names) =
        of(json!({"mode": "ISTIO_MUTUAL", "sni": "a.b", "subjectAltNames": ["spiffe://x"]}))
    else {
        panic!()
    };
    assert_eq!((names.sni.as_deref(), names.subject_alt_names.len()), (Some("a.b"), 1));
    let ClientTls::Simple(simple) =
        of(json!({"mode": "SIMPLE", "caCertificates": "system", "clientCertificate": "/c"}))
    else {
        panic!()
    };
    assert_eq!(simple, Default::default());
    for (selector, words) in [
        (json!(null), "is for gateways"),
        (json!({"matchLabels": {"a": "b"}}), "do not read Secrets"),
    ] {
        let mut spec = tls(json!({"mode": "SIMPLE", "credentialName": "secret"}));
        spec["workloadSelector"] = selector;
        let rule = parsed(spec.clone()).unwrap();
        let ClientTls::Refused(reason) = &*rule.policy.unwrap().tls.unwrap() else {
            panic!("never in the clear")
        };
        assert!(reason.contains(words) && reason.contains("\"secret\""), "{reason}");
        assert!(warnings(&resource(&spec))[0].contains(words));
    }
}

#[test]
fn every_error_names_the_field_the_value_and_what_is_accepted() {
    let policy = |policy: Value| json!({"host": "r", "trafficPolicy": policy});
    let balancer = |it: Value| policy(json!({"loadBalancer": it}));
    let hash = |it: Value| balancer(json!({"consistentHash": it}));
    let locality = |it: Value| balancer(json!({"localityLbSetting": it}));
    let pool = |it: Value| policy(json!({"connectionPool": it}));
    let outliers = |it: Value| policy(json!({"outlierDetection": it}));
    let cases: Vec<(Value, &str)> = vec![
        (json!({}), r#"spec.host: "" is not accepted, expected a host name"#),
        (json!({"host": "a*"}), r#"spec.host: "a*""#),
        (json!({"host": "a.*.b"}), r#"spec.host: "a.*.b""#),
        (json!({"host": "10.0.0.1"}), r#"spec.host: "10.0.0.1""#),
        (json!({"host": "a_b"}), r#"spec.host: "a_b""#),
        (json!({"host": "a..b"}), r#"spec.host: "a..b""#),
        (
            json!({"host": "r", "exportTo": ["~"]}),
            r#"spec.exportTo: "~" is not accepted, expected ., * or"#,
        ),
        (
            json!({"host": "r", "exportTo": [".", "ns"]}),
            r#"spec.exportTo: "ns" is not accepted, expected each namespace once"#,
        ),
        (
            json!({"host": "r", "exportTo": ["*", "a"]}),
            r#"spec.exportTo: "*, a" is not accepted, expected * alone"#,
        ),
        (
            json!({"host": "r", "exportTo": ["*"], "workloadSelector": {}}),
            r#"spec.exportTo: "*" is not accepted, expected the rule's own namespace alone"#,
        ),
        (
            json!({"host": "r", "workloadSelector": {"matchLabels": {"app": "a*"}}}),
            r#"spec.workloadSelector.matchLabels[app]: "a*""#,
        ),
        (
            json!({"host": "r", "subsets": [{"name": ""}]}),
            r#"spec.subsets[0].name: """#,
        ),
        (
            json!({"host": "r", "subsets": [{"name": "v1"}, {"name": "v1"}]}),
            r#"spec.subsets[1].name: "v1" is not accepted, expected each name once"#,
        ),
        (
            json!({"host": "r", "subsets": [{"name": "v1", "labels": {"a/": "b"}}]}),
            r#"spec.subsets[0].labels: "a/""#,
        ),
        (
            json!({"host": "r", "subsets": [{"name": "v1", "labels": {"a": "b c"}}]}),
            r#"spec.subsets[0].labels[a]: "b c""#,
        ),
        (
            json!({"host": "r", "subsets": [{"name": "v1", "trafficPolicy": {"tls": {"mode": "ON"}}}]}),
            r#"spec.subsets[0].trafficPolicy.tls.mode: "ON""#,
        ),
        (
            policy(json!({})),
            r#"spec.trafficPolicy: "{}" is not accepted, expected at least one field"#,
        ),
        (
            policy(json!({"tunnel": {"targetHost": "a", "targetPort": 1}, "proxyProtocol": {}})),
            "expected one of tunnel and proxyProtocol",
        ),
        (
            policy(json!({"tunnel": {"targetHost": "a b", "targetPort": 0}})),
            r#"tunnel.targetHost: "a b""#,
        ),
        (
            policy(json!({"tunnel": {"targetHost": "a", "targetPort": 0}})),
            r#"tunnel.targetPort: "0" is not accepted, expected 1 to 65535"#,
        ),
        (
            policy(json!({"tunnel": {"targetHost": "a", "targetPort": 1, "protocol": "GET"}})),
            r#"tunnel.protocol: "GET" is not accepted, expected one of CONNECT, POST"#,
        ),
        (
            policy(json!({"proxyProtocol": {"version": "V3"}})),
            r#"proxyProtocol.version: "V3""#,
        ),
        (
            policy(json!({"retryBudget": {"percent": 101}})),
            r#"retryBudget.percent: "101""#,
        ),
        (
            policy(json!({"portLevelSettings": [{"tls": {"mode": "SIMPLE"}}]})),
            r#"spec.trafficPolicy.portLevelSettings[0].port.number: "" is not accepted, expected a Service's port"#,
        ),
        (
            policy(json!({"portLevelSettings": [{"port": {"number": 70000}, "tls": {}}]})),
            r#"portLevelSettings[0].port.number: "70000""#,
        ),
        (
            policy(json!({"portLevelSettings": [{"port": {"number": 80}}]})),
            "portLevelSettings[0]: \"port\" is not accepted, expected at least one of",
        ),
        (
            policy(json!({"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "MUTUAL"}}]})),
            r#"portLevelSettings[0].tls.clientCertificate: """#,
        ),
        (
            tls(json!({"mode": "simple"})),
            r#"spec.trafficPolicy.tls.mode: "simple" is not accepted, expected one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL"#,
        ),
        (
            tls(json!({"mode": "SIMPLE", "sni": "a b"})),
            r#"spec.trafficPolicy.tls.sni: "a b" is not accepted, expected a host name"#,
        ),
        (
            tls(json!({"mode": "MUTUAL", "clientCertificate": "/c"})),
            r#"tls.privateKey: "" is not accepted, expected a file in the proxy"#,
        ),
        (
            tls(json!({"mode": "SIMPLE", "insecureSkipVerify": true, "caCertificates": "/c"})),
            r#"tls.insecureSkipVerify: "true" is not accepted, expected false, or no caCertificates"#,
        ),
        (
            tls(json!({"mode": "SIMPLE", "insecureSkipVerify": true, "credentialName": "s"})),
            "expected false, or no credentialName",
        ),
        (
            tls(json!({"mode": "MUTUAL", "insecureSkipVerify": true, "subjectAltNames": ["a"]})),
            "expected false, or no subjectAltNames",
        ),
        (
            tls(json!({"mode": "MUTUAL", "credentialName": "s", "privateKey": "/k"})),
            r#"tls.credentialName: "s" is not accepted, expected no privateKey beside it"#,
        ),
        (balancer(json!({"simple": "BEST"})), r#"loadBalancer.simple: "BEST""#),
        (
            balancer(json!({"simple": "RANDOM", "consistentHash": {"useSourceIp": true}})),
            "expected one of simple and consistentHash",
        ),
        (
            hash(json!({"useSourceIp": true, "httpHeaderName": "a"})),
            r#"loadBalancer.consistentHash: "httpHeaderName, useSourceIp""#,
        ),
        (
            hash(json!({"ringHash": {}, "maglev": {"tableSize": 7}})),
            "expected one of ringHash and maglev",
        ),
        (
            hash(json!({"minimumRingSize": 7, "ringHash": {}})),
            r#"minimumRingSize: "7""#,
        ),
        (
            hash(json!({"maglev": {"tableSize": 65536}})),
            r#"tableSize: "65536" is not accepted, expected a prime"#,
        ),
        (hash(json!({"maglev": {}})), r#"tableSize: "0""#),
        (
            hash(json!({"maglev": {"tableSize": 5_000_011}})),
            r#"tableSize: "5000011""#,
        ),
        (hash(json!({"httpCookie": {"name": ""}})), r#"httpCookie.name: """#),
        (
            hash(json!({"httpCookie": {"name": "a", "attributes": [{"name": "b"}, {"name": "b"}]}})),
            r#"attributes[1].name: "b" is not accepted, expected each name once"#,
        ),
        (
            balancer(json!({"localityLbSetting": {}, "zoneAwareLbSetting": {}})),
            "expected one of localityLbSetting and zoneAwareLbSetting",
        ),
        (
            balancer(json!({"warmup": {"duration": "0s"}})),
            r#"warmup.duration: "0s""#,
        ),
        (balancer(json!({"warmup": {}})), r#"warmup.duration: """#),
        (
            balancer(json!({"warmup": {"duration": "1s", "aggression": 0}})),
            r#"warmup.aggression: "0""#,
        ),
        (
            balancer(json!({"warmupDurationSecs": "1"})),
            r#"warmupDurationSecs: "1""#,
        ),
        (
            locality(json!({"distribute": [{"from": "a", "to": {"b": 90}}]})),
            r#"distribute[0].to: "90" is not accepted, expected weights that make 100 in all"#,
        ),
        (
            locality(json!({"distribute": [{"from": "a//b", "to": {"b": 100}}]})),
            r#"distribute[0].from: "a//b""#,
        ),
        (
            locality(json!({"distribute": [{"from": "a/*", "to": {"b": 100}}, {"from": "a/b", "to": {"b": 100}}]})),
            r#"distribute[1].from: "a/b" is not accepted, expected localities that do not overlap: a/* is there before"#,
        ),
        (
            locality(json!({"distribute": [{"from": "a", "to": {"b": 100}}], "failover": [{"from": "a", "to": "b"}]})),
            "expected one of distribute and failover",
        ),
        (
            locality(json!({"failover": [{"from": "a", "to": "a"}]})),
            r#"failover[0]: "a to a""#,
        ),
        (
            locality(json!({"failover": [{"from": "a/b", "to": "c"}]})),
            r#"failover[0].from: "a/b""#,
        ),
        (
            locality(
                json!({"failover": [{"from": "a", "to": "b"}], "failoverPriority": ["topology.kubernetes.io/zone"]}),
            ),
            r#"failoverPriority[0]: "topology.kubernetes.io/zone""#,
        ),
        (
            balancer(json!({"zoneAwareLbSetting": {"minClusterSize": 0}})),
            r#"zoneAwareLbSetting.minClusterSize: "0""#,
        ),
        (
            pool(json!({})),
            "connectionPool: \"{}\" is not accepted, expected at least one of tcp and http",
        ),
        (
            pool(json!({"tcp": {"maxConnections": -1}})),
            r#"tcp.maxConnections: "-1""#,
        ),
        (
            pool(json!({"tcp": {"connectTimeout": "1us"}})),
            r#"tcp.connectTimeout: "1us""#,
        ),
        (
            pool(json!({"tcp": {"idleTimeout": "soon"}})),
            r#"tcp.idleTimeout: "soon""#,
        ),
        (
            pool(json!({"tcp": {"tcpKeepalive": {"time": "0s"}}})),
            r#"tcpKeepalive.time: "0s""#,
        ),
        (pool(json!({"http": {"maxRetries": -2}})), r#"http.maxRetries: "-2""#),
        (
            pool(json!({"http": {"h2UpgradePolicy": "MAYBE"}})),
            r#"http.h2UpgradePolicy: "MAYBE""#,
        ),
        (
            pool(json!({"http": {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": true}})),
            r#"http.useClientProtocol: "true""#,
        ),
        (
            pool(json!({"http": {"http2KeepAlive": {"interval": "1s"}}})),
            r#"http2KeepAlive.timeout: """#,
        ),
        (
            outliers(json!({"interval": "0s"})),
            r#"outlierDetection.interval: "0s""#,
        ),
        (
            outliers(json!({"maxEjectionPercent": 101})),
            r#"maxEjectionPercent: "101" is not accepted, expected 0 to 100"#,
        ),
        (
            outliers(json!({"consecutiveLocalOriginFailures": 1})),
            r#"consecutiveLocalOriginFailures: "1" is not accepted, expected 0, or splitExternal"#,
        ),
        (
            outliers(json!({"outlierDetectionHttpErrorCodes": [99]})),
            r#"outlierDetectionHttpErrorCodes[0]: "99""#,
        ),
    ];
    for (spec, expected) in cases {
        match parsed(spec.clone()) {
            Err(error) => assert!(
                error.contains(expected),
                "{spec}\n  said {error}\n  expected {expected}"
            ),
            Ok(_) => panic!("{spec} must be refused: {expected}"),
        }
    }
}

#[test]
fn all_errors_come_at_once() {
    let error =
        parsed(json!({"host": "", "trafficPolicy": {"tls": {"mode": "ON"}, "outlierDetection": {"interval": "x"}}}));
    let error = error.unwrap_err();
    for field in [
        "spec.host",
        "spec.trafficPolicy.tls.mode",
        "spec.trafficPolicy.outlierDetection.interval",
    ] {
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn what_may_surprise_gets_a_warning() {
    for (spec, expected) in [
        (json!({"host": "r"}), None),
        (tls(json!({"mode": "ISTIO_MUTUAL"})), None),
        (tls(json!({})), Some("has no mode, which is DISABLE")),
        (
            tls(json!({"mode": "ISTIO_MUTUAL", "caCertificates": "/c"})),
            Some("spec.trafficPolicy.tls.caCertificates has no meaning for ISTIO_MUTUAL"),
        ),
        (
            json!({"host": "reviews.shop"}),
            Some("spec.host: \"reviews.shop\" is taken as it stands"),
        ),
        (
            json!({"host": "r", "workloadSelector": {}}),
            Some("spec.workloadSelector has no labels"),
        ),
        (json!({"host": "r", "subsets": [{"name": "v1"}]}), None),
        (
            json!({"host": "r", "subsets": [{"name": "v1", "trafficPolicy": {"tunnel": {"targetHost": "a.b", "targetPort": 1}}}]}),
            Some("accepted, and without effect in this version: spec.subsets[0].trafficPolicy.tunnel"),
        ),
        (
            json!({"host": "r", "trafficPolicy": {
                "loadBalancer": {"consistentHash": {"useSourceIp": true}}, "connectionPool": {"tcp": {"maxConnections": 1}},
            }}),
            Some(
                "without effect in this version: spec.trafficPolicy.loadBalancer.consistentHash, \
                 spec.trafficPolicy.connectionPool",
            ),
        ),
        (
            json!({"host": "r", "trafficPolicy": {"loadBalancer": {"simple": "LEAST_CONN"}}}),
            Some("LEAST_CONN is deprecated"),
        ),
        (
            json!({"host": "r", "trafficPolicy": {"portLevelSettings": [
                {"port": {"number": 80}, "tls": {"mode": "DISABLE"}}, {"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}
            ]}}),
            Some("port 80 has settings before"),
        ),
    ] {
        let said = warnings(&resource(&spec));
        match expected {
            None => assert!(said.is_empty(), "{spec}: {said:?}"),
            Some(words) => assert!(said.iter().any(|it| it.contains(words)), "{spec}: {said:?}"),
        }
    }
}
