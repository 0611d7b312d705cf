use super::*;

const PLACES: Places<'_> = Places {
    namespace: "default",
    system: "istio-system",
};

fn mesh(text: &str) -> Result<Mesh, Failure> {
    let mut documents = Vec::new();
    files::split(text, "test", &mut documents);
    read(documents, PLACES, None)
}

/// A Deployment with a Service of its name, 80 to 8080 and 9090 to itself.
fn deployment(place: &str, more: &str) -> String {
    let (namespace, name) = place.split_once('/').unwrap();
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  template:
    metadata: {{labels: {{app: {name}{more}}}}}
    spec:
      serviceAccountName: {name}
      containers: [{{name: app, ports: [{{name: http, containerPort: 8080}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: http}}, {{port: 9090}}, {{port: 53, protocol: UDP}}]
---
"
    )
}

fn resource(kind: &str, place: &str, spec: &str) -> String {
    let (namespace, name) = place.split_once('/').unwrap();
    let group = if kind == "DestinationRule" {
        "networking"
    } else {
        "security"
    };
    format!(
        "apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

/// web, cart and db in a namespace with sidecars, db without one; legacy in another without.
fn shop() -> String {
    let namespace = |name: &str, labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n")
    };
    [
        namespace("shop", "istio-injection: enabled"),
        namespace("old", ""),
        deployment("shop/web", ""),
        deployment("shop/cart", ""),
        deployment("shop/db", ", sidecar.istio.io/inject: 'false'"),
        deployment("old/legacy", ""),
    ]
    .concat()
}

/// `DECISION PORTS REASON BY` of calls of one workload to another.
fn told(mesh: &Mesh, source: &str, destination: &str) -> Vec<String> {
    let find = |name: &str| mesh.workloads.iter().find(|it| is_meant(it, name)).unwrap();
    let mut answers = Vec::new();
    mesh.answers(find(source), find(destination), &mut answers);
    let line = |answer: &Answer| {
        let ports: Vec<String> = answer
            .ports
            .iter()
            .map(|port| format!("{}>{}", port.port, port.target_port))
            .collect();
        let by = answer.decided_by.join(" ");
        format!("{} {} {} [{by}]", answer.decision, ports.join(","), answer.reason)
    };
    answers.iter().map(line).collect()
}

#[test]
fn calls_are_what_both_sides_make_of_them() {
    const BOTH: &str = "80>8080,9090>9090";
    let strict = resource("PeerAuthentication", "istio-system/default", "{mtls: {mode: STRICT}}");
    let by_strict = "[PeerAuthentication/istio-system/default]";
    let rule = |mode: &str| {
        let spec = format!("{{host: cart, trafficPolicy: {{tls: {{mode: {mode}}}}}}}");
        resource("DestinationRule", "shop/cart", &spec)
    };
    let by_port = resource(
        "PeerAuthentication",
        "shop/cart",
        "{selector: {matchLabels: {app: cart}}, portLevelMtls: {8080: {mode: DISABLE}}}",
    );
    let port_rule = resource(
        "DestinationRule",
        "istio-system/all",
        "{host: '*.local', trafficPolicy: {portLevelSettings: [{port: {number: 9090}, tls: {mode: DISABLE}}]}}",
    );
    let off = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'enableAutoMtls: false'}\n---\n";
    let rows: &[(&str, String, &str, &str, &[String])] = &[
        ("automatic", String::new(), "web", "cart", &[format!("mTLS {BOTH} automatic mutual TLS []")]),
        ("to no sidecar", String::new(), "web", "db", &[format!("plaintext {BOTH} the server has no sidecar []")]),
        ("from no sidecar", String::new(), "legacy", "cart", &[format!("plaintext {BOTH} the client has no sidecar []")]),
        ("STRICT", strict.clone(), "web", "cart", &[format!("mTLS {BOTH} automatic mutual TLS {by_strict}")]),
        (
            "STRICT from no sidecar",
            strict.clone(),
            "db",
            "cart",
            &[format!("refused {BOTH} the client has no sidecar, and the port's mode is STRICT {by_strict}")],
        ),
        (
            "STRICT to no sidecar is not in force",
            strict.clone(),
            "legacy",
            "db",
            &[format!("plaintext {BOTH} the client has no sidecar []")],
        ),
        (
            "a rule against it",
            rule("DISABLE") + &strict,
            "web",
            "cart",
            &[format!(
                "refused {BOTH} plaintext, and the port's mode is STRICT [PeerAuthentication/istio-system/default DestinationRule/shop/cart]"
            )],
        ),
        (
            "a rule is not for clients without a sidecar",
            rule("ISTIO_MUTUAL"),
            "legacy",
            "cart",
            &[format!("plaintext {BOTH} the client has no sidecar []")],
        ),
        (
            "a rule for what has no sidecar",
            rule("ISTIO_MUTUAL").replace("host: cart", "host: db"),
            "web",
            "db",
            &[format!("refused {BOTH} mutual TLS, and the server has no sidecar to take it [DestinationRule/shop/cart]")],
        ),
        (
            "ports differ by mode",
            by_port.clone() + &strict,
            "web",
            "cart",
            &[
                "plaintext 80>8080 the port's mode is DISABLE [PeerAuthentication/shop/cart]".to_owned(),
                "mTLS 9090>9090 automatic mutual TLS [PeerAuthentication/shop/cart PeerAuthentication/istio-system/default]"
                    .to_owned(),
            ],
        ),
        (
            "ports differ by rule",
            port_rule,
            "web",
            "cart",
            &[
                "mTLS 80>8080 automatic mutual TLS []".to_owned(),
                "plaintext 9090>9090 the DestinationRule says DISABLE [DestinationRule/istio-system/all]".to_owned(),
            ],
        ),
        (
            "automatic mutual TLS is off",
            off.to_owned(),
            "web",
            "cart",
            &[format!("plaintext {BOTH} automatic mutual TLS is off [ConfigMap/istio-system/istio]")],
        ),
        (
            "off, and STRICT",
            off.to_owned() + &strict,
            "web",
            "cart",
            &[format!(
                "refused {BOTH} plaintext, and the port's mode is STRICT [PeerAuthentication/istio-system/default ConfigMap/istio-system/istio]"
            )],
        ),
    ];
    for (case, more, source, destination, expected) in rows {
        let mesh = mesh(&(shop() + more)).unwrap();
        assert_eq!(told(&mesh, source, destination), *expected, "{case}");
    }
}

#[test]
fn every_kind_of_workload_is_found_once() {
    let template = "{metadata: {labels: {app: a}}, spec: {containers: []}}";
    let mut text =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n---\n"
            .to_owned();
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"] {
        text +=
            &format!("apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{template: {template}}}\n---\n");
    }
    text += &format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: a}}\nspec: {{template: {template}}}\n---\n");
    text += &format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: a}}\nspec: {{jobTemplate: {{spec: {{template: {template}}}}}}}\n---\n"
    );
    let pod = |name: &str, owner: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, ownerReferences: [{{controller: true, kind: ReplicaSet, name: {owner}}}]}}\n{more}\n---\n"
        )
    };
    text += &pod("of-a", "a", "spec: {containers: []}");
    text += &pod("of-another", "b", "spec: {containers: []}");
    text += &pod("done", "b", "status: {phase: Succeeded}");
    text += &pod("on-host", "b", "spec: {hostNetwork: true}");
    // A kind of another group, and one that is no workload.
    text += "apiVersion: serving.example/v1\nkind: Deployment\nmetadata: {name: other}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    let mesh = mesh(&text).unwrap();
    let titles: Vec<String> = mesh
        .workloads
        .iter()
        .map(|it| format!("{} {}", it.title(), it.sidecar()))
        .collect();
    assert_eq!(
        titles,
        [
            "cronjob/a.default true",
            "daemonset/a.default true",
            "deployment/a.default true",
            "job/a.default true",
            "replicaset/a.default true",
            "statefulset/a.default true",
            "pod/of-another.default true",
            "pod/on-host.default false",
        ]
    );
    assert_eq!(told(&mesh, "deployment/a", "job/a"), ["mTLS  automatic mutual TLS []"]);
    assert!(mesh.unknown.is_empty());
}

