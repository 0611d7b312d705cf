use super::*;
use ::http::header::HeaderMap;
use ::http::{HeaderName, HeaderValue, Method};
use std::time::Duration;

fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in of {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

fn exact(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Exact(text.into()))
}

fn prefix(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Prefix(text.into()))
}

fn regex(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Regex(Pattern::new(text).unwrap()))
}

fn by_uri(uri: Option<StringMatch>) -> HttpMatch {
    HttpMatch {
        uri,
        ..HttpMatch::default()
    }
}

fn to(subset: u32, weight: u32) -> Weighted {
    Weighted {
        target: Target {
            leads: Leads::Own,
            subset: InSubset::Of(subset),
        },
        cluster: format!("outbound|80|v{subset}|a").into(),
        weight,
        headers: HeaderEdits::default(),
    }
}

fn route(matches: Vec<HttpMatch>, action: Action) -> HttpRoute {
    HttpRoute {
        name: "".into(),
        matches,
        action,
        headers: HeaderEdits::default(),
        fault: Fault::default(),
        timeout: None,
        retries: None,
        mirrors: Vec::new(),
        cors: None,
    }
}

fn forward(matches: Vec<HttpMatch>, to: Vec<Weighted>, rewrite: Rewrite) -> HttpRoute {
    route(matches, Action::Forward { to, rewrite })
}

/// A request that every table changes in one thing.
fn seen<'a>(path_and_query: &'a str, headers: &'a HeaderMap) -> Seen<'a> {
    Seen {
        path_and_query,
        scheme: "http",
        method: "GET",
        authority: "reviews:9080",
        headers,
    }
}

#[test]
fn requests_are_matched_as_envoy_matches_them() {
    let none = HeaderMap::new();
    for (uri, ignore_case, path, expected) in [
        (None, false, "/x", true),
        (None, false, "*", false),
        (exact("/a"), false, "/a", true),
        (exact("/a"), false, "/a?b", true),
        (exact("/a"), false, "/A", false),
        (exact("/a"), true, "/A", true),
        (exact("/a"), false, "/a/", false),
        (prefix("/a"), false, "/a", true),
        (prefix("/a"), false, "/ab", true),
        (prefix("/a"), false, "/A/b", false),
        (prefix("/a"), true, "/A/b", true),
        (prefix("/a"), true, "/", false),
        (prefix("/a?"), false, "/a?b", false),
        (regex("/a/\\d+"), false, "/a/12?x=/b", true),
        (regex("/a/\\d+"), false, "/a/12/b", false),
        (regex("/a|/b"), false, "/bc", false),
        (regex("/A"), true, "/a", false),
    ] {
        let wanted = HttpMatch {
            uri: uri.clone(),
            ignore_uri_case: ignore_case,
            ..HttpMatch::default()
        };
        assert_eq!(wanted.takes(&seen(path, &none)), expected, "{uri:?} {path}");
    }

    let sent = headers(&[("x-user", "ann"), ("x-many", "1"), ("x-many", "2"), ("x-empty", "")]);
    for (name, wanted, expected, without) in [
        ("x-user", exact("ann"), true, false),
        ("x-user", exact("bob"), false, true),
        ("x-user", prefix("a"), true, false),
        ("x-user", regex("a.+"), true, false),
        ("x-user", None, true, false),
        ("x-many", exact("1,2"), true, false),
        ("x-many", exact("1"), false, true),
        ("x-empty", None, true, false),
        ("x-empty", exact(""), true, false),
        ("x-none", None, false, true),
        ("x-none", exact("a"), false, true),
        // What is not there counts as empty, as far as it must not be there.
        ("x-none", exact(""), false, false),
        (":method", exact("GET"), true, false),
        (":authority", prefix("reviews"), true, false),
        ("host", exact("reviews:9080"), true, false),
    ] {
        let with = HttpMatch {
            headers: vec![(name.into(), wanted.clone())],
            ..HttpMatch::default()
        };
        assert_eq!(with.takes(&seen("/", &sent)), expected, "{name} {wanted:?}");
        let not_with = HttpMatch {
            without_headers: vec![(name.into(), wanted.clone())],
            ..HttpMatch::default()
        };
        assert_eq!(not_with.takes(&seen("/", &sent)), without, "without {name} {wanted:?}");
    }

    for (name, wanted, expected) in [
        ("a", exact("1"), true),
        ("a", exact("2"), false),
        ("b", None, true),
        ("b", exact(""), true),
        ("c", exact("%20"), true),
        ("d", None, false),
        ("", None, false),
    ] {
        let wanted = HttpMatch {
            query_params: vec![(name.into(), wanted)],
            ..HttpMatch::default()
        };
        assert_eq!(wanted.takes(&seen("/?a=1&a=2&b&c=%20", &none)), expected, "{wanted:?}");
        assert!(!wanted.takes(&seen("/", &none)));
    }

    for (method, authority, scheme, expected) in [
        (exact("GET"), None, None, true),
        (exact("get"), None, None, false),
        (None, exact("reviews:9080"), None, true),
        (None, exact("reviews"), None, false),
        (None, None, exact("http"), true),
        (None, None, exact("https"), false),
        (exact("GET"), prefix("reviews"), regex("https?"), true),
        (exact("POST"), prefix("reviews"), None, false),
    ] {
        let wanted = HttpMatch {
            method,
            authority,
            scheme,
            ..HttpMatch::default()
        };
        assert_eq!(wanted.takes(&seen("/", &none)), expected, "{wanted:?}");
    }
}

