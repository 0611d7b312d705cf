//! How a line of the access log is written: by Envoy's format, as text or JSON. Whatever comes from the network is escaped, so
//! that a line stays one line and says only what the proxy says.

use super::facts::{Facts, Led, Way};
use super::grpc;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use mesh_core::access_log::{Address, Format, ISTIO_JSON, ISTIO_TEXT, Operator, Part, Shown, Time, TimePart};
use mesh_wire::convert::AccessLog;
use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

/// The most bytes of one value.
const MOST_VALUE: usize = 4 * 1024;

/// Headers that a record keeps in any case.
const KEPT: [&str; 5] = [
    "user-agent",
    "x-request-id",
    "x-forwarded-for",
    "x-envoy-original-path",
    "host",
];

/// A format, ready to write lines by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    request_headers: Vec<HeaderName>,
    response_headers: Vec<HeaderName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Text(Format),
    Json(Vec<(Box<str>, Format)>),
}

/// A value of a line.
enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Missing,
}

impl Layout {
    /// The layout that a mesh configuration asks for.
    ///
    /// # Errors
    /// What of it is no format; the operator refuses such a configuration, so that this is one of another version.
    pub fn new(config: &AccessLog) -> Result<Self, String> {
        let parse = |text: &str| Format::parse(text).map_err(|error| error.to_string());
        let shape = match (config.json, config.format.is_empty()) {
            (false, true) => Shape::Text(parse(ISTIO_TEXT)?),
            (false, false) => Shape::Text(parse(&config.format)?),
            (true, true) => {
                let fields = ISTIO_JSON.iter().map(|(key, text)| Ok(((*key).into(), parse(text)?)));
                Shape::Json(fields.collect::<Result<_, String>>()?)
            }
            (true, false) => {
                let fields: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(&config.format).map_err(|error| error.to_string())?;
                let field = |(key, value): (String, serde_json::Value)| {
                    let text = value.as_str().ok_or_else(|| format!("{key}: not a text"))?;
                    Ok((key.as_str().into(), parse(text)?))
                };
                Shape::Json(fields.into_iter().map(field).collect::<Result<_, String>>()?)
            }
        };
        let formats: Vec<&Format> = match &shape {
            Shape::Text(format) => vec![format],
            Shape::Json(fields) => fields.iter().map(|(_, format)| format).collect(),
        };
        let named = |names: Vec<&str>| {
            let mut names: Vec<HeaderName> = names
                .into_iter()
                .filter(|name| !KEPT.contains(name))
                .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                .collect();
            names.dedup();
            names
        };
        let request_headers = named(formats.iter().flat_map(|format| format.request_headers()).collect());
        let response_headers = named(formats.iter().flat_map(|format| format.response_headers()).collect());
        Ok(Self {
            shape,
            request_headers,
            response_headers,
        })
    }

    /// The headers of requests that lines need, beyond those that every record keeps.
    #[must_use]
    pub fn request_headers(&self) -> &[HeaderName] {
        &self.request_headers
    }

    /// The headers of responses that lines need.
    #[must_use]
    pub fn response_headers(&self) -> &[HeaderName] {
        &self.response_headers
    }

    /// Writes a line, its end included.
    #[must_use]
    pub fn write(&self, facts: &Facts, hostname: &str) -> String {
        let mut line = String::with_capacity(512);
        match &self.shape {
            Shape::Text(format) => {
                for part in &format.parts {
                    match part {
                        Part::Text(text) => line.push_str(text),
                        Part::Value(operator, most) => match value(operator, facts, hostname) {
                            Value::Missing => line.push('-'),
                            Value::Number(number) => drop(write!(line, "{number}")),
                            Value::Text(text) => escape(&mut line, cut(&text, *most)),
                        },
                    }
                }
            }
            Shape::Json(fields) => {
                line.push('{');
                for (at, (key, format)) in fields.iter().enumerate() {
                    if at > 0 {
                        line.push(',');
                    }
                    quote(&mut line, key);
                    line.push(':');
                    json(&mut line, format, facts, hostname);
                }
                line.push('}');
            }
        }
        if !line.ends_with('\n') {
            line.push('\n');
        }
        line
    }
}

