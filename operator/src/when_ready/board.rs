//! What the status of the operator's own PeerAuthentications is to say. Whoever decides puts it up, and who writes statuses
//! looks here: an object's status has one writer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_api::PeerAuthentication;
use mesh_api::status::Status;
use mesh_api::when_ready::{Progress, is_ours, show};

/// By namespace. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<Arc<str>, Progress>>>);

impl Board {
    /// Puts a namespace's progress up.
    pub(super) fn put(&self, namespace: &Arc<str>, progress: Progress) {
        self.held().insert(namespace.clone(), progress);
    }

    /// Takes the progress of all others down.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.held().retain(|namespace, _| is_there(namespace));
    }

    /// Takes everything down.
    pub(super) fn clear(&self) {
        self.held().clear();
    }

    /// Adds what is up about a resource to its status, if it is the operator's own.
    pub fn show(&self, resource: &PeerAuthentication, status: &mut Status, now: &Time) {
        if !is_ours(resource) {
            return;
        }
        let namespace = resource.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(progress) = self.held().get(namespace) {
            show(status, progress, resource.metadata.generation, now);
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
