//! The same in HTTP/2, and of gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};

use super::http2::{begin, client, echo, post, read, run, send, serve};
use super::routes::Scene;

const PORT: &str = "10.96.0.2:82";

/// A gRPC call without a message.
fn call(path: &str) -> Request<()> {
    let mut request = post(path);
    request
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    request
}

#[test]
fn streams_are_routed_one_by_one() {
    let Some(scene) = Scene::new(
        "",
        "
  http:
  - {match: [{uri: {prefix: /old/}, headers: {x-user: {regex: 't.*'}}}], rewrite: {uri: /new/, authority: inner.example}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {exact: /split}}], route: [{destination: {host: server, subset: v1}, weight: 50}, {destination: {host: server, subset: v2}, weight: 50}]}
  - {match: [{uri: {exact: /test.Echo/Abort}}], fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}, route: [{destination: {host: server}}]}
  - {match: [{uri: {exact: /test.Echo/Slow}}], route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {exact: /test.Echo/Nowhere}}], route: [{destination: {host: nothing}}]}
",
    ) else {
        return;
    };
    run(async {
        serve(
            &scene.versions[0],
            8082,
            |number, request: Request<RecvStream>, respond| async move {
                if request.uri().path() == "/test.Echo/Slow" {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                echo(number, request, respond).await;
            },
        );
        serve(
            &scene.versions[1],
            8082,
            |_, _, mut respond: SendResponse<Bytes>| async move {
                let answer = Response::builder().header("x-version", "v2").body(()).unwrap();
                let _ = respond.send_response(answer, true);
            },
        );
        let (mut sender, _connection) = client(&scene.client, PORT).await;
        let mut request = post("/old/page?q");
        request.headers_mut().insert("x-user", "tester".parse().unwrap());
        let (answer, mut body) = begin(&mut sender, request).await;
        send(&mut body, Bytes::from_static(b"a body"), true).await.unwrap();
        let (all, _) = read(answer.await.unwrap().body_mut()).await.unwrap();
        let seen = String::from_utf8(all).unwrap();
        assert!(
            seen.starts_with("POST http://inner.example/new/page?q\n") && seen.ends_with("\na body"),
            "{seen}"
        );
        assert!(seen.contains("x-envoy-original-path: /old/page?q\n"), "{seen}");

        let mut second = 0;
        for _ in 0..100 {
            let (answer, mut body) = begin(&mut sender, post("/split")).await;
            let _ = send(&mut body, Bytes::from_static(b"x"), true).await;
            second += usize::from(answer.await.unwrap().headers().contains_key("x-version"));
        }
        assert!((20..=80).contains(&second), "{second} of 100");

        let (answer, _body) = begin(&mut sender, post("/no/route")).await;
        assert_eq!(answer.await.unwrap().status(), 404);
        for (path, status) in [("Abort", "8"), ("Nowhere", "14"), ("Unknown", "12")] {
            let (answer, _body) = begin(&mut sender, call(&format!("/test.Echo/{path}"))).await;
            let answer = answer.await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["grpc-status"]),
                (200, &status.parse().unwrap()),
                "{path}"
            );
        }
        let mut request = call("/test.Echo/Slow");
        request.headers_mut().insert("grpc-timeout", "200m".parse().unwrap());
        let began = Instant::now();
        let (answer, mut body) = begin(&mut sender, request).await;
        send(&mut body, Bytes::from_static(b"\0\0\0\0\0"), true).await.unwrap();
        assert_eq!(answer.await.unwrap().headers()["grpc-status"], "14");
        assert!(began.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn calls_are_tried_again_by_their_status_with_their_messages() {
    let Some(scene) = Scene::new(
        "",
        "
  http:
  - {match: [{uri: {prefix: /refused}}], retries: {attempts: 3, retryOn: refused-stream}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {prefix: /test.Retry/}}], retries: {attempts: 3, retryOn: 'unavailable,resource-exhausted'}, route: [{destination: {host: server, subset: v1}}]}
  - {route: [{destination: {host: server, subset: v1}}]}
",
    ) else {
        return;
    };
    run(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        serve(
            &scene.versions[0],
            8082,
            move |_, mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                async move {
                    let path = request.uri().path().to_owned();
                    if path == "/refused" && number < 2 {
                        return respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    let (all, _) = read(request.body_mut()).await.unwrap();
                    let status = match path.rsplit('/').next() {
                        Some(status) if number < 2 => status.parse().unwrap_or(0),
                        _ => 0,
                    };
                    let answer = Response::builder()
                        .header("grpc-status", status)
                        .header("x-length", all.len());
                    let _ = respond.send_response(answer.body(()).unwrap(), true);
                }
            },
        );
        let (mut sender, _connection) = client(&scene.client, PORT).await;
        let body = Bytes::from(vec![7; 100_000]);
        for (path, times, status) in [
            ("/refused", 3, "0"),
            ("/test.Retry/14", 3, "0"),
            ("/test.Retry/8", 3, "0"),
            ("/test.Retry/10", 1, "10"),
            // Istio's own policy.
            ("/test.Default/14", 3, "0"),
            ("/test.Default/8", 1, "8"),
        ] {
            asked.store(0, Ordering::Relaxed);
            let (answer, mut sending) = begin(&mut sender, call(path)).await;
            // An answer may come before the last of it was taken.
            let _ = send(&mut sending, body.clone(), true).await;
            let answer = answer.await.unwrap();
            assert_eq!(
                (asked.load(Ordering::Relaxed), &answer.headers()["grpc-status"]),
                (times, &status.parse().unwrap()),
                "{path}"
            );
            assert_eq!(answer.headers()["x-length"], "100000", "{path}");
        }
    });
}
