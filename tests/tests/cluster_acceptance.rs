//! The manifests that have to work as they stand, byte for byte (`acceptance/`), and what they must bring about. They
//! name the mesh's root namespace and one of their own, so this test has the cluster to itself. Needs a cluster with
//! the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tests::cluster::manifests::echo_with_service;
use tests::cluster::{Cluster, Namespace, POLICY, START, SYSTEM, must, until};

fn manifest(name: &str) -> String {
    format!("{}/acceptance/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A manifest that is applied, in the current namespace where it names none, and removed whatever becomes of the test.
struct Applied(Vec<String>);

impl Applied {
    fn new(namespace: Option<&Namespace>, file: &str) -> Self {
        let mut arguments = Vec::new();
        if let Some(namespace) = namespace {
            arguments.extend(["--namespace".to_owned(), namespace.name.clone()]);
        }
        let with = |verb: &[&str]| -> Vec<String> {
            let words = verb.iter().map(|word| (*word).to_owned());
            arguments.iter().cloned().chain(words).chain([manifest(file)]).collect()
        };
        let delete = Self(with(&["delete", "--ignore-not-found", "-f"]));
        run(&with(&["apply", "-f"]));
        delete
    }
}

fn run(arguments: &[String]) {
    must(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

impl Drop for Applied {
    fn drop(&mut self) {
        let arguments: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let _ = tests::cluster::kubectl(&arguments, "");
    }
}

/// Who takes plaintext: pods by namespace, asked from outside the mesh.
struct Shop {
    outside: Namespace,
    shop: Namespace,
    other: Namespace,
}

impl Shop {
    /// `my-namespace` with my-service, backend and bystander; another namespace with the same.
    fn open() -> Self {
        let names = ["my-service", "backend", "bystander"];
        let shop = Namespace::new("my-namespace", &[("istio-injection", "enabled")]);
        let (other, outside) = (Namespace::injected("other"), Namespace::plain("outside"));
        for namespace in [&shop, &other] {
            namespace.apply(names.into_iter().flat_map(echo_with_service));
        }
        outside.apply(echo_with_service("outsider"));
        for name in names {
            shop.ready(name, START);
            other.ready(name, START);
        }
        outside.ready("outsider", START);
        Self { outside, shop, other }
    }

    /// Waits until exactly these pods refuse plaintext, and checks that inside the mesh all of them answer.
    fn strict_are(&self, what: &str, expected: impl Fn(&Namespace, &str) -> bool) {
        for namespace in [&self.shop, &self.other] {
            for pod in ["my-service", "backend", "bystander"] {
                let strict = expected(namespace, pod);
                let url = format!("http://{pod}.{}:9080/", namespace.name);
                until(
                    &format!("{what}: {url} refuses plaintext: {strict}"),
                    POLICY,
                    || match self.outside.echoed("outsider", &url) {
                        Ok(seen) if strict => Err(format!("answered {seen}")),
                        Err(why) if !strict => Err(why),
                        _ => Ok(()),
                    },
                );
                let seen = self
                    .other
                    .echoed("bystander", &url)
                    .unwrap_or_else(|why| panic!("{what}: {url}: {why}"));
                assert!(
                    seen.to_string().contains("x-forwarded-client-cert"),
                    "{what}: {url}: {seen}"
                );
            }
        }
    }
}

#[test]
fn the_manifests_apply_unchanged_and_take_effect() {
    let Some(_cluster) = Cluster::alone() else { return };
    let policies = must(&["--namespace", SYSTEM, "get", "peerauthentication", "--output", "name"]);
    assert_eq!(
        policies.trim(),
        "",
        "policies for the whole mesh would change what is to be seen"
    );
    let shop = Shop::open();
    shop.strict_are("without a policy", |_, _| false);
    {
        let _applied = Applied::new(None, "01-mesh-strict.yaml");
        shop.strict_are("01", |_, _| true);
    }
    shop.strict_are("01 removed", |_, _| false);
    {
        let _applied = Applied::new(None, "02-namespace-strict.yaml");
        shop.strict_are("02", |namespace, _| namespace.name == "my-namespace");
    }
    {
        let _applied = Applied::new(Some(&shop.shop), "03-workload-strict.yaml");
        shop.strict_are("03", |namespace, pod| {
            namespace.name == "my-namespace" && pod != "bystander"
        });
    }
    shop.strict_are("all removed", |_, _| false);
}
