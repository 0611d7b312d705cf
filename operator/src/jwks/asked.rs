//! Fetches that sidecars ask for, because a token names a key that they do not know. However many ask, one fetch answers
//! all that asked before it began, and each origin keeps its distance between fetches ([`Times::asked`](super::Times)).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_core::jwt::KeyOrigin;
use tokio::sync::watch;

/// How long whoever asks is kept waiting; a sidecar has given up long before.
const MOST: Duration = Duration::from_secs(30);

/// Where those who ask meet the tasks that fetch. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Askings {
    origins: Arc<Mutex<HashMap<KeyOrigin, Arc<Fetches>>>>,
}

/// The fetches of an origin, counted from 1.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    /// The last one that was asked for.
    asked: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    begun: u64,
    ended: u64,
    /// Whether the last one brought keys.
    fetched: bool,
}

impl Askings {
    /// Waits for a fetch of an origin that begins after this call; whether it brought keys, be they the same as before.
    /// When it has, they are in the index. `false` at once for an origin that no rule names.
    pub async fn ask(&self, origin: &KeyOrigin) -> bool {
        let (mut progress, number) = {
            let origins = self.lock();
            let Some(fetches) = origins.get(origin) else {
                return false;
            };
            let progress = fetches.progress.subscribe();
            let number = progress.borrow().begun + 1;
            fetches.asked.send_if_modified(|asked| {
                let before = std::mem::replace(asked, number);
                before != number
            });
            (progress, number)
        };
        let ended = progress.wait_for(|progress| progress.ended >= number);
        match tokio::time::timeout(MOST, ended).await {
            Ok(Ok(progress)) => progress.fetched,
            // No rule names it any more, or its server takes its time.
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// An origin that is fetched from now on.
    pub(super) fn begin(&self, origin: &KeyOrigin) -> Arc<Fetches> {
        let fetches = Arc::new(Fetches::default());
        self.lock().insert(origin.clone(), fetches.clone());
        fetches
    }

    /// An origin that is fetched no more.
    pub(super) fn end(&self, origin: &KeyOrigin) {
        self.lock().remove(origin);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyOrigin, Arc<Fetches>>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetches {
    /// A fetch begins.
    pub(super) fn began(&self) {
        self.progress.send_modify(|progress| progress.begun += 1);
    }

    /// It has ended, and what it brought is published.
    pub(super) fn ended(&self, fetched: bool) {
        self.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.fetched = fetched;
        });
    }

    /// Waits until one is asked for that has not begun.
    pub(super) async fn asked_for(&self) {
        let begun = self.progress.borrow().begun;
        // The sender is borrowed, so waiting cannot fail.
        let _ = self.asked.subscribe().wait_for(|asked| *asked > begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::jwt::KeyPlace;

    fn origin() -> KeyOrigin {
        KeyOrigin {
            namespace: "shop".into(),
            place: KeyPlace::Issuer("https://a.example".into()),
        }
    }

    #[tokio::test]
    async fn one_fetch_answers_all_who_asked_before_it() {
        let askings = Askings::default();
        assert!(!askings.ask(&origin()).await, "nobody fetches it");
        let fetches = askings.begin(&origin());
        let ask = || {
            let askings = askings.clone();
            tokio::spawn(async move { askings.ask(&origin()).await })
        };
        let first = [ask(), ask()];
        fetches.asked_for().await;
        fetches.began();
        // Keys may have changed after that one read them.
        let late = ask();
        tokio::task::yield_now().await;
        fetches.ended(true);
        for asked in first {
            assert!(asked.await.unwrap());
        }
        fetches.asked_for().await;
        assert!(!late.is_finished());
        fetches.began();
        fetches.ended(false);
        assert!(!late.await.unwrap());
        // Nothing is left over.
        let more = tokio::time::timeout(Duration::from_millis(50), fetches.asked_for());
        assert!(more.await.is_err());
        let unwanted = ask();
        fetches.asked_for().await;
        askings.end(&origin());
        drop(fetches);
        assert!(!unwanted.await.unwrap());
    }
}
