//! gRPC as far as it is counted: which requests are gRPC, their messages, and their status.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Method, StatusCode};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether a request is gRPC: a POST of `application/grpc` or one of its forms (gRPC over HTTP/2, "Requests").
#[must_use]
pub fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST
        && headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// The status that headers or trailers carry.
#[must_use]
pub fn status(headers: &HeaderMap) -> Option<u8> {
    headers
        .get(GRPC_STATUS)?
        .to_str()
        .ok()?
        .parse()
        .ok()
        .filter(|status| *status < u8::MAX)
}

/// The status of a call whose response carries none, by its HTTP status (gRPC, "HTTP to gRPC Status Code Mapping").
#[must_use]
pub fn by_http_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The names of the statuses, by number.
const NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A status' name, as Envoy writes it; `None` for a number without one.
#[must_use]
pub fn name(status: u8) -> Option<&'static str> {
    NAMES.get(usize::from(status)).copied()
}

/// Counts the messages that pass in a body, by their prefixes of five bytes: a flag and a length.
#[derive(Debug, Clone, Copy, Default)]
pub struct Messages {
    /// Messages that began.
    pub count: u64,
    prefix: [u8; 5],
    /// How much of the prefix has come.
    have: usize,
    /// How much of the message is still to come.
    left: u64,
}

impl Messages {
    /// Takes the next bytes of the body.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= n as u64;
                bytes = &bytes[n..];
                continue;
            }
            let n = (self.prefix.len() - self.have).min(bytes.len());
            self.prefix[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == self.prefix.len() {
                let [_, length @ ..] = self.prefix;
                self.left = u64::from(u32::from_be_bytes(length));
                self.have = 0;
                self.count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_their_content_type() {
        for (method, content_type, expected) in [
            (Method::POST, "application/grpc", true),
            (Method::POST, "application/grpc+proto", true),
            (Method::POST, "application/grpc;charset=x", true),
            (Method::POST, "application/grpc-web", false),
            (Method::POST, "application/json", false),
            (Method::GET, "application/grpc", false),
        ] {
            let headers: HeaderMap = [(CONTENT_TYPE, content_type.parse().unwrap())].into_iter().collect();
            assert_eq!(is_call(&method, &headers), expected, "{method} {content_type}");
        }
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0u32, 1, 300, 7] {
            body.push(0);
            body.extend(length.to_be_bytes());
            body.extend(std::iter::repeat_n(9, length as usize));
        }
        for size in [1, 2, 5, 6, 100, body.len()] {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|chunk| messages.pass(chunk));
            assert_eq!(messages.count, 4, "{size}");
        }
    }

    #[test]
    fn statuses() {
        let headers = |value: &str| -> HeaderMap { [(GRPC_STATUS, value.parse().unwrap())].into_iter().collect() };
        for (value, expected) in [
            ("0", Some(0)),
            ("16", Some(16)),
            ("255", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(status(&headers(value)), expected, "{value}");
        }
        assert_eq!(name(14), Some("Unavailable"));
        assert_eq!(name(17), None);
        assert_eq!(by_http_status(StatusCode::BAD_GATEWAY), 14);
    }
}
