//! What the end-to-end tests ask of the cluster that KUBECONFIG names, with the mesh installed in it: objects through
//! kubectl, which has to be on the PATH, and the sidecars' own pages through its port-forwarding.
//!
//! Most tests share the mesh ([`Cluster::shared`]): each works in namespaces of its own. One that stops the control
//! plane, changes its settings or writes a policy for the whole mesh has it to itself ([`Cluster::alone`]); a long one of
//! these lets the first kind in while it only watches ([`Cluster::share`]). Locks on files keep them apart, within a
//! process and between processes of one machine. Everything here fails by a panic, since it is called by tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificate;
mod kubectl;
mod load;
pub mod manifests;
mod namespace;
mod release;
mod sidecar;
mod wait;
pub mod wire;

use std::fs::File;
use std::io::Write;
use std::time::Duration;

pub use certificate::{Certificate, field};
pub use kubectl::{Said, kubectl, must, must_with, run, spawn};
pub use load::{Load, unharmed};
pub use namespace::Namespace;
pub use release::{CHART, Release, has_helm, helm};
pub use sidecar::Sidecar;
pub use wait::{holds, until};

/// The namespace of the control plane, and the root namespace of its mesh.
pub const SYSTEM: &str = "istio-system";

/// The mesh's trust domain.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// How long a pod may take from its creation until it is Ready, on a slow machine that starts others too.
pub const START: Duration = Duration::from_secs(90);

/// How long a policy may take from its creation until every sidecar follows it.
pub const POLICY: Duration = Duration::from_secs(15);

/// The right to use the cluster, until it is dropped.
pub struct Cluster {
    lock: File,
    /// Held by those that need it alone at some time, so that they wait for one another's end.
    _turn: Option<File>,
}

impl Cluster {
    /// The cluster, shared with other tests; `None`, with a line that says so, where there is none.
    #[must_use]
    pub fn shared() -> Option<Self> {
        let gate = file("gate")?;
        let lock = file("lock")?;
        gate.lock_shared().unwrap();
        lock.lock_shared().unwrap();
        drop(gate);
        Some(Self::reach(lock, None))
    }

    /// The cluster for this test alone, once the others have ended; `None` as for [`Cluster::shared`].
    #[must_use]
    pub fn alone() -> Option<Self> {
        let turn = file("turn")?;
        turn.lock().unwrap();
        let lock = file("lock")?;
        have_alone(&lock);
        Some(Self::reach(lock, Some(turn)))
    }

    /// Lets tests in that share the cluster; whoever needs it alone goes on waiting.
    pub fn share(&self) {
        self.lock.unlock().unwrap();
        self.lock.lock_shared().unwrap();
    }

    /// The cluster for this test alone again, once those that were let in have ended.
    pub fn alone_again(&self) {
        self.lock.unlock().unwrap();
        have_alone(&self.lock);
    }

    fn reach(lock: File, turn: Option<File>) -> Self {
        // A test before this one may have restarted it.
        must(&[
            "--namespace",
            SYSTEM,
            "wait",
            "--for=condition=Available",
            "deployment",
            "pinnace-operator",
            "pinnace-webhook",
            "--timeout=90s",
        ]);
        Self { lock, _turn: turn }
    }
}

/// Waits for those that have it; those that come meanwhile stand at the gate, or there would always be one.
fn have_alone(lock: &File) {
    let gate = file("gate").unwrap();
    gate.lock().unwrap();
    lock.lock().unwrap();
}

fn file(name: &str) -> Option<File> {
    if std::env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()) {
        skipped("KUBECONFIG is not set; hack/test starts a cluster and sets it");
        return None;
    }
    Some(File::create(std::env::temp_dir().join(format!("pinnace-cluster-tests.{name}"))).unwrap())
}

/// Says why the running test shows nothing here, past the harness, which would keep it to itself.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Nothing can be done about a closed standard error.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Whether tests that take minutes are asked for; where they are not, says that the running one is skipped.
#[must_use]
pub fn long() -> bool {
    let asked = std::env::var_os("PINNACE_LONG").is_some_and(|value| !value.is_empty());
    if !asked {
        skipped("it takes minutes; PINNACE_LONG=1 runs it");
    }
    asked
}

/// The replica of the operator that holds the lease.
#[must_use]
pub fn leader() -> String {
    let holder = "jsonpath={.spec.holderIdentity}";
    must(&["--namespace", SYSTEM, "get", "lease", "pinnace-operator", "-o", holder])
}

/// The SPIFFE ID of a service account.
#[must_use]
pub fn spiffe(namespace: &Namespace, account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{account}", namespace.name)
}

/// A name that no other test has.
#[must_use]
pub fn unique(purpose: &str) -> String {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{purpose}-{:08x}", random & 0xffff_ffff)
}
