//! The four servers over loopback, asked by hand-written requests.

use std::time::SystemTime;

use mesh_wire::admin::{Clusters, DiscoveryState, Listeners, Policies};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use super::*;
use prometheus::Registry;

struct Fixed {
    readiness: watch::Receiver<Readiness>,
}

impl View for Fixed {
    fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }
    fn certificates(&self) -> Vec<Certificate> {
        vec![Certificate {
            kind: CertificateKind::Leaf,
            identity: "spiffe://cluster.local/ns/shop/sa/web".to_owned(),
            serial: "0a1b".to_owned(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::now() + Duration::from_secs(3600),
            source: "/etc/certs/tls.crt".to_owned(),
        }]
    }
    fn config_dump(&self) -> Value {
        serde_json::json!({"workload": "web"})
    }
    fn trust_domains(&self) -> Vec<String> {
        vec!["cluster.local".to_owned(), "old.example".to_owned()]
    }
    fn clusters(&self, after: Option<&str>, limit: usize) -> Clusters {
        Clusters {
            total: limit,
            next: after.map(str::to_owned),
            ..Clusters::default()
        }
    }
    fn listeners(&self) -> Listeners {
        Listeners {
            total: 3,
            ..Listeners::default()
        }
    }
    fn policies(&self) -> Policies {
        Policies {
            received: true,
            ..Policies::default()
        }
    }
    fn discovery(&self) -> DiscoveryState {
        DiscoveryState {
            connected: true,
            ..DiscoveryState::default()
        }
    }
}

struct Running {
    at: Addresses,
    handles: Handles,
    readiness: watch::Sender<Readiness>,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

fn start(probes: &str) -> Running {
    let (readiness, seen) = watch::channel(Readiness {
        certificate: true,
        configuration: true,
    });
    let registry = Registry::new();
    let counter = prometheus::IntCounter::new("pinnace_test_total", "a counter").unwrap();
    counter.inc_by(7);
    registry.register(Box::new(counter)).unwrap();
    let handles = Handles {
        view: Arc::new(Fixed { readiness: seen }),
        phase: watch::Sender::new(Phase::Serving),
        registry,
        log: LogControl::fixed("info"),
    };
    let free = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let config = Config {
        addresses: Addresses {
            admin: free,
            agent: free,
            health: free,
            metrics: free,
        },
        probes: Probes::parse(probes).unwrap(),
        application: Targets::default(),
        pod_address: Ipv4Addr::LOCALHOST.into(),
        name: "web-0.shop".to_owned(),
        kernel_tls: kernel_tls::report(kernel_tls::Setting::Auto, true, &Registry::new()).unwrap(),
    };
    let servers = Servers::bind(config, handles.clone()).unwrap();
    let at = servers.addresses().unwrap();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(servers.run(shutdown.clone()));
    Running {
        at,
        handles,
        readiness,
        shutdown,
        served,
    }
}

/// Status and body of a request.
async fn ask(stream: TcpStream, method: &str, path: &str) -> (u16, String) {
    let mut stream = stream;
    stream
        .write_all(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).unwrap_or("0").parse().unwrap(), body.to_owned())
}

async fn to(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    ask(TcpStream::connect(address).await.unwrap(), method, path).await
}

#[tokio::test]
async fn readiness_needs_certificate_and_configuration_and_no_drain() {
    let running = start("");
    let Addresses {
        admin, agent, health, ..
    } = running.at;
    assert_eq!(to(health, "GET", "/healthz/ready").await, (200, "ready".to_owned()));
    assert_eq!(to(agent, "GET", "/healthz/ready").await.0, 200);
    assert_eq!(to(admin, "GET", "/ready").await, (200, "LIVE".to_owned()));

    running
        .readiness
        .send(Readiness {
            certificate: false,
            configuration: true,
        })
        .unwrap();
    let (status, body) = to(health, "GET", "/healthz/ready").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("certificate") && !body.contains("configuration"),
        "{body}"
    );
    assert_eq!(to(agent, "GET", "/healthz/ready").await.0, 503);

    running
        .readiness
        .send(Readiness {
            certificate: true,
            configuration: true,
        })
        .unwrap();
    assert_eq!(to(agent, "POST", "/drain").await.0, 200);
    let (status, body) = to(health, "GET", "/healthz/ready").await;
    assert_eq!((status, body.as_str()), (503, "the proxy is draining"));
}

