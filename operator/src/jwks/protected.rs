//! The addresses that keys are never fetched from because of who is there: the nodes and the API server.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::guard::Guard;
use crate::kubernetes::watch::{Change, follow};
use crate::metrics::Metrics;

/// Follows them and tells the guard, once all are known and whenever they change. Runs until the process ends.
pub async fn follow_addresses(client: Client, guard: Arc<Guard>, metrics: Arc<Metrics>) {
    let known = Known::new(guard);
    let everything = watcher::Config::default();
    // The API server's own Service, which is there in every cluster.
    let service = watcher::Config::default().fields("metadata.name=kubernetes");
    let slices = watcher::Config::default().labels("kubernetes.io/service-name=kubernetes");
    tokio::join!(
        known.take::<Node>(0, Api::all(client.clone()), everything, metrics.clone(), node),
        known.take::<Service>(
            1,
            Api::namespaced(client.clone(), "default"),
            service,
            metrics.clone(),
            cluster_addresses
        ),
        known.take::<EndpointSlice>(2, Api::namespaced(client, "default"), slices, metrics, endpoints),
    );
}

/// What is known, by source and object.
struct Known {
    guard: Arc<Guard>,
    sources: Mutex<[Source; 3]>,
}

#[derive(Default)]
struct Source {
    listed: bool,
    objects: HashMap<String, Vec<IpAddr>>,
}

impl Known {
    fn new(guard: Arc<Guard>) -> Self {
        Self {
            guard,
            sources: Mutex::default(),
        }
    }

    async fn take<K>(
        &self,
        source: usize,
        api: Api<kube::core::DeserializeGuard<K>>,
        config: watcher::Config,
        metrics: Arc<Metrics>,
        addresses: impl Fn(&K) -> Vec<IpAddr>,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        // What is gone stays until a list is complete: nothing is let through for a moment.
        let mut listing: Option<HashMap<String, Vec<IpAddr>>> = None;
        follow(api, config, metrics, |change| match change {
            Change::Listing => listing = Some(HashMap::new()),
            Change::Listed => {
                if let Some(objects) = listing.take() {
                    self.change(source, |known| {
                        *known = Source { listed: true, objects };
                    });
                }
            }
            Change::Applied(object) => {
                let (name, addresses) = (object.name_any(), addresses(&object));
                match &mut listing {
                    Some(objects) => {
                        objects.insert(name, addresses);
                    }
                    None => self.change(source, |known| {
                        known.objects.insert(name, addresses);
                    }),
                }
            }
            Change::Deleted { name, .. } => self.change(source, |known| {
                known.objects.remove(&name);
            }),
            Change::Undecodable(_) => {}
        })
        .await;
    }

    fn change(&self, source: usize, change: impl FnOnce(&mut Source)) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut sources[source]);
        if sources.iter().all(|source| source.listed) {
            let all: HashSet<IpAddr> = sources
                .iter()
                .flat_map(|source| source.objects.values().flatten().copied())
                .collect();
            self.guard.protect(all);
        }
    }
}

fn node(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.filter_map(|address| address.address.parse().ok()).collect()
}

fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let addresses = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    addresses.filter_map(|address| address.parse().ok()).collect()
}

fn endpoints(slice: &EndpointSlice) -> Vec<IpAddr> {
    let addresses = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}
