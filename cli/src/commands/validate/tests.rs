use serde_json::{Value, json};
use std::fs;
use std::path::Path;

use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("pinnace-validate-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn verdicts(&self) -> Value {
        verdicts(&[&self.0])
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn verdicts(paths: &[&Path]) -> Value {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    let documents = files::documents(&paths).unwrap().into_iter();
    let said: Vec<Verdict> = documents
        .filter_map(|document| verdict(document, "shop", "istio-system"))
        .collect();
    serde_json::to_value(said).unwrap()
}

#[test]
fn what_is_accepted_and_what_is_not() {
    let folder = Folder::with(
        "mixed",
        &[
            (
                "a.yaml",
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: pa}\n\
                 spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {8080: {mode: STRICT}}}\n---\n---\n\
                 apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: not-the-meshs}\n",
            ),
            (
                "deeper/b.yml",
                "apiVersion: v1\nkind: List\nitems:\n\
                 - apiVersion: security.istio.io/v1beta1\n  kind: AuthorizationPolicy\n  metadata: {name: ap, namespace: a}\n  \
                 spec: {rules: [{form: [], from: [{source: {ipBlocks: [host]}}]}]}\n",
            ),
            (
                "deeper/c.json",
                r#"{"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": {"name": "ra"},
                    "spec": {"jwtRules": [{"issuer": "https://a"}]}}"#,
            ),
            ("notes.txt", "not: read: at: all"),
        ],
    );
    assert_eq!(
        folder.verdicts(),
        json!([
            {"kind": "PeerAuthentication", "namespace": "shop", "name": "pa", "valid": true, "errors": [], "warnings": []},
            {
                "kind": "AuthorizationPolicy", "namespace": "a", "name": "ap", "valid": false,
                "errors": [
                    {
                        "field": "spec.rules[0].form",
                        "message": "\"[]\" is not accepted, expected no such field, but one of from, to, when"
                    },
                    {
                        "field": "spec.rules[0].from[0].source.ipBlocks[0]",
                        "message": "\"host\" is not accepted, expected an IP address, or a range such as 10.1.0.0/16"
                    }
                ],
                "warnings": []
            },
            {
                "kind": "RequestAuthentication", "namespace": "shop", "name": "ra", "valid": true, "errors": [],
                "warnings": [
                    "spec.jwtRules[0] has no audiences: tokens that \"https://a\" made for other services are accepted too"
                ]
            }
        ])
    );
}

#[test]
fn what_is_no_resource_is_told_by_its_field() {
    for (text, field, begins) in [
        ("a: [", "file.yaml[0]", ""),
        ("- a\n", "file.yaml[0]", "not an object"),
        ("a: 1\na: 2\n", "file.yaml[0]", "duplicate entry"),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\n",
            "kind",
            "\"Gateway of networking.istio.io\" is not accepted, expected one of AuthorizationPolicy, DestinationRule",
        ),
        (
            "apiVersion: security.istio.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n",
            "apiVersion",
            "\"security.istio.io/v1alpha1\" is not accepted, expected security.istio.io/v1, security.istio.io/v1beta1",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {}\n",
            "metadata.name",
            "\"\" is not accepted, expected a name",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: {mesh: 'enableAutoMtls: 3'}\n",
            "enableAutoMtls",
            "\"3\" is not accepted, expected true or false",
        ),
    ] {
        let folder = Folder::with("bad", &[("file.yaml", text)]);
        let said = folder.verdicts();
        assert_eq!(said.as_array().unwrap().len(), 1, "{text}");
        assert_eq!(said[0]["valid"], json!(false), "{text}");
        let error = &said[0]["errors"][0];
        assert!(error["field"].as_str().unwrap().ends_with(field), "{error}");
        assert!(error["message"].as_str().unwrap().starts_with(begins), "{error}");
    }
}

#[test]
fn a_mesh_configuration_is_read_and_other_config_maps_are_not() {
    let folder = Folder::with(
        "config",
        &[(
            "a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio-canary}\ndata: {mesh: 'enableTracing: true'}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istioish}\ndata: {mesh: '['}\n",
        )],
    );
    let said = folder.verdicts();
    assert_eq!(said.as_array().unwrap().len(), 1);
    assert_eq!(said[0]["warnings"], json!(["enableTracing has no effect"]));
}

#[test]
fn the_acceptance_manifests_are_accepted() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/acceptance");
    let said = verdicts(&[Path::new(folder)]);
    let said = said.as_array().unwrap();
    assert!(!said.is_empty());
    for verdict in said {
        assert_eq!(verdict["errors"], json!([]), "{verdict}");
    }
}

#[test]
fn a_path_that_is_not_there_is_a_failure() {
    let failure = files::documents(&[PathBuf::from("/nowhere/at/all.yaml")]).unwrap_err();
    assert_eq!(failure.status(), 4);
}

#[test]
fn the_table_has_a_row_for_each_thing_to_say() {
    let verdict = Verdict {
        kind: "K".to_owned(),
        namespace: "ns".to_owned(),
        name: "n".to_owned(),
        errors: vec![Fault::from(Invalid::new("spec.a", "x", "y"))],
        warnings: vec!["w".to_owned()],
        ..Verdict::default()
    };
    let text = table(&[verdict, Verdict::default()]).text(false);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["KIND", "NAMESPACE", "NAME", "VALID", "FIELD", "MESSAGE"]);
    assert_eq!(lines[1][..5], ["K", "ns", "n", "no", "spec.a"]);
    assert_eq!(lines[2], ["K", "ns", "n", "no", "warning:", "w"]);
    assert_eq!(lines.len(), 4);
}

#[test]
fn every_example_is_accepted_without_a_word() {
    let examples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
    let verdicts = verdicts(&[examples]);
    let verdicts = verdicts.as_array().unwrap();
    assert!(verdicts.len() >= 6, "{verdicts:?}");
    for verdict in verdicts {
        assert_eq!(verdict["valid"], json!(true), "{verdict}");
    }
}
