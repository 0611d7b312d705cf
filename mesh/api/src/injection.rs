//! Whether a pod gets a sidecar: Istio's precedence (pkg/kube/inject, injectRequired, after its webhook's selectors). The
//! webhook decides with it about pods, the command line about those that templates would make.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use serde::Deserialize;
use serde_json::Value;

use crate::{Invalid, annotations, labels};

/// The name of the ConfigMap with the [`Rules`]; `-REVISION` follows when there is a revision.
pub const CONFIG_MAP: &str = "istio-sidecar-injector";
/// The key in [`CONFIG_MAP`].
pub const KEY: &str = "values";

/// Namespaces whose pods never get a sidecar, as in Istio; the control plane's own is another.
pub const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// What happens to a pod of a selected namespace that says nothing itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is injected.
    #[default]
    Enabled,
    /// It is not.
    Disabled,
}

/// What a control plane is configured with that decides whether a pod is its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The revision that injected pods are marked with; empty means `default`.
    pub revision: String,
    /// `revisionTags`: further names by which labels select this control plane; `default` makes it the default one.
    pub revision_tags: Vec<String>,
    /// `policy`.
    pub policy: Policy,
    /// `global.istioNamespace`: the control plane's namespace.
    pub istio_namespace: String,
    /// `sidecarInjectorWebhook.enableNamespacesByDefault`.
    pub enable_namespaces_by_default: bool,
    /// `sidecarInjectorWebhook.neverInjectSelector`.
    pub never_inject: Vec<Selector>,
    /// `sidecarInjectorWebhook.alwaysInjectSelector`.
    pub always_inject: Vec<Selector>,
}

impl Rules {
    /// Parses the YAML text of the values that [`CONFIG_MAP`] holds; those of other matters are passed over.
    ///
    /// # Errors
    /// The first value that is not accepted, with its name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let document: Document = serde_yaml::from_str::<Option<Document>>(text)
            .map_err(|error| Invalid::new(KEY, error, "the values of the chart as YAML"))?
            .unwrap_or_default();
        let webhook = document.sidecar_injector_webhook;
        let istio_namespace = match document.global.istio_namespace {
            given if given.is_empty() => "istio-system".to_owned(),
            given => given,
        };
        Ok(Self {
            revision: document.revision,
            revision_tags: document.revision_tags,
            policy: document.policy,
            istio_namespace,
            enable_namespaces_by_default: webhook.enable_namespaces_by_default,
            never_inject: selectors("neverInjectSelector", webhook.never_inject_selector)?,
            always_inject: selectors("alwaysInjectSelector", webhook.always_inject_selector)?,
        })
    }

    /// Whether a label `istio.io/rev` of this value means this control plane.
    #[must_use]
    pub fn answers_to(&self, revision: &str) -> bool {
        self.revision_name() == revision || self.revision_tags.iter().any(|tag| tag == revision)
    }

    /// The revision's name as labels and annotations have it.
    #[must_use]
    pub fn revision_name(&self) -> &str {
        if self.revision.is_empty() {
            "default"
        } else {
            &self.revision
        }
    }
}

