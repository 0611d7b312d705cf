use super::super::{
    Action, Condition, Direct, Fault, HeaderEdits, HttpMatch, HttpRoute, InSubset, Lead, Leads, Mirror, Percent,
    Retries, RetryOn, Rewrite, Routes, StringMatch, Target, UriRewrite, Weighted,
};
use super::*;
use std::time::Duration;

const DOMAIN: &str = "cluster.local";
const REVIEWS: &str = "reviews.shop.svc.cluster.local";

fn reference(to: &str) -> Reference {
    let (host, rest) = to.split_once('/').map_or((to, None), |(host, rest)| (host, Some(rest)));
    let (host, port) = host
        .split_once(':')
        .map_or((host, None), |(host, port)| (host, port.parse().ok()));
    Reference {
        host: host.into(),
        subset: rest.map(Into::into),
        port,
    }
}

fn forward(to: &[(&str, u32)]) -> Action<Reference> {
    let to = to.iter().map(|(to, weight)| Weighted {
        target: reference(to),
        cluster: "".into(),
        weight: *weight,
        headers: HeaderEdits::default(),
    });
    Action::Forward {
        to: to.collect(),
        rewrite: Rewrite::default(),
    }
}

fn rule(name: &str, to: &[(&str, u32)]) -> HttpRule {
    HttpRule {
        matches: Vec::new(),
        delegate: None,
        route: HttpRoute {
            name: name.into(),
            matches: Vec::new(),
            action: forward(to),
            headers: HeaderEdits::default(),
            fault: Fault::default(),
            timeout: None,
            retries: None,
            mirrors: Vec::new(),
            cors: None,
        },
    }
}

fn on(mut rule: HttpRule, matches: Vec<Condition<HttpMatch>>) -> HttpRule {
    rule.matches = matches;
    rule
}

fn prefix(path: &str) -> Condition<HttpMatch> {
    uri(StringMatch::Prefix(path.into()))
}

fn uri(uri: StringMatch) -> Condition<HttpMatch> {
    Condition {
        client: ClientMatch::default(),
        asked: HttpMatch {
            uri: Some(uri),
            ..HttpMatch::default()
        },
    }
}

fn from(client: ClientMatch) -> Condition<HttpMatch> {
    Condition {
        client,
        asked: HttpMatch::default(),
    }
}

fn labelled(app: &str) -> ClientMatch {
    ClientMatch {
        source_labels: [("app".to_owned(), app.to_owned())].into(),
        ..ClientMatch::default()
    }
}

fn service(key: &str, created: i64, hosts: &[&str], http: Vec<HttpRule>) -> VirtualService {
    let (namespace, name) = key.split_once('/').unwrap();
    VirtualService {
        namespace: namespace.into(),
        name: name.into(),
        created,
        hosts: hosts.iter().map(|host| (*host).into()).collect(),
        gateways: Vec::new(),
        export_to: Export::everywhere(),
        http,
        tls: Vec::new(),
        tcp: Vec::new(),
    }
}

/// One whose single route leads to a host of its own name.
fn simple(key: &str, created: i64, hosts: &[&str]) -> VirtualService {
    let to = key.replace('/', ".");
    service(key, created, hosts, vec![rule("", &[(&to, 1)])])
}

fn exported(mut service: VirtualService, to: &[&str]) -> VirtualService {
    service.export_to = Export {
        public: to.contains(&"*"),
        own: to.contains(&"."),
        namespaces: to
            .iter()
            .filter(|to| !["*", "."].contains(*to))
            .map(|to| (*to).to_owned())
            .collect(),
    };
    service
}

fn take(services: &mut VirtualServices, service: VirtualService) -> Vec<Arc<str>> {
    let (namespace, name) = (service.namespace.clone(), service.name.clone());
    services.set(&namespace, &name, Some(service), DOMAIN)
}

fn services(list: Vec<VirtualService>) -> VirtualServices {
    let mut services = VirtualServices::default();
    for service in list {
        take(&mut services, service);
    }
    services
}

