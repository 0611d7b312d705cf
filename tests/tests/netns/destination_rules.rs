//! DestinationRules: how a sidecar connects under each mode, to OpenSSL as a server that no mesh knows.

use std::fs;
use std::io::{Read as _, Write as _};

use super::http::{Message, application, fetch};
use super::pod::Pod;
use super::tls;
use super::tls_authority::TlsAuthority;
use super::world::{CLIENT, CLIENT_ID, FIXTURES, SERVER, SERVER_ID, World, eventually};

/// A client with a sidecar, and a Service of a pod that has none.
const OUTSIDE: &str = "
workloads:
- {name: shop/client-1, serviceAccount: client, addresses: [10.77.0.1], labels: {app: client}}
- {name: shop/server-1, serviceAccount: server, addresses: [10.77.0.2], labels: {app: server}, injected: false}
services:
- name: shop/server
  addresses: [10.96.0.2]
  ports: [{port: 80, name: http, targetPort: 8080}, {port: 81, name: http-mutual, targetPort: 8081}, {port: 9000, name: tcp}]
  endpoints: [10.77.0.2]
";

/// A rule for the Service, by its short name.
fn rule(name: &str, tls: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {{name: {name}, namespace: shop}}
spec: {{host: server, trafficPolicy: {{tls: {tls}}}}}
"
    )
}

/// A client with a sidecar and a server without one, and the fixtures of both.
struct Outside {
    world: World,
    client: Pod,
    server: Pod,
}

impl Outside {
    fn new() -> Option<Self> {
        let mut world = World::new()?;
        let (client, server) = (world.pod("client", CLIENT), world.pod("server", SERVER));
        world.fixtures(OUTSIDE);
        world.discovery();
        world.sidecar(&client, &[]);
        world.ready(&client);
        Some(Self { world, client, server })
    }

    /// Starts `openssl s_server` with a certificate; what it shows to HTTP is what it saw of its client.
    fn serve(&mut self, port: u16, [certificate, key]: &[String; 2], arguments: &[&str]) {
        let name = format!("openssl-{port}");
        let mut command = self.server.command("openssl");
        command.args([
            "s_server",
            "-port",
            &port.to_string(),
            "-cert",
            certificate,
            "-key",
            key,
        ]);
        self.world.spawn(&name, {
            command.args(arguments);
            command
        });
        self.world.logged(&name, "ACCEPT");
    }

    /// Puts a rule in the place of all others, and waits until the client's sidecar has it.
    fn rule(&self, name: &str, tls: &str) {
        self.world.fixtures(&format!("{OUTSIDE}{}", rule(name, tls)));
        in_force(&self.client, &format!("shop/{name}"));
    }

    fn get(&self, port: u16, host: &str) -> Message {
        fetch(&self.client, &format!("10.96.0.2:{port}"), host, "/").unwrap()
    }

    fn dump(&self) -> String {
        self.client.page(15000, "/config_dump").unwrap().1
    }
}

/// Waits until a sidecar follows a rule for what it called before.
fn in_force(pod: &Pod, rule: &str) {
    eventually(&format!("{rule} is in force"), || {
        // Whatever comes of it, the destination is asked for.
        let _ = fetch(pod, "10.96.0.2:80", "server", "/");
        let (_, dump) = pod.page(15000, "/config_dump").unwrap();
        dump.contains(&format!("\"rule\": \"{rule}\""))
    });
}

