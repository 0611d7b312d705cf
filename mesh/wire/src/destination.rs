//! Between the message of a destination and `mesh_core`'s type.

use crate::check::{bounded, each, indices, named, within};
use crate::convert::{ConvertError, port, protocol_from, protocol_to};
use crate::resources as wire;
use crate::routing::{self, MOST_DESTINATIONS};
use mesh_core::client_tls::TlsRule;
use mesh_core::destination::{Destination, Endpoint, Resolution, Subset};
use mesh_core::identity::{IdentityError, SpiffeId};
use mesh_core::traffic::{Locality, Traffic};
use mesh_core::workload;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

impl TryFrom<&wire::Destination> for Destination {
    type Error = ConvertError;

    fn try_from(message: &wire::Destination) -> Result<Self, ConvertError> {
        let lists = Lists::new(message)?;
        let resolution = match wire::Resolution::try_from(message.resolution) {
            Ok(wire::Resolution::Balanced) => Resolution::Balanced,
            Ok(wire::Resolution::OriginalDestination) => Resolution::OriginalDestination,
            Ok(wire::Resolution::AsDialled) => Resolution::AsDialled,
            Ok(wire::Resolution::Dynamic) => Resolution::Dynamic,
            Err(_) => {
                return Err(ConvertError::Enumeration {
                    field: "resolution",
                    value: message.resolution,
                });
            }
        };
        let endpoints = |endpoints: &[wire::Endpoint]| {
            let each = endpoints.iter().enumerate();
            each.map(|(index, entry)| lists.endpoint(index, entry))
                .collect::<Result<_, _>>()
        };
        let mut destination = Self {
            host: message.host.as_str().into(),
            namespace: message.namespace.as_str().into(),
            port: port("port", message.port)?,
            protocol: protocol_from("protocol", message.protocol)?,
            resolution,
            endpoints: endpoints(&message.endpoints)?,
            unready: endpoints(&message.unready)?,
            rule: (!message.rule.is_empty()).then(|| message.rule.as_str().into()),
            tls: message.client_tls.as_ref().map(TlsRule::try_from).transpose()?,
            traffic: traffic(message.traffic.as_ref())?,
            names: crate::names::names(&message.names, message.endpoints.len())?,
            by_sni: message.by_sni,
            ..Self::default()
        };
        bounded("subsets", &message.subsets, MOST_DESTINATIONS)?;
        destination.subsets = each("subsets", &message.subsets, |subset| {
            Ok(Subset {
                name: named("name", &subset.name)?,
                endpoints: indices("endpoints", &subset.endpoints, destination.endpoints.len())?,
                unready: indices("unready", &subset.unready, destination.unready.len())?,
                tls: subset.client_tls.as_ref().map(TlsRule::try_from).transpose()?,
                // Most subsets say nothing of their own.
                traffic: if subset.traffic == message.traffic {
                    destination.traffic.clone()
                } else {
                    traffic(subset.traffic.as_ref())?
                },
            })
        })?;
        let routes = message.routes.as_ref();
        destination.routes = routes
            .map(|routes| routing::routes(routes, destination.subsets.len()).map(Arc::new))
            .transpose()?;
        destination.identities = lists.identities;
        Ok(destination)
    }
}

fn traffic(message: Option<&wire::Traffic>) -> Result<Arc<Traffic>, ConvertError> {
    let traffic = message.map(Traffic::try_from).transpose()?;
    Ok(Arc::new(traffic.unwrap_or_default()))
}

/// What endpoints refer to by index.
struct Lists {
    identities: Vec<SpiffeId>,
    workloads: Vec<workload::Workload>,
    unknown: workload::Workload,
    localities: Vec<Arc<Locality>>,
    ranks: Vec<Box<[Box<str>]>>,
}

impl Lists {
    fn new(message: &wire::Destination) -> Result<Self, ConvertError> {
        let identities = message.identities.iter().map(|id| id.parse());
        let boxed = |ranks: &wire::Ranks| ranks.values.iter().map(|value| value.as_str().into()).collect();
        Ok(Self {
            identities: identities.collect::<Result<_, IdentityError>>()?,
            workloads: message.workloads.iter().map(Into::into).collect(),
            unknown: workload::Workload::default(),
            localities: message.localities.iter().map(|it| Arc::new(it.into())).collect(),
            ranks: message.ranks.iter().map(boxed).collect(),
        })
    }

