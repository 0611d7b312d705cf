//! What a listener between two pods gets: TLS 1.3 and not a byte of the application; and with the same listener, as
//! proof that it can hear, the same calls in the clear. Needs the local cluster with the mesh, whose node can be entered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tests::cluster::manifests::{echo_with_service, mode};
use tests::cluster::wire::{Capture, Seen, local_node, tls13};
use tests::cluster::{Cluster, Namespace, START, skipped, unique};

/// Calls the server over HTTP and raw TCP, with a marker in header and path of the requests and so in the answers'
/// bodies, and captures what passes.
fn overheard(cluster: &std::path::Path, from: &Namespace, to: &Namespace, marker: &str) -> Seen {
    // Without the kubelet's probes.
    let (client, server) = (from.address("client"), to.address("server"));
    let capture = Capture::start(cluster, &format!("tcp and host {client} and host {server}"));
    let url = format!("http://server.{}:9080/{marker}", to.name);
    let header = format!("x-marker: {marker}");
    let said = from.bookshop(
        "client",
        &[
            "get",
            &url,
            "--body",
            "--header",
            &header,
            "--count",
            "3",
            "--interval",
            "50",
        ],
    );
    assert!(said.good && said.out.contains(marker), "{}", said.all());
    let place = format!("server.{}:9070", to.name);
    let said = from.bookshop("client", &["tcp", &place, "--count", "12", "--interval", "20"]);
    assert!(said.good, "{}", said.all());
    capture.end()
}

/// A line that `bookshop tcp` has sent and got back.
const LINE: &str = "line 11\n";

#[test]
fn the_wire_holds_tls_13_and_no_byte_of_the_application() {
    let Some(_cluster) = Cluster::shared() else { return };
    let Some(node) = local_node() else {
        return skipped("KUBECONFIG is not that of hack/cluster, whose node alone can be entered to listen");
    };
    // One mesh for each mode: a connection that was opened under the first would be used again under the second.
    let (permissive, strict) = (Namespace::injected("wire"), Namespace::injected("wire"));
    let plain = Namespace::plain("wire-plain");
    for namespace in [&permissive, &strict, &plain] {
        namespace.apply(["client", "server"].into_iter().flat_map(echo_with_service));
    }
    strict.apply([mode("STRICT")]);
    for namespace in [&permissive, &strict, &plain] {
        namespace.ready("client", START);
        namespace.ready("server", START);
    }
    // The listener hears what is in the clear: between pods without sidecars, and from one without to one with.
    for (from, to) in [(&plain, &plain), (&plain, &permissive)] {
        let marker = unique("marker");
        let seen = overheard(&node, from, to, &marker);
        assert!(
            seen.holds(&marker) && seen.holds(LINE),
            "the capture would miss what it looks for"
        );
    }
    for (under, mesh) in [("PERMISSIVE", &permissive), ("STRICT", &strict)] {
        let marker = unique("marker");
        let seen = overheard(&node, mesh, mesh, &marker);
        assert!(!seen.holds(&marker), "{under}: the marker is on the wire");
        assert!(!seen.holds(LINE), "{under}: a line of raw TCP is on the wire");
        for port in [9080, 9070] {
            let on_port = seen
                .streams
                .iter()
                .filter(|(way, _)| way.to.port() == port || way.from.port() == port);
            let streams: Vec<_> = on_port.collect();
            assert!(
                streams.len() >= 2,
                "{under}: {port}: both ways of a connection, not {}",
                streams.len()
            );
            for (way, bytes) in streams {
                assert!(bytes.len() > 500, "{under}: {way:?} has only {} bytes", bytes.len());
                tls13(bytes).unwrap_or_else(|why| panic!("{under}: {way:?}: {why}"));
            }
        }
        // SPIFFE IDs travel in certificates, which TLS 1.3 encrypts.
        assert!(!seen.holds("spiffe://"), "{under}: an identity is on the wire");
    }
}
