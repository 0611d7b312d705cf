//! Headers that a proxy must take away or add (RFC 9110, section 7.6), and those that only the mesh may set.

use http::header::{HOST, HeaderMap, HeaderValue, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Uri};
pub use mesh_core::request::headers::{
    X_FORWARDED_CLIENT_CERT, X_FORWARDED_PROTO, X_REQUEST_ID, is_upgrade, remote, settle_host, strip_hop_by_hop,
    strip_mesh_only,
};

/// Whether a request says anything of another protocol, be it asked for in earnest or not.
#[must_use]
pub fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
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

/// A request's authority as the client wrote it, with its port.
#[must_use]
pub fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST)?.to_str().ok(),
    }
}

/// Puts another authority in the place of a request's, where that has it. What is none changes nothing.
pub fn set_authority(uri: &mut Uri, headers: &mut HeaderMap, authority: HeaderValue) {
    if uri.authority().is_none() {
        headers.insert(HOST, authority);
        return;
    }
    if let Ok(authority) = Authority::try_from(authority.as_bytes()) {
        let mut parts = uri.clone().into_parts();
        parts.authority = Some(authority);
        if let Ok(changed) = Uri::from_parts(parts) {
            *uri = changed;
        }
    }
}

/// Puts another path and query in the place of a request's; `None`, and nothing changed, for what is none.
pub fn set_target(uri: &mut Uri, target: &str) -> Option<()> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    *uri = Uri::from_parts(parts).ok()?;
    Some(())
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
    let root = || PathAndQuery::from_static("/");
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
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = parts.scheme.or(Some(http::uri::Scheme::HTTP));
    parts.authority = authority;
    parts.path_and_query = parts.path_and_query.or(Some(PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
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
    use http::HeaderName;

    fn map(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        entries.iter().map(entry).collect()
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
    fn authorities_and_targets_are_replaced_where_they_stand() {
        for (uri, host, expected) in [
            ("http://a:80/x?y", None, ("http://b/z?w", None)),
            ("/x?y", Some("a:80"), ("/z?w", Some("b"))),
        ] {
            let mut uri: Uri = uri.parse().unwrap();
            let mut headers = host.map(|host| map(&[("host", host)])).unwrap_or_default();
            assert_eq!(authority(&uri, &headers), Some("a:80"));
            set_authority(&mut uri, &mut headers, HeaderValue::from_static("b"));
            set_target(&mut uri, "/z?w").unwrap();
            assert!(set_target(&mut uri, "/ z").is_none());
            let host = headers.get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!((uri.to_string().as_str(), host), expected);
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