/// Those of the headers that are there.
pub fn some_of(headers: &HeaderMap, names: &[HeaderName]) -> Vec<(HeaderName, HeaderValue)> {
    let found = names
        .iter()
        .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    found.collect()
}

/// A field of JSON: what is one value keeps its kind, everything else is text.
fn json(line: &mut String, format: &Format, facts: &Facts, hostname: &str) {
    if let [Part::Value(operator, most)] = &format.parts[..] {
        match value(operator, facts, hostname) {
            Value::Missing => line.push_str("null"),
            Value::Number(number) => drop(write!(line, "{number}")),
            Value::Text(text) => {
                let text = cut(&text, *most);
                // Envoy gives numbers where a value is always one.
                if operator.is_number() && text.parse::<u64>().is_ok() {
                    line.push_str(text);
                } else {
                    quote(line, text);
                }
            }
        }
        return;
    }
    let mut whole = String::new();
    for part in &format.parts {
        match part {
            Part::Text(text) => whole.push_str(text),
            Part::Value(operator, most) => match value(operator, facts, hostname) {
                Value::Missing => whole.push('-'),
                Value::Number(number) => drop(write!(whole, "{number}")),
                Value::Text(text) => whole.push_str(cut(&text, *most)),
            },
        }
    }
    quote(line, &whole);
}

/// The beginning of a text, of at most so many characters and [`MOST_VALUE`] bytes.
fn cut(text: &str, most: Option<usize>) -> &str {
    let end = most
        .and_then(|most| text.char_indices().nth(most))
        .map_or(text.len(), |(at, _)| at);
    let mut end = end.min(MOST_VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Text inside a line: control characters, quotes and backslashes are written so that they cannot end a value or a line.
fn escape(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            other if other.is_control() => drop(write!(line, "\\u{:04x}", u32::from(other))),
            // These begin a new line for some readers.
            '\u{2028}' | '\u{2029}' => drop(write!(line, "\\u{:04x}", u32::from(character))),
            other => line.push(other),
        }
    }
}

fn quote(line: &mut String, text: &str) {
    line.push('"');
    escape(line, text);
    line.push('"');
}

