//! The pod's `/etc/resolv.conf`, as far as it matters here (resolv.conf(5)): who is asked, and what is put behind short names.

use std::io;
use std::net::IpAddr;

/// The file that the kubelet writes for each pod.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The resolvers that are asked at most, as glibc does.
const MOST_SERVERS: usize = 3;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver`: at most three, each once.
    pub servers: Vec<IpAddr>,
    /// `search`, or `domain`, whichever comes last; lower case, without the dot at the end.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads the pod's.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read() -> io::Result<Self> {
        std::fs::read_to_string(RESOLV_CONF).map(|text| Self::parse(&text))
    }

    /// Parses a file; lines that are not understood say nothing, as for every other resolver.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // An address within one link has its link behind it, and cannot be redirected by address alone.
                    let server = words.next().and_then(|word| word.parse().ok());
                    if let Some(server) = server
                        && conf.servers.len() < MOST_SERVERS
                        && !conf.servers.contains(&server)
                    {
                        conf.servers.push(server);
                    }
                }
                Some("search" | "domain") => {
                    let domains = words.map(|word| word.trim_end_matches('.').to_ascii_lowercase());
                    conf.search = domains.filter(|domain| !domain.is_empty()).collect();
                }
                _ => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kubelet_writes() {
        let conf = ResolvConf::parse(
            "search shop.svc.cluster.local svc.cluster.local Cluster.Local.\nnameserver 10.96.0.10\nnameserver fd96::a\noptions ndots:5\n",
        );
        assert_eq!(
            conf.servers,
            ["10.96.0.10".parse::<IpAddr>().unwrap(), "fd96::a".parse().unwrap()]
        );
        assert_eq!(
            conf.search,
            ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        );
    }

    #[test]
    fn what_is_odd_says_nothing() {
        let conf = ResolvConf::parse(
            "# nameserver 1.1.1.1\nnameserver\nnameserver x\nnameserver fe80::1%eth0\nnameserver 10.0.0.1 ; once\nnameserver \
             10.0.0.1\ndomain a\nsearch b\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(conf.search, ["b"]);
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
    }
}
