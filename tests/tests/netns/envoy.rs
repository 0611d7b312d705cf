//! Envoy, configured in the shape that Istio gives it, on either side of our sidecar. `hack/tools envoy` brings it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::grpc;
use super::http::{BIG, Connection, application, get, pattern};
use super::http2::run;
use super::namespaces::as_proxy;
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::world::{CLIENT, CLIENT_ID, FIXTURES, SERVER, SERVER_ID, World, eventually, skipped};

const API: &str = "type.googleapis.com/envoy.extensions";
const STRICT: &str = "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

/// The binary, or None with the reason printed.
fn envoy() -> Option<PathBuf> {
    let cache = std::env::var_os("PINNACE_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/pinnace");
    let binary = cache.unwrap_or_else(home).join("bin/envoy");
    if !binary.exists() {
        skipped(&format!(
            "{} is not there; hack/tools envoy brings it",
            binary.display()
        ));
        return None;
    }
    Some(fs::canonicalize(binary).unwrap())
}

/// Starts Envoy in a pod, as its sidecar would run.
fn start(world: &mut World, pod: &Pod, binary: &Path, listeners: &[Value], clusters: &[Value]) {
    let admin = address("127.0.0.1", 15000);
    let config =
        json!({"admin": {"address": admin}, "static_resources": {"listeners": listeners, "clusters": clusters}});
    let file = world.folder.join("envoy.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut command = as_proxy(&pod.namespace, &world.program(binary));
    command
        .arg("-c")
        .arg(file)
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    world.spawn("envoy", command);
    eventually("Envoy is ready", || {
        pod.page(15000, "/ready").is_ok_and(|it| it.0 == 200)
    });
}

/// The protocols of the matrix, as Envoy's clusters are named here.
const PROTOCOLS: [&str; 3] = ["http1", "http2", "tcp"];

/// Whether each of Envoy's parts, and no other, has resumed sessions if it may.
fn assert_resumed(pod: &Pod, parts: &[String], resumption: bool) {
    let (_, stats) = pod.page(15000, "/stats?filter=ssl.session_reused").unwrap();
    for part in parts {
        let line = format!("{part}.ssl.session_reused: ");
        let count = stats
            .lines()
            .find_map(|it| it.strip_prefix(&line)?.trim().parse::<u64>().ok());
        assert!(
            count.is_some_and(|count| (count > 0) == resumption),
            "{part} {resumption}: {stats}"
        );
    }
}

#[test]
fn envoy_calls_our_inbound() {
    let Some(binary) = envoy() else { return };
    let Some(mut world) = World::new() else { return };
    let (client, server) = (world.pod("client", CLIENT), world.pod("server", SERVER));
    world.fixtures(&format!("{FIXTURES}{STRICT}"));
    world.discovery();
    world.sidecar(&server, &[]);
    world.ready(&server);
    application(&server, 8080);
    serve(&server, 9000, echo);
    let sni = |port: u16, resumption: bool| {
        let keys = u32::from(resumption);
        json!({"sni": format!("outbound_.{port}_._.server.shop.svc.cluster.local"), "max_session_keys": keys})
    };
    let upstream = |name: &str, [service, port]: [u16; 2], alpn: &[&str], resumption: bool| {
        let peer = json!({"exact": SERVER_ID});
        let tls = tls("Upstream", &client, alpn, &peer, sni(service, resumption));
        cluster(name, SERVER, port, Some(tls))
    };
    run(async {
        grpc::application(&server, 8082);
        for resumption in [true, false] {
            start(
                &mut world,
                &client,
                &binary,
                &[
                    listener("127.0.0.1", 7000, &connection_manager("http1"), None),
                    listener("127.0.0.1", 7001, &tcp_proxy("tcp"), None),
                    listener("127.0.0.1", 7002, &connection_manager("http2"), None),
                ],
                &[
                    upstream(
                        "http1",
                        [80, 8080],
                        &["istio-http/1.1", "istio", "http/1.1"],
                        resumption,
                    ),
                    upstream("tcp", [9000, 9000], &["istio-peer-exchange", "istio"], resumption),
                    upstream("http2", [82, 8082], &["istio-h2", "istio", "h2"], resumption),
                ],
            );
            for _ in 0..2 {
                exchange(&client, "127.0.0.1:7000", "127.0.0.1:7001");
                grpc::exchange(&client, "127.0.0.1:7002", &format!("URI={CLIENT_ID}")).await;
            }
            assert_resumed(&client, &PROTOCOLS.map(|name| format!("cluster.{name}")), resumption);
            world.stop("envoy");
        }
    });
    assert_eq!(
        server.metric("pinnace_proxy_connections_refused_total{reason=\"client_handshake\"}"),
        0.0
    );
    assert_eq!(
        server.metric("pinnace_proxy_connections_total{direction=\"inbound\",security=\"none\"}"),
        0.0
    );

    // An Envoy that expects somebody else does not take us.
    let peer = json!({"exact": "spiffe://cluster.local/ns/shop/sa/somebody"});
    let http = tls(
        "Upstream",
        &client,
        &["istio-http/1.1", "istio", "http/1.1"],
        &peer,
        sni(80, true),
    );
    let listeners = [listener("127.0.0.1", 7000, &connection_manager("http1"), None)];
    start(
        &mut world,
        &client,
        &binary,
        &listeners,
        &[cluster("http1", SERVER, 8080, Some(http))],
    );
    assert_eq!(
        Connection::new(client.connect("127.0.0.1:7000"))
            .ask(get("server", "/"))
            .status(),
        503
    );
}

#[test]
fn our_outbound_calls_envoy() {
    let Some(binary) = envoy() else { return };
    let Some(mut world) = World::new() else { return };
    let (client, server) = (world.pod("client", CLIENT), world.pod("server", SERVER));
    world.fixtures(FIXTURES);
    world.discovery();
    world.sidecar(&client, &[]);
    world.ready(&client);
    application(&server, 7080);
    serve(&server, 7090, echo);
    let alpn = [
        "istio-peer-exchange",
        "h2",
        "http/1.1",
        "istio-h2",
        "istio-http/1.1",
        "istio",
    ];
    let peer = json!({"prefix": "spiffe://cluster.local/"});
    run(async {
        grpc::application(&server, 7082);
        for resumption in [true, false] {
            let options = json!({
                "require_client_certificate": true,
                "disable_stateless_session_resumption": !resumption,
                "disable_stateful_session_resumption": !resumption,
            });
            let tls = tls("Downstream", &server, &alpn, &peer, options);
            start(
                &mut world,
                &server,
                &binary,
                &[
                    listener(SERVER, 8080, &limited("http1"), Some(&tls)),
                    listener(SERVER, 9000, &tcp_proxy("tcp"), Some(&tls)),
                    listener(SERVER, 8082, &limited("http2"), Some(&tls)),
                ],
                &[
                    cluster("http1", "127.0.0.1", 7080, None),
                    cluster("tcp", "127.0.0.1", 7090, None),
                    cluster("http2", "127.0.0.1", 7082, None),
                ],
            );
            for _ in 0..2 {
                exchange(&client, "10.96.0.2:80", "10.96.0.2:9000");
                grpc::exchange(&client, "10.96.0.2:82", &format!("URI={CLIENT_ID}")).await;
            }
            let listeners = [8080, 9000, 8082].map(|port| format!("listener.{SERVER}_{port}"));
            assert_resumed(&server, &listeners, resumption);
            let (_, stats) = server.page(15000, "/stats?filter=ssl.versions").unwrap();
            assert!(
                stats.contains("ssl.versions.TLSv1.3") && !stats.contains("ssl.versions.TLSv1.2"),
                "{stats}"
            );
            world.stop("envoy");
        }
    });
}

/// HTTP with bodies both ways, and opaque bytes with a half-close.
fn exchange(client: &Pod, http: &str, tcp: &str) {
    let mut connection = Connection::new(client.connect(http));
    for _ in 0..5 {
        let answer = connection.ask(get("server", "/"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert!(answer.text().contains(&format!("URI={CLIENT_ID}")), "{}", answer.text());
    }
    assert!(connection.ask(get("server", "/big")).body == pattern(BIG));
    let body = pattern(1 << 20);
    let mut request = format!(
        "POST /count HTTP/1.1\r\nhost: server\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    assert_eq!(connection.ask(request).text(), format!("{} true", body.len()));
    let chunked = "POST /chunked HTTP/1.1\r\nhost: server\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    assert_eq!(connection.ask(chunked).text(), "body");

    let mut stream = client.connect(tcp);
    for line in ["first", "second"] {
        stream.write_all(line.as_bytes()).unwrap();
        let mut back = vec![0; line.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, line.as_bytes());
    }
    stream.write_all(b"last").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last");
}

fn listener(ip: &str, port: u16, filter: &Value, tls: Option<&Value>) -> Value {
    let mut chain = json!({"filters": [filter]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls.clone();
    }
    json!({"name": format!("{ip}_{port}"), "address": address(ip, port), "filter_chains": [chain]})
}

fn connection_manager(cluster: &str) -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}});
    let hosts = json!([{"name": "any", "domains": ["*"], "routes": [route]}]);
    filter(
        "http_connection_manager",
        "HttpConnectionManager",
        json!({
            "stat_prefix": cluster,
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                "@type": format!("{API}.filters.http.router.v3.Router")}}],
            "route_config": {"name": cluster, "virtual_hosts": hosts},
        }),
    )
}

