//! Every kind of probe against a real server on loopback.

use ::http::{HeaderMap, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::grpc::{HealthCheckRequest, HealthCheckResponse, frame};
use super::*;

const READY: &str = "/app-health/web/readyz";

async fn probe(entry: String, asked: HeaderMap) -> Outcome {
    let probes = Probes::parse(&format!("{{\"{READY}\": {entry}}}")).unwrap();
    let prober = Prober::new(probes, Ipv4Addr::LOCALHOST.into()).unwrap();
    prober.run(READY, &asked).await.unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads a request's head, answers, and gives the head back.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
    String::from_utf8(head).unwrap()
}

fn answer_once(listener: TcpListener, answer: String) -> JoinHandle<(SocketAddr, String)> {
    tokio::spawn(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        (peer, converse(stream, &answer).await)
    })
}

#[tokio::test]
async fn http_statuses_are_judged_as_the_kubelet_does() {
    for (answer, expected) in [
        ("200 OK", 200),
        ("204 No Content", 200),
        ("302 Found\r\nlocation: http://203.0.113.1/", 200),
        ("399 Odd", 200),
        ("404 Not Found", 404),
        ("503 Service Unavailable", 503),
    ] {
        let (listener, port) = listen().await;
        let served = answer_once(listener, format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n"));
        let outcome = probe(format!(r#"{{"httpGet": {{"port": {port}}}}}"#), HeaderMap::new()).await;
        assert_eq!(outcome.status.as_u16(), expected, "{answer}: {}", outcome.reason);
        let (peer, head) = served.await.unwrap();
        assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 0, 6));
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
    }
}

#[tokio::test]
async fn http_headers_and_host_are_the_probes() {
    let (listener, port) = listen().await;
    let served = answer_once(listener, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned());
    let entry = format!(
        r#"{{"httpGet": {{"port": {port}, "path": "/h?deep=1", "httpHeaders": [
            {{"name": "Host", "value": "shop.example"}}, {{"name": "X-Probe", "value": "1"}},
            {{"name": "Accept", "value": ""}}]}}}}"#
    );
    let mut asked = HeaderMap::new();
    asked.insert(header::USER_AGENT, HeaderValue::from_static("kube-probe/1.36"));
    assert_eq!(probe(entry, asked).await.status, StatusCode::OK);
    let (_, head) = served.await.unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("get /h?deep=1 http/1.1\r\n"), "{head}");
    for line in [
        "\r\nhost: shop.example\r\n",
        "\r\nx-probe: 1\r\n",
        "\r\nuser-agent: kube-probe/1.36\r\n",
    ] {
        assert!(head.contains(line), "{line:?} is missing in {head}");
    }
    assert!(!head.contains("\r\naccept:"), "{head}");

    let (listener, port) = listen().await;
    let served = answer_once(listener, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned());
    probe(format!(r#"{{"httpGet": {{"port": {port}}}}}"#), HeaderMap::new()).await;
    let head = served.await.unwrap().1.to_ascii_lowercase();
    assert!(head.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{head}");
    assert!(
        head.contains("\r\naccept: */*\r\n") && head.contains("\r\nuser-agent: kube-probe/"),
        "{head}"
    );
}

#[tokio::test]
async fn https_is_not_verified() {
    let key = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        converse(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    });
    let outcome = probe(
        format!(r#"{{"httpGet": {{"port": {port}, "scheme": "HTTPS"}}}}"#),
        HeaderMap::new(),
    )
    .await;
    assert_eq!(outcome.status, StatusCode::OK, "{}", outcome.reason);
    assert!(served.await.unwrap().starts_with("GET / "));
}

#[tokio::test]
async fn a_long_body_is_cut_and_an_endless_wait_too() {
    let (listener, port) = listen().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n";
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut written = 0;
        while let Ok(n) = stream.write(&[b'x'; 16 * 1024]).await {
            written += n;
            if written >= 10_000_000 {
                break;
            }
        }
        written
    });
    let outcome = probe(format!(r#"{{"httpGet": {{"port": {port}}}}}"#), HeaderMap::new()).await;
    assert_eq!(outcome.status, StatusCode::OK);
    assert!(served.await.unwrap() < 10_000_000, "the probe read everything");

    let (silent, port) = listen().await;
    let begun = std::time::Instant::now();
    let outcome = probe(
        format!(r#"{{"httpGet": {{"port": {port}}}, "timeoutSeconds": 1}}"#),
        HeaderMap::new(),
    )
    .await;
    assert_eq!(outcome.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(outcome.reason.contains("within 1 s"), "{}", outcome.reason);
    assert!(begun.elapsed() < Duration::from_secs(3));
    drop(silent);
}

#[tokio::test]
async fn nonsense_and_silence_fail() {
    for answer in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 OK\r\n\r\n"] {
        let (listener, port) = listen().await;
        let served = answer_once(listener, answer.to_owned());
        let outcome = probe(format!(r#"{{"httpGet": {{"port": {port}}}}}"#), HeaderMap::new()).await;
        assert_eq!(outcome.status, StatusCode::INTERNAL_SERVER_ERROR, "{answer:?}");
        served.await.unwrap();
    }
    let (listener, port) = listen().await;
    drop(listener);
    for entry in [
        format!(r#"{{"httpGet": {{"port": {port}}}}}"#),
        format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#),
        format!(r#"{{"grpc": {{"port": {port}}}}}"#),
    ] {
        let outcome = probe(entry, HeaderMap::new()).await;
        assert_eq!(outcome.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(outcome.reason.contains("cannot connect"), "{}", outcome.reason);
    }
}

#[tokio::test]
async fn tcp_connects() {
    let (_listener, port) = listen().await;
    let outcome = probe(format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#), HeaderMap::new()).await;
    assert_eq!(outcome.status, StatusCode::OK);
}

type GrpcBody = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// A health service that knows `books` (serving) and `shelf` (not serving).
async fn health(request: ::http::Request<Incoming>) -> Result<Response<GrpcBody>, std::convert::Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/grpc");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked = HealthCheckRequest::decode(&body[5..]).unwrap();
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let status = match asked.service.as_str() {
        "" | "books" => 1,
        "shelf" => 2,
        _ => {
            response
                .headers_mut()
                .insert("grpc-status", HeaderValue::from_static("5"));
            response
                .headers_mut()
                .insert("grpc-message", HeaderValue::from_static("unknown service"));
            return Ok(response);
        }
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Frame::data(frame(&HealthCheckResponse { status })),
        Frame::trailers(trailers),
    ];
    *response.body_mut() = StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed();
    Ok(response)
}

#[tokio::test]
async fn grpc_health() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(health)));
        }
    });
    for (service, status, says) in [
        ("", 200, "serving"),
        ("books", 200, "serving"),
        ("shelf", 500, "not serving"),
        ("cellar", 500, "gRPC status 5 unknown service"),
    ] {
        let entry = format!(r#"{{"grpc": {{"port": {port}, "service": "{service}"}}}}"#);
        let outcome = probe(entry, HeaderMap::new()).await;
        assert_eq!(outcome.status.as_u16(), status, "{service}: {}", outcome.reason);
        assert!(outcome.reason.contains(says), "{service}: {}", outcome.reason);
    }
    // A server that speaks no HTTP/2.
    let (listener, port) = listen().await;
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
    });
    let outcome = probe(format!(r#"{{"grpc": {{"port": {port}}}}}"#), HeaderMap::new()).await;
    assert_eq!(outcome.status, StatusCode::INTERNAL_SERVER_ERROR);
    served.await.unwrap();
}
