//! What is known of a connection or request when it is decided about.

use crate::identity::SpiffeId;
use crate::jwt::Claims;
use http::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// A connection, and a request on it where its protocol is HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who the caller has proved to be by its certificate; nobody in the clear.
    pub identity: Option<&'a SpiffeId>,
    /// The connection's source.
    pub source: IpAddr,
    /// The client, as trusted proxies name it (`X-Forwarded-For`); else the connection's source.
    pub remote: IpAddr,
    /// The workload's address and port.
    pub destination: SocketAddr,
    /// The server name that the caller's TLS asked for.
    pub server_name: Option<&'a str>,
    /// The request. `None`: an opaque connection, of which HTTP's fields are not known.
    pub http: Option<Http<'a>>,
}

/// A request, as policies see it: normalised.
#[derive(Debug, Clone, Copy)]
pub struct Http<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its normalised path, without query.
    pub path: &'a str,
    /// Its authority, as written, with its port if it has one.
    pub host: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What a token that was verified says. `None`: there was none.
    pub claims: Option<&'a Claims>,
}
