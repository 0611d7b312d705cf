//! Records as the data path uses them, down to the page.

use super::*;
use crate::cluster::{Cluster, Clusters, Place};
use crate::discovery::Limits;
use crate::http::body::RequestBody;
use crate::http::replay::Kept;
use crate::net::relay::Count as _;
use crate::refusals::Reason;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use mesh_core::destination::{Destination, Endpoint, Resolution};
use mesh_core::protocol::Declared;
use mesh_core::workload::Metadata;
use std::time::Instant;

fn telemetry() -> (Telemetry, Arc<Recorder>) {
    let (mesh, _requests) = Mesh::new(Limits::default());
    let telemetry = Telemetry::new(mesh, Identity::default(), AccessLog::new("pod").unwrap());
    let recorder = telemetry.recorder();
    (telemetry, recorder)
}

fn page(telemetry: &Telemetry) -> String {
    let mut text = String::new();
    telemetry.page(&mut text);
    text
}

/// The value of the one sample of a family with all of the labels.
fn sample(page: &str, family: &str, labels: &[&str]) -> u64 {
    let of_family = page.lines().filter(|line| line.starts_with(&format!("{family}{{")));
    let found: Vec<&str> = of_family
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .collect();
    let [line] = found[..] else {
        panic!("{family} {labels:?}: {found:?} in\n{page}")
    };
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn destination() -> Arc<Cluster> {
    let identity: SpiffeId = "spiffe://cluster.local/ns/books/sa/reviews".parse().unwrap();
    let endpoint = |address: &str, version: &str| Endpoint {
        address: address.parse().unwrap(),
        mutual_tls: true,
        identity: Some(identity.clone()),
        workload: Metadata {
            name: format!("reviews-{version}").into(),
            version: version.into(),
            namespace: "books".into(),
            ..Metadata::default()
        }
        .into(),
        locality: None,
        weight: 1,
        ranks: Box::default(),
    };
    let destination = Destination {
        host: "reviews.books.svc.cluster.local".into(),
        namespace: "books".into(),
        port: 80,
        protocol: Declared::Http,
        resolution: Resolution::Balanced,
        endpoints: vec![endpoint("10.0.0.1:80", "v1"), endpoint("10.0.0.2:80", "v2")],
        unready: Vec::new(),
        identities: vec![identity.clone()],
        tls: None,
        ..Destination::default()
    };
    Clusters::default().cluster(Arc::new(destination), &Place::default())
}

fn request(recorder: &Arc<Recorder>, way: Way, body: &'static str) -> Record {
    let request = Request::post("/path")
        .header("host", "reviews")
        .body(Full::<Bytes>::from(body))
        .unwrap();
    Record::begin(
        recorder,
        way,
        &request,
        "10.0.0.9:1".parse().unwrap(),
        "10.96.0.1:80".parse().unwrap(),
    )
}

async fn answer(record: Record, status: u16, body: &'static str) {
    let response = Response::builder()
        .status(status)
        .body(Full::<Bytes>::from(body))
        .unwrap();
    record.carry(response).into_body().collect().await.unwrap();
}

#[tokio::test]
async fn a_request_is_counted_under_the_workload_that_took_it() {
    let (telemetry, recorder) = telemetry();
    let destination = destination();
    for (endpoint, status) in [(0, 200), (0, 200), (1, 200), (1, 404)] {
        let mut record = request(&recorder, Way::Out, "four");
        record.to_endpoint(&destination, &destination.endpoints[endpoint]);
        record.attempt();
        answer(record, status, "body of it").await;
    }
    let page = page(&telemetry);
    for (labels, expected) in [
        (&["destination_workload=\"reviews-v1\"", "response_code=\"200\""][..], 2),
        (&["destination_workload=\"reviews-v2\"", "response_code=\"200\""], 1),
        (&["destination_workload=\"reviews-v2\"", "response_code=\"404\""], 1),
    ] {
        assert_eq!(sample(&page, "istio_requests_total", labels), expected, "{labels:?}");
        assert_eq!(sample(&page, "istio_request_bytes_sum", labels), expected * 4);
        assert_eq!(sample(&page, "istio_response_bytes_sum", labels), expected * 10);
        assert_eq!(
            sample(&page, "istio_request_duration_milliseconds_count", labels),
            expected
        );
    }
    let common = [
        "reporter=\"source\"",
        "destination_service=\"reviews.books.svc.cluster.local\"",
        "destination_service_name=\"reviews\"",
        "destination_service_namespace=\"books\"",
        "destination_principal=\"spiffe://cluster.local/ns/books/sa/reviews\"",
        "connection_security_policy=\"unknown\"",
        "request_protocol=\"http\"",
        "grpc_response_status=\"\"",
        "response_flags=\"-\"",
        "reviews-v1",
    ];
    assert_eq!(sample(&page, "istio_requests_total", &common), 2);
}

#[tokio::test]
async fn what_goes_wrong_has_its_flag() {
    let (telemetry, recorder) = telemetry();
    let destination = destination();
    let to_endpoint = || {
        let mut record = request(&recorder, Way::Out, "");
        record.to_endpoint(&destination, &destination.endpoints[0]);
        record
    };
    let mut unreachable = to_endpoint();
    unreachable.failed(Reason::Unreachable, "refused");
    unreachable.gave_up();
    answer(unreachable, 503, "").await;

    let mut broke = to_endpoint();
    broke.attempt();
    broke.failed(Reason::Unreachable, "closed");
    answer(broke, 503, "").await;

    let mut nobody = request(&recorder, Way::Out, "");
    nobody.without_endpoint(&destination);
    answer(nobody, 503, "").await;

    let mut outside = request(&recorder, Way::Out, "");
    outside.to_outside(Outside::BlackHole, None);
    outside.failed(Reason::Unknown, "REGISTRY_ONLY");
    answer(outside, 502, "").await;

    // The client went away, before the response and in the middle of it.
    drop(to_endpoint());
    drop(to_endpoint().carry(Response::new(Full::<Bytes>::from("unread"))));

    let page = page(&telemetry);
    for (labels, expected) in [
        (&["response_code=\"503\"", "response_flags=\"UF,URX\""][..], 1),
        (&["response_code=\"503\"", "response_flags=\"UC\""], 1),
        (&["response_flags=\"UH\"", "destination_service_name=\"reviews\""], 1),
        (
            &[
                "response_code=\"502\"",
                "response_flags=\"NR\"",
                "destination_service_name=\"BlackHoleCluster\"",
                "destination_service=\"reviews\"",
                "destination_workload=\"unknown\"",
            ],
            1,
        ),
        (&["response_code=\"0\"", "response_flags=\"DC\""], 1),
        (&["response_code=\"200\"", "response_flags=\"DC\""], 1),
    ] {
        assert_eq!(sample(&page, "istio_requests_total", labels), expected, "{labels:?}");
    }
}

#[tokio::test]
async fn a_grpc_call_has_its_status_and_messages() {
    let (telemetry, recorder) = telemetry();
    let destination = destination();
    let call = || {
        let request = Request::post("/a.B/C")
            .header("content-type", "application/grpc")
            .body(Full::<Bytes>::default());
        let peer = "10.0.0.9:1".parse().unwrap();
        let mut record = Record::begin(&recorder, Way::Out, &request.unwrap(), peer, peer);
        record.to_endpoint(&destination, &destination.endpoints[0]);
        record
    };
    let trailers = [("grpc-status", "5")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let body = Full::<Bytes>::from(&b"\0\0\0\0\x02ab\0\0\0\0\0"[..]);
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers.into_iter().collect()))));
    call()
        .carry(Response::new(Box::pin(body)))
        .into_body()
        .collect()
        .await
        .unwrap();
    // Without any, the code stands for it; with headers alone, they do.
    answer(call(), 503, "").await;
    let only_headers = Response::builder()
        .header("grpc-status", "7")
        .body(Full::<Bytes>::default())
        .unwrap();
    call().carry(only_headers).into_body().collect().await.unwrap();
    let page = page(&telemetry);
    for (status, code) in [("5", "200"), ("14", "503"), ("7", "200")] {
        let labels = [
            "request_protocol=\"grpc\"",
            &format!("grpc_response_status=\"{status}\""),
            &format!("response_code=\"{code}\""),
        ];
        assert_eq!(sample(&page, "istio_requests_total", &labels), 1, "{status}");
    }
    assert_eq!(sample(&page, "istio_response_messages_total", &["reviews-v1"]), 2);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_counted_as_it_passes() {
    let (telemetry, recorder) = telemetry();
    let destination = destination();
    for (content_type, body) in [
        ("application/grpc", &b"\0\0\0\0\x02ab\0\0\0\0\0"[..]),
        ("text/plain", b"hello"),
    ] {
        let mut kept = Kept::default();
        kept.data(&Bytes::from_static(body));
        let body = kept.then(RequestBody::Empty).unwrap();
        let request = Request::post("/")
            .header("content-type", content_type)
            .body(body)
            .unwrap();
        let peer = "10.0.0.9:1".parse().unwrap();
        let mut record = Record::begin(&recorder, Way::Out, &request, peer, peer);
        record.to_endpoint(&destination, &destination.endpoints[0]);
        record.count(request).into_body().collect().await.unwrap();
        answer(record, 200, "").await;
    }
    let page = page(&telemetry);
    for (protocol, bytes) in [("grpc", 12), ("http", 5)] {
        let labels = [format!("request_protocol=\"{protocol}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert_eq!(sample(&page, "istio_request_bytes_sum", &labels), bytes, "{protocol}");
    }
    assert_eq!(sample(&page, "istio_request_messages_total", &["reviews-v1"]), 2);
}

#[tokio::test]
async fn a_connection_is_counted_as_it_goes() {
    let (telemetry, recorder) = telemetry();
    let destination = destination();
    let begin = || {
        let address = "10.0.0.9:1".parse().unwrap();
        Connection::begin(&recorder, Way::Out, address, address)
    };
    let mut open = begin();
    open.to_destination(&destination);
    open.to_endpoint(&destination, &destination.endpoints[0]);
    open.reached(None);
    open.opened();
    open.up(5);
    open.down(7);
    let labels = ["reviews-v1", "request_protocol=\"tcp\"", "response_flags=\"-\""];
    let at = |family: &str| sample(&page(&telemetry), family, &labels);
    assert_eq!(at("istio_tcp_connections_opened_total"), 1);
    assert_eq!(at("istio_tcp_connections_closed_total"), 0);
    assert_eq!(
        (at("istio_tcp_received_bytes_total"), at("istio_tcp_sent_bytes_total")),
        (5, 7)
    );
    drop(open);
    assert_eq!(at("istio_tcp_connections_closed_total"), 1);

    let mut refused = begin();
    refused.to_outside(Outside::Passthrough, None);
    refused.failed(Reason::Unreachable, "refused");
    drop(refused);
    begin().discard();
    let labels = ["PassthroughCluster", "response_flags=\"UF,URX\""];
    for family in [
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
    ] {
        assert_eq!(sample(&page(&telemetry), family, &labels), 1);
    }
}

#[tokio::test]
async fn a_client_that_nobody_knows_is_unknown() {
    let (telemetry, recorder) = telemetry();
    let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let client = Client::new(&recorder, "10.0.0.9".parse().unwrap(), Some(&identity), 8080);
    let mut record = request(&recorder, Way::In, "");
    record.from_client(&client, None, None);
    answer(record, 200, "").await;
    let labels = [
        "reporter=\"destination\"",
        "source_workload=\"unknown\"",
        "source_workload_namespace=\"shop\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/web\"",
        "destination_service_name=\"InboundPassthroughCluster\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    assert_eq!(sample(&page(&telemetry), "istio_requests_total", &labels), 1);
}

#[tokio::test]
async fn only_so_many_series_are_held_and_idle_ones_go() {
    let (telemetry, recorder) = telemetry();
    for at in 0..books::MOST_SERIES + 10 {
        let request = Request::get("/")
            .header("host", at.to_string())
            .body(Full::<Bytes>::default())
            .unwrap();
        let peer = "10.0.0.9:1".parse().unwrap();
        let mut record = Record::begin(&recorder, Way::Out, &request, peer, peer);
        record.to_outside(Outside::Passthrough, None);
        answer(record, 200, "").await;
    }
    let text = page(&telemetry);
    let series = text
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"))
        .count();
    assert_eq!(series, books::MOST_SERIES + 1);
    assert_eq!(
        sample(&text, "istio_requests_total", &["destination_service=\"other\""]),
        10
    );
    assert!(text.contains("\npinnace_proxy_telemetry_overflow_total 10\n"), "{text}");

    recorder.sweep(Instant::now());
    assert_eq!(
        page(&telemetry).matches("\nistio_requests_total{").count(),
        series,
        "not idle for long"
    );
    recorder.sweep(Instant::now() + std::time::Duration::from_secs(301));
    let left = page(&telemetry).matches("istio_requests_total{").count();
    assert_eq!(
        left, 1,
        "those without room stay; the others were idle while there was none"
    );
}

#[tokio::test]
async fn errors_are_logged_and_with_a_file_everything() {
    let (telemetry, recorder) = telemetry();
    let path = std::env::temp_dir().join(format!("pinnace-access-{}.log", std::process::id()));
    let config = |file: &str| mesh_wire::convert::AccessLog {
        file: file.to_owned(),
        format: "%RESPONSE_CODE% %REQ(:PATH)% %REQ(X-MORE)%".to_owned(),
        json: false,
    };
    telemetry.log().configure(&config(path.to_str().unwrap()));
    assert!(telemetry.log().takes_all());
    let request = Request::get("/first")
        .header("x-more", "a")
        .body(Full::<Bytes>::default())
        .unwrap();
    let peer = "10.0.0.9:1".parse().unwrap();
    let mut record = Record::begin(&recorder, Way::Out, &request, peer, peer);
    record.headers(request.headers());
    answer(record, 200, "").await;
    // A format that does not parse leaves the last one.
    telemetry.log().configure(&mesh_wire::convert::AccessLog {
        format: "%NOTHING".to_owned(),
        ..config("")
    });
    answer(self::request(&recorder, Way::Out, ""), 503, "").await;
    assert_eq!(telemetry.log().counts().written, 2);
    telemetry.log().configure(&config(""));
    answer(self::request(&recorder, Way::Out, ""), 404, "").await;
    assert_eq!(telemetry.log().counts().written, 2, "no error, and no file");
    let mut denied = self::request(&recorder, Way::Out, "");
    denied.denied("plaintext");
    answer(denied, 403, "").await;
    assert_eq!(telemetry.log().counts().written, 3);
    telemetry.log().flush();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "200 /first a\n503 /path -\n");
    std::fs::remove_file(path).unwrap();
}
