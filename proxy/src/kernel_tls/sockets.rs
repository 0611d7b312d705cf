//! The system calls of the kernel's TLS, and those by which one sees what it still holds.

use super::crypto_info::{CryptoInfo, Direction};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

/// The upper layer protocol that is asked for (Linux, `include/net/tls.h`).
const ULP: &[u8] = b"tls";

/// Where `struct tcp_info` of `include/uapi/linux/tcp.h` has the state, and the number of bytes that were acknowledged
/// (`tcpi_bytes_acked`, 64 bits, since Linux 4.1).
const TCP_INFO_STATE: usize = 0;
const TCP_INFO_ACKNOWLEDGED: usize = 120;
const TCP_INFO_BYTES: usize = TCP_INFO_ACKNOWLEDGED + size_of::<u64>();

/// `TCP_CLOSE` of `include/net/tcp_states.h`.
const CLOSED: u8 = 7;

/// How often the two numbers that tell what was given to TCP are read until they belong together.
const READS: usize = 64;

/// A control message of one byte.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes of a record of a kind; one record's where the kind is another than data.
    Record(u8, usize),
    /// The peer has closed its side of the connection, in the middle of TLS.
    End,
}

/// Lets the kernel take over the socket's TLS; until it has keys, everything is as before.
pub(super) fn set_ulp(socket: &impl AsRawFd) -> io::Result<()> {
    set(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, ULP)
}

/// Gives the kernel the keys of a direction, which it has from then on.
pub(super) fn set_keys(socket: &impl AsRawFd, direction: Direction, keys: &CryptoInfo) -> io::Result<()> {
    set(socket.as_raw_fd(), libc::SOL_TLS, option(direction), keys.bytes())
}

/// Reads what the kernel has of a direction: above all the number of the next record.
pub(super) fn read_keys(socket: &impl AsRawFd, direction: Direction, keys: &mut CryptoInfo) -> io::Result<()> {
    let expected = keys.bytes().len();
    match get(socket.as_raw_fd(), libc::SOL_TLS, option(direction), keys.bytes_mut())? {
        length if length == expected => Ok(()),
        length => Err(io::Error::other(format!(
            "{length} bytes of keys instead of {expected}"
        ))),
    }
}

fn option(direction: Direction) -> libc::c_int {
    match direction {
        Direction::Transmit => libc::TLS_TX,
        Direction::Receive => libc::TLS_RX,
    }
}

/// How many bytes TCP was ever given on this connection, but for a constant.
pub(super) fn given_to_tcp(socket: &impl AsRawFd) -> io::Result<u64> {
    let fd = socket.as_raw_fd();
    let mut before = acknowledged(fd)?;
    for _ in 0..READS {
        let queued = queued(fd)?;
        let after = acknowledged(fd)?;
        if before == after {
            return Ok(before.wrapping_add(queued));
        }
        before = after;
    }
    // Acknowledgements come faster than they are counted.
    Err(io::ErrorKind::WouldBlock.into())
}

fn acknowledged(fd: RawFd) -> io::Result<u64> {
    let mut info = [0; TCP_INFO_BYTES];
    if get(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)? < TCP_INFO_BYTES {
        return Err(io::Error::other("this kernel does not count what was acknowledged"));
    }
    if info[TCP_INFO_STATE] == CLOSED {
        return Err(io::ErrorKind::NotConnected.into());
    }
    let mut number = [0; size_of::<u64>()];
    number.copy_from_slice(&info[TCP_INFO_ACKNOWLEDGED..]);
    Ok(u64::from_ne_bytes(number))
}

/// Bytes that TCP has and the peer has not acknowledged.
fn queued(fd: RawFd) -> io::Result<u64> {
    let mut queued: libc::c_int = 0;
    // SAFETY: the descriptor is open while its owner is borrowed; `SIOCOUTQ`, which has this number, writes an int.
    let done = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, ptr::from_mut(&mut queued)) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(queued).unwrap_or_default())
}

/// Receives what the kernel has decrypted, and of what kind it is. A record that is not data comes alone.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 64]);
    let mut message = message(&mut part, &mut control, size_of::<Control>());
    // SAFETY: the descriptor is open while its owner is borrowed, and what the message points to is as long as it says and
    // lives until the call is over.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written the message's control part, and said how long it is.
    let kind = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let of_tls = header
            .as_ref()
            .is_some_and(|it| (it.cmsg_level, it.cmsg_type) == (libc::SOL_TLS, libc::TLS_GET_RECORD_TYPE));
        of_tls.then(|| *libc::CMSG_DATA(header))
    };
    match (kind, received) {
        (Some(kind), length) => Ok(Received::Record(kind, length)),
        (None, 0) => Ok(Received::End),
        (None, _) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel does not say of what kind a record is",
        )),
    }
}

/// Sends bytes as one record of a kind.
pub(super) fn send_record(socket: &impl AsRawFd, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: a computation on numbers.
    let (space, length) = unsafe { (libc::CMSG_SPACE(1), libc::CMSG_LEN(1)) };
    let message = message(&mut part, &mut control, usize::try_from(space).unwrap_or_default());
    // SAFETY: the control part is aligned, and long enough for a header and a byte.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = libc::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = length as _;
        *libc::CMSG_DATA(header) = kind;
    }
    // SAFETY: as in `receive`; the kernel only reads the bytes.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn message(part: &mut libc::iovec, control: &mut Control, control_length: usize) -> libc::msghdr {
    // SAFETY: a structure of integers and pointers, for which zero says "none".
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = ptr::from_mut(part);
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control_length as _;
    message
}

fn set(fd: RawFd, level: libc::c_int, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while its owner is borrowed, and the value is of the length that is passed.
    let done = unsafe { libc::setsockopt(fd, level, option, value.as_ptr().cast(), length) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn get(fd: RawFd, level: libc::c_int, option: libc::c_int, value: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: as above; the kernel writes at most as much as it is told.
    let done = unsafe { libc::getsockopt(fd, level, option, value.as_mut_ptr().cast(), &raw mut length) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(length).map_err(io::Error::other)
}
