//! The command line against the cluster: the binary that was built, asked about live sidecars and all of the operator's
//! replicas. Needs a cluster with the mesh (KUBECONFIG), and `cargo build --workspace --bins`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::manifests::{echo_with_service, mode};
use tests::cluster::{Cluster, Namespace, POLICY, START, SYSTEM, Said, Sidecar, must, run, spiffe, until};

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The command line as it was built, beside this test.
fn binary() -> PathBuf {
    let built = match std::env::var_os("PINNACE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        // target/TRIPLE/PROFILE/deps/this
        None => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned(),
    };
    let path = built.join("pinnace");
    assert!(
        path.exists(),
        "{} is not there: cargo build --workspace --bins, or set PINNACE_BIN_DIR",
        path.display()
    );
    path
}

fn ask(line: &str) -> Said {
    let arguments: Vec<&str> = line.split(' ').collect();
    run(binary().to_str().unwrap(), &arguments, "", LIMIT)
}

fn table(line: &str) -> String {
    let said = ask(line);
    assert!(said.good, "pinnace {line}: {}", said.all());
    said.out
}

fn json(line: &str) -> Value {
    serde_json::from_str(&table(&format!("{line} -o json"))).unwrap()
}

/// The exit status of a command that must fail, and what it said.
fn fails(line: &str) -> (i32, String) {
    let output = std::process::Command::new(binary())
        .args(line.split(' '))
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn live_sidecars_are_shown_from_every_replica() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("cli");
    mesh.apply(["client", "server"].into_iter().flat_map(echo_with_service));
    for name in ["client", "server"] {
        mesh.ready(name, START);
    }
    until("the client is answered", START, || {
        mesh.echoed("client", "http://server:9080/")
    });

    // proxy-status: one row per proxy, whichever replica serves it.
    let rows = until("both proxies are in step", POLICY, || {
        let rows = json(&format!("proxy-status -n {}", mesh.name));
        let rows = rows.as_array().unwrap().clone();
        let synced = |row: &Value| {
            [
                "TrustBundle",
                "Workload",
                "InboundPolicy",
                "AuthorizationPolicies",
                "RequestAuthentications",
            ]
            .iter()
            .all(|kind| row["types"][kind]["status"] == "SYNCED")
        };
        if rows.len() == 2 && rows.iter().all(synced) {
            Ok(rows)
        } else {
            Err(format!("{rows:?}"))
        }
    });
    let operators = must(&[
        "--namespace",
        SYSTEM,
        "get",
        "pods",
        "--selector",
        "app=pinnace-operator",
        "-o",
        "name",
    ]);
    for (row, name) in rows.iter().zip(["client", "server"]) {
        assert_eq!(row["name"], format!("{name}.{}", mesh.name));
        assert_eq!(row["identity"], spiffe(&mesh, name));
        let operator = row["operator"].as_str().unwrap();
        assert!(
            operators.lines().any(|line| line == format!("pod/{operator}")),
            "{operator} in {operators}"
        );
    }
    assert_eq!(rows[0]["types"]["Destination"]["status"], "SYNCED");
    let shown = table("ps");
    assert!(
        shown.starts_with("NAME ") && shown.contains(&format!("client.{}", mesh.name)),
        "{shown}"
    );

    // proxy-config: by pod, and the same by its namespace and type.
    let host = format!("server.{}.svc.cluster.local", mesh.name);
    let clusters = json(&format!("pc clusters client.{} --fqdn {host} --port 9080", mesh.name));
    let again = json(&format!(
        "proxy-config cluster pod/client -n {} --fqdn {host} --port 9080",
        mesh.name
    ));
    assert_eq!(again[0]["name"], clusters[0]["name"]);
    let common = &clusters[0]["tls_context"]["common_tls_context"];
    assert_eq!(clusters[0]["name"], format!("outbound|9080||{host}"));
    assert_eq!(common["match_subject_alt_names"], json!([spiffe(&mesh, "server")]));
    let endpoint = format!("{}:9080", mesh.address("server"));
    let endpoints = table(&format!(
        "pc endpoints client.{} --cluster outbound|9080||{host}",
        mesh.name
    ));
    assert!(
        endpoints.contains(&endpoint) && endpoints.contains(&spiffe(&mesh, "server")),
        "{endpoints}"
    );
    let serial = Sidecar::of(&mesh, "client").serial().unwrap();
    let secret = table(&format!("pc secret client.{}", mesh.name));
    assert!(secret.contains(&serial) && secret.contains("ROOTCA"), "{secret}");
    assert!(!secret.contains("PRIVATE"), "{secret}");
    mesh.apply([mode("STRICT")]);
    until("the policy in force is shown", POLICY, || {
        let policies = table(&format!("pc policies server.{}", mesh.name));
        let shown = policies.contains("STRICT") && policies.contains(&format!("{}/default", mesh.name));
        if shown { Ok(()) } else { Err(policies) }
    });
    let listeners = table(&format!("pc listeners server.{} --port 15006", mesh.name));
    assert!(listeners.contains("Trans: tls; Addr: *:9080"), "{listeners}");

    // The level changes in the live sidecar.
    let changed = table(&format!("pc log client.{} --level proxy:debug", mesh.name));
    assert!(changed.contains("proxy=debug"), "{changed}");
    let page = Sidecar::of(&mesh, "client").page("/logging").unwrap();
    assert!(page.contains("proxy=debug"), "{page}");

    let version = table("version");
    let own = env!("CARGO_PKG_VERSION");
    for line in ["client version: ", "control plane version: ", "data plane version: "] {
        assert!(version.contains(&format!("{line}{own}")), "{version}");
    }
    let replicas: BTreeSet<String> = json("version")["meshVersion"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["Component"] == "operator")
        .map(|it| format!("pod/{}", it["Replica"].as_str().unwrap()))
        .collect();
    assert_eq!(replicas, operators.lines().map(str::to_owned).collect());
}

