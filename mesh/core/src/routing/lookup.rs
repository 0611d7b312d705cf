//! Which route takes a request or a connection, and which of its destinations.

use super::Routes;
use super::http::{Action, HttpRoute, Weighted};
use super::matches::{HttpMatch, Seen};
use super::tcp::{TcpRoute, TlsRoute};
use ipnet::IpNet;
use std::net::IpAddr;

/// A route that takes a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matched<'a> {
    /// The route.
    pub route: &'a HttpRoute,
    /// The match by which it does; `None` for a route without any.
    pub by: Option<&'a HttpMatch>,
}

impl Routes {
    /// The first route that takes a request.
    #[must_use]
    pub fn http(&self, seen: &Seen<'_>) -> Option<Matched<'_>> {
        self.http.iter().find_map(|route| {
            if route.matches.is_empty() {
                // Whatever has a path.
                let any = HttpMatch::default().takes(seen);
                return any.then_some(Matched { route, by: None });
            }
            let by = route.matches.iter().find(|by| by.takes(seen))?;
            Some(Matched { route, by: Some(by) })
        })
    }

    /// The route of a TLS connection by the name that its ClientHello asks for, in lower case, and the address that was
    /// dialled: of several the one that names the address most exactly, then the name; of equals the first.
    #[must_use]
    pub fn tls(&self, server_name: &str, to: IpAddr) -> Option<&TlsRoute> {
        let matches = self.tls.iter().flat_map(|route| {
            let rank = |wanted: &super::TlsMatch| {
                let name = wanted
                    .sni_hosts
                    .iter()
                    .filter_map(|host| names(host, server_name))
                    .max();
                Some((within(&wanted.destination_subnets, to)?, name?))
            };
            route
                .matches
                .iter()
                .filter_map(move |wanted| Some((rank(wanted)?, route)))
        });
        best(matches)
    }

    /// The route of a connection of opaque bytes: of several the one that names the address that was dialled most exactly,
    /// then the client's; of equals the first. What follows a route that takes everything is never looked at.
    #[must_use]
    pub fn tcp(&self, from: IpAddr, to: IpAddr) -> Option<&TcpRoute> {
        let takes_all =
            |wanted: &super::TcpMatch| wanted.destination_subnets.is_empty() && wanted.source_subnet.is_none();
        let last = self
            .tcp
            .iter()
            .position(|route| route.matches.is_empty() || route.matches.iter().any(takes_all));
        let looked_at = last.map_or(self.tcp.len(), |last| last + 1);
        let matches = self.tcp.iter().take(looked_at).flat_map(|route| {
            let rank = |wanted: &super::TcpMatch| {
                Some((
                    within(&wanted.destination_subnets, to)?,
                    within(wanted.source_subnet.as_slice(), from)?,
                ))
            };
            let any = route.matches.is_empty().then_some(((0, 0), route));
            let some = route
                .matches
                .iter()
                .filter_map(move |wanted| Some((rank(wanted)?, route)));
            any.into_iter().chain(some)
        });
        best(matches)
    }
}

/// What has the highest rank, the first of equals.
fn best<T>(ranked: impl Iterator<Item = ((usize, usize), T)>) -> Option<T> {
    let mut best: Option<((usize, usize), T)> = None;
    for (rank, item) in ranked {
        if best.as_ref().is_none_or(|(highest, _)| rank > *highest) {
            best = Some((rank, item));
        }
    }
    best.map(|(_, item)| item)
}

/// How exactly subnets name an address; no subnets name every one.
fn within(subnets: &[IpNet], address: IpAddr) -> Option<usize> {
    if subnets.is_empty() {
        return Some(0);
    }
    let address = address.to_canonical();
    let of = subnets.iter().filter(|subnet| subnet.contains(&address));
    of.map(|subnet| usize::from(subnet.prefix_len()) + 1).max()
}

/// How exactly an SNI host names a server name: by its length, and exact ones most.
fn names(host: &str, server_name: &str) -> Option<usize> {
    match host.strip_prefix('*') {
        Some(suffix) => server_name.ends_with(suffix).then_some(suffix.len()),
        None => (host == server_name).then_some(usize::MAX),
    }
}

impl<D> HttpRoute<D> {
    /// Where a request goes on, by a draw of any number; `None` where the route answers it itself, or leads nowhere.
    #[must_use]
    pub fn choose(&self, draw: u32) -> Option<&Weighted<D>> {
        match &self.action {
            Action::Forward { to, .. } => choose(to, draw),
            Action::Redirect(_) | Action::Direct(_) => None,
        }
    }
}

/// One of several destinations by their weights and a draw of any number; the first where no weight is given.
#[must_use]
pub fn choose<D>(to: &[Weighted<D>], draw: u32) -> Option<&Weighted<D>> {
    if to.len() < 2 {
        return to.first();
    }
    let total: u64 = to.iter().map(|one| u64::from(one.weight)).sum();
    let mut left = (u128::from(draw) * u128::from(total)) >> u32::BITS;
    for one in to {
        match left.checked_sub(u128::from(one.weight)) {
            Some(after) => left = after,
            None => return Some(one),
        }
    }
    to.first()
}
