//! Opaque bytes through both sidecars.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{application, fetch, pattern};
use super::namespaces::has_ipv6;
use super::pod::Pod;
use super::world::{CLIENT_ID, FIXTURES, PATIENCE, SERVER, World, skipped};

const DECLARED: &str = "10.96.0.2:9000";
const UNDECLARED: &str = "10.96.0.2:9001";

/// Serves every connection to a port of a pod on a thread of its own.
pub(crate) fn serve(pod: &Pod, port: u16, work: impl Fn(TcpStream) + Clone + Send + 'static) {
    let listener = pod.listen(port);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let _ = stream.set_nodelay(true);
            let work = work.clone();
            thread::spawn(move || work(stream));
        }
    });
}

/// Gives back what comes, until the end.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 65536];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// Takes everything until the end, and only then says what it was.
fn count(mut stream: TcpStream) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let _ = stream.write_all(format!("{} {}", all.len(), all == pattern(all.len())).as_bytes());
}

/// As SMTP begins.
fn greet(mut stream: TcpStream) {
    let _ = stream.write_all(b"220 ready\r\n");
    echo(stream);
}

#[track_caller]
fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn bytes_pass_whole_under_mutual_tls() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    serve(&server, 9000, count);
    serve(&server, 9001, count);
    serve(&server, 9002, echo);
    for address in [DECLARED, UNDECLARED] {
        let mut stream = client.connect(address);
        stream.write_all(b"\x00\x01 a few").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut stream), "8 false");
    }
    const LARGE: usize = 50 << 20;
    let mut stream = client.connect(DECLARED);
    stream.write_all(&pattern(LARGE)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), format!("{LARGE} true"));
    // A pod directly, on a port that no Service has.
    let mut stream = client.connect(&format!("{SERVER}:9002"));
    for line in ["one", "three", "\0"] {
        stream.write_all(line.as_bytes()).unwrap();
        assert_eq!(exactly(&mut stream, line.len()), line.as_bytes());
    }
    assert_eq!(
        client.metric("pinnace_proxy_connections_total{direction=\"outbound\",security=\"none\"}"),
        0.0
    );
    assert_eq!(
        server.metric("pinnace_proxy_connections_total{direction=\"inbound\",security=\"mutual_tls\"}"),
        4.0
    );
    // A server that breaks off is not taken for one that ended.
    serve(&server, 9003, |mut stream| {
        let _ = stream.write_all(b"half of it");
        thread::sleep(Duration::from_millis(100));
        // Unread input makes the kernel reset.
        drop(stream);
    });
    let mut stream = client.connect(&format!("{SERVER}:9003"));
    stream.write_all(b"never read").unwrap();
    let mut all = Vec::new();
    let ended = stream.read_to_end(&mut all);
    assert!(ended.is_err(), "{ended:?} {}", String::from_utf8_lossy(&all));
}

#[test]
fn whoever_speaks_first_is_heard() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", super::world::OTHER);
    for port in [9000, 9001] {
        serve(&server, port, greet);
    }
    serve(&client, 9001, greet);
    let greeted = |pod: &Pod, address: &str| {
        let began = Instant::now();
        let mut stream = pod.connect(address);
        assert_eq!(exactly(&mut stream, 11), b"220 ready\r\n", "{address}");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{address}: {took:?}");
        stream.write_all(b"EHLO\r\n").unwrap();
        assert_eq!(exactly(&mut stream, 6), b"EHLO\r\n", "{address}");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut stream), "");
    };
    // Under mutual TLS; in the clear from outside the mesh, where PERMISSIVE takes it; in the clear to the outside.
    greeted(&client, DECLARED);
    greeted(&client, UNDECLARED);
    greeted(&outside, &format!("{SERVER}:9001"));
    greeted(&outside, &format!("{SERVER}:9000"));
    serve(&outside, 9001, greet);
    greeted(&client, &format!("{}:9001", outside.ip));

    // A client that hesitates in the middle of what could still become HTTP loses nothing, wherever it is looked at.
    serve(&server, 9002, echo);
    for (pod, address) in [(&client, "10.77.0.2:9002"), (&outside, "10.77.0.2:9002")] {
        let mut stream = pod.connect(address);
        stream.write_all(b"P").unwrap();
        thread::sleep(Duration::from_millis(400));
        stream.write_all(b"ATIENCE").unwrap();
        assert_eq!(exactly(&mut stream, 8), b"PATIENCE", "{} {address}", pod.name);
    }
    // The same while the server is about to greet.
    serve(&server, 9004, |mut stream| {
        thread::sleep(Duration::from_millis(400));
        let _ = stream.write_all(b"hello ");
        echo(stream);
    });
    for (pod, address) in [(&client, "10.77.0.2:9004"), (&outside, "10.77.0.2:9004")] {
        let mut stream = pod.connect(address);
        thread::sleep(Duration::from_millis(200));
        stream.write_all(b"GE").unwrap();
        assert_eq!(exactly(&mut stream, 8), b"hello GE", "{} {address}", pod.name);
    }
}

#[test]
fn what_is_declared_opaque_is_not_looked_at() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", super::world::OTHER);
    serve(&server, 9000, echo);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for words in [PREFACE, b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"] {
        for (pod, address) in [(&client, DECLARED), (&outside, "10.77.0.2:9000")] {
            let mut stream = pod.connect(address);
            stream.write_all(words).unwrap();
            assert_eq!(exactly(&mut stream, words.len()), words, "{} {address}", pod.name);
        }
    }
}

#[test]
fn an_application_that_is_not_there_is_said() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let mut stream = client.connect(DECLARED);
    stream.write_all(b"x").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    // Closed or reset: either way nothing came.
    let _ = stream.read_to_end(&mut all);
    assert!(all.is_empty());
    let (_, dump) = server.page(15000, "/config_dump").unwrap();
    assert!(dump.contains("the application: Connection refused"), "{dump}");
}

#[test]
fn ipv6_passes_like_ipv4() {
    if !has_ipv6() {
        skipped("this kernel has no IPv6");
        return;
    }
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    serve(&server, 9000, echo);
    for (to, host) in [
        ("[fd96::2]:80", "six"),
        ("[fd77::2]:8080", "[fd77::2]:8080"),
        // A name decides, whatever the address's family.
        ("10.96.0.2:80", "six"),
        ("[2001:db8::1]:80", "server"),
    ] {
        let answer = fetch(&client, to, host, "/").unwrap();
        assert!(
            answer.status() == 200 && answer.text().contains(&format!("URI={CLIENT_ID}")),
            "{to} {host}: {}",
            answer.text()
        );
    }
    for to in ["[fd96::2]:9000", "[fd77::2]:9000"] {
        let mut stream = client.connect(to);
        stream.write_all(b"six").unwrap();
        assert_eq!(exactly(&mut stream, 3), b"six", "{to}");
    }
    assert_eq!(
        server.metric("pinnace_proxy_connections_total{direction=\"inbound\",security=\"none\"}"),
        0.0
    );
}