fn labels(app: &str) -> Labels {
    [("app".to_owned(), app.to_owned())].into()
}

fn anywhere(reference: &Reference) -> Lead {
    Lead {
        target: Target {
            leads: Leads::Own,
            subset: InSubset::All,
        },
        port: reference.port.unwrap_or(80),
    }
}

fn compiled(services: &VirtualServices, namespace: &str, app: &str, host: &str, port: u16) -> Option<Routes> {
    let labels = labels(app);
    let client = Client {
        namespace,
        labels: &labels,
    };
    services.speaking(client, host, port, |_| true).compile(None, anywhere)
}

/// The clusters of all routes, and who speaks.
fn clusters(routes: &Routes) -> Vec<String> {
    let of = |to: &[Weighted]| -> Vec<String> { to.iter().map(|to| format!("{} {}", to.weight, to.cluster)).collect() };
    let http = routes.http.iter().flat_map(|route| match &route.action {
        Action::Forward { to, .. } => of(to),
        Action::Redirect(_) => vec!["redirect".to_owned()],
        Action::Direct(direct) => vec![format!("direct {}", direct.status)],
    });
    let tls = routes.tls.iter().flat_map(|route| of(&route.to));
    let tcp = routes.tcp.iter().flat_map(|route| of(&route.to));
    http.chain(tls).chain(tcp).collect()
}

fn spoken(services: &VirtualServices, namespace: &str, app: &str, host: &str) -> String {
    let routes = compiled(services, namespace, app, host, 80).unwrap_or_default();
    routes.sources.join(",")
}

#[test]
fn one_virtual_service_speaks_for_requests() {
    let of = |list: Vec<VirtualService>| services(list);
    let exact = || simple("shop/exact", 20, &["reviews"]);
    let private = |key, created| exported(simple(key, created, &[REVIEWS]), &["."]);
    let none = || service("shop/none", 1, &["reviews"], Vec::new());
    for (what, services, client, expected) in [
        ("nobody", of(vec![simple("shop/other", 1, &["ratings"])]), "shop", ""),
        ("a short name", of(vec![exact()]), "shop", "shop/exact"),
        (
            "of another namespace",
            of(vec![simple("web/exact", 1, &["reviews"])]),
            "shop",
            "",
        ),
        (
            "exact before wildcard",
            of(vec![exact(), simple("shop/wild", 1, &["*.cluster.local"])]),
            "shop",
            "shop/exact",
        ),
        (
            "the longest wildcard",
            of(vec![
                simple("shop/all", 1, &["*.local"]),
                simple("shop/long", 9, &["*.shop.svc.cluster.local"]),
            ]),
            "shop",
            "shop/long",
        ),
        (
            "the oldest",
            of(vec![exact(), simple("shop/zzz", 10, &[REVIEWS])]),
            "shop",
            "shop/zzz",
        ),
        (
            "by name",
            of(vec![simple("shop/b", 1, &[REVIEWS]), simple("web/a", 1, &[REVIEWS])]),
            "shop",
            "web/a",
        ),
        (
            "then by namespace",
            of(vec![simple("web/a", 1, &[REVIEWS]), simple("shop/a", 1, &[REVIEWS])]),
            "shop",
            "shop/a",
        ),
        (
            "a namespace's own first",
            of(vec![exact(), private("web/mine", 99)]),
            "web",
            "web/mine",
        ),
        (
            "which others do not see",
            of(vec![exact(), private("web/mine", 1)]),
            "shop",
            "shop/exact",
        ),
        (
            "then what is exported by name",
            of(vec![exact(), exported(simple("x/to-web", 99, &[REVIEWS]), &["web"])]),
            "web",
            "x/to-web",
        ),
        (
            "which comes after its own",
            of(vec![
                private("web/mine", 99),
                exported(simple("x/to-web", 1, &[REVIEWS]), &["web"]),
            ]),
            "web",
            "web/mine",
        ),
        ("to nobody", of(vec![exported(exact(), &["~"])]), "shop", ""),
        ("none without routes", of(vec![exact(), none()]), "shop", "shop/exact"),
        (
            "yet before wildcards",
            of(vec![none(), simple("shop/wild", 1, &["*.local"])]),
            "shop",
            "",
        ),
        (
            "of several hosts",
            of(vec![simple("shop/two", 1, &["ratings", "REVIEWS"])]),
            "shop",
            "shop/two",
        ),
    ] {
        assert_eq!(spoken(&services, client, "web", REVIEWS), expected, "{what}");
    }
}

