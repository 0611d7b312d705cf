//! What is told of the traffic: Istio's standard metrics, the access log, and the application's own metrics on one page with
//! them.
//!
//! The data path makes one record per request ([`request`]) or connection ([`connection`]), fills it in as facts become
//! known, and drops it at the end; the record then counts and, where one is due, writes a log line. Each worker has a
//! [`recorder`] of its own: it resolves labels ([`labels`]) once and counts in series that it alone writes ([`series`],
//! [`histogram`]), so that a request in the steady state takes no lock, formats nothing and allocates nothing. What is shared
//! ([`books`]) is only touched when a series is new or old. A scrape reads all of them ([`page`]).
//!
//! Who calls is not said by the connection: [`client`] asks the operator by address, without holding up the request.

pub mod access_log;
pub mod body;
pub mod books;
pub mod client;
pub mod connection;
pub mod facts;
pub mod flags;
pub mod grpc;
pub mod histogram;
pub mod labels;
pub mod layout;
pub mod merge;

pub mod page;
pub mod peer_metadata;
pub mod recorder;
pub mod request;
pub mod series;
pub mod upload;
pub mod writer;

pub use access_log::AccessLog;
pub use body::Recorded;
pub use client::Client;
pub use connection::Connection;
pub use facts::Way;
pub use flags::Flags;
pub use labels::Outside;
pub use recorder::Recorder;
pub use request::Record;

use crate::discovery::Mesh;
use crate::identity::Identity;
use books::Books;
use mesh_core::identity::SpiffeId;
use mesh_wire::convert::Workload;
use series::Base;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What all workers' recorders have in common. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    mesh: Mesh,
    identity: Identity,
    /// Grows when what this pod is called changes.
    generation: AtomicU64,
    books: Books,
    recorders: Mutex<Vec<Weak<Recorder>>>,
    log: AccessLog,
}

impl Telemetry {
    /// Telemetry of a pod as `mesh` describes it. `log` takes the lines.
    #[must_use]
    pub fn new(mesh: Mesh, identity: Identity, log: AccessLog) -> Self {
        Self(Arc::new(Shared {
            mesh,
            identity,
            generation: AtomicU64::new(0),
            books: Books::default(),
            recorders: Mutex::default(),
            log,
        }))
    }

    /// A recorder for one worker.
    #[must_use]
    pub fn recorder(&self) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder::new(self.clone()));
        self.0
            .recorders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&recorder));
        recorder
    }

    /// Follows what the operator says of this pod: its labels and what is to be logged. Runs until the process ends.
    pub async fn follow(self) {
        let mut changes = self.0.mesh.workload_changes();
        loop {
            changes.borrow_and_update();
            self.0.log.configure(&self.own().access_log);
            self.0.generation.fetch_add(1, Ordering::Relaxed);
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Appends the page's part of these metrics, in Prometheus' text format.
    pub fn page(&self, text: &mut String) {
        let recorders = self.0.recorders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bases: Vec<Arc<Base>> = recorders
            .iter()
            .filter_map(Weak::upgrade)
            .flat_map(|recorder| recorder.bases())
            .collect();
        page::write(text, &bases, self.0.books.carried());
        page::write_own(text, self.0.books.overflowed(), self.0.log.counts());
    }

    /// The access log.
    #[must_use]
    pub fn log(&self) -> &AccessLog {
        &self.0.log
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.0.mesh
    }

    fn own(&self) -> Arc<Workload> {
        self.0.mesh.workload()
    }

    fn identity(&self) -> Option<SpiffeId> {
        Some(self.0.identity.tls()?.material.identity.clone())
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    fn books(&self) -> &Books {
        &self.0.books
    }
}

#[cfg(test)]
mod tests;
