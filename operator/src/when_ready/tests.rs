//! A namespace watched through what its sidecars report, on a clock of the test's own.

use std::time::Duration;

use mesh_core::labels::{Labels, Selector};
use mesh_core::peer_authentication::{Mode, Policy};
use mesh_wire::reports::{Report, Seen, SeenKind};

use super::decide::State;
use super::memory::{Look, Memory};
use crate::index::records::PodRecord;
use crate::index::resolve::named;
use crate::index::{MeshFacts, World};
use crate::mesh_config::facts;
use crate::reports::Ledger;

const ROOT: &str = "istio-system";
const QUIET: Duration = Duration::from_secs(3600);
const START: u64 = 1_000_000 * 60;

/// The namespace `shop`.
struct Shop {
    world: World,
    mesh: MeshFacts,
    ledger: Ledger,
    memory: Memory,
    now: u64,
    reports: u64,
    strict: bool,
}

impl Shop {
    fn new() -> Self {
        let mut shop = Self {
            world: World::default(),
            mesh: facts(&mesh_api::MeshConfig::default(), ROOT, "cluster.local", None),
            ledger: Ledger::default(),
            memory: Memory::default(),
            now: START,
            reports: 0,
            strict: false,
        };
        shop.pod("web", "10.0.0.1", true);
        shop.pod("legacy", "10.0.0.9", false);
        shop
    }

