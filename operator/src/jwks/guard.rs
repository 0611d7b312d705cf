//! Which addresses keys may be fetched from.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_core::authorization::matches::AddressRange;

/// The metadata services of clouds that are not at a link-local address.
const METADATA: [IpAddr; 2] = [
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // AWS.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Says which addresses are refused. Services' addresses are not among them.
#[derive(Debug)]
pub struct Guard {
    /// What is refused wherever this runs.
    builtin: bool,
    /// What the mesh's administrator refuses.
    blocked: Vec<AddressRange>,
    /// The nodes' and the API server's addresses, as they are now. `None`: not known yet.
    protected: ArcSwap<Option<HashSet<IpAddr>>>,
}

/// An address that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} is refused: it is {why}")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub why: String,
}

impl Guard {
    /// Refuses what no rule may reach, and the ranges that the administrator names. Until
    /// [`Guard::protect`] is called everything is refused.
    #[must_use]
    pub fn new(blocked: Vec<AddressRange>) -> Self {
        Self {
            builtin: true,
            blocked,
            protected: ArcSwap::default(),
        }
    }

    /// Refuses these ranges alone.
    #[cfg(test)]
    pub(super) fn only(blocked: Vec<AddressRange>) -> Self {
        Self {
            builtin: false,
            blocked,
            protected: ArcSwap::new(Arc::new(Some(HashSet::new()))),
        }
    }

    /// Takes the addresses of the nodes and of the API server.
    pub fn protect(&self, addresses: HashSet<IpAddr>) {
        self.protected.store(Arc::new(Some(addresses)));
    }

    /// Looks at an address that is about to be dialled.
    ///
    /// # Errors
    /// When it is refused.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        let address = embedded(address);
        let refused = |why: &str| {
            Err(Refused {
                address,
                why: why.to_owned(),
            })
        };
        if self.builtin
            && let Some(why) = builtin(address)
        {
            return refused(why);
        }
        if let Some(range) = self.blocked.iter().find(|range| range.contains(address)) {
            return refused(&format!("in the blocked range {range}"));
        }
        match self.protected.load().as_ref() {
            None => refused("not known yet whether it is a node's"),
            Some(protected) if protected.contains(&address) => refused("a node's or the API server's"),
            Some(_) => Ok(()),
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, ..] = v6.segments();
    let [.., w, x, y, z] = v6.octets();
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Ipv4Addr::new(w, x, y, z).into(),
        (0, 0, 0, 0, 0, 0) if !v6.is_loopback() && !v6.is_unspecified() => Ipv4Addr::new(w, x, y, z).into(),
        (0x2002, ..) => {
            let ([w, x], [y, z]) = (b.to_be_bytes(), c.to_be_bytes());
            Ipv4Addr::new(w, x, y, z).into()
        }
        _ => address,
    }
}

fn builtin(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let this_host = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unspecified(),
    };
    if address.is_loopback() {
        Some("a loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if this_host {
        Some("no host's address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if METADATA.contains(&address) {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        let guard = Guard::new(vec![AddressRange::parse("10.9.0.0/16").unwrap()]);
        let public: IpAddr = "93.184.216.34".parse().unwrap();
        assert!(guard.check(public).unwrap_err().why.contains("not known yet"));
        guard.protect(["192.168.7.1".parse().unwrap(), "10.96.0.1".parse().unwrap()].into());
        for (address, why) in [
            ("93.184.216.34", None),
            ("10.96.0.10", None),
            ("10.0.0.7", None),
            ("2606:2800:220::1", None),
            ("127.0.0.1", Some("loopback")),
            ("127.8.8.8", Some("loopback")),
            ("::1", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::127.0.0.1", Some("loopback")),
            ("64:ff9b::7f00:1", Some("loopback")),
            ("2002:7f00:1::1", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("::ffff:169.254.169.254", Some("link-local")),
            ("fe80::1", Some("link-local")),
            ("0.0.0.0", Some("no host")),
            ("0.1.2.3", Some("no host")),
            ("::", Some("no host")),
            ("255.255.255.255", Some("no host")),
            ("224.0.0.1", Some("multicast")),
            ("ff02::1", Some("multicast")),
            ("100.100.100.200", Some("metadata")),
            ("fd00:ec2::254", Some("metadata")),
            ("10.9.3.4", Some("10.9.0.0/16")),
            ("::ffff:10.9.3.4", Some("10.9.0.0/16")),
            ("192.168.7.1", Some("a node's or the API server's")),
            ("10.96.0.1", Some("a node's or the API server's")),
            ("::ffff:10.96.0.1", Some("a node's or the API server's")),
        ] {
            match (guard.check(address.parse().unwrap()), why) {
                (Ok(()), None) => {}
                (Err(refused), Some(why)) => assert!(refused.why.contains(why), "{address}: {refused}"),
                (found, why) => panic!("{address}: {found:?}, expected {why:?}"),
            }
        }
    }
}
