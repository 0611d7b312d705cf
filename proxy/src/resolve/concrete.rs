//! From a destination as the operator sends it to one whose endpoints are addresses: names resolved, what was dialled, or
//! what a request names.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mesh_core::destination::{Destination, Endpoint, Name, Resolution};
use mesh_core::service_entry::covers;

use super::names::{Names, Watched};
use crate::cluster::Cluster;
use crate::discovery::Mesh;

/// The most addresses dialled, and the most hosts named, of which a destination is kept ready.
const MOST_READY: usize = 1024;

/// How long a first use waits for names.
const FIRST_USE: Duration = Duration::from_secs(5);

/// What a request or connection is for.
#[derive(Debug, Clone, Copy)]
pub struct Towards<'a> {
    /// The address that was dialled.
    pub dialled: SocketAddr,
    /// The host that was named, where one was.
    pub host: Option<&'a str>,
}

/// What a destination in use knows of its names. Goes with it.
#[derive(Debug, Default)]
pub struct Known {
    named: OnceLock<Named>,
    dialled: Ready<SocketAddr>,
    hosts: Ready<Box<str>>,
}

/// A destination whose endpoints have names.
#[derive(Debug)]
struct Named {
    /// Of each of [`Destination::names`]; `None` where too many names are asked for.
    watched: Box<[Option<Arc<Watched>>]>,
    built: ArcSwapOption<Built>,
    /// Held while one is built.
    building: Mutex<()>,
}

/// A destination as the names were.
#[derive(Debug)]
struct Built {
    cluster: Arc<Cluster>,
    versions: Box<[u64]>,
}

/// Destinations for what clients dial or name.
#[derive(Debug)]
struct Ready<K>(Mutex<HashMap<K, Arc<Cluster>>>);

impl<K> Default for Ready<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Ready<K> {
    fn get(&self, key: K, make: impl FnOnce() -> Arc<Cluster>) -> Arc<Cluster> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MOST_READY && !held.contains_key(&key) {
            held.clear();
        }
        held.entry(key).or_insert_with(make).clone()
    }
}

/// Whether a destination's endpoints are addresses as they are.
#[must_use]
pub fn is_concrete(destination: &Destination) -> bool {
    destination.names.is_empty()
        && matches!(
            destination.resolution,
            Resolution::Balanced | Resolution::OriginalDestination
        )
}

/// The destination with addresses; without endpoints where there are none.
pub async fn concrete(mesh: &Mesh, names: &Names, cluster: &Arc<Cluster>, towards: Towards<'_>) -> Arc<Cluster> {
    match cluster.resolution {
        Resolution::AsDialled => {
            let port = cluster.endpoints.first().map(|endpoint| endpoint.address.port());
            let address = SocketAddr::new(towards.dialled.ip(), port.unwrap_or(towards.dialled.port()));
            let make = || mesh.cluster(with(cluster, vec![Endpoint::at(address)]));
            cluster.known().dialled.get(address, make)
        }
        Resolution::Dynamic => {
            let host = towards.host.filter(|host| covers(&cluster.host, host));
            let Some(host) = host else {
                return mesh.cluster(with(cluster, Vec::new()));
            };
            let one = || mesh.cluster(dynamic(cluster, host));
            let one = cluster.known().hosts.get(host.into(), one);
            Box::pin(named(mesh, names, &one)).await
        }
        Resolution::Balanced | Resolution::OriginalDestination => Box::pin(named(mesh, names, cluster)).await,
    }
}

/// The destination with the addresses of its names, as they are now. The first use waits for them.
async fn named(mesh: &Mesh, names: &Names, cluster: &Arc<Cluster>) -> Arc<Cluster> {
    let named = cluster.known().named.get_or_init(|| Named {
        watched: cluster.names.iter().map(|name| names.watch(&name.host)).collect(),
        built: ArcSwapOption::empty(),
        building: Mutex::default(),
    });
    if named.built.load().is_none() {
        let first = async {
            for watched in named.watched.iter().flatten() {
                watched.first().await;
            }
        };
        // What has not been answered by then has no address yet.
        let _ = tokio::time::timeout(FIRST_USE, first).await;
    }
    named.current(mesh, cluster)
}

