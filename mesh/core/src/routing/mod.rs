//! Where a client's requests and connections go: a VirtualService as one client sees it, compiled for one host and port.
//!
//! [`VirtualServices`] holds those of the whole mesh with their delegates followed, and says which speak for a host;
//! [`Speaking::compile`] drops the matches that another client would have to make (`sourceLabels`, `sourceNamespace`,
//! `gateways`, `port`); what is left are [`Routes`]. The operator and `pinnace eval route` do that alike. The wire carries
//! routes with the destinations that they lead to, as one version, and the proxy looks requests up in them.

mod attempts;
mod compile;
mod cors;
mod delegate;
mod edits;
mod http;
mod lookup;
mod matches;
mod re2;
mod redirect;
mod services;
mod tcp;
#[cfg(test)]
mod tests;
mod virtual_service;

pub use attempts::{Outcome, shadow};
pub use compile::Lead;
pub use cors::CrossOrigin;
pub use http::{
    Abort, AbortWith, Action, Backoff, Cors, Delay, Direct, Fault, HeaderEdits, HttpRoute, Mirror, Percent, Redirect,
    RedirectPort, RedirectUri, Retries, RetryOn, Rewrite, UriRewrite, Weighted,
};
pub use lookup::{Matched, choose};
pub use matches::{HttpMatch, Pattern, PatternError, Seen, StringMatch};
pub use services::{Client, Effective, MESH_GATEWAY, Speaking, VirtualServices};
pub use tcp::{TcpMatch, TcpRoute, TlsMatch, TlsRoute};
pub use virtual_service::{ClientMatch, Condition, ConnectionRule, HttpRule, Reference, VirtualService};

use crate::destination::Destination;
use std::sync::Arc;

/// The routes of one host and port, as one client sees them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    /// `namespace/name` of the VirtualService, and of its delegates that take part.
    pub sources: Vec<Arc<str>>,
    /// `http`, in order: the first that matches decides. A request that none matches is answered with 404. Without any,
    /// requests go to the destination that was called: no VirtualService says anything of them.
    pub http: Vec<HttpRoute>,
    /// `tls`, in order, of every VirtualService for the host. A TLS connection that none matches is closed; without any, it
    /// goes to the destination that was called.
    pub tls: Vec<TlsRoute>,
    /// `tcp`, in order, of every VirtualService for the host. A connection that none matches goes to the destination that
    /// was called.
    pub tcp: Vec<TcpRoute>,
    /// The destinations to which they lead beside the one that was called. None of them has routes of its own.
    pub destinations: Vec<Arc<Destination>>,
}

/// A destination that a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// The one that was called.
    Own,
    /// One of [`Routes::destinations`], by its index.
    Other(u32),
    /// None: the route names a host or port that the mesh does not know; requests are answered with 503.
    Nowhere,
}

/// A destination and one of its subsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The destination.
    pub leads: Leads,
    /// Its subset.
    pub subset: InSubset,
}

/// Which of a destination's endpoints are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InSubset {
    /// All.
    All,
    /// Those of one of [`Destination::subsets`], by its index.
    Of(u32),
    /// None: the route names a subset that no DestinationRule has; requests are answered with 503.
    Unknown,
}
