//! The reconciler of service accounts' certificates. A round is: read the Secret, judge it, plan (pure), apply, report.

mod journal;
mod memory;
mod report;
mod triggers;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::events::Recorder;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use mesh_core::certificate::issued_at;
use mesh_core::identity::SpiffeId;
use rustls::crypto::CryptoProvider;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info, warn};

use memory::{Belief, Judged, Memory};
use report::{measure, report};
use triggers::{follow_secrets, requests};
use write::write;

use super::nudge::{self, News};
use crate::ca::{Authority, Subject};
use crate::certificates::held::seconds;
use crate::certificates::plan::LONGEST_ACCOUNT_NAME;
use crate::certificates::{Defect, Expected, Facts, Held, Pair, Plan, Reason, Refusal, Use, plan, secret};
use crate::index::Index;
use crate::index::changes::Named;
use crate::kubernetes::leader::Leadership;
use crate::metrics::Metrics;

/// The controller's name in metrics.
const CONTROLLER: &str = "identity";

/// Service accounts worked on at once, so that a start with thousands of them stays gentle on the API server.
const CONCURRENCY: u16 = 16;

/// The first wait after a failure, doubled for each further one, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How often a Secret of another owner is looked at again.
const FOREIGN_RETRY: Duration = Duration::from_secs(10);

/// How often everything is looked at even though nothing seems to have changed.
const RESYNC: Duration = Duration::from_secs(3600);

/// A ServiceAccount, of which only the metadata is looked at.
type Account = PartialObjectMeta<ServiceAccount>;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The API server refused or did not answer.
    #[error("{doing}: {error}")]
    Api {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        #[source]
        error: kube::Error,
    },
    /// The certificate could not be issued.
    #[error(transparent)]
    Ca(#[from] crate::ca::CaError),
    /// No identity can be formed of these names.
    #[error(transparent)]
    Identity(#[from] mesh_core::identity::IdentityError),
    /// A Secret was there already that the watch has not told of.
    #[error("a Secret of this name has just been made")]
    Conflict,
    /// Issuing ended with the process.
    #[error("the operator is ending")]
    Ending,
    /// There is no authority to issue from.
    #[error("the certificate authority is not loaded")]
    NoAuthority,
    /// The lease is not held any more.
    #[error("the lease is not held")]
    NotLeader,
}

/// What a round works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Who uses what.
    pub index: Arc<Index>,
    /// Who signs.
    pub authority: watch::Receiver<Option<Arc<Authority>>>,
    /// How long certificates live.
    pub ttl: Duration,
    /// The namespaces whose Secrets may be written; all when there is none.
    pub namespaces: Vec<String>,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Who checks keys.
    pub provider: Arc<CryptoProvider>,
    /// Where events are written.
    pub events: Recorder,
    /// To whom new certificates are announced.
    pub news: mpsc::Sender<News>,
    /// What rounds remember.
    pub memory: Mutex<Memory>,
}

