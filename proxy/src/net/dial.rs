//! Connections that the proxy opens: to other pods, and to its own application.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// Istio's default `connectTimeout`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to an address outside the pod (or back into it, through the redirect).
///
/// # Errors
/// That of the kernel, or `TimedOut` after [`CONNECT_TIMEOUT`].
pub async fn upstream(address: SocketAddr) -> io::Result<TcpStream> {
    connect(address, None).await
}

/// Connects to the pod's own application from 127.0.0.6 (::6), the source that the redirect rules let pass.
///
/// # Errors
/// As [`upstream`].
pub async fn application(address: SocketAddr) -> io::Result<TcpStream> {
    let source = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
    };
    connect(address, Some(source)).await
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    if let Some(source) = source {
        bind_address_no_port(&socket);
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(address)).await {
        Ok(connected) => connected?,
        Err(_) => {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer within the connect timeout",
            ));
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Leaves the choice of the source port to `connect`: chosen at `bind` it would have to be free for every destination, and
/// the ports would run out at 28,000 connections to the application. A kernel that does not know the option works without.
fn bind_address_no_port(socket: &TcpSocket) {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the descriptor is open while `socket` is borrowed, and the option is an int of the size that is passed.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&on).cast(),
            size,
        );
    }
}