#[tokio::test]
async fn drain_and_quit_are_taken_by_post_from_within_the_pod() {
    for server in ["admin", "agent"] {
        for (path, phase) in [("/drain", Phase::Draining), ("/quitquitquit", Phase::Quitting)] {
            let running = start("");
            let at = if server == "admin" {
                running.at.admin
            } else {
                running.at.agent
            };
            assert_eq!(to(at, "GET", path).await.0, 405);
            // What the sidecar carries in from elsewhere comes from 127.0.0.6.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.6:0".parse().unwrap()).unwrap();
            assert_eq!(ask(socket.connect(at).await.unwrap(), "POST", path).await.0, 403);
            assert_eq!(*running.handles.phase.borrow(), Phase::Serving);
            assert_eq!(to(at, "POST", path).await.0, 200);
            assert_eq!(*running.handles.phase.borrow(), phase);
        }
    }
    let running = start("");
    for at in [running.at.health, running.at.metrics] {
        assert_eq!(to(at, "POST", "/quitquitquit").await.0, 404);
    }
}

#[tokio::test]
async fn a_peer_from_outside_is_refused() {
    // The machine's own address stands for another host: it is no loopback address.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Ok(IpAddr::V4(own)) = own.map(|a| a.ip()) else {
        println!("skipped: this machine has no address but loopback");
        return;
    };
    let registry = Registry::new();
    let (_readiness, seen) = watch::channel(Readiness::default());
    let handles = Handles {
        view: Arc::new(Fixed { readiness: seen }),
        phase: watch::Sender::new(Phase::Serving),
        registry,
        log: LogControl::fixed("info"),
    };
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let config = Config {
        addresses: Addresses {
            admin: any,
            agent: any,
            health: any,
            metrics: any,
        },
        probes: Probes::default(),
        application: Targets::default(),
        pod_address: own.into(),
        name: String::new(),
        kernel_tls: kernel_tls::report(kernel_tls::Setting::Off, true, &Registry::new()).unwrap(),
    };
    let servers = Servers::bind(config, handles.clone()).unwrap();
    let agent = SocketAddr::new(own.into(), servers.addresses().unwrap().agent.port());
    let shutdown = CancellationToken::new();
    tokio::spawn(servers.run(shutdown.clone()));
    for path in ["/drain", "/quitquitquit"] {
        assert_eq!(to(agent, "POST", path).await.0, 403);
    }
    assert_eq!(*handles.phase.borrow(), Phase::Serving);
    // One address cannot take all places: the 33rd connection is closed, another address is still served.
    let mut held = Vec::new();
    for _ in 0..33 {
        held.push(TcpStream::connect(agent).await.unwrap());
    }
    let last = held.pop().unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(2), { last }.read(&mut [0]))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
    // Seen through the dual-stack socket, a loopback peer is mapped into IPv6 and still is one.
    let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), agent.port());
    assert_eq!(to(local, "POST", "/drain").await.0, 200);
    // Places are given back.
    drop(held);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(to(agent, "GET", "/healthz/ready").await.0, 503);
    shutdown.cancel();
}

