//! A VirtualService's `tls` and `tcp` routes: where a connection goes whose bytes are opaque.

use super::http::Weighted;
use ipnet::IpNet;
use std::sync::Arc;

/// One entry of `tls`.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsRoute {
    /// `match`: any of them.
    pub matches: Vec<TlsMatch>,
    /// `route`, by weight. Headers count for nothing.
    pub to: Vec<Weighted>,
}

/// One entry of a TLS route's `match`: all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsMatch {
    /// `sniHosts`: any of them; exact, or `*.` and a suffix, or `*`, in lower case.
    pub sni_hosts: Vec<Arc<str>>,
    /// `destinationSubnets`: any of them; none is everything.
    pub destination_subnets: Vec<IpNet>,
}

/// One entry of `tcp`.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpRoute {
    /// `match`: any of them; none at all is everything.
    pub matches: Vec<TcpMatch>,
    /// `route`, by weight. Headers count for nothing.
    pub to: Vec<Weighted>,
}

/// One entry of a TCP route's `match`: all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpMatch {
    /// `destinationSubnets`: any of them; none is everything.
    pub destination_subnets: Vec<IpNet>,
    /// `sourceSubnet`.
    pub source_subnet: Option<IpNet>,
}
