//! A VirtualService's HTTP routes, followed by the client's sidecar.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Connection, Message, fetch, get};
use super::over_tcp::serve;
use super::pod::Pod;
use super::world::{CLIENT, OTHER, SERVER, World, eventually};

/// A client with a sidecar, and a Service of two versions without.
pub(crate) const MESH: &str = "
workloads:
- {name: shop/client-1, serviceAccount: client, addresses: [10.77.0.1], labels: {app: client}}
- {name: shop/server-1, serviceAccount: server, addresses: [10.77.0.2], labels: {app: server, version: v1}, injected: false}
- {name: shop/server-2, serviceAccount: server, addresses: [10.77.0.3], labels: {app: server, version: v2}, injected: false}
services:
- name: shop/server
  addresses: [10.96.0.2]
  ports:
  - {port: 80, name: http, targetPort: 8080}
  - {port: 82, name: grpc, targetPort: 8082}
  - {port: 443, name: tls, targetPort: 8443}
  - {port: 9000, name: tcp, targetPort: 9000}
  endpoints: [10.77.0.2, 10.77.0.3]
- name: shop/other
  addresses: [10.96.0.3]
  ports: [{port: 80, name: http, targetPort: 8080}]
  endpoints: [10.77.0.3]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: server, namespace: shop}
spec:
  host: server
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v9, labels: {version: v9}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: server, namespace: shop}
spec:
  hosts: [server, '*.example']
";

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) client: Pod,
    pub(crate) versions: [Pod; 2],
}

impl Scene {
    /// With the routes of the VirtualService, and settings of the mesh.
    pub(crate) fn new(mesh: &str, routes: &str) -> Option<Self> {
        let mut world = World::new()?;
        let client = world.pod("client", CLIENT);
        let versions = [world.pod("server", SERVER), world.pod("other", OTHER)];
        world.fixtures(&format!("mesh: {{{mesh}}}\n---\n{MESH}{routes}"));
        world.discovery();
        world.sidecar(&client, &[]);
        world.ready(&client);
        Some(Self {
            world,
            client,
            versions,
        })
    }

    /// The client's connection to the Service.
    fn connect(&self) -> Connection<TcpStream> {
        Connection::new(self.client.connect("10.96.0.2:80"))
    }

    fn get(&self, path: &str) -> Message {
        fetch(&self.client, "10.96.0.2:80", "server", path).unwrap()
    }

    /// Waits for a line of the access log.
    pub(crate) fn logged(&self, parts: &[&str]) {
        let is = |line: &str| parts.iter().all(|part| line.contains(part));
        eventually(&format!("a line with {parts:?}"), || {
            self.world.log("client-sidecar").lines().any(is)
        });
    }
}

const LOG: &str = "accessLogFile: /dev/stdout";

