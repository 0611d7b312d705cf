//! The chart is upgraded, and goes back again, under load and while pods are created all the time: no request fails and
//! no pod is refused or left without a sidecar. It has the cluster to itself. Needs a cluster with the mesh (KUBECONFIG),
//! installed by helm as the release `pinnace`, and PINNACE_LONG=1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tests::cluster::manifests::{calls, echo, echo_with_service, mode, pod, pod_of, service_account};
use tests::cluster::{Certificate, Cluster, Load, Namespace, Release, START, SYSTEM, long, must, until};

/// The pods that a Deployment has.
fn pods(deployment: &str) -> Vec<String> {
    let all = must(&["--namespace", SYSTEM, "get", "pods", "-o", "name"]);
    let of = all
        .lines()
        .filter(|pod| pod.contains(deployment))
        .map(ToOwned::to_owned);
    of.collect()
}

#[test]
fn an_upgrade_refuses_no_pod_and_fails_no_request() {
    if !long() {
        return;
    }
    let Some(_cluster) = Cluster::alone() else { return };
    let Some(mut release) = Release::now() else { return };
    let mesh = Namespace::injected("upgrade");
    mesh.apply([mode("STRICT")]);
    mesh.apply(echo_with_service("server"));
    mesh.apply(["http", "kept"].map(service_account));
    mesh.ready("server", START);
    let load = |more: &[&'static str]| calls("http://server:9080/", "20", more);
    mesh.apply([
        pod_of("http", "http", &load(&[])),
        pod_of("kept", "kept", &load(&["--keepalive"])),
    ]);
    let loads = ["http", "kept"].map(|pod| Load::follow(&mesh, pod));
    let started = Instant::now();
    let before = pods("pinnace-webhook");

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let (mut made, mut refused) = (0_u32, Vec::new());
            while !done.load(Ordering::Relaxed) {
                match mesh.would_create(&pod("new", &["echo"])) {
                    Ok(created) if created["spec"]["initContainers"].to_string().contains("istio-proxy") => made += 1,
                    Ok(_) => refused.push("created without a sidecar".to_owned()),
                    Err(reason) => refused.push(reason),
                }
            }
            (made, refused)
        });
        // Whatever becomes of the upgrade, the other thread has to end.
        let upgraded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let levels = ["--set", "webhook.logLevel=debug", "--set", "operator.logLevel=debug"];
            release.upgrade(&levels);
            // Those that were replaced end after the rollout is done.
            until("all are new", START, || {
                let old: Vec<_> = pods("pinnace-webhook")
                    .into_iter()
                    .filter(|pod| before.contains(pod))
                    .collect();
                if old.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{old:?}"))
                }
            });
            mesh.apply([service_account("late"), echo("late")]);
            mesh.ready("late", START);
            Certificate::of(&mesh.get("secret", "istio.late").unwrap()).unwrap();
            release.roll_back();
        }));
        done.store(true, Ordering::Relaxed);
        let (made, refused) = creating.join().unwrap();
        upgraded.unwrap();
        assert!(
            refused.is_empty(),
            "{} of {} pods: {refused:#?}",
            refused.len(),
            refused.len() + made as usize
        );
        assert!(made > 20, "{made}");
        eprintln!("{made} pods were admitted meanwhile");
    });
    let time = started.elapsed();
    for load in loads {
        load.end().without("failed", "requests", 15, time);
    }
}
