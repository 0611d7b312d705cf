//! Istio's task "External Authorization" as it is written, with namespaces of the test's own: providers over gRPC and HTTP in
//! the mesh's configuration, and a policy that asks one of them about `/headers`. The configuration is changed by the chart,
//! so this test has the cluster to itself. Needs a cluster with the mesh (KUBECONFIG), installed by helm as `pinnace`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tests::cluster::manifests::{echo_with_service, pod_of, service_account};
use tests::cluster::{Cluster, Namespace, POLICY, Release, START, must_with, until};

const DENIED: &str = "denied by ext_authz for not found header `x-ext-authz: allow` in the request";

/// The authorizer, with a sidecar or without.
fn authorizer(name: &str, injected: bool) -> [Value; 3] {
    let mut pod = pod_of(name, name, &["ext-authz", "--allow-service-account", "client"]);
    pod["metadata"]["labels"]["sidecar.istio.io/inject"] = json!(injected.to_string());
    let ports = json!([{"name": "http", "port": 8000}, {"name": "grpc", "port": 9000}]);
    [
        service_account(name),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": ports},
        }),
        pod,
    ]
}

/// The policy of the task.
fn policy(provider: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: ext-authz\nspec:\n  selector:\n    \
         matchLabels:\n      app: server\n  action: CUSTOM\n  provider:\n    name: {provider}\n  rules:\n  - to:\n    - operation:\n        \
         paths: [\"/headers\"]\n"
    )
}

fn call(mesh: &Namespace, path: &str, word: Option<&str>) -> String {
    let url = format!("http://server:9080{path}");
    let header = word.map(|word| format!("x-ext-authz: {word}"));
    let mut arguments = vec!["get", &url, "--body", "--timeout", "5000"];
    if let Some(header) = &header {
        arguments.extend(["--header", header]);
    }
    mesh.bookshop("client", &arguments).all()
}

#[test]
fn the_task_of_the_documentation() {
    let Some(_cluster) = Cluster::alone() else { return };
    let Some(mut release) = Release::now() else { return };
    let mesh = Namespace::injected("foo");
    let host = |name: &str| format!("{name}.{}.svc.cluster.local", mesh.name);
    let grpc = |name: &str, host: String| json!({"name": name, "envoyExtAuthzGrpc": {"service": host, "port": 9000}});
    let http = |name: &str, host: String| {
        let provider = json!({
            "service": host, "port": 8000, "includeRequestHeadersInCheck": ["x-ext-authz"],
            "headersToUpstreamOnAllow": ["x-ext-authz-check-result"],
        });
        json!({"name": name, "envoyExtAuthzHttp": provider})
    };
    let providers = json!([
        grpc("sample-ext-authz-grpc", host("ext-authz")),
        http("sample-ext-authz-http", host("ext-authz")),
        grpc("inside-grpc", host("inside")),
        http("inside-http", host("inside")),
    ]);
    release.upgrade(&["--set-json", &format!("meshConfig.extensionProviders={providers}")]);

    mesh.apply(authorizer("ext-authz", false));
    mesh.apply(authorizer("inside", true));
    mesh.apply(["server", "client"].into_iter().flat_map(echo_with_service));
    for pod in ["ext-authz", "inside", "server", "client"] {
        mesh.ready(pod, START);
    }
    // Nobody but sidecars may ask this one.
    mesh.apply([tests::cluster::manifests::peer_authentication(
        "inside",
        &json!({"selector": {"matchLabels": {"app": "inside"}}, "mtls": {"mode": "STRICT"}}),
    )]);
    let answers = |what: &str, path: &str, word: Option<&str>, expected: &[&str]| {
        until(what, POLICY, || {
            let said = call(&mesh, path, word);
            match expected.iter().all(|expected| said.contains(expected)) {
                true => Ok(()),
                false => Err(said),
            }
        });
    };
    answers("without a policy", "/headers", Some("deny"), &["200"]);
    for provider in [
        "sample-ext-authz-grpc",
        "sample-ext-authz-http",
        "inside-grpc",
        "inside-http",
    ] {
        must_with(&["--namespace", &mesh.name, "apply", "-f", "-"], &policy(provider));
        answers(
            &format!("{provider} denies"),
            "/headers",
            Some("deny"),
            &["403", DENIED],
        );
        answers(
            &format!("{provider} allows"),
            "/headers",
            Some("allow"),
            &["200", "x-ext-authz-check-result", "allowed"],
        );
        answers(&format!("{provider} is not asked"), "/ip", None, &["200"]);
        let (holds, _) = mesh.condition("authorizationpolicy", "ext-authz", "Complete", "AllFields");
        assert!(holds);
    }
    must_with(&["--namespace", &mesh.name, "apply", "-f", "-"], &policy("unknown"));
    answers("a provider that is not there", "/headers", Some("allow"), &["403"]);
    let (_, told) = mesh.condition("authorizationpolicy", "ext-authz", "Complete", "ProviderNotAsked");
    assert!(
        told.contains("meshConfig.extensionProviders has none of this name"),
        "{told}"
    );
    release.roll_back();
}
