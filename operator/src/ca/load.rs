//! Follows the Secrets of the authority and publishes the one to use. A Secret that is damaged, expired, or would make
//! running pods refuse each other is an error that is shown; the authority that was loaded before stays in force.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::authority::Authority;
use super::change::{Change, change};
use super::store::{GIVEN, Mark, OWN, read};
use crate::kubernetes::watch::{Change as Event, follow};
use crate::metrics::Metrics;

/// How long new roots are published before certificates are issued under them: longer than a kubelet takes to put a
/// changed Secret into its pods (its sync period of a minute and its cache), and far longer than a discovery stream.
pub const PUBLISHED_BEFORE: Duration = Duration::from_secs(120);

/// Where the authority in force is published.
#[derive(Debug)]
pub struct Publish {
    /// With where it comes from.
    pub loaded: watch::Sender<Option<Loaded>>,
    /// The authority alone, which is all that most need.
    pub authority: watch::Sender<Option<Arc<Authority>>>,
}

/// An authority in force.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What signs.
    pub authority: Arc<Authority>,
    /// Whether it comes from `cacerts`.
    pub given: bool,
}

/// What is known of a Secret.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Whether its watch has said whether it is there.
    listed: bool,
    secret: Option<Secret>,
}

/// What is known of both.
#[derive(Debug, Clone, Default)]
struct Both {
    given: Seen,
    own: Seen,
}

/// What to do.
#[derive(Debug)]
enum Step {
    /// Nothing is known yet, or there is nothing.
    Stay,
    /// What is there is in force.
    Fine,
    /// Issue from this one.
    Use(Loaded),
    /// Publish the roots of this one while the one in force issues, and use it when that has lasted.
    Publish {
        /// The one in force, with the new roots.
        meanwhile: Loaded,
        /// The one to come.
        next: Loaded,
    },
    /// What is there cannot be used, for this reason; `meanwhile` is what to use where nothing is loaded yet.
    Refuse {
        /// The Secret.
        secret: &'static str,
        /// A sentence.
        reason: String,
        /// What the running pods trust.
        meanwhile: Option<Loaded>,
    },
}

/// Decides by what was read; pure.
fn decide(both: &Both, in_force: Option<&Loaded>, now: SystemTime) -> Step {
    if !both.given.listed || !both.own.listed {
        return Step::Stay;
    }
    let Some(given) = &both.given.secret else {
        return own_alone(both.own.secret.as_ref(), in_force, now);
    };
    // An operator that starts knows by the mark what the running pods trust.
    let marked = both
        .own
        .secret
        .as_ref()
        .filter(|own| in_force.is_none() && Mark::of(own) == Some(Mark::InForce))
        .and_then(|own| read(own, now).ok())
        .map(|authority| Loaded {
            authority: Arc::new(authority),
            given: false,
        });
    let trusted = in_force.or(marked.as_ref());
    match read(given, now) {
        Ok(next) => replace(GIVEN, trusted, next, in_force.is_none()),
        Err(reason) => Step::Refuse {
            secret: GIVEN,
            reason: reason.to_string(),
            meanwhile: marked,
        },
    }
}

fn own_alone(own: Option<&Secret>, in_force: Option<&Loaded>, now: SystemTime) -> Step {
    let superseded = in_force.is_none() && own.and_then(Mark::of) == Some(Mark::Superseded);
    let given = in_force.filter(|held| held.given);
    // Under the same root there is a way back that nobody notices.
    if let Some(next) = given.zip(own).and_then(|(held, own)| {
        let next = read(own, now).ok()?;
        (change(Some(&held.authority), &next) == Change::Replace).then_some(next)
    }) {
        return Step::Use(Loaded {
            authority: Arc::new(next),
            given: false,
        });
    }
    if superseded || given.is_some() {
        return Step::Refuse {
            secret: GIVEN,
            reason: format!(
                "it is gone, and certificates were issued from it; put it back, or, to go back to the root of {OWN}, \
                 make a {GIVEN} of its keys that holds both roots"
            ),
            meanwhile: None,
        };
    }
    let Some(own) = own else { return Step::Stay };
    match read(own, now) {
        Ok(next) => replace(OWN, in_force, next, in_force.is_none()),
        Err(reason) => Step::Refuse {
            secret: OWN,
            reason: reason.to_string(),
            meanwhile: None,
        },
    }
}

