//! The Secrets that hold the workloads' certificates: made, repaired, left alone where they are somebody else's, and in
//! use within seconds. Needs a cluster with the mesh (KUBECONFIG).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::manifests::{echo, pod_of, service_account};
use tests::cluster::{Certificate, Cluster, Namespace, START, SYSTEM, Sidecar, field, must, spiffe, until};

/// From the write of a Secret until its certificate is in use.
const IN_USE: Duration = Duration::from_secs(5);

/// From a deed until the operator has answered it with a Secret.
const REPAIR: Duration = Duration::from_secs(10);

fn system(kind: &str, name: &str) -> Value {
    serde_json::from_str(&must(&["--namespace", SYSTEM, "get", kind, name, "-o", "json"])).unwrap()
}

/// Waits for a certificate that is not this one in a Secret.
fn replaced(namespace: &Namespace, secret: &str, serial: &str) -> Certificate {
    until(&format!("{secret} is written anew"), REPAIR, || {
        let certificate = Certificate::of(&namespace.get("secret", secret)?)?;
        if certificate.serial == serial {
            Err(format!("still {serial}"))
        } else {
            Ok(certificate)
        }
    })
}

#[test]
fn a_service_account_in_use_has_its_secret() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("certs");
    // Names with dots, and the account of a pod that names none.
    let mut nameless = echo("nameless");
    nameless["spec"].as_object_mut().unwrap().remove("serviceAccountName");
    mesh.apply([
        service_account("unused"),
        service_account("with.dots"),
        pod_of("with.dots", "dotted", &["echo"]),
        nameless,
    ]);
    let root = field(&system("secret", "istio-ca-secret"), "root-cert.pem").unwrap();
    for (pod, account) in [("dotted", "with.dots"), ("nameless", "default")] {
        mesh.ready(pod, START);
        let secret = mesh.get("secret", &format!("istio.{account}")).unwrap();
        let owner = mesh.get("serviceaccount", account).unwrap();
        assert_eq!(secret["type"], "kubernetes.io/tls");
        let (labels, uid) = (&secret["metadata"]["labels"], &owner["metadata"]["uid"]);
        assert_eq!(labels["app.kubernetes.io/managed-by"], "pinnace");
        assert_eq!(&labels["security.pinnace.dev/service-account-uid"], uid);
        assert_eq!(&secret["metadata"]["ownerReferences"][0]["uid"], uid);
        let id = spiffe(&mesh, account);
        assert_eq!(secret["metadata"]["annotations"]["security.pinnace.dev/spiffe-id"], id);
        assert_eq!(field(&secret, "ca.crt").unwrap().trim(), root.trim());
        let certificate = Certificate::of(&secret).unwrap();
        assert_eq!(
            (certificate.uris.clone(), certificate.names),
            (vec![id.clone()], 1),
            "one name, the SPIFFE ID"
        );
        assert!(!certificate.authority && certificate.both_sides, "{certificate:?}");
        let leaf = Sidecar::of(&mesh, pod).leaf().unwrap();
        assert_eq!(leaf["identity"], id);
        assert_eq!(
            leaf["serial"].as_str().unwrap().trim_start_matches('0'),
            certificate.serial
        );
    }
    assert!(
        mesh.get("secret", "istio.unused").is_err(),
        "no certificate without a pod"
    );
}

