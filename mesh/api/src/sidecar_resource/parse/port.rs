//! `port` and `bind` of entries of `ingress` and `egress`.

use std::net::IpAddr;

use super::Report;
use crate::names;
use crate::sidecar_resource::resource::SidecarPort;

/// How the addresses of Unix sockets begin.
pub(super) const UNIX: &str = "unix://";

/// Every protocol that is known, in lower case.
const PROTOCOLS: [&str; 12] = [
    "tcp",
    "udp",
    "grpc",
    "grpc-web",
    "http",
    "http_proxy",
    "http2",
    "https",
    "tls",
    "mongo",
    "redis",
    "mysql",
];

/// Checks what every port has.
pub(super) fn check(path: &str, port: &SidecarPort, report: &mut Report) {
    if port.target_port.is_some_and(|number| number > 0) {
        report.refuse(format!("{path}.targetPort"), "given", "none, since it has no effect");
    }
    if let Some(name) = port
        .name
        .as_deref()
        .filter(|name| !name.is_empty() && !names::is_label(name))
    {
        report.refuse(format!("{path}.name"), name, "a name of letters, digits and '-'");
    }
    let protocol = protocol(port);
    if !protocol.is_empty() && !PROTOCOLS.contains(&&*protocol) {
        report.refuse(
            format!("{path}.protocol"),
            port.protocol.as_deref().unwrap_or_default(),
            format!("one of {}", PROTOCOLS.join(", ").to_uppercase()),
        );
    }
}

/// What is spoken on a port, in lower case.
pub(super) fn protocol(port: &SidecarPort) -> String {
    port.protocol.as_deref().unwrap_or_default().to_ascii_lowercase()
}

/// Checks a port's number.
pub(super) fn number(path: &str, port: &SidecarPort, report: &mut Report) -> Option<u16> {
    let number = port.number.unwrap_or(0);
    let parsed = u16::try_from(number).ok().filter(|number| *number != 0);
    if parsed.is_none() {
        report.refuse(format!("{path}.number"), number, "a port, 1 to 65535");
    }
    parsed
}

/// Checks an address to listen on.
pub(super) fn bind(path: &str, bind: Option<&str>, report: &mut Report) {
    let bind = bind.filter(|text| !text.is_empty());
    if let Some(text) = bind.filter(|text| text.parse::<IpAddr>().is_err()) {
        report.refuse(format!("{path}.bind"), text, "an address");
    }
}

/// Checks the path of a Unix socket; one that begins with `@` is abstract.
pub(super) fn socket(field: &str, path: &str, report: &mut Report) {
    let absolute = path.starts_with('/') && !path.ends_with('/');
    if !path.starts_with('@') && !absolute {
        report.refuse(field, path, "the absolute path of a socket after unix://");
    }
}
