//! Requests that two readers could take for different ones: none passes a sidecar, whoever sends them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::http::{Connection, application, get};
use super::http2;
use super::over_tcp::serve;
use super::world::{FIXTURES, OTHER, SERVER, World, eventually};

/// What must be refused, of HTTP/1.x.
const REFUSED: [(&str, &str); 34] = [
    (
        "CL.TE",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG",
    ),
    (
        "TE.CL",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n1\r\nG\r\n0\r\n\r\n",
    ),
    (
        "TE.TE, the last",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE.TE, the first",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE.TE, twice",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, a list",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, another",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, quoted",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, a vertical tab",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, a space before the colon",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, folded",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, HTTP/1.0",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, after a bare CR",
        "POST / HTTP/1.1\r\nhost: a\r\nx: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE, after a bare LF",
        "POST / HTTP/1.1\r\nhost: a\r\nx: y\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "CL, two that differ",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ),
    (
        "CL, twice",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
    ),
    (
        "CL, a list",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\na",
    ),
    (
        "CL, a sign",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
    ),
    (
        "CL, negative",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\na",
    ),
    (
        "CL, too large",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\na",
    ),
    ("Host, twice", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
    ("Host, two", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    ("Host, none", "GET / HTTP/1.1\r\n\r\n"),
    ("obs-fold", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n"),
    ("obs-fold, first", "GET / HTTP/1.1\r\n host: a\r\n\r\n"),
    ("LF alone", "GET / HTTP/1.1\nhost: a\n\n"),
    ("LF at the end", "GET / HTTP/1.1\r\nhost: a\r\n\n"),
    ("CR in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n"),
    ("NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n"),
    ("a fragment", "GET /public#/admin HTTP/1.1\r\nhost: a\r\n\r\n"),
    (
        "a fragment in absolute form",
        "GET http://a/public#/admin HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a header without a colon", "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n"),
    ("a space in a name", "GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n"),
];

#[test]
fn no_request_hides_in_another() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    serve(&server, 8080, move |stream| {
        let mut connection = Connection::new(stream);
        while connection.request().is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    // From the application's own side, and from outside the mesh.
    for (pod, address) in [(&client, "10.96.0.2:80"), (&outside, "10.77.0.2:8080")] {
        for (name, request) in REFUSED {
            let mut connection = Connection::new(pod.connect(address));
            // What follows it is no request of its own either.
            connection.send(format!("{request}{}", get("a", "/hidden")));
            let status = connection.answer(false).map(|answer| answer.status());
            assert_eq!(status.ok(), Some(400), "{name} to {address}");
            assert_eq!(seen.load(Ordering::SeqCst), 0, "{name} to {address}");
        }
        // What is refused says nothing about the next connection.
        let mut connection = Connection::new(pod.connect(address));
        assert_eq!(connection.ask(get("a", "/")).status(), 200);
        assert_eq!(seen.swap(0, Ordering::SeqCst), 1);
    }
    // A chunk whose frame is not what it should be ends the request, and with it the connection.
    for body in [
        "5\n12345\r\n0\r\n\r\n",
        "5;a\nb\r\n12345\r\n0\r\n\r\n",
        "-5\r\n12345\r\n0\r\n\r\n",
        "5\r\n123456\r\n0\r\n\r\n",
    ] {
        let mut connection = Connection::new(outside.connect("10.77.0.2:8080"));
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.send(format!("{head}{body}{}", get("a", "/hidden")));
        let answers = String::from_utf8_lossy(&connection.rest().unwrap_or_default()).into_owned();
        assert!(!answers.contains(" 200 "), "{body:?}: {answers}");
        assert_eq!(seen.load(Ordering::SeqCst), 0, "{body:?}");
    }
    eventually("what was refused is counted", || {
        server.metric("pinnace_proxy_connections_refused_total{reason=\"malformed_http\"}") > 20.0
    });
    let (_, dump) = server.page(15000, "/config_dump").unwrap();
    assert!(dump.contains("both Content-Length and Transfer-Encoding"), "{dump}");
}

#[test]
fn an_upgrade_that_is_refused_opens_no_way_round() {
    let Some((mut world, _client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    application(&server, 8080);
    let mut connection = Connection::new(outside.connect(&format!("{SERVER}:8080")));
    let upgrade = "GET /plain HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(connection.ask(upgrade).status(), 200);
    assert_eq!(connection.ask(get("a", "/")).status(), 200);
    assert_eq!(connection.ask(upgrade).status(), 200);
    assert_eq!(connection.ask("GET / HTTP/1.1\nhost: a\n\n").status(), 400);
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Fields as literals without an index (RFC 7541, section 6.2.2), each byte as it is.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// What comes of a request: the first byte of the answer's fields, or none where the stream or the connection was ended.
fn answer(mut stream: TcpStream, block: &[u8], data: Option<&[u8]>) -> Option<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // END_HEADERS, and END_STREAM where nothing follows.
    bytes.extend(frame(1, if data.is_some() { 4 } else { 5 }, 1, block));
    if let Some(data) = data {
        bytes.extend(frame(0, 1, 1, data));
    }
    stream.write_all(&bytes).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).ok()?;
        match head[3] {
            1 => return payload.first().copied(),
            // RST_STREAM, GOAWAY.
            3 | 7 => return None,
            _ => {}
        }
    }
}

#[test]
fn http2_carries_nothing_that_means_more_in_http1() {
    let Some((mut world, _client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    http2::run(async move {
        http2::serve(&server, 8082, http2::echo);
        let asked = tokio::task::spawn_blocking(move || {
            let ask = |block: &[u8], data| answer(outside.connect(&format!("{SERVER}:8082")), block, data);
            let with = |more: &[(&'static str, &'static str)]| {
                let mut all = vec![
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":authority", "a"),
                    (":path", "/"),
                ];
                all.extend(more);
                fields(&all)
            };
            // :status 200 of the static table.
            assert_eq!(ask(&with(&[]), None), Some(0x88));
            assert_eq!(ask(&with(&[("content-length", "2")]), Some(b"ab")), Some(0x88));
            for (name, block, data) in [
                ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), None),
                ("connection", with(&[("connection", "close")]), None),
                ("upgrade", with(&[("upgrade", "websocket")]), None),
                ("te", with(&[("te", "chunked")]), None),
                (
                    "CRLF in a value",
                    with(&[("x", "y\r\ntransfer-encoding: chunked")]),
                    None,
                ),
                ("LF in a value", with(&[("x", "y\nz")]), None),
                ("NUL in a value", with(&[("x", "y\0z")]), None),
                ("CRLF in a name", with(&[("x: y\r\nz", "a")]), None),
                ("an upper-case name", with(&[("X", "y")]), None),
                ("an empty name", with(&[("", "y")]), None),
                ("a pseudo-header that is none", with(&[(":x", "y")]), None),
                ("two paths", with(&[(":path", "/admin")]), None),
                (
                    "a pseudo-header after others",
                    with(&[("x", "y"), (":authority", "b")]),
                    None,
                ),
                ("too little", with(&[("content-length", "3")]), Some(&b"ab"[..])),
                ("too much", with(&[("content-length", "1")]), Some(b"ab")),
                ("nothing", with(&[("content-length", "1")]), None),
                (
                    "two lengths",
                    with(&[("content-length", "2"), ("content-length", "3")]),
                    Some(b"ab"),
                ),
                ("a length that is none", with(&[("content-length", "x")]), Some(b"ab")),
                ("two hosts", with(&[("host", "a"), ("host", "b")]), None),
                (
                    "no path",
                    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
                    None,
                ),
                (
                    "no method",
                    fields(&[(":scheme", "http"), (":authority", "a"), (":path", "/")]),
                    None,
                ),
                (
                    "a method with more",
                    fields(&[
                        (":method", "GET /admin HTTP/1.1\r\nx:"),
                        (":scheme", "http"),
                        (":path", "/"),
                    ]),
                    None,
                ),
                (
                    "a path with more",
                    fields(&[
                        (":method", "GET"),
                        (":scheme", "http"),
                        (":authority", "a"),
                        (":path", "/ HTTP/1.1\r\nx: y"),
                    ]),
                    None,
                ),
                (
                    "a path without its slash",
                    fields(&[
                        (":method", "GET"),
                        (":scheme", "http"),
                        (":authority", "a"),
                        (":path", "admin"),
                    ]),
                    None,
                ),
                (
                    "an authority with more",
                    fields(&[
                        (":method", "GET"),
                        (":scheme", "http"),
                        (":authority", "a/admin"),
                        (":path", "/"),
                    ]),
                    None,
                ),
                (
                    "no authority",
                    fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]),
                    None,
                ),
            ] {
                let answered = ask(&block, data);
                // :status 400 of the static table.
                assert!(matches!(answered, None | Some(0x8c)), "{name}: {answered:?}");
            }
        });
        asked.await.unwrap();
    });
}
