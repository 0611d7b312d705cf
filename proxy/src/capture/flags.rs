//! The flags of `proxy capture`, parsed strictly: what is not understood is refused with the flag, the value and what
//! is accepted (the flag and the value are put in front of the reason by clap). Values are those of Istio's
//! annotations `traffic.sidecar.istio.io/*`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Ports that are never taken from the inbound side, whatever the flags say: HBONE, the metrics page, the kubelet's
/// readiness probe and the probes of the application, which the proxy answers itself.
pub const ALWAYS_EXCLUDED_INBOUND_PORTS: [u16; 4] = [15008, 15090, 15021, 15020];

/// What is redirected where, as given on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Port of the sidecar that captured outbound connections are sent to.
    #[arg(long, default_value = "15001", value_parser = port)]
    pub outbound_port: u16,
    /// Port of the sidecar that captured inbound connections are sent to.
    #[arg(long, default_value = "15006", value_parser = port)]
    pub inbound_port: u16,
    /// User id of the sidecar; its connections are not captured.
    #[arg(long, default_value = "1337", value_parser = id)]
    pub uid: u32,
    /// Group id of the sidecar; its connections are not captured.
    #[arg(long, default_value = "1337", value_parser = id)]
    pub gid: u32,
    /// Destinations to capture: `*` for all, or CIDRs separated by commas; empty captures none by address.
    #[arg(long, default_value = "*", value_parser = range_selection, value_name = "*|CIDRS")]
    pub include_outbound_ip_ranges: Selection<IpNet>,
    /// Destinations not to capture: CIDRs separated by commas.
    #[arg(long, default_value = "", value_parser = ranges, value_name = "CIDRS", hide_default_value = true)]
    pub exclude_outbound_ip_ranges: List<IpNet>,
    /// Destination ports to capture whatever their address: ports separated by commas.
    #[arg(long, default_value = "", value_parser = ports, value_name = "PORTS", hide_default_value = true)]
    pub include_outbound_ports: List<u16>,
    /// Destination ports not to capture: ports separated by commas.
    #[arg(long, default_value = "", value_parser = ports, value_name = "PORTS", hide_default_value = true)]
    pub exclude_outbound_ports: List<u16>,
    /// Ports of the application to capture: `*` for all, or ports separated by commas; empty captures none.
    #[arg(long, default_value = "*", value_parser = port_selection, value_name = "*|PORTS")]
    pub include_inbound_ports: Selection<u16>,
    /// Ports of the application not to capture (only with `*` included): ports separated by commas.
    #[arg(long, default_value = "", value_parser = ports, value_name = "PORTS", hide_default_value = true)]
    pub exclude_inbound_ports: List<u16>,
    /// Interfaces whose traffic is left alone in both directions: names separated by commas.
    #[arg(long, default_value = "", value_parser = interfaces, value_name = "NAMES", hide_default_value = true)]
    pub exclude_interfaces: List<Interface>,
    /// Interfaces of virtual machines in the pod, whose inbound traffic counts as outbound
    /// (`istio.io/reroute-virtual-interfaces`): names separated by commas.
    #[arg(long, default_value = "", value_parser = interfaces, value_name = "NAMES", hide_default_value = true)]
    pub reroute_virtual_interfaces: List<Interface>,
    /// Send what the pod asks the resolvers of its /etc/resolv.conf, by UDP and TCP, to the sidecar's port 15053.
    #[arg(long)]
    pub redirect_dns: bool,
    /// Print the rules and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// A comma-separated list, possibly empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// `*`, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection<T> {
    /// `*`.
    All,
    /// Only these; none when empty.
    Only(Vec<T>),
}

/// Network interfaces by name: 1 to 15 bytes, no space, slash or quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// The one of this name.
    Name(String),
    /// All whose name begins so; given with `+` (as for iptables) or `*` (as for nft) behind it.
    Prefix(String),
}

impl Interface {
    /// Whether an interface of this name is meant.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "\"{name}\""),
            Self::Prefix(prefix) => write!(f, "\"{prefix}*\""),
        }
    }
}

const PORT_ACCEPTED: &str = "a port from 1 to 65535";
const CIDR_ACCEPTED: &str = "a CIDR such as 10.0.0.0/8 or fd00::/8";

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|p| *p != 0)
        .ok_or_else(|| format!("`{text}` is not {PORT_ACCEPTED}"))
}

fn id(text: &str) -> Result<u32, String> {
    // The highest number means "no id" to the kernel.
    text.parse()
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| format!("`{text}` is not a number from 0 to 4294967294"))
}

fn range(text: &str) -> Result<IpNet, String> {
    let refuse = || format!("`{text}` is not {CIDR_ACCEPTED}");
    let net: IpNet = match text.parse() {
        Ok(net) => net,
        Err(_) if text.parse::<IpAddr>().is_ok() => {
            return Err(format!(
                "`{text}` is an address without a prefix length; accepted is {CIDR_ACCEPTED}"
            ));
        }
        Err(_) => return Err(refuse()),
    };
    Ok(net.trunc())
}