#[test]
fn gateways_choose_the_mesh() {
    let through = |gateways: &[&str]| {
        let mut service = simple("shop/a", 1, &["reviews"]);
        service.gateways = gateways.iter().map(|gateway| (*gateway).into()).collect();
        services(vec![service])
    };
    for (gateways, speaks) in [
        (&[][..], true),
        (&["mesh"], true),
        (&["edge", "mesh"], true),
        (&["edge"], false),
    ] {
        assert_eq!(
            !spoken(&through(gateways), "shop", "web", REVIEWS).is_empty(),
            speaks,
            "{gateways:?}"
        );
    }
}

#[test]
fn a_match_of_another_client_is_dropped() {
    let gateways = |names: &[&str], client: ClientMatch| ClientMatch {
        gateways: names.iter().map(|name| (*name).into()).collect(),
        ..client
    };
    let namespace = |name: &str| ClientMatch {
        source_namespace: Some(name.into()),
        ..ClientMatch::default()
    };
    let port = |port| ClientMatch {
        port: Some(port),
        ..ClientMatch::default()
    };
    for (condition, of_requests, of_connections) in [
        (ClientMatch::default(), true, true),
        (labelled("web"), true, true),
        (labelled("other"), false, false),
        (namespace("shop"), true, true),
        (namespace("other"), false, false),
        (port(80), true, true),
        (port(81), false, false),
        (gateways(&["mesh"], ClientMatch::default()), true, true),
        (gateways(&["edge"], ClientMatch::default()), false, false),
        // Of requests, gateways decide in the place of the source.
        (gateways(&["edge", "mesh"], labelled("other")), true, false),
        (gateways(&["mesh"], port(81)), false, false),
    ] {
        let first = on(rule("first", &[("first", 1)]), vec![from(condition.clone())]);
        let mut service = service("shop/a", 1, &["reviews"], vec![first]);
        service.tcp = vec![ConnectionRule {
            matches: vec![Condition {
                client: condition.clone(),
                asked: TcpMatch::default(),
            }],
            to: vec![(reference("tcp"), 1)],
        }];
        let routes = compiled(&services(vec![service]), "shop", "web", REVIEWS, 80).unwrap_or_default();
        let found = (!routes.http.is_empty(), !routes.tcp.is_empty());
        assert_eq!(found, (of_requests, of_connections), "{condition:?}");
    }
}

#[test]
fn one_that_leaves_a_client_no_route_is_passed_over() {
    let selective = on(rule("", &[("a", 1)]), vec![from(labelled("other"))]);
    let services = services(vec![
        service("shop/selective", 1, &["reviews"], vec![selective]),
        simple("shop/rest", 2, &["reviews"]),
    ]);
    assert_eq!(spoken(&services, "shop", "other", REVIEWS), "shop/selective");
    assert_eq!(spoken(&services, "shop", "web", REVIEWS), "shop/rest");
}

#[test]
fn what_counts_for_a_client_has_numbers() {
    let mut selective = on(rule("", &[("a", 1)]), vec![from(labelled("a")), prefix("/b")]);
    selective.matches.extend((0..70).map(|_| from(labelled("c"))));
    let mut held = services(vec![service("shop/a", 1, &["reviews"], vec![selective])]);
    let id = |services: &VirtualServices, app: &str, namespace: &str| {
        let labels = labels(app);
        let client = Client {
            namespace,
            labels: &labels,
        };
        services.speaking(client, REVIEWS, 80, |_| true).id()
    };
    assert_eq!(id(&held, "x", "shop"), id(&held, "y", "web"));
    let ids = ["a", "c", "x"].map(|app| id(&held, app, "shop"));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    let again = held.get(&"shop".into(), &"a".into()).cloned().unwrap();
    assert!(take(&mut held, again.clone()).is_empty());
    assert_eq!(id(&held, "a", "shop"), ids[0]);
    take(&mut held, VirtualService { created: 2, ..again });
    assert_ne!(id(&held, "a", "shop"), ids[0]);
}

