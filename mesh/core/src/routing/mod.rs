//! Where a client's requests and connections go: a VirtualService as one client sees it, compiled for one host and port.
//!
//! The operator chooses which VirtualService speaks for a host, follows its delegates and drops the matches that another
//! client would have to make (`sourceLabels`, `sourceNamespace`, `gateways`, `port`); what is left are [`Routes`]. The wire
//! carries them with the destinations that they lead to, as one version; the proxy and `pinnace eval route` look requests
//! up in them with the same code.

mod http;
mod matches;
mod tcp;
mod virtual_service;

pub use http::{
    Abort, AbortWith, Action, Backoff, Cors, Delay, Direct, Fault, HeaderEdits, HttpRoute, Mirror, Percent, Redirect,
    RedirectPort, RedirectUri, Retries, RetryOn, Rewrite, UriRewrite, Weighted,
};
pub use matches::{HttpMatch, Pattern, PatternError, Seen, StringMatch};
pub use tcp::{TcpMatch, TcpRoute, TlsMatch, TlsRoute};
pub use virtual_service::{ClientMatch, Condition, ConnectionRule, HttpRule, Reference, VirtualService};

use crate::destination::Destination;
use std::sync::Arc;

/// The routes of one host and port, as one client sees them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    /// `namespace/name` of the VirtualService, and of its delegates that take part.
    pub sources: Vec<Arc<str>>,
    /// `http`, in order: the first that matches decides. A request that none matches is answered with 404.
    pub http: Vec<HttpRoute>,
    /// `tls`, in order.
    pub tls: Vec<TlsRoute>,
    /// `tcp`, in order.
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
