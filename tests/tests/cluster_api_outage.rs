//! The API server and its etcd stand still for two minutes: traffic goes on, and certificates and policy are as they should
//! be soon after. It has the cluster to itself, and takes about four minutes: only with PINNACE_LONG=1, and only on the
//! local cluster, whose processes can be stopped from here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::cluster::manifests::{calls, echo, echo_with_service, mode, pod_of, service_account};
use tests::cluster::{Certificate, Cluster, Load, Namespace, START, Sidecar, long, skipped, unharmed, until};

/// How long they stand still.
const OUTAGE: Duration = Duration::from_secs(120);

/// The processes of the local cluster that stand still.
const PARTS: [&str; 2] = ["kube-apiserver", "etcd"];

/// Processes that are stopped, and go on whatever becomes of the test.
struct Stopped(Vec<i32>);

impl Stopped {
    /// The local cluster's, where KUBECONFIG is that cluster's.
    fn find() -> Option<Self> {
        let state = PathBuf::from(std::env::var_os("PINNACE_CLUSTER").unwrap_or("/var/lib/pinnace-cluster".into()));
        if std::env::var_os("KUBECONFIG").map(PathBuf::from) != Some(state.join("admin.conf")) {
            return None;
        }
        let outer = std::fs::read_to_string(state.join("pid")).ok()?;
        let outer: i32 = outer.split(' ').next()?.parse().ok()?;
        let found = descendants(outer).into_iter().filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            PARTS.iter().any(|part| words.get(1) == Some(&part.as_bytes()))
        });
        Some(Self(found.collect())).filter(|found| found.0.len() == PARTS.len())
    }

    fn signal(&self, signal: i32) {
        for pid in &self.0 {
            // SAFETY: a plain system call.
            let _ = unsafe { libc::kill(*pid, signal) };
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal(libc::SIGCONT);
    }
}

fn descendants(of: i32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let children: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let deeper: Vec<i32> = children.iter().flat_map(|pid| descendants(*pid)).collect();
    [children, deeper].concat()
}

#[test]
fn traffic_goes_on_without_an_api_server_and_everything_recovers() {
    if !long() {
        return;
    }
    let Some(_cluster) = Cluster::alone() else { return };
    let Some(stopped) = Stopped::find() else {
        return skipped("the API server and etcd are no processes of a local cluster that can be stopped");
    };
    let mesh = Namespace::injected("api-outage");
    mesh.apply(["server", "client"].into_iter().flat_map(echo_with_service));
    mesh.apply(["http", "kept", "tcp", "late"].map(service_account));
    mesh.ready("server", START);
    mesh.ready("client", START);
    let load = |more: &[&'static str]| calls("http://server:9080/", "50", more);
    mesh.apply([
        pod_of("http", "http", &load(&[])),
        pod_of("kept", "kept", &load(&["--keepalive"])),
        pod_of("tcp", "tcp", &["tcp", "server:9070"]),
    ]);
    for pod in ["http", "kept", "tcp"] {
        mesh.ready(pod, START);
    }
    let serial = || {
        Certificate::of(&mesh.get("secret", "istio.server").unwrap())
            .unwrap()
            .serial
    };
    let (before, began) = (serial(), Instant::now());

    stopped.signal(libc::SIGSTOP);
    std::thread::sleep(OUTAGE);
    drop(stopped);
    until("the API server answers", START, || {
        mesh.get("pod", "client").map(|_| ())
    });
    // Followed from here on: their words come through the API server.
    let loads = ["http", "kept", "tcp"].map(|pod| Load::follow(&mesh, pod));

    // A lost Secret is issued again, a new account gets its first, and a policy reaches the sidecars.
    mesh.must(&["delete", "secret", "istio.server"]);
    until("the certificate is back", START, || {
        let now = mesh.get("secret", "istio.server").and_then(|secret| {
            let certificate = Certificate::of(&secret)?;
            Ok(certificate.serial)
        })?;
        if now == before { Err(now) } else { Ok(()) }
    });
    mesh.apply([echo("late")]);
    mesh.ready("late", START);
    mesh.apply([mode("STRICT")]);
    let sidecar = Sidecar::of(&mesh, "server");
    until("the sidecar knows the policy", START, || {
        let page = sidecar.page("/config_dump")?;
        if page.contains("\"STRICT\"") { Ok(()) } else { Err(page) }
    });
    mesh.echoed("late", "http://server:9080/").unwrap();

    let time = began.elapsed();
    unharmed(loads, 10, time);
}
