//! TLS by the kernel (kTLS): whether it is there, and what was asked for.
//!
//! A socket is handed to the kernel's TLS by the option `TCP_ULP`, which takes an established connection. So it is tried on
//! one, over loopback. An unprivileged process does not make the kernel load its module `tls`: where it is a module, a node
//! has to load it.

use mesh_wire::admin;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::str::FromStr;
use std::time::Duration;

/// How long a connection to oneself may take.
const OWN_CONNECTION: Duration = Duration::from_secs(1);

/// The upper layer protocol that is asked for (Linux, `include/net/tls.h`).
const ULP: &[u8] = b"tls";

/// `KERNEL_TLS`: what was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Setting {
    /// By the kernel where it can be.
    Auto,
    /// Never.
    #[default]
    Off,
}

impl FromStr for Setting {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => Err(()),
        }
    }
}

/// Whether this kernel takes TLS over for a socket.
///
/// # Errors
/// Why not, in a sentence.
pub fn detect() -> Result<(), String> {
    let pair = own_connection().map_err(|error| format!("no connection to try it on: {error}"))?;
    set_ulp(&pair.0).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => "the kernel has no TLS, or its module tls is not loaded on this node".to_owned(),
        Some(libc::EPERM | libc::EACCES) => format!("this process may not use it: {error}"),
        _ => format!("setsockopt TCP_ULP: {error}"),
    })
}

/// Both ends of a connection within this process.
fn own_connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, OWN_CONNECTION)?;
    let own = near.local_addr()?;
    loop {
        // Whoever else connects meanwhile is not it.
        let (far, peer) = listener.accept()?;
        if peer == own {
            return Ok((near, far));
        }
    }
}

fn set_ulp(socket: &TcpStream) -> io::Result<()> {
    let size = libc::socklen_t::try_from(ULP.len()).unwrap_or_default();
    // SAFETY: the descriptor is open while `socket` is borrowed, and the option's value is of the size that is passed.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_ULP,
            ULP.as_ptr().cast(),
            size,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Tries it, says what was found in a line of the log and by a metric, and gives what `/server_info` shows.
///
/// # Errors
/// That of the registry, for a name that is taken.
pub fn report(setting: Setting, registry: &prometheus::Registry) -> prometheus::Result<admin::KernelTls> {
    let gauge = prometheus::IntGauge::new(
        "pinnace_proxy_kernel_tls_available",
        "Whether the kernel could carry TLS; connections are carried by the sidecar itself.",
    )?;
    registry.register(Box::new(gauge.clone()))?;
    let found = detect();
    gauge.set(found.is_ok().into());
    let shown = shown(setting, found);
    let (available, reason) = (shown.available, shown.reason.as_deref().unwrap_or_default());
    match setting {
        Setting::Off => tracing::info!(setting = shown.setting, available, reason, "TLS by the kernel"),
        Setting::Auto => tracing::warn!(
            setting = shown.setting,
            available,
            reason,
            "TLS by the kernel was asked for, and falls back to the sidecar's own: no connection is handed to the kernel yet"
        ),
    }
    Ok(shown)
}

fn shown(setting: Setting, found: Result<(), String>) -> admin::KernelTls {
    let setting = match setting {
        Setting::Auto => "auto",
        Setting::Off => "off",
    };
    admin::KernelTls {
        setting: setting.to_owned(),
        available: found.is_ok(),
        reason: found.err(),
        in_use: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_what_the_kernel_says() {
        // Where the kernel lists its upper layer protocols, the attempt agrees with the list, but for a module that could still
        // be loaded by who may.
        let listed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
        let found = detect();
        if listed.split_whitespace().any(|name| name == "tls") {
            assert_eq!(found, Ok(()));
        } else if let Err(reason) = found {
            assert!(reason.contains("module tls"), "{reason}");
        }
    }

    #[test]
    fn what_is_shown_says_why_not() {
        let registry = prometheus::Registry::new();
        let shown = report(Setting::Auto, &registry).unwrap();
        assert_eq!((shown.setting.as_str(), shown.in_use), ("auto", false));
        assert_eq!(shown.available, shown.reason.is_none());
        let gathered = registry.gather();
        let value = gathered[0].get_metric()[0].get_gauge().get_value();
        assert_eq!(
            (gathered[0].name(), value > 0.0),
            ("pinnace_proxy_kernel_tls_available", shown.available)
        );
        for (text, setting) in [("auto", Ok(Setting::Auto)), ("off", Ok(Setting::Off)), ("on", Err(()))] {
            assert_eq!(text.parse(), setting, "{text}");
        }
    }
}
