//! Keys that tokens ask for and that are not known here. The operator is asked to fetch them again, over the stream, and
//! requests wait for its answer: for a bounded time, a bounded number of them, any number of them for one asking.
//!
//! Each origin of keys is asked for on its own, at most once at a time and no sooner than [`Limits::keys_apart`] after the
//! last time. A key that was asked for and is not there counts as absent for as long as a request would wait for it, so that
//! who goes on using it waits no more. Requests whose keys are known never come here.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_core::jwt::{KeyId, UnknownKey};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::mesh::Limits;

/// The most requests that wait for the keys of one origin.
const MOST_WAITING: usize = 256;

/// The most keys of one origin that are remembered as absent.
const MOST_ABSENT: usize = 256;

/// What is asked of the operator about keys.
#[derive(Debug)]
pub(super) struct Keys {
    limits: Limits,
    origins: Mutex<HashMap<Arc<str>, Arc<Origin>>>,
    /// Names of origins on their way to the client.
    asked: mpsc::Sender<Arc<str>>,
    /// Whether the operator of the last stream takes such requests.
    taken: AtomicBool,
    /// Told when keys have come or an answer has.
    news: watch::Sender<()>,
}

/// Where keys are fetched.
#[derive(Debug)]
struct Origin {
    name: Arc<str>,
    waiting: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// No rule has its keys from there any more.
    gone: bool,
    /// The keys for which it will be asked next.
    next: Vec<KeyId>,
    /// Those of the asking that is under way.
    under_way: Option<Vec<KeyId>>,
    /// When it was last asked for.
    last: Option<Instant>,
    /// Those that are not there, and until when that counts.
    absent: VecDeque<(KeyId, Instant)>,
}

/// What is known of a key that a request waits for.
enum Prospect {
    /// It is not there.
    Absent,
    /// It is asked for.
    Asked,
    /// It may be asked for at this time.
    Later(Instant),
}

/// A request that waits. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct KeyWait {
    keys: Arc<Keys>,
    places: Vec<Place>,
    news: watch::Receiver<()>,
    until: Instant,
}

#[derive(Debug)]
struct Place {
    origin: Arc<Origin>,
    id: KeyId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.origin.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWait {
    /// Its keys were asked for a moment ago and are not there, or nobody can be asked.
    Absent,
    /// Too many wait already.
    Full,
}

impl Keys {
    /// And the names that the client is to ask for.
    pub(super) fn new(limits: Limits) -> (Arc<Self>, mpsc::Receiver<Arc<str>>) {
        let (asked, names) = mpsc::channel(limits.queue.max(1));
        let keys = Self {
            limits,
            origins: Mutex::default(),
            asked,
            taken: AtomicBool::new(false),
            news: watch::Sender::new(()),
        };
        (Arc::new(keys), names)
    }

    /// Waits for keys.
    ///
    /// # Errors
    /// [`NoWait`], where there is nothing to wait for.
    pub(super) fn wait(self: &Arc<Self>, unknown: &[UnknownKey]) -> Result<KeyWait, NoWait> {
        let mut places = Vec::new();
        let mut full = false;
        // Before anything is asked for, so that no answer is missed.
        let mut news = self.news.subscribe();
        // What came between the look at the request and this moment.
        news.mark_changed();
        for key in unknown {
            let origin = self.origin(&key.origin);
            if self.is_absent(&mut origin.state(), key.id, Instant::now()) {
                continue;
            }
            match Place::take(origin, key.id) {
                Some(place) => places.push(place),
                None => full = true,
            }
        }
        if places.is_empty() {
            return Err(if full { NoWait::Full } else { NoWait::Absent });
        }
        Ok(KeyWait {
            keys: self.clone(),
            places,
            news,
            until: Instant::now() + self.limits.key_wait,
        })
    }

    /// Looks at a key, and asks for it if it is time.
    fn prospect(&self, origin: &Origin, id: KeyId) -> Prospect {
        let now = Instant::now();
        let mut state = origin.state();
        if self.is_absent(&mut state, id, now) {
            return Prospect::Absent;
        }
        if state.under_way.as_ref().is_some_and(|asked| asked.contains(&id)) {
            return Prospect::Asked;
        }
        if !state.next.contains(&id) {
            if state.next.len() >= MOST_WAITING {
                // Of one that gave up; who still waits comes back.
                state.next.remove(0);
            }
            state.next.push(id);
        }
        // The fetch that is under way may have begun before this key was made.
        if state.under_way.is_some() {
            return Prospect::Asked;
        }
        match state.last.map(|last| last + self.limits.keys_apart) {
            Some(earliest) if earliest > now => Prospect::Later(earliest),
            _ => {
                state.last = Some(now);
                if self.asked.try_send(origin.name.clone()).is_err() {
                    return Prospect::Later(now + self.limits.keys_apart);
                }
                state.under_way = Some(std::mem::take(&mut state.next));
                Prospect::Asked
            }
        }
    }

