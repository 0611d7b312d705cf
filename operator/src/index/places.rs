//! Where pods are, what subsets they belong to, and how near they are by the labels of `failoverPriority`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::destination::{Destination, Endpoint};
use mesh_core::labels::Labels;
use mesh_core::traffic::{HOSTNAME, Locality, LocalitySetting, REGION, SUBZONE, Traffic, ZONE};
use mesh_core::workload::DEFAULT_CLUSTER;

use super::changes::Named;
use super::records::PodRecord;
use super::world::World;

/// The label with which a pod says itself where it is: `REGION/ZONE/SUBZONE`, or with dots.
const LOCALITY: &str = "istio-locality";

/// The label of a pod's cluster.
const CLUSTER: &str = "topology.istio.io/cluster";

/// Where a pod is: as its own label says, else as its node's labels do.
#[must_use]
pub fn locality(world: &World, pod: &PodRecord) -> Option<Arc<Locality>> {
    let said = pod.labels.get(LOCALITY).filter(|text| !text.is_empty());
    match said {
        Some(text) if text.contains('/') => Some(Arc::new(Locality::parse(text))),
        Some(text) => Some(Arc::new(Locality::parse(&text.replace('.', "/")))),
        None => world.node(pod.node.as_deref()?).cloned(),
    }
}

/// A pod's labels, with those that say where it is, as Istio adds them to what the pod has itself.
#[must_use]
pub fn labels(world: &World, pod: &PodRecord) -> Labels {
    let locality = locality(world, pod);
    let mut labels = pod.labels.clone();
    for key in [REGION, ZONE, SUBZONE, HOSTNAME, CLUSTER] {
        if let Some(value) = topology(pod, locality.as_deref(), key) {
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    labels
}

/// What a label that says where a pod is has as its value; `None` for other labels, and where it is not known.
fn topology<'a>(pod: &'a PodRecord, locality: Option<&'a Locality>, key: &str) -> Option<&'a str> {
    let place = |part: fn(&Locality) -> &Arc<str>| locality.map(|locality| &**part(locality));
    let value = match key {
        REGION => place(|it| &it.region),
        ZONE => place(|it| &it.zone),
        SUBZONE => place(|it| &it.subzone),
        HOSTNAME => pod.node.as_deref(),
        CLUSTER => Some(DEFAULT_CLUSTER),
        _ => None,
    };
    value.filter(|value| !value.is_empty())
}

fn label<'a>(pod: &'a PodRecord, locality: Option<&'a Locality>, key: &str) -> Option<&'a str> {
    topology(pod, locality, key).or_else(|| pod.labels.get(key).map(String::as_str))
}

/// The pods behind the endpoints of a Service, those on their node's network too.
pub(super) struct Behind<'a>(BTreeMap<SocketAddr, &'a PodRecord>);

impl<'a> Behind<'a> {
    pub(super) fn new(world: &'a World, service: &Named, endpoints: &[&[Endpoint]]) -> Self {
        // Of what is on a node's network the address says nothing, the slice does.
        let named = world.slices_of(service).flat_map(|slice| &slice.endpoints);
        let named: BTreeMap<_, _> = named
            .filter_map(|it| Some((it.address, world.pod_named(it.pod.as_ref()?)?)))
            .collect();
        let found = endpoints.iter().copied().flatten().filter_map(|endpoint| {
            let ip = endpoint.address.ip();
            let pod = world.pod_by_address(ip).map(|(_, pod)| pod);
            Some((endpoint.address, pod.or_else(|| named.get(&ip).copied())?))
        });
        Self(found.collect())
    }

    /// Says where the endpoints are.
    pub(super) fn place(&self, world: &World, destination: &mut Destination) {
        for endpoint in destination.endpoints.iter_mut().chain(&mut destination.unready) {
            let locality = self.0.get(&endpoint.address).and_then(|pod| locality(world, pod));
            endpoint.locality = locality.filter(|locality| !locality.is_empty());
        }
    }

    /// Gives endpoints the values of the labels of `failoverPriority`. They have those of one list: the destination's, else that
    /// of its first subset with one. Another list is taken out of `traffic`, since nothing would be known of it.
    pub(super) fn rank(&self, destination: &mut Destination, traffic: &mut Traffic) {
        let labels = |traffic: &Traffic| -> Option<Vec<Arc<str>>> {
            let list = &traffic.locality.as_ref()?.failover_priority;
            (!list.is_empty()).then(|| list.clone())
        };
        let Some(wanted) = labels(traffic) else { return };
        let subsets = destination.subsets.iter().map(|subset| &subset.traffic);
        let held = std::iter::once(&destination.traffic)
            .chain(subsets)
            .find_map(|traffic| labels(traffic));
        match held {
            None => {
                for endpoint in destination.endpoints.iter_mut().chain(&mut destination.unready) {
                    if let Some(pod) = self.0.get(&endpoint.address) {
                        endpoint.ranks = ranks(pod, endpoint.locality.as_deref(), &wanted);
                    }
                }
            }
            Some(held) if held == wanted => {}
            Some(_) => {
                if let Some(setting) = &mut traffic.locality {
                    setting.failover_priority.clear();
                }
            }
        }
    }

    /// The indices of the endpoints that have all of some labels.
    pub(super) fn having(&self, labels: &Labels, endpoints: &[Endpoint]) -> Vec<u32> {
        let has = |endpoint: &Endpoint| {
            let Some(pod) = self.0.get(&endpoint.address) else {
                return labels.is_empty();
            };
            let locality = endpoint.locality.as_deref();
            labels
                .iter()
                .all(|(key, value)| label(pod, locality, key) == Some(value))
        };
        let indices = (0_u32..).zip(endpoints);
        indices
            .filter_map(|(at, endpoint)| has(endpoint).then_some(at))
            .collect()
    }
}

/// What a pod has of labels; the value that stands for the client's own (`key=value`) is the client's affair.
fn ranks(pod: &PodRecord, locality: Option<&Locality>, wanted: &[Arc<str>]) -> Box<[Box<str>]> {
    let keys = wanted.iter().map(|entry| LocalitySetting::label(entry).0);
    keys.map(|key| label(pod, locality, key).unwrap_or_default().into())
        .collect()
}

/// Where a node is, by its labels.
#[must_use]
pub fn of_node(labels: &BTreeMap<String, String>) -> Option<Locality> {
    let part = |key: &str| labels.get(key).map(String::as_str).unwrap_or_default().into();
    let locality = Locality {
        region: part(REGION),
        zone: part(ZONE),
        subzone: part(SUBZONE),
    };
    (!locality.is_empty()).then_some(locality)
}