/// An application of each version that says which one it is and what it saw.
fn told(versions: &[Pod; 2]) {
    for (pod, name) in versions.iter().zip(["v1", "v2"]) {
        answering(pod, move |request| {
            let body = format!("{name}\n{}\n{}", request.head, request.text());
            format!(
                "HTTP/1.1 200 OK\r\nx-version: {name}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        });
    }
}

/// An application that answers each request with a text, or ends its connection for none.
fn answering(pod: &Pod, answer: impl Fn(&Message) -> String + Clone + Send + 'static) {
    serve(pod, 8080, move |stream| {
        let mut connection = Connection::new(stream);
        while let Ok(request) = connection.request() {
            let answer = answer(&request);
            if answer.is_empty() || connection.stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
}

#[test]
fn requests_go_where_the_routes_say() {
    let Some(scene) = Scene::new(
        LOG,
        "
  http:
  - {name: by-header, match: [{headers: {x-user: {exact: tester}}}], route: [{destination: {host: server, subset: v2}}]}
  - name: canary
    match: [{uri: {prefix: /canary}}]
    route:
    - {destination: {host: server, subset: v1}, weight: 90}
    - {destination: {host: server, subset: v2}, weight: 10}
  - name: rewritten
    match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /new/, authority: 'inner.example'}
    route: [{destination: {host: other}}]
  - name: edited
    match: [{uri: {exact: /edited}}]
    headers: {request: {set: {x-set: route}, remove: [x-gone]}, response: {add: {x-added: route}, remove: [x-version]}}
    route: [{destination: {host: server, subset: v1}, headers: {request: {add: {x-set: more}}}}]
  - {name: unknown-subset, match: [{uri: {exact: /no-subset}}], route: [{destination: {host: server, subset: v8}}]}
  - {name: empty-subset, match: [{uri: {exact: /empty}}], route: [{destination: {host: server, subset: v9}}]}
  - {name: unknown-host, match: [{uri: {exact: /no-host}}], route: [{destination: {host: nothing}}]}
  - {name: moved, match: [{uri: {prefix: /moved}}], redirect: {uri: /there, authority: elsewhere.example, redirectCode: 302}}
  - {name: gone, match: [{uri: {exact: /gone}}], directResponse: {status: 410, body: {string: no more}}}
",
    ) else {
        return;
    };
    told(&scene.versions);
    let mut connection = scene.connect();
    assert!(
        connection
            .ask("GET /x HTTP/1.1\r\nhost: server\r\nx-user: tester\r\n\r\n")
            .text()
            .starts_with("v2\n")
    );

    let mut counts = BTreeMap::new();
    for _ in 0..2000 {
        let answer = connection.ask(get("server", "/canary"));
        *counts
            .entry(answer.header("x-version").unwrap().to_owned())
            .or_insert(0) += 1;
    }
    let share = counts["v2"] * 100;
    assert!((8 * 2000..=12 * 2000).contains(&share), "{counts:?}");

    let seen = scene.get("/old/page?q=/old/").text();
    assert!(seen.starts_with("v2\nGET /new/page?q=/old/ HTTP/1.1\n"), "{seen}");
    for line in [
        "host: inner.example\n",
        "x-envoy-original-path: /old/page?q=/old/\n",
        "x-envoy-attempt-count: 1\n",
    ] {
        assert!(seen.to_ascii_lowercase().contains(line), "{line}: {seen}");
    }

    let edited = connection.ask("GET /edited HTTP/1.1\r\nhost: server\r\nx-set: own\r\nx-gone: 1\r\n\r\n");
    let (seen, headers) = (edited.text(), (edited.header("x-added"), edited.header("x-version")));
    assert!(
        seen.contains("x-set: route\nx-set: more\n") && !seen.contains("own") && !seen.contains("x-gone"),
        "{seen}"
    );
    assert_eq!(headers, (Some("route"), None));

    for (path, status, body) in [
        ("/nothing-matches", 404, ""),
        ("/no-subset", 503, ""),
        ("/no-host", 503, ""),
        ("/empty", 503, "no healthy upstream"),
        ("/gone", 410, "no more"),
        ("/moved?a=b", 302, ""),
    ] {
        let answer = connection.ask(get("server", path));
        assert_eq!((answer.status(), answer.text().as_str()), (status, body), "{path}");
        let location = (status == 302).then_some("http://elsewhere.example/there?a=b");
        assert_eq!(answer.header("location"), location);
    }
    for parts in [
        &[
            "GET /canary ",
            " 200 - via_upstream ",
            "outbound|80|v1|server.shop.svc.cluster.local",
            " canary",
        ][..],
        &[
            "GET /old/page",
            " 200 ",
            "outbound|80||other.shop.svc.cluster.local",
            " rewritten",
        ],
        &["GET /nothing-matches ", " 404 NR route_not_found "],
        &["GET /no-subset ", " 503 NC cluster_not_found ", " unknown-subset"],
        &["GET /no-host ", " 503 NC cluster_not_found ", " unknown-host"],
        &[
            "GET /empty ",
            " 503 UH no_healthy_upstream ",
            "outbound|80|v9|server.shop.svc.cluster.local",
            " empty-subset",
        ],
        &["GET /gone ", " 410 - direct_response ", " gone"],
        &["GET /moved", " 302 - direct_response ", " moved"],
    ] {
        scene.logged(parts);
    }
    let counted = scene.client.page(15090, "/stats/prometheus").unwrap().1;
    for (code, flags) in [("404", "NR"), ("503", "NC"), ("503", "UH"), ("410", "-")] {
        let line = counted.lines().find(|line| {
            line.starts_with("istio_requests_total{")
                && line.contains(&format!("response_code=\"{code}\""))
                && line.contains(&format!("response_flags=\"{flags}\""))
                && line.contains("destination_service=\"server.shop.svc.cluster.local\"")
        });
        assert!(line.is_some(), "{code} {flags}: {counted}");
    }
}

#[test]
fn faults_are_injected_and_time_runs_out() {
    let Some(scene) = Scene::new(
        LOG,
        "
  http:
  - {match: [{uri: {exact: /abort}}], fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, route: [{destination: {host: server}}]}
  - {match: [{uri: {exact: /never}}], fault: {abort: {httpStatus: 418, percentage: {value: 0}}}, route: [{destination: {host: server, subset: v1}}]}
  - match: [{uri: {exact: /delay}}]
    fault: {delay: {fixedDelay: 300ms, percentage: {value: 100}}, abort: {httpStatus: 500, percentage: {value: 50}}}
    route: [{destination: {host: server, subset: v1}}]
  - {match: [{uri: {prefix: /slow}}], timeout: 200ms, route: [{destination: {host: server, subset: v1}}]}
  - match: [{uri: {exact: /cors}}]
    corsPolicy: {allowOrigins: [{exact: 'https://a.example'}], allowMethods: [GET, PUT], maxAge: 1h, exposeHeaders: [x-version]}
    route: [{destination: {host: server, subset: v1}}]
",
    ) else {
        return;
    };
    answering(&scene.versions[0], |request| {
        match request.start.split(' ').nth(1).unwrap() {
            "/slow" => thread::sleep(Duration::from_millis(600)),
            // The head in time, the body never.
            "/slow-body" => return "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegin".into(),
            _ => {}
        }
        let expected = request.header("x-envoy-expected-rq-timeout-ms").unwrap_or("none");
        format!("HTTP/1.1 200 OK\r\nx-expected: {expected}\r\ncontent-length: 2\r\n\r\nok")
    });
    let mut connection = scene.connect();
    let aborted = connection.ask(get("server", "/abort"));
    assert_eq!((aborted.status(), aborted.text().as_str()), (418, "fault filter abort"));
    assert_eq!(connection.ask(get("server", "/never")).status(), 200);
    let (began, mut aborted) = (Instant::now(), 0);
    for _ in 0..8 {
        aborted += u32::from(connection.ask(get("server", "/delay")).status() == 500);
    }
    assert!(began.elapsed() >= Duration::from_millis(8 * 300));
    assert!((1..8).contains(&aborted), "{aborted} of 8");

    let fast = connection.ask(get("server", "/slow/not"));
    assert_eq!((fast.status(), fast.header("x-expected")), (200, Some("200")));
    let began = Instant::now();
    let late = connection.ask(get("server", "/slow"));
    assert_eq!((late.status(), late.text().as_str()), (504, "upstream request timeout"));
    assert!(began.elapsed() < Duration::from_millis(550), "{:?}", began.elapsed());
    // A slow client is no slow server.
    connection.send("POST /slow/upload HTTP/1.1\r\nhost: server\r\ncontent-length: 4\r\n\r\nab");
    thread::sleep(Duration::from_millis(400));
    connection.send("cd");
    assert_eq!(connection.answer(false).unwrap().status(), 200);
    let mut broken = scene.connect();
    broken.send(get("server", "/slow-body"));
    assert!(
        broken.answer(false).is_err(),
        "a body that does not come in time is broken off"
    );

    let preflight = connection.ask(
        "OPTIONS /cors HTTP/1.1\r\nhost: server\r\norigin: https://a.example\r\naccess-control-request-method: PUT\r\n\r\n",
    );
    assert_eq!(preflight.status(), 200);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET,PUT"));
    assert_eq!(preflight.header("access-control-max-age"), Some("3600"));
    for (origin, expected) in [
        ("https://a.example", Some("https://a.example")),
        ("https://b.example", None),
    ] {
        let answer = connection.ask(format!(
            "GET /cors HTTP/1.1\r\nhost: server\r\norigin: {origin}\r\n\r\n"
        ));
        assert_eq!(answer.header("access-control-allow-origin"), expected);
    }
    for parts in [
        &["GET /abort ", " 418 FI fault_filter_abort "][..],
        &["GET /delay ", " 200 DI via_upstream "],
        &["GET /delay ", " 500 DI,FI fault_filter_abort "],
        &["GET /slow ", " 504 UT response_timeout "],
        &["GET /slow-body ", " 200 UT response_timeout "],
        &["OPTIONS /cors ", " 200 - cors_response "],
    ] {
        scene.logged(parts);
    }
}

#[test]
fn what_fails_is_tried_again_as_the_route_says() {
    let Some(scene) = Scene::new(
        LOG,
        "
  http:
  - {match: [{uri: {prefix: /5xx}}], retries: {attempts: 3, retryOn: 5xx}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {prefix: /gateway}}], retries: {attempts: 2, retryOn: gateway-error}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {prefix: /code}}], retries: {attempts: 2, retryOn: '418,retriable-4xx'}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {prefix: /reset}}], retries: {attempts: 2, retryOn: reset}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {prefix: /never}}], retries: {attempts: 0}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {prefix: /slow}}], retries: {attempts: 1, perTryTimeout: 200ms, retryOn: reset}, route: [{destination: {host: server, subset: v1}}]}
  - {match: [{uri: {prefix: /hosts}}], retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: server}}]}
  - {match: [{uri: {prefix: /refused}}], retries: {attempts: 2, retryOn: connect-failure}, route: [{destination: {host: server, subset: v2}}]}
  - {route: [{destination: {host: server, subset: v1}}]}
