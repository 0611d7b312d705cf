//! Resource names of destinations and peers, written on the stack: the key of the table is the name on the wire, and a lookup must not
//! allocate.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use mesh_wire::query::MAX_NAME_BYTES;

/// `host/NAME:PORT`, `addr/ADDRESS:PORT`, `peer/ADDRESS` or `dns/NAME`.
pub(super) struct Name {
    bytes: [u8; MAX_NAME_BYTES],
    length: usize,
}

impl Name {
    /// The name of a host and port; letters become lower case. `None` for one that the protocol cannot name and no mesh can
    /// know: empty, too long, or with a character outside printable ASCII.
    pub(super) fn host(host: &str, port: u16) -> Option<Self> {
        let mut name = Self::text("host/", host)?;
        write!(name, ":{port}").ok()?;
        Some(name)
    }

    /// The name of what DNS is asked for, without the dot at its end; as for hosts.
    pub(super) fn dns(host: &str) -> Option<Self> {
        Self::text("dns/", host)
    }

    fn text(prefix: &str, host: &str) -> Option<Self> {
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut name = Self::empty();
        name.write_str(prefix).ok()?;
        name.write_str(host).ok()?;
        name.bytes.get_mut(..name.length)?.make_ascii_lowercase();
        Some(name)
    }

    /// The name of an address and port. An IPv4 address that is mapped into IPv6 is that IPv4 address.
    pub(super) fn address(address: SocketAddr) -> Option<Self> {
        let mut name = Self::empty();
        // Made anew: the zone and flow of an IPv6 address are of this host and no part of the name.
        write!(
            name,
            "addr/{}",
            SocketAddr::new(address.ip().to_canonical(), address.port())
        )
        .ok()?;
        Some(name)
    }

    /// The name of who calls from an address.
    pub(super) fn peer(address: IpAddr) -> Option<Self> {
        let mut name = Self::empty();
        write!(name, "peer/{}", address.to_canonical()).ok()?;
        Some(name)
    }

    pub(super) fn as_str(&self) -> &str {
        self.bytes
            .get(..self.length)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    fn empty() -> Self {
        Self {
            bytes: [0; MAX_NAME_BYTES],
            length: 0,
        }
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// What a resource name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Address,
    Peer,
    Dns,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        match name.split_once('/') {
            Some(("host", _)) => Self::Host,
            Some(("peer", _)) => Self::Peer,
            Some(("dns", _)) => Self::Dns,
            _ => Self::Address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_wire() {
        let long = "a".repeat(300);
        for (host, port, expected) in [
            ("reviews", 9080, Some("host/reviews:9080")),
            ("Reviews.Shop", 80, Some("host/reviews.shop:80")),
            ("", 80, None),
            ("a b", 80, None),
            ("a\r\nb", 80, None),
            ("bücher", 80, None),
            (long.as_str(), 80, None),
        ] {
            let name = Name::host(host, port);
            assert_eq!(name.as_ref().map(Name::as_str), expected, "{host}");
            assert!(name.is_none_or(|name| mesh_wire::query::parse(name.as_str()).is_some()));
        }
        for (address, expected) in [
            ("10.0.0.1:80", "addr/10.0.0.1:80"),
            ("[fd00::1]:80", "addr/[fd00::1]:80"),
            ("[::ffff:10.0.0.1]:80", "addr/10.0.0.1:80"),
            ("[fe80::1%3]:80", "addr/[fe80::1]:80"),
        ] {
            assert_eq!(Name::address(address.parse().unwrap()).unwrap().as_str(), expected);
            assert_eq!(Kind::of(expected), Kind::Address);
        }
        let peer = Name::peer("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!((peer.as_str(), Kind::of(peer.as_str())), ("peer/10.0.0.1", Kind::Peer));
        assert_eq!(Kind::of("host/a:80"), Kind::Host);
        let name = Name::dns("Reviews.Shop").unwrap();
        assert_eq!(
            (name.as_str(), Kind::of(name.as_str())),
            ("dns/reviews.shop", Kind::Dns)
        );
        assert!(Name::dns("").is_none() && Name::dns("a b").is_none());
    }
}
