//! A response of the operator into what the data path reads, or the reason why not.
//!
//! Trust bundle, workload and policies are taken whole per response or not at all: half of a policy is no policy.
//! Destinations do not depend on each other, so each that decodes comes into force even where another of the same response
//! does not; the negative acknowledgement names those that did not, and their last good ones stay in force.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Weak};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use mesh_core::destination::Destination;
use mesh_core::peer_authentication::Effective;
use mesh_wire::authorization::AuthorizationPolicies;
use mesh_wire::candidates::CandidateSets;
use mesh_wire::convert::{ConvertError, TrustBundle, Workload};
use mesh_wire::request_authentication::RequestAuthentications;
use mesh_wire::resources::{self as wire, SELF_NAME, type_url};
use mesh_wire::tls::material::{MaterialError, root_store};
use prost::Message;
use rustls_pki_types::CertificateDer;

use crate::cluster::Cluster;

use super::authorization::{Compiled, Ready, UnreadableKeys};
use super::candidates::Candidates;
use super::mesh::Mesh;
use super::table::Known;

/// Reasons that go back in one negative acknowledgement; more of them would say no more.
const MOST_REASONS: usize = 10;

/// Why a resource is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("a response of type {0:?}, which was not asked for")]
    Type(String),
    #[error("the only resource of its type is named {SELF_NAME:?}")]
    NotSelf,
    #[error("holds no resource")]
    Empty,
    #[error("holds a resource of type {0:?}")]
    OtherType(String),
    #[error("not a message of its type: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error(transparent)]
    Invalid(#[from] ConvertError),
    #[error("trust bundle: {0}")]
    Roots(#[from] MaterialError),
    #[error(transparent)]
    Keys(#[from] UnreadableKeys),
}

/// What came of a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why not all of it is in force; for the negative acknowledgement.
    pub(super) refused: Option<String>,
    /// Names that nobody here asks for any more.
    pub(super) unwanted: Vec<String>,
}

/// Applies responses.
#[derive(Debug, Default)]
pub(super) struct Applier {
    /// Destinations in use by host and port, so that the names of one Service share one. Equality is checked.
    shared: HashMap<(Arc<str>, u16), Weak<Cluster>>,
    /// The size of `shared` at which ended entries are cleared out.
    clear_at: usize,
}

impl Applier {
    /// Takes a response.
    pub(super) fn apply(&mut self, mesh: &Mesh, response: &DeltaDiscoveryResponse) -> Outcome {
        let refused = match response.type_url.as_str() {
            type_url::DESTINATION => return self.destinations(mesh, response),
            type_url::KEY_REFRESH => return refreshed(mesh, response),
            type_url::TRUST_BUNDLE => own(mesh, response, trust_bundle, Mesh::set_trust),
            type_url::WORKLOAD => own(mesh, response, workload, Mesh::set_workload),
            type_url::INBOUND_POLICY => own(mesh, response, inbound, Mesh::set_inbound),
            type_url::AUTHORIZATION_POLICIES => own(mesh, response, authorization, Mesh::set_authorization),
            type_url::REQUEST_AUTHENTICATIONS => own(mesh, response, tokens, Mesh::set_tokens),
            type_url::CANDIDATE_SETS => own(mesh, response, candidates, Mesh::set_candidates),
            other => Some(Refusal::Type(other.chars().take(200).collect()).to_string()),
        };
        Outcome {
            refused,
            unwanted: Vec::new(),
        }
    }

    fn destinations(&mut self, mesh: &Mesh, response: &DeltaDiscoveryResponse) -> Outcome {
        let mut outcome = Outcome::default();
        let mut reasons = Reasons::default();
        let mut changed = false;
        for resource in &response.resources {
            let Some(slot) = mesh.slot_named(&resource.name) else {
                outcome.unwanted.push(resource.name.clone());
                continue;
            };
            match destination(resource) {
                Ok(mut destination) => {
                    if let Some(Known::Found { cluster: before, .. }) = slot.known().as_deref() {
                        keep(before, &mut destination);
                    }
                    slot.set(Known::Found {
                        cluster: self.share(mesh, destination),
                        version: resource.version.as_str().into(),
                    });
                    changed = true;
                }
                Err(refusal) => reasons.add(&resource.name, &refusal),
            }
        }
        for name in &response.removed_resources {
            match mesh.slot_named(name) {
                Some(slot) => {
                    slot.set(Known::Absent);
                    changed = true;
                }
                None => outcome.unwanted.push(name.clone()),
            }
        }
        if changed {
            mesh.updated();
        }
        outcome.refused = reasons.text();
        outcome
    }

    /// The destination in use that equals this one, or this one.
    fn share(&mut self, mesh: &Mesh, destination: Destination) -> Arc<Cluster> {
        let key = (destination.host.clone(), destination.port);
        if let Some(held) = self.shared.get(&key).and_then(Weak::upgrade)
            && **held.destination() == destination
        {
            return held;
        }
        if self.shared.len() >= self.clear_at {
            self.shared.retain(|_, held| held.strong_count() > 0);
            self.clear_at = (2 * self.shared.len()).max(1024);
        }
        let cluster = mesh.cluster(destination);
        self.shared.insert(key, Arc::downgrade(&cluster));
        cluster
    }
}

/// Where no endpoint is ready any more, goes on with those that were and are still there, as they are now; also in what
/// routes lead to.
fn keep(before: &Destination, now: &mut Destination) {
    keep_endpoints(before, now);
    let (Some(before), Some(routes)) = (&before.routes, &mut now.routes) else {
        return;
    };
    for at in 0..routes.destinations.len() {
        let other = &routes.destinations[at];
        if !other.endpoints.is_empty() || other.unready.is_empty() {
            continue;
        }
        let same = |it: &&Arc<Destination>| it.host == other.host && it.port == other.port;
        if let Some(held) = before.destinations.iter().find(same) {
            keep_endpoints(held, Arc::make_mut(&mut Arc::make_mut(routes).destinations[at]));
        }
    }
}

fn keep_endpoints(before: &Destination, now: &mut Destination) {
    if !now.endpoints.is_empty() || now.unready.is_empty() {
        return;
    }
    let were = |address| before.endpoints.iter().any(|endpoint| endpoint.address == address);
    // Which of the unready ones are kept, by their indices among those.
    let mut kept = Vec::new();
    for (endpoint, at) in now.unready.iter().zip(0_u32..) {
        if were(endpoint.address) {
            kept.push(at);
            now.endpoints.push(endpoint.clone());
        }
    }
    for subset in &mut now.subsets {
        let own = (0_u32..)
            .zip(&kept)
            .filter(|(_, unready)| subset.unready.contains(unready));
        subset.endpoints = own.map(|(at, _)| at).collect();
    }
    if !now.endpoints.is_empty() {
        tracing::warn!(
            host = &*now.host,
            port = now.port,
            endpoints = now.endpoints.len(),
            "no endpoint is ready any more: those that were ready last are used on"
        );
    }
}

/// Takes a response of a type of which there is one resource; the reason where it is refused.
fn own<T>(
    mesh: &Mesh,
    response: &DeltaDiscoveryResponse,
    parse: fn(&Resource) -> Result<T, Refusal>,
    set: fn(&Mesh, T, &str),
) -> Option<String> {
    if !response.removed_resources.is_empty() {
        // The pod lives and its last policy with it: without one it would have to refuse everything.
        tracing::warn!(
            type_url = response.type_url,
            "the operator knows none any more; the last one stays in force"
        );
    }
    let mut reasons = Reasons::default();
    let mut parsed = Vec::new();
    for resource in &response.resources {
        let own = if resource.name == SELF_NAME {
            parse(resource)
        } else {
            Err(Refusal::NotSelf)
        };
        match own {
            Ok(value) => parsed.push((value, resource.version.as_str())),
            Err(refusal) => reasons.add(&resource.name, &refusal),
        }
    }
    let refused = reasons.text();
    if refused.is_none()
        && let Some((value, version)) = parsed.pop()
    {
        set(mesh, value, version);
        mesh.updated();
    }
    refused
}

/// Takes answers about keys that were to be fetched again. Each ends its subscription.
fn refreshed(mesh: &Mesh, response: &DeltaDiscoveryResponse) -> Outcome {
    let mut outcome = Outcome::default();
    let mut reasons = Reasons::default();
    for resource in &response.resources {
        let answer = message::<wire::KeyRefresh>(resource, type_url::KEY_REFRESH);
        // What cannot be read says nothing of the keys.
        let looked = answer.as_ref().is_ok_and(|answer| answer.fetched);
        if let Err(refusal) = &answer {
            reasons.add(&resource.name, refusal);
        }
        mesh.keys().answered(&resource.name, looked);
        outcome.unwanted.push(resource.name.clone());
    }
    for name in &response.removed_resources {
        // The operator does not fetch for us what our rules do not name: the next rules will say so.
        mesh.keys().answered(name, true);
        outcome.unwanted.push(name.clone());
    }
    outcome.refused = reasons.text();
    outcome
}

fn trust_bundle(resource: &Resource) -> Result<TrustBundle, Refusal> {
    let bundle = TrustBundle::try_from(&message::<wire::TrustBundle>(resource, type_url::TRUST_BUNDLE)?)?;
    // What could not be verified with must not replace what can.
    let roots: Vec<_> = bundle
        .roots
        .iter()
        .map(|root| CertificateDer::from(&root[..]))
        .collect();
    root_store(&roots)?;
    Ok(bundle)
}

fn workload(resource: &Resource) -> Result<Workload, Refusal> {
    Ok(Workload::try_from(&message::<wire::Workload>(
        resource,
        type_url::WORKLOAD,
    )?)?)
}

fn inbound(resource: &Resource) -> Result<Effective, Refusal> {
    Ok(Effective::try_from(&message::<wire::InboundPolicy>(
        resource,
        type_url::INBOUND_POLICY,
    )?)?)
}

fn authorization(resource: &Resource) -> Result<Compiled, Refusal> {
    let message = message::<wire::AuthorizationPolicies>(resource, type_url::AUTHORIZATION_POLICIES)?;
    Ok(Compiled::new(AuthorizationPolicies::try_from(&message)?))
}

fn tokens(resource: &Resource) -> Result<Ready, Refusal> {
    let message = message::<wire::RequestAuthentications>(resource, type_url::REQUEST_AUTHENTICATIONS)?;
    Ok(Ready::new(RequestAuthentications::try_from(&message)?)?)
}

fn candidates(resource: &Resource) -> Result<Option<Candidates>, Refusal> {
    let message = message::<wire::CandidateSets>(resource, type_url::CANDIDATE_SETS)?;
    Ok(Candidates::new(CandidateSets::try_from(&message)?)?)
}

fn destination(resource: &Resource) -> Result<Destination, Refusal> {
    Ok(Destination::try_from(&message::<wire::Destination>(
        resource,
        type_url::DESTINATION,
    )?)?)
}

fn message<M: Message + Default>(resource: &Resource, type_url: &str) -> Result<M, Refusal> {
    let any = resource.resource.as_ref().ok_or(Refusal::Empty)?;
    if any.type_url != type_url {
        return Err(Refusal::OtherType(any.type_url.chars().take(200).collect()));
    }
    Ok(M::decode(any.value.as_slice())?)
}

/// Reasons gathered into one text of bounded length.
#[derive(Default)]
struct Reasons {
    text: String,
    count: usize,
}

impl Reasons {
    fn add(&mut self, name: &str, refusal: &Refusal) {
        tracing::warn!(resource = name, reason = %refusal, "a resource is refused; the last good one stays in force");
        self.count += 1;
        if self.count <= MOST_REASONS {
            let separator = if self.text.is_empty() { "" } else { "; " };
            let name: String = name.chars().take(300).collect();
            let _ = write!(self.text, "{separator}{name}: {refusal}");
        }
    }

    fn text(mut self) -> Option<String> {
        if self.count > MOST_REASONS {
            let _ = write!(self.text, "; and {} more", self.count - MOST_REASONS);
        }
        (self.count > 0).then_some(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::destination::{Endpoint, Resolution, Subset};
    use mesh_core::protocol::Declared;
    use mesh_core::routing::Routes;

    fn endpoints(last: &[u8]) -> Vec<Endpoint> {
        last.iter()
            .map(|last| Endpoint {
                address: ([10, 0, 0, *last], 80).into(),
                mutual_tls: false,
                identity: None,
                workload: "web".into(),
                locality: None,
                weight: 1,
                ranks: Box::default(),
            })
            .collect()
    }

    fn destination(ready: &[u8], unready: &[u8]) -> Destination {
        Destination {
            host: "web".into(),
            namespace: "shop".into(),
            port: 80,
            protocol: Declared::Http,
            resolution: Resolution::Balanced,
            endpoints: endpoints(ready),
            unready: endpoints(unready),
            identities: Vec::new(),
            tls: None,
            ..Destination::default()
        }
    }

    #[test]
    fn the_last_endpoints_are_kept_when_all_turn_unready_and_not_when_they_go() {
        for (case, before, now, want) in [
            (
                "all unready",
                [1, 2].as_slice(),
                (&[][..], [1, 2].as_slice()),
                [1, 2].as_slice(),
            ),
            ("one of them is gone", &[1, 2], (&[], &[2]), &[2]),
            ("a new one was never ready", &[1], (&[], &[1, 3]), &[1]),
            ("only new ones", &[1], (&[], &[3]), &[]),
            ("one is ready again", &[1, 2], (&[2], &[]), &[2]),
            ("scaled to nothing", &[1, 2], (&[], &[]), &[]),
        ] {
            let mut got = destination(now.0, now.1);
            keep(&destination(before, &[]), &mut got);
            assert_eq!(got.endpoints, endpoints(want), "{case}");
        }
        let subset = |endpoints: &[u32], unready: &[u32]| Subset {
            endpoints: endpoints.to_vec(),
            unready: unready.to_vec(),
            ..Subset::default()
        };
        let mut got = destination(&[], &[1, 2, 3]);
        got.subsets = vec![subset(&[], &[0, 1]), subset(&[], &[2])];
        keep(&destination(&[2, 3], &[]), &mut got);
        assert_eq!(got.subsets, [subset(&[0], &[0, 1]), subset(&[1], &[2])], "its subsets");
        // For as long as it lasts.
        let mut once = destination(&[], &[1, 2]);
        keep(&destination(&[1, 2], &[]), &mut once);
        let mut twice = destination(&[], &[1, 2, 3]);
        keep(&once, &mut twice);
        assert_eq!(twice.endpoints, endpoints(&[1, 2]));
    }

    #[test]
    fn subsets_and_what_routes_lead_to_keep_theirs() {
        let subset = |endpoints: &[u32], unready: &[u32]| Subset {
            name: "v1".into(),
            endpoints: endpoints.into(),
            unready: unready.into(),
            tls: None,
            traffic: Arc::default(),
        };
        let versions = |ready: &[u8], unready: &[u8], subset: Subset| Destination {
            subsets: vec![subset],
            ..destination(ready, unready)
        };
        let routed = |other: Destination| Destination {
            routes: Some(Arc::new(Routes {
                destinations: vec![Arc::new(other)],
                ..Routes::default()
            })),
            ..destination(&[9], &[])
        };
        let before = versions(&[1, 2, 3], &[], subset(&[1], &[]));
        let now = || versions(&[], &[2, 3, 4], subset(&[], &[1, 2]));
        let want = Destination {
            endpoints: endpoints(&[2, 3]),
            subsets: vec![subset(&[1], &[1, 2])],
            ..now()
        };
        let mut got = now();
        keep(&before, &mut got);
        assert_eq!(got, want);
        let mut got = routed(now());
        keep(&routed(before), &mut got);
        assert_eq!(got, routed(want));
    }
}
