use super::*;
use crate::destination::tests::destination;
use prost::Message as _;

fn text(text: &str) -> StringMatch {
    match text.split_at(1) {
        ("=", text) => StringMatch::Exact(text.into()),
        ("^", text) => StringMatch::Prefix(text.into()),
        (_, text) => StringMatch::Regex(Pattern::new(text).unwrap()),
    }
}

fn edits(name: &'static str) -> HeaderEdits {
    let pair = |value: &'static str| vec![(HeaderName::from_static(name), HeaderValue::from_static(value))];
    let remove = || vec![HeaderName::from_static(name)];
    HeaderEdits {
        request_set: pair("request-set"),
        request_add: pair("request-add"),
        request_remove: remove(),
        response_set: pair("response-set"),
        response_add: pair("response-add"),
        response_remove: remove(),
    }
}

fn target(leads: Leads, subset: InSubset) -> Target {
    Target { leads, subset }
}

fn weighted(leads: Leads, subset: InSubset, weight: u32) -> Weighted {
    Weighted {
        target: target(leads, subset),
        cluster: "outbound|80|v1|reviews.shop.svc.cluster.local".into(),
        weight,
        headers: edits("x-weighted"),
    }
}

fn route(name: &str, action: Action) -> HttpRoute {
    HttpRoute {
        name: name.into(),
        matches: Vec::new(),
        action,
        headers: HeaderEdits::default(),
        fault: Fault::default(),
        timeout: None,
        retries: None,
        mirrors: Vec::new(),
        cors: None,
    }
}

fn redirect(uri: Option<RedirectUri>, port: RedirectPort) -> HttpRoute {
    let redirect = Redirect {
        uri,
        authority: Some("other.example".into()),
        port,
        scheme: Some("https".into()),
        code: 308,
    };
    route("redirect", Action::Redirect(redirect))
}

fn forwarding() -> HttpRoute {
    let value = |value: &'static str| Some(HeaderValue::from_static(value));
    HttpRoute {
        matches: vec![
            HttpMatch {
                uri: Some(text("^/api")),
                ignore_uri_case: true,
                scheme: Some(text("=http")),
                method: Some(text("~GET|HEAD")),
                authority: Some(text("=reviews")),
                headers: vec![("x-user".into(), Some(text("=jo"))), ("x-there".into(), None)],
                without_headers: vec![("x-none".into(), None), ("x-not".into(), Some(text("^a")))],
                query_params: vec![("q".into(), Some(text("~[0-9]+"))), ("there".into(), None)],
            },
            HttpMatch::default(),
        ],
        headers: edits("x-route"),
        fault: Fault {
            delay: Some(Delay {
                fixed: Duration::from_millis(1500),
                percent: Percent(1),
            }),
            abort: Some(Abort {
                with: AbortWith::Status(503),
                percent: Percent::ALL,
            }),
        },
        timeout: Some(Duration::from_secs(3)),
        retries: Some(Retries {
            attempts: 3,
            per_try_timeout: Some(Duration::from_millis(20)),
            on: RetryOn {
                server_errors: true,
                gateway_errors: true,
                reset: true,
                reset_before_request: true,
                connect_failure: true,
                refused_stream: true,
                conflict: true,
                rate_limited: true,
                statuses: vec![503, 429],
                grpc: vec![14, 1],
            },
            remote_localities: true,
            avoid_previous: true,
            backoff: Backoff {
                base: Duration::from_millis(25),
            },
        }),
        mirrors: vec![Mirror {
            target: target(Leads::Other(0), InSubset::Of(0)),
            cluster: "outbound|80||mirror".into(),
            percent: Percent(125_000),
        }],
        cors: Some(Cors {
            allow_origins: vec![text("=*"), text("~https://.*")],
            allow_methods: value("GET,POST"),
            allow_headers: value("x-a"),
            expose_headers: value("x-b"),
            max_age: value("86400"),
            allow_credentials: true,
            forward_unmatched: true,
        }),
        ..route(
            "first",
            Action::Forward {
                to: vec![
                    weighted(Leads::Own, InSubset::All, 70),
                    weighted(Leads::Own, InSubset::Of(0), 20),
                    weighted(Leads::Other(0), InSubset::Unknown, 10),
                    weighted(Leads::Nowhere, InSubset::All, 0),
                ],
                rewrite: Rewrite {
                    authority: value("other"),
                    uri: UriRewrite::Regex {
                        pattern: Pattern::new("^/a/(.*)$").unwrap(),
                        rewrite: r"/b/\1".into(),
                    },
                },
            },
        )
    }
}

