//! HTTP/1.x through both sidecars.

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::http::{BIG, Connection, application, fetch, get, pattern};
use super::over_tcp::serve;
use super::world::{CLIENT, CLIENT_ID, FIXTURES, OTHER, PATIENCE, SERVER, SERVER_ID, World, eventually};

/// Declared HTTP, and not declared at all.
const PORTS: [&str; 2] = ["10.96.0.2:80", "10.96.0.2:81"];

#[test]
fn messages_pass_whole_under_mutual_tls() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    for address in PORTS {
        // One connection for everything that allows it.
        let mut connection = Connection::new(client.connect(address));
        let answer = connection
            .ask("GET /a?b=c HTTP/1.1\r\nhost: server\r\nx-own: 1\r\nx-forwarded-client-cert: URI=me\r\n\r\n");
        assert_eq!((answer.status(), answer.header("x-app")), (200, Some("echo")));
        let seen = answer.text();
        assert!(seen.starts_with("GET /a?b=c HTTP/1.1\n"), "{seen}");
        for part in [
            "host: server\n",
            "x-own: 1\n",
            "x-request-id: ",
            "x-forwarded-proto: http\n",
        ] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        let certificates: Vec<_> = seen
            .lines()
            .filter(|line| line.starts_with("x-forwarded-client-cert"))
            .collect();
        let [certificate] = certificates[..] else {
            panic!("{seen}")
        };
        assert!(
            certificate.starts_with(&format!("x-forwarded-client-cert: By={SERVER_ID};Hash=")),
            "{seen}"
        );
        assert!(
            certificate.ends_with(&format!(";Subject=\"\";URI={CLIENT_ID}")),
            "{seen}"
        );

        let answer = connection.ask("POST / HTTP/1.1\r\nhost: server\r\ncontent-length: 4\r\n\r\nbody");
        assert!(answer.text().ends_with("content-length: 4\nbody") || answer.text().ends_with("body"));

        let answer = connection.ask(
            "POST /chunked HTTP/1.1\r\nhost: server\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
             trailer: x-after\r\n\r\n5\r\nfirst\r\n7;x=y\r\n second\r\n0\r\nx-after: the end\r\n\r\n",
        );
        assert_eq!(answer.text(), "first second");
        assert_eq!(answer.trailers, "x-after: the end\n", "{answer:?}");

        let answer = connection.ask("HEAD /head HTTP/1.1\r\nhost: server\r\n\r\n");
        let length = answer.header("content-length").unwrap().parse::<usize>().unwrap();
        assert!(answer.status() == 200 && length > 20, "{answer:?}");

        let answer = connection.ask(get("server", "/nothing"));
        assert_eq!((answer.status(), answer.header("transfer-encoding")), (204, None));

        let answer = connection
            .ask("PUT /count HTTP/1.1\r\nhost: server\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nabcde");
        assert_eq!(answer.text(), "5 false");

        let answer = connection.ask(get("server", "/until-close"));
        assert_eq!(answer.text(), "until the end");

        // An application that closes unasked does not cost the client a request.
        for _ in 0..20 {
            assert_eq!(connection.ask(get("server", "/close")).text(), "ok");
        }

        // Two requests at once, answered in order.
        connection.send(get("server", "/one") + &get("server", "/two"));
        for path in ["/one", "/two"] {
            assert!(
                connection
                    .answer(false)
                    .unwrap()
                    .text()
                    .starts_with(&format!("GET {path} "))
            );
        }

        let mut old = Connection::new(client.connect(address));
        let answer = old.ask("GET /old HTTP/1.0\r\nhost: server\r\n\r\n");
        assert!(
            answer.start.starts_with("HTTP/1.") && answer.status() == 200,
            "{answer:?}"
        );
        assert_eq!(old.rest().unwrap(), b"");
        let mut old = Connection::new(client.connect(address));
        old.send("GET /until-close HTTP/1.0\r\nhost: server\r\n\r\n");
        let answer = old.answer(false).unwrap();
        assert_eq!(
            (answer.text().as_str(), answer.header("transfer-encoding")),
            ("until the end", None)
        );
        // Without Host, the address that was dialled is what is meant.
        let answer = Connection::new(client.connect(address)).ask("GET /bare HTTP/1.0\r\n\r\n");
        assert!(
            answer.text().starts_with("GET /bare HTTP/1.1\nhost: 10.96.0.2"),
            "{answer:?}"
        );

        // The client ends its side; the answer still comes.
        let mut half = Connection::new(client.connect(address));
        half.send("GET /ended HTTP/1.1\r\nhost: server\r\n\r\n");
        half.stream.shutdown(Shutdown::Write).unwrap();
        assert!(half.answer(false).unwrap().text().starts_with("GET /ended "));
        assert_eq!(half.rest().unwrap(), b"");

        let mut upgrade = Connection::new(client.connect(address));
        let answer =
            upgrade.ask("GET /upgrade HTTP/1.1\r\nhost: server\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n");
        assert_eq!((answer.status(), answer.header("upgrade")), (101, Some("echo")));
        assert_eq!(upgrade.exactly(6).unwrap(), b"hello ");
        upgrade.send(b"\x00\xff raw");
        assert_eq!(upgrade.exactly(6).unwrap(), b"\x00\xff raw");
        upgrade.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(upgrade.rest().unwrap(), b" goodbye");
    }
    assert_eq!(
        client.metric("pinnace_proxy_connections_total{direction=\"outbound\",security=\"none\"}"),
        0.0
    );
    assert_eq!(
        server.metric("pinnace_proxy_connections_total{direction=\"inbound\",security=\"none\"}"),
        0.0
    );
    assert!(client.metric("pinnace_proxy_connections_total{direction=\"outbound\",security=\"mutual_tls\"}") > 0.0);
}

