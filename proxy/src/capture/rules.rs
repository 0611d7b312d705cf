//! The rules in our own words: tables, chains, matches and actions, printed as `nft list ruleset` prints them, and
//! what they do with a connection.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::flags::Interface;

/// The name of our tables; no other table is read or written.
pub const TABLE: &str = "pinnace";

/// The address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `ip`.
    V4,
    /// `ip6`.
    V6,
}

impl Family {
    /// Whether an address or range is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    /// The address family by its common name.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// One table with its chains in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain; the names of the inner ones are those of Istio's runbooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where packets enter it; none for a chain that is only jumped to.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A base chain's hook, policy accept: of type nat and priority -100 (which nft calls dstnat in prerouting alone), or of type
/// filter and priority raw, before connections are tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Packets that come into the pod.
    Prerouting,
    /// Packets that processes of the pod send.
    Output,
    /// Packets that come into the pod, before they are tracked.
    RawPrerouting,
    /// Packets that processes of the pod send, before they are tracked.
    RawOutput,
}

impl Hook {
    /// Whether packets that come in pass it.
    fn is_inbound(self) -> bool {
        matches!(self, Self::Prerouting | Self::RawPrerouting)
    }
}

/// One rule: all matches must hold for the action to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What must hold.
    pub matches: Vec<Match>,
    /// What then happens.
    pub action: Action,
}

/// A condition on the first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The protocol is TCP.
    Tcp,
    /// It came in on this interface.
    InInterface(Interface),
    /// It goes out on this interface.
    OutInterface(Interface),
    /// The source is in the range.
    Source(IpNet),
    /// The destination is in the range.
    Destination(IpNet),
    /// The destination is not in the range.
    DestinationNot(IpNet),
    /// TCP to this port.
    Port(u16),
    /// TCP to any port but this.
    PortNot(u16),
    /// UDP to this port.
    UdpPort(u16),
    /// UDP from this port.
    UdpSourcePort(u16),
    /// Sent by a process of this user.
    Uid(u32),
    /// Sent by a process of another user.
    UidNot(u32),
    /// Sent by a process of this group.
    Gid(u32),
    /// Sent by a process of another group.
    GidNot(u32),
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Go on in the calling chain after the jump; out of a base chain, leave the packet as it is.
    Return,
    /// Go through another chain of the table.
    Jump(&'static str),
    /// Send the connection to this port of the pod.
    Redirect(u16),
    /// Leave the packet out of connection tracking, and so out of every redirect.
    Notrack,
}

/// The first packet of a TCP connection or of a UDP exchange, as the rules of type nat see it.
#[derive(Debug, Clone)]
pub struct Packet<'a> {
    /// Whether it is UDP.
    pub udp: bool,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// The port that it goes to.
    pub port: u16,
    /// The interface that it came in on, or goes out on.
    pub interface: &'a str,
    /// User of the sending process (unused on the way in).
    pub uid: u32,
    /// Group of the sending process (unused on the way in).
    pub gid: u32,
}

impl Table {
    /// The port that a connection is redirected to, or none if it is left as it is.
    pub fn decide(&self, hook: Hook, packet: &Packet<'_>) -> Option<u16> {
        let base = self.chains.iter().find(|c| c.hook == Some(hook))?;
        self.walk(base, hook, packet)
    }

    fn walk(&self, chain: &Chain, hook: Hook, packet: &Packet<'_>) -> Option<u16> {
        for rule in &chain.rules {
            if !rule.matches.iter().all(|m| m.holds(hook, packet)) {
                continue;
            }
            match rule.action {
                Action::Return => return None,
                // Says nothing of where the packet goes.
                Action::Notrack => {}
                Action::Redirect(port) => return Some(port),
                Action::Jump(name) => {
                    let found = self
                        .chains
                        .iter()
                        .find(|c| c.name == name && c.hook.is_none())
                        .and_then(|c| self.walk(c, hook, packet));
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        None
    }
}

impl Match {
    fn holds(&self, hook: Hook, packet: &Packet<'_>) -> bool {
        match self {
            Self::Tcp => !packet.udp,
            Self::InInterface(name) => hook.is_inbound() && name.has(packet.interface),
            Self::OutInterface(name) => !hook.is_inbound() && name.has(packet.interface),
            Self::Source(net) => net.contains(&packet.source),
            Self::Destination(net) => net.contains(&packet.destination),
            Self::DestinationNot(net) => !net.contains(&packet.destination),
            Self::Port(port) => !packet.udp && packet.port == *port,
            Self::PortNot(port) => !packet.udp && packet.port != *port,
            Self::UdpPort(port) => packet.udp && packet.port == *port,
            // Where a first packet comes from is nobody's port but the kernel's choice.
            Self::UdpSourcePort(_) => false,
            // A packet on its way in has no sending process here, and matches neither form, as in the kernel.
            Self::Uid(uid) => !hook.is_inbound() && packet.uid == *uid,
            Self::UidNot(uid) => !hook.is_inbound() && packet.uid != *uid,
            Self::Gid(gid) => !hook.is_inbound() && packet.gid == *gid,
            Self::GidNot(gid) => !hook.is_inbound() && packet.gid != *gid,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        writeln!(f, "table {family} {TABLE} {{")?;
        for chain in &self.chains {
            writeln!(f, "\tchain {} {{", chain.name)?;
            match chain.hook {
                Some(Hook::Prerouting) => {
                    writeln!(f, "\t\ttype nat hook prerouting priority dstnat; policy accept;")?;
                }
                Some(Hook::Output) => writeln!(f, "\t\ttype nat hook output priority -100; policy accept;")?,
                Some(Hook::RawPrerouting) => {
                    writeln!(f, "\t\ttype filter hook prerouting priority raw; policy accept;")?;
                }
                Some(Hook::RawOutput) => writeln!(f, "\t\ttype filter hook output priority raw; policy accept;")?,
                None => {}
            }
            for rule in &chain.rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for m in &self.matches {
            write!(f, "{m} ")?;
        }
        write!(f, "{}", self.action)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::InInterface(name) => write!(f, "iifname {name}"),
            Self::OutInterface(name) => write!(f, "oifname {name}"),
            Self::Source(net) => write!(f, "{} saddr {}", ip(*net), Shown(*net)),
            Self::Destination(net) => write!(f, "{} daddr {}", ip(*net), Shown(*net)),
            Self::DestinationNot(net) => write!(f, "{} daddr != {}", ip(*net), Shown(*net)),
            Self::Port(port) => write!(f, "tcp dport {port}"),
            Self::PortNot(port) => write!(f, "tcp dport != {port}"),
            Self::UdpPort(port) => write!(f, "udp dport {port}"),
            Self::UdpSourcePort(port) => write!(f, "udp sport {port}"),
            Self::Uid(uid) => write!(f, "meta skuid {uid}"),
            Self::UidNot(uid) => write!(f, "meta skuid != {uid}"),
            Self::Gid(gid) => write!(f, "meta skgid {gid}"),
            Self::GidNot(gid) => write!(f, "meta skgid != {gid}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Redirect(port) => write!(f, "redirect to :{port}"),
            Self::Notrack => f.write_str("notrack"),
        }
    }
}

fn ip(net: IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "ip",
        IpNet::V6(_) => "ip6",
    }
}

/// A range as nft shows it: one address without its prefix length.
struct Shown(IpNet);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}