/// The same, whose connections serve a few requests each, so that there are several.
fn limited(cluster: &str) -> Value {
    let mut manager = connection_manager(cluster);
    manager["typed_config"]["common_http_protocol_options"] = json!({"max_requests_per_connection": 3});
    manager
}

fn tcp_proxy(cluster: &str) -> Value {
    filter(
        "tcp_proxy",
        "TcpProxy",
        json!({"stat_prefix": cluster, "cluster": cluster}),
    )
}

fn filter(name: &str, message: &str, mut config: Value) -> Value {
    config["@type"] = format!("{API}.filters.network.{name}.v3.{message}").into();
    json!({"name": format!("envoy.filters.network.{name}"), "typed_config": config})
}

/// A cluster that speaks what its name says.
fn cluster(name: &str, ip: &str, port: u16, tls: Option<Value>) -> Value {
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address(ip, port)}}]}]);
    let mut cluster = json!({"name": name, "type": "STATIC", "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints}});
    let protocol = match name {
        "http1" => Some("http_protocol_options"),
        "http2" => Some("http2_protocol_options"),
        _ => None,
    };
    if let Some(protocol) = protocol {
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{API}.upstreams.http.v3.HttpProtocolOptions"),
            "common_http_protocol_options": {"max_requests_per_connection": 3},
            "explicit_http_config": {protocol: {}}}});
    }
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}

/// As Istio's agent gives it to Envoy: 1.2 and 1.3, the pod's certificate, the mesh's roots, whom the peer must be.
fn tls(direction: &str, pod: &Pod, alpn: &[&str], peer: &Value, mut options: Value) -> Value {
    let file = |name: &str| json!({"filename": pod.certificates.join(name)});
    options["@type"] = format!("{API}.transport_sockets.tls.v3.{direction}TlsContext").into();
    options["common_tls_context"] = json!({
        "alpn_protocols": alpn,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": file("tls.crt"), "private_key": file("tls.key")}],
        "validation_context": {
            "trusted_ca": file("ca.crt"),
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}]},
    });
    json!({"name": "envoy.transport_sockets.tls", "typed_config": options})
}

fn address(ip: &str, port: u16) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}
