//! The format of access-log lines: Envoy's, text with command operators such as `%REQ(USER-AGENT)%` between percent signs.
//!
//! The command line, the webhook and the operator check a format with this, and the proxy writes lines by it. An operator of
//! Envoy's that has no meaning here is taken and gives `-`; what is no operator at all is refused.

/// The most bytes of a format.
pub const MOST_BYTES: usize = 16 * 1024;

/// Why a format is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A percent sign that opens an operator which does not end.
    #[error("%{0}: the operator does not end with %; a percent sign itself is written %%")]
    Unended(String),
    /// No operator of Envoy's.
    #[error("%{0}%: there is no such operator")]
    Unknown(String),
    /// An operator's argument.
    #[error("%{operator}%: expected {expected}")]
    Argument {
        /// The operator as it was written.
        operator: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// More than [`MOST_BYTES`].
    #[error("{0} bytes: at most {MOST_BYTES} are allowed")]
    TooLong(usize),
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Text and values in order.
    pub parts: Vec<Part>,
}

/// A piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(Box<str>),
    /// A value, cut to so many characters.
    Value(Operator, Option<usize>),
}

/// Which address of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// The server's.
    UpstreamHost,
    /// The proxy's towards the server.
    UpstreamLocal,
    /// What the client dialled.
    DownstreamLocal,
    /// The client's.
    DownstreamRemote,
}

/// How much of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// `ADDRESS:PORT`.
    Whole,
    /// `ADDRESS`.
    WithoutPort,
    /// `PORT`.
    Port,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// When the request or connection began, by a format of times.
    StartTime(Time),
    /// When the line is written.
    EmitTime(Time),
    /// The first of the request's headers that is there; pseudo headers such as `:path` among them.
    Request(Vec<Box<str>>),
    /// The first of the response's headers that is there.
    Response(Vec<Box<str>>),
    /// The path, with or without what follows `?`.
    Path {
        /// Whether the query is shown.
        query: bool,
    },
    /// The HTTP version.
    Protocol,
    /// The response's code; 0 where none was sent.
    ResponseCode,
    /// Why it is that code.
    ResponseCodeDetails,
    /// Why the connection was ended.
    ConnectionTerminationDetails,
    /// What went wrong.
    ResponseFlags {
        /// By long names.
        long: bool,
    },
    /// Bytes of the request's body, or from the client.
    BytesReceived,
    /// Bytes of the response's body, or to the client.
    BytesSent,
    /// Milliseconds from the beginning to the end.
    Duration,
    /// Milliseconds from the beginning to the response's head.
    ResponseDuration,
    /// How often the request was sent.
    Attempts,
    /// One of the addresses.
    Address(Address, Shown),
    /// Where the request went, in Istio's words, e.g. `outbound|80||reviews.shop.svc.cluster.local`.
    UpstreamCluster,
    /// Why the server could not be talked to.
    UpstreamFailure,
    /// The server name that a client's TLS asked for.
    ServerName,
    /// The route's name.
    RouteName,
    /// The pod's name.
    Hostname,
    /// gRPC's status.
    GrpcStatus {
        /// By its number.
        number: bool,
    },
    /// Whom the client proved to be.
    PeerUri,
    /// Whom this pod proved to be to the client.
    LocalUri,
    /// Envoy has it, and here it is always unknown.
    Nothing,
}

impl Operator {
    /// Whether JSON shows it as a number.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Self::ResponseCode
                | Self::BytesReceived
                | Self::BytesSent
                | Self::Duration
                | Self::ResponseDuration
                | Self::Attempts
                | Self::GrpcStatus { number: true }
                | Self::Address(_, Shown::Port)
        )
    }
}

/// A format of times, as `strftime` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time(pub Vec<TimePart>);

/// A piece of a format of times; all in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimePart {
    /// As it is.
    Text(Box<str>),
    /// `%Y`.
    Year,
    /// `%m`, 01 to 12.
    Month,
    /// `%d`, 01 to 31.
    Day,
    /// `%H`, 00 to 23.
    Hour,
    /// `%M`.
    Minute,
    /// `%S`.
    Second,
    /// `%s`, since 1970.
    Epoch,
    /// `%f` and `%1f` to `%9f`: so many digits of the second's fraction.
    Fraction(usize),
}