/// `fresh` says that nothing is loaded, so that what the running pods trust has to be loaded too.
fn replace(secret: &'static str, trusted: Option<&Loaded>, next: Authority, fresh: bool) -> Step {
    let given = secret == GIVEN;
    let held = trusted.map(|held| &*held.authority);
    match change(held, &next) {
        Change::Same if !fresh && trusted.is_some_and(|held| held.given == given) => Step::Fine,
        Change::Same | Change::Replace => Step::Use(Loaded {
            authority: Arc::new(next),
            given,
        }),
        Change::PublishFirst => {
            let meanwhile = trusted.map(|held| Loaded {
                authority: Arc::new(held.authority.trusting(&next)),
                given: held.given,
            });
            let next = Loaded {
                authority: Arc::new(next),
                given,
            };
            match meanwhile {
                Some(meanwhile) => Step::Publish { meanwhile, next },
                None => Step::Use(next),
            }
        }
        Change::Refuse(refusal) => Step::Refuse {
            secret,
            reason: refusal.to_string(),
            meanwhile: trusted.filter(|_| fresh).cloned(),
        },
    }
}

/// Follows the Secrets and publishes the authority in force. Runs until the process ends.
pub async fn load(secrets: Api<DeserializeGuard<Secret>>, publish: Publish, metrics: Arc<Metrics>) {
    let both = Mutex::new(Both::default());
    let changed = Notify::new();
    let tell = |at: fn(&mut Both) -> &mut Seen| {
        let (both, changed) = (&both, &changed);
        move |event: Event<Secret>| {
            let mut both = both.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = at(&mut both);
            match event {
                Event::Applied(secret) => seen.secret = Some(secret),
                Event::Deleted { .. } => seen.secret = None,
                Event::Listing => {
                    seen.listed = false;
                    seen.secret = None;
                }
                Event::Listed => seen.listed = true,
                Event::Undecodable(_) => {}
            }
            changed.notify_one();
        }
    };
    let only = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    tokio::join!(
        follow(
            secrets.clone(),
            only(GIVEN),
            metrics.clone(),
            tell(|both| &mut both.given)
        ),
        follow(secrets, only(OWN), metrics.clone(), tell(|both| &mut both.own)),
        apply(&both, &changed, publish, &metrics, PUBLISHED_BEFORE),
    );
}

/// Brings into force what the Secrets say, whenever they change.
async fn apply(both: &Mutex<Both>, changed: &Notify, publish: Publish, metrics: &Metrics, wait: Duration) {
    let mut coming: Option<(Instant, Loaded)> = None;
    let mut refused = None;
    loop {
        let due = coming.as_ref().map(|(due, _)| *due);
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, next)) = coming.take() {
                    use_now(next, &publish, metrics);
                }
                continue;
            }
        }
        let seen = both.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let in_force = publish.loaded.borrow().clone();
        let step = decide(&seen, in_force.as_ref(), SystemTime::now());
        // The same news again, for instance of the other Secret, neither ends the wait nor begins it anew.
        if let (Step::Use(next) | Step::Publish { next, .. }, Some((_, coming))) = (&step, &coming)
            && same(coming, next)
        {
            continue;
        }
        match step {
            Step::Stay => {}
            Step::Fine => {
                (coming, refused) = (None, None);
                metrics.ca_usable.set(1);
            }
            Step::Use(next) => {
                (coming, refused) = (None, None);
                use_now(next, &publish, metrics);
            }
            Step::Publish { meanwhile, next } => {
                warn!(
                    secret = GIVEN,
                    seconds = wait.as_secs(),
                    "another root: it is published now, and certificates are issued under it later"
                );
                refused = None;
                use_now(meanwhile, &publish, metrics);
                coming = Some((Instant::now() + wait, next));
            }
            Step::Refuse {
                secret,
                reason,
                meanwhile,
            } => {
                coming = None;
                if in_force.is_none()
                    && let Some(meanwhile) = meanwhile
                {
                    use_now(meanwhile, &publish, metrics);
                }
                metrics.ca_usable.set(0);
                let stays = publish.loaded.borrow().is_some();
                if refused.as_ref() != Some(&reason) {
                    error!(
                        secret,
                        reason, stays, "the certificate authority's Secret cannot be used and is left as it is"
                    );
                }
                refused = Some(reason);
            }
        }
    }
}

