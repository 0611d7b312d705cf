//! Which protocol a port speaks, from what its Service declares; what is not declared is detected by the proxy.
//!
//! Istio's order: `appProtocol`, then the port name's prefix before the first `-`, then well-known ports whose servers
//! speak first and which are never detected.

use std::fmt;

/// What a port was declared to speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Declared {
    /// Nothing was declared: look at the first bytes.
    #[default]
    Detect,
    /// HTTP/1.0 and HTTP/1.1.
    Http,
    /// HTTP/2, gRPC included.
    Http2,
    /// Opaque bytes: TCP, TLS of the application's own, databases.
    Tcp,
    /// Not TCP at all; not captured.
    Udp,
}

impl Declared {
    /// The word that the wire and admin pages use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Ports whose servers speak first (SMTP, MySQL, MongoDB) or that carry DNS: Istio never detects on them.
const WELL_KNOWN_TCP: [u16; 4] = [25, 53, 3306, 27017];

/// Decides from a Service's port: its `appProtocol`, its name, the port number that clients or servers use.
#[must_use]
pub fn declared(app_protocol: Option<&str>, name: Option<&str>, port: u16) -> Declared {
    match app_protocol {
        Some("kubernetes.io/h2c") => return Declared::Http2,
        Some("kubernetes.io/ws") => return Declared::Http,
        // TLS of the application's own under WebSocket: opaque here.
        Some("kubernetes.io/wss") => return Declared::Tcp,
        _ => {}
    }
    // Where appProtocol is set the name is not asked, even if the mesh does not know the word; as in Istio.
    let text = app_protocol.or(name).unwrap_or_default();
    by_word(text.split('-').next().unwrap_or_default()).unwrap_or_else(|| by_number(port))
}

fn by_number(port: u16) -> Declared {
    if WELL_KNOWN_TCP.contains(&port) {
        Declared::Tcp
    } else {
        Declared::Detect
    }
}

fn by_word(word: &str) -> Option<Declared> {
    let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    if is(&["http"]) {
        Some(Declared::Http)
    } else if is(&["http2", "grpc"]) {
        Some(Declared::Http2)
    } else if is(&["tcp", "tls", "https", "mongo", "mysql", "redis"]) {
        Some(Declared::Tcp)
    } else if is(&["udp"]) {
        Some(Declared::Udp)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_then_name_then_number() {
        for (app, name, port, expected) in [
            (None, None, 8080, Declared::Detect),
            (None, Some("http"), 8080, Declared::Http),
            (None, Some("http-web"), 8080, Declared::Http),
            (None, Some("HTTP-web"), 8080, Declared::Http),
            (None, Some("httpweb"), 8080, Declared::Detect),
            (None, Some("grpc-api"), 8080, Declared::Http2),
            (None, Some("http2"), 8080, Declared::Http2),
            (None, Some("tcp-stock"), 9070, Declared::Tcp),
            (None, Some("https"), 443, Declared::Tcp),
            (None, Some("mysql"), 3307, Declared::Tcp),
            (None, Some("udp-dns"), 53, Declared::Udp),
            (None, None, 3306, Declared::Tcp),
            (None, Some("web"), 25, Declared::Tcp),
            (Some("http"), Some("tcp-x"), 8080, Declared::Http),
            (Some("kubernetes.io/h2c"), None, 8080, Declared::Http2),
            (Some("kubernetes.io/ws"), None, 8080, Declared::Http),
            (Some("kubernetes.io/wss"), None, 8080, Declared::Tcp),
            (Some("example.com/own"), Some("http"), 8080, Declared::Detect),
            (Some("example.com/own"), None, 27017, Declared::Tcp),
        ] {
            assert_eq!(declared(app, name, port), expected, "{app:?} {name:?} {port}");
        }
    }
}
