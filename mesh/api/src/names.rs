//! Names of hosts and labels, as Istio takes them (istio/istio pkg/config/validation/agent, pkg/config/labels).

use mesh_core::labels::Labels;

use crate::report::Report;

/// What [`check_host`] accepts, for messages.
pub(crate) const HOST: &str = "a Service's name, a fully qualified name, or one whose first label begins with *, such as *.shop.svc.cluster.local";

/// Refuses what is no host; one may begin with a wildcard.
pub(crate) fn check_host(field: impl Into<String>, host: &str, report: &mut Report) {
    if host.is_empty() {
        report.refuse(field, host, "a host name");
    } else if !is_host(host) {
        report.refuse(field, host, HOST);
    }
}

/// Whether a text is a host that may begin with a wildcard.
pub(crate) fn is_host(host: &str) -> bool {
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let (first, rest) = labels
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let numeric_end = !host.ends_with('.')
        && rest
            .last()
            .is_some_and(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 255 && is_wildcard_label(first) && rest.iter().all(|label| is_label(label)) && !numeric_end
}

/// Whether a text is one label of a host name.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// `*`, or a label that may begin with `*` or `*-`.
fn is_wildcard_label(text: &str) -> bool {
    let rest = text
        .strip_prefix('*')
        .map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    text == "*" || (text.len() <= 63 && is_label(rest.unwrap_or(text)))
}

/// Whether a text is a fully qualified name, or an address.
pub(crate) fn is_name_or_address(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 255 && name.split('.').all(is_label) && !numeric)
}

/// What Kubernetes asks of labels.
pub(crate) fn check_labels(path: &str, labels: &Labels, report: &mut Report) {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    let qualified = |text: &str| {
        let bytes = text.as_bytes();
        let inside = |byte: &u8| edge(*byte) || matches!(byte, b'-' | b'_' | b'.');
        text.len() <= 63
            && bytes.first().copied().is_some_and(edge)
            && bytes.last().copied().is_some_and(edge)
            && bytes.iter().all(inside)
    };
    for (key, value) in labels {
        let (prefix, name) = key.split_once('/').unwrap_or(("", key));
        let prefix_fits =
            !key.contains('/') || (prefix.len() <= 253 && prefix.split('.').all(is_label) && !prefix.is_empty());
        if !prefix_fits || !qualified(name) {
            report.refuse(
                path,
                key,
                "keys as Kubernetes has them, such as version or example.com/version",
            );
        }
        if !value.is_empty() && !qualified(value) {
            report.refuse(
                format!("{path}[{key}]"),
                value,
                "a value of letters, digits, '-', '_' and '.', at most 63 characters",
            );
        }
    }
}