fn value<'a>(operator: &Operator, facts: &'a Facts, hostname: &'a str) -> Value<'a> {
    let text = |text: &'a str| {
        if text.is_empty() {
            Value::Missing
        } else {
            Value::Text(text.into())
        }
    };
    let header = |value: Option<&'a HeaderValue>| match value {
        Some(value) => Value::Text(String::from_utf8_lossy(value.as_bytes())),
        None => Value::Missing,
    };
    let millis = |duration: std::time::Duration| Value::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    match operator {
        Operator::StartTime(time) => moment(time, facts.began),
        Operator::EmitTime(time) => moment(time, Some(SystemTime::now())),
        Operator::Request(names) => {
            let mut found = names.iter().map(|name| request_header(facts, name));
            found
                .find(|value| !matches!(value, Value::Missing))
                .unwrap_or(Value::Missing)
        }
        Operator::Response(names) => {
            let mut found = names.iter().map(|name| match &**name {
                "x-envoy-upstream-service-time" => facts
                    .upstream_time
                    .map_or(Value::Missing, |time| Value::Text(time.as_millis().to_string().into())),
                name => header(find(&facts.more_of_response, name)),
            });
            found
                .find(|value| !matches!(value, Value::Missing))
                .unwrap_or(Value::Missing)
        }
        Operator::Path { query: true } => request_header(facts, ":path"),
        Operator::Path { query: false } => facts.path.as_ref().map_or(Value::Missing, |path| text(path.path())),
        Operator::Protocol => match facts.version {
            Some(Version::HTTP_10) => text("HTTP/1.0"),
            Some(Version::HTTP_11) => text("HTTP/1.1"),
            Some(Version::HTTP_2) => text("HTTP/2"),
            _ => Value::Missing,
        },
        Operator::ResponseCode => Value::Number(facts.code.into()),
        Operator::ResponseCodeDetails => text(&facts.details),
        Operator::ConnectionTerminationDetails => text(&facts.termination),
        Operator::ResponseFlags { .. } if facts.flags.is_empty() => Value::Text("-".into()),
        Operator::ResponseFlags { long: false } => Value::Text(facts.flags.to_string().into()),
        Operator::ResponseFlags { long: true } => Value::Text(facts.flags.long().into()),
        Operator::BytesReceived => Value::Number(facts.received),
        Operator::BytesSent => Value::Number(facts.sent),
        Operator::Duration => millis(facts.elapsed),
        Operator::ResponseDuration => facts.upstream_time.map_or(Value::Missing, millis),
        Operator::Attempts => Value::Number(facts.attempts.into()),
        Operator::Address(which, shown) => {
            let address = match which {
                Address::UpstreamHost => facts.upstream,
                Address::UpstreamLocal => facts.upstream_local,
                Address::DownstreamLocal => facts.dialled,
                Address::DownstreamRemote => facts.peer,
            };
            address.map_or(Value::Missing, |address| part_of(address, *shown))
        }
        Operator::UpstreamCluster => cluster(facts),
        Operator::UpstreamFailure => text(&facts.failure),
        Operator::ServerName => facts.server_name.as_deref().map_or(Value::Missing, text),
        // The route of a destination that no VirtualService routes, in Istio's word.
        Operator::RouteName if facts.method.is_some() => text(facts.route.as_deref().unwrap_or("default")),
        Operator::Hostname => text(hostname),
        Operator::GrpcStatus { number } => match facts.status {
            None => Value::Missing,
            Some(status) if *number => Value::Number(status.into()),
            Some(status) => Value::Text(grpc::name(status).map_or_else(|| status.to_string().into(), Cow::Borrowed)),
        },
        Operator::PeerUri => facts
            .identity
            .as_ref()
            .map_or(Value::Missing, |it| Value::Text(it.to_string().into())),
        Operator::RouteName | Operator::LocalUri | Operator::Nothing => Value::Missing,
    }
}

fn part_of(address: SocketAddr, shown: Shown) -> Value<'static> {
    match shown {
        Shown::Whole => Value::Text(address.to_string().into()),
        Shown::WithoutPort => Value::Text(address.ip().to_string().into()),
        Shown::Port => Value::Number(address.port().into()),
    }
}

/// Where it went, as Istio names clusters.
fn cluster(facts: &Facts) -> Value<'_> {
    match (facts.way, &facts.destination, facts.cluster, facts.dialled) {
        (_, _, Some(name), _) => Value::Text(name.into()),
        (Way::Out, Some(destination), ..) => match facts.led {
            Led::Straight => Value::Text(destination.cluster_name().into()),
            Led::To(target) => destination
                .led_to(target)
                .map_or(Value::Missing, |cluster| Value::Text(cluster.cluster_name().into())),
            Led::Nowhere => Value::Missing,
        },
        (Way::In, _, _, Some(dialled)) => Value::Text(format!("inbound|{}||", dialled.port()).into()),
        _ => Value::Missing,
    }
}

fn find<'a>(headers: &'a [(HeaderName, HeaderValue)], name: &str) -> Option<&'a HeaderValue> {
    headers
        .iter()
        .find(|(held, _)| held.as_str() == name)
        .map(|(_, value)| value)
}

fn request_header<'a>(facts: &'a Facts, name: &str) -> Value<'a> {
    let value = match name {
        ":method" => {
            return facts
                .method
                .as_ref()
                .map_or(Value::Missing, |method| Value::Text(method.as_str().into()));
        }
        ":path" => {
            return facts
                .path
                .as_ref()
                .map_or(Value::Missing, |path| Value::Text(path.as_str().into()));
        }
        ":scheme" if facts.method.is_some() => return Value::Text("http".into()),
        ":authority" | "host" => facts.authority.as_ref(),
        "user-agent" => facts.user_agent.as_ref(),
        "x-request-id" => facts.request_id.as_ref(),
        "x-forwarded-for" => facts.forwarded_for.as_ref(),
        "x-envoy-original-path" => facts.original_path.as_ref(),
        name => find(&facts.more_of_request, name),
    };
    value.map_or(Value::Missing, |value| {
        Value::Text(String::from_utf8_lossy(value.as_bytes()))
    })
}

