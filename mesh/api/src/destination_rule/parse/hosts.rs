//! Host names, as Istio takes them.

use super::Report;

/// Checks a host that may begin with a wildcard.
pub(super) fn check(field: &str, host: &str, report: &mut Report) {
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let (first, rest) = labels
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let numeric_end = rest
        .last()
        .is_some_and(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()));
    if host.is_empty() {
        report.refuse(field, host, "a host name");
    } else if host.len() > 255 || !is_wildcard_label(first) || !rest.iter().all(|label| is_label(label)) || numeric_end
    {
        report.refuse(
            field,
            host,
            "a Service's name, a fully qualified name, or one whose first label begins with *, such as \
             *.shop.svc.cluster.local",
        );
    } else if !host.contains('*') && (labels.len() == 2 || (labels.len() == 3 && labels[2] == "svc")) {
        report.warn(format!(
            "{field}: {host:?} is taken as it stands, since it has a dot, and names no Service of the cluster; a Service's \
             whole name is NAME.NAMESPACE.svc.cluster.local"
        ));
    }
}

/// Whether a text is one label of a host name.
pub(super) fn is_label(text: &str) -> bool {
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
pub(super) fn is_name_or_address(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 255 && name.split('.').all(is_label) && !numeric)
}
