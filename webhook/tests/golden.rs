//! Golden pods: every folder of `tests/golden` holds a pod, what becomes of it, and perhaps a mesh that differs from the
//! default. The command line's `kube-inject` has the same ones to pass.
//!
//! `UPDATE=1 cargo test -p webhook --test golden` writes the expectations anew; read the difference before it is kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where its expectation does"
)]

use std::{collections::BTreeMap, fs, path::Path};

use mesh_api::MeshConfig;
use serde::Deserialize;
use serde_json::{Value, json};
use webhook::{
    config::Values,
    inject::{Config, Namespace, Outcome, inject, pod_security::Level},
};

/// `mesh.yaml` of a case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Mesh {
    namespace: String,
    namespace_labels: Option<BTreeMap<String, String>>,
    native_sidecars: bool,
    sleep_action: bool,
    mesh_config: Value,
    values: Value,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            namespace: "shop".to_owned(),
            namespace_labels: None,
            native_sidecars: true,
            sleep_action: true,
            mesh_config: json!({}),
            values: json!({}),
        }
    }
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn golden_pods() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let failures: Vec<String> = cases.iter().filter_map(|case| run(case).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn run(case: &Path) -> Result<(), String> {
    let name = case.file_name().unwrap().to_string_lossy().into_owned();
    let pod: Value = yaml(&case.join("pod.yaml"));
    let mesh_file = case.join("mesh.yaml");
    let mesh: Mesh = if mesh_file.exists() {
        yaml(&mesh_file)
    } else {
        Mesh::default()
    };
    let values = Values::parse(&mesh.values.to_string()).unwrap();
    let mesh_config = MeshConfig::parse(&mesh.mesh_config.to_string()).unwrap();
    let config = Config {
        values: &values,
        mesh: &mesh_config,
        native_sidecars: mesh.native_sidecars,
        sleep_action: mesh.sleep_action,
    };
    let namespace = Namespace {
        name: &mesh.namespace,
        labels: mesh.namespace_labels.as_ref(),
        enforces: mesh.namespace_labels.as_ref().and_then(Level::of),
    };

    let got = match inject(&pod, &namespace, &config) {
        Err(refusal) => json!({"refused": refusal.to_string()}),
        Ok(Outcome::Skipped(skip)) => json!({"skipped": skip.as_str()}),
        Ok(Outcome::Injected(injected)) => {
            let mut patched = pod.clone();
            json_patch::patch(&mut patched, &injected.patch).map_err(|error| format!("{name}: {error}"))?;
            if patched != injected.pod {
                return Err(format!("{name}: the patch leads elsewhere:\n{patched:#}"));
            }
            let again = inject(&injected.pod, &namespace, &config);
            if !matches!(again, Ok(Outcome::Skipped(webhook::inject::Skip::AlreadyInjected))) {
                return Err(format!("{name}: injecting twice: {again:?}"));
            }
            let (before, after) = (
                without_handlers(pod.clone()),
                without_sidecar(injected.pod.clone(), &pod),
            );
            if before != after {
                return Err(format!(
                    "{name}: something else was touched:\n{before:#}\nbecame\n{after:#}"
                ));
            }
            let mut got = json!({"pod": injected.pod});
            if !injected.warnings.is_empty() {
                got["warnings"] = json!(injected.warnings);
            }
            got
        }
    };

    let expected_file = case.join("expected.yaml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&expected_file, serde_yaml::to_string(&got).unwrap()).unwrap();
        return Ok(());
    }
    let expected: Value = yaml(&expected_file);
    if got == expected {
        return Ok(());
    }
    let difference = json_patch::diff(&expected, &got);
    Err(format!("{name}: differs from expected.yaml by\n{difference}"))
}

/// The API server sends pods that it has decoded; the command line is given any file.
#[test]
fn a_pod_of_any_shape_is_answered() {
    let values = Values::parse("").unwrap();
    let mesh = MeshConfig::default();
    let odd = [
        json!(null),
        json!(1),
        json!("text"),
        json!([]),
        json!([1, null, "x", {}]),
        json!({}),
        json!({"a": 1}),
    ];
    let pod = json!({
        "metadata": {"labels": {"a": "b"}, "annotations": {}, "ownerReferences": [{"controller": true}]},
        "spec": {
            "serviceAccountName": "web", "volumes": [{"name": "v", "projected": {"sources": []}}],
            "imagePullSecrets": [], "initContainers": [{"name": "i"}],
            "containers": [{
                "name": "c", "ports": [{}], "env": [{}], "envFrom": [{}], "securityContext": {},
                "readinessProbe": {"httpGet": {"port": 80, "host": ""}}, "lifecycle": {"preStop": {"httpGet": {"port": 1}}}
            }]
        }
    });
    let mut places = Vec::new();
    pointers(&pod, String::new(), &mut places);
    for native_sidecars in [true, false] {
        let config = Config {
            values: &values,
            mesh: &mesh,
            native_sidecars,
            sleep_action: native_sidecars,
        };
        for place in &places {
            for value in &odd {
                let mut pod = pod.clone();
                *pod.pointer_mut(place).unwrap() = value.clone();
                if let Ok(Outcome::Injected(injected)) = inject(
                    &pod,
                    &Namespace {
                        name: "shop",
                        labels: None,
                        enforces: None,
                    },
                    &config,
                ) {
                    let mut patched = pod.clone();
                    json_patch::patch(&mut patched, &injected.patch).unwrap();
                    assert_eq!(patched, injected.pod, "{place} {value}");
                    let again = inject(
                        &patched,
                        &Namespace {
                            name: "shop",
                            labels: None,
                            enforces: None,
                        },
                        &config,
                    );
                    assert!(
                        matches!(again, Ok(Outcome::Skipped(_))),
                        "half injected: {place} {value}"
                    );
                }
            }
        }
    }
}

fn pointers(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| pointers(value, format!("{at}/{key}"), places)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| pointers(value, format!("{at}/{index}"), places));
        }
        _ => {}
    }
    places.push(at);
}

