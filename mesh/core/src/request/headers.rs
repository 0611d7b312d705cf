//! A request's headers before policies see them: whom it is meant for, what ends at this hop, what only the mesh may say, and
//! for whom proxies called.

use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Version};
use std::net::{IpAddr, SocketAddr};

/// Who called, as Envoy writes it: `By=…;Hash=…;Subject="";URI=…`.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// A request's id, for logs and traces.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The scheme that the first proxy saw.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What Istio's proxies say of themselves to each other: taken from every request before policies see it.
pub const PEER_METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");
/// Under which name; taken likewise.
pub const PEER_METADATA_ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");
/// For whom proxies before this one called.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Sees to it that a request says once whom it is meant for, since it is routed by that. HTTP/1.0 knows no `Host`: there the
/// address that was dialled takes its place. False for a request that must be refused with 400 (RFC 9112, section 3.2).
#[must_use]
pub fn settle_host<B>(request: &mut Request<B>, dialled: SocketAddr) -> bool {
    let written = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    // Who is in front of an `@` would hide whom the request is meant for.
    if written
        .chain(target)
        .any(|authority| authority.iter().any(|byte| b"@/?#\\ \t,".contains(byte)))
    {
        return false;
    }
    match request.headers().get_all(HOST).iter().count() {
        1 => true,
        0 if request.uri().authority().is_some() => true,
        0 if request.version() < Version::HTTP_11 => match HeaderValue::from_str(&dialled.to_string()) {
            Ok(host) => request.headers_mut().insert(HOST, host).is_none(),
            Err(_) => false,
        },
        _ => false,
    }
}

/// Whether a message asks for, or agrees to, another protocol on its connection. HTTP/2 is none that is agreed on this way: a
/// server that takes no notice of `h2c` answers in HTTP/1.1 (RFC 9113, section 3.1), and behind one that did, requests would
/// pass that nothing has looked at.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter().flat_map(tokens).peekable();
    protocols.peek().is_some()
        && !protocols.any(|protocol| protocol.eq_ignore_ascii_case("h2c"))
        && headers
            .get_all(CONNECTION)
            .iter()
            .any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade")))
}

