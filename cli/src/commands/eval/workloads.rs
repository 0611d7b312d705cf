//! The workloads in files: pods, and the pods that templates would make, each with what decides whether it gets a sidecar.

use std::collections::{BTreeMap, HashMap, HashSet};

use mesh_api::injection::{self, Rules, Skip};
use mesh_api::{annotations, labels};
use mesh_core::labels::{Labels, Selector};
use serde_json::Value;

use super::manifests::Places;

/// The sidecar's container, as injection names it.
const PROXY_CONTAINER: &str = "istio-proxy";

/// Where each kind of workload has the template of its pods. A pod is its own.
const TEMPLATES: [(&str, &str); 8] = [
    ("Pod", ""),
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("ReplicationController", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// A workload.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Its pods' labels.
    pub(super) labels: Labels,
    pub(super) service_account: String,
    /// The ports that its containers name, and their names.
    pub(super) ports: BTreeMap<u16, Option<String>>,
    /// Its pods have addresses of their own.
    own_network: bool,
    /// Why its pods have no sidecar.
    pub(super) without_sidecar: Option<String>,
}

impl Workload {
    /// Whether its pods have a sidecar.
    pub(super) fn sidecar(&self) -> bool {
        self.without_sidecar.is_none()
    }

    /// Whether its pods say to clients that they take mutual TLS: injection says it where they say nothing.
    pub(super) fn takes_mutual_tls(&self) -> bool {
        let said = self.labels.get(labels::TLS_MODE).map(String::as_str);
        self.own_network && said.map_or(self.sidecar(), |said| said == labels::TLS_MODE_ISTIO)
    }

    /// `kind/name.namespace`, as it is named on the command line.
    pub(super) fn title(&self) -> String {
        format!("{}/{}.{}", self.kind.to_ascii_lowercase(), self.name, self.namespace)
    }
}

/// A Service that selects pods.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    selector: Selector,
    /// Its TCP ports, and where they lead.
    ports: Vec<(u16, TargetPort)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TargetPort {
    Number(u16),
    Name(String),
}

impl Service {
    /// The ports that lead to a workload: the Service's and the workload's.
    pub(super) fn leads_to(&self, workload: &Workload) -> impl Iterator<Item = (u16, u16)> {
        let selects = self.namespace == workload.namespace && self.selector.matches(&workload.labels);
        let ports = self.ports.iter().filter(move |_| selects);
        ports.filter_map(|(port, target)| {
            let number = match target {
                TargetPort::Number(number) => *number,
                TargetPort::Name(name) => {
                    let mut named = workload.ports.iter();
                    *named.find(|(_, own)| own.as_deref() == Some(name))?.0
                }
            };
            Some((*port, number))
        })
    }
}

/// An object that owns pods, or is owned: kind, namespace and name.
type Owner = (String, String, String);

/// A workload as it is read, before it is known which control planes and namespaces there are.
#[derive(Debug)]
struct Found {
    kind: &'static str,
    namespace: String,
    name: String,
    pod: Value,
    owner: Option<Owner>,
}

/// What files say of workloads.
#[derive(Debug, Default)]
pub(super) struct Estate {
    namespaces: HashMap<String, Labels>,
    control_planes: Vec<Rules>,
    /// The cluster's DNS domain, where a control plane's values say it.
    cluster_domain: Option<String>,
    found: Vec<Found>,
    pub(super) services: Vec<Service>,
}

impl Estate {
    /// Takes an object; others than workloads, Namespaces, Services and the values of injection are passed over.
    pub(super) fn take(&mut self, object: &Value, places: Places<'_>) -> Result<(), String> {
        let kind = text(object, "/kind").unwrap_or_default();
        let api = text(object, "/apiVersion").unwrap_or_default();
        let name = text(object, "/metadata/name").or_else(|| text(object, "/metadata/generateName"));
        let name = name.unwrap_or_default().to_owned();
        let namespace = text(object, "/metadata/namespace")
            .unwrap_or(places.namespace)
            .to_owned();
        let core = api == "v1";
        match kind {
            "Namespace" if core => {
                self.namespaces.insert(name, labels_at(object, "/metadata/labels"));
            }
            "ConfigMap" if core && namespace == places.system && is_injector(&name) => {
                let values = text(object, "/data/values").unwrap_or_default();
                let rules = Rules::parse(values).map_err(|error| format!("{namespace}/{name}: {error}"))?;
                let domain = serde_yaml::from_str::<Value>(values).ok();
                let domain = domain.and_then(|it| text(&it, "/global/proxy/clusterDomain").map(str::to_owned));
                self.cluster_domain = self.cluster_domain.take().or(domain.filter(|it| !it.is_empty()));
                self.control_planes.push(rules);
            }
            "Service" if core => self.services.extend(service(object, namespace, name)?),
            _ => {
                let grouped = core || api.starts_with("apps/") || api.starts_with("batch/");
                if let Some((kind, template)) = TEMPLATES.iter().find(|(own, _)| *own == kind).filter(|_| grouped) {
                    let pod = object.pointer(template).cloned().unwrap_or_default();
                    self.found.extend(workload(object, kind, namespace, name, pod));
                }
            }
        }
        Ok(())
    }

    /// The cluster's DNS domain.
    pub(super) fn cluster_domain(&self) -> &str {
        self.cluster_domain.as_deref().unwrap_or("cluster.local")
    }

    /// The workloads, by namespace, name and kind, without those that another one in the files makes; and the namespaces of which
    /// the files say nothing.
    pub(super) fn workloads(&mut self, system: &str) -> (Vec<Workload>, Vec<String>) {
        let found = std::mem::take(&mut self.found);
        let there: HashSet<Owner> = found
            .iter()
            .map(|it| (it.kind.to_owned(), it.namespace.clone(), it.name.clone()))
            .collect();
        if self.control_planes.is_empty() {
            let defaults = Rules::parse("").map(|rules| Rules {
                istio_namespace: system.to_owned(),
                ..rules
            });
            self.control_planes.extend(defaults);
        }
        let mut unknown = Vec::new();
        let mut workloads = Vec::new();
        for one in found {
            if one.owner.as_ref().is_some_and(|owner| there.contains(owner)) {
                continue;
            }
            if !self.namespaces.contains_key(&one.namespace) && !unknown.contains(&one.namespace) {
                unknown.push(one.namespace.clone());
            }
            workloads.push(self.workload(one));
        }
        let key = |it: &Workload| (it.namespace.clone(), it.name.clone(), it.kind);
        workloads.sort_by_cached_key(key);
        unknown.sort();
        (workloads, unknown)
    }

    fn workload(&self, found: Found) -> Workload {
        let Found {
            kind,
            namespace,
            name,
            pod,
            ..
        } = found;
        let labels = labels_at(&pod, "/metadata/labels");
        let account = text(&pod, "/spec/serviceAccountName").filter(|name| !name.is_empty());
        let own_network = pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) != Some(true);
        let says = labels.get(labels::TLS_MODE).map(String::as_str);
        // What was injected already, by whichever control plane, has its sidecar.
        let has_one = own_network && (is_injected(&pod) || says == Some(labels::TLS_MODE_ISTIO));
        let without_sidecar = match self.decide(&pod, &namespace) {
            Err(skip) if !has_one => Some(skip.to_string()),
            _ => None,
        };
        Workload {
            kind,
            service_account: account.unwrap_or("default").to_owned(),
            ports: container_ports(&pod),
            own_network,
            without_sidecar,
            namespace,
            name,
            labels,
        }
    }

    /// Whether one of the control planes injects a pod; where none does, why the last one does not.
    fn decide(&self, pod: &Value, namespace: &str) -> Result<(), Skip> {
        let none = Labels::new();
        let namespace = injection::Namespace {
            name: namespace,
            labels: Some(self.namespaces.get(namespace).unwrap_or(&none)),
        };
        let mut planes = self.control_planes.iter();
        planes
            .try_fold(Skip::NotSelected, |_, rules| {
                match injection::decide(pod, namespace, rules) {
                    Ok(()) => Err(()),
                    Err(skip) => Ok(skip),
                }
            })
            .map_or(Ok(()), Err)
    }
}

