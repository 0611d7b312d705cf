//! The names of destination resources: `host/NAME:PORT`, `addr/ADDRESS:PORT`; for who calls, `peer/ADDRESS`; and for what DNS
//! is asked, `dns/NAME`.

use mesh_core::destination::Query;

/// The longest resource name that is taken, in bytes: a DNS name, a port and the prefix.
pub const MAX_NAME_BYTES: usize = 270;

/// The resource name of a query.
#[must_use]
pub fn name(query: &Query) -> String {
    match query {
        Query::Host { host, port } => format!("host/{host}:{port}"),
        Query::Address(address) => format!("addr/{address}"),
        Query::Peer(address) => format!("peer/{address}"),
        Query::Name(name) => format!("dns/{name}"),
    }
}

/// Parses a resource name; `None` for anything that [`name`] would not write.
#[must_use]
pub fn parse(name: &str) -> Option<Query> {
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    match name.split_once('/')? {
        ("host", rest) => {
            let (host, port) = rest.rsplit_once(':')?;
            is_host(host).then_some(())?;
            Some(Query::Host {
                host: host.into(),
                port: port.parse().ok()?,
            })
        }
        ("addr", rest) => Some(Query::Address(rest.parse().ok()?)),
        ("peer", rest) => Some(Query::Peer(rest.parse().ok()?)),
        ("dns", rest) => is_host(rest).then(|| Query::Name(rest.into())),
        _ => None,
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for text in [
            "host/reviews:9080",
            "host/reviews.shop.svc.cluster.local:80",
            "addr/10.96.0.1:443",
            "addr/[fd00::1]:80",
            "peer/10.0.0.1",
            "peer/fd00::1",
            "dns/reviews.shop.svc.cluster.local",
            "dns/_http._tcp.reviews",
        ] {
            assert_eq!(name(&parse(text).unwrap()), text);
        }
        for text in [
            "",
            "host/",
            "host/:80",
            "host/a",
            "host/A:80",
            "host/a:99999",
            "addr/x:1",
            "addr/10.0.0.1",
            "peer/10.0.0.1:80",
            "dns/",
            "dns/A",
            "x/y:1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
