//! A second control plane of another revision comes beside the first, serves the namespaces that are labelled for it, and
//! is uninstalled again without a trace, while pods of both call each other. It has the cluster to itself. Needs a cluster
//! with the mesh (KUBECONFIG), and PINNACE_LONG=1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tests::cluster::manifests::{echo_with_service, mode};
use tests::cluster::{CHART, Cluster, Namespace, START, SYSTEM, has_helm, helm, kubectl, long, must, unique, until};

const RELEASE: &str = "pinnace-canary";
const REVISION: &str = "canary";

/// The second release, which goes whatever becomes of the test.
struct Release {
    gone: bool,
}

impl Release {
    fn install() -> Self {
        let made = Self { gone: false };
        let revision = format!("revision={REVISION}");
        let options = [
            "--set",
            &revision,
            "--set",
            "crds.install=false",
            "--wait",
            "--timeout",
            "120s",
        ];
        helm(&[&["install", RELEASE, CHART], &options[..]].concat()).unwrap();
        made
    }

    fn uninstall(&mut self) {
        helm(&["uninstall", RELEASE, "--wait"]).unwrap();
        self.gone = true;
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if !self.gone {
            let _ = helm(&["uninstall", RELEASE, "--wait"]);
        }
    }
}

/// What there is in the cluster whose name has the revision.
fn of_the_revision() -> Vec<String> {
    let kinds = "deployments,services,configmaps,leases,poddisruptionbudgets,serviceaccounts,roles,rolebindings,pods";
    let here = must(&["--namespace", SYSTEM, "get", kinds, "-o", "name"]);
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings";
    let everywhere = must(&["get", kinds, "-o", "name"]);
    let all = here.lines().chain(everywhere.lines());
    all.filter(|name| name.contains(REVISION))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn a_revision_comes_and_goes_beside_the_default() {
    if !long() {
        return;
    }
    let Some(_cluster) = Cluster::alone() else { return };
    if !has_helm() {
        return;
    }
    let old = Namespace::injected("default-revision");
    old.apply([mode("STRICT")]);
    old.apply(echo_with_service("server"));
    old.ready("server", START);

    let mut release = Release::install();
    let new = Namespace::new(&unique("canary-revision"), &[("istio.io/rev", REVISION)]);
    new.apply([mode("STRICT")]);
    new.apply(echo_with_service("server"));
    let pod = new.ready("server", START);
    assert_eq!(
        pod["metadata"]["annotations"]["istio.io/rev"], REVISION,
        "{}",
        pod["metadata"]
    );
    // Both trust the same root, so that each reaches the other's STRICT pods.
    let url = |namespace: &Namespace| format!("http://server.{}:9080/", namespace.name);
    let each_other = || {
        old.echoed("server", &url(&new))?;
        new.echoed("server", &url(&old)).map(drop)
    };
    until("pods of both call each other", START, each_other);

    release.uninstall();
    until("nothing of the revision is left", START, || match of_the_revision() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    // Its pods go on without a control plane, the other goes on as before, and policies are kept.
    each_other().unwrap();
    assert!(kubectl(&["get", "crd", "peerauthentications.security.istio.io"], "").good);
    old.apply(echo_with_service("later"));
    old.ready("later", START);
    old.echoed("later", &url(&new)).unwrap();
}
