//! What starts a round: a change of a service account's pods or of its Secret, or of what all certificates depend on.

use std::collections::HashSet;
use std::sync::Arc;

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
                context.remember(|memory| all.extend(memory.secrets.iter().cloned()));
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
    let watch = |secrets: Api<DeserializeGuard<PartialObjectMeta<Secret>>>| {
        let config = watcher::Config::default().labels(&ours);
        follow(secrets, config, context.metrics.clone(), |change| {
            let (namespace, name, there) = match change {
                Change::Applied(secret) => (secret.namespace().unwrap_or_default(), secret.name_any(), true),
                Change::Deleted { namespace, name } => (namespace, name, false),
                Change::Listing | Change::Listed | Change::Undecodable(_) => return,
            };
            let Some(account) = secret::account(&name) else { return };
            let account: Named = (namespace.into(), account.into());
            context.remember(|memory| {
                if there {
                    memory.secrets.insert(account.clone());
                } else {
                    memory.secrets.remove(&account);
                    memory.ends.remove(&account);
                    memory.unused.remove(&account);
                }
                memory.touched.insert(account);
            });
            touched.notify_one();
        })
    };
    if context.namespaces.is_empty() {
        watch(Api::all(context.client.clone())).await;
    } else {
        let each = context
            .namespaces
            .iter()
            .map(|name| watch(Api::namespaced(context.client.clone(), name)));
        futures::future::join_all(each).await;
    }
}
