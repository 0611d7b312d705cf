use super::*;
use envoy_types::pb::envoy::service::auth::v3::DeniedHttpResponse;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::google::rpc::Status;

fn option(name: &str, value: &str, append: Option<bool>, action: i32) -> core::HeaderValueOption {
    #[allow(deprecated, reason = "what most authorizers say")]
    core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        append: append.map(|value| BoolValue { value }),
        append_action: action,
        keep_empty_value: false,
    }
}

fn answer(code: i32, http_response: Option<HttpResponse>) -> CheckResponse {
    CheckResponse {
        status: Some(Status {
            code,
            ..Status::default()
        }),
        http_response,
        ..CheckResponse::default()
    }
}

#[test]
fn attributes_are_envoys() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", &b"other"[..]),
        ("x-request-id", b"id"),
        ("x-a", b"1"),
        ("x-a", b"\xff"),
        (PARTIAL_BODY, b"true"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    }
    let shown = Shown {
        bytes: Bytes::from_static(b"a\xffb"),
        partial: true,
    };
    let identity: SpiffeId = "spiffe://td/ns/a/sa/b".parse().unwrap();
    let own: SpiffeId = "spiffe://td/ns/c/sa/d".parse().unwrap();
    let question = Question {
        source: "10.0.0.1:1234".parse().unwrap(),
        identity: Some(&identity),
        destination: "[fd00::1]:80".parse().unwrap(),
        server_name: Some("sni"),
        request: Some(AskedRequest {
            method: "POST",
            target: "/a?b",
            host: "shop:80",
            version: Version::HTTP_2,
            headers: &headers,
            length: Some(3),
            shown: Some(&shown),
        }),
    };
    let told = check(&question, Some(&own), false).attributes.unwrap();
    let peer = |peer: &Option<Peer>| {
        let peer = peer.clone().unwrap();
        let Some(core::address::Address::SocketAddress(socket)) = peer.address.unwrap().address else {
            panic!("no address");
        };
        format!(
            "{} {:?} {}",
            socket.address,
            socket.port_specifier.unwrap(),
            peer.principal
        )
    };
    assert_eq!(peer(&told.source), "10.0.0.1 PortValue(1234) spiffe://td/ns/a/sa/b");
    assert_eq!(peer(&told.destination), "fd00::1 PortValue(80) spiffe://td/ns/c/sa/d");
    assert_eq!(told.tls_session.unwrap().sni, "sni");
    let http = told.request.unwrap().http.unwrap();
    assert_eq!(
        [
            &http.id,
            &http.method,
            &http.path,
            &http.host,
            &http.scheme,
            &http.protocol,
            &http.body
        ],
        ["id", "POST", "/a?b", "shop:80", "http", "HTTP/2", "a!b"]
    );
    assert_eq!((http.size, http.raw_body.len()), (3, 0));
    let mut all: Vec<_> = http
        .headers
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.sort();
    assert_eq!(
        all,
        [
            ":authority=shop:80",
            ":method=POST",
            ":path=/a?b",
            ":scheme=http",
            "x-a=1,!",
            "x-envoy-auth-partial-body=true",
            "x-request-id=id",
        ]
    );
    let bytes = check(&question, Some(&own), true)
        .attributes
        .unwrap()
        .request
        .unwrap()
        .http
        .unwrap();
    assert_eq!((bytes.body.as_str(), &bytes.raw_body[..]), ("", &b"a\xffb"[..]));

    let connection = Question {
        identity: None,
        server_name: None,
        request: None,
        ..question
    };
    let told = check(&connection, Some(&own), false).attributes.unwrap();
    assert!(told.request.is_none() && told.tls_session.is_none());
    assert_eq!(peer(&told.destination), "fd00::1 PortValue(80) ");
}

#[test]
fn messages_are_framed() {
    let said = answer(7, None);
    let mut bytes = vec![0, 0, 0, 0, u8::try_from(said.encoded_len()).unwrap()];
    bytes.extend(said.encode_to_vec());
    assert_eq!(unframed(&bytes), Ok(said));
    let mut compressed = bytes.clone();
    compressed[0] = 1;
    for (bad, expected) in [
        (&bytes[..4], "its answer has no message"),
        (&bytes[..6], "its answer is not one plain message"),
        (&compressed, "its answer is not one plain message"),
    ] {
        assert_eq!(unframed(bad), Err(expected.to_owned()));
    }
    let framed = framed(&CheckRequest::default()).unwrap();
    assert_eq!(&framed[..], [0; 5]);
}

