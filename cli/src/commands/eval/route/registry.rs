//! The Services in files, with the pods that answer for them: those of EndpointSlices, or else those that the Service selects.

use std::collections::{BTreeMap, HashMap};

use mesh_core::hosts::{candidates, fqdn};
use mesh_core::labels::{Labels, Selector};
use mesh_core::protocol::{Declared, declared};
use serde_json::Value;

use super::super::manifests::Places;
use super::super::workloads::{Estate, labels_at, port_number, text};
use crate::failure::Failure;
use crate::files::Document;

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "/metadata/labels/kubernetes.io~1service-name";

/// A Service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Fully qualified.
    pub(super) host: String,
    pub(super) namespace: String,
    headless: bool,
    /// Its TCP ports, with what they were declared to speak.
    ports: Vec<(u16, Declared)>,
    selector: Selector,
    /// The labels of the pods that answer.
    pub(super) endpoints: Vec<Labels>,
}

impl Service {
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|(number, _)| *number == port)
    }

    /// The one port that it has.
    pub(super) fn only_port(&self) -> Option<u16> {
        match self.ports[..] {
            [(only, _)] => Some(only),
            _ => None,
        }
    }

    /// What a port was declared to speak.
    pub(super) fn protocol(&self, port: u16) -> Declared {
        let found = self.ports.iter().find(|(number, _)| *number == port);
        found.map(|(_, declared)| *declared).unwrap_or_default()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    services: BTreeMap<String, Service>,
    cluster_domain: String,
}

impl Registry {
    /// Takes the Services, EndpointSlices and workloads of files.
    pub(super) fn read(documents: &[Document], places: Places<'_>) -> Result<Self, Failure> {
        let mut estate = Estate::default();
        let mut pods: HashMap<(String, String), Labels> = HashMap::new();
        for Document { file, object, .. } in documents {
            let Ok(object) = object else { continue };
            estate
                .take(object, places)
                .map_err(|reason| Failure::other(format!("{file}: {reason}")))?;
            if is(object, "v1", "Pod") {
                let (namespace, name) = place(object, places);
                pods.insert((namespace, name), labels_at(object, "/metadata/labels"));
            }
        }
        let (workloads, _) = estate.workloads(places.system);
        let mut registry = Self {
            services: BTreeMap::new(),
            cluster_domain: estate.cluster_domain().to_owned(),
        };
        let objects = || documents.iter().filter_map(|document| document.object.as_ref().ok());
        for object in objects().filter(|object| is(object, "v1", "Service")) {
            registry.take(object, places);
        }
        let mut slices: HashMap<String, Vec<Labels>> = HashMap::new();
        for object in objects().filter(|object| is(object, "discovery.k8s.io/v1", "EndpointSlice")) {
            let (namespace, _) = place(object, places);
            let Some(service) = text(object, SERVICE_NAME_LABEL) else {
                continue;
            };
            let host = fqdn(service, &namespace, &registry.cluster_domain);
            slices.entry(host).or_default().extend(ready(object, &namespace, &pods));
        }
        for service in registry.services.values_mut() {
            let selected = workloads
                .iter()
                .filter(|it| it.namespace == service.namespace && !service.selector.is_empty())
                .filter(|it| service.selector.matches(&it.labels))
                .map(|it| it.labels.clone());
            service.endpoints = slices.remove(&service.host).unwrap_or_else(|| selected.collect());
        }
        Ok(registry)
    }

    fn take(&mut self, object: &Value, places: Places<'_>) {
        if text(object, "/spec/type") == Some("ExternalName") {
            return;
        }
        let (namespace, name) = place(object, places);
        let host = fqdn(&name, &namespace, &self.cluster_domain);
        let listed = object.pointer("/spec/ports").and_then(Value::as_array);
        let tcp = |port: &&Value| matches!(text(port, "/protocol"), None | Some("TCP"));
        let ports = listed.into_iter().flatten().filter(tcp).filter_map(|port| {
            let number = port_number(&port["port"])?;
            Some((
                number,
                declared(text(port, "/appProtocol"), text(port, "/name"), number),
            ))
        });
        let service = Service {
            host: host.clone(),
            namespace,
            headless: text(object, "/spec/clusterIP") == Some("None"),
            ports: ports.collect(),
            selector: Selector(labels_at(object, "/spec/selector")),
            endpoints: Vec::new(),
        };
        self.services.insert(host, service);
    }

    /// The cluster's DNS domain.
    pub(super) fn cluster_domain(&self) -> &str {
        &self.cluster_domain
    }

    /// The Service of a fully qualified host.
    pub(super) fn of_host(&self, host: &str) -> Option<&Service> {
        self.services.get(host)
    }

    /// The Service and port that a client of a namespace means by a host and port.
    pub(super) fn find(&self, host: &str, port: u16, namespace: &str) -> Option<(&Service, u16)> {
        candidates(host, namespace, &self.cluster_domain)
            .into_iter()
            .find_map(|candidate| {
                let found = self.of_host(&fqdn(&candidate.service, &candidate.namespace, &self.cluster_domain))?;
                // Only the pods of headless Services have names of their own.
                let named = candidate.pod.is_none() || found.headless;
                (named && found.has_port(port)).then_some((found, port))
            })
    }

    /// Whether a host, or one that a wildcard matches, is a Service's with a port for requests.
    pub(super) fn has_http_port(&self, host: &str, port: u16) -> bool {
        let is = |service: &&Service| match host.strip_prefix('*') {
            Some(suffix) => service.host.ends_with(suffix),
            None => service.host == host,
        };
        let mut services = self.services.values().filter(is);
        services.any(|service| service.has_port(port) && service.protocol(port) != Declared::Tcp)
    }
}

/// The labels of a slice's pods that are ready; none of one that is no pod among the files.
fn ready<'a>(
    slice: &'a Value,
    namespace: &'a str,
    pods: &'a HashMap<(String, String), Labels>,
) -> impl Iterator<Item = Labels> + 'a {
    let endpoints = slice.pointer("/endpoints").and_then(Value::as_array);
    let ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
    let endpoints = endpoints.into_iter().flatten().filter(ready);
    endpoints.flat_map(move |endpoint| {
        let pod = text(endpoint, "/targetRef/name").map(|name| (namespace.to_owned(), name.to_owned()));
        let labels = pod.and_then(|pod| pods.get(&pod)).cloned().unwrap_or_default();
        let addresses = endpoint["addresses"].as_array().map_or(0, Vec::len);
        (addresses > 0).then_some(labels)
    })
}

fn is(object: &Value, api: &str, kind: &str) -> bool {
    text(object, "/apiVersion") == Some(api) && text(object, "/kind") == Some(kind)
}

fn place(object: &Value, places: Places<'_>) -> (String, String) {
    let namespace = text(object, "/metadata/namespace").unwrap_or(places.namespace);
    let name = text(object, "/metadata/name").unwrap_or_default();
    (namespace.to_owned(), name.to_owned())
}