    fn endpoint(&self, index: usize, entry: &wire::Endpoint) -> Result<Endpoint, ConvertError> {
        let ip = match entry.address.len() {
            4 => <[u8; 4]>::try_from(&entry.address[..]).map(IpAddr::from),
            _ => <[u8; 16]>::try_from(&entry.address[..]).map(IpAddr::from),
        }
        .map_err(|_| ConvertError::Address(index, entry.address.len()))?;
        let identity = listed(&self.identities, entry.identity, ConvertError::IdentityIndex(index))?;
        if entry.mutual_tls && identity.is_none() {
            return Err(ConvertError::MissingIdentity(index));
        }
        let workload = listed(&self.workloads, entry.workload, ConvertError::WorkloadIndex(index))?;
        let elsewhere = |field, value| ConvertError::Index { field, value };
        let locality = elsewhere("endpoints.locality", entry.locality);
        let ranks = elsewhere("endpoints.ranks", entry.ranks);
        Ok(Endpoint {
            address: SocketAddr::new(ip, port("endpoints.port", entry.port)?),
            mutual_tls: entry.mutual_tls,
            identity: identity.cloned(),
            workload: workload.unwrap_or(&self.unknown).clone(),
            locality: listed(&self.localities, entry.locality, locality)?.cloned(),
            weight: match entry.weight {
                None => 1,
                Some(weight) => within("endpoints.weight", weight, |weight| weight > 0, "1 or more")?,
            },
            ranks: listed(&self.ranks, entry.ranks, ranks)?.cloned().unwrap_or_default(),
        })
    }
}

/// The entry of a list at an index plus one; nothing at 0.
fn listed<T>(list: &[T], at: u32, missing: ConvertError) -> Result<Option<&T>, ConvertError> {
    let Some(at) = at.checked_sub(1) else {
        return Ok(None);
    };
    let found = usize::try_from(at).ok().and_then(|at| list.get(at));
    found.map(Some).ok_or(missing)
}

/// Values that many endpoints share, each once.
struct Listing<'a, T: ?Sized> {
    list: Vec<&'a T>,
    /// Indices into `list`, plus one.
    places: HashMap<&'a T, u32>,
}

impl<'a, T: Eq + Hash + ?Sized> Listing<'a, T> {
    fn new(values: impl Iterator<Item = &'a T>) -> Self {
        let (mut list, mut places) = (Vec::new(), HashMap::new());
        for value in values {
            places.entry(value).or_insert_with(|| {
                list.push(value);
                u32::try_from(list.len()).unwrap_or_default()
            });
        }
        Self { list, places }
    }

    fn at(&self, value: &T) -> u32 {
        self.places.get(value).copied().unwrap_or_default()
    }
}

