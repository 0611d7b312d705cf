//! How a sidecar ends, and what it refuses to hold.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Connection, application, fetch, get};
use super::over_tcp::{echo, serve};
use super::world::{FIXTURES, OTHER, SERVER, World, eventually};

#[test]
fn what_is_under_way_ends_in_order() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    serve(&server, 9000, echo);
    // Both sidecars drain at once while a request is under way through both, and one connection waits for its next.
    let mut slow = Connection::new(client.connect("10.96.0.2:80"));
    slow.send(get("server", "/slow"));
    let mut idle = Connection::new(client.connect("10.96.0.2:80"));
    assert_eq!(idle.ask(get("server", "/")).status(), 200);
    let mut raw = client.connect("10.96.0.2:9000");
    raw.write_all(b"one").unwrap();
    raw.read_exact(&mut [0; 3]).unwrap();
    let mut upgraded = Connection::new(client.connect("10.96.0.2:80"));
    let request = "GET /upgrade HTTP/1.1\r\nhost: server\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    assert_eq!(upgraded.ask(request).status(), 101);
    assert_eq!(upgraded.exactly(6).unwrap(), b"hello ");
    thread::sleep(Duration::from_millis(200));
    world.signal("server-sidecar", libc::SIGTERM);
    world.signal("client-sidecar", libc::SIGTERM);
    eventually("the kubelet is told", || {
        server.page(15021, "/healthz/ready").unwrap().0 == 503
    });
    assert_eq!(idle.rest().unwrap(), b"");
    // Peers learn of a pod's end later than the pod does: what they send is still served.
    for address in ["10.96.0.2:80", "10.96.0.2:81"] {
        let mut late = Connection::new(client.connect(address));
        thread::sleep(Duration::from_millis(50));
        let answer = late.ask(get("server", "/late"));
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (200, Some("close")),
            "{address}"
        );
    }
    raw.write_all(b"two").unwrap();
    raw.read_exact(&mut [0; 3]).unwrap();
    let answer = slow.answer(false).unwrap();
    assert_eq!(
        (answer.text().as_str(), answer.header("connection")),
        ("slow", Some("close"))
    );
    drop(raw);
    // What is no HTTP any more is waited for as well.
    upgraded.send("end");
    assert_eq!(upgraded.exactly(3).unwrap(), b"end");
    drop(upgraded);
    for name in ["client-sidecar", "server-sidecar"] {
        let (status, took) = world.ended(name);
        assert!(
            status == Some(0) && took < Duration::from_secs(4),
            "{name}: {status:?} {took:?}"
        );
        assert!(!world.log(name).contains("panicked"));
    }
}

#[test]
fn a_drained_sidecar_takes_no_more_from_outside_once_the_drain_duration_is_over() {
    let Some(mut world) = World::new() else { return };
    let client = world.pod("client", super::world::CLIENT);
    let outside = world.pod("outside", OTHER);
    world.fixtures(FIXTURES);
    world.discovery();
    world.sidecar(&client, &[("DRAIN_DURATION_SECONDS", "1"), ("STATUS_PORT", "15099")]);
    world.ready(&client);
    serve(&outside, 9000, echo);
    assert_eq!(client.page(15099, "/healthz/ready").unwrap().0, 200, "the status port");
    let from_outside = || outside.try_connect(&format!("{}:8080", super::world::CLIENT)).is_ok();
    assert!(from_outside(), "before");
    assert_eq!(client.ask("POST", 15099, "/drain").unwrap().0, 200);
    eventually("nothing is taken from outside", || !from_outside());
    // The application's own connections go on.
    let mut own = client.connect(&format!("{OTHER}:9000"));
    own.write_all(b"one").unwrap();
    own.read_exact(&mut [0; 3]).unwrap();
}

#[test]
fn a_stream_that_does_not_end_is_cut_after_the_drain_time() {
    let Some(mut world) = World::new() else { return };
    let client = world.pod("client", super::world::CLIENT);
    let outside = world.pod("outside", OTHER);
    world.fixtures(FIXTURES);
    world.discovery();
    world.sidecar(&client, &[("TERMINATION_DRAIN_DURATION_SECONDS", "2")]);
    world.ready(&client);
    serve(&outside, 9000, echo);
    let mut raw = client.connect(&format!("{OTHER}:9000"));
    raw.write_all(b"one").unwrap();
    raw.read_exact(&mut [0; 3]).unwrap();

    // Only from within the pod, only by POST.
    for path in ["/drain", "/quitquitquit"] {
        for port in [15000, 15020] {
            assert_eq!(client.ask("GET", port, path).unwrap().0, 405, "{port}{path}");
        }
        let mut from_elsewhere = Connection::new(outside.connect(&format!("{}:15020", client.ip)));
        let answer = from_elsewhere.ask(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"));
        assert_eq!(answer.status(), 403, "{path}");
        // The administration port is the pod's own: from elsewhere it is a port like any other, which no application has.
        let mut admin = outside.connect(&format!("{}:15000", client.ip));
        admin
            .write_all(format!("POST {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        let _ = admin.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains(" 200 "), "{path}");
    }
    assert_eq!(client.page(15021, "/healthz/ready").unwrap().0, 200);
    assert_eq!(client.ask("POST", 15000, "/drain").unwrap().0, 200);
    assert_eq!(client.page(15021, "/healthz/ready").unwrap().0, 503);
    raw.write_all(b"two").unwrap();
    raw.read_exact(&mut [0; 3]).unwrap();

    let began = Instant::now();
    assert_eq!(client.ask("POST", 15020, "/quitquitquit").unwrap().0, 200);
    let (status, _) = world.ended("client-sidecar");
    let took = began.elapsed();
    assert_eq!(status, Some(0));
    assert!(
        took > Duration::from_millis(1500) && took < Duration::from_secs(4),
        "{took:?}"
    );
}

#[test]
fn connections_and_handshakes_are_bounded() {
    let Some(mut world) = World::new() else { return };
    let (client, server) = (world.pod("client", super::world::CLIENT), world.pod("server", SERVER));
    world.fixtures(FIXTURES);
    world.discovery();
    world.sidecar(&client, &[]);
    world.sidecar(&server, &[("PROXY_MAX_CONNECTIONS", "10")]);
    world.ready(&client);
    world.ready(&server);
    let outside = world.pod("outside", OTHER);
    application(&server, 8080);
    // Half a ClientHello is waited for, but not for ever.
    let mut slow = outside.connect(&format!("{SERVER}:8080"));
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    slow.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    let began = Instant::now();

    let held: Vec<TcpStream> = (0..9).map(|_| outside.connect(&format!("{SERVER}:8080"))).collect();
    eventually("ten are open", || {
        server.metric("pinnace_proxy_connections_open") == 10.0
    });
    let mut more = outside.connect(&format!("{SERVER}:8080"));
    let end = more.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)) || end.is_err());
    assert!(server.metric("pinnace_proxy_connections_refused_total{reason=\"connection_limit\"}") >= 1.0);
    drop(held);
    eventually("they are given back", || {
        server.metric("pinnace_proxy_connections_open") <= 1.0
    });
    assert_eq!(fetch(&client, "10.96.0.2:80", "server", "/").unwrap().status(), 200);

    let end = slow.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(began.elapsed() > Duration::from_secs(5) && began.elapsed() < Duration::from_secs(15));
    let (_, dump) = server.page(15000, "/config_dump").unwrap();
    assert!(dump.contains("no whole ClientHello in time"), "{dump}");
}