#[test]
fn destinations_have_their_names_ports_and_weights() {
    let list = |to: &[(&str, u32)]| {
        let services = services(vec![service("shop/a", 1, &["reviews"], vec![rule("", to)])]);
        clusters(&compiled(&services, "web", "web", REVIEWS, 80).unwrap())
    };
    let cluster = |subset: &str| format!("outbound|80|{subset}|{REVIEWS}");
    assert_eq!(list(&[("reviews/v1", 0)]), [format!("0 {}", cluster("v1"))]);
    assert_eq!(
        list(&[("reviews/v1", 90), (REVIEWS, 10), ("reviews/v3", 0)]),
        [format!("90 {}", cluster("v1")), format!("10 {}", cluster(""))]
    );
    assert_eq!(
        list(&[("reviews/v1", 0), ("reviews/v2", 0)]),
        [format!("0 {}", cluster("v1"))]
    );
    assert_eq!(list(&[("Other.shop:81", 1)]), ["1 outbound|81||other.shop"]);
}

#[test]
fn nothing_follows_what_matches_everything() {
    let named = |name: &str| rule(name, &[("a", 1)]);
    let names = |http: Vec<HttpRule>| -> Vec<String> {
        let services = services(vec![service("shop/a", 1, &["reviews"], http)]);
        let routes = compiled(&services, "shop", "web", REVIEWS, 80).unwrap();
        routes.http.iter().map(|route| route.name.to_string()).collect()
    };
    assert_eq!(names(vec![named("1"), named("2")]), ["1"]);
    assert_eq!(names(vec![on(named("1"), vec![prefix("/a")]), named("2")]), ["1", "2"]);
    assert_eq!(names(vec![on(named("1"), vec![prefix("/")]), named("2")]), ["1"]);
    assert_eq!(
        names(vec![on(named("1"), vec![from(labelled("web"))]), named("2")]),
        ["1"]
    );
}

#[test]
fn connections_have_the_routes_of_all() {
    let sni = |hosts: &[&str], to: &str| ConnectionRule {
        matches: vec![Condition {
            client: ClientMatch::default(),
            asked: TlsMatch {
                sni_hosts: hosts.iter().map(|host| (*host).into()).collect(),
                ..TlsMatch::default()
            },
        }],
        to: vec![(reference(to), 1)],
    };
    let tcp = |subnet: Option<&str>, to: &str| ConnectionRule {
        matches: vec![Condition {
            client: ClientMatch::default(),
            asked: TcpMatch {
                destination_subnets: subnet.into_iter().map(|subnet| subnet.parse().unwrap()).collect(),
                ..TcpMatch::default()
            },
        }],
        to: vec![(reference(to), 1)],
    };
    let mut first = service("shop/first", 1, &["*.shop.svc.cluster.local"], Vec::new());
    first.tls = vec![sni(&[REVIEWS], "a")];
    first.tcp = vec![tcp(Some("10.0.0.0/8"), "b")];
    let mut second = service("shop/second", 2, &["reviews"], Vec::new());
    second.tls = vec![sni(&["*"], "c")];
    second.tcp = vec![tcp(None, "d"), tcp(None, "never")];
    let mut third = service("shop/third", 3, &["reviews", "*.local"], Vec::new());
    third.tcp = vec![tcp(None, "never")];
    let routes = compiled(&services(vec![third, second, first]), "web", "web", REVIEWS, 80).unwrap();
    let to = |name: &str| format!("1 outbound|80||{name}.shop.svc.cluster.local");
    assert_eq!(clusters(&routes), ["a", "c", "b", "d"].map(to));
    assert_eq!(routes.sources, ["shop/first".into(), "shop/second".into()]);
    assert!(routes.http.is_empty());
}