#[test]
fn large_bodies_and_many_connections_pass() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    let body = pattern(BIG);
    let mut connection = Connection::new(client.connect(PORTS[0]));
    assert!(connection.ask(get("server", "/big")).body == body);
    let mut request = format!("POST /count HTTP/1.1\r\nhost: server\r\ncontent-length: {BIG}\r\n\r\n").into_bytes();
    request.extend_from_slice(&body);
    assert_eq!(connection.ask(&request).text(), format!("{BIG} true"));
    // Both ways at once, in chunks.
    let mut request =
        format!("POST /chunked HTTP/1.1\r\nhost: server\r\ntransfer-encoding: chunked\r\n\r\n{BIG:x}\r\n").into_bytes();
    request.extend_from_slice(&body);
    request.extend_from_slice(b"\r\n0\r\n\r\n");
    let mut upload = connection.stream.try_clone().unwrap();
    let sender = thread::spawn(move || upload.write_all(&request).unwrap());
    assert!(connection.answer(false).unwrap().body == body);
    sender.join().unwrap();

    let connections: Vec<_> = (0..100).map(|_| client.connect(PORTS[0])).collect();
    let asking: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(number, stream)| {
            thread::spawn(move || {
                let mut connection = Connection::new(stream);
                for round in 0..5 {
                    let path = format!("/{number}/{round}");
                    let answer = connection.ask(get("server", &path));
                    assert!(
                        answer.status() == 200 && answer.text().starts_with(&format!("GET {path} ")),
                        "{answer:?}"
                    );
                }
            })
        })
        .collect();
    asking.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn host_decides_and_then_the_address() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    application(&server, 8080);
    application(&server, 80);
    application(&outside, 80);
    application(&client, 8080);
    let seen = |to: &str, host: &str| {
        let answer = fetch(&client, to, host, "/").unwrap();
        (answer.status(), answer.text())
    };
    let identity = format!("URI={CLIENT_ID}");
    // The Service by every form of its name, whatever address was dialled.
    for (to, host) in [
        ("10.96.0.2:80", "server"),
        ("10.96.0.2:80", "server.shop.svc.cluster.local:80"),
        ("10.77.0.3:80", "server.shop"),
        ("198.51.100.1:80", "SERVER.shop.svc"),
    ] {
        let (status, text) = seen(to, host);
        assert!(status == 200 && text.contains(&identity), "{to} {host}: {text}");
    }
    // A name that the mesh does not know: the address that was dialled.
    for host in ["nobody-knows.example", "10.96.0.2", "server.elsewhere"] {
        let (status, text) = seen("10.96.0.2:80", host);
        assert!(status == 200 && text.contains(&identity), "{host}: {text}");
    }
    // Outside the mesh, in the clear and without the mesh's headers of identity.
    let (status, text) = seen("10.77.0.3:80", "example.com");
    assert!(status == 200 && !text.contains("x-forwarded-client-cert"), "{text}");
    // A pod directly.
    let (status, text) = seen(&format!("{SERVER}:8080"), &format!("{SERVER}:8080"));
    assert!(status == 200 && text.contains(&identity), "{text}");
    // The caller's own pod, by its address.
    let (status, text) = seen(&format!("{CLIENT}:8080"), &format!("{CLIENT}:8080"));
    assert_eq!(status, 200, "{text}");
    // The caller's own Service.
    let answer = fetch(&server, "10.96.0.2:80", "server", "/").unwrap();
    assert!(answer.text().contains(&format!("URI={SERVER_ID}")), "{}", answer.text());
    // A Service without an endpoint.
    let (status, text) = seen("10.96.0.9:80", "nobody");
    assert_eq!((status, text.as_str()), (503, "no healthy upstream"));
    let (_, dump) = client.page(15000, "/config_dump").unwrap();
    assert!(
        dump.contains("\"flag\": \"UH\"") && dump.contains("has no endpoint that is ready"),
        "{dump}"
    );
}

