//! A real connection that proves the redirect: sent to an address of a documentation range, it must arrive at a
//! listener of ours, and the kernel must remember where it was going.
//!
//! Only the outbound side can be tried from inside the pod. A connection to the pod's own address stays on `lo` and
//! has its translation decided in the output hook, so it never consults prerouting, and there is no other host to
//! connect from; the inbound rules are compared with what the kernel holds instead (`Kernel::verify`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::error::Error;
use super::flags::{Flags, Selection};
use super::rules::{Family, Hook, Packet, Table};
use crate::dns::PORT as DNS_PORT;

/// How long the connection may take; it never leaves the host.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the self-test found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A connection to this address arrived as it should.
    Redirected(SocketAddr),
    /// It could not be tried, for this reason.
    Skipped(String),
}

/// Tries the outbound side of one family.
///
/// # Errors
/// The connection was not redirected, or arrived with another destination.
pub(super) async fn outbound(flags: &Flags, table: &Table) -> Result<Outcome, Error> {
    let port = flags.outbound_port;
    let Some(destination) = destination(flags, table) else {
        return Ok(Outcome::Skipped(
            "the flags leave no destination that would be redirected".to_owned(),
        ));
    };
    let localhost: IpAddr = match table.family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let listener = match TcpListener::bind((localhost, port)).await {
        Ok(listener) => listener,
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            return Ok(Outcome::Skipped(format!(
                "port {port} is taken: the sidecar is running already"
            )));
        }
        Err(e) => {
            return Ok(Outcome::Skipped(format!(
                "cannot listen on {localhost} port {port}: {e}"
            )));
        }
    };
    let failed = |found: String| Error::NotRedirected {
        destination,
        port,
        found,
    };

    // The kernel completes the connection before it is accepted, so one after the other needs no task.
    let stream = match timeout(PATIENCE, TcpStream::connect(destination)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) if no_route(&e) => return Ok(Outcome::Skipped(format!("there is no route to {destination}: {e}"))),
        Ok(Err(e)) => return Err(failed(format!("the connection failed: {e}"))),
        Err(_) => return Err(failed("it got no answer".to_owned())),
    };
    let Ok(Ok((arrived, peer))) = timeout(PATIENCE, listener.accept()).await else {
        return Err(failed("it went elsewhere".to_owned()));
    };
    if stream.local_addr().ok() != Some(peer) {
        return Err(failed("another connection arrived in its place".to_owned()));
    }
    let original = match table.family {
        Family::V4 => SockRef::from(&arrived).original_dst_v4(),
        Family::V6 => SockRef::from(&arrived).original_dst_v6(),
    };
    match original.map(|address| address.as_socket()) {
        Ok(Some(original)) if original == destination => Ok(Outcome::Redirected(destination)),
        Ok(original) => Err(failed(format!(
            "SO_ORIGINAL_DST says that it was going to {original:?}"
        ))),
        Err(e) => Err(failed(format!("SO_ORIGINAL_DST cannot be read: {e}"))),
    }
}

