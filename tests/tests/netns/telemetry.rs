//! What the sidecars tell of a call: metrics of both reporters, and the access log.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use super::http::{application, fetch};
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::world::{FIXTURES, OTHER, World, eventually};

/// Workloads as Deployments make them.
fn fixtures(mesh: &str) -> String {
    let named = FIXTURES
        .replace("{name: shop/client-1,", "{name: shop/client-1, owner: client-v1,")
        .replace("labels: {app: client}", "labels: {app: client, version: v1}")
        .replace("{name: shop/server-1,", "{name: shop/server-1, owner: server-v2,")
        .replace("labels: {app: server}", "labels: {app: server, version: v2}");
    format!("mesh: {mesh}\n{named}")
}

/// The samples of a family on a sidecar's page.
fn samples(pod: &Pod, family: &str) -> Vec<String> {
    let (status, page) = pod.page(15090, "/stats/prometheus").unwrap();
    assert_eq!(status, 200);
    let start = format!("{family}{{");
    page.lines()
        .filter(|line| line.starts_with(&start))
        .map(str::to_owned)
        .collect()
}

/// The only sample of a family: its labels hold all that is given, and its value is this.
fn only(pod: &Pod, family: &str, labels: &[&str], value: u64) {
    eventually(&format!("{family} at {}", pod.name), || {
        !samples(pod, family).is_empty()
    });
    let found = samples(pod, family);
    let [line] = &found[..] else {
        panic!("{}: one sample of {family} expected: {found:#?}", pod.name)
    };
    for label in labels {
        assert!(line.contains(label), "{}: {label} in {line}", pod.name);
    }
    assert!(line.ends_with(&format!("}} {value}")), "{}: {value}: {line}", pod.name);
}

const SOURCE: [&str; 6] = [
    "source_workload=\"client-v1\"",
    "source_workload_namespace=\"shop\"",
    "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
    "source_app=\"client\"",
    "source_version=\"v1\"",
    "source_canonical_revision=\"v1\"",
];
const DESTINATION: [&str; 9] = [
    "destination_workload=\"server-v2\"",
    "destination_workload_namespace=\"shop\"",
    "destination_principal=\"spiffe://cluster.local/ns/shop/sa/server\"",
    "destination_app=\"server\"",
    "destination_canonical_service=\"server\"",
    "destination_cluster=\"Kubernetes\"",
    "destination_service=\"server.shop.svc.cluster.local\"",
    "destination_service_name=\"server\"",
    "destination_service_namespace=\"shop\"",
];

#[test]
fn a_request_is_told_of_once_by_each_side() {
    let Some((world, client, server)) = World::pair(&fixtures("{accessLogFile: /dev/stdout}")) else {
        return;
    };
    application(&server, 8080);
    let answer = fetch(&client, "10.96.0.2:80", "server", "/path?query").unwrap();
    assert_eq!(answer.status(), 200);
    let http = [
        "request_protocol=\"http\"",
        "response_code=\"200\"",
        "response_flags=\"-\"",
        "grpc_response_status=\"\"",
    ];
    for (pod, own) in [
        (
            &client,
            ["reporter=\"source\"", "connection_security_policy=\"unknown\""],
        ),
        (
            &server,
            ["reporter=\"destination\"", "connection_security_policy=\"mutual_tls\""],
        ),
    ] {
        let labels = [&SOURCE[..], &DESTINATION, &http, &own].concat();
        only(pod, "istio_requests_total", &labels, 1);
        only(pod, "istio_request_duration_milliseconds_count", &labels, 1);
        only(pod, "istio_request_bytes_sum", &labels, 0);
        only(pod, "istio_response_bytes_sum", &labels, answer.body.len() as u64);
        let bound = [&labels[..], &["le=\"+Inf\""]].concat();
        let buckets = samples(pod, "istio_response_bytes_bucket");
        assert_eq!(buckets.len(), 20);
        assert!(bound.iter().all(|label| buckets[19].contains(label)), "{}", buckets[19]);
    }
    for (pod, cluster) in [
        (&client, "outbound|80||server.shop.svc.cluster.local"),
        (&server, "inbound|8080||"),
    ] {
        let name = format!("{}-sidecar", pod.name);
        world.logged(&name, "/path?query");
        let log = world.log(&name);
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.contains("\"GET /path?query HTTP/1.1\" 200 - "))
            .collect();
        let [line] = lines[..] else { panic!("{log}") };
        assert!(line.starts_with('[') && line.ends_with(" default"), "{line}");
        assert!(line.contains(&format!("\"10.77.0.2:8080\" {cluster} ")), "{line}");
        assert!(line.contains(&format!(" 0 {} ", answer.body.len())), "{line}");
        assert!(line.contains("\"server\""), "{line}");
    }
    assert!(
        world
            .log("server-sidecar")
            .contains(" outbound_.80_._.server.shop.svc.cluster.local default")
    );
}