impl Default for Time {
    /// `2026-08-01T12:00:00.000Z`.
    fn default() -> Self {
        let text = |text: &str| TimePart::Text(text.into());
        Self(vec![
            TimePart::Year,
            text("-"),
            TimePart::Month,
            text("-"),
            TimePart::Day,
            text("T"),
            TimePart::Hour,
            text(":"),
            TimePart::Minute,
            text(":"),
            TimePart::Second,
            text("."),
            TimePart::Fraction(3),
            text("Z"),
        ])
    }
}

impl Time {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            push_text(&mut parts, before, TimePart::Text);
            let mut characters = after.chars();
            let mut digits = None;
            let mut conversion = characters.next()?;
            if let Some(digit) = conversion.to_digit(10).filter(|digit| *digit > 0) {
                digits = usize::try_from(digit).ok();
                conversion = characters.next()?;
            }
            match (conversion, digits) {
                ('f', digits) => parts.push(TimePart::Fraction(digits.unwrap_or(9))),
                (_, Some(_)) => return None,
                ('Y', None) => parts.push(TimePart::Year),
                ('m', None) => parts.push(TimePart::Month),
                ('d', None) => parts.push(TimePart::Day),
                ('H', None) => parts.push(TimePart::Hour),
                ('M', None) => parts.push(TimePart::Minute),
                ('S', None) => parts.push(TimePart::Second),
                ('s', None) => parts.push(TimePart::Epoch),
                ('F', None) => parts.extend(Self::parse("%Y-%m-%d")?.0),
                ('T', None) => parts.extend(Self::parse("%H:%M:%S")?.0),
                ('z', None) => push_text(&mut parts, "+0000", TimePart::Text),
                ('Z', None) => push_text(&mut parts, "UTC", TimePart::Text),
                ('%', None) => push_text(&mut parts, "%", TimePart::Text),
                _ => return None,
            }
            rest = characters.as_str();
        }
        push_text(&mut parts, rest, TimePart::Text);
        Some(Self(parts))
    }
}

fn push_text<T>(parts: &mut Vec<T>, text: &str, make: fn(Box<str>) -> T) {
    if !text.is_empty() {
        parts.push(make(text.into()));
    }
}

/// Istio's format for text.
pub const ISTIO_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's keys and formats for JSON.
pub const ISTIO_JSON: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
];

/// Operators of Envoy's without a meaning here.
const NOTHING: &[&str] = &[
    "ACCESS_LOG_TYPE",
    "BYTES_RETRANSMITTED",
    "CEL",
    "CLUSTER_METADATA",
    "COMMON_DURATION",
    "CONNECTION_ID",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DYNAMIC_METADATA",
    "ENVIRONMENT",
    "FILTER_CHAIN_NAME",
    "FILTER_STATE",
    "LOCAL_REPLY_BODY",
    "METADATA",
    "PACKETS_RETRANSMITTED",
    "QUERY_PARAM",
    "QUERY_PARAMS",
    "REQUEST_DURATION",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION",
    "ROUNDTRIP_DURATION",
    "SPAN_ID",
    "START_TIME_LOCAL",
    "EMIT_TIME_LOCAL",
    "STREAM_ID",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "TRACE_ID",
    "TRAILER",
    "UNIQUE_ID",
    "UPSTREAM_CLUSTER_METADATA",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_METADATA",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_SESSION_ID",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
    "VIRTUAL_CLUSTER_NAME",
];

impl Format {
    /// Parses a format.
    ///
    /// # Errors
    /// [`FormatError`], which names the operator.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.len() > MOST_BYTES {
            return Err(FormatError::TooLong(text.len()));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            push_text(&mut parts, before, Part::Text);
            if let Some(after) = after.strip_prefix('%') {
                push_text(&mut parts, "%", Part::Text);
                rest = after;
                continue;
            }
            let (part, after) = operator(after)?;
            parts.push(part);
            rest = after;
        }
        push_text(&mut parts, rest, Part::Text);
        Ok(Self { parts })
    }

    /// The request's headers that lines need, in lower case, each once.
    pub fn request_headers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| match part {
            Part::Value(Operator::Request(names), _) => names.iter().map(|name| &**name).collect(),
            _ => Vec::new(),
        })
    }

    /// The response's headers that lines need, likewise.
    pub fn response_headers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| match part {
            Part::Value(Operator::Response(names), _) => names.iter().map(|name| &**name).collect(),
            _ => Vec::new(),
        })
    }
}