impl Context {
    fn remember<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn show_depth(&self) {
        let waiting = self.remember(|memory| memory.waiting.len());
        let depth = self.metrics.queue_depth.with_label_values(&[CONTROLLER]);
        depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// A service account waits no longer.
    fn begun(&self, account: &Named) {
        self.remember(|memory| memory.waiting.remove(account));
        self.show_depth();
    }
}

/// Runs the controller until this future is dropped.
pub async fn run(context: Arc<Context>) {
    let accounts: Api<Account> = Api::all(context.client.clone());
    let touched = Arc::new(Notify::new());
    let controller = Controller::new(accounts, watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(requests(context.clone(), touched.clone()))
        .run(reconcile, retry, context.clone())
        .for_each(|result| {
            // A service account that is gone takes its Secret with it by the owner reference.
            if let Err(controller::Error::ObjectNotFound(gone)) = &result {
                context.begun(&(
                    gone.namespace.clone().unwrap_or_default().into(),
                    gone.name.as_str().into(),
                ));
            }
            if let Err(error) = result {
                debug!(%error, "a service account was not reconciled");
            }
            std::future::ready(())
        });
    tokio::join!(controller, follow_secrets(&context, &touched), measure(&context));
}

async fn reconcile(account: Arc<Account>, context: Arc<Context>) -> Result<Action, Failure> {
    context.begun(&named(&account));
    let timer = context
        .metrics
        .reconcile_seconds
        .with_label_values(&[CONTROLLER])
        .start_timer();
    let result = match round(&account, &context, true).await {
        Err(Failure::Conflict) => round(&account, &context, false).await,
        other => other,
    };
    timer.observe_duration();
    context.metrics.reconciles.with_label_values(&[CONTROLLER]).inc();
    if result.is_ok() {
        context.remember(|memory| memory.failures.remove(&named(&account)));
    }
    result
}

fn named(account: &Account) -> Named {
    (
        account.namespace().unwrap_or_default().into(),
        account.name_any().into(),
    )
}

fn retry(account: Arc<Account>, error: &Failure, context: Arc<Context>) -> Action {
    let name = named(&account);
    let failures = context.remember(|memory| {
        let count = memory.failures.entry(name.clone()).or_default();
        *count += 1;
        *count
    });
    context.metrics.reconcile_errors.with_label_values(&[CONTROLLER]).inc();
    if !matches!(error, Failure::NotLeader) {
        context
            .metrics
            .certificates_failed
            .with_label_values(&["workload"])
            .inc();
        warn!(namespace = &*name.0, service_account = &*name.1, %error, failures, "a certificate could not be kept; what is there stays in force");
    }
    let wait = FIRST_RETRY
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_RETRY);
    Action::requeue(wait.mul_f64(0.75 + 0.5 * rand::random::<f64>()))
}

/// One round. `believing` says that what the watch told and what was found or written before may stand for reading the
/// Secret: with thousands of service accounts every read would cost as much as a write.
async fn round(account: &Account, context: &Context, believing: bool) -> Result<Action, Failure> {
    let name = named(account);
    let usage = usage(context, &name);
    let known = context.remember(|memory| memory.secrets.contains_key(&name));
    let owner = account.uid().unwrap_or_default();
    if account.metadata.deletion_timestamp.is_some() || (usage != Use::Now && !known) {
        context.remember(|memory| memory.ends.remove(&name));
        return Ok(Action::await_change());
    }
    if !context.namespaces.is_empty() && !context.namespaces.iter().any(|namespace| **namespace == *name.0) {
        return refuse(context, account, name, Refusal::OutsideNamespaces).await;
    }
    // Read, or know.
    let authority = context.authority.borrow().clone().ok_or(Failure::NoAuthority)?;
    let secret_name = secret::name(&name.1);
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &name.0);
    let trust_domain = context.index.read(|_, mesh| mesh.trust_domain.clone());
    let id = SpiffeId::new(trust_domain, &name.0, &name.1)?;
    let belief = context.remember(|memory| memory.belief(&name, &authority, &id, &owner));
    let too_long = name.1.len() > LONGEST_ACCOUNT_NAME;
    let (found, believed) = match belief {
        _ if too_long => (None, None),
        Belief::Nothing if believing && usage == Use::Now => (None, None),
        Belief::Good(pair) if believing && usage == Use::Now => (None, Some(Held::Good(pair))),
        _ => (
            secrets.get_opt(&secret_name).await.map_err(api("reading the Secret"))?,
            None,
        ),
    };
    // Judge.
    let subject = Subject::Workload(id.clone());
    let expected = Expected {
        subject: &subject,
        owner: Some(&owner),
        authority: &authority,
        ttl: context.ttl,
    };
    let now = SystemTime::now();
    let held = believed.unwrap_or_else(|| {
        let held = Held::new(found.as_ref(), &expected, &context.provider, now);
        if let (Held::Good(pair), Some(version)) = (&held, found.as_ref().and_then(ResourceExt::resource_version)) {
            let judged = Judged::new(version, pair.clone(), &authority, &id, &owner);
            context.remember(|memory| memory.judge(&name, judged));
        }
        held
    });
    // Plan.
    let plan = plan(&Facts {
        name: &name.1,
        usage,
        held: &held,
        now: seconds(now),
    });
    if !matches!(plan, Plan::Refuse(_)) {
        context.remember(|memory| memory.refused.remove(&name));
    }
    if matches!(plan, Plan::Issue(Reason::Due)) && found.is_none() {
        // What is replaced has to be read first.
        return Err(Failure::Conflict);
    }
    // Apply and report.
    match plan {
        Plan::Nothing => Ok(Action::await_change()),
        Plan::Linger(wait) => Ok(Action::requeue(wait)),
        Plan::Keep { pair, renew_in } => {
            context.remember(|memory| memory.ends.insert(name.clone(), pair.not_after));
            let news = News {
                account: name,
                issued: issued_at(pair.not_before, pair.not_after),
                serial: pair.serial,
            };
            if !nudge::uninformed(&context.index, &news).is_empty() {
                announce(context, news).await;
            }
            Ok(Action::requeue(renew_in.min(RESYNC)))
        }
        Plan::Issue(reason) => {
            // A key of P-256 and two signatures, a tenth of a millisecond: less than it would cost to have it done elsewhere.
            let leaf = authority.issue(&subject, context.ttl, now)?;
            let text = id.to_string();
            let belongs = secret::Owner {
                name: &name.1,
                uid: &owner,
                spiffe_id: &text,
            };
            let fixed = reason == Reason::Defect(Defect::Fixed);
            let before = found.as_ref().filter(|_| !fixed);
            let new = secret::make(
                &name.0,
                &secret_name,
                &leaf,
                authority.roots_pem(),
                Some(belongs),
                before,
            );
            if !context.leadership.held() {
                return Err(Failure::NotLeader);
            }
            if fixed {
                remove(&secrets, &secret_name, found.as_ref()).await?;
            }
            let written = match write(&context.client, &new, before.is_some()).await {
                Err(kube::Error::Api(status)) if believing && found.is_none() && status.code == 409 => {
                    return Err(Failure::Conflict);
                }
                other => other.map_err(api("writing the Secret"))?,
            };
            let pair = leaf.pair(now);
            if let Some(version) = written.resource_version() {
                let judged = Judged::new(version, pair.clone(), &authority, &id, &owner);
                context.remember(|memory| memory.judge(&name, judged));
            }
            let counter = match reason {
                Reason::Missing => &context.metrics.certificates_issued,
                Reason::Due | Reason::Defect(_) => &context.metrics.certificates_rotated,
            };
            counter.with_label_values(&["workload"]).inc();
            journal::wrote(context, &name, &leaf.serial, reason);
            context.remember(|memory| memory.ends.insert(name.clone(), pair.not_after));
            let renew_in = renewal(&name, &pair, seconds(now));
            announce(
                context,
                News {
                    account: name,
                    serial: leaf.serial,
                    issued: seconds(now),
                },
            )
            .await;
            Ok(Action::requeue(renew_in.min(RESYNC)))
        }
        Plan::Remove => {
            if !context.leadership.held() {
                return Err(Failure::NotLeader);
            }
            remove(&secrets, &secret_name, found.as_ref()).await?;
            context.remember(|memory| {
                memory.ends.remove(&name);
                memory.unused.remove(&name);
            });
            info!(
                namespace = &*name.0,
                service_account = &*name.1,
                "removed a certificate that nothing uses"
            );
            Ok(Action::await_change())
        }
        Plan::Refuse(refusal) => refuse(context, account, name, refusal).await,
    }
}

