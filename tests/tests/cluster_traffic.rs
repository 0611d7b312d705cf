//! What passes between pods: mutual TLS where both have a sidecar, plaintext where policy lets it, and everything that
//! is not the mesh's as it was. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::manifests::{
    calls, container, echo, echo_with_service, mode, peer_authentication, pod, service, service_account,
};
use tests::cluster::{Cluster, Load, Namespace, POLICY, START, Sidecar, holds, must, spiffe, until};

/// A header as the application saw it.
fn header<'a>(seen: &'a Value, name: &str) -> Option<&'a str> {
    let headers = seen["headers"].as_array()?;
    headers.iter().find(|pair| pair[0] == name)?[1].as_str()
}

/// Checks that a request came under mutual TLS, from one service account to another.
fn mutual(seen: &Value, from: &str, to: &str) -> Result<(), String> {
    let cert = header(seen, "x-forwarded-client-cert").ok_or_else(|| format!("no client certificate: {seen}"))?;
    let elements: Vec<&str> = cert.split(';').collect();
    let has = |key: &str, value: &str| elements.contains(&format!("{key}={value}").as_str());
    if has("By", to) && has("URI", from) {
        Ok(())
    } else {
        Err(cert.to_owned())
    }
}

fn plain(seen: &Value) -> Result<(), String> {
    match header(seen, "x-forwarded-client-cert") {
        None => Ok(()),
        Some(cert) => Err(format!("under mutual TLS: {cert}")),
    }
}

/// A namespace with injection that holds the echoes `client` and `server`, Ready.
fn pair() -> Namespace {
    let mesh = Namespace::injected("traffic");
    mesh.apply(["client", "server"].into_iter().flat_map(echo_with_service));
    mesh.ready("client", START);
    mesh.ready("server", START);
    mesh
}

/// A namespace without, that holds the pod `outsider`, Ready.
fn outside() -> Namespace {
    let plain = Namespace::plain("outside");
    plain.apply([service_account("outsider"), echo("outsider")]);
    plain.ready("outsider", START);
    plain
}

fn url(mesh: &Namespace, path: &str) -> String {
    format!("http://server.{}.svc.cluster.local:9080{path}", mesh.name)
}

/// Lines that a pod sends and gets back.
fn lines(namespace: &Namespace, pod: &str, place: &str) -> Result<(), String> {
    let arguments = ["tcp", place, "--count", "3", "--interval", "10", "--timeout", "3000"];
    namespace.bookshop(pod, &arguments).ok().map(drop)
}

#[test]
fn calls_inside_the_mesh_are_mutual_tls_by_every_name() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = pair();
    let (client, server) = (spiffe(&mesh, "client"), spiffe(&mesh, "server"));
    let cluster_ip = mesh.get("service", "server").unwrap()["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    for host in [
        "server".to_owned(),
        format!("server.{}", mesh.name),
        format!("server.{}.svc", mesh.name),
        format!("server.{}.svc.cluster.local", mesh.name),
        cluster_ip,
        mesh.address("server"),
    ] {
        let seen = mesh.echoed("client", &format!("http://{host}:9080/a?b")).unwrap();
        mutual(&seen, &client, &server).unwrap_or_else(|why| panic!("{host}: {why}"));
        assert_eq!(
            (&seen["path"], &seen["pod"]),
            (&json!("/a?b"), &json!("server")),
            "{host}"
        );
    }
    // The other way round, and to oneself through one's own Service.
    let seen = mesh.echoed("server", "http://client:9080/").unwrap();
    mutual(&seen, &server, &client).unwrap();
    mesh.echoed("client", "http://client:9080/").unwrap();
    // Nobody can pretend: what a caller outside the mesh says of itself is not passed on.
    let plain_ns = outside();
    let forged = "x-forwarded-client-cert: By=a;URI=spiffe://cluster.local/ns/a/sa/admin";
    let said = plain_ns.bookshop("outsider", &["get", &url(&mesh, "/"), "--body", "--header", forged]);
    assert!(said.good && !said.out.contains("sa/admin"), "{}", said.all());
}