impl Named {
    fn current(&self, mesh: &Mesh, cluster: &Cluster) -> Arc<Cluster> {
        let is_current = |built: &Built| {
            let mut held = self.watched.iter().zip(&built.versions);
            held.all(|(watched, version)| watched.as_ref().map_or(0, |watched| watched.found().version) == *version)
        };
        let built = self.built.load_full();
        if let Some(built) = &built
            && is_current(built)
        {
            return built.cluster.clone();
        }
        // While one worker builds it, the others go on with the one before.
        let building = match (self.building.try_lock(), &built) {
            (Ok(building), _) => building,
            (Err(_), Some(built)) => return built.cluster.clone(),
            (Err(_), None) => self.building.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if let Some(built) = self.built.load_full()
            && is_current(&built)
        {
            return built.cluster.clone();
        }
        let found: Vec<_> = self
            .watched
            .iter()
            .map(|watched| watched.as_ref().map(|it| it.found()))
            .collect();
        let addresses = |at: usize| {
            found
                .get(at)
                .and_then(Option::as_ref)
                .map_or(&[][..], |it| &it.addresses)
        };
        let made = mesh.cluster(resolved(cluster, addresses));
        self.built.store(Some(Arc::new(Built {
            cluster: made.clone(),
            versions: found
                .iter()
                .map(|found| found.as_ref().map_or(0, |it| it.version))
                .collect(),
        })));
        drop(building);
        made
    }
}

/// A destination with other endpoints, which are addresses.
fn with(destination: &Destination, endpoints: Vec<Endpoint>) -> Destination {
    Destination {
        endpoints,
        resolution: Resolution::Balanced,
        names: Vec::new(),
        // What leads here has followed them.
        routes: None,
        subsets: Vec::new(),
        ..destination.clone()
    }
}

/// A destination of requests that name a host.
fn dynamic(destination: &Destination, host: &str) -> Destination {
    let port = destination
        .endpoints
        .first()
        .map_or(destination.port, |it| it.address.port());
    let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let mut made = with(destination, vec![Endpoint::at(unknown)]);
    made.names.push(Name {
        endpoint: 0,
        host: host.into(),
        all: true,
    });
    made
}

/// A destination with addresses in the place of its names; `addresses` are those of the name at an index.
fn resolved<'a>(destination: &Destination, addresses: impl Fn(usize) -> &'a [IpAddr]) -> Destination {
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(destination.endpoints.len());
    for (at, endpoint) in destination.endpoints.iter().enumerate() {
        let name = destination.names.iter().position(|name| name.endpoint as usize == at);
        let Some(name) = name else {
            endpoints.push(endpoint.clone());
            continue;
        };
        let mut of_name = addresses(name).to_vec();
        if destination.names.get(name).is_some_and(|name| name.all) {
            // In the same order whatever order they were answered in.
            of_name.sort_unstable();
        } else {
            of_name.truncate(1);
        }
        endpoints.extend(of_name.into_iter().map(|address| Endpoint {
            address: SocketAddr::new(address, endpoint.address.port()),
            ..endpoint.clone()
        }));
    }
    with(destination, endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(names: &[(u32, bool)]) -> Destination {
        let endpoint = |address: &str, weight| Endpoint {
            weight,
            ..Endpoint::at(address.parse().unwrap())
        };
        Destination {
            host: "api.example.com".into(),
            endpoints: vec![
                endpoint("0.0.0.0:80", 1),
                endpoint("10.0.0.9:81", 2),
                endpoint("0.0.0.0:82", 3),
            ],
            names: names
                .iter()
                .map(|(endpoint, all)| Name {
                    endpoint: *endpoint,
                    host: "a".into(),
                    all: *all,
                })
                .collect(),
            ..Destination::default()
        }
    }

    #[test]
    fn names_become_all_of_their_addresses_or_one() {
        let found: Vec<IpAddr> = ["10.0.0.2", "10.0.0.1"].map(|it| it.parse().unwrap()).into();
        for (names, expected) in [
            (
                &[(0, true), (2, true)][..],
                "10.0.0.1:80/1 10.0.0.2:80/1 10.0.0.9:81/2 10.0.0.1:82/3 10.0.0.2:82/3",
            ),
            (
                &[(0, false), (2, true)],
                "10.0.0.2:80/1 10.0.0.9:81/2 10.0.0.1:82/3 10.0.0.2:82/3",
            ),
        ] {
            let made = resolved(&destination(names), |_| &found);
            let short = |it: &Endpoint| format!("{}/{}", it.address, it.weight);
            let text: Vec<String> = made.endpoints.iter().map(short).collect();
            assert_eq!(text.join(" "), expected);
            assert!(is_concrete(&made));
        }
        let made = resolved(&destination(&[(0, true), (2, true)]), |_| &[]);
        assert_eq!(made.endpoints.len(), 1);
        assert!(!is_concrete(&destination(&[(0, true)])));
    }

    #[test]
    fn a_host_that_a_request_names_is_a_name_on_the_destinations_port() {
        let mut of = destination(&[]);
        of.endpoints.truncate(1);
        let made = dynamic(&of, "www.example.com");
        assert_eq!(
            (
                &*made.names[0].host,
                made.endpoints[0].address.port(),
                is_concrete(&made)
            ),
            ("www.example.com", 80, false)
        );
    }
}
