//! Which pods get a sidecar, what they get, and which are refused: asked of the API server by creations that it does
//! not keep, so that webhook and admission policies decide as they would. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::cluster::manifests::{container, pod, pod_of, service_account};
use tests::cluster::{Cluster, Namespace, START, kubectl, unique, until};

const INJECT: &str = "sidecar.istio.io/inject";

/// The sidecar that was injected into a pod.
fn sidecar(pod: &Value) -> Option<&Value> {
    let containers = pod["spec"]["initContainers"].as_array()?;
    containers.iter().find(|container| container["name"] == "istio-proxy")
}

fn volume<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let volumes = pod["spec"]["volumes"].as_array()?;
    volumes.iter().find(|volume| volume["name"] == name)
}

fn idle(name: &str) -> Value {
    pod(name, &["echo"])
}

#[test]
fn what_is_injected() {
    let Some(_cluster) = Cluster::shared() else { return };
    let (mesh, plain) = (Namespace::injected("inject"), Namespace::plain("plain"));
    let with = mesh.would_create(&idle("a")).unwrap();
    let without = plain.would_create(&idle("a")).unwrap();

    let names: Vec<&Value> = with["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| &container["name"])
        .collect();
    assert_eq!(names, ["istio-init", "istio-proxy"]);
    let sidecar = sidecar(&with).unwrap();
    assert_eq!(sidecar["restartPolicy"], "Always", "a native sidecar");
    assert_eq!(sidecar["securityContext"]["runAsUser"], 1337);
    assert_eq!(sidecar["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(sidecar["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    let certificates = volume(&with, "istio-certs").unwrap();
    assert_eq!(
        certificates["secret"],
        json!({"secretName": "istio.default", "optional": true, "defaultMode": 0o444}),
        "a template without serviceAccountName means default"
    );
    assert_eq!(with["metadata"]["labels"]["security.istio.io/tlsMode"], "istio");
    assert_eq!(with["metadata"]["labels"]["service.istio.io/canonical-name"], "a");
    let status = with["metadata"]["annotations"]["sidecar.istio.io/status"]
        .as_str()
        .unwrap();
    assert!(serde_json::from_str::<Value>(status).unwrap().is_object(), "{status}");

    // The rest of the pod is what it would be without the mesh.
    assert_eq!(with["spec"]["containers"], without["spec"]["containers"]);
    let mut rest = with["spec"].clone();
    rest.as_object_mut().unwrap().remove("initContainers");
    rest["volumes"]
        .as_array_mut()
        .unwrap()
        .retain(|volume| volume["name"] != "istio-certs" && volume["name"] != "istio-data");
    if rest["volumes"] == json!([]) {
        rest.as_object_mut().unwrap().remove("volumes");
    }
    assert_eq!(rest, without["spec"]);
}

#[test]
fn labels_and_annotations_decide_in_istios_order() {
    let Some(_cluster) = Cluster::shared() else { return };
    let (mesh, plain) = (Namespace::injected("inject"), Namespace::plain("plain"));
    let disabled = Namespace::new(&unique("disabled"), &[("istio-injection", "disabled")]);
    let (yes, no) = (Some("true"), Some("false"));
    let rows = [
        ("a labelled namespace", &mesh, None, None, false, true),
        ("the label refuses", &mesh, no, None, false, false),
        ("the annotation refuses", &mesh, None, no, false, false),
        ("the label beats a refusing annotation", &mesh, yes, no, false, true),
        ("the label beats an asking annotation", &mesh, no, yes, false, false),
        ("any other value says nothing", &mesh, Some("maybe"), None, false, true),
        ("the node's network, labelled namespace", &mesh, None, None, true, false),
        ("an unlabelled namespace", &plain, None, None, false, false),
        ("the label asks", &plain, yes, None, false, true),
        ("the annotation alone asks", &plain, None, yes, false, true),
        (
            "the label refuses what the annotation asks",
            &plain,
            no,
            yes,
            false,
            false,
        ),
        (
            "the label asks what the annotation refuses",
            &plain,
            yes,
            no,
            false,
            true,
        ),
        ("the node's network, asked for by label", &plain, yes, None, true, false),
        (
            "the node's network, asked for by annotation",
            &plain,
            None,
            yes,
            true,
            false,
        ),
        (
            "a refusing namespace is not overridden by label",
            &disabled,
            yes,
            None,
            false,
            false,
        ),
        (
            "a refusing namespace is not overridden by annotation",
            &disabled,
            None,
            yes,
            false,
            false,
        ),
    ];
    for (what, namespace, label, annotation, host, expected) in rows {
        let mut pod = idle("a");
        if let Some(label) = label {
            pod["metadata"]["labels"][INJECT] = json!(label);
        }
        if let Some(annotation) = annotation {
            pod["metadata"]["annotations"][INJECT] = json!(annotation);
        }
        pod["spec"]["hostNetwork"] = json!(host);
        let made = namespace
            .would_create(&pod)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(sidecar(&made).is_some(), expected, "{what}");
        let policies = ["istio-init", "istio-certs"];
        let traces = policies
            .iter()
            .filter(|name| made["spec"].to_string().contains(**name))
            .count();
        assert_eq!(traces, if expected { 2 } else { 0 }, "{what}: all of it or nothing");
    }
}

#[test]
fn injecting_twice_changes_nothing() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("inject");
    let mut pod = idle("a");
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/x", "port": 9080}});
    let once = mesh.would_create(&pod).unwrap();
    let mut again = once.clone();
    for set_by_the_server in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "managedFields",
        "generation",
    ] {
        again["metadata"].as_object_mut().unwrap().remove(set_by_the_server);
    }
    again.as_object_mut().unwrap().remove("status");
    let twice = mesh.would_create(&again).unwrap();
    assert_eq!(twice["spec"], once["spec"]);
    assert_eq!(twice["metadata"]["labels"], once["metadata"]["labels"]);
    assert_eq!(twice["metadata"]["annotations"], once["metadata"]["annotations"]);
}

#[test]
fn a_bad_annotation_is_refused_with_its_name_its_value_and_what_is_accepted() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("inject");
    for (name, value, accepted) in [
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "80,http", "port"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "65536", "port"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/33", "10."),
        ("sidecar.istio.io/interceptionMode", "TPROXY", "REDIRECT"),
        ("sidecar.istio.io/proxyCPU", "much", "quantity"),
        ("sidecar.istio.io/nativeSidecar", "perhaps", "true"),
        ("sidecar.istio.io/logLevel", "loud", "debug"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "-1", "number"),
    ] {
        let mut pod = idle("a");
        pod["metadata"]["annotations"][name] = json!(value);
        let refusal = mesh.would_create(&pod).expect_err(name);
        for word in [name, value, "expected", accepted] {
            assert!(refusal.contains(word), "{name}={value}: no {word:?} in: {refusal}");
        }
    }
}

