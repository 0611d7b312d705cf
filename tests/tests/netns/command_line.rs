//! The command line's view of live sidecars, without a cluster between: it runs in the pod's namespace.

use std::process::Output;

use serde_json::Value;

use super::http::{application, fetch};
use super::pod::Pod;
use super::world::{CLIENT_ID, FIXTURES, SERVER, SERVER_ID, World, binary, eventually};

/// Runs `pinnace proxy-config` against a pod's sidecar.
fn ask(pod: &Pod, arguments: &str) -> Output {
    let mut command = pod.command(binary("pinnace").to_str().unwrap());
    command.arg("proxy-config").args(arguments.split(' '));
    command.args(["--forwarded", "127.0.0.1:15000"]);
    command.output().unwrap()
}

fn table(pod: &Pod, arguments: &str) -> String {
    let output = ask(pod, arguments);
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn json(pod: &Pod, arguments: &str) -> Value {
    serde_json::from_str(&table(pod, &format!("{arguments} -o json"))).unwrap()
}

/// The cells of the row that has all of these.
fn row(table: &str, cells: &[&str]) -> Vec<String> {
    let split = |line: &str| -> Vec<String> {
        let parts = line.split("     ").map(str::trim).filter(|cell| !cell.is_empty());
        parts.map(str::to_owned).collect()
    };
    let found = table
        .lines()
        .map(split)
        .find(|row| cells.iter().all(|cell| row.iter().any(|it| it == cell)));
    found.unwrap_or_else(|| panic!("no row with {cells:?}:\n{table}"))
}

const POLICY: &str = "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

#[test]
fn what_a_live_sidecar_holds_is_shown_under_istios_names() {
    let Some((world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    assert_eq!(fetch(&client, "10.96.0.2:80", "server", "/").unwrap().status(), 200);

    let cluster = "outbound|80||server.shop.svc.cluster.local";
    let clusters = table(&client, "clusters");
    row(
        &clusters,
        &[
            "SERVICE FQDN",
            "PORT",
            "SUBSET",
            "DIRECTION",
            "TYPE",
            "DESTINATION RULE",
        ],
    );
    row(&clusters, &["server.shop.svc.cluster.local", "80", "outbound", "EDS"]);
    row(&clusters, &["PassthroughCluster", "ORIGINAL_DST"]);
    row(&table(&server, "clusters --direction inbound"), &["8080", "inbound"]);
    let shown = json(&client, "clusters --fqdn server.shop.svc.cluster.local --port 80");
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["name"], cluster);
    let context = &shown[0]["tls_context"];
    assert_eq!(context["sni"], "outbound_.80_._.server.shop.svc.cluster.local");
    assert_eq!(context["common_tls_context"]["match_subject_alt_names"][0], SERVER_ID);
    assert_eq!(context["common_tls_context"]["tls_certificate_serial"], client.serial());
    assert!(table(&client, "clusters -o yaml").contains("tls_context:\n    common_tls_context:"));

    let endpoint = format!("{SERVER}:8080");
    row(
        &table(&client, &format!("endpoints --cluster {cluster}")),
        &[&endpoint, "HEALTHY", "OK", cluster, SERVER_ID],
    );
    let listeners = table(&client, "listeners");
    row(&listeners, &["0.0.0.0", "80", "Route: 80"]);
    row(&listeners, &["10.96.0.2", "80", "ALL", &format!("Cluster: {cluster}")]);
    row(&listeners, &["0.0.0.0", "15001", "PassthroughCluster"]);

    let secrets = table(&client, "secret");
    row(
        &secrets,
        &[
            "default",
            "Cert Chain",
            "ACTIVE",
            "true",
            &client.serial(),
            "cluster.local",
            CLIENT_ID,
        ],
    );
    row(&secrets, &["ROOTCA", "CA", "true"]);
    assert!(!json(&client, "secret").to_string().to_lowercase().contains("private"));

    row(
        &table(&server, "policies"),
        &["PeerAuthentication", "*", "PERMISSIVE", "the mesh's default"],
    );
    world.fixtures(&format!("{FIXTURES}{POLICY}"));
    eventually("the policy is shown", || {
        json(&server, "policies")["policies"][0]["decided_by"] == serde_json::json!(["shop/default"])
    });
    row(&table(&server, "policies"), &["*", "STRICT", "shop/default"]);
    row(
        &table(&server, "listeners --port 15006"),
        &["Trans: tls; Addr: *:8080", "Cluster: inbound|8080||"],
    );
}

#[test]
fn the_log_level_of_a_live_sidecar_is_changed() {
    let Some((world, client, _server)) = World::pair(FIXTURES) else {
        return;
    };
    assert!(table(&client, "log").contains("info,proxy=debug"));
    assert!(!world.log("client-sidecar").contains("TRACE"));
    let changed = table(&client, "log --level proxy:trace,h2:trace");
    assert!(changed.contains("info,proxy=trace,h2=trace"), "{changed}");
    // The stream's keep-alive alone makes h2 speak.
    let _ = fetch(&client, "10.96.0.9:80", "nobody", "/");
    world.logged("client-sidecar", "TRACE");
    assert!(table(&client, "log --reset").contains("info\n"));

    let refused = ask(&client, "log --level loud");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("loud") && said.contains("accepted are"), "{said}");
    let silent = client
        .command(binary("pinnace").to_str().unwrap())
        .args(["pc", "clusters", "--forwarded", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(silent.status.code(), Some(5));
    assert!(
        String::from_utf8(silent.stderr)
            .unwrap()
            .starts_with("error: 127.0.0.1:1: ")
    );
}
