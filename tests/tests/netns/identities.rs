//! Who is believed, on either side, with OpenSSL as the peer; and what is on the wire.

use std::fs;
use std::io::{Read as _, Write as _};
use std::time::{Duration, SystemTime};

use operator::ca::Authority;

use super::http::{Connection, application, fetch, get};
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::secrets::issue;
use super::tls;
use super::world::{CLIENT, CLIENT_ID, FIXTURES, OTHER, SERVER, SERVER_ID, World, eventually, skipped};

const STRICT: &str = "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n";

#[test]
fn a_server_must_be_the_destination() {
    let Some(mut world) = World::new() else { return };
    let (client, server) = (world.pod("client", CLIENT), world.pod("server", SERVER));
    world.fixtures(FIXTURES);
    world.discovery();
    world.sidecar(&client, &[]);
    world.ready(&client);
    // Behind the Service's HTTP port a server that shows what it sees of its client, elsewhere one that shows what it is sent.
    let genuine = world.issue(SERVER_ID);
    let alpn = ["-alpn", "istio-http/1.1,http/1.1"];
    let seeing = ["-Verify", "1", "-verify_return_error", "-www"];
    tls::server(&mut world, &server, 8080, &genuine, &[&alpn[..], &seeing].concat());
    let answer = fetch(&client, "10.96.0.2:80", "server", "/marker").unwrap();
    let page = answer.text();
    assert_eq!(answer.status(), 200, "{page}");
    assert!(
        page.contains(&format!("URI:{CLIENT_ID}")) && page.contains("TLSv1.3"),
        "{page}"
    );

    // Another authority under the same name.
    let stranger = Authority::generate(SystemTime::now()).unwrap();
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    let expired = now - 3 * hour;
    for (port, secret, reason) in [
        (
            9001,
            world.issue("spiffe://cluster.local/ns/shop/sa/impostor"),
            "the server is spiffe://cluster.local/ns/shop/sa/impostor",
        ),
        (
            9002,
            issue(&stranger, SERVER_ID, hour, now),
            "invalid peer certificate: BadSignature",
        ),
        (
            9003,
            issue(&world.authority, SERVER_ID, hour, expired),
            "invalid peer certificate: Expired",
        ),
        (
            9004,
            world.issue("spiffe://other.domain/ns/shop/sa/server"),
            "trust domain other.domain",
        ),
    ] {
        tls::server(&mut world, &server, port, &secret, &[]);
        let failed = || client.metric("pinnace_proxy_handshakes_failed_total{direction=\"outbound\"}");
        let before = failed();
        let answer = fetch(&client, &format!("{SERVER}:{port}"), SERVER, "/marker").unwrap();
        assert_eq!(answer.status(), 503, "{reason}");
        // Who is somebody else stays so: there is nobody else to ask.
        assert_eq!(failed() - before, 1.0, "{reason}");
        let (_, dump) = client.page(15000, "/config_dump").unwrap();
        assert!(dump.contains(reason), "{reason}: {dump}");
        assert!(
            !world.log(&format!("openssl-server-{port}")).contains("marker"),
            "{reason}"
        );
    }
    assert!(client.metric("pinnace_proxy_handshakes_failed_total{direction=\"outbound\"}") >= 4.0);
}