#[test]
fn hosts_that_no_service_has() {
    let outside = |services: &VirtualServices, host: &str, port, known: &[&str]| {
        let labels = Labels::new();
        let client = Client {
            namespace: "web",
            labels: &labels,
        };
        let on_port = |pattern: &str| known.iter().any(|host| matches(pattern, host));
        let speaking = services.speaking_outside(client, host, port, |_| true, on_port);
        speaking.map(|speaking| speaking.requests.unwrap().name.to_string())
    };
    let services = services(vec![
        simple("shop/exact", 2, &["books.example", "reviews"]),
        simple("shop/wild", 1, &["*.example"]),
    ]);
    for (host, port, known, expected) in [
        ("books.example", 80, &[][..], Some("exact")),
        ("toys.example", 80, &[], Some("wild")),
        ("example", 80, &[], None),
        ("books.example", 8080, &[], None),
        ("books.example", 8080, &[REVIEWS], Some("exact")),
        ("toys.example", 8080, &[REVIEWS], None),
        // The wildcard is for the Service then.
        ("toys.example", 80, &["pens.example"], None),
    ] {
        assert_eq!(
            outside(&services, host, port, known).as_deref(),
            expected,
            "{host}:{port} {known:?}"
        );
    }
}

/// A root whose one route, for a path, has a delegate.
fn delegating(delegate: &str, matches: Vec<Condition<HttpMatch>>) -> VirtualService {
    let mut rule = on(rule("root", &[]), matches);
    let (namespace, name) = delegate.split_once('/').unwrap();
    rule.delegate = Some((namespace.into(), name.into()));
    service("shop/root", 1, &["reviews"], vec![rule])
}

#[test]
fn delegates_stay_within_what_delegates_to_them() {
    let header = |name: &str, value: Option<&str>| Condition {
        client: ClientMatch::default(),
        asked: HttpMatch {
            headers: vec![(name.into(), value.map(|value| StringMatch::Exact(value.into())))],
            ..HttpMatch::default()
        },
    };
    let regex = |text: &str| uri(StringMatch::Regex(super::super::Pattern::new(text).unwrap()));
    let exact = |path: &str| uri(StringMatch::Exact(path.into()));
    let port = |port| {
        from(ClientMatch {
            port: Some(port),
            ..ClientMatch::default()
        })
    };
    let namespace = |name: &str| {
        from(ClientMatch {
            source_namespace: Some(name.into()),
            ..ClientMatch::default()
        })
    };
    let gateways = |names: &[&str]| {
        from(ClientMatch {
            gateways: names.iter().map(|name| (*name).into()).collect(),
            ..ClientMatch::default()
        })
    };
    let ignoring = || {
        let mut one = prefix("/a");
        one.asked.ignore_uri_case = true;
        one
    };
    for (root, leaf, within) in [
        (vec![], vec![prefix("/b")], true),
        (vec![prefix("/a")], vec![], true),
        (vec![prefix("/a")], vec![prefix("/a/b")], true),
        (vec![prefix("/a")], vec![exact("/a/b")], true),
        (vec![prefix("/a/b")], vec![prefix("/a")], false),
        (vec![exact("/a")], vec![exact("/a")], true),
        (vec![exact("/a")], vec![exact("/b")], false),
        (vec![exact("/a")], vec![prefix("/a")], false),
        (vec![regex("/a")], vec![regex("/a")], false),
        (vec![prefix("/a")], vec![regex("/a.*")], false),
        (vec![prefix("/a")], vec![header("x", Some("1"))], true),
        (vec![header("x", Some("1"))], vec![header("x", Some("1"))], true),
        (vec![header("x", Some("1"))], vec![header("x", Some("2"))], false),
        (vec![header("x", Some("1"))], vec![header("y", Some("2"))], true),
        (vec![header("x", None)], vec![header("x", Some("2"))], false),
        (vec![prefix("/a"), prefix("/b")], vec![prefix("/b/c")], true),
        (
            vec![prefix("/a"), prefix("/b")],
            vec![prefix("/b/c"), prefix("/c")],
            false,
        ),
        (vec![prefix("/a")], vec![ignoring()], false),
        (vec![port(80)], vec![port(80)], true),
        (vec![port(80)], vec![port(81)], false),
        (vec![port(80)], vec![prefix("/")], true),
        (vec![namespace("web")], vec![namespace("web")], true),
        (vec![namespace("web")], vec![prefix("/")], false),
        (vec![prefix("/")], vec![namespace("web")], true),
        (vec![from(labelled("web"))], vec![from(labelled("web"))], true),
        (vec![from(labelled("web"))], vec![from(labelled("other"))], false),
        (vec![gateways(&["mesh", "edge"])], vec![gateways(&["mesh"])], true),
        (vec![gateways(&["mesh"])], vec![gateways(&["edge"])], false),
    ] {
        let services = services(vec![
            delegating("teams/leaf", root.clone()),
            service("teams/leaf", 1, &[], vec![on(rule("leaf", &[("a", 1)]), leaf.clone())]),
        ]);
        let effective = services.effective(&"shop".into(), &"root".into()).unwrap();
        assert_eq!(effective.http.len(), usize::from(within), "{root:?} {leaf:?}");
        assert_eq!(effective.problems.is_empty(), within);
    }
}