#[test]
fn simple_verifies_the_server_as_the_rule_says() {
    let Some(mut outside) = Outside::new() else { return };
    let folder = outside.world.folder.clone();
    let (one, other) = (TlsAuthority::new(&folder, "one"), TlsAuthority::new(&folder, "other"));
    let names = "DNS:server,DNS:web.example,DNS:server.shop.svc.cluster.local,URI:spiffe://elsewhere/web";
    let served = one.issue("server", names);
    outside.serve(8080, &served, &["-www", "-alpn", "http/1.1"]);
    outside.serve(9000, &served, &["-rev"]);
    let (ca, other_ca) = (one.certificate(), other.certificate());

    for (name, tls, host, expected) in [
        (
            "right",
            format!("{{mode: SIMPLE, caCertificates: {ca}}}"),
            "server",
            Ok(()),
        ),
        (
            "other-authority",
            format!("{{mode: SIMPLE, caCertificates: {other_ca}}}"),
            "server",
            Err("UnknownIssuer"),
        ),
        (
            "public-roots",
            "{mode: SIMPLE}".to_owned(),
            "server",
            Err("UnknownIssuer"),
        ),
        // The name that the client uses is none of the certificate's, unless the rule gives another.
        (
            "other-name",
            format!("{{mode: SIMPLE, caCertificates: {ca}}}"),
            "server.shop",
            Err(
                "is for server, web.example, server.shop.svc.cluster.local, spiffe://elsewhere/web, expected server.shop",
            ),
        ),
        (
            "sni",
            format!("{{mode: SIMPLE, caCertificates: {ca}, sni: web.example}}"),
            "server.shop",
            Ok(()),
        ),
        (
            "sans",
            format!("{{mode: SIMPLE, caCertificates: {ca}, subjectAltNames: [no.example, 'spiffe://elsewhere/web']}}"),
            "server.shop",
            Ok(()),
        ),
        (
            "other-sans",
            format!("{{mode: SIMPLE, caCertificates: {ca}, subjectAltNames: [no.example]}}"),
            "server",
            Err("expected no.example"),
        ),
        (
            "skipped",
            "{mode: SIMPLE, insecureSkipVerify: true}".to_owned(),
            "server.shop",
            Ok(()),
        ),
    ] {
        outside.rule(name, &tls);
        let answer = outside.get(80, host);
        match expected {
            Ok(()) => {
                let page = answer.text();
                assert_eq!(answer.status(), 200, "{name}: {page}\n{}", outside.dump());
                assert!(
                    page.contains("TLSv1.3") && page.contains("no client certificate"),
                    "{name}: {page}"
                );
            }
            Err(reason) => {
                assert_eq!(answer.status(), 503, "{name}");
                assert!(
                    outside.dump().contains(reason),
                    "{name}: no {reason:?} in {}",
                    outside.dump()
                );
            }
        }
    }
    // Opaque bytes, by the Service's whole name.
    outside.rule("opaque", &format!("{{mode: SIMPLE, caCertificates: {ca}}}"));
    let mut stream = outside.client.connect("10.96.0.2:9000");
    stream.write_all(b"abc\n").unwrap();
    let mut reversed = [0; 4];
    stream.read_exact(&mut reversed).unwrap();
    assert_eq!(&reversed, b"cba\n");
    assert!(
        outside
            .client
            .metric("pinnace_proxy_connections_total{direction=\"outbound\",security=\"tls\"}")
            >= 5.0
    );
    assert_eq!(
        outside
            .client
            .metric("pinnace_proxy_connections_total{direction=\"outbound\",security=\"mutual_tls\"}"),
        0.0
    );
}

#[test]
fn mutual_presents_the_rules_own_certificate() {
    let Some(mut outside) = Outside::new() else { return };
    let folder = outside.world.folder.clone();
    let (one, other) = (TlsAuthority::new(&folder, "one"), TlsAuthority::new(&folder, "other"));
    let served = one.issue("server", "DNS:server");
    let [good, good_key] = one.issue("client", "DNS:client.example");
    let [foreign, foreign_key] = other.issue("client", "DNS:client.example");
    let ca = one.certificate();
    let asks = ["-www", "-Verify", "1", "-verify_return_error", "-CAfile", &ca];
    outside.serve(8080, &served, &asks);

    let mutual = |certificate: &str, key: &str| {
        format!("{{mode: MUTUAL, caCertificates: {ca}, clientCertificate: {certificate}, privateKey: {key}}}")
    };
    outside.rule("good", &mutual(&good, &good_key));
    let page = outside.get(80, "server").text();
    assert!(page.contains("DNS:client.example"), "{page}\n{}", outside.dump());
    // Whom the server does not believe it refuses, as it does whoever presents nothing.
    for (name, tls) in [
        ("foreign", mutual(&foreign, &foreign_key)),
        ("none", format!("{{mode: SIMPLE, caCertificates: {ca}}}")),
    ] {
        outside.rule(name, &tls);
        assert_eq!(outside.get(80, "server").status(), 503, "{name}");
    }
    outside.rule("mismatch", &mutual(&good, &foreign_key));
    assert_eq!(outside.get(80, "server").status(), 503);
    assert!(
        outside.dump().contains("does not belong to the certificate in"),
        "{}",
        outside.dump()
    );
}