#[test]
fn what_is_edited_or_deleted_is_made_anew_and_in_use_within_five_seconds() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("certs");
    mesh.apply([service_account("a"), echo("a")]);
    mesh.ready("a", START);
    let sidecar = Sidecar::of(&mesh, "a");
    let mut serial = Certificate::of(&mesh.get("secret", "istio.a").unwrap()).unwrap().serial;
    sidecar.uses(&serial, IN_USE);
    let junk = json!({"data": {"tls.key": "anVuaw=="}}).to_string();
    let roots = json!({"data": {"ca.crt": null}}).to_string();
    let deeds: [(&str, Vec<&str>); 3] = [
        (
            "a damaged key",
            vec!["patch", "secret", "istio.a", "--type=merge", "--patch", &junk],
        ),
        (
            "its roots removed",
            vec!["patch", "secret", "istio.a", "--type=merge", "--patch", &roots],
        ),
        ("the whole of it deleted", vec!["delete", "secret", "istio.a"]),
    ];
    for (what, deed) in deeds {
        mesh.must(&deed);
        let certificate = replaced(&mesh, "istio.a", &serial);
        assert_eq!(certificate.uris, [spiffe(&mesh, "a")], "{what}");
        // It is written as soon as it is issued.
        let mut late = Duration::ZERO;
        while sidecar.serial().unwrap() != certificate.serial {
            assert!(late < IN_USE, "{what}: not in use {late:?} after its issue");
            std::thread::sleep(Duration::from_millis(100));
            late = certificate.age();
        }
        serial = certificate.serial;
    }
    let restarts = mesh.get("pod", "a").unwrap()["status"]["initContainerStatuses"][1]["restartCount"].clone();
    assert_eq!(restarts, 0, "without a restart of the sidecar");
}

#[test]
fn a_label_that_is_changed_is_put_back() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("certs");
    mesh.apply([service_account("a"), echo("a")]);
    mesh.ready("a", START);
    let uid = mesh.get("secret", "istio.a").unwrap()["metadata"]["uid"].clone();
    mesh.must(&[
        "label",
        "secret",
        "istio.a",
        "security.pinnace.dev/service-account-uid=other",
        "--overwrite",
    ]);
    let own = mesh.get("serviceaccount", "a").unwrap()["metadata"]["uid"].clone();
    until("the label is right again", REPAIR, || {
        let secret = mesh.get("secret", "istio.a")?;
        let label = &secret["metadata"]["labels"]["security.pinnace.dev/service-account-uid"];
        if *label == own { Ok(()) } else { Err(label.to_string()) }
    });
    assert_eq!(mesh.get("secret", "istio.a").unwrap()["metadata"]["uid"], uid);
}

#[test]
fn a_secret_of_somebody_else_is_left_alone_and_an_event_names_it() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("certs");
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "istio.a"}, "stringData": {"mine": "keep"},
    });
    mesh.apply([service_account("a"), theirs]);
    let before = mesh.get("secret", "istio.a").unwrap();
    mesh.apply([echo("a")]);
    for kind in ["ServiceAccount", "Pod"] {
        until(&format!("an event about the {kind}"), START, || {
            let selector = format!("involvedObject.kind={kind},involvedObject.name=a,reason=CertificateSecretNotOurs");
            let events = mesh
                .kubectl(&["get", "events", "-o", "json", "--field-selector", &selector])
                .ok()?;
            let events: Value = serde_json::from_str(&events).map_err(|error| error.to_string())?;
            let message = events["items"][0]["message"].as_str().ok_or("no event")?.to_owned();
            if message.contains("istio.a") {
                Ok(())
            } else {
                Err(message)
            }
        });
    }
    let (now, pod) = (mesh.get("secret", "istio.a").unwrap(), mesh.get("pod", "a").unwrap());
    assert_eq!(now, before, "not a byte of it is changed");
    let sidecar = &pod["status"]["initContainerStatuses"][1];
    assert_ne!(
        sidecar["ready"], true,
        "without a certificate the sidecar is not ready: {sidecar}"
    );
    // Its owner gives it up.
    mesh.must(&["delete", "secret", "istio.a"]);
    mesh.ready("a", START);
}

#[test]
fn a_secret_goes_with_its_service_account() {
    let Some(_cluster) = Cluster::shared() else { return };
    let mesh = Namespace::injected("certs");
    mesh.apply([service_account("a"), echo("a")]);
    mesh.ready("a", START);
    mesh.must(&["delete", "pod", "a", "--wait=true"]);
    mesh.must(&["delete", "serviceaccount", "a"]);
    until("the Secret is gone", START, || match mesh.get("secret", "istio.a") {
        Err(why) if why.contains("NotFound") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