",
    ) else {
        return;
    };
    // Of each path, how often it was asked: `/KIND/STATUS/N` fails N times.
    let asked: Arc<Mutex<BTreeMap<String, Vec<Message>>>> = Arc::default();
    let seen = asked.clone();
    answering(&scene.versions[0], move |request| {
        let path = request.start.split(' ').nth(1).unwrap().to_owned();
        let times = {
            let mut seen = seen.lock().unwrap();
            let of_path = seen.entry(path.clone()).or_default();
            of_path.push(request.clone());
            of_path.len()
        };
        let parts: Vec<&str> = path.split('/').collect();
        let &[_, _, how, fails] = parts.as_slice() else {
            return "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into();
        };
        if times <= fails.parse().unwrap() {
            match how {
                "close" => return String::new(),
                "wait" => thread::sleep(Duration::from_secs(1)),
                status => return format!("HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno"),
            }
        }
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
            request.body.len(),
            request.text()
        )
    });
    let times = |path: &str| asked.lock().unwrap().get(path).map_or(0, Vec::len);
    for (path, status, expected) in [
        ("/5xx/500/3", 200, 4),
        ("/5xx/503/4", 503, 4),
        ("/5xx/close/1", 200, 2),
        ("/5xx/404/1", 404, 1),
        ("/gateway/503/1", 200, 2),
        ("/gateway/500/1", 500, 1),
        ("/code/418/2", 200, 3),
        ("/code/409/1", 200, 2),
        ("/code/500/1", 500, 1),
        ("/reset/close/2", 200, 3),
        ("/reset/503/1", 503, 1),
        ("/never/503/1", 503, 1),
        ("/slow/wait/1", 200, 2),
        ("/slow/wait/2", 504, 2),
        // Istio's own policy retries no answer.
        ("/default/503/1", 503, 1),
    ] {
        let answer = scene.get(path);
        assert_eq!(
            (answer.status(), times(path)),
            (status, expected),
            "{path}: {}",
            answer.text()
        );
    }
    let counts: Vec<_> = asked.lock().unwrap()["/5xx/500/3"]
        .iter()
        .map(|request| request.header("x-envoy-attempt-count").unwrap().to_owned())
        .collect();
    assert_eq!(counts, ["1", "2", "3", "4"]);
    scene.logged(&["GET /5xx/503/4 ", " 503 URX via_upstream "]);
    scene.logged(&["GET /slow/wait/2 ", " 504 UT,URX upstream_per_try_timeout "]);

    // A body comes again whole, whatever its framing, unless it is too large.
    let body = "0123456789".repeat(10_000);
    let mut connection = scene.connect();
    for (path, framed) in [
        ("/5xx/500/1", format!("content-length: {}\r\n\r\n{body}", body.len())),
        (
            "/5xx/501/2",
            format!(
                "transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        ),
    ] {
        let answer = connection.ask(format!("POST {path} HTTP/1.1\r\nhost: server\r\n{framed}"));
        assert_eq!((answer.status(), answer.text() == body), (200, true), "{path}");
        let sent = asked.lock().unwrap()[path].iter().all(|request| request.text() == body);
        assert!(sent, "{path}");
    }
    let large = body.repeat(20);
    let framed = format!("content-length: {}\r\n\r\n{large}", large.len());
    let answer = connection.ask(format!("POST /5xx/502/1 HTTP/1.1\r\nhost: server\r\n{framed}"));
    assert_eq!((answer.status(), times("/5xx/502/1")), (502, 1));

    // The second version answers nothing but errors; whoever tries again goes to the other one.
    let errors = Arc::new(AtomicUsize::new(0));
    let counted = errors.clone();
    assert_eq!(scene.get("/refused/x").status(), 503, "nobody listens yet");
    answering(&scene.versions[1], move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".into()
    });
    for number in 0..20 {
        assert_eq!(scene.get(&format!("/hosts-{number}")).status(), 200);
    }
    assert!(errors.load(Ordering::Relaxed) > 0);
}

