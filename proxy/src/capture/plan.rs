//! From flags to rules: pure, and total. The order is Istio's (tools/istio-iptables, REDIRECT mode).
//!
//! Two tables, `ip` and `ip6`, written in one transaction, and not one `inet` table: the kernel has `inet` only where
//! it has IPv6, and every rule with an address is of one family anyway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::flags::{ALWAYS_EXCLUDED_INBOUND_PORTS, Flags, Interface, Selection};
use super::rules::{Action, Chain, Family, Hook, Match, Rule, Table};
use crate::dns::PORT as DNS_PORT;

/// Traffic that enters the pod.
const INBOUND: &str = "ISTIO_INBOUND";
/// Traffic that leaves a process of the pod.
const OUTPUT: &str = "ISTIO_OUTPUT";
/// To the sidecar's outbound listener.
const REDIRECT: &str = "ISTIO_REDIRECT";
/// To the sidecar's inbound listener.
const IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";

/// DNS by UDP that leaves a process of the pod.
const OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";

/// HBONE arrives encrypted and marked by its port; it is never taken for plain traffic.
const HBONE: u16 = 15008;

/// The IPv6 source of the sidecar's connections to its own application; it must be an address of `lo`. For IPv4,
/// 127.0.0.6 is one without being told.
pub(super) const INBOUND_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
const INBOUND_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// The port of DNS.
const DNS: u16 = 53;

/// The table of one family; `resolvers` are the servers of the pod's `/etc/resolv.conf`.
pub fn plan(flags: &Flags, family: Family, resolvers: &[IpAddr]) -> Table {
    let resolvers = captured_resolvers(flags, family, resolvers);
    let mut chains = chains(flags, family, &resolvers);
    if !resolvers.is_empty() {
        chains.extend(dns_chains(flags, &resolvers));
    }
    Table { family, chains }
}

/// The resolvers of a family whose questions are sent to the sidecar. Who excludes the port excludes it for both protocols.
fn captured_resolvers(flags: &Flags, family: Family, resolvers: &[IpAddr]) -> Vec<IpNet> {
    if !flags.redirect_dns || flags.exclude_outbound_ports.0.contains(&DNS) {
        return Vec::new();
    }
    let own = resolvers.iter().filter(|resolver| family.has(**resolver));
    own.map(|resolver| IpNet::from(*resolver)).collect()
}

/// The chains for DNS by UDP. The sidecar asks the same resolvers from the same address, and a port that the application had
/// may be the sidecar's next: while the kernel remembers the application's exchange, the sidecar's question would be taken
/// for a part of it, and come back to the sidecar. So what the sidecar asks and is answered is not tracked at all; Istio has
/// conntrack zones for it.
fn dns_chains(flags: &Flags, resolvers: &[IpNet]) -> [Chain; 3] {
    let sidecar = || [Match::Uid(flags.uid), Match::Gid(flags.gid)].into_iter();
    let own = sidecar().map(|own| rule([own], Action::Return));
    let captured = resolvers.iter().map(|resolver| {
        rule(
            [Match::UdpPort(DNS), Match::Destination(*resolver)],
            Action::Redirect(DNS_PORT),
        )
    });
    let asked = sidecar().map(|own| rule([Match::UdpPort(DNS), own], Action::Notrack));
    let answered = resolvers
        .iter()
        .map(|resolver| rule([Match::UdpSourcePort(DNS), Match::Source(*resolver)], Action::Notrack));
    [
        Chain {
            name: OUTPUT_DNS,
            hook: None,
            rules: own.chain(captured).collect(),
        },
        Chain {
            name: "raw_output",
            hook: Some(Hook::RawOutput),
            rules: asked.collect(),
        },
        Chain {
            name: "raw_prerouting",
            hook: Some(Hook::RawPrerouting),
            rules: answered.collect(),
        },
    ]
}

fn chains(flags: &Flags, family: Family, resolvers: &[IpNet]) -> Vec<Chain> {
    vec![
        Chain {
            name: REDIRECT,
            hook: None,
            rules: vec![redirect(flags.outbound_port)],
        },
        Chain {
            name: IN_REDIRECT,
            hook: None,
            rules: vec![redirect(flags.inbound_port)],
        },
        Chain {
            name: INBOUND,
            hook: None,
            rules: inbound(flags),
        },
        Chain {
            name: OUTPUT,
            hook: None,
            rules: output(flags, family, resolvers),
        },
        Chain {
            name: "prerouting",
            hook: Some(Hook::Prerouting),
            rules: prerouting(flags, family),
        },
        Chain {
            name: "output",
            hook: Some(Hook::Output),
            rules: output_base(flags, !resolvers.is_empty()),
        },
    ]
}