/// With every field set, and every choice somewhere.
fn whole() -> Routes {
    let to = || vec![weighted(Leads::Own, InSubset::All, 1)];
    let prefix = route(
        "prefix",
        Action::Forward {
            to: to(),
            rewrite: Rewrite {
                authority: None,
                uri: UriRewrite::Prefix("/v2".into()),
            },
        },
    );
    let grpc = HttpRoute {
        fault: Fault {
            delay: None,
            abort: Some(Abort {
                with: AbortWith::Grpc(14),
                percent: Percent(500_000),
            }),
        },
        ..route(
            "grpc",
            Action::Forward {
                to: Vec::new(),
                rewrite: Rewrite::default(),
            },
        )
    };
    let direct = Direct {
        status: 418,
        body: "short and stout".into(),
        text: true,
    };
    Routes {
        sources: vec!["shop/reviews".into(), "shop/delegate".into()],
        http: vec![
            forwarding(),
            prefix,
            grpc,
            redirect(Some(RedirectUri::Path("/p".into())), RedirectPort::Number(8443)),
            redirect(Some(RedirectUri::Prefix("/q".into())), RedirectPort::ProtocolDefault),
            redirect(None, RedirectPort::OfRequest),
            redirect(None, RedirectPort::Absent),
            route("direct", Action::Direct(direct)),
        ],
        tls: vec![TlsRoute {
            matches: vec![TlsMatch {
                sni_hosts: vec!["*.example".into()],
                destination_subnets: vec!["10.0.0.0/8".parse().unwrap()],
            }],
            to: to(),
        }],
        tcp: vec![TcpRoute {
            matches: vec![TcpMatch {
                destination_subnets: vec!["fd00::/8".parse().unwrap()],
                source_subnet: Some("10.1.2.3/32".parse().unwrap()),
            }],
            to: to(),
        }],
        destinations: vec![Arc::new(destination())],
    }
}

fn routed() -> Destination {
    Destination {
        routes: Some(Arc::new(whole())),
        ..destination()
    }
}