/// Parses what stands after the percent sign that opens an operator: `NAME`, `(ARGUMENT)`, `:LENGTH`, `%`.
fn operator(text: &str) -> Result<(Part, &str), FormatError> {
    let unended = || FormatError::Unended(text.chars().take(40).collect());
    let letters = text
        .bytes()
        .take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
        .count();
    let (name, mut rest) = text.split_at(letters);
    let mut argument = None;
    if let Some(after) = rest.strip_prefix('(') {
        // A closing parenthesis may stand in the argument: the one that ends it is followed by `%` or `:`.
        let end = after
            .match_indices(')')
            .map(|(at, _)| at)
            .find(|at| matches!(after.as_bytes().get(at + 1), Some(b'%' | b':')));
        let end = end.ok_or_else(unended)?;
        argument = Some(&after[..end]);
        rest = &after[end + 1..];
    }
    let (tail, after) = rest.split_once('%').ok_or_else(unended)?;
    let written = || text[..text.len() - after.len() - 1].to_owned();
    let length = match tail.strip_prefix(':') {
        Some(digits) => Some(digits.parse().map_err(|_| FormatError::Argument {
            operator: written(),
            expected: "a length after the colon",
        })?),
        None if tail.is_empty() => None,
        None => return Err(FormatError::Unknown(written())),
    };
    Ok((Part::Value(meaning(name, argument, written)?, length), after))
}