fn rule(matches: impl IntoIterator<Item = Match>, action: Action) -> Rule {
    Rule {
        matches: matches.into_iter().collect(),
        action,
    }
}

fn redirect(port: u16) -> Rule {
    rule([Match::Tcp], Action::Redirect(port))
}

fn prerouting(flags: &Flags, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    for name in &flags.exclude_interfaces.0 {
        rules.push(rule([Match::InInterface(name.clone())], Action::Return));
    }
    // What a virtual machine in the pod sends arrives here, and is outbound traffic of the pod.
    for name in &flags.reroute_virtual_interfaces.0 {
        let on = || Match::InInterface(name.clone());
        match &flags.include_outbound_ip_ranges {
            Selection::All => rules.push(rule([on(), Match::Tcp], Action::Jump(REDIRECT))),
            Selection::Only(ranges) => {
                for range in of_family(ranges, family) {
                    rules.push(rule([on()].into_iter().chain(to(range)), Action::Jump(REDIRECT)));
                }
            }
        }
        rules.push(rule([on()], Action::Return));
    }
    if flags.include_inbound_ports != Selection::Only(Vec::new()) {
        rules.push(rule([Match::Tcp], Action::Jump(INBOUND)));
    }
    rules
}

fn output_base(flags: &Flags, dns: bool) -> Vec<Rule> {
    let excluded = flags.exclude_interfaces.0.iter();
    let mut rules: Vec<_> = excluded
        .map(|name| rule([Match::OutInterface(name.clone())], Action::Return))
        .collect();
    rules.push(rule([Match::Tcp], Action::Jump(OUTPUT)));
    if dns {
        rules.push(rule([Match::UdpPort(DNS)], Action::Jump(OUTPUT_DNS)));
    }
    rules
}

fn inbound(flags: &Flags) -> Vec<Rule> {
    let mut rules: Vec<_> = ALWAYS_EXCLUDED_INBOUND_PORTS
        .iter()
        .map(|port| rule([Match::Port(*port)], Action::Return))
        .collect();
    match &flags.include_inbound_ports {
        Selection::All => {
            for port in &flags.exclude_inbound_ports.0 {
                if !ALWAYS_EXCLUDED_INBOUND_PORTS.contains(port) {
                    rules.push(rule([Match::Port(*port)], Action::Return));
                }
            }
            rules.push(rule([Match::Tcp], Action::Jump(IN_REDIRECT)));
        }
        Selection::Only(ports) => {
            for port in ports {
                rules.push(rule([Match::Port(*port)], Action::Jump(IN_REDIRECT)));
            }
        }
    }
    rules
}

/// Istio writes the excluded ports for UDP too; here the chain sees TCP alone, and of UDP only DNS is ever redirected.
fn output(flags: &Flags, family: Family, resolvers: &[IpNet]) -> Vec<Rule> {
    let lo = || Match::OutInterface(Interface::Name("lo".to_owned()));
    let (localhost, inbound_source): (IpAddr, IpAddr) = match family {
        Family::V4 => (Ipv4Addr::LOCALHOST.into(), INBOUND_SOURCE_V4.into()),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), INBOUND_SOURCE_V6.into()),
    };
    let localhost = IpNet::from(localhost);

    // A resolver may be in the pod itself.
    let not_dns = || (!resolvers.is_empty()).then_some(Match::PortNot(DNS));

    let mut rules = Vec::new();
    for port in &flags.exclude_outbound_ports.0 {
        rules.push(rule([Match::Port(*port)], Action::Return));
    }
    // The sidecar's connection to its own application.
    rules.push(rule([lo(), Match::Source(inbound_source.into())], Action::Return));
    for (own, other) in [
        (Match::Uid(flags.uid), Match::UidNot(flags.uid)),
        (Match::Gid(flags.gid), Match::GidNot(flags.gid)),
    ] {
        // The application calls a Service that has its own pod as an endpoint: the sidecar's connection to that
        // endpoint stays on `lo`, and the inbound side must see it like one from outside.
        let not_itself = [lo(), Match::DestinationNot(localhost), Match::PortNot(HBONE)];
        rules.push(rule(
            not_itself.into_iter().chain(not_dns()).chain([own.clone()]),
            Action::Jump(IN_REDIRECT),
        ));
        // Containers of the pod talk to each other without the sidecar.
        rules.push(rule([lo()].into_iter().chain(not_dns()).chain([other]), Action::Return));
        rules.push(rule([own], Action::Return));
    }
    for resolver in resolvers {
        rules.push(rule(
            [Match::Port(DNS), Match::Destination(*resolver)],
            Action::Redirect(DNS_PORT),
        ));
    }
    rules.push(rule([Match::Destination(localhost)], Action::Return));
    for range in of_family(&flags.exclude_outbound_ip_ranges.0, family) {
        rules.push(rule(to(range), Action::Return));
    }
    for port in &flags.include_outbound_ports.0 {
        rules.push(rule([Match::Port(*port)], Action::Jump(REDIRECT)));
    }
    match &flags.include_outbound_ip_ranges {
        Selection::All => rules.push(rule([Match::Tcp], Action::Jump(REDIRECT))),
        Selection::Only(ranges) => {
            for range in of_family(ranges, family) {
                rules.push(rule(to(range), Action::Jump(REDIRECT)));
            }
        }
    }
    rules
}