#[test]
fn answers_allow_deny_and_fail() {
    let ok = |headers| {
        let said = OkHttpResponse {
            headers,
            ..OkHttpResponse::default()
        };
        answer(0, Some(HttpResponse::OkResponse(said)))
    };
    let denied = |code: i32, headers| {
        let said = DeniedHttpResponse {
            status: Some(HttpStatus { code }),
            headers,
            body: "no".to_owned(),
        };
        answer(7, Some(HttpResponse::DeniedResponse(said)))
    };
    let failed = answer(13, Some(HttpResponse::ErrorResponse(DeniedHttpResponse::default())));
    for (said, expected) in [
        (CheckResponse::default(), "allowed"),
        (answer(0, None), "allowed"),
        (ok(vec![option("X-User", "ann", None, 0)]), "allowed x-user Overwrite"),
        (
            ok(vec![option("x-user", "ann", Some(true), 0)]),
            "allowed x-user Append",
        ),
        (
            ok(vec![option("x-user", "ann", Some(false), 3)]),
            "allowed x-user Overwrite",
        ),
        (ok(vec![option("x-user", "ann", None, 1)]), "allowed x-user AddIfAbsent"),
        (ok(vec![option("x-user", "ann", None, 2)]), "allowed x-user Overwrite"),
        (
            ok(vec![option("x-user", "ann", None, 3)]),
            "allowed x-user OverwriteIfPresent",
        ),
        (
            ok(vec![option("x-user", "ann", None, 9)]),
            "its answer's append_action 9 is unknown",
        ),
        (
            ok(vec![option("x user", "ann", None, 0)]),
            "its answer sets the header \"x user\" to what is none",
        ),
        (
            ok(vec![option("x-user", "a\nb", None, 0)]),
            "its answer sets the header \"x-user\" to what is none",
        ),
        (ok(vec![option(":path", "/b", None, 0)]), "allowed path /b"),
        (
            ok(vec![option(":method", "CONNECT", None, 0)]),
            "its answer sets a method that is none",
        ),
        (
            ok(vec![option(":status", "200", None, 0)]),
            "its answer sets \":status\", which no request has",
        ),
        (answer(7, None), "denied 403 "),
        (
            denied(401, vec![option("x-why", "token", None, 0)]),
            "denied 401 no x-why",
        ),
        (denied(0, Vec::new()), "denied 403 no"),
        (denied(1000, Vec::new()), "denied 403 no"),
        (denied(100, Vec::new()), "denied 403 no"),
        (failed, "it answered that it failed"),
    ] {
        let shown = format!("{said:?}");
        let found = match verdict(said) {
            Ok(Verdict::Allowed(changes)) => {
                let edits = changes.request.iter().map(|it| format!(" {} {:?}", it.name, it.how));
                let path = changes.path.iter().map(|path| format!(" path {path}"));
                format!("allowed{}", edits.chain(path).collect::<String>())
            }
            Ok(Verdict::Denied(denial)) => {
                let names: String = denial.headers.iter().map(|it| format!(" {}", it.name)).collect();
                format!(
                    "denied {} {}{names}",
                    denial.status.as_u16(),
                    String::from_utf8_lossy(&denial.body)
                )
            }
            Err(reason) => reason,
        };
        assert_eq!(found, expected, "{shown}");
    }
}

#[test]
fn a_call_ends_with_its_status() {
    let map = |status: Option<&'static str>| -> HeaderMap {
        let status = status.map(|status| (HeaderName::from_static("grpc-status"), HeaderValue::from_static(status)));
        status.into_iter().collect()
    };
    for (status, must, good) in [
        (None, false, true),
        (None, true, false),
        (Some("0"), true, true),
        (Some("14"), false, false),
    ] {
        assert_eq!(ended_well(&map(status), must).is_ok(), good, "{status:?}");
    }
}
