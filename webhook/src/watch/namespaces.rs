//! The namespaces that enforce a pod security level: those labelled so, and of them only name and label are kept.

use std::{collections::HashMap, pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use mesh_api::labels;

use crate::{inject::pod_security::Level, state::State};

/// Follows them until the process ends.
pub(super) async fn follow(client: Client, state: &Arc<State>) {
    let labelled = format!("{} in (baseline,restricted)", labels::POD_SECURITY_ENFORCE);
    let config = watcher::Config::default().labels(&labelled);
    let changes = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config).default_backoff();
    let mut changes = pin!(changes);
    let (mut known, mut listed) = (HashMap::new(), HashMap::new());
    while let Some(change) = changes.next().await {
        match change {
            Ok(change) => {
                if take(change, &mut known, &mut listed) {
                    state.pod_security.store(Arc::new(known.clone()));
                }
            }
            Err(error) => tracing::warn!("namespaces, whose pod security levels are not known without: {error}"),
        }
    }
}

/// Takes a change in, and says whether anything is different. Only the end of a new list replaces what is known.
fn take(
    change: Event<PartialObjectMeta<Namespace>>,
    known: &mut HashMap<String, Level>,
    listed: &mut HashMap<String, Level>,
) -> bool {
    let level = |namespace: &PartialObjectMeta<Namespace>| Level::of(namespace.labels());
    match change {
        Event::Init => {
            listed.clear();
            false
        }
        Event::InitApply(namespace) => {
            listed.extend(level(&namespace).map(|level| (namespace.name_any(), level)));
            false
        }
        Event::InitDone => {
            let changed = known != listed;
            *known = std::mem::take(listed);
            changed
        }
        Event::Apply(namespace) => {
            let (name, level) = (namespace.name_any(), level(&namespace));
            match level {
                Some(level) => known.insert(name, level) != Some(level),
                None => known.remove(&name).is_some(),
            }
        }
        Event::Delete(namespace) => known.remove(&namespace.name_any()).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn namespace(name: &str, level: &str) -> PartialObjectMeta<Namespace> {
        let mut namespace = PartialObjectMeta::default();
        namespace.metadata.name = Some(name.to_owned());
        let labels = BTreeMap::from([(labels::POD_SECURITY_ENFORCE.to_owned(), level.to_owned())]);
        namespace.metadata.labels = Some(labels);
        namespace
    }

    #[test]
    fn changes_are_taken_in() {
        let (mut known, mut listed) = (HashMap::new(), HashMap::new());
        let mut said = |change| take(change, &mut known, &mut listed);
        assert!(!said(Event::Init));
        assert!(!said(Event::InitApply(namespace("a", "baseline"))));
        assert!(said(Event::InitDone));
        assert!(!said(Event::Apply(namespace("a", "baseline"))));
        assert!(said(Event::Apply(namespace("b", "restricted"))));
        assert!(said(Event::Apply(namespace("a", "privileged"))));
        assert!(said(Event::Delete(namespace("b", "restricted"))));
        assert!(known.is_empty(), "{known:?}");
    }
}
