//! The ledger, fed with what sidecars might report.

use mesh_core::authorization::policy::{Action, Policy, Target};
use mesh_core::labels::{Labels, Selector};
use mesh_wire::reports::{PlaintextPort, Record, Report, Seen, SeenKind};

use super::ledger::{Caller, Ledger, SILENCE};
use crate::index::World;
use crate::index::changes::Named;
use crate::index::records::PodRecord;
use crate::index::resolve::named;

const ROOT: &str = "istio-system";
const NOW: u64 = 1_000_000 * 60;

fn record(name: &str, address: &str, host: bool) -> PodRecord {
    let (own, of_host) = if host {
        (None, Some(address))
    } else {
        (Some(address), None)
    };
    let parsed = |text: Option<&str>| text.into_iter().filter_map(|text| text.parse().ok()).collect();
    PodRecord {
        addresses: parsed(own),
        host_addresses: parsed(of_host),
        service_account: name.into(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        workload: name.into(),
        injected: !host,
        uses_certificate: !host,
        told_serial: None,
        created: 0,
        node: None,
        ready: true,
    }
}

fn allow(name: &str, namespace: &str, app: Option<&str>, dry_run: bool) -> (Target, Policy) {
    let labels: Labels = app.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect();
    let target = Target {
        selector: Selector(labels),
        refs: false,
    };
    let policy = Policy {
        namespace: namespace.into(),
        name: name.into(),
        action: Action::Allow,
        rules: Vec::new(),
        dry_run,
    };
    (target, policy)
}

fn world() -> World {
    let mut world = World::default();
    world.pod(&named("shop", "web"), Some(record("web", "10.0.0.1", false)));
    world.pod(&named("shop", "legacy"), Some(record("legacy", "10.0.0.9", false)));
    world.pod(
        &named("kube-system", "agent"),
        Some(record("agent", "172.16.0.1", true)),
    );
    for (name, namespace, app, dry_run) in [
        ("web", "shop", Some("web"), false),
        ("db", "shop", Some("db"), false),
        ("all", ROOT, None, false),
        ("next", "shop", Some("web"), true),
    ] {
        let policy = allow(name, namespace, app, dry_run);
        world.authorization_policy(&named(namespace, name), Some(policy), ROOT);
    }
    world
}

fn seen(kind: SeenKind, policy: &str, address: &str, count: u64) -> Seen {
    Seen {
        kind: kind.into(),
        policy: policy.into(),
        address: address.into(),
        port: 80,
        count,
        last: NOW,
        ..Seen::default()
    }
}

fn report(id: u64, seen: Vec<Seen>) -> Report {
    Report {
        namespace: "shop".into(),
        pod: "web".into(),
        id,
        seconds: 10,
        seen,
        ..Report::default()
    }
}

fn web() -> Named {
    named("shop", "web")
}

#[test]
fn a_denial_counts_for_its_policy_and_a_miss_for_all_that_allow() {
    let (ledger, world) = (Ledger::default(), world());
    let told = vec![
        seen(SeenKind::Denied, "AuthorizationPolicy/shop/deny", "10.0.0.9", 2),
        seen(SeenKind::Denied, "AuthorizationPolicy", "10.0.0.9", 3),
        seen(SeenKind::WouldDeny, "AuthorizationPolicy/shop/next", "10.0.0.9", 5),
    ];
    let entered = ledger.enter(NOW, &report(1, told.clone()), &web(), &world, ROOT);
    assert_eq!((entered.counted, entered.dropped), ([5, 5, 0], 0));
    assert!(ledger.enter(NOW, &report(1, told), &web(), &world, ROOT).repeated);
    let denials = |now, namespace, name| ledger.denials(now, "AuthorizationPolicy", namespace, name);
    for (namespace, name, expected) in [
        ("shop", "deny", 2),
        ("shop", "web", 3),
        (ROOT, "all", 3),
        ("shop", "db", 0),
        ("shop", "next", 0),
    ] {
        assert_eq!(denials(NOW, namespace, name), expected, "{namespace}/{name}");
        assert_eq!(denials(NOW + 3600, namespace, name), 0);
    }
    let rows = ledger.would_deny(NOW, "", "AuthorizationPolicy/shop/next");
    assert_eq!((rows.len(), rows[0].count, &*rows[0].destination.1), (1, 5, "web"));
}

#[test]
fn a_caller_is_named_by_what_has_its_address() {
    let (ledger, world) = (Ledger::default(), world());
    let told = ["10.0.0.9", "172.16.0.1", "192.0.2.1"].map(|address| seen(SeenKind::Plaintext, "", address, 1));
    ledger.enter(NOW, &report(1, told.into()), &web(), &world, ROOT);
    let mut callers: Vec<String> = ledger
        .plaintext(NOW, "shop")
        .iter()
        .map(|row| row.source.to_string())
        .collect();
    callers.sort();
    assert_eq!(
        callers,
        [
            "192.0.2.1, which no pod has",
            "node or host-network pod at 172.16.0.1",
            "pod shop/legacy (10.0.0.9)"
        ]
    );
    let mut world = world;
    world.pod(&named("shop", "legacy"), None);
    let late = vec![seen(SeenKind::Plaintext, "", "10.0.0.9", 0)];
    ledger.enter(NOW, &report(2, late), &web(), &world, ROOT);
    let named_still = |row: &super::Row| row.source.to_string() == "pod shop/legacy (10.0.0.9)";
    assert!(
        ledger.plaintext(NOW, "shop").iter().any(named_still),
        "it has gone since"
    );
    let of_deployment = Caller::Pod {
        pod: named("shop", "legacy-1"),
        workload: "legacy".into(),
        address: [10, 0, 0, 9].into(),
    };
    assert_eq!(of_deployment.to_string(), "pod shop/legacy-1 of legacy (10.0.0.9)");
}

#[test]
fn what_makes_no_sense_is_dropped() {
    let (ledger, world) = (Ledger::default(), world());
    let told = vec![
        seen(SeenKind::Invalid, "", "10.0.0.9", 1),
        seen(SeenKind::Plaintext, "", "somewhere", 1),
        seen(SeenKind::Plaintext, "AuthorizationPolicy", "10.0.0.9", 1),
        seen(SeenKind::Denied, "AuthorizationPolicy/other/deny", "10.0.0.9", 1),
        seen(SeenKind::Denied, "AuthorizationPolicy/shop", "10.0.0.9", 1),
        seen(SeenKind::Denied, "AuthorizationPolicy/shop/a/b", "10.0.0.9", 1),
        seen(SeenKind::Denied, "", "10.0.0.9", 1),
    ];
    let count = told.len() as u64;
    let entered = ledger.enter(NOW, &report(1, told), &web(), &world, ROOT);
    assert_eq!((entered.counted, entered.dropped), ([0; 3], count));
    assert_eq!(ledger.size().rows, 0);
}

#[test]
fn a_namespace_has_no_more_than_its_room_and_the_ledger_none_for_older_things() {
    let (ledger, world) = (Ledger::default(), world());
    let mut dropped = 0;
    for at in 0..10_u8 {
        let told = (0..=255_u8).flat_map(|third| {
            (0..2_u8).map(move |last| seen(SeenKind::Plaintext, "", &format!("10.{at}.{third}.{last}"), 1))
        });
        let entered = ledger.enter(NOW, &report(at.into(), told.collect()), &web(), &world, ROOT);
        dropped += entered.dropped;
    }
    assert_eq!((ledger.size().rows, dropped), (4_000, 10 * 512 - 4_000));
    ledger.enter(NOW + 7200, &report(100, Vec::new()), &web(), &world, ROOT);
    let size = ledger.size();
    assert_eq!((size.rows, size.reporters, size.dropped), (0, 1, dropped));
}

#[test]
fn records_are_bounded_by_namespace() {
    let (ledger, world) = (Ledger::default(), world());
    for at in 0..10 {
        let mut told = report(at, Vec::new());
        told.records = vec![Record::default(); 32];
        ledger.enter(NOW, &told, &web(), &world, ROOT);
    }
    assert_eq!(ledger.records(Some("shop")).len(), 128);
    assert_eq!(ledger.records(Some("other")).len(), 0);
    assert_eq!(ledger.records(None).len(), 128);
}

#[test]
fn it_is_known_up_to_when_a_sidecar_has_told() {
    let (ledger, world) = (Ledger::default(), world());
    let reporter = |now, report: Report| {
        ledger.enter(now, &report, &web(), &world, ROOT);
        let (_, reporter) = ledger.reporters("shop").pop().unwrap();
        (reporter.told_until, reporter.unknown_until)
    };
    assert_eq!(reporter(NOW, report(1, Vec::new())), (NOW, 0));
    // It was away for ten minutes, and tells of all of them.
    let mut told = report(2, Vec::new());
    told.seconds = 600;
    told.age = 5;
    assert_eq!(reporter(NOW + 605, told), (NOW + 600, 0));
    // A process that ended without a word, and one that began later.
    let later = NOW + 600 + SILENCE + 11;
    assert_eq!(reporter(later, report(3, Vec::new())), (later, later - 10));
}

#[test]
fn whoever_calls_in_the_clear_is_known_by_port() {
    let (ledger, world) = (Ledger::default(), world());
    let mut told = report(1, vec![seen(SeenKind::Plaintext, "", "10.0.0.9", 1)]);
    told.plaintext = vec![
        PlaintextPort {
            port: 80,
            last: NOW - 5,
        },
        PlaintextPort {
            port: 81,
            last: NOW - 50,
        },
        PlaintextPort {
            port: 82,
            last: NOW + 5000,
        },
    ];
    ledger.enter(NOW, &told, &web(), &world, ROOT);
    let (_, reporter) = ledger.reporters("shop").pop().unwrap();
    assert_eq!(reporter.plaintext, [(80, NOW), (81, NOW - 50), (82, NOW)]);
    // Another process of the pod knows nothing of it.
    ledger.enter(NOW + 10, &report(2, Vec::new()), &web(), &world, ROOT);
    let (_, reporter) = ledger.reporters("shop").pop().unwrap();
    assert_eq!(reporter.plaintext[0], (80, NOW));
    ledger.forget_sidecars();
    assert!(ledger.reporters("shop").is_empty() && ledger.size().rows == 1);
}