#[test]
fn who_is_injected_is_decided_as_the_webhook_does() {
    let canary = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-sidecar-injector-canary, namespace: istio-system}\ndata: {values: 'revision: canary'}\n---\n";
    let main = canary.replace("-canary,", ",").replace("'revision: canary'", "''");
    let namespace =
        |labels: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: n, labels: {{{labels}}}}}\n---\n");
    for (text, more, expected) in [
        (namespace("istio-injection: enabled"), "", ""),
        (
            namespace("istio-injection: disabled"),
            ", sidecar.istio.io/inject: 'true'",
            "neither its namespace's labels",
        ),
        (namespace(""), ", sidecar.istio.io/inject: 'true'", ""),
        (
            namespace("istio-injection: enabled"),
            ", sidecar.istio.io/inject: 'false'",
            "neither its namespace's labels",
        ),
        (namespace("istio.io/rev: canary"), "", "neither its namespace's labels"),
        (namespace("istio.io/rev: canary") + canary, "", ""),
        (namespace("istio.io/rev: canary") + canary + &main, "", ""),
        (namespace("istio-injection: enabled") + canary + &main, "", ""),
        // Nothing is known of the namespace.
        (String::new(), "", "neither its namespace's labels"),
    ] {
        let mesh = mesh(&(text.clone() + &deployment("n/a", more))).unwrap();
        let why = mesh.workloads[0].without_sidecar.clone().unwrap_or_default();
        assert!(
            why.starts_with(expected) && why.is_empty() == expected.is_empty(),
            "{text}{more}: {why}"
        );
    }
}