impl From<&Destination> for wire::Destination {
    fn from(destination: &Destination) -> Self {
        // A destination has many endpoints, and few workloads and places.
        let all = || destination.endpoints.iter().chain(&destination.unready);
        let nothing = workload::Workload::default();
        let identities = Listing::new(destination.identities.iter());
        let workloads = Listing::new(all().map(|it| &it.workload).filter(|it| **it != nothing));
        let localities = Listing::new(all().filter_map(|it| it.locality.as_deref()));
        let ranks = Listing::new(all().map(|it| &*it.ranks).filter(|it| !it.is_empty()));
        let endpoint = |endpoint: &Endpoint| wire::Endpoint {
            address: match endpoint.address.ip() {
                IpAddr::V4(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
            },
            port: endpoint.address.port().into(),
            mutual_tls: endpoint.mutual_tls,
            identity: endpoint.identity.as_ref().map_or(0, |it| identities.at(it)),
            workload: workloads.at(&endpoint.workload),
            locality: endpoint.locality.as_deref().map_or(0, |it| localities.at(it)),
            weight: (endpoint.weight > 1).then_some(endpoint.weight),
            ranks: ranks.at(&endpoint.ranks),
        };
        Self {
            host: destination.host.to_string(),
            namespace: destination.namespace.to_string(),
            port: destination.port.into(),
            protocol: protocol_to(destination.protocol),
            resolution: match destination.resolution {
                Resolution::Balanced => wire::Resolution::Balanced,
                Resolution::OriginalDestination => wire::Resolution::OriginalDestination,
                Resolution::AsDialled => wire::Resolution::AsDialled,
                Resolution::Dynamic => wire::Resolution::Dynamic,
            }
            .into(),
            endpoints: destination.endpoints.iter().map(endpoint).collect(),
            unready: destination.unready.iter().map(endpoint).collect(),
            identities: identities.list.iter().map(ToString::to_string).collect(),
            workloads: workloads.list.iter().map(|it| (*it).into()).collect(),
            client_tls: destination.tls.as_ref().map(Into::into),
            localities: localities.list.iter().map(|it| (*it).into()).collect(),
            ranks: ranks
                .list
                .iter()
                .map(|it| wire::Ranks {
                    values: it.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            traffic: traffic_message(&destination.traffic),
            subsets: destination
                .subsets
                .iter()
                .map(|subset| wire::Subset {
                    name: subset.name.to_string(),
                    endpoints: subset.endpoints.clone(),
                    unready: subset.unready.clone(),
                    client_tls: subset.tls.as_ref().map(Into::into),
                    traffic: traffic_message(&subset.traffic),
                })
                .collect(),
            routes: destination.routes.as_deref().map(Into::into),
            rule: destination.rule.as_ref().map(ToString::to_string).unwrap_or_default(),
            names: destination.names.iter().map(Into::into).collect(),
            by_sni: destination.by_sni,
        }
    }
}

fn traffic_message(traffic: &Traffic) -> Option<wire::Traffic> {
    (*traffic != Traffic::default()).then(|| traffic.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::traffic::tests::whole;
    use mesh_core::protocol::Declared;

    /// With everything set but routes.
    pub(crate) fn destination() -> Destination {
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap();
        let endpoint = |address: &str, identity: Option<&SpiffeId>| Endpoint {
            address: address.parse().unwrap(),
            mutual_tls: identity.is_some(),
            identity: identity.cloned(),
            workload: "reviews".into(),
            locality: Some(Arc::new(Locality::parse("eu/a"))),
            weight: 7,
            ranks: Box::new(["eu".into(), "".into()]),
        };
        Destination {
            subset: "".into(),
            host: "reviews.shop.svc.cluster.local".into(),
            namespace: "shop".into(),
            port: 9080,
            protocol: Declared::Http,
            resolution: Resolution::Balanced,
            endpoints: vec![
                endpoint("10.0.0.1:9080", Some(&identity)),
                Endpoint::at("[fd00::1]:9080".parse().unwrap()),
            ],
            unready: vec![endpoint("10.0.0.2:9080", Some(&identity))],
            rule: Some("shop/reviews".into()),
            identities: vec![identity],
            tls: Some(TlsRule {
                rule: "shop/reviews".into(),
                tls: Arc::new(mesh_core::client_tls::ClientTls::Disable),
            }),
            traffic: Arc::new(whole()),
            subsets: vec![
                Subset {
                    name: "v1".into(),
                    endpoints: vec![0, 1],
                    unready: vec![0],
                    tls: Some(TlsRule {
                        rule: "shop/reviews".into(),
                        tls: Arc::new(mesh_core::client_tls::ClientTls::Disable),
                    }),
                    traffic: Arc::new(whole()),
                },
                Subset {
                    name: "v2".into(),
                    endpoints: Vec::new(),
                    unready: Vec::new(),
                    tls: None,
                    traffic: Arc::default(),
                },
            ],
            routes: None,
            names: vec![mesh_core::destination::Name {
                endpoint: 1,
                host: "reviews.example.com".into(),
                all: true,
            }],
            by_sni: true,
        }
    }

    #[test]
    fn a_destination_survives_the_wire() {
        let message = wire::Destination::from(&destination());
        assert_eq!(Destination::try_from(&message), Ok(destination()));
        assert_eq!(message.workloads.len(), 1, "the endpoints' workload is written once");
        assert_eq!((message.localities.len(), message.ranks.len()), (1, 1));
        let read = Destination::try_from(&message).unwrap();
        assert!(Arc::ptr_eq(&read.traffic, &read.subsets[0].traffic));
        assert_eq!(wire::Destination::from(&Destination::default()).traffic, None);
    }

    #[test]
    fn a_damaged_destination_is_refused_whole() {
        type Damage = (&'static str, fn(&mut wire::Destination));
        let damage: [Damage; 16] = [
            ("locality index", |d| d.endpoints[0].locality = 7),
            ("ranks index", |d| d.unready[0].ranks = 7),
            ("weight", |d| d.endpoints[0].weight = Some(0)),
            ("a subset without a name", |d| d.subsets[0].name.clear()),
            ("a subset's endpoint", |d| d.subsets[0].endpoints = vec![2]),
            ("a subset's unready endpoint", |d| d.subsets[0].unready = vec![1]),
            ("a subset's order", |d| d.subsets[0].endpoints = vec![1, 0]),
            ("a subset's traffic", |d| {
                d.subsets[0].traffic = Some(wire::Traffic {
                    proxy_protocol: 9,
                    ..Default::default()
                });
            }),
            ("workload index", |d| d.endpoints[0].workload = 7),
            ("client_tls", |d| d.client_tls = Some(wire::ClientTls::default())),
            ("port", |d| d.port = 0),
            ("protocol", |d| d.protocol = 99),
            ("address", |d| {
                d.endpoints[0].address = bytes::Bytes::from_static(&[1, 2, 3])
            }),
            ("identity index", |d| d.endpoints[0].identity = 7),
            ("mutual TLS without identity", |d| d.endpoints[0].identity = 0),
            ("identity", |d| d.identities[0] = "spiffe://x".into()),
        ];
        for (what, damage) in damage {
            let mut message = wire::Destination::from(&destination());
            damage(&mut message);
            assert!(Destination::try_from(&message).is_err(), "{what}");
        }
    }
}