#[test]
fn the_first_route_that_matches_decides() {
    let none = HeaderMap::new();
    let named = |name: &str, matches| HttpRoute {
        name: name.into(),
        ..forward(matches, vec![to(0, 0)], Rewrite::default())
    };
    let routes = Routes {
        http: vec![
            named("both", vec![by_uri(exact("/a")), by_uri(prefix("/b"))]),
            named("narrow", vec![by_uri(exact("/b/c"))]),
            named("rest", vec![by_uri(regex("/[a-z]+"))]),
        ],
        ..Routes::default()
    };
    for (path, expected) in [
        ("/a", Some(("both", 0))),
        ("/b/c", Some(("both", 1))),
        ("/xyz", Some(("rest", 0))),
        ("/1", None),
    ] {
        let found = routes.http(&seen(path, &none));
        let by = |matched: Matched<'_>| {
            let at = matched.route.matches.iter().position(|by| Some(by) == matched.by);
            (matched.route.name.to_string(), at.unwrap())
        };
        let expected = expected.map(|(name, at): (&str, usize)| (name.to_owned(), at));
        assert_eq!(found.map(by), expected, "{path}");
    }
    let any = Routes {
        http: vec![named("any", Vec::new())],
        ..Routes::default()
    };
    assert_eq!(any.http(&seen("/1", &none)).map(|matched| matched.by), Some(None));
}

#[test]
fn weights_are_shares_of_the_draws() {
    for (weights, expected) in [
        (&[0][..], &[1000][..]),
        (&[7], &[1000]),
        (&[0, 0], &[1000, 0]),
        (&[90, 10], &[900, 100]),
        (&[0, 1, 0], &[0, 1000, 0]),
        (&[1, 1, 2], &[250, 250, 500]),
        (&[u32::MAX, u32::MAX], &[500, 500]),
    ] {
        let destinations: Vec<Weighted> = (0..).zip(weights).map(|(at, weight)| to(at, *weight)).collect();
        let route = forward(Vec::new(), destinations.clone(), Rewrite::default());
        let mut counts = vec![0; weights.len()];
        for step in 0..1000 {
            let chosen = route.choose(u32::MAX / 1000 * step + step / 4).unwrap();
            counts[destinations.iter().position(|one| one == chosen).unwrap()] += 1;
        }
        for (count, expected) in counts.iter().zip(expected) {
            assert!(i32::abs(count - expected) <= 2, "{weights:?}: {counts:?}");
        }
        assert!(route.choose(u32::MAX).is_some());
    }
    assert!(forward(Vec::new(), Vec::new(), Rewrite::default()).choose(7).is_none());
}

