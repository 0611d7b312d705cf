//! The discovery server away, and back.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use super::http::{application, fetch};
use super::over_tcp::{echo, serve};
use super::world::{CLIENT, FIXTURES, SERVER, World, eventually};

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
    // A known Host does not wait for what is behind an address that is not.
    let began = Instant::now();
    assert_eq!(status("198.51.100.1:80", "server"), 200);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
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

#[test]
fn a_sidecar_that_starts_again_meanwhile_serves_from_what_it_kept() {
    let Some(mut world) = World::new() else { return };
    let (client, server) = (world.pod("client", CLIENT), world.pod("server", SERVER));
    world.fixtures(FIXTURES);
    world.discovery();
    let folder = world.folder.join("data");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let keeps = [("SNAPSHOT_DIR", folder.to_str().unwrap())];
    world.sidecar(&client, &keeps);
    world.sidecar(&server, &[]);
    world.ready(&client);
    world.ready(&server);
    application(&server, 8080);
    let status = || fetch(&client, "10.96.0.2:80", "server", "/").map(|answer| answer.status());
    assert_eq!(status().unwrap(), 200);
    let file = folder.join("discovery.snapshot");
    eventually("the destination is kept", || {
        fs::read(&file).is_ok_and(|kept| kept.windows(14).any(|bytes| bytes == b"host/server:80"))
    });
    let kept = fs::read(&file).unwrap();
    assert!(!kept.windows(11).any(|bytes| bytes == b"PRIVATE KEY"), "no key is kept");
    assert_eq!(client.metric("pinnace_proxy_configuration_age_seconds"), 0.0);

    world.stop("discovery");
    world.signal("client-sidecar", libc::SIGKILL);
    world.ended("client-sidecar");
    world.start(&client, &keeps);
    world.ready(&client);
    assert_eq!(status().unwrap(), 200);
    let (_, dump) = client.page(15000, "/config_dump").unwrap();
    assert!(
        dump.contains("\"from_file\": true") && dump.contains("\"connected\": false"),
        "{dump}"
    );
    eventually("its age is counted", || {
        client.metric("pinnace_proxy_configuration_age_seconds") > 0.0
    });
    world.logged("client-sidecar", "starts from the last good configuration");

    // What changed meanwhile is taken as soon as an operator answers.
    world.fixtures(&FIXTURES.replace("  endpoints: [10.77.0.2]", "  endpoints: []"));
    world.discovery();
    eventually("the operator is believed", || {
        status().is_ok_and(|status| status == 503)
    });
    let (_, dump) = client.page(15000, "/config_dump").unwrap();
    assert!(dump.contains("\"from_file\": false"), "{dump}");

    // One that is damaged is no reason not to start.
    world.signal("client-sidecar", libc::SIGKILL);
    world.ended("client-sidecar");
    fs::write(&file, b"PNNSNAP").unwrap();
    world.start(&client, &keeps);
    world.logged("client-sidecar", "the configuration that was kept is not used");
    world.ready(&client);
}

#[test]
fn the_last_endpoints_stay_when_all_turn_unready() {
    let Some((world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    let status = || fetch(&client, "10.96.0.2:80", "server", "/").map(|answer| answer.status());
    assert_eq!(status().unwrap(), 200);
    world.fixtures(&FIXTURES.replace("  endpoints: [10.77.0.2]", "  notReady: [10.77.0.2]"));
    world.logged("client-sidecar", "no endpoint is ready any more");
    assert_eq!(status().unwrap(), 200);
    // Gone is gone.
    world.fixtures(&FIXTURES.replace("  endpoints: [10.77.0.2]", "  endpoints: []"));
    eventually("there is none", || status().is_ok_and(|status| status == 503));
}