#[test]
fn mirrors_get_a_copy_and_nobody_waits_for_them() {
    let Some(scene) = Scene::new(
        "",
        "
  http:
  - match: [{uri: {prefix: /all}}]
    rewrite: {uri: /rewritten}
    mirrors: [{destination: {host: other}, percentage: {value: 100}}]
    route: [{destination: {host: server, subset: v1}}]
  - match: [{uri: {prefix: /none}}]
    mirrors: [{destination: {host: other}, percentage: {value: 0}}]
    route: [{destination: {host: server, subset: v1}}]
  - match: [{uri: {prefix: /half}}]
    mirror: {host: other}
    mirrorPercentage: {value: 50}
    route: [{destination: {host: server, subset: v1}}]
",
    ) else {
        return;
    };
    let copies: Arc<Mutex<Vec<Message>>> = Arc::default();
    let seen = copies.clone();
    answering(&scene.versions[0], |request| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
            request.body.len(),
            request.text()
        )
    });
    answering(&scene.versions[1], move |request| {
        seen.lock().unwrap().push(request.clone());
        thread::sleep(Duration::from_millis(300));
        "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".into()
    });
    let mut connection = scene.connect();
    let began = Instant::now();
    let answer = connection.ask("POST /all/x HTTP/1.1\r\nhost: server:80\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(connection.ask(get("server", "/all")).status(), 200);
    assert!(began.elapsed() < Duration::from_millis(250), "{:?}", began.elapsed());
    eventually("two copies", || copies.lock().unwrap().len() == 2);
    let copy = copies.lock().unwrap()[0].clone();
    assert_eq!(
        (copy.start.as_str(), copy.header("host"), copy.text().as_str()),
        ("POST /rewritten/x HTTP/1.1", Some("server-shadow:80"), "hello")
    );
    assert_eq!(copies.lock().unwrap()[1].header("host"), Some("server-shadow"));
    for _ in 0..10 {
        assert_eq!(connection.ask(get("server", "/none")).status(), 200);
    }
    copies.lock().unwrap().clear();
    for _ in 0..100 {
        assert_eq!(connection.ask(get("server", "/half")).status(), 200);
    }
    eventually("about half of the copies", || copies.lock().unwrap().len() > 20);
    assert!(
        copies
            .lock()
            .unwrap()
            .iter()
            .all(|copy| copy.start.starts_with("GET /half"))
    );
    assert!(copies.lock().unwrap().len() < 80);
}

#[test]
fn websockets_pass_a_route() {
    let Some(scene) = Scene::new(
        "",
        "
  http:
  - {match: [{uri: {prefix: /chat}}], rewrite: {uri: /talk}, timeout: 200ms, retries: {attempts: 2, retryOn: 5xx}, route: [{destination: {host: server, subset: v1}}]}
",
    ) else {
        return;
    };
    serve(&scene.versions[0], 8080, |stream| {
        let mut connection = Connection::new(stream);
        let head = connection.head().unwrap();
        assert!(head.starts_with("GET /talk HTTP/1.1\n"), "{head}");
        connection.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
        let word = connection.exactly(4).unwrap();
        connection.send(word);
    });
    let mut socket = scene.connect();
    let answer = socket.ask(
        "GET /chat HTTP/1.1\r\nhost: server\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\r\n",
    );
    assert_eq!(answer.status(), 101);
    // Longer than any request may take.
    thread::sleep(Duration::from_millis(400));
    socket.send("ping");
    assert_eq!(socket.exactly(4).unwrap(), b"ping");
}
