//! PeerAuthentication at the server's proxy.

use std::io::{self, Read as _, Write as _};

use super::http::{Connection, application, fetch, get};
use super::over_tcp::{echo, serve};
use super::tls;
use super::world::{CLIENT_ID, FIXTURES, OTHER, SERVER, SERVER_ID, World, eventually};

fn policy(spec: &str) -> String {
    let policy =
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}";
    format!("{FIXTURES}\n---\n{policy}\nspec: {spec}\n")
}

fn refused(outcome: io::Result<super::http::Message>) -> bool {
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[test]
fn each_mode_takes_what_it_says() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    application(&server, 8080);
    serve(&server, 9000, echo);
    let own = world.issue("spiffe://elsewhere/ns/own/sa/tls");
    tls::server(&mut world, &server, 8443, &own, &["-rev"]);
    let direct = format!("{SERVER}:8080");
    let plain = || fetch(&outside, &direct, "server", "/");
    let from_mesh = || fetch(&client, "10.96.0.2:80", "server", "/").map(|answer| answer.text());
    let identity = format!("URI={CLIENT_ID}");

    // PERMISSIVE, the default: both, and TLS of the application's own.
    let mut connection = Connection::new(outside.connect(&direct));
    let claim = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: URI=spiffe://cluster.local/ns/a/sa/b\r\n\r\n";
    let answer = connection.ask(claim);
    assert!(
        answer.status() == 200 && !answer.text().contains("x-forwarded-client-cert"),
        "{}",
        answer.text()
    );
    assert!(from_mesh().unwrap().contains(&identity));
    for alpn in [&[][..], &["-alpn", "http/1.1"]] {
        let shown = tls::client(&outside, &format!("{SERVER}:8443"), alpn, "Q\n");
        assert!(
            tls::certificate(&world.folder, &shown)
                .0
                .contains("spiffe://elsewhere/ns/own/sa/tls"),
            "{shown}"
        );
    }
    // From within the mesh too: opaque bytes that are TLS themselves, under mutual TLS.
    let shown = tls::client(&client, &format!("{SERVER}:8443"), &[], "Q\n");
    assert!(
        tls::certificate(&world.folder, &shown)
            .0
            .contains("spiffe://elsewhere/ns/own/sa/tls"),
        "{shown}"
    );

    // What is open when plaintext ends: three connections in the clear, and one under mutual TLS.
    let mut open_http = Connection::new(outside.connect(&direct));
    assert_eq!(open_http.ask(get("server", "/")).status(), 200);
    let mut upgraded = Connection::new(outside.connect(&direct));
    let request = "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    assert_eq!(upgraded.ask(request).status(), 101);
    assert_eq!(upgraded.exactly(6).unwrap(), b"hello ");
    let mut open_raw = [
        outside.connect(&format!("{SERVER}:9000")),
        client.connect("10.96.0.2:9000"),
    ];
    for stream in &mut open_raw {
        stream.write_all(b"open").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }

    world.fixtures(&policy("{mtls: {mode: STRICT}}"));
    eventually("plaintext is refused", || refused(plain()));
    let answer = open_http.ask(get("server", "/"));
    assert_eq!((answer.status(), answer.header("connection")), (403, Some("close")));
    assert_eq!(upgraded.rest().unwrap_or_default(), b"");
    let [mut in_the_clear, mut under_tls] = open_raw;
    assert_eq!(
        in_the_clear.read(&mut [0; 5]).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    under_tls.write_all(b"still").unwrap();
    under_tls.read_exact(&mut [0; 5]).unwrap();
    let mut stream = outside.connect(&format!("{SERVER}:9000"));
    stream.write_all(b"plain bytes\n").unwrap();
    assert_eq!(
        stream.read(&mut [0; 9]).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert!(from_mesh().unwrap().contains(&identity));
    let (_, dump) = server.page(15000, "/config_dump").unwrap();
    let said = "plaintext where PeerAuthentication shop/default says STRICT";
    assert!(dump.contains("plaintext_under_strict") && dump.contains(said), "{dump}");
    assert!(server.metric("pinnace_proxy_connections_refused_total{reason=\"plaintext_under_strict\"}") >= 2.0);
    let shown = tls::client(&outside, &format!("{SERVER}:8443"), &[], "Q\n");
    let names = tls::certificate(&world.folder, &shown).0;
    assert!(names.contains(SERVER_ID), "{shown}");
    eventually("it is said that there was no certificate", || {
        server
            .page(15000, "/config_dump")
            .unwrap()
            .1
            .contains("peer sent no certificates")
    });

    let ports =
        "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}}";
    world.fixtures(&policy(ports));
    eventually("the port is PERMISSIVE", || {
        plain().is_ok_and(|answer| answer.status() == 200)
    });
    let mut stream = outside.connect(&format!("{SERVER}:9000"));
    stream.write_all(b"plain bytes\n").unwrap();
    assert!(stream.read(&mut [0; 9]).is_err());

    world.fixtures(&policy("{mtls: {mode: DISABLE}}"));
    eventually("the client sends plaintext", || {
        from_mesh().is_ok_and(|text| !text.contains("x-forwarded-client-cert"))
    });
    assert_eq!(plain().unwrap().status(), 200);
    // Even what says that it is the mesh's is the application's.
    let shown = tls::client(&outside, &format!("{SERVER}:8443"), &["-alpn", "istio"], "Q\n");
    assert!(
        tls::certificate(&world.folder, &shown)
            .0
            .contains("spiffe://elsewhere/ns/own/sa/tls"),
        "{shown}"
    );
    let mut stream = client.connect("10.96.0.2:9000");
    stream.write_all(b"plain").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();

    world.fixtures(FIXTURES);
    eventually("PERMISSIVE again", || {
        from_mesh().is_ok_and(|text| text.contains(&identity))
    });
    assert_eq!(plain().unwrap().status(), 200);
}
