//! Headers that a proxy must take away or add (RFC 9110, section 7.6), and those that only the mesh may set.

use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Uri, Version};
use std::net::{IpAddr, SocketAddr};

/// Who called, as Envoy writes it: `By=…;Hash=…;Subject="";URI=…`.
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// A request's id, for logs and traces.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// For whom proxies before this one called.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the first proxy saw.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether a request says anything of another protocol, be it asked for in earnest or not.
#[must_use]
pub fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
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

/// The host of a request's authority without its port, as the client wrote it: from an absolute target, else from `Host`.
#[must_use]
pub fn host<'a>(request_uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let authority = match request_uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST)?.to_str().ok()?,
    };
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

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

/// Makes a request's target relative, as a server expects it, with its authority in `Host` (RFC 9112, section 3.2).
pub fn to_origin_form<B>(request: &mut Request<B>) {
    if request.uri().authority().is_none() {
        return;
    }
    if let Some(host) = request
        .uri()
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
    let mut parts = http::uri::Parts::default();
    let root = || http::uri::PathAndQuery::from_static("/");
    parts.path_and_query = Some(request.uri().path_and_query().cloned().unwrap_or_else(root));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Makes a request's target absolute, as HTTP/2 has it in its pseudo-headers, and takes away a `Host` that says the same
/// (RFC 9113, section 8.3.1).
pub fn to_absolute_form<B>(request: &mut Request<B>) {
    let host = request.headers_mut().remove(HOST);
    if request.uri().authority().is_some() {
        return;
    }
    let authority = host.and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok());
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = parts.scheme.or(Some(http::uri::Scheme::HTTP));
    parts.authority = authority;
    parts.path_and_query = parts.path_and_query.or(Some(http::uri::PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
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

/// Gives a request an id and says by which scheme it came, where no proxy before has.
pub fn mark(headers: &mut HeaderMap) {
    if !headers.contains_key(X_REQUEST_ID)
        && let Some(id) = new_request_id()
    {
        headers.insert(X_REQUEST_ID, id);
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
}

/// A fresh random request id in the form of a version 4 UUID (RFC 9562, section 5.4).
#[must_use]
pub fn new_request_id() -> Option<HeaderValue> {
    let mut id: [u8; 16] = rand::random();
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for byte in id {
        if matches!(at, 8 | 13 | 18 | 23) {
            at += 1;
        }
        for digit in [byte >> 4, byte & 0x0f] {
            text[at] = b"0123456789abcdef"[usize::from(digit)];
            at += 1;
        }
    }
    HeaderValue::from_bytes(&text).ok()
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

    #[test]
    fn the_host_of_every_form_of_target() {
        for (uri, header, expected) in [
            ("/", Some("reviews"), Some("reviews")),
            ("/", Some("Reviews.Shop:9080"), Some("Reviews.Shop")),
            ("/", Some("reviews."), Some("reviews")),
            ("/", Some("[fd00::1]:80"), Some("fd00::1")),
            ("/", Some("10.0.0.1:80"), Some("10.0.0.1")),
            ("http://ratings:9080/x", Some("reviews"), Some("ratings")),
            ("/", None, None),
            ("/", Some(""), None),
        ] {
            let headers = header.map(|value| map(&[("host", value)])).unwrap_or_default();
            assert_eq!(host(&uri.parse().unwrap(), &headers), expected, "{uri} {header:?}");
        }
    }

    #[test]
    fn absolute_targets_become_relative() {
        let mut request = Request::get("http://ratings:9080/x?y")
            .header(HOST, "other")
            .body(())
            .unwrap();
        to_origin_form(&mut request);
        assert_eq!(
            (request.uri().to_string().as_str(), &request.headers()[HOST]),
            ("/x?y", &"ratings:9080".parse().unwrap())
        );
    }

    #[test]
    fn http2_targets_are_absolute() {
        for (uri, host, expected) in [
            ("http://a:80/x", None, "http://a:80/x"),
            ("http://a:80/x", Some("b"), "http://a:80/x"),
            ("/x?y", Some("b:1"), "http://b:1/x?y"),
        ] {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let mut request = request.body(()).unwrap();
            to_absolute_form(&mut request);
            assert_eq!(request.uri().to_string(), expected);
            assert!(!request.headers().contains_key(HOST));
        }
    }

    #[test]
    fn request_ids_are_version_4_uuids() {
        let id = new_request_id().unwrap();
        let id = id.to_str().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }
}
