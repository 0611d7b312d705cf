//! What starts a round: a change of a service account's pods or of its Secret, or of what all certificates depend on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, broadcast};

use super::{Account, Context};
use crate::certificates::secret;
use crate::index::changes::Named;
use crate::kubernetes::watch::{Change, follow};

/// Requests for rounds: from pods, from Secrets, and for everything when the authority or the mesh changes.
pub(super) fn requests(
    context: Arc<Context>,
    touched: Arc<Notify>,
) -> impl Stream<Item = ObjectRef<Account>> + Send + 'static {
    let pods = context.index.accounts();
    let authority = context.authority.clone();
    let batches = context.index.batches();
    let reference = |account: &Named| ObjectRef::new(&account.1).within(&account.0);
    futures::stream::unfold(
        (context, touched, pods, authority, batches),
        move |(context, touched, mut pods, mut authority, mut batches)| async move {
            let everything = |context: &Context| {
                let mut all: HashSet<Named> = context.index.read(|world, _| world.accounts().cloned().collect());
                context.remember(|memory| all.extend(memory.secrets.keys().cloned()));
                all.into_iter().collect::<Vec<_>>()
            };
            let accounts = loop {
                tokio::select! {
                    () = touched.notified() => {
                        break context.remember(|memory| memory.touched.drain().collect());
                    }
                    pod = pods.recv() => match pod {
                        Ok(account) => break vec![account],
                        Err(broadcast::error::RecvError::Lagged(_)) => break everything(&context),
                        Err(broadcast::error::RecvError::Closed) => return None,
                    },
                    changed = authority.changed() => {
                        changed.ok()?;
                        break everything(&context);
                    }
                    batch = batches.recv() => match batch {
                        Ok(batch) if batch.all => break everything(&context),
                        Err(broadcast::error::RecvError::Closed) => return None,
                        _ => {}
                    },
                }
            };
            context.remember(|memory| memory.waiting.extend(accounts.iter().cloned()));
            context.show_depth();
            Some((
                futures::stream::iter(accounts),
                (context, touched, pods, authority, batches),
            ))
        },
    )
    .flatten()
    .map(move |account| reference(&account))
}

/// Follows our Secrets, so that an edit or a deletion is repaired at once, and so that unused ones are known.
pub(super) async fn follow_secrets(context: &Context, touched: &Notify) {
    let ours = format!(
        "{}={}",
        mesh_api::labels::MANAGED_BY,
        mesh_api::labels::MANAGED_BY_PINNACE
    );
    let lists = AtomicUsize::new(context.namespaces.len().max(1));
    let watch = |namespace: Option<&str>| {
        let secrets: Api<DeserializeGuard<PartialObjectMeta<Secret>>> = match namespace {
            None => Api::all(context.client.clone()),
            Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        };
        let here = namespace.map(ToOwned::to_owned);
        let config = watcher::Config::default().labels(&ours);
        let mut follower = Follower {
            context,
            unseen: None,
            first: true,
            lists: &lists,
        };
        follow(secrets, config, context.metrics.clone(), move |change| {
            if follower.take(change, here.as_deref()) {
                touched.notify_one();
            }
        })
    };
    if context.namespaces.is_empty() {
        watch(None).await;
    } else {
        let each = context.namespaces.iter().map(|name| watch(Some(name)));
        futures::future::join_all(each).await;
    }
}

/// Takes what one watch of our Secrets says.
struct Follower<'a> {
    context: &'a Context,
    /// What was known before a list and is not in it so far.
    unseen: Option<HashSet<Named>>,
    first: bool,
    /// Watches whose first list is not complete.
    lists: &'a AtomicUsize,
}

impl Follower<'_> {
    /// Remembers it; whether a round is needed. `here` is the namespace that is watched, where not all are.
    fn take(&mut self, change: Change<PartialObjectMeta<Secret>>, here: Option<&str>) -> bool {
        let named = |namespace: String, name: &str| -> Option<Named> {
            Some((namespace.into(), secret::account(name)?.into()))
        };
        self.context.remember(|memory| match change {
            Change::Listing => {
                let known = memory.secrets.keys();
                self.unseen = Some(
                    known
                        .filter(|(namespace, _)| here.is_none_or(|here| **namespace == *here))
                        .cloned()
                        .collect(),
                );
                false
            }
            Change::Listed => {
                let gone = self.unseen.take().unwrap_or_default();
                for account in &gone {
                    memory.gone(account);
                }
                let news = !gone.is_empty();
                memory.touched.extend(gone);
                if std::mem::take(&mut self.first) {
                    memory.listed = self.lists.fetch_sub(1, Ordering::Relaxed) == 1;
                }
                news
            }
            Change::Applied(secret) => {
                let Some(account) = named(secret.namespace().unwrap_or_default(), &secret.name_any()) else {
                    return false;
                };
                if let Some(unseen) = &mut self.unseen {
                    unseen.remove(&account);
                }
                let news = memory.told(&account, secret.resource_version().unwrap_or_default());
                if news {
                    memory.touched.insert(account);
                }
                news
            }
            Change::Deleted { namespace, name } => {
                let Some(account) = named(namespace, &name) else {
                    return false;
                };
                memory.gone(&account);
                memory.touched.insert(account);
                true
            }
            Change::Undecodable(_) => false,
        })
    }
}