#[test]
fn heads_are_bounded() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    for address in PORTS {
        let good = format!(
            "GET / HTTP/1.1\r\nhost: server\r\nx-long: {}\r\n\r\n",
            "a".repeat(50 << 10)
        );
        assert_eq!(Connection::new(client.connect(address)).ask(good).status(), 200);
        let mut connection = Connection::new(client.connect(address));
        let long = format!("GET / HTTP/1.1\r\nhost: server\r\nx-long: {}", "a".repeat(70 << 10));
        connection.send(long);
        assert_eq!(connection.answer(false).unwrap().status(), 431);
    }
    // What is no HTTP on a port that was declared so.
    let mut connection = Connection::new(client.connect(PORTS[0]));
    connection.send("NOT HTTP\r\n\r\n");
    assert_eq!(connection.answer(false).unwrap().status(), 400);
}

#[test]
fn no_message_is_taken_for_another() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    let (heard, hears) = channel();
    serve(&server, 8081, move |stream| {
        // What arrives, and whether it was a whole request.
        let mut connection = Connection::new(stream);
        let _ = heard.send(
            connection
                .request()
                .map(|request| request.text())
                .map_err(|error| error.kind()),
        );
    });
    let address = PORTS[0];
    // What breaks off arrives broken off.
    for path in ["/half", "/half-chunked"] {
        let mut connection = Connection::new(client.connect(address));
        connection.send(get("server", path));
        assert!(connection.answer(false).is_err(), "{path}");
    }
    for half in [
        "content-length: 100\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut connection = Connection::new(client.connect("10.77.0.2:8081"));
        connection.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{half}"));
        thread::sleep(Duration::from_millis(100));
        drop(connection);
        assert!(hears.recv_timeout(PATIENCE).unwrap().is_err(), "{half}");
    }
    // Two lengths: the chunks count (RFC 9112, section 6.3), and the other length goes no further.
    for lengths in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
    ] {
        let mut connection = Connection::new(client.connect(address));
        connection.send(format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"
        ));
        let answer = connection.answer(false).unwrap();
        let text = answer.text();
        let whole = text.ends_with("abcdef") && !text.contains("content-length: 3\n");
        assert!(
            answer.status() == 400 || (answer.status() == 200 && whole),
            "{lengths}: {text}"
        );
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nab", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nbad header: x\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nhost: server\r\n\r\n", 200),
    ] {
        let mut connection = Connection::new(client.connect(address));
        connection.send(request);
        assert_eq!(connection.answer(false).unwrap().status(), status, "{request}");
    }
    // A target with a name in it: that name counts, not Host (RFC 9112, section 3.2.2).
    let mut connection = Connection::new(client.connect("198.51.100.1:80"));
    let answer = connection.ask("GET http://server/absolute?x HTTP/1.1\r\nhost: other\r\n\r\n");
    assert!(
        answer.text().starts_with("GET /absolute?x HTTP/1.1\nhost: server\n"),
        "{}",
        answer.text()
    );
}

#[test]
fn endpoints_move_without_a_failure() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let other = world.pod("other", OTHER);
    application(&server, 8080);
    application(&other, 8080);
    let workload =
        "- {name: shop/other-1, serviceAccount: other, addresses: [10.77.0.3], labels: {app: other}}\nservices:";
    let with = |endpoints: &str| {
        let text = FIXTURES.replacen("services:", workload, 1);
        text.replacen("endpoints: [10.77.0.2]", &format!("endpoints: [{endpoints}]"), 1)
    };
    world.fixtures(&with("10.77.0.2"));
    world.sidecar(&other, &[]);
    world.ready(&other);
    let mut connection = Connection::new(client.connect(PORTS[0]));
    // Who answered, of so many requests.
    let mut answered = |requests: usize| {
        let mut by = [0, 0];
        for _ in 0..requests {
            let answer = connection.ask(get("server", "/"));
            assert_eq!(answer.status(), 200, "{}", answer.text());
            by[usize::from(answer.text().contains("By=spiffe://cluster.local/ns/shop/sa/other;"))] += 1;
        }
        by
    };
    assert_eq!(answered(20), [20, 0]);
    world.fixtures(&with("10.77.0.2, 10.77.0.3"));
    eventually("the new one is asked too", || answered(10)[1] > 0);
    let [one, two] = answered(200);
    assert!(one > 40 && two > 40, "{one} {two}");
    world.fixtures(&with("10.77.0.3"));
    eventually("the old one is left", || answered(10) == [0, 10]);
    // Its sidecar is killed and comes back: what waited for requests is gone, and nobody notices.
    world.signal("other-sidecar", libc::SIGKILL);
    world.ended("other-sidecar");
    world.sidecar(&other, &[]);
    world.ready(&other);
    assert_eq!(answered(20), [0, 20]);
    drop(server);
}