/// Tries one question by UDP to a resolver of the pod, which must arrive at the sidecar's port and no further.
///
/// # Errors
/// It was not redirected.
pub(super) async fn dns(table: &Table, resolver: IpAddr) -> Result<Outcome, Error> {
    let destination = SocketAddr::new(resolver, 53);
    let packet = Packet {
        udp: true,
        source: resolver,
        destination: resolver,
        port: 53,
        interface: "eth0",
        // SAFETY: these calls only read the ids of the process and cannot fail.
        uid: unsafe { libc::geteuid() },
        // SAFETY: as above.
        gid: unsafe { libc::getegid() },
    };
    if table.decide(Hook::Output, &packet) != Some(DNS_PORT) {
        return Ok(Outcome::Skipped(
            "the flags leave no resolver whose questions would be redirected".to_owned(),
        ));
    }
    let (localhost, any): (IpAddr, IpAddr) = match table.family {
        Family::V4 => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into()),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()),
    };
    let server = match UdpSocket::bind((localhost, DNS_PORT)).await {
        Ok(server) => server,
        Err(e) => {
            return Ok(Outcome::Skipped(format!(
                "cannot listen on {localhost} port {DNS_PORT}: {e}"
            )));
        }
    };
    let failed = |found: String| Error::NotRedirected {
        destination,
        port: DNS_PORT,
        found,
    };
    let probe = rand::random::<u128>().to_be_bytes();
    let sent = async {
        let client = UdpSocket::bind((any, 0)).await?;
        client.connect(destination).await?;
        client.send(&probe).await?;
        Ok(client)
    };
    let _client = match sent.await {
        Ok(client) => client,
        Err(e) if no_route(&e) => return Ok(Outcome::Skipped(format!("there is no route to {destination}: {e}"))),
        Err(e) => return Err(failed(format!("it could not be sent: {e}"))),
    };
    let mut arrived = [0; 64];
    match timeout(PATIENCE, server.recv(&mut arrived)).await {
        Ok(Ok(length)) if arrived.get(..length) == Some(&probe[..]) => Ok(Outcome::Redirected(destination)),
        Ok(Ok(_)) => Err(failed("another datagram arrived in its place".to_owned())),
        Ok(Err(e)) => Err(failed(format!("it cannot be read: {e}"))),
        Err(_) => Err(failed("it went elsewhere".to_owned())),
    }
}

fn no_route(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL | libc::ENETDOWN | libc::EACCES)
    )
}

/// A destination that the rules redirect for this process: in a documentation range if possible (RFC 5737,
/// RFC 3849), else in an included range; on the discard port, or an included one.
fn destination(flags: &Flags, table: &Table) -> Option<SocketAddr> {
    let mut addresses: Vec<IpAddr> = match table.family {
        Family::V4 => {
            vec![
                Ipv4Addr::new(192, 0, 2, 1).into(),
                Ipv4Addr::new(198, 51, 100, 1).into(),
            ]
        }
        Family::V6 => vec![Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()],
    };
    if let Selection::Only(ranges) = &flags.include_outbound_ip_ranges {
        let own = ranges.iter().filter(|r| table.family.has(r.addr()));
        addresses.extend(own.filter_map(|r| r.hosts().next()));
    }
    let ports = [9, 10009]
        .into_iter()
        .chain(flags.include_outbound_ports.0.iter().copied());
    let candidates = ports.flat_map(|port| addresses.iter().map(move |a| SocketAddr::new(*a, port)));
    // SAFETY: these calls only read the ids of the process and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let source = match table.family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    candidates.into_iter().find(|to| {
        let packet = Packet {
            udp: false,
            source,
            destination: to.ip(),
            port: to.port(),
            interface: "eth0",
            uid,
            gid,
        };
        table.decide(Hook::Output, &packet) == Some(flags.outbound_port)
    })
}

#[cfg(test)]
mod tests {
    use super::super::flags::tests::parse;
    use super::super::plan::plan;
    use super::*;

    #[test]
    fn the_destination_is_one_that_is_redirected() {
        for (args, v4, v6) in [
            (&[][..], Some("192.0.2.1:9"), Some("[2001:db8::1]:9")),
            (
                &["--exclude-outbound-ports=9"],
                Some("192.0.2.1:10009"),
                Some("[2001:db8::1]:10009"),
            ),
            (
                &["--exclude-outbound-ip-ranges=192.0.2.0/24"],
                Some("198.51.100.1:9"),
                Some("[2001:db8::1]:9"),
            ),
            (&["--include-outbound-ip-ranges=10.0.0.0/8"], Some("10.0.0.1:9"), None),
            (&["--include-outbound-ip-ranges=fd00::/64"], None, Some("[fd00::]:9")),
            (
                &["--include-outbound-ip-ranges=", "--include-outbound-ports=80"],
                Some("192.0.2.1:80"),
                Some("[2001:db8::1]:80"),
            ),
            (&["--include-outbound-ip-ranges="], None, None),
        ] {
            let flags = parse(&[&["--uid=1337", "--gid=1337"], args].concat()).unwrap();
            for (family, expected) in [(Family::V4, v4), (Family::V6, v6)] {
                let found = destination(&flags, &plan(&flags, family, &[]));
                assert_eq!(found, expected.map(|e| e.parse().unwrap()), "{args:?} {family:?}");
            }
        }
    }
}