fn is_injector(name: &str) -> bool {
    let rest = name.strip_prefix(injection::CONFIG_MAP);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// `None` for a pod that has ended.
fn workload(object: &Value, kind: &'static str, namespace: String, name: String, pod: Value) -> Option<Found> {
    if kind == "Pod" && matches!(text(object, "/status/phase"), Some("Succeeded" | "Failed")) {
        return None;
    }
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let controller = owners.into_iter().flatten().find(|owner| owner["controller"] == true);
    let owner = controller.and_then(|owner| {
        let field = |name: &str| owner.get(name).and_then(Value::as_str).map(str::to_owned);
        Some((field("kind")?, namespace.clone(), field("name")?))
    });
    Some(Found {
        kind,
        namespace,
        name,
        pod,
        owner,
    })
}

/// A Service; none without a selector, whose endpoints are not known from files.
fn service(object: &Value, namespace: String, name: String) -> Result<Option<Service>, String> {
    let selector = Selector(labels_at(object, "/spec/selector"));
    if selector.is_empty() || text(object, "/spec/type") == Some("ExternalName") {
        return Ok(None);
    }
    let mut ports = Vec::new();
    let listed = object.pointer("/spec/ports").and_then(Value::as_array);
    for (at, port) in listed.into_iter().flatten().enumerate() {
        if matches!(text(port, "/protocol"), Some(protocol) if protocol != "TCP") {
            continue;
        }
        let number = port_number(&port["port"])
            .ok_or_else(|| format!("{namespace}/{name}: spec.ports[{at}].port: {} is no port", port["port"]))?;
        let target = match &port["targetPort"] {
            Value::Null => TargetPort::Number(number),
            Value::String(name) => TargetPort::Name(name.clone()),
            target => TargetPort::Number(
                port_number(target)
                    .ok_or_else(|| format!("{namespace}/{name}: spec.ports[{at}].targetPort: {target} is no port"))?,
            ),
        };
        ports.push((number, target));
    }
    Ok(Some(Service {
        namespace,
        name,
        selector,
        ports,
    }))
}

pub(super) fn port_number(value: &Value) -> Option<u16> {
    value
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number != 0)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/initContainers", "/spec/containers"]
        .into_iter()
        .filter_map(|list| pod.pointer(list).and_then(Value::as_array))
        .flatten()
}

/// The TCP ports that containers other than the sidecar name.
fn container_ports(pod: &Value) -> BTreeMap<u16, Option<String>> {
    let own = containers(pod).filter(|container| text(container, "/name") != Some(PROXY_CONTAINER));
    own.filter_map(|container| container["ports"].as_array())
        .flatten()
        .filter(|port| matches!(text(port, "/protocol"), None | Some("TCP")))
        .filter_map(|port| {
            Some((
                port_number(&port["containerPort"])?,
                text(port, "/name").map(str::to_owned),
            ))
        })
        .collect()
}

/// Whether a sidecar is in the pod already, and not only asked for.
fn is_injected(pod: &Value) -> bool {
    let status = pod
        .pointer("/metadata/annotations")
        .is_some_and(|them| them.get(annotations::STATUS).is_some());
    status && containers(pod).any(|container| text(container, "/name") == Some(PROXY_CONTAINER))
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

pub(super) fn labels_at(value: &Value, pointer: &str) -> Labels {
    let entries = value.pointer(pointer).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