fn selectors(name: &str, given: Vec<LabelSelector>) -> Result<Vec<Selector>, Invalid> {
    let convert = |(index, selector): (usize, LabelSelector)| {
        let shown = serde_json::to_string(&selector).unwrap_or_default();
        selector.try_into().map_err(|error| {
            let path = format!("sidecarInjectorWebhook.{name}[{index}]");
            Invalid::new(path, shown, format!("a label selector ({error})"))
        })
    };
    // An empty selector selects everything, which nobody means here; Istio passes over it too.
    let meant = |selector: &LabelSelector| {
        selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty())
            || selector
                .match_expressions
                .as_ref()
                .is_some_and(|expressions| !expressions.is_empty())
    };
    given.into_iter().filter(meant).enumerate().map(convert).collect()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    revision: String,
    revision_tags: Vec<String>,
    policy: Policy,
    global: Global,
    sidecar_injector_webhook: SidecarInjectorWebhook,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Global {
    istio_namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SidecarInjectorWebhook {
    enable_namespaces_by_default: bool,
    never_inject_selector: Vec<LabelSelector>,
    always_inject_selector: Vec<LabelSelector>,
}

/// A pod's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels, to decide what the webhook's selectors decide; `None` when they have decided already, as for a pod
    /// that reached the webhook, or are not to be asked.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// Why a pod is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It uses the node's network, whose rules are not a pod's to change.
    HostNetwork,
    /// It runs on Windows, for which there is no sidecar.
    Windows,
    /// It is in a system namespace or the control plane's.
    SystemNamespace,
    /// No selector of the webhook matches its namespace and labels.
    NotSelected,
    /// Its label or annotation `sidecar.istio.io/inject` says `false`.
    Refused,
    /// A `neverInjectSelector` matches it.
    NeverInject,
    /// Nothing asks for a sidecar, and the policy is `disabled`.
    PolicyDisabled,
    /// It has its sidecar.
    AlreadyInjected,
}

impl Skip {
    /// One word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostNetwork => "host_network",
            Self::Windows => "windows",
            Self::SystemNamespace => "system_namespace",
            Self::NotSelected => "not_selected",
            Self::Refused => "refused_by_pod",
            Self::NeverInject => "never_inject_selector",
            Self::PolicyDisabled => "policy_disabled",
            Self::AlreadyInjected => "already_injected",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "it is on the node's network",
            Self::Windows => "it runs on Windows",
            Self::SystemNamespace => "its namespace is the system's or the control plane's",
            Self::NotSelected => "neither its namespace's labels nor its own ask for one",
            Self::Refused => "its sidecar.istio.io/inject says false",
            Self::NeverInject => "a neverInjectSelector matches it",
            Self::PolicyDisabled => "nothing asks for one, and the policy is disabled",
            Self::AlreadyInjected => "it has one",
        })
    }
}

/// Decides about a pod.
///
/// # Errors
/// Why it gets no sidecar.
pub fn decide(pod: &Value, namespace: Namespace<'_>, rules: &Rules) -> Result<(), Skip> {
    if pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Err(Skip::HostNetwork);
    }
    if on_windows(pod) {
        return Err(Skip::Windows);
    }
    if SYSTEM_NAMESPACES.contains(&namespace.name) || namespace.name == rules.istio_namespace {
        return Err(Skip::SystemNamespace);
    }
    let pod_labels = strings(pod, "labels");
    let pod_annotations = strings(pod, "annotations");
    let label = pod_labels.get(labels::INJECT).map(String::as_str);
    let said = label.or_else(|| pod_annotations.get(annotations::INJECT).map(String::as_str));
    if let Some(namespace_labels) = namespace.labels
        && !selected(namespace_labels, &pod_labels, label, said, rules)
    {
        return Err(Skip::NotSelected);
    }
    match said {
        Some("true") => return Ok(()),
        Some("false") => return Err(Skip::Refused),
        // Any other value counts as none, as in Istio.
        _ => {}
    }
    if rules.never_inject.iter().any(|selector| selector.matches(&pod_labels)) {
        return Err(Skip::NeverInject);
    }
    if rules.always_inject.iter().any(|selector| selector.matches(&pod_labels)) {
        return Ok(());
    }
    match rules.policy {
        Policy::Enabled => Ok(()),
        Policy::Disabled => Err(Skip::PolicyDisabled),
    }
}