#[test]
fn strict_refuses_plaintext_and_permissive_takes_it() {
    let Some(_cluster) = Cluster::shared() else { return };
    let (mesh, outside) = (pair(), outside());
    let (client, server) = (spiffe(&mesh, "client"), spiffe(&mesh, "server"));
    let sidecar = Sidecar::of(&mesh, "server");
    let tcp = format!("server.{}:9070", mesh.name);
    let from_outside = || outside.echoed("outsider", &url(&mesh, "/"));
    let from_inside = || mutual(&mesh.echoed("client", &url(&mesh, "/"))?, &client, &server);
    let refusals = || {
        sidecar.metric(
            "pinnace_proxy_connections_refused_total",
            &[("reason", "plaintext_under_strict")],
        )
    };

    plain(&from_outside().expect("no policy is PERMISSIVE")).unwrap();
    lines(&outside, "outsider", &tcp).unwrap();
    from_inside().unwrap();

    mesh.apply([mode("STRICT")]);
    until("plaintext is refused", POLICY, || match from_outside() {
        Ok(seen) => Err(seen.to_string()),
        Err(_) => Ok(()),
    });
    let before = refusals();
    assert!(before > 0.0, "the sidecar counts and names its refusals");
    holds("STRICT stands", Duration::from_secs(2), || {
        from_inside()?;
        from_outside()
            .err()
            .map(drop)
            .ok_or_else(|| "plaintext was answered".to_owned())
    });
    assert!(lines(&outside, "outsider", &tcp).is_err(), "raw TCP is refused as well");
    lines(&mesh, "client", &tcp).unwrap();
    assert!(refusals() > before);

    mesh.apply([mode("PERMISSIVE")]);
    until("plaintext is taken again", POLICY, || plain(&from_outside()?));
    from_inside().unwrap();
}

#[test]
fn a_port_has_a_mode_of_its_own() {
    let Some(_cluster) = Cluster::shared() else { return };
    let (mesh, outside) = (pair(), outside());
    let (client, server) = (spiffe(&mesh, "client"), spiffe(&mesh, "server"));
    let tcp = format!("server.{}:9070", mesh.name);
    let policy = |whole: &str, port: &str| {
        let spec = json!({
            "selector": {"matchLabels": {"app": "server"}},
            "mtls": {"mode": whole},
            "portLevelMtls": {"9080": {"mode": port}},
        });
        mesh.apply([peer_authentication("server", &spec)]);
    };
    policy("STRICT", "DISABLE");
    until("9080 is in the clear for all, and 9070 STRICT", POLICY, || {
        plain(&outside.echoed("outsider", &url(&mesh, "/"))?)?;
        plain(&mesh.echoed("client", &url(&mesh, "/"))?)?;
        lines(&mesh, "client", &tcp)?;
        lines(&outside, "outsider", &tcp)
            .err()
            .map(drop)
            .ok_or_else(|| "9070 takes plaintext".to_owned())
    });
    policy("PERMISSIVE", "STRICT");
    until("9080 is STRICT, and 9070 takes both", POLICY, || {
        mutual(&mesh.echoed("client", &url(&mesh, "/"))?, &client, &server)?;
        lines(&mesh, "client", &tcp)?;
        lines(&outside, "outsider", &tcp)?;
        outside
            .echoed("outsider", &url(&mesh, "/"))
            .err()
            .map(drop)
            .ok_or_else(|| "9080 takes plaintext".to_owned())
    });
    // The client is not selected, and stays as it was.
    let place = format!("http://client.{}:9080/", mesh.name);
    plain(&outside.echoed("outsider", &place).unwrap()).unwrap();
}