fn moment(format: &Time, at: Option<SystemTime>) -> Value<'static> {
    let Some(since) = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) else {
        return Value::Missing;
    };
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let mut text = String::with_capacity(24);
    for part in &format.0 {
        let written = match part {
            TimePart::Text(fixed) => {
                text.push_str(fixed);
                Ok(())
            }
            TimePart::Year => write!(text, "{year:04}"),
            TimePart::Month => write!(text, "{month:02}"),
            TimePart::Day => write!(text, "{day:02}"),
            TimePart::Hour => write!(text, "{:02}", seconds / 3600 % 24),
            TimePart::Minute => write!(text, "{:02}", seconds / 60 % 60),
            TimePart::Second => write!(text, "{:02}", seconds % 60),
            TimePart::Epoch => write!(text, "{seconds}"),
            TimePart::Fraction(digits) => {
                let nanos = format!("{:09}", since.subsec_nanos());
                text.push_str(nanos.get(..*digits).unwrap_or(&nanos));
                Ok(())
            }
        };
        // A string takes everything.
        let _ = written;
    }
    Value::Text(text.into())
}

/// Year, month and day of a day since 1970: days since 0000-03-01 in eras of 400 years (146,097 days), so that the leap day
/// ends a year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::super::flags::Flags;
    use super::*;
    use http::Method;
    use std::time::Duration;

    fn facts() -> Facts {
        Facts {
            way: Way::In,
            began: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_606_339_578_409)),
            elapsed: Duration::from_micros(5_900),
            peer: Some("10.44.1.23:41854".parse().unwrap()),
            dialled: Some("10.44.1.27:80".parse().unwrap()),
            server_name: Some("outbound_.8000_._.httpbin.foo.svc.cluster.local".into()),
            upstream: Some("10.44.1.27:80".parse().unwrap()),
            upstream_local: Some("127.0.0.6:37854".parse().unwrap()),
            code: 418,
            details: "via_upstream".into(),
            sent: 135,
            upstream_time: Some(Duration::from_millis(3)),
            method: Some(Method::GET),
            path: Some("/status/418?x=1".parse().unwrap()),
            version: Some(Version::HTTP_11),
            authority: Some(HeaderValue::from_static("httpbin:8000")),
            user_agent: Some(HeaderValue::from_static("curl/7.73.0-DEV")),
            request_id: Some(HeaderValue::from_static("84961386-6d84-929d-98bd-c5aee93b5c88")),
            ..Facts::default()
        }
    }

    fn layout(format: &str, json: bool) -> Layout {
        Layout::new(&AccessLog {
            file: String::new(),
            format: format.to_owned(),
            json,
        })
        .unwrap()
    }

    #[test]
    fn istios_text_line() {
        assert_eq!(
            layout("", false).write(&facts(), "pod"),
            "[2020-11-25T21:26:18.409Z] \"GET /status/418?x=1 HTTP/1.1\" 418 - via_upstream - \"-\" 0 135 5 3 \"-\" \
             \"curl/7.73.0-DEV\" \"84961386-6d84-929d-98bd-c5aee93b5c88\" \"httpbin:8000\" \"10.44.1.27:80\" \
             inbound|80|| 127.0.0.6:37854 10.44.1.27:80 10.44.1.23:41854 \
             outbound_.8000_._.httpbin.foo.svc.cluster.local default\n"
        );
        let connection = Facts {
            method: None,
            path: None,
            version: None,
            code: 0,
            flags: Flags::UF.and(Flags::URX),
            ..facts()
        };
        let line = layout("", false).write(&connection, "pod");
        assert!(
            line.starts_with("[2020-11-25T21:26:18.409Z] \"- - -\" 0 UF,URX "),
            "{line}"
        );
    }

    #[test]
    fn istios_json_line() {
        let line = layout("", true).write(&facts(), "pod");
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (key, expected) in [
            ("start_time", serde_json::json!("2020-11-25T21:26:18.409Z")),
            ("response_code", 418.into()),
            ("bytes_sent", 135.into()),
            ("duration", 5.into()),
            ("upstream_service_time", serde_json::json!("3")),
            ("response_flags", "-".into()),
            ("x_forwarded_for", serde_json::Value::Null),
            ("path", "/status/418?x=1".into()),
            ("upstream_cluster", "inbound|80||".into()),
        ] {
            assert_eq!(parsed[key], expected, "{key}");
        }
        assert_eq!(parsed.as_object().unwrap().len(), ISTIO_JSON.len());
    }

    #[test]
    fn own_formats() {
        for (format, json, expected) in [
            ("%REQ(:METHOD)% %PATH(NQ)%", false, "GET /status/418\n"),
            ("%REQ(USER-AGENT):4% 100%%", false, "curl 100%\n"),
            ("%TRACE_ID% %REQ(X-NOT-THERE?:AUTHORITY)%", false, "- httpbin:8000\n"),
            ("%DOWNSTREAM_REMOTE_PORT% %HOSTNAME%", false, "41854 pod\n"),
            (
                "%START_TIME(%F %H:%M %s %6f)%",
                false,
                "2020-11-25 21:26 1606339578 409000\n",
            ),
            (
                "%REQ(X-MORE)% %RESP(X-MORE)%",
                false,
                "of the request of the response\n",
            ),
            (
                "{\"a\": \"%BYTES_SENT% bytes\", \"b\": \"%BYTES_SENT%\"}",
                true,
                "{\"a\":\"135 bytes\",\"b\":135}\n",
            ),
        ] {
            let facts = Facts {
                more_of_request: vec![(
                    HeaderName::from_static("x-more"),
                    HeaderValue::from_static("of the request"),
                )],
                more_of_response: vec![(
                    HeaderName::from_static("x-more"),
                    HeaderValue::from_static("of the response"),
                )],
                ..facts()
            };
            let layout = layout(format, json);
            assert_eq!(layout.write(&facts, "pod"), expected, "{format}");
            if format.contains("X-MORE") {
                assert_eq!(layout.request_headers(), [HeaderName::from_static("x-more")]);
            }
        }
    }

    #[test]
    fn no_value_ends_a_line_or_a_quote() {
        let facts = Facts {
            user_agent: Some(HeaderValue::from_bytes(b"a\" \\ \xff\t[fake]").unwrap()),
            failure: "x\ny\r\u{7f}\u{2028}".into(),
            ..facts()
        };
        let line = layout("\"%REQ(USER-AGENT)%\" %UPSTREAM_TRANSPORT_FAILURE_REASON%", false).write(&facts, "");
        assert_eq!(line, "\"a\\\" \\\\ \u{fffd}\\t[fake]\" x\\ny\\r\\u007f\\u2028\n");
        let line = layout("", true).write(&facts, "");
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["user_agent"], "a\" \\ \u{fffd}\t[fake]");
        assert_eq!(line.matches('\n').count(), 1);
        let long = Facts {
            failure: "é".repeat(MOST_VALUE),
            ..Facts::default()
        };
        let line = layout("%UPSTREAM_TRANSPORT_FAILURE_REASON%", false).write(&long, "");
        assert_eq!(line.len(), MOST_VALUE + 1);
    }

    #[test]
    fn headers_are_taken_once() {
        let headers: HeaderMap = [(HeaderName::from_static("x-a"), HeaderValue::from_static("1"))]
            .into_iter()
            .collect();
        let names = [HeaderName::from_static("x-a"), HeaderName::from_static("x-b")];
        assert_eq!(some_of(&headers, &names).len(), 1);
    }
}
