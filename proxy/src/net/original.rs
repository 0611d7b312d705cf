//! The address that a captured connection was meant for (`SO_ORIGINAL_DST`), before the redirect rules moved it here.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

/// Reads the destination that the client dialled.
///
/// An IPv4 client of a dual-stack listener shows as an IPv4-mapped address; it is given back as IPv4.
///
/// # Errors
/// That of the kernel: `ENOENT` where no rule redirected the connection.
pub fn destination(socket: &impl AsFd, local: SocketAddr) -> io::Result<SocketAddr> {
    let socket = socket2::SockRef::from(socket);
    let found = if canonical(local).is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    }?;
    found
        .as_socket()
        .map(canonical)
        .ok_or_else(|| io::Error::other("the original destination is not an IP address"))
}

/// An IPv4-mapped IPv6 address as the IPv4 address that it is, without scope or flow label.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, v6.port())),
            None => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
        },
        SocketAddr::V4(_) => address,
    }
}
