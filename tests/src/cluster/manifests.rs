//! The objects that the tests are made of. A pod's container is always `app`, and its label `app` is the pod's name.

use serde_json::{Value, json};

/// The image that holds all tools: as hack/image names it, by HUB and TAG.
#[must_use]
pub fn image() -> String {
    let of = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    format!("{}/bookshop:{}", of("HUB", "localhost/pinnace"), of("TAG", "dev"))
}

/// A container of that image.
#[must_use]
pub fn container(name: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name,
        "image": image(),
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    })
}

/// A pod that runs one tool.
#[must_use]
pub fn pod(name: &str, arguments: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {}},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 5,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container("app", arguments)],
        },
    })
}

/// A pod of a service account.
#[must_use]
pub fn pod_of(account: &str, name: &str, arguments: &[&str]) -> Value {
    let mut pod = pod(name, arguments);
    pod["spec"]["serviceAccountName"] = json!(account);
    pod
}

/// The arguments of a tool that calls every `interval` milliseconds until it is ended, which [`super::Load`] does.
#[must_use]
pub fn calls<'a>(url: &'a str, interval: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["get", url, "--count", "0", "--interval", interval, "--quiet"], more].concat()
}

/// A pod that answers with what it saw: HTTP on 9080, lines on 9070. Its service account has its name.
#[must_use]
pub fn echo(name: &str) -> Value {
    let mut pod = pod_of(name, name, &["echo"]);
    pod["spec"]["containers"][0]["ports"] = json!([
        {"name": "http", "containerPort": 9080},
        {"name": "tcp-lines", "containerPort": 9070},
    ]);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({"httpGet": {"path": "/health", "port": 9080}, "periodSeconds": 1, "timeoutSeconds": 3});
    pod
}

/// An echo with its service account and its Service.
#[must_use]
pub fn echo_with_service(name: &str) -> [Value; 3] {
    [service_account(name), service(name), echo(name)]
}

/// A service account.
#[must_use]
pub fn service_account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

/// A Service for the echo of that name.
#[must_use]
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 9080}, {"name": "tcp-lines", "port": 9070}],
        },
    })
}

/// A PeerAuthentication.
#[must_use]
pub fn peer_authentication(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// A DestinationRule for a host.
#[must_use]
pub fn destination_rule(name: &str, host: &str, policy: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name},
        "spec": {"host": host, "trafficPolicy": policy},
    })
}

/// A PeerAuthentication for a whole namespace, or for the mesh.
#[must_use]
pub fn mode(mode: &str) -> Value {
    peer_authentication("default", &json!({"mtls": {"mode": mode}}))
}