    fn pod(&mut self, name: &str, address: &str, sidecar: bool) {
        let record = PodRecord {
            addresses: vec![address.parse().unwrap()],
            host_addresses: Vec::new(),
            service_account: name.into(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            workload: name.into(),
            injected: sidecar,
            uses_certificate: sidecar,
            told_serial: None,
            created: 0,
            node: None,
            ready: true,
        };
        self.world.pod(&named("shop", name), Some(record));
    }

    fn policy(&mut self, name: &str, app: Option<&str>, mode: Mode, port: Option<(u16, Mode)>) {
        let labels: Labels = app.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect();
        let policy = Policy {
            namespace: "shop".into(),
            name: name.into(),
            created: 1,
            selector: Selector(labels),
            mode,
            ports: port.into_iter().collect(),
        };
        self.world.policy(&named("shop", name), Some(policy), ROOT);
    }

    /// A report of a sidecar: of ten seconds, or of calls in the clear on a port within them.
    fn tells(&mut self, pod: &str, called: Option<u16>, ends: bool) {
        self.reports += 1;
        let seen = called.map(|port| Seen {
            kind: SeenKind::Plaintext.into(),
            address: "10.0.0.9".into(),
            port: port.into(),
            count: 1,
            last: self.now,
            ..Seen::default()
        });
        let report = Report {
            namespace: "shop".into(),
            pod: pod.into(),
            id: self.reports,
            seconds: 10,
            seen: seen.into_iter().collect(),
            ends,
            ..Report::default()
        };
        self.ledger
            .enter(self.now, &report, &named("shop", pod), &self.world, ROOT);
    }

    fn look(&mut self) -> Look {
        let namespace = named("shop", mesh_api::when_ready::POLICY);
        let known = (&self.world, &self.mesh);
        self.memory
            .look(self.now, QUIET, self.strict, &namespace, &self.ledger, known)
    }

    /// So many seconds of which these sidecars tell.
    fn after(&mut self, seconds: u64, pods: &[&str]) -> Look {
        for _ in 0..seconds / 10 {
            self.now += 10;
            for pod in pods {
                self.tells(pod, None, false);
            }
            self.look();
        }
        self.look()
    }
}

#[test]
fn a_caller_is_named_and_after_it_has_gone_strict_comes() {
    let mut shop = Shop::new();
    assert_eq!(shop.look().decision.state, State::Quiet, "it has told nothing yet");
    shop.now += 91;
    let silent = State::NotReporting(vec!["web".into()]);
    assert_eq!(shop.look().decision.state, silent, "and takes too long");
    shop.now += 30;
    shop.tells("web", Some(80), false);
    let look = shop.look();
    assert_eq!(look.decision.state, State::Callers);
    assert_eq!(look.news, ["pod shop/legacy (10.0.0.9) -> web:80"]);
    let progress = look.progress.unwrap();
    assert_eq!((progress.holds, progress.reason), (false, "PlaintextCallers"));
    let caller = &progress.callers[0];
    assert_eq!((caller.workload.as_str(), caller.port), ("web", 80));
    let look = shop.after(3590, &["web"]);
    assert_eq!(look.decision.state, State::Callers);
    assert!(look.news.is_empty(), "it was named before");
    assert_eq!(shop.after(10, &["web"]).decision.state, State::Ready);
    shop.strict = true;
    let look = shop.after(60, &["web"]);
    assert_eq!(look.decision.state, State::Strict);
}

#[test]
fn a_port_that_strict_would_leave_alone_does_not_count() {
    let mut shop = Shop::new();
    shop.policy("legacy-port", Some("web"), Mode::Unset, Some((81, Mode::Permissive)));
    shop.tells("web", None, false);
    shop.look();
    for _ in 0..360 {
        shop.now += 10;
        shop.tells("web", Some(81), false);
        shop.look();
    }
    let look = shop.look();
    assert_eq!(look.decision.state, State::Ready);
    assert!(look.news.is_empty());
}

#[test]
fn what_its_owner_wrote_stands() {
    let mut shop = Shop::new();
    shop.tells("web", None, false);
    shop.policy("default", None, Mode::Permissive, None);
    assert_eq!(shop.look().decision.state, State::Conflict("shop/default".into()));
    shop.world.policy(&named("shop", "default"), None, ROOT);
    shop.policy("web", Some("web"), Mode::Unset, None);
    assert_eq!(shop.look().decision.state, State::Quiet);
    let mesh = Policy {
        namespace: ROOT.into(),
        name: "default".into(),
        created: 1,
        selector: Selector::default(),
        mode: Mode::Disable,
        ports: std::collections::BTreeMap::new(),
    };
    shop.world.policy(&named(ROOT, "default"), Some(mesh), ROOT);
    assert_eq!(shop.look().decision.state, State::PlaintextOnly("web".into()));
}

#[test]
fn a_sidecar_that_says_that_it_ends_is_not_missed_and_another_is() {
    for (last_word, silent_for, missing) in [(true, 10, 3510), (false, 10, 3510), (false, 200, 3600)] {
        let mut shop = Shop::new();
        shop.pod("db", "10.0.0.2", true);
        for pod in ["web", "db"] {
            shop.tells(pod, None, false);
        }
        shop.look();
        shop.after(90, &["web", "db"]);
        if last_word {
            shop.tells("db", None, true);
        }
        shop.after(silent_for, &["web"]);
        shop.world.pod(&named("shop", "db"), None);
        let look = shop.look();
        let expected = if missing == 3600 { 3600 } else { missing - silent_for };
        assert_eq!(look.decision.missing, expected, "{last_word} {silent_for}");
    }
}

#[test]
fn another_leader_goes_on_from_the_status() {
    let mut shop = Shop::new();
    shop.tells("web", Some(80), false);
    let shown = shop.look().progress.unwrap();
    shop.after(120, &["web"]);
    let mut status = mesh_api::status::Status::default();
    mesh_api::when_ready::show(&mut status, &shown, None, &mesh_api::when_ready::time(0));
    shop.memory = Memory::new(mesh_api::when_ready::shown(&status));
    shop.ledger.forget_sidecars();
    assert_eq!(
        shop.look().decision.missing,
        3600,
        "nobody has told the new leader anything"
    );
    shop.tells("web", None, false);
    let look = shop.look();
    assert_eq!((look.decision.state, look.decision.missing), (State::Callers, 3480));
    assert!(look.news.is_empty(), "its caller was named before");
    assert_eq!(shop.after(3480, &["web"]).decision.state, State::Ready);
}

#[test]
fn a_status_is_written_seldom() {
    let mut shop = Shop::new();
    let mut written = 0;
    for second in 0..600 {
        shop.now += 1;
        shop.tells("web", (second % 2 == 0).then_some(80), false);
        written += usize::from(shop.look().progress.is_some());
    }
    assert!(written <= 21, "{written}");
}