#[test]
fn a_delegates_route_has_what_it_says_and_else_the_roots() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let mut root = delegating("teams/leaf", vec![prefix("/a"), prefix("/b")]);
    let outer = &mut root.http[0].route;
    outer.timeout = seconds(1);
    outer.headers.request_remove = vec!["x-root".parse().unwrap()];
    outer.mirrors = vec![Mirror {
        target: reference("copy"),
        cluster: "".into(),
        percent: Percent::ALL,
    }];
    let rewrite = Rewrite {
        authority: None,
        uri: UriRewrite::Prefix("/x".into()),
    };
    outer.action = Action::Forward {
        to: Vec::new(),
        rewrite: rewrite.clone(),
    };
    let mut own = on(rule("own", &[("a", 1)]), vec![prefix("/b/c")]);
    own.route.timeout = seconds(2);
    own.route.headers.request_remove = vec!["x-leaf".parse().unwrap()];
    let leaf = service("teams/leaf", 1, &[], vec![own, rule("", &[("a", 1)])]);
    let services = services(vec![root, leaf]);
    let routes = compiled(&services, "shop", "web", REVIEWS, 80).unwrap();
    assert_eq!(routes.sources, ["shop/root".into(), "teams/leaf".into()]);
    let [own, inherits] = &routes.http[..] else {
        panic!("{routes:?}")
    };
    assert_eq!((&*own.name, own.timeout), ("root-own", seconds(2)));
    assert_eq!(own.headers.request_remove, ["x-leaf"]);
    assert_eq!(own.matches, [prefix("/b/c").asked]);
    assert_eq!((&*inherits.name, inherits.timeout), ("root", seconds(1)));
    assert_eq!(inherits.headers.request_remove, ["x-root"]);
    assert_eq!(inherits.matches, [prefix("/a").asked, prefix("/b").asked]);
    for route in [own, inherits] {
        // Short names are of the namespace of whoever wrote them.
        assert_eq!(&*route.mirrors[0].cluster, "outbound|80||copy.shop.svc.cluster.local");
        let Action::Forward { to, rewrite: found } = &route.action else {
            panic!()
        };
        assert_eq!(
            (&*to[0].cluster, found),
            ("outbound|80||a.teams.svc.cluster.local", &rewrite)
        );
    }
}