#[tokio::test]
async fn pages_show_what_they_promise() {
    let running = start("");
    let Addresses {
        admin,
        agent,
        health,
        metrics,
    } = running.at;
    for at in [admin, agent, metrics] {
        let (status, body) = to(at, "GET", "/stats/prometheus").await;
        assert_eq!(status, 200);
        assert!(body.contains("pinnace_test_total 7"), "{body}");
    }
    let (_, stats) = to(admin, "GET", "/stats").await;
    assert!(
        stats.lines().any(|line| line == "pinnace_test_total: 7") && !stats.contains('#'),
        "{stats}"
    );
    let (_, body) = to(admin, "GET", "/certs").await;
    let certs: Value = serde_json::from_str(&body).unwrap();
    let leaf = &certs["certificates"][0];
    assert_eq!(leaf["serial"], "0a1b");
    assert_eq!(leaf["kind"], "leaf");
    assert_eq!(leaf["not_before"], "1970-01-01T00:00:00Z");
    assert!((3590..=3600).contains(&leaf["seconds_until_expiration"].as_u64().unwrap()));
    let (_, body) = to(admin, "GET", "/config_dump").await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["workload"], "web");
    assert_eq!(certs["trust_domain"], "cluster.local");
    assert_eq!(certs["trust_domain_aliases"], serde_json::json!(["old.example"]));
    for (path, field, value) in [
        ("/clusters", "total", Value::from(500)),
        ("/clusters?limit=7", "total", Value::from(7)),
        ("/clusters?limit=many", "total", Value::from(500)),
        (
            "/clusters?after=outbound|80||web",
            "next",
            Value::from("outbound|80||web"),
        ),
        ("/listeners", "total", Value::from(3)),
        ("/policies", "received", Value::from(true)),
        ("/discovery", "connected", Value::from(true)),
    ] {
        let (status, body) = to(admin, "GET", path).await;
        let page: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &page[field]), (200, &value), "{path}");
    }
    let (_, body) = to(admin, "GET", "/server_info").await;
    let info: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&info["state"], &info["node"]["id"]),
        (&Value::from("LIVE"), &Value::from("web-0.shop"))
    );
    assert_eq!(info["kernel_tls"]["setting"], "auto");
    assert!(to(admin, "GET", "/help").await.1.contains("/quitquitquit (POST)"));

    for (at, method, path, status) in [
        (admin, "GET", "/nothing", 404),
        (admin, "POST", "/certs", 405),
        (health, "GET", "/stats/prometheus", 404),
        (health, "POST", "/healthz/ready", 405),
        (metrics, "GET", "/healthz/ready", 404),
        (agent, "GET", "/certs", 404),
        (agent, "GET", "/clusters", 404),
        (admin, "POST", "/policies", 405),
        (agent, "GET", "/app-health/web/readyz", 404),
    ] {
        assert_eq!(to(at, method, path).await.0, status, "{method} {path}");
    }
}

#[tokio::test]
async fn the_log_level_changes_by_post() {
    let running = start("");
    let admin = running.at.admin;
    assert!(to(admin, "GET", "/logging").await.1.contains("info"));
    assert_eq!(to(admin, "POST", "/logging?level=debug").await.0, 200);
    assert_eq!(running.handles.log.level(), "debug");
    assert_eq!(to(admin, "POST", "/logging?proxy::inbound=trace").await.0, 200);
    assert_eq!(running.handles.log.level(), "debug,proxy::inbound=trace");
    let (status, body) = to(admin, "POST", "/logging?level=loud").await;
    assert_eq!(status, 400);
    assert!(body.contains("`loud`"), "{body}");
    assert_eq!(to(admin, "PUT", "/logging?level=info").await.0, 405);
}

#[tokio::test]
async fn heads_are_bounded() {
    let running = start("");
    let many = "a: b\r\n".repeat(200);
    let long = format!("a: {}\r\n", "b".repeat(64 * 1024));
    for headers in [many, long] {
        let mut stream = TcpStream::connect(running.at.agent).await.unwrap();
        // The server may hang up while this is being sent.
        let _ = stream
            .write_all(format!("GET /healthz/ready HTTP/1.1\r\n{headers}\r\n").as_bytes())
            .await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(to(running.at.agent, "GET", "/healthz/ready").await.0, 200);
}

#[tokio::test]
async fn shutdown_ends_the_servers() {
    let running = start("");
    running.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), running.served)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(running.at.health).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen::bind(address).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_probe_is_run_when_asked_for() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let probes = format!(
        r#"{{"/app-health/web/livez": {{"tcpSocket": {{"port": {port}}}}},
            "/app-lifecycle/web/prestopz": {{"httpGet": {{"port": {port}, "path": "/stop"}}}}}}"#
    );
    let running = start(&probes);
    let asked = tokio::spawn(async move {
        let (stream, peer) = app.accept().await.unwrap();
        assert_eq!(
            peer.ip(),
            Ipv4Addr::new(127, 0, 0, 6),
            "the source that the redirect rules leave alone"
        );
        drop(stream);
        let (mut stream, _) = app.accept().await.unwrap();
        let mut head = vec![0; 1024];
        let read = stream.read(&mut head).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    assert_eq!(to(running.at.agent, "GET", "/app-health/web/livez").await.0, 200);
    assert_eq!(to(running.at.agent, "POST", "/app-health/web/livez").await.0, 404);
    assert_eq!(to(running.at.agent, "GET", "/app-lifecycle/web/prestopz").await.0, 418);
    assert!(asked.await.unwrap().starts_with("GET /stop HTTP/1.1\r\n"));
    assert_eq!(to(running.at.health, "GET", "/app-health/web/livez").await.0, 404);
}