#[test]
fn paths_are_rewritten_as_envoy_rewrites_them() {
    let none = HeaderMap::new();
    let with = |prefix: &str| UriRewrite::Prefix(prefix.into());
    let replaced = |pattern, rewrite: &str| UriRewrite::Regex {
        pattern: Pattern::new(pattern).unwrap(),
        rewrite: rewrite.into(),
    };
    for (wanted, rewrite, path, expected) in [
        (prefix("/a"), UriRewrite::Keep, "/a?x", None),
        (prefix("/a"), with("/b"), "/a", Some("/b")),
        (prefix("/a"), with("/b"), "/a/c?x=/a", Some("/b/c?x=/a")),
        (prefix("/a"), with("/b"), "/ab", Some("/bb")),
        (prefix("/a"), with("/"), "/a/c", Some("//c")),
        (prefix("/a/"), with("/"), "/a/c", Some("/c")),
        (prefix("/a"), with("/b/"), "/a/c", Some("/b//c")),
        (exact("/a"), with("/b"), "/a?x", Some("/b?x")),
        (regex("/a/.*"), with("/b"), "/a/c?x", Some("/b?x")),
        (None, with("/b"), "/a/c?x", Some("/ba/c?x")),
        (prefix("/"), with("/b/"), "/a?x", Some("/b/a?x")),
        (
            None,
            replaced("^/service/([^/]+)(/.*)$", "\\2/instance/\\1"),
            "/service/foo/v1/api?x",
            Some("/v1/api/instance/foo?x"),
        ),
        (
            None,
            replaced("one", "two"),
            "/xxx/one/yyy/one/zzz?one",
            Some("/xxx/two/yyy/two/zzz?one"),
        ),
        (
            None,
            replaced("(?i)/xxx/", "/yyy/"),
            "/aaa/XxX/bbb",
            Some("/aaa/yyy/bbb"),
        ),
        (None, replaced("/a", "\\0\\0\\7\\\\"), "/a/b", Some("/a/a\\/b")),
        (None, replaced("/nothing", "/x"), "/a", Some("/a")),
    ] {
        let rewrite = Rewrite {
            authority: None,
            uri: rewrite,
        };
        let matches = vec![by_uri(wanted.clone())];
        let routes = Routes {
            http: vec![forward(matches, vec![to(0, 0)], rewrite.clone())],
            ..Routes::default()
        };
        let matched = routes.http(&seen(path, &none)).unwrap();
        assert_eq!(rewrite.path(&matched, path).as_deref(), expected, "{wanted:?} {path}");
    }
}

#[test]
fn redirects_lead_where_envoys_do() {
    let none = HeaderMap::new();
    let plain = Redirect {
        uri: None,
        authority: None,
        port: RedirectPort::Absent,
        scheme: None,
        code: 301,
    };
    let uri = |path: &str| Some(RedirectUri::Path(path.into()));
    let numbered = |port| Redirect {
        port: RedirectPort::Number(port),
        ..plain.clone()
    };
    let scheme = |redirect: Redirect, scheme: &str| Redirect {
        scheme: Some(scheme.into()),
        ..redirect
    };
    for (redirect, authority, path, expected) in [
        (plain.clone(), "a:81", "/x?y", "http://a:81/x?y"),
        (
            Redirect {
                uri: uri("/z"),
                ..plain.clone()
            },
            "a",
            "/x?y",
            "http://a/z?y",
        ),
        (
            Redirect {
                uri: uri("/z?own"),
                ..plain.clone()
            },
            "a",
            "/x?y",
            "http://a/z?own",
        ),
        (
            Redirect {
                uri: Some(RedirectUri::Prefix("/z".into())),
                ..plain.clone()
            },
            "a",
            "/x/y?q",
            "http://a/z/y?q",
        ),
        (
            Redirect {
                authority: Some("b:9".into()),
                ..plain.clone()
            },
            "a:81",
            "/x",
            "http://b:9/x",
        ),
        (scheme(plain.clone(), "https"), "a:80", "/x", "https://a/x"),
        (scheme(plain.clone(), "https"), "a:81", "/x", "https://a:81/x"),
        (
            scheme(plain.clone(), "https"),
            "[fd00::1]:80",
            "/x",
            "https://[fd00::1]/x",
        ),
        (scheme(plain.clone(), "https"), "[fd00::1]", "/x", "https://[fd00::1]/x"),
        (numbered(8080), "a:81", "/x", "http://a:8080/x"),
        (numbered(80), "a:81", "/x", "http://a:81/x"),
        (scheme(numbered(443), "https"), "a:80", "/x", "https://a/x"),
        (scheme(numbered(8443), "https"), "a", "/x", "https://a:8443/x"),
        (
            Redirect {
                port: RedirectPort::OfRequest,
                ..plain.clone()
            },
            "a",
            "/x",
            "http://a:9080/x",
        ),
        (
            Redirect {
                port: RedirectPort::ProtocolDefault,
                ..plain.clone()
            },
            "a:81",
            "/x",
            "http://a:81/x",
        ),
    ] {
        let matched = route(vec![by_uri(prefix("/x"))], Action::Redirect(redirect.clone()));
        let matched = Matched {
            route: &matched,
            by: matched.matches.first(),
        };
        let seen = Seen {
            authority,
            ..seen(path, &none)
        };
        assert_eq!(
            redirect.location(&matched, &seen, 9080),
            expected,
            "{redirect:?} {authority}"
        );
    }
}

