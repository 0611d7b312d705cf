//! TLS by the kernel (kTLS): whether it is there, what was asked for, and the connections that it carries.
//!
//! rustls makes every handshake. Where `KERNEL_TLS` is `auto` and the kernel has TLS, a connection is handed over once its
//! handshake is done and nothing is under way ([`hand_over`], which [`records`] prepares); from then on the kernel encrypts
//! and decrypts, and what is no data is ours to read and to send ([`stream`], [`messages`]). All else stays with rustls, and
//! why is counted ([`counts`]). Keys leave rustls for the kernel alone ([`crypto_info`], [`sockets`]).
//!
//! A socket is handed to the kernel's TLS by the option `TCP_ULP`, which takes an established connection. So it is tried on
//! one, over loopback. An unprivileged process does not make the kernel load its module `tls`: where it is a module, a node
//! has to load it.

mod counts;
mod crypto_info;
mod hand_over;
mod messages;
mod records;
mod sockets;
mod stream;

#[cfg(test)]
mod tests;

pub use hand_over::{Consideration, Prepared, consider, prepare};
pub use records::{Records, Watch};
pub use stream::KernelStream;

use crate::net::listen::Direction;
use counts::Counts;
use crypto_info::{CryptoInfo, Suite};
use mesh_wire::admin;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection to oneself may take.
const OWN_CONNECTION: Duration = Duration::from_secs(1);

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

/// TLS by the kernel, in use: what it has, and what became of the connections.
#[derive(Debug)]
pub struct KernelTls {
    suites: Vec<Suite>,
    /// Whether sessions are resumed, so that clients want tickets.
    resumption: bool,
    counts: Counts,
}

impl KernelTls {
    /// Has a connection watched from its first byte, so that it can be handed over after its handshake.
    #[must_use]
    pub fn watch(self: &Arc<Self>, direction: Direction) -> Watch {
        Watch::new(self.clone(), direction)
    }
}

/// Which cipher suites this kernel takes over for a socket: at least one.
///
/// # Errors
/// Why not, in a sentence.
fn detect() -> Result<Vec<Suite>, String> {
    let pair = own_connection().map_err(|error| format!("no connection to try it on: {error}"))?;
    sockets::set_ulp(&pair.0).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => "the kernel has no TLS, or its module tls is not loaded on this node".to_owned(),
        Some(libc::EPERM | libc::EACCES) => format!("this process may not use it: {error}"),
        _ => format!("setsockopt TCP_ULP: {error}"),
    })?;
    let mut suites = Vec::new();
    let mut failure = None;
    for suite in Suite::ALL {
        match takes(suite) {
            Ok(()) => suites.push(suite),
            Err(error) => failure = Some(format!("{}: {error}", suite.name())),
        }
    }
    match failure {
        Some(failure) if suites.is_empty() => Err(format!("the kernel takes no cipher suite: {failure}")),
        _ => Ok(suites),
    }
}

/// Does on a connection to oneself all that is done on others, so that nothing is found missing there.
fn takes(suite: Suite) -> io::Result<()> {
    use crypto_info::Direction::{Receive, Transmit};
    let (near, _far) = own_connection()?;
    sockets::given_to_tcp(&near)?;
    sockets::set_ulp(&near)?;
    let mut keys = CryptoInfo::empty(suite);
    sockets::set_keys(&near, Transmit, &keys)?;
    sockets::set_keys(&near, Receive, &keys)?;
    sockets::read_keys(&near, Transmit, &mut keys)
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

/// What was asked for and what was found. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Found {
    setting: Setting,
    suites: Vec<&'static str>,
    missing: Option<String>,
    in_use: Option<Arc<KernelTls>>,
}

impl Found {
    /// The kernel's TLS, where it is used: asked for, and there.
    #[must_use]
    pub fn in_use(&self) -> Option<Arc<KernelTls>> {
        self.in_use.clone()
    }

    /// What `/server_info` shows.
    #[must_use]
    pub fn shown(&self) -> admin::KernelTls {
        let [connections, broken_off] = match &self.in_use {
            Some(kernel) => kernel.counts.shown(),
            None => Default::default(),
        };
        admin::KernelTls {
            setting: match self.setting {
                Setting::Auto => "auto".to_owned(),
                Setting::Off => "off".to_owned(),
            },
            available: self.missing.is_none(),
            reason: self.missing.clone(),
            in_use: self.in_use.is_some(),
            cipher_suites: self.suites.iter().map(|&name| name.to_owned()).collect(),
            connections,
            broken_off,
        }
    }
}

/// Tries it, says what was found in a line of the log and by a metric, and gives what comes of it. With `resumption`, clients
/// receive session tickets before the kernel takes over.
///
/// # Errors
/// That of the registry, for a name that is taken.
pub fn report(setting: Setting, resumption: bool, registry: &prometheus::Registry) -> prometheus::Result<Found> {
    let gauge = prometheus::IntGauge::new(
        "pinnace_proxy_kernel_tls_available",
        "Whether the kernel could carry TLS; it does so where KERNEL_TLS is auto.",
    )?;
    registry.register(Box::new(gauge.clone()))?;
    let (suites, missing) = match detect() {
        Ok(suites) => (suites, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    gauge.set(missing.is_none().into());
    let names = suites.iter().map(|suite| suite.name()).collect();
    let in_use = match (setting, &missing) {
        (Setting::Auto, None) => Some(Arc::new(KernelTls {
            suites,
            resumption,
            counts: Counts::new(registry)?,
        })),
        (Setting::Auto, Some(_)) | (Setting::Off, _) => None,
    };
    let found = Found {
        setting,
        suites: names,
        missing,
        in_use,
    };
    let reason = found.missing.as_deref().unwrap_or_default();
    match (setting, &found.in_use) {
        (Setting::Auto, None) => {
            tracing::warn!(
                reason,
                "TLS by the kernel was asked for and is not there: the sidecar's own is used"
            );
        }
        (_, in_use) => tracing::info!(
            in_use = in_use.is_some(),
            available = found.missing.is_none(),
            suites = ?found.suites,
            reason,
            "TLS by the kernel"
        ),
    }
    Ok(found)
}
