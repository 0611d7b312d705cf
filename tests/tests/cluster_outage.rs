//! The control plane is away for two minutes: what runs goes on, what is created is refused in words that say why, and
//! what waits is served as soon as it is back. It has the cluster to itself, for about four minutes. Needs a cluster with
//! the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::manifests::{calls, echo, echo_with_service, pod, pod_of, service_account};
use tests::cluster::{Certificate, Cluster, Load, Namespace, START, SYSTEM, Sidecar, must, unharmed, until};

/// How long nothing of the control plane runs.
const OUTAGE: Duration = Duration::from_secs(120);

/// How long a pod may take to be Ready once the control plane is Available again.
const READY: Duration = Duration::from_secs(15);

const OPERATOR: &str = "pinnace-operator";
const WEBHOOK: &str = "pinnace-webhook";

/// A part of the control plane, which gets its replicas back whatever becomes of the test.
struct Part {
    name: &'static str,
    replicas: String,
}

impl Part {
    fn of(name: &'static str) -> Self {
        let replicas = must(&[
            "--namespace",
            SYSTEM,
            "get",
            "deployment",
            name,
            "-o",
            "jsonpath={.spec.replicas}",
        ]);
        Self { name, replicas }
    }

    fn stop(&self) {
        must(&["--namespace", SYSTEM, "scale", "deployment", self.name, "--replicas=0"]);
        let app = format!("app={}", self.name);
        let selector = must(&[
            "--namespace",
            SYSTEM,
            "get",
            "deployment",
            self.name,
            "-o",
            "go-template={{range $k, $v := .spec.selector.matchLabels}}{{$k}}={{$v}},{{end}}",
        ]);
        until(&format!("no pod of {app} is left"), START, || {
            let selector = selector.trim_end_matches(',');
            let left = must(&[
                "--namespace",
                SYSTEM,
                "get",
                "pods",
                "--selector",
                selector,
                "-o",
                "name",
            ]);
            if left.trim().is_empty() { Ok(()) } else { Err(left) }
        });
    }

    fn start(&self) {
        let replicas = format!("--replicas={}", self.replicas);
        must(&["--namespace", SYSTEM, "scale", "deployment", self.name, &replicas]);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.start();
    }
}

fn available() {
    for part in [OPERATOR, WEBHOOK] {
        must(&[
            "--namespace",
            SYSTEM,
            "wait",
            "--for=condition=Available",
            "deployment",
            part,
            "--timeout=90s",
        ]);
    }
}

#[test]
fn pods_outlive_the_control_plane() {
    let Some(_cluster) = Cluster::alone() else { return };
    let mesh = Namespace::injected("outage");
    let outside = Namespace::plain("outage-plain");
    mesh.apply(["server", "client"].into_iter().flat_map(echo_with_service));
    mesh.apply(["early", "late"].map(service_account));
    mesh.apply(["http", "kept", "tcp"].map(service_account));
    mesh.ready("server", START);
    mesh.ready("client", START);
    mesh.apply([
        pod_of("http", "http", &calls("http://server:9080/", "50", &[])),
        pod_of("kept", "kept", &calls("http://server:9080/", "50", &["--keepalive"])),
        pod_of("tcp", "tcp", &["tcp", "server:9070"]),
    ]);
    let loads = ["http", "kept", "tcp"].map(|pod| Load::follow(&mesh, pod));
    let serial = Certificate::of(&mesh.get("secret", "istio.server").unwrap())
        .unwrap()
        .serial;

    let (operator, webhook) = (Part::of(OPERATOR), Part::of(WEBHOOK));
    operator.stop();
    // Admitted, and nobody there to issue its certificate.
    mesh.apply([echo("early")]);
    webhook.stop();
    let stopped = Instant::now();

    let refusal = mesh
        .would_create(&pod("refused", &["echo"]))
        .expect_err("the webhook is away");
    let names = refusal.contains("namespace.sidecar-injector.istio.io") && refusal.contains(WEBHOOK);
    assert!(names, "the refusal names the webhook: {refusal}");
    let mut annotated = pod("refused", &["echo"]);
    annotated["metadata"]["annotations"]["sidecar.istio.io/inject"] = json!("true");
    let refusal = outside.would_create(&annotated).expect_err("it asks for a sidecar");
    assert!(refusal.contains("annotation.sidecar-injector.istio.io"), "{refusal}");
    // Only what the mesh has to do with waits for it.
    let mut host = pod("host", &["echo"]);
    host["spec"]["hostNetwork"] = json!(true);
    mesh.would_create(&host).expect("a pod on the node's network");
    outside
        .would_create(&pod("other", &["echo"]))
        .expect("a pod of another namespace");

    // A pod that has not called a destination before cannot learn of it now, and says so soon.
    let sidecar = Sidecar::of(&mesh, "client");
    while stopped.elapsed() < OUTAGE {
        let asked = Instant::now();
        let new = mesh.bookshop(
            "client",
            &["get", "http://nobody-called-this.svc:80/", "--timeout", "8000"],
        );
        assert!(!new.good && asked.elapsed() < Duration::from_secs(8), "{}", new.all());
        let status = mesh.get("pod", "early").unwrap()["status"].clone();
        assert_ne!(ready(&status), Some("True"), "without a certificate: {status}");
        assert_eq!(
            sidecar.page("/ready").map(|_| ()),
            Ok(()),
            "a running sidecar stays ready"
        );
        std::thread::sleep(Duration::from_secs(5));
    }

    operator.start();
    webhook.start();
    available();
    let back = Instant::now();
    // A webhook that is Available is reached once kube-proxy knows it.
    until("a pod is admitted again", READY, || mesh.created(&echo("late")));
    for pod in ["early", "late"] {
        mesh.ready(pod, READY.saturating_sub(back.elapsed()).max(Duration::from_secs(1)));
        eprintln!("{pod} was Ready {:?} after both were Available", back.elapsed());
    }
    // Both are of the mesh: they call and are called.
    mesh.echoed("late", "http://server:9080/").unwrap();
    mesh.echoed("early", "http://server:9080/").unwrap();

    let time = stopped.elapsed();
    unharmed(loads, 10, time);
    let now = Certificate::of(&mesh.get("secret", "istio.server").unwrap())
        .unwrap()
        .serial;
    assert_eq!(now, serial, "coming back is no reason to issue anew");
}

fn ready(status: &Value) -> Option<&str> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")?["status"].as_str()
}