#[test]
fn a_client_must_be_of_the_mesh() {
    let Some((mut world, client, server)) = World::pair(&format!("{FIXTURES}{STRICT}")) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    application(&server, 8080);
    let to = format!("{SERVER}:8080");
    // Another authority under the same name.
    let stranger = Authority::generate(SystemTime::now()).unwrap();
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    // Whoever holds a certificate of the mesh is of the mesh, and sees whom it reached.
    let somebody = world.issue("spiffe://cluster.local/ns/far/sa/somebody");
    let shown = tls::mesh_client(&world, &outside, &to, &somebody, REQUEST);
    assert!(
        shown.contains("x-app: echo") && shown.contains("URI=spiffe://cluster.local/ns/far/sa/somebody"),
        "{shown}"
    );
    assert!(
        shown.contains("TLSv1.3") && shown.contains("ALPN protocol: http/1.1"),
        "{shown}"
    );
    assert!(
        tls::certificate(&world.folder, &shown)
            .0
            .contains(&format!("URI:{SERVER_ID}")),
        "{shown}"
    );

    for (secret, reason) in [
        (issue(&stranger, CLIENT_ID, hour, now), "BadSignature"),
        (
            issue(&world.authority, CLIENT_ID, hour, now - 3 * hour),
            "certificate: Expired",
        ),
        (
            world.issue("spiffe://other.domain/ns/shop/sa/client"),
            "trust domain other.domain",
        ),
    ] {
        let shown = tls::mesh_client(&world, &outside, &to, &secret, REQUEST);
        assert!(!shown.contains("x-app: echo"), "{reason}: {shown}");
        let (_, dump) = server.page(15000, "/config_dump").unwrap();
        assert!(dump.contains(reason), "{reason}: {dump}");
    }
    let shown = tls::client(&outside, &to, &["-ign_eof", "-alpn", "istio"], REQUEST);
    assert!(!shown.contains("x-app: echo"), "{shown}");
    eventually("it is said that there was no certificate", || {
        server
            .page(15000, "/config_dump")
            .unwrap()
            .1
            .contains("peer sent no certificates")
    });
    assert!(server.metric("pinnace_proxy_handshakes_failed_total{direction=\"inbound\"}") >= 4.0);
    assert_eq!(fetch(&client, "10.96.0.2:80", "server", "/").unwrap().status(), 200);
}

#[test]
fn the_wire_holds_tls_and_no_word() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    if client
        .command("tcpdump")
        .arg("--version")
        .output()
        .is_ok_and(|output| !output.status.success())
    {
        skipped("there is no tcpdump");
        return;
    }
    let outside = world.pod("outside", OTHER);
    application(&server, 8080);
    serve(&server, 9000, echo);
    const MARKER: &[u8] = b"marker-in-plain-words";
    let speak = |pod: &Pod, http: &str, tcp: &str| {
        let request = format!("GET /marker-in-plain-words HTTP/1.1\r\nhost: {http}\r\n\r\n");
        assert!(
            Connection::new(pod.connect(http))
                .ask(request)
                .text()
                .contains("marker-in-plain-words")
        );
        let mut stream = pod.connect(tcp);
        stream.write_all(MARKER).unwrap();
        let mut back = [0; MARKER.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, MARKER);
        Connection::new(pod.connect(http)).ask(get(http, "/end-of-it"));
    };
    let mut captured = |name: &str, speak: &dyn Fn()| {
        let file = world.folder.join(format!("{name}.pcap"));
        let mut command = server.command("tcpdump");
        // The interface of the pod, and not its loopback, where the application is spoken to in the clear.
        command
            .args(["-i", "eth0", "--immediate-mode", "-U", "-Z", "root", "-w"])
            .arg(&file)
            .arg("tcp port 8080 or tcp port 9000");
        world.spawn(name, command);
        world.logged(name, "listening on");
        speak();
        std::thread::sleep(Duration::from_millis(300));
        world.signal(name, libc::SIGINT);
        world.ended(name);
        fs::read(file).unwrap()
    };
    let has = |haystack: &[u8], needle: &[u8]| haystack.windows(needle.len()).any(|window| window == needle);

    let mesh = captured("mesh", &|| speak(&client, "10.96.0.2:80", "10.96.0.2:9000"));
    assert!(mesh.len() > 5000 && !has(&mesh, MARKER) && !has(&mesh, b"HTTP/1.1"));
    assert!(!has(&mesh, b"spiffe://"), "TLS 1.3 encrypts certificates");
    // The server's choice of TLS 1.3 (supported_versions) and of X25519MLKEM768 (key_share, 1120 bytes).
    assert!(has(&mesh, b"\x00\x2b\x00\x02\x03\x04"));
    assert!(has(&mesh, b"\x00\x33\x04\x64\x11\xec\x04\x60"));

    let plain = captured("plain", &|| {
        speak(&outside, &format!("{SERVER}:8080"), &format!("{SERVER}:9000"))
    });
    assert!(has(&plain, MARKER) && has(&plain, b"HTTP/1.1") && !has(&plain, b"\x11\xec\x04\x60"));
}