fn interface(text: &str) -> Result<Interface, String> {
    let (name, prefix) = match text.strip_suffix(['+', '*']) {
        Some(name) => (name, true),
        None => (text, false),
    };
    let good = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'"' | b'*' | b'\\'));
    let name = name.to_owned();
    match (good, prefix) {
        (true, false) => Ok(Interface::Name(name)),
        (true, true) => Ok(Interface::Prefix(name)),
        (false, _) => Err(format!(
            "`{text}` is not an interface name of 1 to 15 characters without spaces and slashes, with `+` or `*` behind \
             it for all that begin so"
        )),
    }
}

/// Splits at commas; spaces around a part are allowed, as in Istio's annotations. An entry given twice counts once.
fn list<T: PartialEq>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    if text.trim().is_empty() {
        return Ok(found);
    }
    for part in text.split(',') {
        let value = parse(part.trim())?;
        if !found.contains(&value) {
            found.push(value);
        }
    }
    Ok(found)
}

fn selection<T: PartialEq>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Selection<T>, String> {
    if text.trim() == "*" {
        return Ok(Selection::All);
    }
    list(text, parse)
        .map(Selection::Only)
        .map_err(|reason| format!("{reason}; `*` means all"))
}

fn ports(text: &str) -> Result<List<u16>, String> {
    list(text, port).map(List)
}

fn ranges(text: &str) -> Result<List<IpNet>, String> {
    list(text, range).map(List)
}

fn interfaces(text: &str) -> Result<List<Interface>, String> {
    list(text, interface).map(List)
}

fn port_selection(text: &str) -> Result<Selection<u16>, String> {
    selection(text, port)
}

fn range_selection(text: &str) -> Result<Selection<IpNet>, String> {
    selection(text, range)
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    /// The flags of a command line, for the tests of the plan.
    pub(in crate::capture) fn parse(args: &[&str]) -> Result<Flags, String> {
        Command::try_parse_from([&["capture"], args].concat())
            .map(|c| c.flags)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_capture_everything() {
        let flags = parse(&[]).unwrap();
        assert_eq!(
            (flags.outbound_port, flags.inbound_port, flags.uid, flags.gid),
            (15001, 15006, 1337, 1337)
        );
        assert_eq!(flags.include_outbound_ip_ranges, Selection::All);
        assert_eq!(flags.include_inbound_ports, Selection::All);
        assert_eq!(flags.exclude_outbound_ports, List(vec![]));
    }

    #[test]
    fn lists_are_read_as_istio_reads_them() {
        let flags = parse(&[
            "--include-outbound-ip-ranges=10.1.2.3/8, fd00::1/64",
            "--exclude-outbound-ports=53,3306,53",
            "--include-inbound-ports=",
            "--exclude-interfaces=eth1,net1.5,veth+,tap*",
        ])
        .unwrap();
        assert_eq!(
            flags.include_outbound_ip_ranges,
            Selection::Only(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()])
        );
        assert_eq!(flags.exclude_outbound_ports, List(vec![53, 3306]));
        assert_eq!(flags.include_inbound_ports, Selection::Only(vec![]));
        let shown: Vec<_> = flags.exclude_interfaces.0.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [r#""eth1""#, r#""net1.5""#, r#""veth*""#, r#""tap*""#]);
    }

    #[test]
    fn a_mistake_names_flag_value_and_what_is_accepted() {
        for (flag, value, accepted) in [
            ("--outbound-port", "0", "1 to 65535"),
            ("--inbound-port", "http", "1 to 65535"),
            ("--uid", "-1", "0 to 4294967294"),
            ("--exclude-outbound-ports", "80,65536", "1 to 65535"),
            ("--exclude-outbound-ports", "80,,81", "1 to 65535"),
            ("--include-outbound-ports", "*", "1 to 65535"),
            ("--include-inbound-ports", "80,*", "`*` means all"),
            ("--include-outbound-ip-ranges", "10.0.0.0/33", "10.0.0.0/8"),
            ("--include-outbound-ip-ranges", "10.0.0.0", "10.0.0.0/8"),
            ("--exclude-outbound-ip-ranges", "*", "10.0.0.0/8"),
            ("--exclude-outbound-ip-ranges", "example.com", "10.0.0.0/8"),
            ("--exclude-interfaces", "an-interface-name-too-long", "1 to 15"),
            ("--exclude-interfaces", "eth0/x", "1 to 15"),
            ("--exclude-interfaces", "+", "1 to 15"),
            ("--exclude-interfaces", "e*h", "1 to 15"),
        ] {
            let error = parse(&[&format!("{flag}={value}")]).unwrap_err();
            for part in [flag, value, accepted] {
                assert!(error.contains(part), "{flag}={value}: `{part}` is missing in: {error}");
            }
        }
    }
}