#[test]
fn headers_are_edited_in_envoys_order() {
    let pairs = |of: &[(&'static str, &'static str)]| {
        of.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    };
    let edits =
        |set: &[(&'static str, &'static str)], add: &[(&'static str, &'static str)], remove: &[&'static str]| {
            let remove: Vec<_> = remove.iter().map(|name| HeaderName::from_static(name)).collect();
            HeaderEdits {
                request_set: pairs(set),
                request_add: pairs(add),
                request_remove: remove.clone(),
                response_set: pairs(set),
                response_add: pairs(add),
                response_remove: remove,
            }
        };
    let of_route = edits(
        &[("a", "route"), ("host", "route.example")],
        &[("b", "route")],
        &["c", "host"],
    );
    let of_destination = edits(
        &[("a", "own"), ("host", "own.example")],
        &[("b", "own"), ("c", "own")],
        &["d"],
    );
    let sent = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("host", "reviews")];
    for (several, expected) in [
        (
            false,
            &[
                ("a", "own"),
                ("b", "1"),
                ("b", "route"),
                ("b", "own"),
                ("c", "own"),
                ("host", "reviews"),
            ][..],
        ),
        (
            true,
            &[
                ("a", "route"),
                ("b", "1"),
                ("b", "own"),
                ("b", "route"),
                ("host", "reviews"),
            ],
        ),
    ] {
        let destination = Weighted {
            headers: of_destination.clone(),
            ..to(0, 1)
        };
        let mut all = vec![destination.clone()];
        all.extend(several.then(|| to(1, 1)));
        let route = HttpRoute {
            headers: of_route.clone(),
            ..forward(Vec::new(), all, Rewrite::default())
        };
        let (mut request, mut response) = (headers(&sent), headers(&sent));
        route.edit_request(&destination, &mut request);
        route.edit_response(Some(&destination), &mut response);
        let sorted = |map: &HeaderMap| {
            let mut all: Vec<_> = map
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect();
            all.sort_by(|one, other| one.0.cmp(&other.0));
            all
        };
        assert_eq!(sorted(&request), sorted(&headers(expected)), "several: {several}");
        assert_eq!(sorted(&response), sorted(&headers(expected)), "several: {several}");
        assert_eq!(route.authority(&destination).unwrap(), "route.example");
    }

    let destination = Weighted {
        headers: of_destination,
        ..to(0, 1)
    };
    let rewrite = Rewrite {
        authority: Some(HeaderValue::from_static("rewritten")),
        uri: UriRewrite::Keep,
    };
    for (rewrite, headers, to, expected) in [
        (rewrite, of_route, destination.clone(), Some("rewritten")),
        (
            Rewrite::default(),
            HeaderEdits::default(),
            destination,
            Some("own.example"),
        ),
        (Rewrite::default(), HeaderEdits::default(), to(0, 1), None),
    ] {
        let route = HttpRoute {
            headers,
            ..forward(Vec::new(), vec![to.clone()], rewrite)
        };
        assert_eq!(route.authority(&to).map(|value| value.to_str().unwrap()), expected);
    }

    let answered = HttpRoute {
        headers: edits(&[("a", "set")], &[], &["b"]),
        ..route(
            Vec::new(),
            Action::Direct(Direct {
                status: 200,
                body: "".into(),
                text: true,
            }),
        )
    };
    let mut response = headers(&[("b", "1"), ("location", "x")]);
    answered.edit_response::<Target>(None, &mut response);
    assert_eq!(response, headers(&[("a", "set"), ("location", "x")]));
}