/// The pod without the actions of probes and hooks, which injection may change, without its own containers of the mesh's
/// names, which are merged, and without the annotations by which Prometheus finds it.
fn without_handlers(mut pod: Value) -> Value {
    if let Some(annotations) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !name.starts_with("prometheus"));
        if annotations.is_empty() {
            pod["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    for list in ["initContainers", "containers"] {
        let mut containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        if let Some(containers) = &mut containers {
            containers.retain(|container| container["name"] != "istio-proxy" && container["name"] != "istio-init");
        }
        for container in containers.into_iter().flatten() {
            for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
                remove(container.get_mut(probe), &["httpGet", "tcpSocket", "grpc"]);
            }
            for hook in ["preStop", "postStart"] {
                remove(
                    container
                        .get_mut("lifecycle")
                        .and_then(|lifecycle| lifecycle.get_mut(hook)),
                    &["httpGet", "sleep"],
                );
            }
            // A hook that sleeps may be all there is.
            if container.pointer("/lifecycle/preStop") == Some(&json!({})) {
                container["lifecycle"].as_object_mut().unwrap().remove("preStop");
            }
            if container.get("lifecycle") == Some(&json!({})) {
                container.as_object_mut().unwrap().remove("lifecycle");
            }
        }
    }
    pod
}

fn remove(value: Option<&mut Value>, keys: &[&str]) {
    if let Some(map) = value.and_then(Value::as_object_mut) {
        map.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// The pod without all that injection may add.
fn without_sidecar(pod: Value, original: &Value) -> Value {
    let mut pod = without_handlers(pod);
    let mut added = vec!["istio-certs".to_owned(), "istio-data".to_owned()];
    let user = original["metadata"]["annotations"]["sidecar.istio.io/userVolume"].as_str();
    let user: Value = user.map_or(json!({}), |text| serde_json::from_str(text).unwrap());
    added.extend(user.as_object().unwrap().keys().cloned());
    for list in ["initContainers", "containers", "volumes", "imagePullSecrets"] {
        let given = original["spec"].get(list);
        let Some(items) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        items.retain(|item| {
            let there = given
                .and_then(Value::as_array)
                .is_some_and(|given| given.contains(item));
            there || (list != "imagePullSecrets" && !added.iter().any(|name| item["name"] == **name))
        });
        if given.is_none_or(|given| *given == json!([])) && items.is_empty() {
            pod["spec"].as_object_mut().unwrap().remove(list);
        }
    }
    for map in ["labels", "annotations"] {
        let given = original["metadata"].get(map);
        let Some(entries) = pod["metadata"].get_mut(map).and_then(Value::as_object_mut) else {
            continue;
        };
        for (key, value) in original["metadata"][map].as_object().into_iter().flatten() {
            // The two annotations that are ours to overwrite.
            if ["sidecar.istio.io/status", "istio.io/rev"].contains(&key.as_str()) {
                entries.insert(key.clone(), value.clone());
            }
        }
        entries.retain(|key, _| given.is_some_and(|given| given.get(key).is_some()));
        if entries.is_empty() {
            pod["metadata"].as_object_mut().unwrap().remove(map);
        }
    }
    if original.get("metadata").is_none() {
        pod.as_object_mut().unwrap().remove("metadata");
    }
    pod
}
