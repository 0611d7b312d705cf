//! The discovery server away, and back.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::http::{application, fetch};
use super::over_tcp::{echo, serve};
use super::world::{FIXTURES, SERVER, World, eventually};

#[test]
fn what_is_known_goes_on_without_discovery() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    serve(&server, 9000, echo);
    let status = |address: &str, host: &str| fetch(&client, address, host, "/").unwrap().status();
    let raw = || {
        let mut stream = client.connect("10.96.0.2:9000");
        stream.write_all(b"raw").unwrap();
        stream.read(&mut [0; 3]).is_ok_and(|n| n > 0)
    };
    assert_eq!(status("10.96.0.2:80", "server"), 200);
    assert!(raw());
    world.stop("discovery");
    eventually("the stream is gone", || {
        client
            .page(15000, "/config_dump")
            .unwrap()
            .1
            .contains("\"connected\": false")
    });

    for _ in 0..3 {
        assert_eq!(status("10.96.0.2:80", "server"), 200);
        assert!(raw());
    }
    let began = Instant::now();
    let answer = fetch(&client, &format!("{SERVER}:8080"), "unheard-of", "/").unwrap();
    assert_eq!(answer.status(), 503);
    assert!(
        answer.text().contains("its control plane cannot be asked"),
        "{}",
        answer.text()
    );
    // Address and host are asked for one after the other at the worst.
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let (_, dump) = client.page(15000, "/config_dump").unwrap();
    assert!(
        dump.contains("control_plane_unavailable") && dump.contains("\"flag\": \"NC\""),
        "{dump}"
    );
    let mut stream = client.connect(&format!("{SERVER}:9000"));
    stream.write_all(b"raw").unwrap();
    assert!(stream.read(&mut [0; 3]).is_err());
    assert_eq!(client.page(15021, "/healthz/ready").unwrap().0, 200);

    world.discovery();
    eventually("the stream is back", || {
        client
            .page(15000, "/config_dump")
            .unwrap()
            .1
            .contains("\"connected\": true")
    });
    eventually("what was unknown is known", || {
        status(&format!("{SERVER}:8080"), "unheard-of") == 200
    });
    // And what changes while it is back arrives.
    world.fixtures(
        &FIXTURES
            .replace("shop/nobody", "shop/somebody")
            .replace("10.96.0.9]", "10.96.0.9]\n  endpoints: [10.77.0.2]"),
    );
    application(&server, 80);
    eventually("a new Service is known", || status("10.96.0.9:80", "somebody") == 200);
}