#[test]
fn cross_origin_requests_are_answered_as_envoy_answers_them() {
    let value = |text| Some(HeaderValue::from_static(text));
    let policy = Cors {
        allow_origins: vec![
            exact("https://a.example").unwrap(),
            regex("https://.*\\.b\\.example").unwrap(),
        ],
        allow_methods: value("GET,PUT"),
        allow_headers: value("x-a"),
        expose_headers: value("x-b"),
        max_age: value("86400"),
        allow_credentials: true,
        forward_unmatched: true,
    };
    let preflight = |origin| headers(&[("origin", origin), ("access-control-request-method", "PUT")]);
    let answered = headers(&[
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,PUT"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-max-age", "86400"),
    ]);
    let mut anonymous = answered.clone();
    anonymous.remove("access-control-allow-origin");
    let ignoring = Cors {
        forward_unmatched: false,
        ..policy.clone()
    };
    let open = Cors {
        allow_origins: vec![exact("*").unwrap()],
        allow_methods: value("*"),
        allow_headers: value("*"),
        max_age: None,
        allow_credentials: false,
        ..policy.clone()
    };
    let opened = headers(&[
        ("access-control-allow-origin", "null"),
        ("access-control-allow-methods", "PUT"),
    ]);
    let allowed = |origin| CrossOrigin::Allowed(HeaderValue::from_static(origin));
    for (policy, method, sent, expected) in [
        (&policy, Method::GET, headers(&[]), CrossOrigin::Pass),
        (&policy, Method::GET, headers(&[("origin", "")]), CrossOrigin::Pass),
        (
            &policy,
            Method::GET,
            headers(&[("origin", "https://c.example")]),
            CrossOrigin::Pass,
        ),
        (
            &policy,
            Method::GET,
            headers(&[("origin", "https://x.b.example")]),
            allowed("https://x.b.example"),
        ),
        (
            &policy,
            Method::GET,
            preflight("https://a.example"),
            allowed("https://a.example"),
        ),
        (
            &policy,
            Method::OPTIONS,
            headers(&[("origin", "https://a.example")]),
            allowed("https://a.example"),
        ),
        (
            &policy,
            Method::OPTIONS,
            preflight("https://a.example"),
            CrossOrigin::Answered(answered),
        ),
        (
            &policy,
            Method::OPTIONS,
            preflight("https://c.example"),
            CrossOrigin::Pass,
        ),
        (
            &ignoring,
            Method::OPTIONS,
            preflight("https://c.example"),
            CrossOrigin::Answered(anonymous),
        ),
        (&open, Method::OPTIONS, preflight("null"), CrossOrigin::Answered(opened)),
    ] {
        assert_eq!(policy.decide(&method, &sent), expected, "{method} {sent:?}");
    }
    let mut response = headers(&[("access-control-allow-origin", "*")]);
    policy.mark(HeaderValue::from_static("https://a.example"), &mut response);
    let marked = headers(&[
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "x-b"),
    ]);
    assert_eq!(response, marked);
}

