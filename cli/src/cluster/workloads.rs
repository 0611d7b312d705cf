//! Which pods a name on the command line means: `POD[.NAMESPACE]` or `TYPE/NAME[.NAMESPACE]`, as istioctl takes them.

use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::{Cluster, PodName};
use crate::failure::Failure;

/// The container that is the sidecar.
const SIDECAR: &str = "istio-proxy";

/// What kind of object a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A pod, or else a Deployment.
    Any,
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    Service,
}

const KINDS: [(&[&str], Kind); 7] = [
    (&["pod", "pods", "po"], Kind::Pod),
    (&["deployment", "deployments", "deploy"], Kind::Deployment),
    (&["statefulset", "statefulsets", "sts"], Kind::StatefulSet),
    (&["daemonset", "daemonsets", "ds"], Kind::DaemonSet),
    (&["replicaset", "replicasets", "rs"], Kind::ReplicaSet),
    (&["job", "jobs"], Kind::Job),
    (&["service", "services", "svc"], Kind::Service),
];

/// A name on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    kind: Kind,
    name: String,
    namespace: Option<String>,
}

impl Target {
    /// Parses it.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (kind, rest) = match text.split_once('/') {
            None => (Kind::Any, text),
            Some((word, rest)) => {
                let known = KINDS
                    .iter()
                    .find(|(words, _)| words.contains(&word.to_lowercase().as_str()));
                let Some((_, kind)) = known else {
                    let accepted: Vec<&str> = KINDS.iter().filter_map(|(words, _)| words.first().copied()).collect();
                    return Err(Failure::usage(format!(
                        "{text:?}: {word:?} is no type of workload; accepted are {}",
                        accepted.join(", ")
                    )));
                };
                (*kind, rest)
            }
        };
        let (name, namespace) = match rest.rsplit_once('.') {
            Some((name, namespace)) => (name, Some(namespace.to_owned())),
            None => (rest, None),
        };
        if name.is_empty() || namespace.as_ref().is_some_and(String::is_empty) {
            return Err(Failure::usage(format!(
                "{text:?} names nothing; accepted are POD[.NAMESPACE] and TYPE/NAME[.NAMESPACE]"
            )));
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
            namespace,
        })
    }

    /// The running pods with a sidecar that are meant, in the order of their names; at least one.
    pub(crate) async fn pods(&self, cluster: &Cluster) -> Result<Vec<PodName>, Failure> {
        let namespace = self.namespace.as_deref().unwrap_or(&cluster.namespace);
        let mut pods = self.find(cluster, namespace).await?;
        pods.retain(running);
        if pods.is_empty() {
            return Err(
                Failure::missing(format!("{self} has no running pod in namespace {namespace}"))
                    .advise(format!("kubectl -n {namespace} get pods shows what there is")),
            );
        }
        let found = pods.len();
        pods.retain(has_sidecar);
        if pods.is_empty() {
            let pods = if found == 1 { "its pod has" } else { "its pods have" };
            return Err(Failure::missing(format!("{self} in namespace {namespace}: {pods} no sidecar")).advise(format!(
                "kubectl label namespace {namespace} istio-injection=enabled, and make the pods anew: docs/injection.md"
            )));
        }
        let mut names: Vec<PodName> = pods
            .iter()
            .map(|pod| PodName {
                namespace: namespace.to_owned(),
                name: pod.name_any(),
            })
            .collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    async fn find(&self, cluster: &Cluster, namespace: &str) -> Result<Vec<Pod>, Failure> {
        let selector = match self.kind {
            Kind::Pod => return self.pod(cluster, namespace).await,
            Kind::Any => match self.pod(cluster, namespace).await {
                // A pod may be named by its Deployment.
                Err(missing) if missing.status() == 4 => match self.selector_of(cluster, namespace, deployment).await {
                    Ok(selector) => selector,
                    Err(failure) if failure.status() == 4 => {
                        return Err(Failure::missing(format!(
                            "there is no pod and no deployment {} in namespace {namespace}",
                            self.name
                        ))
                        .advise(format!("kubectl -n {namespace} get pods shows what there is")));
                    }
                    Err(failure) => return Err(failure),
                },
                done => return done,
            },
            Kind::Deployment => self.selector_of(cluster, namespace, deployment).await?,
            Kind::StatefulSet => {
                let selector = |it: StatefulSet| Some(it.spec.selector);
                self.selector_of(cluster, namespace, selector).await?
            }
            Kind::DaemonSet => {
                let selector = |it: DaemonSet| Some(it.spec.selector);
                self.selector_of(cluster, namespace, selector).await?
            }
            Kind::ReplicaSet => {
                let selector = |it: ReplicaSet| Some(it.spec.selector);
                self.selector_of(cluster, namespace, selector).await?
            }
            Kind::Job => {
                let selector = |it: Job| it.spec.and_then(|spec| spec.selector);
                self.selector_of(cluster, namespace, selector).await?
            }
            Kind::Service => {
                let selector = |it: Service| it.spec.and_then(|spec| spec.selector).map(labels);
                self.selector_of(cluster, namespace, selector).await?
            }
        };
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace)
            .list(&ListParams::default().labels_from(&selector))
            .await
            .map_err(|error| Failure::of_kube(&format!("the pods of {self}"), &error))?;
        Ok(pods.items)
    }

    async fn pod(&self, cluster: &Cluster, namespace: &str) -> Result<Vec<Pod>, Failure> {
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let found = pods.get(&self.name).await;
        let pod = found.map_err(|error| Failure::of_kube(&format!("pod {}.{namespace}", self.name), &error))?;
        Ok(vec![pod])
    }

    async fn selector_of<K>(
        &self,
        cluster: &Cluster,
        namespace: &str,
        selector: impl Fn(K) -> Option<LabelSelector>,
    ) -> Result<Selector, Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let objects = Api::<K>::namespaced(cluster.client.clone(), namespace);
        let object = objects.get(&self.name).await.map_err(|error| {
            Failure::of_kube(
                &format!("{} in namespace {namespace}", self.named(&K::kind(&()))),
                &error,
            )
        })?;
        // Without a selector there is nothing that could be asked for; an empty one would mean every pod.
        let selector = selector(object).filter(|it| it.match_labels.is_some() || it.match_expressions.is_some());
        let selector = selector.ok_or_else(|| Failure::missing(format!("{self} selects no pods")))?;
        Selector::try_from(selector).map_err(|error| Failure::other(format!("the selector of {self}: {error}")))
    }

    fn named(&self, kind: &str) -> String {
        format!("{} {}", kind.to_lowercase(), self.name)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = KINDS.iter().find(|(_, kind)| *kind == self.kind);
        match words.and_then(|(words, _)| words.first()) {
            Some(word) => write!(f, "{word} {}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn deployment(it: Deployment) -> Option<LabelSelector> {
    Some(it.spec.selector)
}

fn labels(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

/// Whether a pod runs and is not about to end.
pub(crate) fn running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

/// Whether a pod has a sidecar, native or not.
fn has_sidecar(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let native = spec.init_containers.iter().flatten();
    spec.containers
        .iter()
        .chain(native)
        .any(|container| container.name == SIDECAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_istioctls() {
        for (text, kind, name, namespace) in [
            ("web-1", Kind::Any, "web-1", None),
            ("web-1.shop", Kind::Any, "web-1", Some("shop")),
            ("web.v1-2.shop", Kind::Any, "web.v1-2", Some("shop")),
            ("pod/web-1.shop", Kind::Pod, "web-1", Some("shop")),
            ("deploy/web", Kind::Deployment, "web", None),
            ("Deployment/web.shop", Kind::Deployment, "web", Some("shop")),
            ("sts/db", Kind::StatefulSet, "db", None),
            ("svc/web", Kind::Service, "web", None),
        ] {
            let expected = Target {
                kind,
                name: name.to_owned(),
                namespace: namespace.map(str::to_owned),
            };
            assert_eq!(Target::parse(text).unwrap(), expected, "{text}");
        }
        for (text, words) in [
            ("secret/web", "deployment, statefulset"),
            ("", "POD[.NAMESPACE]"),
            ("web.", "names nothing"),
            (".shop", "names nothing"),
        ] {
            let failure = Target::parse(text).unwrap_err();
            assert_eq!(failure.status(), 2);
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }

    #[test]
    fn a_sidecar_is_a_container_of_either_list() {
        let pod = |text: &str| -> Pod { serde_json::from_str(text).unwrap() };
        for (text, sidecar) in [
            (r#"{"spec": {"containers": [{"name": "app"}]}}"#, false),
            (
                r#"{"spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]}}"#,
                true,
            ),
            (
                r#"{"spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "istio-proxy"}]}}"#,
                true,
            ),
        ] {
            assert_eq!(has_sidecar(&pod(text)), sidecar, "{text}");
        }
        assert!(running(&pod(r#"{"status": {"phase": "Running"}}"#)));
        for text in [
            r#"{"status": {"phase": "Succeeded"}}"#,
            r#"{"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}"#,
        ] {
            assert!(!running(&pod(text)), "{text}");
        }
    }
}
