//! The pod's certificate in use: read from the mounted Secret ([`watch`]), turned into TLS configurations ([`configs`]) and
//! handed to the data path by one atomic load.
//!
//! What was loaded stays in force until a whole new set of files replaces it: a Secret that vanishes, is half written or does
//! not fit together is reported and changes nothing.

pub mod configs;
pub mod watch;

use crate::identity::configs::Tls;
use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use std::sync::Arc;

/// The TLS in force, for the data path and the discovery client.
#[derive(Debug, Clone)]
pub struct Identity {
    current: Arc<ArcSwapOption<Tls>>,
    discovery: tokio::sync::watch::Sender<Option<Arc<ClientConfig>>>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            current: Arc::default(),
            discovery: tokio::sync::watch::Sender::new(None),
        }
    }
}

impl Identity {
    /// The TLS in force; `None` before the first certificate.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.current.load_full()
    }

    /// The [`Tls::generation`] in force, 0 before the first; without the cost of holding on to it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |tls| tls.generation)
    }

    /// Follows the discovery stream's side of it.
    #[must_use]
    pub fn discovery(&self) -> tokio::sync::watch::Receiver<Option<Arc<ClientConfig>>> {
        self.discovery.subscribe()
    }

    fn replace(&self, tls: Arc<Tls>) {
        self.discovery.send_replace(Some(tls.client_discovery.clone()));
        self.current.store(Some(tls));
    }
}