fn meaning(name: &str, argument: Option<&str>, written: impl Fn() -> String) -> Result<Operator, FormatError> {
    let refuse = |expected| FormatError::Argument {
        operator: written(),
        expected,
    };
    let headers = || {
        let names = argument
            .filter(|names| !names.is_empty())
            .ok_or_else(|| refuse("a header's name in parentheses"))?;
        Ok(names.split('?').map(|name| name.to_ascii_lowercase().into()).collect())
    };
    let time = || match argument {
        None | Some("") => Ok(Time::default()),
        Some(format) => {
            Time::parse(format).ok_or_else(|| refuse("a format of times of %Y %m %d %H %M %S %F %T %s %f %3f %z %Z"))
        }
    };
    let address = |address, shown| Ok(Operator::Address(address, shown));
    match name {
        "START_TIME" => Ok(Operator::StartTime(time()?)),
        "EMIT_TIME" => Ok(Operator::EmitTime(time()?)),
        "REQ" | "REQUEST_HEADER" => Ok(Operator::Request(headers()?)),
        "RESP" | "RESPONSE_HEADER" => Ok(Operator::Response(headers()?)),
        "REQ_WITHOUT_QUERY" => Ok(match argument {
            Some(names) if names.to_ascii_lowercase().contains(":path") => Operator::Path { query: false },
            _ => Operator::Request(headers()?),
        }),
        "PATH" => Ok(Operator::Path {
            query: !argument.is_some_and(|argument| argument.starts_with("NQ")),
        }),
        "PROTOCOL" => Ok(Operator::Protocol),
        "RESPONSE_CODE" => Ok(Operator::ResponseCode),
        "RESPONSE_CODE_DETAILS" => Ok(Operator::ResponseCodeDetails),
        "CONNECTION_TERMINATION_DETAILS" => Ok(Operator::ConnectionTerminationDetails),
        "RESPONSE_FLAGS" => Ok(Operator::ResponseFlags { long: false }),
        "RESPONSE_FLAGS_LONG" => Ok(Operator::ResponseFlags { long: true }),
        "BYTES_RECEIVED" => Ok(Operator::BytesReceived),
        "BYTES_SENT" => Ok(Operator::BytesSent),
        "DURATION" => Ok(Operator::Duration),
        "RESPONSE_DURATION" => Ok(Operator::ResponseDuration),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Ok(Operator::Attempts),
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => address(Address::UpstreamHost, Shown::Whole),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => address(Address::UpstreamHost, Shown::WithoutPort),
        "UPSTREAM_REMOTE_PORT" => address(Address::UpstreamHost, Shown::Port),
        "UPSTREAM_LOCAL_ADDRESS" => address(Address::UpstreamLocal, Shown::Whole),
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => address(Address::UpstreamLocal, Shown::WithoutPort),
        "UPSTREAM_LOCAL_PORT" => address(Address::UpstreamLocal, Shown::Port),
        "DOWNSTREAM_LOCAL_ADDRESS" | "DOWNSTREAM_DIRECT_LOCAL_ADDRESS" => {
            address(Address::DownstreamLocal, Shown::Whole)
        }
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT" => {
            address(Address::DownstreamLocal, Shown::WithoutPort)
        }
        "DOWNSTREAM_LOCAL_PORT" | "DOWNSTREAM_DIRECT_LOCAL_PORT" => address(Address::DownstreamLocal, Shown::Port),
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
            address(Address::DownstreamRemote, Shown::Whole)
        }
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            address(Address::DownstreamRemote, Shown::WithoutPort)
        }
        "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => address(Address::DownstreamRemote, Shown::Port),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Ok(Operator::UpstreamCluster),
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Ok(Operator::UpstreamFailure),
        "REQUESTED_SERVER_NAME" => Ok(Operator::ServerName),
        "ROUTE_NAME" => Ok(Operator::RouteName),
        "HOSTNAME" => Ok(Operator::Hostname),
        "GRPC_STATUS" => Ok(Operator::GrpcStatus {
            number: argument == Some("NUMBER"),
        }),
        "GRPC_STATUS_NUMBER" => Ok(Operator::GrpcStatus { number: true }),
        "DOWNSTREAM_PEER_URI_SAN" => Ok(Operator::PeerUri),
        "DOWNSTREAM_LOCAL_URI_SAN" => Ok(Operator::LocalUri),
        other if NOTHING.contains(&other) => Ok(Operator::Nothing),
        _ => Err(FormatError::Unknown(written())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_formats_parse() {
        let format = Format::parse(ISTIO_TEXT).unwrap();
        let values = format
            .parts
            .iter()
            .filter(|part| matches!(part, Part::Value(..)))
            .count();
        assert_eq!(values, ISTIO_JSON.len());
        assert!(!format.parts.contains(&Part::Value(Operator::Nothing, None)));
        for (key, text) in ISTIO_JSON {
            let parts = Format::parse(text).unwrap().parts;
            assert!(matches!(parts[..], [Part::Value(..)]), "{key}");
        }
        let headers: Vec<&str> = format.request_headers().collect();
        assert_eq!(
            headers,
            [
                ":method",
                "x-envoy-original-path",
                ":path",
                "x-forwarded-for",
                "user-agent",
                "x-request-id",
                ":authority"
            ]
        );
    }

    #[test]
    fn every_part_of_an_operator() {
        for (text, expected) in [
            ("100%%", vec![Part::Text("100".into()), Part::Text("%".into())]),
            (
                "a%REQ(X-A?X-B):7%b",
                vec![
                    Part::Text("a".into()),
                    Part::Value(Operator::Request(vec!["x-a".into(), "x-b".into()]), Some(7)),
                    Part::Text("b".into()),
                ],
            ),
            ("%TRACE_ID%", vec![Part::Value(Operator::Nothing, None)]),
            ("%DYNAMIC_METADATA(a:b)%", vec![Part::Value(Operator::Nothing, None)]),
            (
                "%START_TIME(%Y/%m %3f%%)%",
                vec![Part::Value(
                    Operator::StartTime(Time(vec![
                        TimePart::Year,
                        TimePart::Text("/".into()),
                        TimePart::Month,
                        TimePart::Text(" ".into()),
                        TimePart::Fraction(3),
                        TimePart::Text("%".into()),
                    ])),
                    None,
                )],
            ),
            (
                "%GRPC_STATUS(NUMBER)%",
                vec![Part::Value(Operator::GrpcStatus { number: true }, None)],
            ),
        ] {
            assert_eq!(Format::parse(text).map(|format| format.parts), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_format_is_named() {
        for (text, expected) in [
            ("%RESPONSE_CODE", "%RESPONSE_CODE: the operator does not end"),
            ("%REQ(A%", "%REQ(A%: the operator does not end"),
            ("%RESPONSE_KODE%", "%RESPONSE_KODE%: there is no such operator"),
            ("%response_code%", "%response_code%: there is no such operator"),
            ("50% of %PROTOCOL%", "% of %: there is no such operator"),
            ("%REQ%", "%REQ%: expected a header's name"),
            ("%REQ()%", "%REQ()%: expected a header's name"),
            ("%REQ(A):x%", "%REQ(A):x%: expected a length"),
            ("%START_TIME(%Q)%", "%START_TIME(%Q)%: expected a format of times"),
        ] {
            let error = Format::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(Format::parse(&"a".repeat(MOST_BYTES + 1)).is_err());
    }
}
