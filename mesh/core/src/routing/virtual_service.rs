//! A VirtualService as it was parsed: for every client, with hosts as they were written.

use super::http::HttpRoute;
use super::matches::HttpMatch;
use super::tcp::{TcpMatch, TlsMatch};
use crate::destination_rule::Export;
use crate::labels::Labels;
use std::sync::Arc;

/// A VirtualService, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp`, in seconds since the epoch: the oldest prevails.
    pub created: i64,
    /// `spec.hosts`, as written: names, short names, wildcards, addresses. None: it is a delegate.
    pub hosts: Vec<Arc<str>>,
    /// `spec.gateways`, as written; none is `mesh`.
    pub gateways: Vec<Arc<str>>,
    /// `spec.exportTo`.
    pub export_to: Export,
    /// `spec.http`.
    pub http: Vec<HttpRule>,
    /// `spec.tls`.
    pub tls: Vec<ConnectionRule<TlsMatch>>,
    /// `spec.tcp`.
    pub tcp: Vec<ConnectionRule<TcpMatch>>,
}

/// One entry of `spec.http`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRule {
    /// `match`: any of them; none at all matches everything.
    pub matches: Vec<Condition<HttpMatch>>,
    /// `delegate`: `(namespace, name)` of the VirtualService whose routes take the place of this one.
    pub delegate: Option<(Arc<str>, Arc<str>)>,
    /// All else, with `matches` left empty. Of a rule with a delegate what the delegate's routes inherit.
    pub route: HttpRoute<Reference>,
}

/// One entry of `spec.tls` or `spec.tcp`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionRule<M> {
    /// `match`: any of them; none at all (`tcp` alone) matches everything.
    pub matches: Vec<Condition<M>>,
    /// `route`: where to, and with what weight.
    pub to: Vec<(Reference, u32)>,
}

/// A match: what the client must be, and what its request or connection must be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Condition<M> {
    /// What the client must be.
    pub client: ClientMatch,
    /// What it asks for must be.
    pub asked: M,
}

/// The part of a match that holds or does not for all that a client sends to one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientMatch {
    /// `gateways`, as written; none is those of the resource.
    pub gateways: Vec<Arc<str>>,
    /// `port`.
    pub port: Option<u16>,
    /// `sourceLabels`.
    pub source_labels: Labels,
    /// `sourceNamespace`.
    pub source_namespace: Option<Arc<str>>,
}

/// `destination`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `host`: a name without a dot is of the VirtualService's namespace.
    pub host: Arc<str>,
    /// `subset`.
    pub subset: Option<Arc<str>>,
    /// `port.number`; `None` is the port that was called, or the only one that the Service has.
    pub port: Option<u16>,
}