#[test]
fn annotations_without_effect_are_told() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("inject");
    let mut pod = idle("a");
    pod["metadata"]["annotations"]["sidecar.istio.io/extraStatTags"] = json!("region");
    pod["metadata"]["annotations"]["proxy.istio.io/config"] = json!("{tracing: {sampling: 10}}");
    let said = kubectl(
        &["-n", &mesh.name, "create", "--dry-run=server", "-f", "-"],
        &pod.to_string(),
    );
    assert!(said.good, "{}", said.all());
    for word in [
        "Warning: annotation sidecar.istio.io/extraStatTags has no effect",
        "Warning: annotation proxy.istio.io/config.tracing has no effect",
    ] {
        assert!(said.all().contains(word), "no {word:?} in: {}", said.all());
    }
}

#[test]
fn a_container_of_the_pods_own_is_merged() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("inject");
    let mut pod = idle("a");
    let own = json!({"name": "istio-proxy", "image": "auto", "resources": {"limits": {"memory": "2Gi"}}});
    pod["spec"]["containers"].as_array_mut().unwrap().push(own);
    let made = mesh.would_create(&pod).unwrap();
    assert_eq!(made["spec"]["containers"].as_array().unwrap().len(), 1);
    let sidecar = sidecar(&made).unwrap();
    assert_eq!(sidecar["resources"]["limits"]["memory"], "2Gi");
    assert_ne!(sidecar["image"], "auto");
    assert_eq!(sidecar["restartPolicy"], "Always");
    let mounts = sidecar["volumeMounts"].to_string();
    assert!(
        !mounts.contains("serviceaccount"),
        "the token is not for the sidecar: {mounts}"
    );
}

#[test]
fn the_sleep_before_the_end_is_what_the_api_server_takes() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("inject");
    let mut pod = idle("a");
    pod["metadata"]["annotations"]["policy.pinnace.dev/pre-stop-sleep"] = json!("5s");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
    let made = mesh.would_create(&pod).unwrap();
    let hook = &made["spec"]["containers"][0]["lifecycle"]["preStop"];
    assert_eq!(*hook, json!({"sleep": {"seconds": 5}}));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(5);
    let refusal = mesh.would_create(&pod).unwrap_err();
    for word in ["policy.pinnace.dev/pre-stop-sleep", "terminationGracePeriodSeconds (5)"] {
        assert!(refusal.contains(word), "no {word:?} in: {refusal}");
    }
}

#[test]
fn a_namespace_that_enforces_pod_security_is_explained() {
    let Some(_cluster) = Cluster::shared() else { return };
    for level in ["baseline", "restricted"] {
        let labels = [
            ("istio-injection", "enabled"),
            ("pod-security.kubernetes.io/enforce", level),
        ];
        let namespace = Namespace::new(&unique("secured"), &labels);
        // The webhook watches namespaces: until it has seen this one, the API server itself refuses.
        until("the webhook's refusal", START, || {
            let refusal = namespace.would_create(&idle("a")).unwrap_err();
            let explained = [
                "sidecar injection",
                level,
                "NET_ADMIN",
                "pod-security.kubernetes.io/enforce=privileged",
            ];
            if explained.iter().all(|word| refusal.contains(word)) {
                Ok(())
            } else {
                Err(refusal)
            }
        });
        // Without the redirect the sidecar passes, at both levels.
        let mut pod = idle("a");
        pod["metadata"]["annotations"]["sidecar.istio.io/interceptionMode"] = json!("NONE");
        let container = &mut pod["spec"]["containers"][0];
        container["securityContext"] = json!({
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        });
        let made = namespace.would_create(&pod).unwrap();
        assert!(sidecar(&made).is_some(), "{level}");
    }
}