fn same(one: &Loaded, other: &Loaded) -> bool {
    one.given == other.given && change(Some(&one.authority), &other.authority) == Change::Same
}

fn use_now(loaded: Loaded, publish: &Publish, metrics: &Metrics) {
    metrics.ca_usable.set(1);
    let ends = loaded
        .authority
        .not_after()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    metrics.ca_expiry.set(ends.as_secs_f64());
    info!(
        secret = if loaded.given { GIVEN } else { OWN },
        roots = loaded.authority.roots().len(),
        intermediates = loaded.authority.intermediates().len(),
        "the certificate authority is loaded"
    );
    publish.authority.send_replace(Some(loaded.authority.clone()));
    publish.loaded.send_replace(Some(loaded));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::fixtures::{Made, now};
    use crate::ca::store::tests::of;

    fn seen(secret: Option<&Secret>) -> Seen {
        Seen {
            listed: true,
            secret: secret.cloned(),
        }
    }

    fn stored(name: &str, made: &Made, roots: &[&Made]) -> Secret {
        let roots = roots.iter().map(|root| root.pem()).collect();
        let values = [
            ("ca-cert.pem", made.pem()),
            ("ca-key.pem", made.key.serialize_pem()),
            ("root-cert.pem", roots),
        ];
        of(name, &values)
    }

    fn marked(mut secret: Secret, mark: &str) -> Secret {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert("security.pinnace.dev/authority".to_owned(), mark.to_owned());
        secret
    }

    fn loaded(made: &Made, roots: &[&Made], given: bool) -> Loaded {
        Loaded {
            authority: Arc::new(made.authority(roots, now()).unwrap()),
            given,
        }
    }

    /// In short: what is used, and from which Secret.
    fn short(step: &Step) -> String {
        let name = |loaded: &Loaded| {
            let (_, parsed) = x509_parser::parse_x509_certificate(loaded.authority.signing()).unwrap();
            let roots = loaded.authority.roots().len();
            format!(
                "{} {} {roots}",
                parsed.subject(),
                if loaded.given { "given" } else { "own" }
            )
        };
        match step {
            Step::Stay => "stay".to_owned(),
            Step::Fine => "fine".to_owned(),
            Step::Use(next) => format!("use {}", name(next)),
            Step::Publish { meanwhile, next } => format!("publish {}, then {}", name(meanwhile), name(next)),
            Step::Refuse { secret, meanwhile, .. } => {
                let meanwhile = meanwhile.as_ref().map(name).unwrap_or_default();
                format!("refuse {secret} {meanwhile}").trim().to_owned()
            }
        }
    }

    #[test]
    fn what_is_given_goes_before_and_nothing_that_works_is_lost() {
        let (own, root) = (Made::root("own"), Made::root("root"));
        let (one, two) = (root.intermediate("one"), root.intermediate("two"));
        let plain = stored(OWN, &own, &[&own]);
        let in_force = marked(plain.clone(), "in-force");
        let superseded = marked(plain.clone(), "superseded-by-cacerts");
        let given = stored(GIVEN, &one, &[&root]);
        let second = stored(GIVEN, &two, &[&root]);
        let with_both = stored(GIVEN, &one, &[&root, &own]);
        let broken = of(GIVEN, &[("ca-cert.pem", "x".to_owned())]);
        let of_own = || Some(loaded(&own, &[&own], false));
        let of_one = || Some(loaded(&one, &[&root], true));
        let below = own.intermediate("below");
        let of_below = || Some(loaded(&below, &[&own], true));
        let cases = [
            ("nothing", None, None, None, "stay"),
            ("own", None, Some(&plain), None, "use CN=own own 1"),
            ("own again", None, Some(&plain), of_own(), "fine"),
            ("own, loaded and deleted", None, None, of_own(), "stay"),
            ("given", Some(&given), None, None, "use CN=one given 1"),
            (
                "given before one of Istio's that nobody uses",
                Some(&given),
                Some(&plain),
                None,
                "use CN=one given 1",
            ),
            ("given again", Some(&given), None, of_one(), "fine"),
            (
                "another intermediate",
                Some(&second),
                None,
                of_one(),
                "use CN=two given 1",
            ),
            (
                "given after own, other root",
                Some(&given),
                Some(&in_force),
                of_own(),
                "refuse cacerts",
            ),
            (
                "the same at a start",
                Some(&given),
                Some(&in_force),
                None,
                "refuse cacerts CN=own own 1",
            ),
            (
                "given after own, with both roots",
                Some(&with_both),
                Some(&in_force),
                of_own(),
                "publish CN=own own 2, then CN=one given 2",
            ),
            (
                "the same at a start",
                Some(&with_both),
                Some(&in_force),
                None,
                "publish CN=own own 2, then CN=one given 2",
            ),
            (
                "the old root taken out, at a start",
                Some(&given),
                Some(&superseded),
                None,
                "use CN=one given 1",
            ),
            ("broken", Some(&broken), None, None, "refuse cacerts"),
            ("broken, loaded", Some(&broken), None, of_one(), "refuse cacerts"),
            (
                "broken, own in force, at a start",
                Some(&broken),
                Some(&in_force),
                None,
                "refuse cacerts CN=own own 1",
            ),
            (
                "broken, superseded, at a start",
                Some(&broken),
                Some(&superseded),
                None,
                "refuse cacerts",
            ),
            ("gone", None, Some(&superseded), of_one(), "refuse cacerts"),
            (
                "gone, under the root of its own",
                None,
                Some(&superseded),
                of_below(),
                "use CN=own own 1",
            ),
            ("gone, at a start", None, Some(&superseded), None, "refuse cacerts"),
        ];
        for (case, given, own, in_force, want) in cases {
            let both = Both {
                given: seen(given),
                own: seen(own),
            };
            assert_eq!(short(&decide(&both, in_force.as_ref(), now())), want, "{case}");
        }
    }

    #[test]
    fn nothing_is_decided_before_both_are_known() {
        let own = Made::root("own");
        let both = Both {
            given: Seen::default(),
            own: seen(Some(&stored(OWN, &own, &[&own]))),
        };
        assert_eq!(short(&decide(&both, None, now())), "stay");
    }

    #[tokio::test]
    async fn another_root_is_published_before_it_is_used() {
        let (own, root) = (Made::root("own"), Made::root("root"));
        let one = root.intermediate("one");
        let short = |loaded: &Option<Loaded>| {
            let loaded = loaded.as_ref()?;
            Some((loaded.given, loaded.authority.roots().len()))
        };
        for (wait, last) in [
            (Duration::from_secs(3600), (false, 2)),
            (Duration::from_millis(1), (true, 2)),
        ] {
            let both = Mutex::new(Both {
                given: seen(None),
                own: seen(Some(&stored(OWN, &own, &[&own]))),
            });
            let (changed, metrics) = (Notify::new(), Metrics::new());
            let (loaded, mut watched) = watch::channel(None);
            let (authority, _authority) = watch::channel(None);
            let publish = Publish { loaded, authority };
            let test = async {
                changed.notify_one();
                watched
                    .wait_for(|loaded| short(loaded) == Some((false, 1)))
                    .await
                    .unwrap();
                both.lock().unwrap().given.secret = Some(stored(GIVEN, &one, &[&root, &own]));
                changed.notify_one();
                watched
                    .wait_for(|loaded| short(loaded) == Some((false, 2)))
                    .await
                    .unwrap();
                // The operator marks the other Secret meanwhile.
                changed.notify_one();
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                watched.wait_for(|loaded| short(loaded) == Some(last)).await.unwrap();
            };
            tokio::select! {
                () = apply(&both, &changed, publish, &metrics, wait) => unreachable!(),
                () = test => {}
            }
            assert_eq!(metrics.ca_usable.get(), 1);
        }
    }
}
