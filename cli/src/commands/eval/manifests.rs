//! The resources in files, parsed as the webhook and the operator parse them.

use std::collections::BTreeSet;

use mesh_api::mesh_config::MeshConfig;
use mesh_api::request_authentication::RequestAuthenticationPolicy;
use mesh_api::{
    Invalid, authorization_policy, candidate, destination_rule, peer_authentication, request_authentication,
    sidecar_resource, virtual_service,
};
use mesh_core::authorization::policy::{Policy, Target};
use mesh_core::candidates::{Candidacy, Candidate, Replaced};
use mesh_core::peer_authentication::Policy as PeerPolicy;
use serde_json::Value;

use crate::failure::Failure;
use crate::files::Document;

/// What files say. Resources of other kinds are passed over.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The ConfigMap `istio` of the control plane's namespace.
    pub(super) config: MeshConfig,
    pub(super) peer: Vec<PeerPolicy>,
    pub(super) authorization: Vec<(Target, Policy)>,
    pub(super) request: Vec<(Target, RequestAuthenticationPolicy)>,
    pub(super) destination_rules: Vec<mesh_core::destination_rule::Rule>,
    pub(super) virtual_services: Vec<mesh_core::routing::VirtualService>,
    pub(super) scopes: Vec<mesh_core::sidecar_scope::Scope>,
    /// The PeerAuthentications that are evaluated beside those in force.
    pub(super) tried: Vec<Candidacy<PeerPolicy>>,
    candidates: Candidates,
}

/// What is not in force.
#[derive(Debug, Default)]
struct Candidates {
    peer: Vec<Candidacy<PeerPolicy>>,
    authorization: Vec<Candidacy<(Target, Policy)>>,
    request: Vec<Candidacy<(Target, RequestAuthenticationPolicy)>>,
}

/// Where resources without a namespace are, and where the control plane is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) namespace: &'a str,
    pub(super) system: &'a str,
}

impl Manifests {
    /// Takes what files hold.
    pub(super) fn read(documents: Vec<Document>, places: Places<'_>) -> Result<Self, Failure> {
        let mut manifests = Self::default();
        for Document { file, object, .. } in documents {
            let taken = match object {
                Ok(object) => manifests.take(object, places).map_err(|errors| errors.join("; ")),
                Err(reason) => Err(reason),
            };
            taken.map_err(|reason| Failure::other(format!("{file}: {reason}")))?;
        }
        Ok(manifests)
    }

    fn take(&mut self, mut object: Value, places: Places<'_>) -> Result<(), Vec<String>> {
        let text = |object: &Value, path: &str| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let (kind, api) = (text(&object, "/kind"), text(&object, "/apiVersion").unwrap_or_default());
        let namespace = text(&object, "/metadata/namespace").unwrap_or_else(|| places.namespace.to_owned());
        let name = text(&object, "/metadata/name").unwrap_or_default();
        let security = api.starts_with("security.istio.io/");
        let told = |errors: Vec<Invalid>| -> Vec<String> {
            errors
                .iter()
                .map(|error| format!("{namespace}/{name}: {error}"))
                .collect()
        };
        let one = |error| told(vec![error]);
        let place = |object: &mut Value| {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("namespace".to_owned(), namespace.clone().into());
            }
        };
        match kind.as_deref() {
            Some("ConfigMap") if api == "v1" && name == "istio" && namespace == places.system => {
                let mesh = text(&object, "/data/mesh").unwrap_or_default();
                self.config = MeshConfig::parse(&mesh).map_err(told)?;
            }
            Some("PeerAuthentication") if security => {
                place(&mut object);
                let resource = peer_authentication::read(object).map_err(one)?;
                let policy = peer_authentication::parse(&resource).map_err(told)?;
                match candidate::of(&resource).map_err(told)? {
                    None => self.peer.push(policy),
                    Some(candidate) => self.candidates.peer.push(Candidacy { candidate, policy }),
                }
            }
            Some("AuthorizationPolicy") if security => {
                place(&mut object);
                let resource = authorization_policy::read(object).map_err(one)?;
                let policy = authorization_policy::parse(&resource).map_err(told)?;
                match candidate::of(&resource).map_err(told)? {
                    None => self.authorization.push(policy),
                    Some(candidate) => self.candidates.authorization.push(Candidacy { candidate, policy }),
                }
            }
            Some("RequestAuthentication") if security => {
                place(&mut object);
                let resource = request_authentication::read(object).map_err(one)?;
                let policy = request_authentication::parse(&resource).map_err(told)?;
                match candidate::of(&resource).map_err(told)? {
                    None => self.request.push(policy),
                    Some(candidate) => self.candidates.request.push(Candidacy { candidate, policy }),
                }
            }
            Some("DestinationRule") if api.starts_with("networking.istio.io/") => {
                place(&mut object);
                let resource = destination_rule::read(object).map_err(one)?;
                self.destination_rules
                    .push(destination_rule::parse(&resource).map_err(told)?);
            }
            Some("VirtualService") if api.starts_with("networking.istio.io/") => {
                place(&mut object);
                let resource = virtual_service::read(object).map_err(one)?;
                self.virtual_services
                    .push(virtual_service::parse(&resource).map_err(told)?);
            }
            Some("Sidecar") if api.starts_with("networking.istio.io/") => {
                place(&mut object);
                let resource = sidecar_resource::read(object).map_err(one)?;
                self.scopes.push(sidecar_resource::parse(&resource).map_err(told)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// As if a candidate set was in force.
    pub(super) fn with(mut self, set: &str) -> Result<Self, Failure> {
        let Candidates {
            peer,
            authorization,
            request,
        } = std::mem::take(&mut self.candidates);
        let peers = peer.iter().map(|it| &it.candidate);
        let of_calls = authorization.iter().map(|it| &it.candidate);
        let all = peers.chain(of_calls).chain(request.iter().map(|it| &it.candidate));
        let sets: BTreeSet<&str> = all.map(|candidate| candidate.set.as_str()).collect();
        if !sets.contains(set) {
            let known = match sets.len() {
                0 => "none is in the files".to_owned(),
                _ => format!("the files have {}", sets.into_iter().collect::<Vec<_>>().join(", ")),
            };
            return Err(Failure::other(format!(
                "--candidate {set}: no such candidate set: {known}"
            )));
        }
        self.tried = chosen(peer, set);
        join(&mut self.authorization, chosen(authorization, set), |it| {
            (&it.namespace, &it.name)
        });
        join(&mut self.request, chosen(request, set), |it| (&it.namespace, &it.name));
        Ok(self)
    }
}

fn chosen<P>(candidates: Vec<Candidacy<P>>, set: &str) -> Vec<Candidacy<P>> {
    let mut candidates = candidates;
    candidates.retain(|it| it.candidate.set == set);
    candidates
}

/// Takes out what candidates replace, and adds them.
fn join<P>(
    in_force: &mut Vec<(Target, P)>,
    candidates: Vec<Candidacy<(Target, P)>>,
    named: impl Fn(&P) -> (&String, &String),
) {
    let by = candidates.iter().map(|it| -> (&str, &Candidate) {
        let (namespace, _) = named(&it.policy.1);
        (namespace, &it.candidate)
    });
    let replaced = Replaced::by(by);
    in_force.retain(|(_, policy)| {
        let (namespace, name) = named(policy);
        !replaced.contains(namespace, name)
    });
    in_force.extend(candidates.into_iter().map(|it| it.policy));
}
