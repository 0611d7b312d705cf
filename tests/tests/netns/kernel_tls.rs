//! TLS by the kernel, asked for in both sidecars. Where the kernel has none, all is as it is without; where it has
//! (`hack/kernel-tls`), the kernel's own counts say that it carried the connections.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::http::{BIG, Connection, application, fetch, get, pattern};
use super::namespaces::inside;
use super::over_tcp::{echo, serve};
use super::pod::Pod;
use super::secrets::write_secret;
use super::world::{CLIENT, CLIENT_ID, FIXTURES, SERVER, SERVER_ID, World, eventually};

const TCP: &str = "10.96.0.2:9000";
const HTTP: &str = "10.96.0.2:80";
const SIZES: [usize; 6] = [1, 1000, 16_384, 16_385, 100_000, 3 << 20];

/// Whether this kernel has TLS.
fn is_there() -> bool {
    let listed = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    listed.split_whitespace().any(|name| name == "tls")
}

/// How many connections the kernel ever sent and received on under TLS, in a pod's namespace.
fn carried(pod: &Pod) -> [u64; 2] {
    let text = inside(&pod.namespace, || fs::read_to_string("/proc/thread-self/net/tls_stat")).unwrap_or_default();
    ["TlsTxSw", "TlsRxSw"].map(|name| {
        let mut found = text.lines().filter_map(|line| line.strip_prefix(name));
        found.next().map_or(0, |count| count.trim().parse().unwrap())
    })
}

/// Both sidecars with `KERNEL_TLS=auto`.
fn pair() -> Option<(World, Pod, Pod)> {
    let mut world = World::new()?;
    let (client, server) = (world.pod("client", CLIENT), world.pod("server", SERVER));
    world.fixtures(FIXTURES);
    world.discovery();
    for pod in [&client, &server] {
        world.sidecar(pod, &[("KERNEL_TLS", "auto")]);
    }
    for pod in [&client, &server] {
        world.ready(pod);
    }
    Some((world, client, server))
}

fn shown(pod: &Pod) -> serde_json::Value {
    let (_, text) = pod.page(15000, "/server_info").unwrap();
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    info["kernel_tls"].clone()
}

/// Sends bytes and reads them again.
#[track_caller]
fn echoed(stream: &mut TcpStream, length: usize) {
    let sent = pattern(length);
    let mut writer = stream.try_clone().unwrap();
    let upload = sent.clone();
    let writer = thread::spawn(move || writer.write_all(&upload).unwrap());
    let mut received = vec![0; length];
    stream.read_exact(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{length} bytes");
}

#[test]
fn everything_passes_under_the_kernels_tls_or_without() {
    let Some((world, client, server)) = pair() else { return };
    let there = is_there();
    for pod in [&client, &server] {
        let shown = shown(pod);
        assert_eq!(
            (&shown["setting"], &shown["in_use"]),
            (&"auto".into(), &there.into()),
            "{shown}"
        );
        assert_eq!(
            (&shown["available"], shown["reason"].is_string()),
            (&there.into(), !there),
            "{shown}"
        );
        assert_eq!(
            pod.metric("pinnace_proxy_kernel_tls_available"),
            f64::from(u8::from(there))
        );
    }

    // A sidecar tries every cipher suite at its start.
    let before = [&client, &server].map(carried);

    // Opaque bytes of every size both ways, on one connection, whose ends end one after the other.
    serve(&server, 9000, |stream| {
        let mut last = stream.try_clone().unwrap();
        echo(stream);
        let _ = last.write_all(b"after the client's end");
    });
    let mut stream = client.connect(TCP);
    for length in SIZES {
        echoed(&mut stream, length);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut last = String::new();
    stream.read_to_string(&mut last).unwrap();
    assert_eq!(last, "after the client's end");

    // A server that speaks first and ends first; one that breaks off is not taken for one that ended.
    serve(&server, 9001, |mut stream| {
        let _ = stream.write_all(&pattern(3 << 20));
    });
    let mut all = Vec::new();
    client.connect("10.96.0.2:9001").read_to_end(&mut all).unwrap();
    assert!(all == pattern(3 << 20), "{} bytes", all.len());
    serve(&server, 9003, |mut stream| {
        let _ = stream.write_all(b"half of it");
        thread::sleep(Duration::from_millis(100));
        // Unread input makes the kernel reset.
        drop(stream);
    });
    let mut stream = client.connect(&format!("{SERVER}:9003"));
    stream.write_all(b"never read").unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).is_err());

    // Requests, several on a connection and with bodies both ways, and what one of them opened.
    application(&server, 8080);
    for _ in 0..3 {
        let answer = fetch(&client, HTTP, "server", "/").unwrap();
        assert!(answer.text().contains(&format!("URI={CLIENT_ID}")), "{}", answer.text());
    }
    let mut connection = Connection::new(client.connect(HTTP));
    assert!(connection.ask(get("server", "/big")).body == pattern(BIG));
    let upload = pattern(2 << 20);
    let head = format!(
        "POST /count HTTP/1.1\r\nhost: server\r\ncontent-length: {}\r\n\r\n",
        upload.len()
    );
    let answer = connection.ask([head.as_bytes(), &upload].concat());
    assert_eq!(answer.text(), format!("{} true", upload.len()));
    let upgrade = "GET /upgrade HTTP/1.1\r\nhost: server\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    assert_eq!(connection.ask(upgrade).status(), 101);
    assert_eq!(connection.exactly(6).unwrap(), b"hello ");
    connection.send("x");
    assert_eq!(connection.exactly(1).unwrap(), b"x");

    // A connection outlives the certificates that it began with.
    let mut stream = client.connect(TCP);
    echoed(&mut stream, 1000);
    for (pod, id) in [(&client, CLIENT_ID), (&server, SERVER_ID)] {
        let secret = world.issue(id);
        write_secret(&pod.certificates, &secret);
        eventually("the new certificate is in use", || {
            pod.serial() == secret.serial.trim_start_matches('0')
        });
    }
    echoed(&mut stream, 100_000);
    echoed(&mut client.connect(TCP), 1000);

    for (pod, direction, before) in [(&client, "outbound", before[0]), (&server, "inbound", before[1])] {
        let sample =
            format!("pinnace_proxy_kernel_tls_connections_total{{direction=\"{direction}\",result=\"kernel\"}}");
        let now = carried(pod);
        let [sent, received] = [now[0] - before[0], now[1] - before[1]];
        println!(
            "{}: {sent} sent and {received} received under the kernel's TLS",
            pod.name
        );
        assert_eq!((sent > 3, received > 3), (there, there), "{}", pod.name);
        assert_eq!(pod.metric(&sample) > 3.0, there, "{}", shown(pod));
        assert_eq!(shown(pod)["connections"]["kernel"].as_u64().unwrap_or(0) > 3, there);
        assert!(!world.log(&format!("{}-sidecar", pod.name)).contains("panicked"));
    }
}
