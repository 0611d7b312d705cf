//! HTTP/2 and gRPC through both sidecars.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::grpc::{self, Client};
use super::http::{Connection, application, fetch, get, pattern};
use super::http2::{begin, client, echo, post, read, run, send, serve};
use super::world::{CLIENT_ID, FIXTURES, OTHER, PATIENCE, SERVER, World, eventually};

/// Declared gRPC, not declared at all, and the pod itself.
const PORTS: [&str; 3] = ["10.96.0.2:82", "10.96.0.2:83", "10.77.0.2:8082"];

const INBOUND: &str = "pinnace_proxy_connections_total{direction=\"inbound\",security=\"mutual_tls\"}";
const IN_THE_CLEAR: &str = "pinnace_proxy_connections_total{direction=\"outbound\",security=\"none\"}";

#[test]
fn grpc_of_every_kind_passes_over_shared_connections() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    run(async {
        grpc::application(&server, 8082);
        for port in PORTS {
            grpc::exchange(&client, port, &format!("URI={CLIENT_ID}")).await;
        }
        assert_eq!(client.metric(IN_THE_CLEAR), 0.0);
        // A worker of the client's sidecar opens one connection, however many clients and calls it has.
        let before = server.metric(INBOUND);
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(Client::new(&client, PORTS[0], "server").await);
        }
        let calls = clients.iter().enumerate().flat_map(|(number, client)| {
            (0..20).map(move |round| {
                let mut client = client.clone();
                tokio::spawn(async move {
                    let word = format!("{number}-{round}");
                    let answer = client.unary(&word).await.unwrap().into_inner();
                    assert!(answer.starts_with(&format!("{word} from ")), "{answer}");
                })
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let opened = server.metric(INBOUND) - before;
        assert!(opened <= 8.0, "{opened} connections for 400 calls");

        // In the clear from outside the mesh, where PERMISSIVE takes it; nobody may claim to be somebody.
        grpc::exchange(&outside, &format!("{SERVER}:8082"), "nobody").await;
        // To the outside, in the clear.
        grpc::application(&outside, 8082);
        grpc::exchange(&client, &format!("{OTHER}:8082"), "nobody").await;
    });
}

#[test]
fn the_sidecars_own_refusals_are_grpc_statuses() {
    let Some((_world, client, _server)) = World::pair(FIXTURES) else {
        return;
    };
    run(async {
        for (to, authority, message) in [
            ("10.96.0.9:80", "nobody", "no healthy upstream"),
            (
                PORTS[0],
                "server",
                "upstream connect error or disconnect/reset before headers",
            ),
        ] {
            let mut client = Client::new(&client, to, authority).await;
            let status = client.unary("word").await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::Unavailable, message), "{to}");
        }
    });
}

#[test]
fn messages_pass_whole_in_both_directions_at_once() {
    let Some((_world, pod, server)) = World::pair(FIXTURES) else {
        return;
    };
    run(async {
        serve(&server, 8082, echo);
        for port in PORTS {
            let (mut sender, _connection) = client(&pod, port).await;
            let mut request = post("/a?b=c");
            request.headers_mut().insert("x-own", "1".parse().unwrap());
            request.headers_mut().insert("te", "trailers".parse().unwrap());
            let (answer, mut body) = begin(&mut sender, request).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-after", "the end".parse().unwrap());
            send(&mut body, Bytes::from_static(b"a body"), false).await.unwrap();
            body.send_trailers(trailers.clone()).unwrap();
            let (all, after) = read(answer.await.unwrap().body_mut()).await.unwrap();
            let seen = String::from_utf8(all).unwrap();
            assert!(
                seen.starts_with("POST http://server/a?b=c\n") && seen.ends_with("\na body"),
                "{seen}"
            );
            for part in [
                "x-own: 1\n",
                "te: trailers\n",
                "x-request-id: ",
                "x-forwarded-client-cert: By=",
            ] {
                assert!(seen.contains(part), "{part}: {seen}");
            }
            assert_eq!(after, Some(trailers));
        }
        // Many large bodies at a time on one connection, more than any window holds.
        let (sender, _connection) = client(&pod, PORTS[0]).await;
        let large = Bytes::from(pattern(3 << 20));
        let streams = (0..10).map(|_| {
            let (mut sender, large) = (sender.clone(), large.clone());
            tokio::spawn(async move {
                let (answer, mut body) = begin(&mut sender, post("/large")).await;
                let uploaded = large.clone();
                let upload = tokio::spawn(async move { send(&mut body, uploaded, true).await });
                let (all, _) = read(answer.await.unwrap().body_mut()).await.unwrap();
                upload.await.unwrap().unwrap();
                assert!(all.ends_with(&large));
            })
        });
        for stream in streams.collect::<Vec<_>>() {
            stream.await.unwrap();
        }
        // A body that nobody reads does not stop the others.
        let (mut sender, _connection) = client(&pod, PORTS[0]).await;
        let mut stalled = Vec::new();
        for _ in 0..5 {
            let (answer, mut body) = begin(&mut sender, post("/stalled")).await;
            let answer = answer.await.unwrap();
            let large = large.clone();
            tokio::spawn(async move { send(&mut body, large, true).await });
            stalled.push(answer);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (mut sender, _another) = client(&pod, PORTS[0]).await;
        let (answer, mut body) = begin(&mut sender, post("/small")).await;
        send(&mut body, Bytes::from_static(b"small"), true).await.unwrap();
        assert!(
            read(answer.await.unwrap().body_mut())
                .await
                .unwrap()
                .0
                .ends_with(b"\nsmall")
        );
    });
}

#[test]
fn a_reset_is_passed_on_with_its_reason() {
    let Some((_world, pod, server)) = World::pair(FIXTURES) else {
        return;
    };
    run(async {
        let (heard, mut hears) = mpsc::channel(8);
        serve(
            &server,
            8082,
            move |_, request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
                let heard = heard.clone();
                async move {
                    if request.uri().path() == "/before" {
                        return respond.send_reset(Reason::ENHANCE_YOUR_CALM);
                    }
                    let mut answer = respond.send_response(Response::new(()), false).unwrap();
                    answer.send_data(Bytes::from_static(b"some"), false).unwrap();
                    if request.uri().path() == "/after" {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        return answer.send_reset(Reason::ENHANCE_YOUR_CALM);
                    }
                    let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
                    let _ = heard.send(reason.unwrap()).await;
                }
            },
        );
        for port in PORTS {
            let (mut sender, _connection) = client(&pod, port).await;
            // Before the answer's head: the sidecar's own answer instead.
            let (answer, _body) = begin(&mut sender, post("/before")).await;
            assert_eq!(answer.await.unwrap().status(), 503, "{port}");
            // After it.
            let (answer, _body) = begin(&mut sender, post("/after")).await;
            let error = read(answer.await.unwrap().body_mut()).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{port}: {error}");
            // The client's.
            let (answer, mut body) = begin(&mut sender, post("/wait")).await;
            let mut answer = answer.await.unwrap();
            answer.body_mut().data().await.unwrap().unwrap();
            body.send_reset(Reason::CANCEL);
            let heard = tokio::time::timeout(PATIENCE, hears.recv()).await.unwrap();
            assert_eq!(heard, Some(Reason::CANCEL), "{port}");
        }
    });
}

