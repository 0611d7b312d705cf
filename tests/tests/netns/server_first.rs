//! Applications whose server speaks first, or whose client waits: none of them stalls, declared or not, in the mesh or from
//! outside of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::over_tcp::serve;
use super::pod::Pod;
use super::world::{OTHER, SERVER, World};

const FIXTURES: &str = "
workloads:
- {name: shop/client-1, serviceAccount: client, addresses: [10.77.0.1, 'fd77::1'], labels: {app: client}}
- {name: shop/server-1, serviceAccount: server, addresses: [10.77.0.2, 'fd77::2'], labels: {app: server}}
services:
- name: shop/server
  addresses: [10.96.0.2]
  ports:
  - {port: 3306, name: well-known}
  - {port: 3307, name: database}
  - {port: 3308, name: mysql}
  - {port: 25, name: well-known-too}
  - {port: 587, name: submission}
  - {port: 588, name: tcp-submission}
  - {port: 6379, name: cache}
  - {port: 6380, name: redis}
  - {port: 9999, name: nothing}
  endpoints: [10.77.0.2]
";

/// What a server says first, what the client answers, and what the server says to that.
struct Dialogue {
    greeting: &'static [u8],
    question: &'static [u8],
    answer: &'static [u8],
}

/// The handshake of MySQL (protocol 10) as far as it tells who speaks first, and a query's OK packet.
const MYSQL: Dialogue = Dialogue {
    greeting: b"\x17\x00\x00\x00\x0a8.4.0\x00\x01\x00\x00\x00abcdefgh\x00\xff\xf7",
    question: b"\x05\x00\x00\x01\x85\xa6\x03\x00\x00",
    answer: b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00",
};

/// SMTP (RFC 5321, section 3.1).
const SMTP: Dialogue = Dialogue {
    greeting: b"220 mail.example ESMTP ready\r\n",
    question: b"EHLO client.example\r\n",
    answer: b"250 mail.example\r\n",
};

/// Redis: its client speaks first, in words that begin like nothing else here.
const REDIS: Dialogue = Dialogue {
    greeting: b"",
    question: b"*1\r\n$4\r\nPING\r\n",
    answer: b"+PONG\r\n",
};

fn application(pod: &Pod, port: u16, dialogue: &'static Dialogue) {
    serve(pod, port, |mut stream: TcpStream| {
        if stream.write_all(dialogue.greeting).is_err() {
            return;
        }
        let mut question = vec![0; dialogue.question.len()];
        while stream.read_exact(&mut question).is_ok() {
            assert_eq!(question, dialogue.question);
            if stream.write_all(dialogue.answer).is_err() {
                return;
            }
        }
    });
}

/// Goes through the dialogue; `hesitates` is how long the client takes before its first word.
fn converse(pod: &Pod, to: &str, dialogue: &Dialogue, hesitates: Duration) {
    let mut stream = pod.connect(to);
    let began = Instant::now();
    let mut greeting = vec![0; dialogue.greeting.len()];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, dialogue.greeting, "{to}");
    // Two silences of 100 ms at the most, one at each sidecar, and a busy machine.
    assert!(began.elapsed() < Duration::from_secs(2), "{to}: {:?}", began.elapsed());
    std::thread::sleep(hesitates);
    for _ in 0..3 {
        stream.write_all(dialogue.question).unwrap();
        let mut answer = vec![0; dialogue.answer.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, dialogue.answer, "{to}");
    }
}

#[test]
fn databases_mail_and_caches_do_not_stall() {
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    let outside = world.pod("outside", OTHER);
    let ports = [
        (3306, &MYSQL),
        (3307, &MYSQL),
        (3308, &MYSQL),
        (25, &SMTP),
        (587, &SMTP),
        (588, &SMTP),
        (6379, &REDIS),
        (6380, &REDIS),
    ];
    for (port, dialogue) in ports {
        application(&server, port, dialogue);
        application(&outside, port, dialogue);
    }
    for (port, dialogue) in ports {
        for hesitates in [Duration::ZERO, Duration::from_millis(300)] {
            // Through both sidecars; in the clear from outside the mesh, and to the outside.
            converse(&client, &format!("10.96.0.2:{port}"), dialogue, hesitates);
            converse(&client, &format!("{SERVER}:{port}"), dialogue, hesitates);
            converse(&outside, &format!("{SERVER}:{port}"), dialogue, hesitates);
            converse(&client, &format!("{OTHER}:{port}"), dialogue, hesitates);
        }
    }
    assert!(server.metric("pinnace_proxy_connections_total{direction=\"inbound\",security=\"mutual_tls\"}") >= 32.0);
    // Nobody who waits for a server that is not there waits for long.
    let began = Instant::now();
    let mut stream = client.connect("10.96.0.2:9999");
    let end = stream.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)) || end.is_err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
