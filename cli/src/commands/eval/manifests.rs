//! The resources in files, parsed as the webhook and the operator parse them.

use mesh_api::mesh_config::MeshConfig;
use mesh_api::request_authentication::RequestAuthenticationPolicy;
use mesh_api::{Invalid, authorization_policy, peer_authentication, request_authentication};
use mesh_core::authorization::policy::{Policy, Target};
use serde_json::Value;

use crate::failure::Failure;
use crate::files::Document;

/// What files say. Resources of other kinds are passed over.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The ConfigMap `istio` of the control plane's namespace.
    pub(super) config: MeshConfig,
    pub(super) peer: Vec<mesh_core::peer_authentication::Policy>,
    pub(super) authorization: Vec<(Target, Policy)>,
    pub(super) request: Vec<(Target, RequestAuthenticationPolicy)>,
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
                self.peer.push(peer_authentication::parse(&resource).map_err(told)?);
            }
            Some("AuthorizationPolicy") if security => {
                place(&mut object);
                let resource = authorization_policy::read(object).map_err(one)?;
                self.authorization
                    .push(authorization_policy::parse(&resource).map_err(told)?);
            }
            Some("RequestAuthentication") if security => {
                place(&mut object);
                let resource = request_authentication::read(object).map_err(one)?;
                self.request
                    .push(request_authentication::parse(&resource).map_err(told)?);
            }
            _ => {}
        }
        Ok(())
    }
}