#[test]
fn probes_pass_under_strict() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("probes");
    let http = json!({"httpGet": {"path": "/status/204", "port": 9080}, "periodSeconds": 1});
    let tcp = json!({"tcpSocket": {"port": 9070}, "periodSeconds": 1});
    let failing = json!({"httpGet": {"path": "/status/500", "port": 9080}, "periodSeconds": 1});
    let probed = |name: &str, startup: &Value, readiness: &Value, liveness: &Value| {
        let mut pod = echo(name);
        pod["spec"].as_object_mut().unwrap().remove("serviceAccountName");
        let container = &mut pod["spec"]["containers"][0];
        container["startupProbe"] = startup.clone();
        container["readinessProbe"] = readiness.clone();
        container["livenessProbe"] = liveness.clone();
        container["lifecycle"] = json!({"postStart": {"httpGet": {"path": "/hook", "port": 9080}}});
        pod
    };
    // Without the rewriting the kubelet's own plaintext is refused: what would make the others pass by accident.
    let mut direct = probed("direct", &http, &http, &http);
    direct["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] = json!("false");
    direct["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("startupProbe");
    direct["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("livenessProbe");
    direct["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("lifecycle");
    mesh.apply([
        mode("STRICT"),
        probed("http", &http, &http, &http),
        probed("tcp", &tcp, &tcp, &tcp),
        probed("both", &http, &tcp, &http),
        probed("failing", &tcp, &failing, &tcp),
        direct,
    ]);
    for pod in ["http", "tcp", "both"] {
        mesh.ready(pod, START);
    }
    holds(
        "they stay Ready, and the others do not become it",
        Duration::from_secs(5),
        || {
            for (pod, expected) in [
                ("http", true),
                ("tcp", true),
                ("both", true),
                ("failing", false),
                ("direct", false),
            ] {
                let status = mesh.get("pod", pod)?["status"].clone();
                let app = &status["containerStatuses"][0];
                if app["ready"] != expected || app["restartCount"] != 0 {
                    return Err(format!("{pod}: {status}"));
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_job_completes() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("job");
    mesh.apply(echo_with_service("server"));
    mesh.ready("server", START);
    mesh.apply([mode("STRICT")]);
    let job = pod(
        "job",
        &["get", "http://server:9080/", "--count", "3", "--interval", "100"],
    );
    let template = json!({"metadata": job["metadata"], "spec": job["spec"]});
    mesh.apply([json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"backoffLimit": 0, "template": template},
    })]);
    until("the Job is complete", START, || {
        let status = mesh.get("job", "job")?["status"].clone();
        if status["succeeded"] == 1 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

#[test]
fn a_pod_of_a_stateful_set_is_mutual_tls_by_address_and_by_its_own_name() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("stateful");
    let server = echo("server");
    let mut headless = service("server");
    headless["spec"]["clusterIP"] = json!("None");
    mesh.apply(echo_with_service("client"));
    mesh.apply([
        service_account("server"),
        headless,
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "server"},
            "spec": {
                "serviceName": "server",
                "replicas": 2,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "server"}},
                "template": {"metadata": server["metadata"], "spec": {
                    "serviceAccountName": "server",
                    "terminationGracePeriodSeconds": 5,
                    "automountServiceAccountToken": false,
                    "securityContext": server["spec"]["securityContext"],
                    "containers": server["spec"]["containers"],
                }},
            },
        }),
    ]);
    for pod in ["client", "server-0", "server-1"] {
        mesh.ready(pod, START);
    }
    mesh.apply([mode("STRICT")]);
    let (client, server) = (spiffe(&mesh, "client"), spiffe(&mesh, "server"));
    for pod in ["server-0", "server-1"] {
        for host in [
            mesh.address(pod),
            format!("{pod}.server.{}.svc.cluster.local", mesh.name),
            format!("{pod}.server"),
        ] {
            until(&format!("{pod} answers by {host}"), POLICY, || {
                let seen = mesh.echoed("client", &format!("http://{host}:9080/"))?;
                mutual(&seen, &client, &server)?;
                if seen["pod"] == pod {
                    Ok(())
                } else {
                    Err(format!("another pod answered: {seen}"))
                }
            });
            lines(&mesh, "client", &format!("{host}:9070")).unwrap_or_else(|why| panic!("{host}: {why}"));
        }
    }
    let seen = mesh.echoed("client", "http://server:9080/").unwrap();
    mutual(&seen, &client, &server).expect("the headless name itself");
}

#[test]
fn raw_tcp_by_cluster_address_is_mutual_tls() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = pair();
    let address = mesh.get("service", "server").unwrap()["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    let sidecar = Sidecar::of(&mesh, "server");
    let taken = |security: &str| {
        let labels = [("direction", "inbound"), ("security", security)];
        sidecar.metric("pinnace_proxy_connections_total", &labels)
    };
    let before = (taken("mutual_tls"), taken("none"));
    lines(&mesh, "client", &format!("{address}:9070")).unwrap();
    assert_eq!((taken("mutual_tls"), taken("none")), (before.0 + 1.0, before.1));
    // And it is required, not only offered.
    mesh.apply([mode("STRICT")]);
    until("STRICT is known", POLICY, || {
        lines(&mesh, "client", &format!("{address}:9070"))
    });
}

#[test]
fn what_is_outside_the_mesh_is_reached_as_before() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("outbound");
    mesh.apply(echo_with_service("client"));
    mesh.ready("client", START);
    // A pod on the node's network: an address that no Service and no workload of the mesh has.
    let plain_ns = Namespace::plain("outside");
    let mut node = pod("node", &[]);
    node["spec"]["hostNetwork"] = json!(true);
    node["spec"]["containers"] = json!([container("app", &["echo", "--http", "29080", "--tcp", "29070"])]);
    plain_ns.apply([node]);
    plain_ns.apply([service("outsider"), service_account("outsider"), echo("outsider")]);
    plain_ns.ready("node", START);
    plain_ns.ready("outsider", START);
    let address = plain_ns.address("node");
    let pod_address = plain_ns.address("outsider");
    let service = format!("outsider.{}.svc.cluster.local", plain_ns.name);
    for place in [
        format!("{address}:29080"),
        format!("{pod_address}:9080"),
        format!("{service}:9080"),
    ] {
        let seen = mesh
            .echoed("client", &format!("http://{place}/x"))
            .unwrap_or_else(|why| panic!("{place}: {why}"));
        plain(&seen).unwrap();
        assert_eq!(seen["path"], "/x");
    }
    for place in [
        format!("{address}:29070"),
        format!("{pod_address}:9070"),
        format!("{service}:9070"),
    ] {
        lines(&mesh, "client", &place).unwrap_or_else(|why| panic!("{place}: {why}"));
    }
    // A Host that nobody knows goes where the client dialled.
    let unknown = [
        "get",
        &format!("http://{address}:29080/"),
        "--header",
        "Host: nobody.example",
        "--body",
    ];
    let said = mesh.bookshop("client", &unknown);
    assert!(said.good && said.out.contains("nobody.example"), "{}", said.all());
    // The API server speaks TLS of its own, with which a sidecar has nothing to do: it answers plaintext with 400.
    let api = must(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    let said = mesh.bookshop("client", &["get", &format!("http://{api}:443/"), "--expect", "400"]);
    assert!(said.good, "{}", said.all());
    // Nobody listens: an error at once, not a silence.
    let said = mesh.bookshop(
        "client",
        &["get", &format!("http://{address}:29099/"), "--timeout", "8000"],
    );
    assert!(!said.good && !said.all().contains("no answer within"), "{}", said.all());
}

#[test]
fn a_rollout_under_load_is_not_noticed() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("rollout");
    let server = echo("server");
    let mut spec = server["spec"].clone();
    // The echo goes on for five seconds after it was asked to terminate, and then finishes what is in flight.
    for field in ["restartPolicy", "terminationGracePeriodSeconds"] {
        spec.as_object_mut().unwrap().remove(field);
    }
    mesh.apply([
        mode("STRICT"),
        service_account("server"),
        service("server"),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "server"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "server"}},
                "template": {"metadata": server["metadata"], "spec": spec},
            },
        }),
    ]);
    let rolled_out = || mesh.must(&["rollout", "status", "deployment/server", "--timeout=90s"]);
    rolled_out();
    let url = "http://server:9080/";
    mesh.apply([
        pod("http", &calls(url, "20", &[])),
        pod("kept", &calls(url, "20", &["--keepalive"])),
    ]);
    let loads = ["http", "kept"].map(|pod| Load::follow(&mesh, pod));
    let started = Instant::now();
    for _ in 0..2 {
        mesh.must(&["rollout", "restart", "deployment/server"]);
        rolled_out();
    }
    until("the old pods are gone", START, || {
        let pods = mesh.must(&["get", "pods", "--selector", "app=server", "-o", "name"]);
        if pods.lines().count() == 2 { Ok(()) } else { Err(pods) }
    });
    let time = started.elapsed();
    for load in loads {
        load.end().without("failed", "requests", 20, time);
    }
}

#[test]
fn the_bookshop_works_under_strict() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("bookshop");
    let outside = outside();
    mesh.must(&[
        "apply",
        "-f",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bookshop/bookshop.yaml"),
    ]);
    mesh.apply([mode("STRICT")]);
    mesh.apply(echo_with_service("client"));
    mesh.must(&[
        "wait",
        "--for=condition=Available",
        "deployment",
        "--all",
        "--timeout=120s",
    ]);
    mesh.ready("client", START);
    let page = "http://productpage:9080/api/v1/products/0";
    until("the page that needs every service", POLICY, || {
        mesh.bookshop("client", &["get", page]).ok()
    });
    let said = mesh.bookshop("client", &["get", page, "--count", "30", "--interval", "20"]);
    assert!(said.good, "{}", said.all());
    let place = format!("http://productpage.{}:9080/health", mesh.name);
    assert!(!outside.bookshop("outsider", &["get", &place]).good, "STRICT");
}
