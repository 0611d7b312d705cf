//! What a certificate is issued for.

use std::fmt;

use mesh_core::identity::SpiffeId;

/// The holder of a certificate, which decides its names and usages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A workload: one URI name, the SPIFFE ID; usable on either side of a connection.
    Workload(SpiffeId),
    /// A server known by DNS names (the webhook): usable on the server's side only.
    Server(Vec<String>),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => id.fmt(f),
            Self::Server(names) => f.write_str(&names.join(",")),
        }
    }
}