#[test]
fn delegates_come_and_go() {
    let mut held = services(vec![delegating("teams/leaf", Vec::new())]);
    let problem = |services: &VirtualServices| {
        let effective = services.effective(&"shop".into(), &"root".into()).unwrap();
        (effective.http.len(), effective.problems.join("; "))
    };
    assert_eq!(
        problem(&held),
        (
            0,
            "http[0].delegate teams/leaf: there is no VirtualService of that name without hosts".to_owned()
        )
    );
    let leaf = || service("teams/leaf", 1, &[], vec![rule("", &[("a", 1)])]);
    assert_eq!(take(&mut held, leaf()), [REVIEWS.into()]);
    assert_eq!(problem(&held), (1, String::new()));
    assert_eq!(spoken(&held, "shop", "web", REVIEWS), "shop/root,teams/leaf");
    take(&mut held, exported(leaf(), &["."]));
    assert_eq!(
        problem(&held),
        (
            0,
            "http[0].delegate teams/leaf: its exportTo leaves this namespace out".to_owned()
        )
    );
    take(&mut held, exported(leaf(), &["shop"]));
    assert_eq!(problem(&held), (1, String::new()));
    assert_eq!(
        held.set(&"teams".into(), &"leaf".into(), None, DOMAIN),
        [REVIEWS.into()]
    );
    assert_eq!(problem(&held).0, 0);
    assert_eq!(held.set(&"shop".into(), &"root".into(), None, DOMAIN), [REVIEWS.into()]);
    assert!(held.naming(REVIEWS).next().is_none());
}

#[test]
fn a_direct_response_of_the_root_answers_for_its_delegate() {
    let mut root = delegating("teams/leaf", Vec::new());
    root.http[0].route.action = Action::Direct(Direct {
        status: 503,
        body: "".into(),
        text: true,
    });
    let services = services(vec![root, service("teams/leaf", 1, &[], vec![rule("", &[("a", 1)])])]);
    let routes = compiled(&services, "shop", "web", REVIEWS, 80).unwrap();
    assert_eq!(clusters(&routes), ["direct 503"]);
}

#[test]
fn the_meshs_retries_hold_where_a_route_has_none() {
    let retries = |attempts| Retries {
        attempts,
        per_try_timeout: None,
        on: RetryOn::default(),
        remote_localities: false,
        avoid_previous: true,
        backoff: super::super::Backoff {
            base: Duration::from_millis(25),
        },
    };
    let mut own = on(rule("", &[("a", 1)]), vec![prefix("/a")]);
    own.route.retries = Some(retries(7));
    let services = services(vec![service(
        "shop/a",
        1,
        &["reviews"],
        vec![own, rule("", &[("a", 1)])],
    )]);
    let nobody = Labels::new();
    let client = Client {
        namespace: "shop",
        labels: &nobody,
    };
    let speaking = services.speaking(client, REVIEWS, 80, |_| true);
    let attempts = |mesh: Option<&Retries>| -> Vec<Option<u32>> {
        let routes = speaking.compile(mesh, anywhere).unwrap();
        let of = |route: &HttpRoute| route.retries.as_ref().map(|retries| retries.attempts);
        routes.http.iter().map(of).collect()
    };
    assert_eq!(attempts(None), [Some(7), None]);
    assert_eq!(attempts(Some(&retries(1))), [Some(7), Some(1)]);
}

#[test]
fn references_say_where_they_stand() {
    let mut service = service(
        "shop/a",
        1,
        &["reviews"],
        vec![rule("", &[("a/v1", 0)]), rule("", &[("a", 9), ("b:81", 0)])],
    );
    service.http[0].route.mirrors = vec![Mirror {
        target: reference("c"),
        cluster: "".into(),
        percent: Percent::ALL,
    }];
    service.tcp = vec![ConnectionRule {
        matches: Vec::new(),
        to: vec![(reference("d"), 0)],
    }];
    let services = services(vec![service]);
    let effective = services.effective(&"shop".into(), &"a".into()).unwrap();
    let found = effective.references().map(|(field, reference, weight)| {
        let host = reference.host.strip_suffix(".shop.svc.cluster.local").unwrap();
        format!("{field} {host} {weight}")
    });
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            "http[0].route[0] a 1",
            "http[0].mirrors[0] c 0",
            "http[1].route[0] a 9",
            "http[1].route[1] b 0",
            "tcp[0].route[0] d 1",
        ]
    );
}