#[test]
fn what_is_tried_again() {
    let none = HeaderMap::new();
    let answer = |status| Outcome::Answer { status, headers: &none };
    let limited = headers(&[("x-envoy-ratelimited", "true")]);
    let call = |status| headers(&[("grpc-status", status)]);
    let (unavailable, aborted) = (call("14"), call("10"));
    let grpc = |headers| Outcome::Answer { status: 200, headers };
    let all = [
        Outcome::NoConnection,
        Outcome::Refused,
        Outcome::Reset { sent: false },
        Outcome::Reset { sent: true },
        Outcome::TimedOut,
        Outcome::Overflow,
        answer(500),
        answer(503),
        answer(409),
        answer(200),
        Outcome::Answer {
            status: 503,
            headers: &limited,
        },
        grpc(&unavailable),
        grpc(&aborted),
    ];
    let default = RetryOn::default;
    // One letter for each of the outcomes above.
    for (on, expected) in [
        (default(), "............."),
        (
            RetryOn {
                server_errors: true,
                ..default()
            },
            "yyyyy.yy.....",
        ),
        (
            RetryOn {
                gateway_errors: true,
                ..default()
            },
            "yyyyy..y.....",
        ),
        (
            RetryOn {
                reset: true,
                ..default()
            },
            "yyyyy........",
        ),
        (
            RetryOn {
                reset_before_request: true,
                ..default()
            },
            "..y..........",
        ),
        (
            RetryOn {
                connect_failure: true,
                ..default()
            },
            "y............",
        ),
        (
            RetryOn {
                refused_stream: true,
                ..default()
            },
            ".y...........",
        ),
        (
            RetryOn {
                conflict: true,
                ..default()
            },
            "........y....",
        ),
        (
            RetryOn {
                rate_limited: true,
                ..default()
            },
            "..........y..",
        ),
        (
            RetryOn {
                statuses: vec![503, 200],
                ..default()
            },
            ".......y.y.yy",
        ),
        (
            RetryOn {
                grpc: vec![14, 1],
                ..default()
            },
            "...........y.",
        ),
        (Retries::of_the_mesh().on.clone(), "yy.........y."),
    ] {
        let takes: String = all
            .iter()
            .map(|outcome| if on.takes(outcome) { 'y' } else { '.' })
            .collect();
        assert_eq!(takes, expected, "{on:?}");
        let looks = takes.as_bytes()[6..].contains(&b'y');
        assert_eq!(on.looks_at_answers(true), looks, "{on:?}");
        let grpc_alone = !on.grpc.is_empty();
        assert_eq!(on.looks_at_answers(false), looks && !grpc_alone, "{on:?}");
    }
}

#[test]
fn waits_grow_to_ten_times_the_first() {
    for (before, draw, expected) in [
        (0, 0, 0),
        (0, u32::MAX, 25),
        (1, u32::MAX, 50),
        (2, u32::MAX / 2, 50),
        (3, u32::MAX, 200),
        (4, u32::MAX, 250),
        (u32::MAX, u32::MAX, 250),
    ] {
        let wait = Backoff::DEFAULT.wait(before, draw);
        assert_eq!(
            (wait + Duration::from_micros(1)).as_millis(),
            expected,
            "{before} {draw}"
        );
    }
}

#[test]
fn faults_are_shares_of_the_draws() {
    let fault = |percent: f64| Fault {
        delay: Some(Delay {
            fixed: Duration::from_secs(5),
            percent: Percent::from_percent(percent),
        }),
        abort: Some(Abort {
            with: AbortWith::Status(418),
            percent: Percent::from_percent(percent),
        }),
    };
    for (percent, draw, expected) in [
        (100.0, u32::MAX, true),
        (100.0, 0, true),
        (0.0, 0, false),
        (50.0, u32::MAX / 2 - 1, true),
        (50.0, u32::MAX / 2 + 1, false),
        (0.0001, 4000, true),
        (0.0001, 5000, false),
    ] {
        assert_eq!(fault(percent).delayed(draw).is_some(), expected, "{percent} {draw}");
        assert_eq!(fault(percent).aborted(draw), expected.then_some(AbortWith::Status(418)));
    }
    assert!(Fault::default().is_none() && Fault::default().delayed(0).is_none());
}

#[test]
fn a_call_says_itself_how_long_it_may_take() {
    let millis = Duration::from_millis;
    for (timeout, call, own, expected) in [
        (None, false, None, None),
        (Some(millis(0)), false, None, None),
        (Some(millis(300)), false, Some("1S"), Some(millis(300))),
        (Some(millis(300)), true, None, Some(millis(300))),
        (Some(millis(300)), true, Some("1S"), Some(millis(300))),
        (Some(millis(300)), true, Some("200m"), Some(millis(200))),
        (None, true, Some("2M"), Some(Duration::from_secs(120))),
        (None, true, Some("00000001H"), Some(Duration::from_secs(3600))),
        (None, true, Some("99999999u"), Some(Duration::from_micros(99_999_999))),
        (None, true, Some("5n"), Some(Duration::from_nanos(5))),
        (None, true, Some("0S"), None),
        (None, true, Some("123456789S"), None),
        (None, true, Some("S"), None),
        (None, true, Some(""), None),
        (None, true, Some("+1S"), None),
        (None, true, Some("1s"), None),
        (None, true, Some("1é"), None),
    ] {
        let route = HttpRoute {
            timeout,
            ..forward(Vec::new(), vec![to(0, 0)], Rewrite::default())
        };
        let mut sent = HeaderMap::new();
        if let Some(own) = own {
            sent.insert("grpc-timeout", HeaderValue::from_bytes(own.as_bytes()).unwrap());
        }
        assert_eq!(route.timeout_of(call, &sent), expected, "{timeout:?} {own:?}");
    }
}

