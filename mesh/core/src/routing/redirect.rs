//! Where a redirect leads, as Envoy computes it.

use super::edits::{replace_prefix, split};
use super::http::{Redirect, RedirectPort, RedirectUri};
use super::lookup::Matched;
use super::matches::Seen;
use std::borrow::Cow;

impl Redirect {
    /// The `Location` of the answer. `port` is the port that was called.
    #[must_use]
    pub fn location(&self, matched: &Matched<'_>, seen: &Seen<'_>, port: u16) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(seen.scheme);
        let number = match self.port {
            RedirectPort::Number(number) => Some(number),
            RedirectPort::OfRequest => Some(port),
            RedirectPort::Absent | RedirectPort::ProtocolDefault => None,
        };
        let number = number.filter(|number| {
            // A sidecar's client speaks in the clear.
            let scheme = self.scheme.as_deref().unwrap_or("http");
            !matches!((scheme, number), ("http", 80) | ("https", 443))
        });
        let host = match &self.authority {
            Some(authority) => authority,
            None => host(seen, scheme, number.is_some()),
        };
        let path: Cow<'_, str> = match &self.uri {
            None => seen.path_and_query.into(),
            Some(RedirectUri::Prefix(prefix)) => replace_prefix(matched, seen.path_and_query, prefix).into(),
            // A query of its own prevails over the request's.
            Some(RedirectUri::Path(path)) if path.contains('?') => (&**path).into(),
            Some(RedirectUri::Path(path)) => (path.to_string() + split(seen.path_and_query).1).into(),
        };
        match number {
            Some(number) => format!("{scheme}://{host}:{number}{path}"),
            None => format!("{scheme}://{host}{path}"),
        }
    }
}

/// The request's own host; without its port where another one is given, or where it is the default one of a scheme that
/// changes.
fn host<'a>(seen: &Seen<'a>, scheme: &str, replaced: bool) -> &'a str {
    let colon = seen.authority.rfind(':').filter(|at| {
        // The colons of an address in brackets are its own.
        !seen.authority.get(*at..).unwrap_or_default().contains(']')
    });
    let Some((host, port)) = colon.and_then(|at| seen.authority.split_at_checked(at)) else {
        return seen.authority;
    };
    let default = scheme != seen.scheme && matches!((seen.scheme, port), ("http", ":80") | ("https", ":443"));
    if replaced || default { host } else { seen.authority }
}
