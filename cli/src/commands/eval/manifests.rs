//! The resources in files, parsed as the webhook and the operator parse them.

use std::path::Path;

use mesh_api::mesh_config::MeshConfig;
use mesh_api::request_authentication::RequestAuthenticationPolicy;
use mesh_api::{Invalid, authorization_policy, peer_authentication, request_authentication};
use mesh_core::authorization::policy::{Policy, Target};
use serde::Deserialize as _;
use serde_json::Value;

use crate::failure::Failure;

/// How deep lists may lie in lists, and folders in folders.
const MAX_DEPTH: usize = 16;

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
    /// Reads a file, or those of a folder.
    pub(super) fn read(&mut self, path: &Path, places: Places<'_>) -> Result<(), Failure> {
        self.read_at(path, places, 0)
    }

    fn read_at(&mut self, path: &Path, places: Places<'_>, depth: usize) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::other(format!("{}: {error}", path.display()));
        if !path.is_dir() {
            let text = std::fs::read_to_string(path).map_err(failed)?;
            return self.add(&path.display().to_string(), &text, places);
        }
        let entries = std::fs::read_dir(path).map_err(failed)?;
        let mut inner = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        inner.sort();
        let manifest = |path: &Path| {
            path.extension()
                .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|it| end == *it))
        };
        for path in inner
            .iter()
            .filter(|path| path.is_dir() && depth < MAX_DEPTH || manifest(path))
        {
            self.read_at(path, places, depth + 1)?;
        }
        Ok(())
    }

    /// Takes the documents of a text.
    pub(super) fn add(&mut self, origin: &str, text: &str, places: Places<'_>) -> Result<(), Failure> {
        for document in serde_yaml::Deserializer::from_str(text) {
            let object = Value::deserialize(document).map_err(|error| Failure::other(format!("{origin}: {error}")))?;
            self.take(object, places, 0)
                .map_err(|errors| Failure::other(format!("{origin}: {}", errors.join("; "))))?;
        }
        Ok(())
    }

    fn take(&mut self, mut object: Value, places: Places<'_>, depth: usize) -> Result<(), Vec<String>> {
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
            Some("List") if depth < MAX_DEPTH => {
                let items = object
                    .get_mut("items")
                    .and_then(Value::as_array_mut)
                    .map(std::mem::take);
                for item in items.unwrap_or_default() {
                    self.take(item, places, depth + 1)?;
                }
            }
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