#[test]
fn opaque_connections_are_counted_in_bytes_while_they_last() {
    let Some((world, client, server)) = World::pair(&fixtures("{accessLogFile: /dev/stdout, accessLogEncoding: JSON}"))
    else {
        return;
    };
    serve(&server, 9000, echo);
    let mut stream = client.connect("10.96.0.2:9000");
    stream.write_all(b"12345").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let tcp = ["request_protocol=\"tcp\"", "response_flags=\"-\""];
    let labels = [&SOURCE[..], &DESTINATION, &tcp].concat();
    for pod in [&client, &server] {
        only(pod, "istio_tcp_connections_opened_total", &labels, 1);
        only(pod, "istio_tcp_connections_closed_total", &labels, 0);
        only(pod, "istio_tcp_received_bytes_total", &labels, 5);
        only(pod, "istio_tcp_sent_bytes_total", &labels, 5);
    }
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    for pod in [&client, &server] {
        eventually("the connection is closed", || {
            samples(pod, "istio_tcp_connections_closed_total")[0].ends_with(" 1")
        });
        only(pod, "istio_tcp_connections_opened_total", &labels, 1);
        let name = format!("{}-sidecar", pod.name);
        world.logged(&name, "{\"start_time\"");
        let log = world.log(&name);
        let line = log.lines().find(|line| line.starts_with("{\"start_time\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["bytes_received"], &line["bytes_sent"]),
            (&5.into(), &5.into()),
            "{line}"
        );
        assert_eq!(line["response_code"], 0, "{line}");
        assert!(line["method"].is_null() && line["response_flags"] == "-", "{line}");
    }
}

#[test]
fn what_goes_wrong_is_told_of_without_being_asked() {
    let Some((mut world, client, server)) = World::pair(&fixtures("{}")) else {
        return;
    };
    // Nobody listens behind the server's sidecar; nobody is behind the Service; somebody is outside the mesh.
    assert_eq!(
        fetch(&client, "10.96.0.2:80", "server", "/refused").unwrap().status(),
        503
    );
    assert_eq!(
        fetch(&client, "10.96.0.9:80", "nobody", "/nobody").unwrap().status(),
        503
    );
    let other = world.pod("other", OTHER);
    application(&other, 8080);
    assert_eq!(
        fetch(&client, "10.77.0.3:8080", "outside", "/outside")
            .unwrap()
            .status(),
        200
    );
    only(
        &server,
        "istio_requests_total",
        &[
            "response_code=\"503\"",
            "response_flags=\"UF\"",
            "source_workload=\"client-v1\"",
        ],
        1,
    );
    for labels in [
        [
            "response_code=\"503\"",
            "response_flags=\"-\"",
            "destination_workload=\"server-v2\"",
        ],
        [
            "response_code=\"503\"",
            "response_flags=\"UH\"",
            "destination_service_name=\"nobody\"",
        ],
        [
            "response_code=\"200\"",
            "destination_service=\"outside\"",
            "destination_service_name=\"PassthroughCluster\"",
        ],
    ] {
        let found = samples(&client, "istio_requests_total");
        let found: Vec<_> = found
            .iter()
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .collect();
        assert!(
            matches!(found[..], [line] if line.ends_with("} 1")),
            "{labels:?}: {found:?}"
        );
    }
    world.logged("server-sidecar", "\"GET /refused HTTP/1.1\" 503 UF ");
    world.logged("client-sidecar", "\"GET /nobody HTTP/1.1\" 503 UH no_healthy_upstream ");
    assert!(
        !world.log("client-sidecar").contains("GET /outside"),
        "what goes well is not logged"
    );

    // The log is turned on, and says what it is told, without a restart.
    world.fixtures(&fixtures(
        "{accessLogFile: /dev/stdout, accessLogFormat: 'own %RESPONSE_CODE% %REQ(:PATH)%'}",
    ));
    world.logged("client-sidecar", "the access log is configured file=\"/dev/stdout\"");
    assert_eq!(
        fetch(&client, "10.77.0.3:8080", "outside", "/now").unwrap().status(),
        200
    );
    world.logged("client-sidecar", "own 200 /now\n");
}

/// Serves one page to whoever asks, with the content type given, and repeats what it was asked with in a comment.
fn metrics_of(pod: &Pod, port: u16, content_type: &'static str, page: &'static str) {
    let listener = pod.listen(port);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap();
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            let accept = head
                .lines()
                .find(|line| line.starts_with("accept: "))
                .unwrap_or("accept: none");
            let body = format!("# {accept}\n{page}");
            let length = body.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
}

#[test]
fn the_applications_metrics_are_on_the_merged_page() {
    let Some(mut world) = World::new() else { return };
    let (client, server) = (
        world.pod("client", super::world::CLIENT),
        world.pod("server", super::world::SERVER),
    );
    world.fixtures(FIXTURES);
    world.discovery();
    world.sidecar(
        &client,
        &[(
            "ISTIO_PROMETHEUS_ANNOTATIONS",
            r#"{"scrape":"true","path":"/own","port":"9090"}"#,
        )],
    );
    world.sidecar(
        &server,
        &[(
            "ISTIO_PROMETHEUS_ANNOTATIONS",
            r#"{"scrape":"true","path":"","port":"9091"}"#,
        )],
    );
    world.ready(&client);
    world.ready(&server);
    // Nobody answers yet: the sidecar's own are there, and say so.
    let (status, page) = client.page(15020, "/stats/prometheus").unwrap();
    assert!(
        status == 200 && page.contains("istio_build{component=\"proxy\""),
        "{page}"
    );
    assert!(client.metric("pinnace_proxy_application_scrapes_failed_total ") >= 1.0);

    let text = "# TYPE own_total counter\nown_total{a=\"b\"} 7\n# TYPE istio_build gauge\nistio_build 9\n";
    metrics_of(&client, 9090, "text/plain; version=0.0.4", text);
    let (_, page) = client.page(15020, "/stats/prometheus").unwrap();
    assert!(
        page.contains("\nown_total{a=\"b\"} 7\n") && !page.contains("istio_build 9"),
        "{page}"
    );
    assert_eq!(page.matches("# TYPE istio_build ").count(), 1, "{page}");
    let (_, own) = client.page(15090, "/stats/prometheus").unwrap();
    assert!(!own.contains("own_total"), "{own}");

    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    metrics_of(&server, 9091, open, "# TYPE own counter\nown_total 7\n# EOF\n");
    let (_, page) = server.page(15020, "/metrics").unwrap();
    assert!(
        page.ends_with("own_total 7\n# EOF\n") && page.matches("# EOF").count() == 1,
        "{page}"
    );
    assert!(
        page.contains("# TYPE pinnace_proxy_retries counter\npinnace_proxy_retries_total 0\n"),
        "{page}"
    );
    let scraped = server
        .command("curl")
        .args([
            "-si",
            "-H",
            "accept: application/openmetrics-text",
            "http://127.0.0.1:15020/stats/prometheus",
        ])
        .output()
        .unwrap();
    let scraped = String::from_utf8_lossy(&scraped.stdout).to_lowercase();
    assert!(scraped.contains(&format!("content-type: {open}")), "{scraped}");
    assert!(scraped.contains("# accept: application/openmetrics-text"), "{scraped}");
}