/// When a certificate that was just written is to be looked at again.
fn renewal(name: &Named, pair: &Pair, now: i64) -> Duration {
    let held = Held::Good(pair.clone());
    let facts = Facts {
        name: &name.1,
        usage: Use::Now,
        held: &held,
        now,
    };
    match plan(&facts) {
        Plan::Keep { renew_in, .. } => renew_in,
        // One that is due as soon as it is made: not before the next second, so that nothing spins.
        _ => Duration::from_secs(1),
    }
}

/// Reports a refusal when it is new, and looks again after a while.
async fn refuse(context: &Context, account: &Account, name: Named, refusal: Refusal) -> Result<Action, Failure> {
    let before = context.remember(|memory| {
        memory.ends.remove(&name);
        memory.refused.insert(name.clone(), refusal)
    });
    if before != Some(refusal) {
        report(context, account, &name, refusal).await;
    }
    Ok(Action::requeue(FOREIGN_RETRY))
}

/// Whether pods use the certificate, and if not, for how long they have not.
fn usage(context: &Context, name: &Named) -> Use {
    let used = context.index.read(|world, _| world.users(name).next().is_some());
    context.remember(|memory| {
        if used {
            memory.unused.remove(name);
            return Use::Now;
        }
        // Service accounts that never had a Secret need no clock.
        if !memory.secrets.contains_key(name) {
            return Use::NotSince(Duration::ZERO);
        }
        Use::NotSince(memory.unused.entry(name.clone()).or_insert_with(Instant::now).elapsed())
    })
}

async fn announce(context: &Context, news: News) {
    // The receiver is gone only when the process ends.
    let _ = context.news.send(news).await;
}

async fn remove(secrets: &Api<Secret>, name: &str, found: Option<&Secret>) -> Result<(), Failure> {
    let only = Preconditions {
        uid: found.and_then(ResourceExt::uid),
        resource_version: found.and_then(ResourceExt::resource_version),
    };
    let parameters = DeleteParams {
        preconditions: Some(only),
        ..DeleteParams::default()
    };
    match secrets.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(api("removing the Secret")(error)),
    }
}

fn api(doing: &'static str) -> impl FnOnce(kube::Error) -> Failure {
    move |error| Failure::Api { doing, error }
}