#[test]
fn failures_say_what_to_do_and_have_a_status() {
    let Some(_cluster) = Cluster::shared() else { return };
    let plain = Namespace::plain("cli");
    plain.apply(echo_with_service("alone"));
    plain.ready("alone", START);
    for (line, status, words) in [
        (
            format!("pc clusters alone.{}", plain.name),
            4,
            "istio-injection=enabled",
        ),
        (format!("pc clusters nobody.{}", plain.name), 4, "get pods"),
        (format!("pc clusters deployment/nobody.{}", plain.name), 4, "nobody"),
        (format!("pc clusters service/alone.{}", plain.name), 4, "no sidecar"),
        ("pc clusters thing/nobody".to_owned(), 2, "deployment"),
        (format!("ps -i {}", plain.name), 4, "--istioNamespace"),
        (format!("ps nobody.{}", plain.name), 4, "no proxy"),
        ("ps --context nowhere".to_owned(), 3, "--context"),
    ] {
        let (found, said) = fails(&line);
        assert!(
            found == status && said.starts_with("error: ") && said.contains(words),
            "pinnace {line}: {found}: {said}"
        );
    }
}

#[test]
fn what_is_to_be_migrated_is_found_in_the_cluster() {
    let Some(_cluster) = Cluster::shared() else { return };
    let namespace = Namespace::plain("migrate");
    let of = |kind: &str, spec: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "m"}, "spec": spec});
    let route = json!([{"destination": {"host": "a"}}]);
    let migrate = format!("migrate --cluster -n {}", namespace.name);
    namespace.apply([of(
        "VirtualService",
        json!({"hosts": ["a"], "http": [{"route": route}]}),
    )]);
    assert_eq!(json(&migrate), json!([]));
    namespace.apply([
        of(
            "VirtualService",
            json!({"hosts": ["a"], "gateways": ["mesh", "g"], "http": [{"route": route}]}),
        ),
        of(
            "Sidecar",
            json!({"ingress": [{"port": {"number": 80, "protocol": "HTTP"}}]}),
        ),
    ]);
    let said = ask(&format!("{migrate} -o json"));
    assert!(!said.good, "{}", said.all());
    let found: Value = serde_json::from_str(&said.out).unwrap();
    let found = found.as_array().unwrap().iter();
    let fields: BTreeSet<_> = found
        .map(|it| (it["kind"].as_str().unwrap(), it["field"].as_str().unwrap()))
        .collect();
    let expected = [("Sidecar", "spec.ingress"), ("VirtualService", "spec.gateways[1]")];
    assert_eq!(fields, BTreeSet::from(expected), "{}", said.out);
}