/// TCP to a range. The range of all addresses is no match of its own: there is nothing to compare.
fn to(range: IpNet) -> impl Iterator<Item = Match> {
    let compared = (range.prefix_len() > 0).then_some(Match::Destination(range));
    [Match::Tcp].into_iter().chain(compared)
}

fn of_family(ranges: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> + '_ {
    ranges.iter().copied().filter(move |range| family.has(range.addr()))
}

#[cfg(test)]
mod tests {
    use super::super::flags::tests::parse;
    use super::super::rules::Packet;
    use super::*;

    const RESOLVERS: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
        IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0xa)),
    ];

    #[test]
    fn dns_is_captured_for_the_pods_resolvers_alone() {
        let shown = plan(&parse(&["--redirect-dns"]).unwrap(), Family::V4, &RESOLVERS).to_string();
        let (_, from_output) = shown.split_once("\tchain ISTIO_OUTPUT {\n").unwrap();
        assert_eq!(
            from_output,
            r#"		oifname "lo" ip saddr 127.0.0.6 return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 tcp dport != 53 meta skuid 1337 jump ISTIO_IN_REDIRECT
		oifname "lo" tcp dport != 53 meta skuid != 1337 return
		meta skuid 1337 return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 tcp dport != 53 meta skgid 1337 jump ISTIO_IN_REDIRECT
		oifname "lo" tcp dport != 53 meta skgid != 1337 return
		meta skgid 1337 return
		tcp dport 53 ip daddr 10.96.0.10 redirect to :15053
		ip daddr 127.0.0.1 return
		meta l4proto tcp jump ISTIO_REDIRECT
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto tcp jump ISTIO_INBOUND
	}
	chain output {
		type nat hook output priority -100; policy accept;
		meta l4proto tcp jump ISTIO_OUTPUT
		udp dport 53 jump ISTIO_OUTPUT_DNS
	}
	chain ISTIO_OUTPUT_DNS {
		meta skuid 1337 return
		meta skgid 1337 return
		udp dport 53 ip daddr 10.96.0.10 redirect to :15053
	}
	chain raw_output {
		type filter hook output priority raw; policy accept;
		udp dport 53 meta skuid 1337 notrack
		udp dport 53 meta skgid 1337 notrack
	}
	chain raw_prerouting {
		type filter hook prerouting priority raw; policy accept;
		udp sport 53 ip saddr 10.96.0.10 notrack
	}
}
"#
        );
        // flags; destination; UDP; port; uid; where it ends.
        let dns = ["--redirect-dns"].as_slice();
        let excluded = ["--redirect-dns", "--exclude-outbound-ports=53"].as_slice();
        for (args, destination, udp, port, uid, expected) in [
            (dns, "10.96.0.10", true, 53, 1000, Some(15053)),
            (dns, "10.96.0.10", false, 53, 1000, Some(15053)),
            (dns, "fd96::a", true, 53, 1000, Some(15053)),
            (dns, "fd96::a", false, 53, 1000, Some(15053)),
            (dns, "10.96.0.10", true, 53, 1337, None),
            (dns, "10.96.0.10", false, 53, 1337, None),
            (dns, "10.96.0.10", true, 5353, 1000, None),
            (dns, "10.96.0.11", true, 53, 1000, None),
            (dns, "10.96.0.11", false, 53, 1000, Some(15001)),
            (&[], "10.96.0.10", true, 53, 1000, None),
            (&[], "10.96.0.10", false, 53, 1000, Some(15001)),
            (excluded, "10.96.0.10", true, 53, 1000, None),
            (excluded, "10.96.0.10", false, 53, 1000, None),
        ] {
            let destination: IpAddr = destination.parse().unwrap();
            let (family, source) = if destination.is_ipv4() {
                (Family::V4, "10.0.0.5")
            } else {
                (Family::V6, "fd00::5")
            };
            let packet = Packet {
                udp,
                source: source.parse().unwrap(),
                destination,
                port,
                interface: "eth0",
                uid,
                gid: uid,
            };
            let table = plan(&parse(args).unwrap(), family, &RESOLVERS);
            assert_eq!(table.decide(Hook::Output, &packet), expected, "{args:?} {packet:?}");
        }
        // A resolver in the pod itself, and the sidecar's own question to it.
        let local = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53))];
        for (uid, expected) in [(1000, Some(15053)), (1337, None)] {
            for udp in [true, false] {
                let packet = Packet {
                    udp,
                    source: "127.0.0.1".parse().unwrap(),
                    destination: local[0],
                    port: 53,
                    interface: "lo",
                    uid,
                    gid: uid,
                };
                let table = plan(&parse(dns).unwrap(), Family::V4, &local);
                assert_eq!(table.decide(Hook::Output, &packet), expected, "{packet:?}");
            }
        }
    }

    #[test]
    fn the_default_rules_are_istios_in_istios_order() {
        let shown = plan(&parse(&[]).unwrap(), Family::V4, &RESOLVERS).to_string();
        assert_eq!(
            shown,
            r#"table ip pinnace {
	chain ISTIO_REDIRECT {
		meta l4proto tcp redirect to :15001
	}
	chain ISTIO_IN_REDIRECT {
		meta l4proto tcp redirect to :15006
	}
	chain ISTIO_INBOUND {
		tcp dport 15008 return
		tcp dport 15090 return
		tcp dport 15021 return
		tcp dport 15020 return
		meta l4proto tcp jump ISTIO_IN_REDIRECT
	}
	chain ISTIO_OUTPUT {
		oifname "lo" ip saddr 127.0.0.6 return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skuid 1337 jump ISTIO_IN_REDIRECT
		oifname "lo" meta skuid != 1337 return
		meta skuid 1337 return
		oifname "lo" ip daddr != 127.0.0.1 tcp dport != 15008 meta skgid 1337 jump ISTIO_IN_REDIRECT
		oifname "lo" meta skgid != 1337 return
		meta skgid 1337 return
		ip daddr 127.0.0.1 return
		meta l4proto tcp jump ISTIO_REDIRECT
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta l4proto tcp jump ISTIO_INBOUND
	}
	chain output {
		type nat hook output priority -100; policy accept;
		meta l4proto tcp jump ISTIO_OUTPUT
	}
}
"#
        );
    }

    /// flags; hook; interface; source; destination; port; uid (and gid); where it ends.
    type Case = (
        &'static [&'static str],
        Hook,
        &'static str,
        &'static str,
        &'static str,
        u16,
        u32,
        Option<u16>,
    );

    #[test]
    fn what_becomes_of_a_connection() {
        use Hook::{Output, Prerouting};
        let (pod, peer, pod6, peer6) = ("10.0.0.5", "10.0.0.9", "fd00::5", "fd00::9");
        let cases: Vec<Case> = vec![
            // Outbound.
            (&[], Output, "eth0", pod, peer, 80, 1000, Some(15001)),
            (&[], Output, "eth0", pod6, peer6, 80, 1000, Some(15001)),
            (&[], Output, "eth0", pod, peer, 80, 0, Some(15001)),
            (&[], Output, "eth0", pod, peer, 80, 1337, None),
            (&["--uid=5"], Output, "eth0", pod, peer, 80, 5, None),
            (
                &["--outbound-port=4001"],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                Some(4001),
            ),
            (
                &["--exclude-outbound-ports=80"],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                None,
            ),
            (
                &["--exclude-outbound-ports=80"],
                Output,
                "eth0",
                pod,
                peer,
                81,
                1000,
                Some(15001),
            ),
            (
                &["--exclude-outbound-ip-ranges=10.0.0.0/8"],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                None,
            ),
            (
                &["--exclude-outbound-ip-ranges=fd00::/8"],
                Output,
                "eth0",
                pod6,
                peer6,
                80,
                1000,
                None,
            ),
            (
                &["--exclude-outbound-ip-ranges=fd00::/8"],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                Some(15001),
            ),
            (
                &["--include-outbound-ip-ranges=10.1.0.0/16"],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                None,
            ),
            (
                &["--include-outbound-ip-ranges=10.1.0.0/16"],
                Output,
                "eth0",
                pod,
                "10.1.2.3",
                80,
                1000,
                Some(15001),
            ),
            (
                &["--include-outbound-ip-ranges="],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                None,
            ),
            (
                &["--include-outbound-ip-ranges=", "--include-outbound-ports=80"],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                Some(15001),
            ),
            // An excluded range wins over an included port, an excluded port over everything.
            (
                &["--exclude-outbound-ip-ranges=10.0.0.0/8", "--include-outbound-ports=80"],
                Output,
                "eth0",
                pod,
                peer,
                80,
                1000,
                None,
            ),
            (
                &["--exclude-interfaces=eth1"],
                Output,
                "eth1",
                pod,
                peer,
                80,
                1000,
                None,
            ),
            // Within the pod.
            (&[], Output, "lo", "127.0.0.1", "127.0.0.1", 8080, 1000, None),
            (&[], Output, "lo", pod, pod, 8080, 1000, None),
            (&[], Output, "lo", "127.0.0.6", pod, 8080, 1337, None),
            (&[], Output, "lo", "::6", pod6, 8080, 1337, None),
            (&[], Output, "lo", pod, pod, 8080, 1337, Some(15006)),
            (&[], Output, "lo", pod6, pod6, 8080, 1337, Some(15006)),
            (&[], Output, "lo", pod, pod, 15008, 1337, None),
            (&[], Output, "lo", "127.0.0.1", "127.0.0.1", 8080, 1337, None),
            // Inbound.
            (&[], Prerouting, "eth0", peer, pod, 8080, 0, Some(15006)),
            (&[], Prerouting, "eth0", peer6, pod6, 8080, 0, Some(15006)),
            (
                &["--inbound-port=4006"],
                Prerouting,
                "eth0",
                peer,
                pod,
                8080,
                0,
                Some(4006),
            ),
            (&[], Prerouting, "eth0", peer, pod, 15008, 0, None),
            (&[], Prerouting, "eth0", peer, pod, 15020, 0, None),
            (&[], Prerouting, "eth0", peer, pod, 15021, 0, None),
            (&[], Prerouting, "eth0", peer, pod, 15090, 0, None),
            (
                &["--exclude-inbound-ports=8080"],
                Prerouting,
                "eth0",
                peer,
                pod,
                8080,
                0,
                None,
            ),
            (
                &["--exclude-inbound-ports=8080"],
                Prerouting,
                "eth0",
                peer,
                pod,
                8081,
                0,
                Some(15006),
            ),
            (
                &["--include-inbound-ports=8080"],
                Prerouting,
                "eth0",
                peer,
                pod,
                8080,
                0,
                Some(15006),
            ),
            (
                &["--include-inbound-ports=8080"],
                Prerouting,
                "eth0",
                peer,
                pod,
                8081,
                0,
                None,
            ),
            (
                &["--include-inbound-ports=15020"],
                Prerouting,
                "eth0",
                peer,
                pod,
                15020,
                0,
                None,
            ),
            (
                &["--include-inbound-ports="],
                Prerouting,
                "eth0",
                peer,
                pod,
                8080,
                0,
                None,
            ),
            (
                &["--exclude-interfaces=eth1"],
                Prerouting,
                "eth1",
                peer,
                pod,
                8080,
                0,
                None,
            ),
            (
                &["--reroute-virtual-interfaces=vm0"],
                Prerouting,
                "vm0",
                peer,
                "192.0.2.1",
                80,
                0,
                Some(15001),
            ),
            (
                &[
                    "--reroute-virtual-interfaces=vm0",
                    "--include-outbound-ip-ranges=10.1.0.0/16",
                ],
                Prerouting,
                "vm0",
                peer,
                "192.0.2.1",
                80,
                0,
                None,
            ),
        ];
        for case in cases {
            let (args, hook, interface, source, destination, port, uid, expected) = case;
            let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
            let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
            let table = plan(&parse(args).unwrap(), family, &RESOLVERS);
            let packet = Packet {
                udp: false,
                source,
                destination,
                port,
                interface,
                uid,
                gid: uid,
            };
            assert_eq!(table.decide(hook, &packet), expected, "{case:?}");
        }
    }

    #[test]
    fn the_group_alone_is_exempt_too() {
        let table = plan(&parse(&[]).unwrap(), Family::V4, &RESOLVERS);
        let packet = Packet {
            udp: false,
            source: "10.0.0.5".parse().unwrap(),
            destination: "10.0.0.9".parse().unwrap(),
            port: 80,
            interface: "eth0",
            uid: 1000,
            gid: 1337,
        };
        assert_eq!(table.decide(Hook::Output, &packet), None);
    }
}