/// Takes away what concerns one hop alone, and what the message itself names so. With `upgrade`, what asks for it stays.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .collect();
        for name in named {
            // A message may not have its addressing or framing taken away this way.
            if name != UPGRADE && name != TE && name != HOST && name != http::header::CONTENT_LENGTH {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    // The framing is each hop's own: hyper writes it anew from the body.
    headers.remove(TRANSFER_ENCODING);
    if let Some(te) = headers.get(TE) {
        // Of TE only this word says something about the message's recipient (trailers are passed on).
        if tokens(te).any(|token| token.eq_ignore_ascii_case("trailers")) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(UPGRADE);
        headers.remove(HTTP2_SETTINGS);
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// What Envoy's proxies say to each other, and what says how a proxy is to treat a request: taken from no caller that has not
/// proved to be of the mesh.
const MESH_ONLY: [&str; 18] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-ms",
];

/// Takes away what only the mesh may say, of a caller that is none of it.
pub fn strip_mesh_only(headers: &mut HeaderMap) {
    // Most have none of them, and one walk costs less than a lookup for each.
    if headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
        for name in MESH_ONLY {
            headers.remove(name);
        }
    }
}

/// The client that trusted proxies name in `X-Forwarded-For`, as Envoy finds it where it does not count itself among them: of
/// all addresses the one before the last `trusted`. `None` where there are not so many, or it is no address.
#[must_use]
pub fn remote(headers: &HeaderMap, trusted: u32) -> Option<IpAddr> {
    let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut addresses = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let address = addresses.nth(usize::try_from(trusted).ok()?)?;
    let address: IpAddr = str::from_utf8(address).ok()?.trim().parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn a_request_says_once_whom_it_is_meant_for() {
        for (version, uri, hosts, expected) in [
            (Version::HTTP_11, "/", &["a"][..], Some("a")),
            (Version::HTTP_11, "/", &[], None),
            (Version::HTTP_11, "/", &["a", "a"], None),
            (Version::HTTP_11, "http://a/", &[], Some("")),
            (Version::HTTP_10, "/", &[], Some("10.0.0.1:80")),
            (Version::HTTP_10, "/", &["a"], Some("a")),
            (Version::HTTP_11, "/", &["b@a"], None),
            (Version::HTTP_11, "/", &["a/b"], None),
            (Version::HTTP_11, "/", &["a, b"], None),
            (Version::HTTP_11, "http://b@a/", &["a"], None),
        ] {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let mut request = request.body(()).unwrap();
            let good = settle_host(&mut request, "10.0.0.1:80".parse().unwrap());
            let host = request.headers().get(HOST).map_or("", |host| host.to_str().unwrap());
            assert_eq!(good.then_some(host), expected, "{version:?} {uri} {hosts:?}");
        }
    }

    #[test]
    fn a_client_is_known_by_its_number_of_trusted_proxies() {
        for (values, trusted, expected) in [
            (&[][..], 0, None),
            (&["1.1.1.1"], 0, Some("1.1.1.1")),
            (&["1.1.1.1"], 1, None),
            (&["1.1.1.1, 2.2.2.2 ,3.3.3.3"], 0, Some("3.3.3.3")),
            (&["1.1.1.1, 2.2.2.2 ,3.3.3.3"], 1, Some("2.2.2.2")),
            (&["1.1.1.1, 2.2.2.2 ,3.3.3.3"], 2, Some("1.1.1.1")),
            (&["1.1.1.1, 2.2.2.2 ,3.3.3.3"], 3, None),
            (&["1.1.1.1", "2.2.2.2, 3.3.3.3"], 2, Some("1.1.1.1")),
            (&["1.1.1.1, unknown"], 0, None),
            (&["1.1.1.1, unknown"], 1, Some("1.1.1.1")),
            (&["::ffff:1.1.1.1"], 0, Some("1.1.1.1")),
            (&["fd00::1"], 0, Some("fd00::1")),
            (&["1.1.1.1:80"], 0, None),
            (&[""], 0, None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
            }
            let found = remote(&headers, trusted).map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{values:?} {trusted}");
        }
    }

    #[test]
    fn what_only_the_mesh_may_say_is_taken_from_others() {
        let mut headers = map(&[
            ("x-envoy-internal", "true"),
            ("x-envoy-external-address", "a"),
            ("x-env", "b"),
        ]);
        strip_mesh_only(&mut headers);
        assert_eq!(headers, map(&[("x-envoy-external-address", "a"), ("x-env", "b")]));
    }

    #[test]
    fn what_concerns_one_hop_ends_here() {
        for (before, upgrade, after) in [
            (
                &[("host", "a"), ("accept", "x")][..],
                false,
                &[("host", "a"), ("accept", "x")][..],
            ),
            (
                &[("connection", "close, x-own"), ("x-own", "1"), ("x-other", "2")],
                false,
                &[("x-other", "2")],
            ),
            (
                &[
                    ("keep-alive", "1"),
                    ("proxy-connection", "x"),
                    ("transfer-encoding", "chunked"),
                ],
                false,
                &[],
            ),
            (
                &[("te", "gzip, trailers"), ("connection", "te")],
                false,
                &[("te", "trailers")],
            ),
            (&[("te", "gzip")], false, &[]),
            (
                &[("connection", "host, content-length"), ("host", "a")],
                false,
                &[("host", "a")],
            ),
            (
                &[("connection", "Upgrade"), ("upgrade", "websocket")],
                true,
                &[("upgrade", "websocket"), ("connection", "upgrade")],
            ),
            (&[("upgrade", "h2c")], false, &[]),
            (
                &[
                    ("connection", "Upgrade, HTTP2-Settings"),
                    ("upgrade", "h2c"),
                    ("http2-settings", "x"),
                ],
                false,
                &[],
            ),
        ] {
            let mut headers = map(before);
            assert_eq!(is_upgrade(&headers), upgrade, "{before:?}");
            strip_hop_by_hop(&mut headers, upgrade);
            assert_eq!(headers, map(after), "{before:?}");
        }
    }
}