#[test]
fn shadows_have_their_own_authority() {
    for (authority, expected) in [
        ("reviews", "reviews-shadow"),
        ("reviews:9080", "reviews-shadow:9080"),
        ("[fd00::1]", "[fd00::1]-shadow"),
        ("[fd00::1]:80", "[fd00::1]-shadow:80"),
        ("", "-shadow"),
    ] {
        assert_eq!(shadow(authority), expected);
    }
}

#[test]
fn connections_take_the_route_that_names_them_most_exactly() {
    let nets = |of: &[&str]| of.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>();
    let tls = |hosts: &[&str], subnets: &[&str], subset| TlsRoute {
        matches: vec![TlsMatch {
            sni_hosts: hosts.iter().map(|host| (*host).into()).collect(),
            destination_subnets: nets(subnets),
        }],
        to: vec![to(subset, 0)],
    };
    let tcp = |matches: &[(&[&str], Option<&str>)], subset| TcpRoute {
        matches: matches
            .iter()
            .map(|(subnets, source)| TcpMatch {
                destination_subnets: nets(subnets),
                source_subnet: source.map(|net| net.parse().unwrap()),
            })
            .collect(),
        to: vec![to(subset, 0)],
    };
    let routes = Routes {
        tls: vec![
            tls(&["*"], &[], 0),
            tls(&["*.example"], &[], 1),
            tls(&["*.b.example", "a.example"], &[], 2),
            tls(&["c.example"], &["10.0.0.0/8"], 3),
            tls(&["c.example"], &[], 4),
        ],
        tcp: vec![
            tcp(&[(&["10.1.0.0/16"], None), (&[], Some("10.9.0.0/16"))], 0),
            tcp(&[(&["10.1.2.0/24", "fd00::/8"], None)], 1),
            tcp(&[], 2),
            tcp(&[(&["10.7.0.0/16"], None)], 3),
        ],
        ..Routes::default()
    };
    let subset = |to: &[Weighted]| match to.first().unwrap().target.subset {
        InSubset::Of(subset) => subset,
        other => panic!("{other:?}"),
    };
    for (name, address, expected) in [
        ("x", "1.1.1.1", 0),
        ("x.example", "1.1.1.1", 1),
        ("a.example", "1.1.1.1", 2),
        ("x.b.example", "1.1.1.1", 2),
        ("b.example", "1.1.1.1", 1),
        ("c.example", "1.1.1.1", 4),
        ("c.example", "10.0.0.1", 3),
        ("a.example", "10.0.0.1", 2),
    ] {
        let found = routes.tls(name, address.parse().unwrap()).unwrap();
        assert_eq!(subset(&found.to), expected, "{name} {address}");
    }
    let only = Routes {
        tls: vec![tls(&["a"], &[], 0)],
        ..Routes::default()
    };
    assert!(only.tls("b", "1.1.1.1".parse().unwrap()).is_none());
    assert!(
        only.tcp("1.1.1.1".parse().unwrap(), "1.1.1.1".parse().unwrap())
            .is_none()
    );
    for (from, to, expected) in [
        ("10.0.0.1", "1.1.1.1", 2),
        ("10.0.0.1", "10.7.0.1", 2),
        ("10.9.0.1", "1.1.1.1", 0),
        ("10.0.0.1", "10.1.1.1", 0),
        ("10.0.0.1", "10.1.2.1", 1),
        ("10.0.0.1", "::ffff:10.1.2.1", 1),
        ("fd00::1", "fd00::2", 1),
    ] {
        let found = routes.tcp(from.parse().unwrap(), to.parse().unwrap()).unwrap();
        assert_eq!(subset(&found.to), expected, "{from} {to}");
    }
}
