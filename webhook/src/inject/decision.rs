//! Whether a pod gets a sidecar: Istio's precedence (pkg/kube/inject, injectRequired, after its webhook's selectors).

use std::collections::BTreeMap;

use kube::core::SelectorExt;
use mesh_api::{annotations, labels};
use serde_json::Value;

use super::{pod, pod_security::Level};
use crate::config::{Policy, Values};

/// Namespaces whose pods never get a sidecar, as in Istio; the control plane's own is another.
pub const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// A pod's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels, to decide what the webhook's selectors decide; `None` when they have decided already, as for a pod
    /// that reached the webhook, or are not to be asked.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The pod security level that it enforces, when that forbids anything; `None` also when it is not known.
    pub enforces: Option<Level>,
}

impl Namespace<'_> {
    /// The pod security level that pods must meet, unless the chart says not to look.
    pub(super) fn enforced(&self, values: &Values) -> Option<Level> {
        self.enforces.filter(|_| values.pod_security_check)
    }
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

/// Decides about a pod.
///
/// # Errors
/// Why it gets no sidecar.
pub fn decide(pod: &Value, namespace: &Namespace<'_>, values: &Values) -> Result<(), Skip> {
    if pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Err(Skip::HostNetwork);
    }
    if on_windows(pod) {
        return Err(Skip::Windows);
    }
    if SYSTEM_NAMESPACES.contains(&namespace.name) || namespace.name == values.istio_namespace {
        return Err(Skip::SystemNamespace);
    }
    let pod_labels = pod::strings(pod, "labels");
    let pod_annotations = pod::strings(pod, "annotations");
    let label = pod_labels.get(labels::INJECT).map(String::as_str);
    let said = label.or_else(|| pod_annotations.get(annotations::INJECT).map(String::as_str));
    if let Some(namespace_labels) = namespace.labels
        && !selected(namespace_labels, &pod_labels, label, said, values)
    {
        return Err(Skip::NotSelected);
    }
    match said {
        Some("true") => return Ok(()),
        Some("false") => return Err(Skip::Refused),
        // Any other value counts as none, as in Istio.
        _ => {}
    }
    if values.never_inject.iter().any(|selector| selector.matches(&pod_labels)) {
        return Err(Skip::NeverInject);
    }
    if values
        .always_inject
        .iter()
        .any(|selector| selector.matches(&pod_labels))
    {
        return Ok(());
    }
    match values.policy {
        Policy::Enabled => Ok(()),
        Policy::Disabled => Err(Skip::PolicyDisabled),
    }
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
    values: &Values,
) -> bool {
    let injection = namespace.get(labels::NAMESPACE_INJECTION).map(String::as_str);
    let namespace_revision = namespace.get(labels::REVISION).map(String::as_str);
    let pod_revision = pod.get(labels::REVISION).map(String::as_str);
    let ours = |revision: &str| values.answers_to(revision);
    let default = ours("default");
    match (injection, namespace_revision) {
        (None, Some(revision)) => ours(revision) && label != Some("false"),
        (None, None) if pod_revision.is_some() => pod_revision.is_some_and(ours) && label != Some("false"),
        (None, None) => default && (said == Some("true") || (values.enable_namespaces_by_default && said.is_none())),
        (Some("enabled"), _) => default && label != Some("false"),
        (Some(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(text: &str) -> Values {
        Values::parse(text).unwrap()
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
        let on = values(selectors);
        let off = values(&format!("policy: disabled\n{selectors}"));
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
                enforces: None,
            };
            assert_eq!(decide(&pod, &namespace, &on), enabled, "{case}, enabled");
            assert_eq!(decide(&pod, &namespace, &off), disabled, "{case}, disabled");
        }
    }

    #[test]
    fn never_on_the_nodes_network_or_in_system_namespaces() {
        let mut on_host = pod(&[("sidecar.istio.io/inject", "true")], &[]);
        on_host["spec"]["hostNetwork"] = json!(true);
        let values = values("");
        assert_eq!(
            decide(
                &on_host,
                &Namespace {
                    name: "a",
                    labels: None,
                    enforces: None,
                },
                &values
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
                decide(
                    &asking,
                    &Namespace {
                        name,
                        labels: None,
                        enforces: None
                    },
                    &values
                ),
                Err(Skip::SystemNamespace),
                "{name}"
            );
        }
    }

    #[test]
    fn never_on_windows() {
        let values = values("");
        let namespace = Namespace {
            name: "a",
            labels: None,
            enforces: None,
        };
        for spec in [
            json!({"os": {"name": "windows"}}),
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
        ] {
            let mut asking = pod(&[("sidecar.istio.io/inject", "true")], &[]);
            asking["spec"] = spec;
            assert_eq!(decide(&asking, &namespace, &values), Err(Skip::Windows));
        }
        let mut linux = pod(&[], &[]);
        linux["spec"] = json!({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "linux"}});
        assert_eq!(decide(&linux, &namespace, &values), Ok(()));
    }

    #[test]
    fn the_webhooks_selectors() {
        const INJECT: &str = "sidecar.istio.io/inject";
        let default = values("");
        let canary = values("revision: canary");
        let everywhere = values("sidecarInjectorWebhook: {enableNamespacesByDefault: true}");
        let tagged = values("{revision: v2, revisionTags: [canary, default]}");
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
                enforces: None,
            };
            let got = [&default, &canary, &everywhere, &tagged].map(|values| decide(&pod, &namespace, values).is_ok());
            assert_eq!(got, expected, "{labels:?} {pod}");
        }
    }
}
