//! What HTTP/1.x connections turn into, and what its older and rarer forms need: WebSocket, CONNECT, 100-continue, HTTP/1.0.

use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::http::{Connection, get};
use super::over_tcp::serve;
use super::pod::Pod;
use super::world::{FIXTURES, World};

/// Declared HTTP, and not declared at all.
const PORTS: [&str; 2] = ["10.96.0.2:80", "10.96.0.2:81"];

/// An application on a port of a pod that answers the one request of a connection with `work`.
fn answers(pod: &Pod, port: u16, work: impl Fn(&str, Connection<TcpStream>) + Clone + Send + 'static) {
    serve(pod, port, move |stream| {
        let mut connection = Connection::new(stream);
        if let Ok(head) = connection.head() {
            work(&head, connection);
        }
    });
}

#[test]
fn websockets_pass_frames_in_both_directions() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    // The example of RFC 6455, section 1.3, and its frames, section 5.7.
    const MASKED_HELLO: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    const HELLO: &[u8] = b"\x81\x05Hello";
    const CLOSE: &[u8] = b"\x88\x80\x37\xfa\x21\x3d";
    answers(&server, 8080, |head, mut connection| {
        assert!(head.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n"), "{head}");
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        for _ in 0..3 {
            assert_eq!(connection.exactly(MASKED_HELLO.len()).unwrap(), MASKED_HELLO);
            connection.send(HELLO);
        }
        assert_eq!(connection.exactly(CLOSE.len()).unwrap(), CLOSE);
        connection.send(b"\x88\x00");
    });
    for address in PORTS {
        let mut socket = Connection::new(client.connect(address));
        let answer = socket.ask(
            "GET /chat HTTP/1.1\r\nhost: server\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        assert_eq!(
            (
                answer.status(),
                answer.header("upgrade"),
                answer.header("sec-websocket-accept")
            ),
            (101, Some("websocket"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        );
        for _ in 0..3 {
            socket.send(MASKED_HELLO);
            assert_eq!(socket.exactly(HELLO.len()).unwrap(), HELLO);
        }
        socket.send(CLOSE);
        assert_eq!(socket.rest().unwrap(), b"\x88\x00");
    }
}

#[test]
fn a_refused_upgrade_is_an_answer_like_any_other() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    super::http::application(&server, 8080);
    let mut connection = Connection::new(client.connect(PORTS[0]));
    for protocol in ["websocket", "h2c"] {
        let answer = connection.ask(format!(
            "GET /plain HTTP/1.1\r\nhost: server\r\nconnection: upgrade, http2-settings\r\nupgrade: {protocol}\r\n\
             http2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        ));
        assert_eq!(answer.status(), 200);
        // What offers HTTP/2 goes no further than the sidecar.
        let seen = answer.text();
        assert_eq!(seen.contains("upgrade: "), protocol != "h2c", "{seen}");
        assert!(protocol != "h2c" || !seen.contains("http2-settings"), "{seen}");
    }
    assert_eq!(connection.ask(get("server", "/after")).status(), 200);
}

#[test]
fn tunnels_pass_bytes_and_half_closes() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    answers(&server, 8080, |head, mut connection| {
        if head.starts_with("CONNECT closed.example:443 ") {
            return connection.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        }
        assert!(head.starts_with("CONNECT far.example:443 HTTP/1.1\n"), "{head}");
        connection.send("HTTP/1.1 200 Connection established\r\n\r\nfirst ");
        // Everything, and only then an answer.
        let all = connection.rest().unwrap();
        connection.send(all);
    });
    for address in PORTS {
        let mut refused = Connection::new(client.connect(address));
        let answer = refused.ask("CONNECT closed.example:443 HTTP/1.1\r\nhost: closed.example:443\r\n\r\n");
        assert_eq!((answer.status(), answer.text().as_str()), (403, "no"), "{address}");

        let mut tunnel = Connection::new(client.connect(address));
        tunnel.send("CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n\r\n");
        let answer = tunnel.head().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{address}: {answer}");
        assert!(
            !answer.contains("transfer-encoding") && !answer.contains("content-length"),
            "{answer}"
        );
        assert_eq!(tunnel.exactly(6).unwrap(), b"first ", "{address}");
        tunnel.send(b"\x16\x03\x01 as TLS begins");
        tunnel.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(tunnel.rest().unwrap(), b"\x16\x03\x01 as TLS begins", "{address}");
    }
}

#[test]
fn the_application_decides_whether_a_body_is_sent() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    answers(&server, 8080, |head, mut connection| {
        assert!(head.contains("expect: 100-continue\n"), "{head}");
        if head.contains(" /refused ") {
            connection.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n");
            // Nothing of the body arrives.
            connection
                .stream
                .set_read_timeout(Some(Duration::from_millis(700)))
                .unwrap();
            let rest = connection.exactly(1);
            assert!(rest.is_err(), "{rest:?}");
            return;
        }
        if head.contains(" /asked ") {
            thread::sleep(Duration::from_millis(300));
            connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        // Otherwise it only reads.
        let body = connection.exactly(4).unwrap();
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
        connection.send(body);
    });
    for address in PORTS {
        for (path, asked, status) in [("/asked", true, 200), ("/silent", true, 200), ("/refused", false, 417)] {
            let mut connection = Connection::new(client.connect(address));
            connection.send(format!(
                "POST {path} HTTP/1.1\r\nhost: server\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
            ));
            let mut head = connection.head().unwrap();
            if asked {
                assert!(head.starts_with("HTTP/1.1 100 "), "{address}{path}: {head}");
                connection.send("body");
                head = connection.head().unwrap();
            }
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{address}{path}: {head}"
            );
        }
    }
}

#[test]
fn http_1_0_is_served_as_it_is_spoken() {
    let Some((_world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    super::http::application(&server, 8080);
    for address in PORTS {
        // One request per connection, unless the client says otherwise and the length is known.
        let mut old = Connection::new(client.connect(address));
        assert_eq!(old.ask("GET /one HTTP/1.0\r\nhost: server\r\n\r\n").status(), 200);
        assert_eq!(old.rest().unwrap(), b"");
        let mut kept = Connection::new(client.connect(address));
        for _ in 0..3 {
            let answer = kept.ask("GET /kept HTTP/1.0\r\nhost: server\r\nconnection: keep-alive\r\n\r\n");
            assert_eq!(
                (
                    answer.status(),
                    answer.header("connection").map(str::to_lowercase).as_deref()
                ),
                (200, Some("keep-alive")),
                "{address}"
            );
        }
        // An answer without a length ends with the connection, and is never in chunks.
        for path in ["/until-close", "/chunked"] {
            let mut old = Connection::new(client.connect(address));
            let answer = old.ask(format!(
                "GET {path} HTTP/1.0\r\nhost: server\r\nconnection: keep-alive\r\n\r\n"
            ));
            assert_eq!(
                (answer.status(), answer.header("transfer-encoding")),
                (200, None),
                "{address}{path}"
            );
            assert_eq!(old.rest().unwrap(), b"", "{address}{path}");
        }
    }
}
