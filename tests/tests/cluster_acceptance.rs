//! The manifests that have to work as they stand, byte for byte (`acceptance/`), and what they must bring about. They
//! name the mesh's root namespace and one of their own, so this test has the cluster to itself. Needs a cluster with
//! the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::mem::ManuallyDrop;

use serde_json::json;
use tests::cluster::manifests::{echo, echo_with_service, service, service_account};
use tests::cluster::{Cluster, Namespace, POLICY, START, SYSTEM, Sidecar, kubectl, must, until};

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
        let _ = kubectl(&arguments, "");
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

/// The namespace `default` with pods of these names, those called `bare` without a sidecar; they go with this value.
struct Default(ManuallyDrop<Namespace>, Vec<&'static str>);

impl Default {
    fn open(names: &[&'static str]) -> Self {
        let it = Self(Namespace::borrowed("default"), names.to_vec());
        for &name in names {
            let mut pod = echo(name);
            pod["metadata"]["labels"]["sidecar.istio.io/inject"] = json!(if name == "bare" { "false" } else { "true" });
            it.0.apply([service_account(name), service(name), pod]);
        }
        for name in names {
            it.0.ready(name, START);
        }
        it
    }
}

impl Drop for Default {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.shown());
        }
        for name in &self.1 {
            let objects = ["pod", "service", "serviceaccount"].map(|kind| format!("{kind}/{name}"));
            let arguments = ["--namespace", "default", "delete", "--wait=false", "--ignore-not-found"];
            let arguments: Vec<&str> = arguments
                .into_iter()
                .chain(objects.iter().map(String::as_str))
                .collect();
            let _ = kubectl(&arguments, "");
        }
    }
}

#[test]
fn the_destination_rules_apply_unchanged_and_take_effect() {
    let Some(_cluster) = Cluster::alone() else { return };
    let shop = Namespace::injected("rules");
    let names = ["caller", "backend", "reviews"];
    shop.apply(names.into_iter().flat_map(echo_with_service));
    let default = Default::open(&["accepted", "bare"]);
    for name in names {
        shop.ready(name, START);
    }
    let sidecar = Sidecar::of(&shop, "caller");
    let ask = |host: &str| shop.echoed("caller", &format!("http://{host}:9080/"));
    let identified = |host: &str| ask(host).is_ok_and(|seen| seen.to_string().contains("x-forwarded-client-cert"));
    let under = |host: &str, rule: Option<&str>| {
        let expected = rule.map(|rule| (rule.to_owned(), "ISTIO_MUTUAL".to_owned()));
        until(&format!("{host} is called under {rule:?}"), POLICY, || {
            match sidecar.rule_of(host, 9080) {
                Ok(found) if found == expected => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    };
    let whole = |name: &str, namespace: &str| format!("{name}.{namespace}.svc.cluster.local");

    // Without a rule a pod that has no sidecar is called in the clear.
    assert!(identified("accepted.default"), "{:?}", ask("accepted.default"));
    assert!(
        ask("bare.default").is_ok() && !identified("bare.default"),
        "{:?}",
        ask("bare.default")
    );
    {
        let _applied = Applied::new(None, "04-destinationrule-wildcard.yaml");
        let (holds, why) = default.0.condition("destinationrule", "default", "InForce", "Governs");
        assert!(holds && why.contains("*.default.svc.cluster.local"), "{why}");
        for name in ["accepted", "bare"] {
            under(&whole(name, "default"), Some("default/default"));
        }
        assert!(identified("accepted.default"), "{:?}", ask("accepted.default"));
        let refused = ask("bare.default").expect_err("mutual TLS is for every endpoint now");
        assert!(refused.contains("503"), "{refused}");
        assert!(identified("backend"), "other namespaces are as before");
        under(&whole("backend", &shop.name), None);
    }
    under(&whole("bare", "default"), None);
    assert!(ask("bare.default").is_ok(), "{:?}", ask("bare.default"));

    for (file, name) in [
        ("05-destinationrule-short-name.yaml", "backend"),
        ("09-destinationrule-all-mtls.yaml", "reviews"),
    ] {
        assert!(identified(name), "{:?}", ask(name));
        under(&whole(name, &shop.name), None);
        let _applied = Applied::new(Some(&shop), file);
        let (holds, why) = shop.condition("destinationrule", name, "InForce", "Governs");
        assert!(holds && why.contains(&whole(name, &shop.name)), "{file}: {why}");
        under(&whole(name, &shop.name), Some(&format!("{}/{name}", shop.name)));
        assert!(identified(name), "{file}: {:?}", ask(name));
        if name == "reviews" {
            // Its subsets too.
            shop.condition("destinationrule", name, "Complete", "AllFields");
        }
    }
}

#[test]
fn the_authorization_policies_apply_unchanged_and_take_effect() {
    let Some(_cluster) = Cluster::alone() else { return };
    let payments = Namespace::new("payments", &[("istio-injection", "enabled")]);
    let names = ["order-service", "intruder", "backend"];
    payments.apply(names.into_iter().flat_map(echo_with_service));
    let default = Default::open(&["frontend"]);
    for name in names {
        payments.ready(name, START);
    }
    let ask = |from: &Namespace, pod: &str, path: &str| {
        from.echoed(pod, &format!("http://backend.payments:9080{path}"))
            .map(drop)
    };
    // Whether each caller is let in, and that who is not hears why.
    let let_in = |what: &str, expected: [(&Namespace, &str, &str, bool); 4]| {
        for (namespace, pod, path, passes) in expected {
            until(&format!("{what}: {pod} calls {path}: {passes}"), POLICY, || {
                match ask(namespace, pod, path) {
                    Ok(()) if passes => Ok(()),
                    Err(why) if !passes && why.contains("403") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
        }
    };
    let callers = |order: bool, intruder: bool, data: bool, other: bool| {
        [
            (&payments, "order-service", "/", order),
            (&payments, "intruder", "/", intruder),
            (&*default.0, "frontend", "/api/data", data),
            (&*default.0, "frontend", "/api/other", other),
        ]
    };
    let_in("without a policy", callers(true, true, true, true));
    {
        let _applied = Applied::new(None, "06-authorization-principal.yaml");
        let_in("06", callers(true, false, false, false));
    }
    let_in("06 removed", callers(true, true, true, true));
    {
        let _applied = Applied::new(Some(&payments), "07-authorization-path.yaml");
        let_in("07", callers(false, false, true, false));
        // It is for the backend alone.
        payments.echoed("intruder", "http://order-service:9080/").unwrap();
    }
    let_in("both removed", callers(true, true, true, true));
}
