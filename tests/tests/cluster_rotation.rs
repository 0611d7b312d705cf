//! Certificates of a minute rotate ten times (ROTATIONS) under constant HTTP/1.1 load and one raw TCP stream, and nobody
//! notices; meanwhile the certificate of a service account that nothing uses any more goes. It changes the operator's
//! setting, for which it has the cluster to itself, and watches for about six minutes, which it shares. Needs a cluster with the mesh, installed by helm as
//! `pinnace` (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tests::cluster::manifests::{calls, echo, echo_with_service, mode, pod_of, service_account};
use tests::cluster::{Certificate, Cluster, Load, Namespace, Release, START, Sidecar, unharmed, until};

/// A certificate's life; it is renewed at half of it.
const LIFETIME: Duration = Duration::from_secs(60);

/// From the write of a Secret until its certificate is in use.
const IN_USE: Duration = Duration::from_secs(5);

/// How long the operator keeps the certificate of a service account without pods.
const GRACE: Duration = Duration::from_secs(300);

/// The operator's lifetime of certificates, put back at the end, once the cluster is this test's own again.
struct LifetimeSet<'a> {
    release: Release,
    cluster: &'a Cluster,
}

impl<'a> LifetimeSet<'a> {
    fn to(lifetime: &str, mut release: Release, cluster: &'a Cluster) -> Self {
        release.upgrade(&["--set", &format!("workloadCertTTL={lifetime}")]);
        Self { release, cluster }
    }
}

impl Drop for LifetimeSet<'_> {
    fn drop(&mut self) {
        self.cluster.alone_again();
        self.release.roll_back();
    }
}

/// A workload whose Secret and sidecar are looked at.
struct Watched<'a> {
    namespace: &'a Namespace,
    name: &'static str,
    sidecar: Sidecar,
    /// The certificates that were seen in use.
    seen: BTreeSet<String>,
    /// The greatest age at which the Secret's certificate was seen to be not in use yet.
    latest: Duration,
}

impl<'a> Watched<'a> {
    fn new(namespace: &'a Namespace, name: &'static str) -> Self {
        let sidecar = Sidecar::of(namespace, name);
        Self {
            namespace,
            name,
            sidecar,
            seen: BTreeSet::new(),
            latest: Duration::ZERO,
        }
    }

    fn written(&self) -> Certificate {
        let secret = self.namespace.get("secret", &format!("istio.{}", self.name)).unwrap();
        Certificate::of(&secret).unwrap()
    }

    /// Looks at both. However long a look takes, a certificate counts as late only if it was written long enough before
    /// the sidecar was asked.
    fn look(&mut self) {
        let written = self.written();
        let age = written.age();
        let used = self.sidecar.serial().unwrap();
        // The Secret may have been written again after it was read.
        if used != written.serial && self.written() == written {
            self.latest = self.latest.max(age);
            assert!(
                age < IN_USE,
                "{}: {} is not in use {age:?} after its issue",
                self.name,
                written.serial
            );
        }
        self.seen.insert(used);
    }

    /// Certificates that were put in use after the first.
    fn rotations(&self) -> usize {
        self.seen.len().saturating_sub(1)
    }
}

#[test]
fn ten_rotations_pass_unnoticed() {
    let Some(cluster) = Cluster::alone() else { return };
    let Some(release) = Release::now() else { return };
    let wanted: usize = std::env::var("ROTATIONS").map_or(10, |number| number.parse().expect("ROTATIONS is a number"));
    let mesh = Namespace::injected("rotation");
    let _set = LifetimeSet::to("60s", release, &cluster);

    mesh.apply(echo_with_service("server"));
    mesh.apply([mode("STRICT"), service_account("gone"), echo("gone")]);
    mesh.ready("server", START);
    mesh.ready("gone", START);
    mesh.must(&["delete", "pod", "gone"]);
    let unused = Instant::now();
    let certificate = Certificate::of(&mesh.get("secret", "istio.server").unwrap()).unwrap();
    let life = certificate.not_after - certificate.not_before - 120;
    assert_eq!(
        u64::try_from(life).unwrap(),
        LIFETIME.as_secs(),
        "besides the back-dating of two minutes"
    );

    let url = "http://server:9080/";
    mesh.apply(["http", "kept", "tcp"].map(service_account));
    mesh.apply([
        pod_of("http", "http", &calls(url, "25", &[])),
        pod_of("kept", "kept", &calls(url, "25", &["--keepalive"])),
        pod_of("tcp", "tcp", &["tcp", "server:9070"]),
    ]);
    let loads = ["http", "kept", "tcp"].map(|pod| Load::follow(&mesh, pod));
    cluster.share();
    let started = Instant::now();

    let mut watched = ["server", "http", "kept", "tcp"].map(|name| Watched::new(&mesh, name));
    let limit = LIFETIME * u32::try_from(wanted).unwrap() + Duration::from_secs(60);
    let enough = |watched: &[Watched<'_>; 4]| watched.iter().all(|workload| workload.rotations() >= wanted);
    while !enough(&watched) {
        for workload in &mut watched {
            workload.look();
        }
        let counts = || watched.iter().map(Watched::rotations).collect::<Vec<_>>();
        assert!(
            started.elapsed() < limit,
            "only {:?} rotations within {limit:?}",
            counts()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let time = started.elapsed();
    let latest = watched.iter().map(|workload| workload.latest).max().unwrap();
    eprintln!(
        "{wanted} rotations of each of 4 certificates in {time:?}; the latest was not in use {latest:?} after its issue"
    );

    unharmed(loads, 20, time);

    let left = (GRACE + Duration::from_secs(60)).saturating_sub(unused.elapsed());
    let gone = || match mesh.get("secret", "istio.gone") {
        Err(why) if why.contains("NotFound") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    if unused.elapsed() < GRACE - Duration::from_secs(30) {
        assert!(
            gone().is_err(),
            "kept for a while, for workloads that are scaled to nothing and back"
        );
    }
    until("the Secret that nothing uses is removed", left, gone);
}