#[test]
fn service_accounts_of_every_kind_of_name() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("inject");
    let (longest, too_long) = ("a".repeat(247), "a".repeat(248));
    mesh.apply(["with.dots.in.it", &longest, &too_long].map(service_account));
    for account in ["with.dots.in.it", &longest] {
        let made = mesh.would_create(&pod_of(account, "a", &["echo"])).unwrap();
        let secret = &volume(&made, "istio-certs").unwrap()["secret"]["secretName"];
        assert_eq!(*secret, format!("istio.{account}"));
    }
    let refusal = mesh.would_create(&pod_of(&too_long, "a", &["echo"])).unwrap_err();
    for word in ["spec.serviceAccountName", &too_long, "248", "247"] {
        assert!(refusal.contains(word), "no {word:?} in: {refusal}");
    }
    // Outside the mesh such a name is nobody's concern.
    let plain = Namespace::plain("plain");
    plain.apply([service_account(&too_long)]);
    plain.would_create(&pod_of(&too_long, "a", &["echo"])).unwrap();
}

type Change = fn(&mut Value);

/// Changes of a pod of the service account `bob` that take a certificate.
fn thefts() -> Vec<(&'static str, Change)> {
    vec![
        ("another account's, as a volume", |pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "istio.alice"}}]);
        }),
        ("its own, outside the sidecar", |pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "istio.bob"}}]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/stolen"}]);
        }),
        ("another account's, projected", |pod| {
            pod["spec"]["volumes"] =
                json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "istio.alice"}}]}}]);
        }),
        ("another account's, as a variable", |pod| {
            pod["spec"]["containers"][0]["env"] =
                json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "istio.alice", "key": "tls.key"}}}]);
        }),
        ("its own, as all variables", |pod| {
            pod["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "istio.bob"}}]);
        }),
    ]
}

#[test]
fn no_pod_takes_a_certificate() {
    let Some(_cluster) = Cluster::shared() else { return };
    for (namespace, policy) in [
        (Namespace::plain("plain"), true),
        (Namespace::injected("inject"), false),
    ] {
        namespace.apply(["bob", "alice"].map(service_account));
        for (what, change) in thefts() {
            let mut pod = pod_of("bob", "thief", &["echo"]);
            change(&mut pod);
            let refusal = namespace.would_create(&pod).expect_err(what);
            assert!(refusal.contains("istio."), "{what}: {refusal}");
            // Where there is no injection the policy alone stands in the way.
            assert!(
                !policy || refusal.contains("pinnace-workload-identities"),
                "{what}: {refusal}"
            );
        }
    }
}

#[test]
fn no_container_of_an_injected_pod_takes_its_certificate() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("inject");
    mesh.apply([service_account("bob"), pod_of("bob", "a", &["echo"])]);
    mesh.ready("a", START);
    let debugger = |fields: Value| {
        let mut debugger = container("debugger", &["echo", "--http", "9999", "--tcp", "9998"]);
        debugger
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        debugger
    };
    // The kubelet may write to the pod in between.
    let attempt = |fields: &Value| {
        until("a verdict on an ephemeral container", START, || {
            let mut pod = mesh.get("pod", "a")?;
            pod["spec"]["ephemeralContainers"] = json!([debugger(fields.clone())]);
            let path = format!("/api/v1/namespaces/{}/pods/a/ephemeralcontainers?dryRun=All", mesh.name);
            let said = kubectl(&["replace", "--raw", &path, "-f", "-"], &pod.to_string());
            if said.all().contains("object has been modified") {
                Err(said.all())
            } else {
                Ok(said)
            }
        })
    };
    let taken = attempt(&json!({}));
    assert!(taken.good, "a debugger that takes nothing: {}", taken.all());
    for fields in [
        json!({"volumeMounts": [{"name": "istio-certs", "mountPath": "/stolen"}]}),
        json!({"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "istio.bob", "key": "tls.key"}}}]}),
        json!({"envFrom": [{"secretRef": {"name": "istio.alice"}}]}),
    ] {
        let said = attempt(&fields);
        assert!(
            !said.good && said.all().contains("pinnace-workload-identities"),
            "{fields}: {}",
            said.all()
        );
    }
    // The application mounts the injected volume by its name.
    let mut pod = pod_of("bob", "b", &["echo"]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "istio-certs", "mountPath": "/stolen"}]);
    let refusal = mesh.would_create(&pod).unwrap_err();
    assert!(refusal.contains("istio-certs"), "{refusal}");
}
