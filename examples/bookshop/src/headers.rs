//! The headers that a service hands on to the services it calls, so that a trace stays one trace and a route by user
//! works behind the first hop.

use hyper::HeaderMap;

/// Handed on as they came. The list is Istio's sample's, so that its recipes for routing and tracing work here.
const FORWARDED: [&str; 15] = [
    "x-request-id",
    "end-user",
    "user-agent",
    "authorization",
    "cookie",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "grpc-trace-bin",
];

/// The header that names the user whom a request serves.
pub(crate) const END_USER: &str = "end-user";

/// The headers of `received` that go on to the next service.
pub(crate) fn forwarded(received: &HeaderMap) -> HeaderMap {
    let mut onward = HeaderMap::new();
    for name in FORWARDED {
        for value in received.get_all(name) {
            onward.append(name, value.clone());
        }
    }
    onward
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn hands_on_tracing_and_user_but_not_the_connections_own_headers() {
        let mut received = HeaderMap::new();
        for (name, value) in [
            ("x-request-id", "7"),
            ("end-user", "ada"),
            ("host", "productpage:9080"),
            ("connection", "close"),
            ("content-length", "3"),
            ("x-forwarded-client-cert", "URI=spiffe://somebody"),
        ] {
            received.insert(name, HeaderValue::from_static(value));
        }
        received.append("cookie", HeaderValue::from_static("a=1"));
        received.append("cookie", HeaderValue::from_static("b=2"));

        let onward = forwarded(&received);

        assert_eq!(onward.get("x-request-id").unwrap(), "7");
        assert_eq!(onward.get("end-user").unwrap(), "ada");
        assert_eq!(onward.get_all("cookie").iter().count(), 2);
        assert_eq!(onward.len(), 4);
    }
}
