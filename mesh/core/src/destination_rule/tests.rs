use super::*;
use crate::client_tls::{ClientTls, MeshNames};

const DOMAIN: &str = "cluster.local";
const REVIEWS: &str = "reviews.shop.svc.cluster.local";

fn policy(tls: ClientTls) -> TrafficPolicy {
    TrafficPolicy {
        tls: Some(Arc::new(tls)),
        ..TrafficPolicy::default()
    }
}

fn rule(key: &str, host: &str) -> Rule {
    let (namespace, name) = key.split_once('/').unwrap();
    Rule {
        namespace: namespace.into(),
        name: name.into(),
        created: 10,
        host: host.to_owned(),
        export_to: Export::everywhere(),
        selector: None,
        policy: Some(policy(ClientTls::Disable)),
        subsets: Vec::new(),
    }
}

fn exported(mut rule: Rule, to: &[&str]) -> Rule {
    rule.export_to = Export {
        public: to.contains(&"*"),
        own: to.contains(&"."),
        namespaces: to
            .iter()
            .filter(|to| !["*", "."].contains(*to))
            .map(|to| (*to).to_owned())
            .collect(),
    };
    rule
}

fn selecting(mut rule: Rule, app: &str) -> Rule {
    rule.selector = Some(Selector([("app".to_owned(), app.to_owned())].into()));
    rule
}

fn rules(list: Vec<Rule>) -> Rules {
    let mut rules = Rules::default();
    for rule in list {
        let (namespace, name) = (rule.namespace.clone(), rule.name.clone());
        assert!(rules.set(&namespace, &name, Some(rule), DOMAIN));
    }
    rules
}

/// The names of the rules that govern `app=web` of a namespace.
fn governing(rules: &Rules, client: &str, host: &str) -> Option<String> {
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let service = host.split('.').nth(1).unwrap_or_default();
    let place = Place {
        client,
        labels: &labels,
        host,
        service,
        root: "istio-system",
    };
    rules.governing(&place).map(Merged::id)
}

#[test]
fn hosts_resolve_in_the_rules_namespace() {
    for (host, resolved) in [
        ("reviews", REVIEWS),
        ("Reviews", REVIEWS),
        ("reviews.shop", "reviews.shop"),
        (REVIEWS, REVIEWS),
        ("reviews.shop.svc.cluster.local.", REVIEWS),
        ("*.shop.svc.cluster.local", "*.shop.svc.cluster.local"),
        ("*.local", "*.local"),
        ("*", "*"),
        ("10.0.0.1", "10.0.0.1"),
    ] {
        assert_eq!(resolve_host(host, "shop", DOMAIN), resolved, "{host}");
    }
}

#[test]
fn the_most_specific_host_of_a_namespace_governs() {
    let all = [
        "*",
        "*.local",
        "*.svc.cluster.local",
        "*.shop.svc.cluster.local",
        "*views.shop.svc.cluster.local",
        "reviews",
    ];
    // With the last one gone the one before it governs, down to none.
    for count in (0..=all.len()).rev() {
        let list = all[..count].iter().enumerate();
        let rules = rules(list.map(|(at, host)| rule(&format!("shop/r{at}"), host)).collect());
        let expected = count.checked_sub(1).map(|last| format!("shop/r{last}"));
        assert_eq!(governing(&rules, "shop", REVIEWS), expected);
    }
    let rules = rules(vec![
        rule("shop/a", "*.other.svc.cluster.local"),
        rule("shop/b", "ratings"),
    ]);
    assert_eq!(governing(&rules, "shop", REVIEWS), None);
}

#[test]
fn the_clients_namespace_then_the_services_then_the_root_ones() {
    let cases: [(&str, Vec<Rule>, &str, Option<&str>); 14] = [
        ("nothing", vec![], "web", None),
        (
            "a wildcard of the client's namespace before the Service's own exact host",
            vec![
                rule("web/r", "*.local"),
                rule("shop/r", "reviews"),
                rule("istio-system/r", "*.local"),
            ],
            "web",
            Some("web/r"),
        ),
        (
            "the Service's namespace before the root namespace",
            vec![rule("shop/r", "*.local"), rule("istio-system/r", REVIEWS)],
            "web",
            Some("shop/r"),
        ),
        (
            "the root namespace",
            vec![rule("istio-system/r", "*.local")],
            "web",
            Some("istio-system/r"),
        ),
        ("a third namespace", vec![rule("other/r", REVIEWS)], "web", None),
        (
            "kept to its namespace",
            vec![exported(rule("shop/r", "reviews"), &["."])],
            "web",
            None,
        ),
        (
            "kept to its namespace",
            vec![exported(rule("shop/r", "reviews"), &["."])],
            "shop",
            Some("shop/r"),
        ),
        (
            "to others alone",
            vec![exported(rule("shop/r", "reviews"), &["web"])],
            "shop",
            None,
        ),
        (
            "to others alone",
            vec![exported(rule("shop/r", "reviews"), &["web"])],
            "web",
            Some("shop/r"),
        ),
        (
            "to others alone",
            vec![exported(rule("shop/r", "reviews"), &["web"])],
            "third",
            None,
        ),
        (
            "a more specific host that is not exported hides nothing of the next namespace",
            vec![
                exported(rule("shop/r", "reviews"), &["."]),
                rule("istio-system/r", "*.local"),
            ],
            "web",
            Some("istio-system/r"),
        ),
        (
            "a client of the root namespace: the Service's before the mesh's",
            vec![rule("shop/r", "reviews"), rule("istio-system/r", "*.local")],
            "istio-system",
            Some("shop/r"),
        ),
        (
            "a client of the root namespace: what it keeps to itself first",
            vec![
                rule("shop/r", "reviews"),
                exported(rule("istio-system/r", "*.local"), &["."]),
            ],
            "istio-system",
            Some("istio-system/r"),
        ),
        (
            "a short name means the rule's namespace",
            vec![rule("web/r", "reviews")],
            "web",
            None,
        ),
    ];
    for (what, list, client, expected) in cases {
        assert_eq!(
            governing(&rules(list), client, REVIEWS).as_deref(),
            expected,
            "{what}, from {client}"
        );
    }
}