#[test]
fn files_that_cannot_be_used_refuse_that_rules_connections_and_no_others() {
    let Some(mut outside) = Outside::new() else { return };
    let folder = outside.world.folder.clone();
    let (one, other) = (TlsAuthority::new(&folder, "one"), TlsAuthority::new(&folder, "other"));
    let served = one.issue("server", "DNS:server,DNS:server.shop.svc.cluster.local");
    outside.serve(8080, &served, &["-www"]);
    application(&outside.server, 7000);
    let ca = folder.join("roots.pem").display().to_string();
    // In one step, as a mounted Secret changes.
    let write = |text: &str| {
        let new = format!("{ca}.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &ca).unwrap();
    };
    let of = |authority: &TlsAuthority| fs::read_to_string(authority.certificate()).unwrap();

    outside.rule("files", &format!("{{mode: SIMPLE, caCertificates: {ca}}}"));
    let answer = outside.get(80, "server");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("DestinationRule"), "{}", answer.text());
    let dump = outside.dump();
    for words in [
        "\"reason\": \"destination_rule\"",
        "\"flag\": \"UF\"",
        &format!("DestinationRule shop/files: caCertificates {ca}: No such file or directory"),
    ] {
        assert!(dump.contains(words), "no {words} in {dump}");
    }
    outside
        .world
        .logged("client-sidecar", "the files of a DestinationRule cannot be used");
    assert!(
        outside
            .client
            .metric("pinnace_proxy_connections_refused_total{reason=\"destination_rule\"}")
            >= 1.0
    );
    assert!(
        outside
            .client
            .metric("pinnace_proxy_destination_rule_tls_refused_total")
            >= 1.0
    );
    // Opaque connections end; another destination is as before.
    let mut stream = outside.client.connect("10.96.0.2:9000");
    assert!(stream.write_all(b"abc\n").is_err() || stream.read(&mut [0; 1]).is_err());
    assert_eq!(
        fetch(&outside.client, &format!("{SERVER}:7000"), SERVER, "/")
            .unwrap()
            .status(),
        200
    );

    let status = || outside.get(80, "server").status();
    write("no certificate");
    eventually("the damaged file is named", || {
        status() == 503 && outside.dump().contains("holds no certificate")
    });
    write(&of(&one));
    eventually("the file that came is used", || status() == 200);
    // Damaged or gone afterwards: what was loaded stays.
    write("-----BEGIN CERTIFICATE-----\n%%%");
    eventually("the damaged file is noted", || {
        let _ = status();
        outside.world.log("client-sidecar").contains("the loaded files stay")
    });
    assert_eq!(status(), 200);
    write(&of(&other));
    eventually("the new file is used, by connections that were open too", || {
        status() == 503
    });
    write(&of(&one));
    eventually("and the one after it", || status() == 200);

    // What a sidecar does not read is refused, with the reason, and not sent in the clear.
    outside.rule("secret", "{mode: SIMPLE, credentialName: certificates}");
    assert_eq!(outside.get(80, "server").status(), 503);
    assert!(outside.dump().contains("is for gateways"), "{}", outside.dump());
}

#[test]
fn istio_mutual_is_for_every_endpoint_and_may_name_the_server_otherwise() {
    let Some(mut outside) = Outside::new() else { return };
    let secret = outside.world.issue(SERVER_ID);
    let arguments = [
        "-Verify",
        "1",
        "-verify_return_error",
        "-www",
        "-alpn",
        "istio-http/1.1,http/1.1",
    ];
    tls::server(&mut outside.world, &outside.server, 8080, &secret, &arguments);
    // Automatic mutual TLS leaves a pod without a sidecar in the clear, which this server does not understand.
    assert_ne!(outside.get(80, "server").status(), 200);
    outside.rule("explicit", "{mode: ISTIO_MUTUAL}");
    let page = outside.get(80, "server").text();
    assert!(
        page.contains(&format!("URI:{CLIENT_ID}")) && page.contains("TLSv1.3"),
        "{page}"
    );
    outside.rule(
        "other-name",
        "{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/other']}",
    );
    assert_eq!(outside.get(80, "server").status(), 503);
    assert!(
        outside.dump().contains("none of the destination's identities"),
        "{}",
        outside.dump()
    );
    outside.rule(
        "named",
        &format!("{{mode: ISTIO_MUTUAL, sni: web.example, subjectAltNames: ['{SERVER_ID}']}}"),
    );
    let answer = outside.get(80, "server");
    assert_eq!(answer.status(), 200, "{}", outside.dump());
}

#[test]
fn disable_is_in_the_clear_and_what_says_nothing_of_tls_leaves_it_automatic() {
    let Some((world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    // The server's sidecar says who calls, where it knows.
    let seen = || fetch(&client, "10.96.0.2:80", "server", "/").unwrap();
    assert!(seen().text().contains("x-forwarded-client-cert"), "{}", seen().text());
    let with = |rules: &str| world.fixtures(&format!("{FIXTURES}{rules}"));
    with(&rule("clear", "{mode: DISABLE}"));
    in_force(&client, "shop/clear");
    let text = seen().text();
    assert!(
        text.contains("host: server") && !text.contains("x-forwarded-client-cert"),
        "{text}"
    );
    assert!(client.metric("pinnace_proxy_connections_total{direction=\"outbound\",security=\"none\"}") >= 1.0);

    // A port's settings take the place of the rule's, and a namespace's wildcard governs what has no rule of its own.
    let of_ports = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ports, namespace: shop}
spec:
  host: '*.shop.svc.cluster.local'
  trafficPolicy:
    tls: {mode: DISABLE}
    portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]
";
    with(of_ports);
    in_force(&client, "shop/ports");
    assert!(seen().text().contains("x-forwarded-client-cert"));
    let answer = fetch(&client, "10.96.0.2:81", "server", "/").unwrap().text();
    assert!(!answer.contains("x-forwarded-client-cert"), "{answer}");
    with(
        "
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: subsets, namespace: shop}
spec: {host: server, subsets: [{name: v1, labels: {version: v1}}]}
",
    );
    eventually("without TLS settings it is automatic again", || {
        seen().text().contains("x-forwarded-client-cert")
            && fetch(&client, "10.96.0.2:81", "server", "/")
                .is_ok_and(|answer| answer.text().contains("x-forwarded-client-cert"))
    });
}
