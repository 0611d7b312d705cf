//! gRPC's way of refusing a request: an answer whose headers are its trailers too, with a `grpc-status`.

use super::body::ResponseBody;
use crate::telemetry::grpc::by_http_status;
pub use crate::telemetry::grpc::is_call;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// An answer of the proxy's own as a gRPC client understands it. What came from elsewhere stays as it is.
#[must_use]
pub fn refusal(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let ResponseBody::Own(Some(text)) = response.body() else {
        return response;
    };
    let mut refusal = answer(by_http_status(response.status()), text);
    let headers = refusal.headers_mut();
    // All that the answer says but for its body.
    for (name, value) in response.headers() {
        if name != CONTENT_TYPE {
            headers.insert(name, value.clone());
        }
    }
    refusal
}

/// An answer of the proxy's own to a call, by a gRPC status.
#[must_use]
pub fn answer(status: u8, text: &[u8]) -> Response<ResponseBody> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status)));
    if let Ok(text) = HeaderValue::from_str(&percent_encoded(text)) {
        headers.insert(GRPC_MESSAGE, text);
    }
    let mut answer = Response::new(ResponseBody::Own(None));
    *answer.headers_mut() = headers;
    answer
}

/// As gRPC writes `grpc-message`: printable ASCII but for `%`, everything else as `%XX`.
fn percent_encoded(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a String does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::exchange;
    use http::StatusCode;
    use hyper::body::Body;

    #[test]
    fn a_refusal_is_a_status_in_the_headers() {
        for (status, expected) in [(503, "14"), (502, "14"), (403, "7"), (400, "13"), (405, "2")] {
            let response = refusal(exchange::own(StatusCode::from_u16(status).unwrap(), "100 % gone\n"));
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[GRPC_STATUS], expected, "{status}");
            assert_eq!(response.headers()[GRPC_MESSAGE], "100 %25 gone%0A");
            assert!(response.body().is_end_stream());
        }
    }
}