/// `metadata.labels` or `metadata.annotations` as a map; entries that are not text are passed over.
fn strings(pod: &Value, field: &str) -> BTreeMap<String, String> {
    let entries = pod.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Whether the pod asks for a node with Windows: the sidecar is a program for Linux, and the API server refuses what its
/// security context says for a pod of Windows.
fn on_windows(pod: &Value) -> bool {
    pod.pointer("/spec/os/name").and_then(Value::as_str) == Some("windows")
        || pod
            .pointer("/spec/nodeSelector/kubernetes.io~1os")
            .and_then(Value::as_str)
            == Some("windows")
}

/// What the entries of the webhook's configuration select, row by row.
fn selected(
    namespace: &BTreeMap<String, String>,
    pod: &BTreeMap<String, String>,
    label: Option<&str>,
    said: Option<&str>,
    rules: &Rules,
) -> bool {
    let injection = namespace.get(labels::NAMESPACE_INJECTION).map(String::as_str);
    let namespace_revision = namespace.get(labels::REVISION).map(String::as_str);
    let pod_revision = pod.get(labels::REVISION).map(String::as_str);
    let ours = |revision: &str| rules.answers_to(revision);
    let default = ours("default");
    match (injection, namespace_revision) {
        (None, Some(revision)) => ours(revision) && label != Some("false"),
        (None, None) if pod_revision.is_some() => pod_revision.is_some_and(ours) && label != Some("false"),
        (None, None) => default && (said == Some("true") || (rules.enable_namespaces_by_default && said.is_none())),
        (Some("enabled"), _) => default && label != Some("false"),
        (Some(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::parse(text).unwrap()
    }

    fn pod(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Value {
        let map = |entries: &[(&str, &str)]| {
            entries
                .iter()
                .map(|(k, v)| ((*k).to_owned(), json!(v)))
                .collect::<serde_json::Map<_, _>>()
        };
        json!({"metadata": {"labels": map(labels), "annotations": map(annotations)}, "spec": {}})
    }

    #[test]
    fn a_pod_that_reached_the_webhook() {
        const INJECT: &str = "sidecar.istio.io/inject";
        let selectors = "sidecarInjectorWebhook:\n  neverInjectSelector: [{matchLabels: {never: 'yes'}}]\n  \
                         alwaysInjectSelector: [{matchExpressions: [{key: always, operator: Exists}]}]\n";
        let on = rules(selectors);
        let off = rules(&format!("policy: disabled\n{selectors}"));
        for (case, pod, enabled, disabled) in [
            ("nothing said", pod(&[], &[]), Ok(()), Err(Skip::PolicyDisabled)),
            ("label true", pod(&[(INJECT, "true")], &[]), Ok(()), Ok(())),
            (
                "label false",
                pod(&[(INJECT, "false")], &[]),
                Err(Skip::Refused),
                Err(Skip::Refused),
            ),
            ("annotation true", pod(&[], &[(INJECT, "true")]), Ok(()), Ok(())),
            (
                "annotation false",
                pod(&[], &[(INJECT, "false")]),
                Err(Skip::Refused),
                Err(Skip::Refused),
            ),
            (
                "label beats annotation",
                pod(&[(INJECT, "true")], &[(INJECT, "false")]),
                Ok(()),
                Ok(()),
            ),
            (
                "another value is none",
                pod(&[(INJECT, "yes")], &[]),
                Ok(()),
                Err(Skip::PolicyDisabled),
            ),
            (
                "a label of another value hides the annotation",
                pod(&[(INJECT, "yes")], &[(INJECT, "true")]),
                Ok(()),
                Err(Skip::PolicyDisabled),
            ),
            (
                "never",
                pod(&[("never", "yes")], &[]),
                Err(Skip::NeverInject),
                Err(Skip::NeverInject),
            ),
            ("always", pod(&[("always", "")], &[]), Ok(()), Ok(())),
            (
                "never beats always",
                pod(&[("always", ""), ("never", "yes")], &[]),
                Err(Skip::NeverInject),
                Err(Skip::NeverInject),
            ),
            (
                "label beats never",
                pod(&[(INJECT, "true"), ("never", "yes")], &[]),
                Ok(()),
                Ok(()),
            ),
        ] {
            let namespace = Namespace {
                name: "a",
                labels: None,
            };
            assert_eq!(decide(&pod, namespace, &on), enabled, "{case}, enabled");
            assert_eq!(decide(&pod, namespace, &off), disabled, "{case}, disabled");
        }
    }

    #[test]
    fn never_on_the_nodes_network_or_in_system_namespaces() {
        let mut on_host = pod(&[("sidecar.istio.io/inject", "true")], &[]);
        on_host["spec"]["hostNetwork"] = json!(true);
        let rules = rules("");
        assert_eq!(
            decide(
                &on_host,
                Namespace {
                    name: "a",
                    labels: None
                },
                &rules
            ),
            Err(Skip::HostNetwork)
        );
        let asking = pod(&[("sidecar.istio.io/inject", "true")], &[]);
        for name in [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "local-path-storage",
            "istio-system",
        ] {
            assert_eq!(
                decide(&asking, Namespace { name, labels: None }, &rules),
                Err(Skip::SystemNamespace),
                "{name}"
            );
        }
    }

    #[test]
    fn never_on_windows() {
        let rules = rules("");
        let namespace = Namespace {
            name: "a",
            labels: None,
        };
        for spec in [
            json!({"os": {"name": "windows"}}),
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
        ] {
            let mut asking = pod(&[("sidecar.istio.io/inject", "true")], &[]);
            asking["spec"] = spec;
            assert_eq!(decide(&asking, namespace, &rules), Err(Skip::Windows));
        }
        let mut linux = pod(&[], &[]);
        linux["spec"] = json!({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "linux"}});
        assert_eq!(decide(&linux, namespace, &rules), Ok(()));
    }

    #[test]
    fn the_webhooks_selectors() {
        const INJECT: &str = "sidecar.istio.io/inject";
        let default = rules("");
        let canary = rules("revision: canary");
        let everywhere = rules("sidecarInjectorWebhook: {enableNamespacesByDefault: true}");
        let tagged = rules("{revision: v2, revisionTags: [canary, default]}");
        type Case<'a> = (&'a [(&'a str, &'a str)], Value, [bool; 4]);
        let cases: [Case<'_>; 12] = [
            (&[], pod(&[], &[]), [false, false, true, false]),
            (&[], pod(&[(INJECT, "true")], &[]), [true, false, true, true]),
            (&[], pod(&[], &[(INJECT, "true")]), [true, false, true, true]),
            (&[], pod(&[], &[(INJECT, "false")]), [false, false, false, false]),
            (&[], pod(&[("istio.io/rev", "canary")], &[]), [false, true, false, true]),
            (
                &[],
                pod(&[("istio.io/rev", "canary"), (INJECT, "false")], &[]),
                [false, false, false, false],
            ),
            (
                &[("istio-injection", "enabled")],
                pod(&[], &[]),
                [true, false, true, true],
            ),
            (
                &[("istio-injection", "enabled")],
                pod(&[(INJECT, "false")], &[]),
                [false, false, false, false],
            ),
            (
                &[("istio-injection", "disabled")],
                pod(&[(INJECT, "true")], &[]),
                [false, false, false, false],
            ),
            (&[("istio.io/rev", "canary")], pod(&[], &[]), [false, true, false, true]),
            (&[("istio.io/rev", "default")], pod(&[], &[]), [true, false, true, true]),
            (
                &[("istio.io/rev", "canary"), ("istio-injection", "enabled")],
                pod(&[], &[]),
                [true, false, true, true],
            ),
        ];
        for (labels, pod, expected) in cases {
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let namespace = Namespace {
                name: "a",
                labels: Some(&labels),
            };
            let got = [&default, &canary, &everywhere, &tagged].map(|values| decide(&pod, namespace, values).is_ok());
            assert_eq!(got, expected, "{labels:?} {pod}");
        }
    }
}