    /// Whether a key is known not to be there, or cannot be asked for.
    fn is_absent(&self, state: &mut State, id: KeyId, now: Instant) -> bool {
        while state.absent.front().is_some_and(|(_, until)| *until <= now) {
            state.absent.pop_front();
        }
        state.gone || !self.are_taken() || state.absent.iter().any(|(absent, _)| *absent == id)
    }

    fn origin(&self, name: &Arc<str>) -> Arc<Origin> {
        let mut origins = self.origins();
        let new = || {
            Arc::new(Origin {
                name: name.clone(),
                waiting: AtomicUsize::new(0),
                state: Mutex::default(),
            })
        };
        origins.entry(name.clone()).or_insert_with(new).clone()
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Origin>>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client and the stream say.
impl Keys {
    /// Whether the operator takes askings.
    pub(super) fn set_taken(&self, taken: bool) {
        self.taken.store(taken, Ordering::Relaxed);
        self.news.send_replace(());
    }

    /// Whether it does.
    pub(super) fn are_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// The origins that were asked for without an answer, for a stream that begins.
    pub(super) fn under_way(&self) -> Vec<Arc<str>> {
        let origins = self.origins();
        let asked = origins.values().filter(|origin| origin.state().under_way.is_some());
        asked.map(|origin| origin.name.clone()).collect()
    }

    /// The answer of the operator. Keys that it `looked` for and that have not come are absent.
    pub(super) fn answered(&self, name: &str, looked: bool) {
        let origin = self.origins().get(name).cloned();
        if let Some(origin) = origin {
            let mut state = origin.state();
            let asked = state.under_way.take().unwrap_or_default();
            if looked {
                let until = Instant::now() + self.limits.key_wait;
                state.absent.extend(asked.into_iter().map(|id| (id, until)));
                let more = state.absent.len().saturating_sub(MOST_ABSENT);
                state.absent.drain(..more);
            }
        }
        self.news.send_replace(());
    }

    /// Other rules are in force, with keys from these origins.
    pub(super) fn renewed(&self, origins: &[Arc<str>]) {
        self.origins().retain(|name, origin| {
            let stays = origins.contains(name);
            origin.state().gone |= !stays;
            stays
        });
        self.news.send_replace(());
    }
}

impl Origin {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn take(origin: Arc<Origin>, id: KeyId) -> Option<Self> {
        let more = |waiting| (waiting < MOST_WAITING).then_some(waiting + 1);
        origin
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self { origin, id })
    }
}

impl KeyWait {
    /// Waits until the request is to be looked at again. `false`: for the last time, since its keys are absent or its time
    /// is over.
    pub async fn again(&mut self) -> bool {
        loop {
            let mut wake = self.until;
            let mut absent = true;
            for place in &self.places {
                match self.keys.prospect(&place.origin, place.id) {
                    Prospect::Absent => {}
                    Prospect::Asked => absent = false,
                    Prospect::Later(earliest) => {
                        absent = false;
                        wake = wake.min(earliest);
                    }
                }
            }
            if absent || Instant::now() >= self.until {
                return false;
            }
            tokio::select! {
                biased;
                // The sender lives in the keys.
                _ = self.news.changed() => return true,
                () = sleep_until(wake) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::jwt::{Authenticator, KeySource, Rule};
    use std::time::{Duration, SystemTime};

    /// Time enough for a machine that stalls.
    const HOUR: Duration = Duration::from_secs(3600);

    fn limits(key_wait: Duration) -> Limits {
        Limits {
            key_wait,
            keys_apart: Duration::from_millis(150),
            ..Limits::default()
        }
    }

    const ORIGIN: &str = "shop/uri/http://keys/";

    /// A key that a token of that `kid` asks for and that is not known.
    fn unknown(kid: &str) -> UnknownKey {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let head = part(format!("{{\"alg\": \"EdDSA\", \"kid\": \"{kid}\"}}"));
        let token = format!("{head}.{}.AAAA", part("{\"iss\": \"a\"}".into()));
        let keys = crate::discovery::tests::JWKS.replace("\"kty\"", "\"kid\": \"known\", \"kty\"");
        let keys = mesh_core::jwt::Keys::parse(&keys)
            .unwrap()
            .fetched_from(Some(ORIGIN.into()));
        let rule = Rule::new("a", KeySource::Uri("http://keys/".into()));
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let authenticator = Authenticator::new(vec![(rule, keys)]);
        let refused = authenticator.authenticate(&http::Method::GET, &headers, "/", SystemTime::now());
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.unknown_keys().len(), 1, "{refusal}");
        refusal.unknown_keys()[0].clone()
    }

    fn taken(key_wait: Duration) -> (Arc<Keys>, mpsc::Receiver<Arc<str>>) {
        let (keys, asked) = Keys::new(limits(key_wait));
        keys.set_taken(true);
        (keys, asked)
    }

    /// Past the look that each wait begins with.
    async fn begun(keys: &Arc<Keys>, kid: &str) -> KeyWait {
        let mut wait = keys.wait(&[unknown(kid)]).unwrap();
        assert!(wait.again().await);
        wait
    }

    #[tokio::test]
    async fn any_number_of_requests_share_one_asking_and_its_answer() {
        let (keys, mut asked) = taken(HOUR);
        let mut waits = Vec::new();
        for _ in 0..20 {
            waits.push(begun(&keys, "new").await);
        }
        assert_eq!(asked.try_recv().as_deref(), Ok(ORIGIN));
        assert!(asked.try_recv().is_err());
        assert_eq!(
            keys.under_way(),
            [ORIGIN.into()],
            "for the next stream, should this one end"
        );
        keys.answered(ORIGIN, true);
        for wait in &mut waits {
            assert!(!wait.again().await, "it is not there");
        }
        assert!(keys.under_way().is_empty());
        // Whoever goes on using it is refused at once.
        assert_eq!(keys.wait(&[unknown("new")]).unwrap_err(), NoWait::Absent);
    }

    #[tokio::test]
    async fn made_up_keys_cost_no_more_than_the_limit_and_delay_no_others() {
        let (keys, mut asked) = taken(HOUR);
        let began = Instant::now();
        let mut asks = 0;
        let mut waits = tokio::task::JoinSet::new();
        for made_up in 0..400 {
            if let Ok(mut wait) = keys.wait(&[unknown(&made_up.to_string())]) {
                waits.spawn(async move { while wait.again().await {} });
            }
        }
        assert_eq!(waits.len(), MOST_WAITING);
        assert_eq!(keys.wait(&[unknown("one more")]).unwrap_err(), NoWait::Full);
        let answering = async {
            while let Some(name) = asked.recv().await {
                asks += 1;
                keys.answered(&name, true);
            }
        };
        tokio::select! {
            () = answering => unreachable!(),
            () = async { while waits.join_next().await.is_some() {} } => {}
        }
        // The first alone, and the others together.
        assert_eq!(asks, 2);
        assert!(began.elapsed() >= limits(HOUR).keys_apart);
        let mut good = keys.wait(&[unknown("good")]).unwrap();
        assert!(good.again().await);
        // Keys that come are news to all.
        keys.renewed(&[ORIGIN.into()]);
        assert!(good.again().await);
    }

    #[tokio::test]
    async fn an_asking_before_the_request_is_not_its_own() {
        let (keys, mut asked) = taken(HOUR);
        let mut first = begun(&keys, "made up").await;
        assert!(asked.try_recv().is_ok());
        let mut second = begun(&keys, "new").await;
        assert!(asked.try_recv().is_err());
        keys.answered(ORIGIN, true);
        assert!(!first.again().await);
        assert!(second.again().await, "something was answered");
        let began = Instant::now();
        tokio::select! {
            _ = second.again() => unreachable!(),
            name = asked.recv() => assert_eq!(name.as_deref(), Some(ORIGIN)),
        }
        assert!(began.elapsed() >= limits(HOUR).keys_apart);
    }

    #[tokio::test]
    async fn a_fetch_that_failed_says_nothing_and_waiting_has_an_end() {
        const SHORT: Duration = Duration::from_millis(800);
        let (keys, mut asked) = taken(SHORT);
        let began = Instant::now();
        let mut wait = begun(&keys, "new").await;
        let mut asks = 0;
        loop {
            tokio::select! {
                more = wait.again() => if !more { break },
                _ = asked.recv() => {
                    asks += 1;
                    keys.answered(ORIGIN, false);
                }
            }
        }
        assert!(began.elapsed() >= SHORT);
        assert!((1..=7).contains(&asks), "{asks}");
    }

    #[tokio::test]
    async fn nobody_waits_for_what_cannot_be_asked_for() {
        let (keys, _asked) = Keys::new(limits(HOUR));
        assert_eq!(
            keys.wait(&[unknown("a")]).unwrap_err(),
            NoWait::Absent,
            "an operator of before"
        );
        keys.set_taken(true);
        let mut wait = begun(&keys, "a").await;
        keys.renewed(&[]);
        assert!(!wait.again().await, "no rule has its keys from there any more");
        drop(wait);
        assert!(keys.origins().is_empty());
    }
}