#[test]
fn what_a_server_has_not_looked_at_is_sent_again() {
    let Some((_world, pod, server)) = World::pair(FIXTURES) else {
        return;
    };
    run(async {
        // Refuses the first stream of each connection, whatever its method and body.
        let refused = Arc::new(AtomicUsize::new(0));
        let count = refused.clone();
        serve(
            &server,
            8082,
            move |number, request, mut respond: SendResponse<Bytes>| {
                let count = count.clone();
                async move {
                    if number % 1000 == 0 {
                        count.fetch_add(1, Ordering::Relaxed);
                        // The body has come as well by then.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        return respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    echo(number, request, respond).await;
                }
            },
        );
        for port in PORTS {
            let (mut sender, _connection) = client(&pod, port).await;
            let (answer, mut body) = begin(&mut sender, post("/refused")).await;
            send(&mut body, Bytes::from_static(b"a body"), true).await.unwrap();
            let mut answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200, "{port}");
            assert!(
                read(answer.body_mut()).await.unwrap().0.ends_with(b"\na body"),
                "{port}"
            );
        }
        assert!(refused.load(Ordering::Relaxed) >= 1);
    });
}

#[test]
fn an_application_that_goes_away_costs_no_request() {
    let Some((_world, pod, server)) = World::pair(FIXTURES) else {
        return;
    };
    run(async {
        // Each connection ends in order (GOAWAY) after five requests, those under way finished.
        let listener = super::http2::listen(&server, 8082);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                tokio::spawn(async move {
                    let mut served = 0;
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(echo(0, request, respond));
                        served += 1;
                        if served == 5 {
                            connection.graceful_shutdown();
                        }
                    }
                });
            }
        });
        let (sender, _connection) = client(&pod, PORTS[0]).await;
        for _ in 0..20 {
            let requests = (0..10).map(|_| {
                let mut sender = sender.clone();
                tokio::spawn(async move {
                    let (answer, mut body) = begin(&mut sender, post("/")).await;
                    send(&mut body, Bytes::from_static(b"x"), true).await.unwrap();
                    let mut answer = answer.await.unwrap();
                    assert_eq!(answer.status(), 200);
                    read(answer.body_mut()).await.unwrap();
                })
            });
            for request in requests.collect::<Vec<_>>() {
                request.await.unwrap();
            }
        }
    });
}

#[test]
fn a_draining_sidecar_finishes_streams_and_serves_who_has_not_learned() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    run(async {
        grpc::application(&server, 8082);
        let mut caller = Client::new(&client, PORTS[0], "server").await;
        let (says, words) = mpsc::channel(1);
        says.send("before".to_owned()).await.unwrap();
        let mut answers = caller.chat(ReceiverStream::new(words)).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), "BEFORE");
        world.signal("server-sidecar", libc::SIGTERM);
        eventually("the kubelet is told", || {
            server.page(15021, "/healthz/ready").unwrap().0 == 503
        });
        // For as long as peers may not have learned, and longer: everything is served, over new connections too.
        let until = tokio::time::Instant::now() + Duration::from_millis(1700);
        let mut kept = Connection::new(client.connect("10.96.0.2:80"));
        while tokio::time::Instant::now() < until {
            caller.unary("while it drains").await.unwrap();
            let mut another = Client::new(&client, PORTS[1], "server").await;
            another.unary("over a new connection").await.unwrap();
            assert_eq!(fetch(&client, "10.96.0.2:80", "server", "/").unwrap().status(), 200);
            assert_eq!(kept.ask(get("server", "/")).status(), 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        says.send("after".to_owned()).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), "AFTER");
        drop(says);
        assert!(answers.message().await.unwrap().is_none());
    });
    let (status, took) = world.ended("server-sidecar");
    assert!(
        status == Some(0) && took < Duration::from_secs(4),
        "{status:?} {took:?}"
    );
    assert!(!world.log("server-sidecar").contains("panicked"));
}