#[test]
fn callers_for_whom_the_same_is_true_share_a_row() {
    let mut text = shop();
    for name in ["a", "b", "c", "d"] {
        text += &deployment(&format!("old/{name}"), "");
    }
    let mesh = mesh(&text).unwrap();
    let mut answers = Vec::new();
    for destination in mesh.workloads.iter().filter(|it| it.name == "cart") {
        for source in mesh.workloads.iter().filter(|it| it.name != "cart") {
            mesh.answers(source, destination, &mut answers);
        }
    }
    let table = shown::table(&answers).text(false);
    let rows: Vec<String> = table
        .lines()
        .map(|line| {
            line.split("  ")
                .filter(|it| !it.is_empty())
                .map(str::trim)
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    assert_eq!(
        rows,
        [
            "DESTINATION|PORTS|SOURCE|DECISION|REASON|DECIDED BY",
            "deployment/cart.shop|cart:80, cart:9090|deployment/a.old, deployment/b.old, deployment/c.old and 3 more|plaintext|the client has no sidecar",
            "deployment/cart.shop|cart:80, cart:9090|deployment/web.shop|mTLS|automatic mutual TLS",
        ]
    );
}

#[test]
fn candidates_count_where_their_set_is_asked_for() {
    let candidate = resource("PeerAuthentication", "shop/strict", "{mtls: {mode: STRICT}}").replace(
        "namespace: shop",
        "namespace: shop, labels: {policy.pinnace.dev/candidate: go}",
    );
    let decision = |set: Option<&str>| {
        let mut documents = Vec::new();
        files::split(&(shop() + &candidate), "test", &mut documents);
        let mesh = read(documents, PLACES, set)?;
        let told = told(&mesh, "legacy", "cart").remove(0);
        Ok::<_, Failure>(told.split(' ').next().unwrap_or_default().to_owned())
    };
    assert_eq!(decision(None).unwrap(), "plaintext");
    assert_eq!(decision(Some("go")).unwrap(), "refused");
    assert!(decision(Some("no")).is_err());
}

#[test]
fn what_is_wrong_is_named() {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {a: b}, ports: [{port: 70000}]}";
    let injector = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-sidecar-injector, namespace: istio-system}\ndata: {values: 'policy: perhaps'}";
    let rule = resource(
        "DestinationRule",
        "a/b",
        "{host: c, trafficPolicy: {tls: {mode: MTLS}}}",
    );
    for (text, expected) in [
        (service, "test: default/s: spec.ports[0].port: 70000 is no port"),
        (injector, "test: istio-system/istio-sidecar-injector: values"),
        (rule.as_str(), "test: a/b: spec.trafficPolicy.tls.mode"),
        ("{", "test: "),
    ] {
        let failure = mesh(text).map(|_| ()).unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
}