#[test]
fn a_selector_is_for_clients_of_its_own_namespace() {
    let selected = || selecting(rule("web/b-selected", REVIEWS), "web");
    let general = || rule("web/a-general", REVIEWS);
    for (list, client, expected) in [
        (vec![general(), selected()], "web", Some("web/b-selected")),
        (
            vec![general(), selecting(selected(), "api")],
            "web",
            Some("web/a-general"),
        ),
        // As in Istio: a namespace with a rule for the host asks no other, although its rule selects somebody else.
        (vec![selecting(selected(), "api"), rule("shop/r", REVIEWS)], "web", None),
        (vec![selecting(rule("shop/r", REVIEWS), "web")], "web", None),
        (
            vec![selecting(exported(rule("shop/r", REVIEWS), &["*"]), "web")],
            "web",
            None,
        ),
    ] {
        assert_eq!(governing(&rules(list), client, REVIEWS).as_deref(), expected);
    }
}

#[test]
fn rules_for_one_host_are_merged_from_the_oldest_on() {
    let subset = |rule: &str, name: &str, version: &str| Subset {
        rule: rule.into(),
        name: name.to_owned(),
        labels: [("version".to_owned(), version.to_owned())].into(),
        policy: None,
    };
    let mut oldest = rule("shop/z-oldest", "reviews");
    oldest.created = 1;
    oldest.policy = None;
    oldest.subsets = vec![subset("z-oldest", "v1", "1")];
    let mut second = rule("shop/second", REVIEWS);
    second.created = 2;
    second.policy = Some(policy(ClientTls::IstioMutual(MeshNames::default())));
    second.subsets = vec![subset("second", "v1", "of the second"), subset("second", "v2", "2")];
    let mut third = rule("shop/a-third", REVIEWS);
    third.created = 3;
    let apart = exported(rule("shop/apart", REVIEWS), &["."]);
    let rules = rules(vec![third, second, oldest, apart]);
    assert_eq!(
        governing(&rules, "web", REVIEWS).as_deref(),
        Some("shop/z-oldest,shop/second,shop/a-third")
    );
    let merged = rules.merged("shop", "a-third").unwrap();
    assert_eq!(
        merged.subsets,
        [subset("z-oldest", "v1", "1"), subset("second", "v2", "2")]
    );
    let (from, in_force) = merged.policy.as_ref().unwrap();
    assert_eq!(
        (&**from, in_force.tls.as_ref().unwrap().mode()),
        ("second", "ISTIO_MUTUAL")
    );
    let parts: Vec<_> = merged
        .parts
        .iter()
        .map(|part| (&*part.name, part.policy, part.subsets, part.repeated.len()))
        .collect();
    assert_eq!(
        parts,
        [
            ("z-oldest", true, 1, 0),
            ("second", true, 1, 1),
            ("a-third", false, 0, 0)
        ]
    );
    assert_eq!(rules.merged("shop", "apart").unwrap().parts.len(), 1);
}

#[test]
fn a_ports_settings_take_the_place_of_all_others() {
    let mut policy = policy(ClientTls::Disable);
    policy.ports.insert(
        443,
        PortPolicy {
            tls: Some(Arc::new(ClientTls::Simple(Default::default()))),
            ..PortPolicy::default()
        },
    );
    policy.ports.insert(9090, PortPolicy::default());
    for (port, mode) in [(80, Some("DISABLE")), (443, Some("SIMPLE")), (9090, None)] {
        assert_eq!(policy.tls_on(port).map(|tls| tls.mode()), mode, "{port}");
    }
}

#[test]
fn what_changes_nothing_says_so_and_what_is_gone_is_gone() {
    let mut rules = rules(vec![rule("shop/r", "reviews")]);
    let (namespace, name): (Arc<str>, Arc<str>) = ("shop".into(), "r".into());
    assert!(!rules.set(&namespace, &name, Some(rule("shop/r", "reviews")), DOMAIN));
    assert!(rules.set(&namespace, &name, Some(rule("shop/r", "*.local")), DOMAIN));
    assert_eq!(rules.get("shop", "r").unwrap().host, "*.local");
    assert!(rules.set(&namespace, &name, None, DOMAIN));
    assert!(!rules.set(&namespace, &name, None, DOMAIN));
    assert_eq!((rules.all().count(), governing(&rules, "shop", REVIEWS)), (0, None));
}

#[test]
fn another_domain_of_the_cluster_resolves_hosts_anew() {
    let mut rules = rules(vec![rule("shop/r", "reviews")]);
    rules.set_cluster_domain("mesh.example");
    assert_eq!(governing(&rules, "shop", REVIEWS), None);
    assert!(governing(&rules, "shop", "reviews.shop.svc.mesh.example").is_some());
}
