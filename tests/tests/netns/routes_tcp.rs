//! A VirtualService's TLS and TCP routes, followed by the client's sidecar.

use std::io::{Read as _, Write as _};

use super::over_tcp::serve;
use super::routes::Scene;
use super::secrets::Secret;
use super::tls;

/// An application that says a word and ends.
fn says(pod: &super::pod::Pod, port: u16, word: &'static str) {
    serve(pod, port, move |mut stream| {
        let mut one = [0];
        if stream.read_exact(&mut one).is_ok() {
            let _ = stream.write_all(word.as_bytes());
        }
    });
}

#[test]
fn connections_are_shared_out_by_weight_and_by_address() {
    let Some(scene) = Scene::new(
        "accessLogFile: /dev/stdout",
        "
  tcp:
  - {match: [{port: 9000, destinationSubnets: [10.96.0.9/32]}], route: [{destination: {host: nothing}}]}
  - match: [{port: 9000}]
    route:
    - {destination: {host: server, subset: v1}, weight: 25}
    - {destination: {host: server, subset: v2}, weight: 75}
",
    ) else {
        return;
    };
    says(&scene.versions[0], 9000, "v1");
    says(&scene.versions[1], 9000, "v2");
    let mut second = 0;
    for _ in 0..200 {
        let mut stream = scene.client.connect("10.96.0.2:9000");
        stream.write_all(b"x").unwrap();
        let mut word = String::new();
        stream.read_to_string(&mut word).unwrap();
        second += i32::from(word == "v2");
    }
    assert!((120..=180).contains(&second), "{second} of 200");
    scene.logged(&["outbound|9000|v2|server.shop.svc.cluster.local"]);
}

#[test]
fn tls_is_routed_by_the_name_that_it_asks_for() {
    let Some(mut scene) = Scene::new(
        "accessLogFile: /dev/stdout",
        "
  tls:
  - {match: [{port: 443, sniHosts: [one.example]}], route: [{destination: {host: server, subset: v1}}]}
  - {match: [{port: 443, sniHosts: ['*.example']}], route: [{destination: {host: server, subset: v2}}]}
",
    ) else {
        return;
    };
    let secret: Secret = scene.world.issue("spiffe://cluster.local/ns/shop/sa/server");
    for (pod, name) in scene.versions.iter().zip(["one", "two"]) {
        tls::server(&mut scene.world, pod, 8443, &secret, &["-id_prefix", name]);
    }
    for (name, cluster) in [
        ("one.example", "v1"),
        ("ONE.example", "v1"),
        ("two.example", "v2"),
        ("a.b.example", "v2"),
    ] {
        let shown = tls::client(&scene.client, "10.96.0.2:443", &["-servername", name], "");
        assert!(shown.contains("Server certificate"), "{shown}");
        let cluster = format!("outbound|443|{cluster}|server.shop.svc.cluster.local");
        scene.logged(&[&cluster, &name.to_ascii_lowercase()]);
    }
    // A name of none of the routes goes as it was dialled, and nobody is there.
    let shown = tls::client(&scene.client, "10.96.0.2:443", &["-servername", "elsewhere.test"], "");
    assert!(!shown.contains("Server certificate"), "{shown}");
    scene.logged(&["PassthroughCluster", "elsewhere.test"]);
}
