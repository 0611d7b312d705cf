//! How one use of a destination is secured, decided before an endpoint is chosen: as automatic mutual TLS has it, or as a
//! DestinationRule says.

use crate::http::pool::Key;
use crate::http::upstream::ConnectError;
use crate::origination::Originated;
use crate::worker::Worker;
use mesh_core::client_tls::ClientTls;
use mesh_core::destination::{Destination, Endpoint, Security};
use rustls_pki_types::ServerName;
use std::sync::Arc;

/// What a use of a destination connects under.
#[derive(Debug)]
pub struct Secured {
    /// TLS that a rule describes; `None` is what [`Destination::security`] says of each endpoint.
    pub originated: Option<Called>,
}

/// A server, as TLS of a rule calls it.
#[derive(Debug)]
pub struct Called {
    /// The rule's TLS.
    pub tls: Arc<Originated>,
    /// The name that is sent, and by which the server is verified where the rule gives no other.
    pub name: ServerName<'static>,
    /// Tells connections made under this from all others.
    pub id: u64,
}

impl Secured {
    /// Decides for a destination that the application calls `host`.
    ///
    /// # Errors
    /// [`ConnectError::Rule`] where a DestinationRule asks for what cannot be had.
    pub async fn prepare(worker: &Worker, destination: &Destination, host: &str) -> Result<Self, ConnectError> {
        let Some(rule) = &destination.tls else {
            return Ok(Self { originated: None });
        };
        let refused = |reason: String| ConnectError::Rule(rule.rule.clone(), reason.into());
        match &*rule.tls {
            ClientTls::Disable | ClientTls::IstioMutual(_) => Ok(Self { originated: None }),
            ClientTls::Refused(reason) => Err(refused(reason.to_string())),
            ClientTls::Simple(_) | ClientTls::Mutual(..) => {
                let tls = worker.originations.get(rule).await;
                let tls = tls.map_err(|problem| refused(problem.to_string()))?;
                let name = tls
                    .name(host)
                    .ok_or_else(|| refused(format!("{host:?} makes no server name, and the rule has no sni")))?;
                let id = tls.id(&name);
                Ok(Self {
                    originated: Some(Called { tls, name, id }),
                })
            }
        }
    }

    /// The pool's key of an endpoint.
    #[must_use]
    pub fn key(&self, destination: &Destination, endpoint: &Endpoint) -> Key {
        Key {
            address: endpoint.address,
            mutual_tls: self.originated.is_none() && destination.security(endpoint) == Security::Mesh,
            originated: self.originated.as_ref().map_or(0, |called| called.id),
        }
    }

    /// How connections to an endpoint are counted.
    #[must_use]
    pub fn label(&self, destination: &Destination, endpoint: &Endpoint) -> &'static str {
        match (&self.originated, destination.security(endpoint)) {
            (Some(_), _) => "tls",
            (None, Security::Mesh) => "mutual_tls",
            (None, _) => "none",
        }
    }
}