#[test]
fn routes_survive_the_wire() {
    let bytes = wire::Destination::from(&routed()).encode_to_vec();
    let message = wire::Destination::decode(&bytes[..]).unwrap();
    assert_eq!(Destination::try_from(&message), Ok(routed()));
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    type Damage = (&'static str, fn(&mut wire::Routes));
    fn first(routes: &mut wire::Routes) -> &mut wire::Forward {
        match &mut routes.http[0].action {
            Some(wire::HttpAction::Forward(forward)) => forward,
            _ => unreachable!(),
        }
    }
    fn goal(routes: &mut wire::Routes) -> &mut wire::Target {
        first(routes).to[0].target.as_mut().unwrap()
    }
    let damage: [Damage; 38] = [
        ("routes.language: 0", |r| r.language = 0),
        ("routes.language: 2", |r| r.language = 2),
        ("routes.http: 10001", |r| {
            r.http = vec![wire::HttpRoute::default(); 10_001]
        }),
        ("routes.destinations[0]: a destination that a route leads to", |r| {
            r.destinations[0].routes = Some(wire::Routes::default());
        }),
        ("routes.destinations[0]: port", |r| r.destinations[0].port = 0),
        ("routes.http[2]: action", |r| r.http[2].action = None),
        ("routes.http[0]: match: 1001", |r| {
            r.http[0].matches = vec![wire::HttpMatch::default(); 1001];
        }),
        ("routes.http[0]: match[0]: uri", |r| {
            r.http[0].matches[0].uri = Some(wire::StringMatch::default());
        }),
        ("routes.http[0]: match[0]: method: \"(\"", |r| {
            r.http[0].matches[0].method = Some(wire::StringMatch {
                kind: Some(wire::StringMatchKind::Regex("(".into())),
            });
        }),
        ("routes.http[0]: match[0]: headers[1]: name", |r| {
            r.http[0].matches[0].headers[1].name.clear();
        }),
        ("routes.http[0]: match[0]: without_headers[0]: value", |r| {
            r.http[0].matches[0].without_headers[0].value = Some(wire::StringMatch::default());
        }),
        ("routes.http[0]: route[0]: target", |r| first(r).to[0].target = None),
        ("routes.http[0]: route[0]: target.leads: 0", |r| goal(r).leads = 0),
        ("routes.http[0]: route[0]: target.leads: 99", |r| goal(r).leads = 99),
        ("routes.http[0]: route[0]: target.within: 0", |r| goal(r).within = 0),
        ("routes.http[0]: route[0]: target.within: 99", |r| goal(r).within = 99),
        ("routes.http[0]: route[0]: target.destination: 1", |r| {
            goal(r).leads = wire::Leads::Other.into();
            goal(r).destination = 1;
        }),
        ("routes.http[0]: route[0]: target.subset: 2", |r| {
            goal(r).within = wire::InSubset::Of.into();
            goal(r).subset = 2;
        }),
        ("routes.http[0]: rewrite.uri", |r| {
            first(r).uri = Some(wire::UriRewrite::default())
        }),
        ("routes.http[0]: rewrite.authority", |r| {
            first(r).authority = Some(bytes::Bytes::from_static(b"\n"));
        }),
        ("routes.http[0]: route[0]: headers.request.set[0]: name", |r| {
            first(r).to[0].headers.as_mut().unwrap().request_set[0].name = "a b".into();
        }),
        ("routes.http[0]: headers.response.remove[0]: name", |r| {
            r.http[0].headers.as_mut().unwrap().response_remove[0].clear();
        }),
        ("routes.http[0]: percentage", |r| {
            r.http[0].delay.as_mut().unwrap().millionths = 1_000_001;
        }),
        ("routes.http[0]: fault.abort", |r| {
            r.http[0].abort.as_mut().unwrap().with = None
        }),
        ("routes.http[0]: fault.abort.status", |r| {
            r.http[0].abort.as_mut().unwrap().with = Some(wire::AbortWith::Status(99));
        }),
        ("routes.http[0]: fault.abort.grpc", |r| {
            r.http[0].abort.as_mut().unwrap().with = Some(wire::AbortWith::Grpc(256));
        }),
        ("routes.http[0]: retries.on", |r| {
            r.http[0].retries.as_mut().unwrap().on.push(99);
        }),
        ("routes.http[0]: retries.statuses[0]: status", |r| {
            r.http[0].retries.as_mut().unwrap().statuses[0] = 1000;
        }),
        ("routes.http[0]: mirrors[0]: percentage", |r| {
            r.http[0].mirrors[0].millionths = u32::MAX;
        }),
        ("routes.http[0]: mirrors[0]: target", |r| {
            r.http[0].mirrors[0].target = None
        }),
        ("routes.http[0]: cors.allow_origins[0]: origin", |r| {
            r.http[0].cors.as_mut().unwrap().allow_origins[0].kind = None;
        }),
        ("routes.http[0]: cors.max_age", |r| {
            r.http[0].cors.as_mut().unwrap().max_age = Some(bytes::Bytes::from_static(b"\0"));
        }),
        ("routes.http[3]: redirect.uri", |r| {
            r.http[3].action = Some(wire::HttpAction::Redirect(wire::Redirect {
                uri: Some(wire::RedirectUri::default()),
                ..Default::default()
            }));
        }),
        ("routes.http[3]: redirect.port_of: 0", |r| {
            r.http[3].action = Some(wire::HttpAction::Redirect(wire::Redirect::default()));
        }),
        ("routes.http[7]: direct.status", |r| {
            r.http[7].action = Some(wire::HttpAction::Direct(wire::Direct::default()));
        }),
        ("routes.http[7]: direct.body", |r| {
            r.http[7].action = Some(wire::HttpAction::Direct(wire::Direct {
                status: 200,
                body: vec![0; MOST_BODY_BYTES + 1].into(),
                text: false,
            }));
        }),
        ("routes.tls[0]: match[0]: destination_subnets", |r| {
            r.tls[0].matches[0].destination_subnets[0] = "10.0.0.0/33".into();
        }),
        ("routes.tcp[0]: match[0]: source_subnet", |r| {
            r.tcp[0].matches[0].source_subnet = Some("x".into());
        }),
    ];
    for (field, damage) in damage {
        let mut message = wire::Destination::from(&routed());
        damage(message.routes.as_mut().unwrap());
        let error = Destination::try_from(&message).unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    }
}

#[test]
fn regular_expressions_are_counted() {
    let mut reader = Reader {
        subsets: 0,
        destinations: &[],
        patterns: 1,
    };
    let regex = wire::StringMatch::from(&text("~a"));
    assert!(reader.text("uri", &regex).is_ok());
    let error = reader.text("uri", &regex).unwrap_err().to_string();
    assert!(error.contains("regular expressions"), "{error}");
}
