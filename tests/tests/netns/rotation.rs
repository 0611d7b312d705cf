//! Certificates that change under load, and files that must not change anything.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Connection, application, fetch, get};
use super::namespaces::inside;
use super::over_tcp::{echo, serve};
use super::secrets::{write_files, write_secret};
use super::tls;
use super::world::{CLIENT_ID, FIXTURES, OTHER, SERVER, SERVER_ID, World, eventually};

const ROTATIONS: u32 = 10;
const EVERY: Duration = Duration::from_secs(2);

#[test]
fn rotations_cost_nothing() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    application(&server, 8080);
    serve(&server, 9000, echo);
    let over = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new([AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)]);

    // HTTP over one connection and over a new one each time, and one raw stream.
    let mut loads = Vec::new();
    for new_each_time in [false, true] {
        let (over, rounds, namespace) = (over.clone(), rounds.clone(), client.namespace.clone());
        let address = "10.96.0.2:80".parse::<std::net::SocketAddr>().unwrap();
        let connect = move || {
            let stream = inside(&namespace, move || std::net::TcpStream::connect(address)).unwrap();
            stream.set_read_timeout(Some(super::world::PATIENCE)).unwrap();
            Connection::new(stream)
        };
        loads.push(thread::spawn(move || {
            let mut connection = connect();
            while !over.load(Ordering::Relaxed) {
                if new_each_time {
                    connection = connect();
                }
                let answer = connection.ask(get("server", "/load"));
                assert_eq!(answer.status(), 200, "{}", answer.text());
                assert!(answer.text().contains(&format!("URI={CLIENT_ID}")));
                rounds[usize::from(new_each_time)].fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        }));
    }
    let mut stream = client.connect("10.96.0.2:9000");
    let (ended, lines) = (over.clone(), rounds.clone());
    loads.push(thread::spawn(move || {
        let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
        while !ended.load(Ordering::Relaxed) {
            let line = format!("line {}", lines[2].fetch_add(1, Ordering::Relaxed));
            stream.write_all(format!("{line}\n").as_bytes()).unwrap();
            assert_eq!(answers.next().unwrap().unwrap(), line);
            thread::sleep(Duration::from_millis(10));
        }
    }));

    let peer = world.issue(CLIENT_ID);
    let mut slowest = Duration::ZERO;
    for _ in 0..ROTATIONS {
        let began = Instant::now();
        let [ours, theirs] = [(&client, CLIENT_ID), (&server, SERVER_ID)].map(|(pod, id)| {
            let secret = world.issue(id);
            write_secret(&pod.certificates, &secret);
            secret.serial
        });
        eventually("a new handshake shows the server's new certificate", || {
            let request = "GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n";
            let shown = tls::mesh_client(&world, &outside, &format!("{SERVER}:8080"), &peer, request);
            let serial = tls::certificate(&world.folder, &shown).1;
            serial == theirs.trim_start_matches('0')
        });
        eventually("the client's is in use", || {
            client.serial() == ours.trim_start_matches('0')
        });
        slowest = slowest.max(began.elapsed());
        thread::sleep(EVERY.saturating_sub(began.elapsed()));
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    over.store(true, Ordering::Relaxed);
    loads.into_iter().for_each(|load| load.join().unwrap());
    let [kept, new, lines] = [0, 1, 2].map(|at| rounds[at].load(Ordering::Relaxed));
    println!(
        "{kept} requests on one connection, {new} on new ones, {lines} lines; the slowest rotation took {slowest:?}"
    );
    assert!(kept > 500 && new > 200 && lines > 500, "{kept} {new} {lines}");
    assert!(client.metric("pinnace_proxy_certificates_loaded_total") >= f64::from(ROTATIONS));
    assert_eq!(client.metric("pinnace_proxy_certificates_refused_total"), 0.0);
}

#[test]
fn what_does_not_fit_together_changes_nothing() {
    let Some((world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    let good = world.issue(CLIENT_ID);
    write_secret(&client.certificates, &good);
    let serial = good.serial.trim_start_matches('0').to_owned();
    eventually("the new one is in use", || client.serial() == serial);
    let other = world.issue(CLIENT_ID);
    let somebody = world.issue(SERVER_ID);
    let half = &other.crt[..other.crt.len() / 2];
    let refused = || client.metric("pinnace_proxy_certificates_refused_total");
    for (what, files) in [
        (
            "a key of another",
            &[("tls.crt", &*other.crt), ("tls.key", &*good.key), ("ca.crt", &*good.ca)][..],
        ),
        (
            "half a file",
            &[("tls.crt", half), ("tls.key", &*other.key), ("ca.crt", &*good.ca)],
        ),
        ("no key", &[("tls.crt", &*other.crt), ("ca.crt", &*good.ca)]),
        (
            "somebody else",
            &[
                ("tls.crt", &*somebody.crt),
                ("tls.key", &*somebody.key),
                ("ca.crt", &*good.ca),
            ],
        ),
        ("nothing", &[]),
    ] {
        let before = refused();
        write_files(&client.certificates, files);
        eventually(&format!("{what} is counted"), || refused() > before);
        assert_eq!(client.serial(), serial, "{what}");
        // A new connection, under the certificate that stays.
        let answer = fetch(&client, "10.96.0.2:80", "server", "/").unwrap();
        assert_eq!(answer.status(), 200, "{what}");
        assert_eq!(client.page(15021, "/healthz/ready").unwrap().0, 200, "{what}");
    }
    write_secret(&client.certificates, &other);
    eventually("a whole one is taken", || {
        client.serial() == other.serial.trim_start_matches('0')
    });
}
