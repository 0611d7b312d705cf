//! What resolvers answered, for as long as they said (RFC 1035, 2308), in bounded room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::RData;

use super::message::{Key, code, is_truncated, ttls};

/// The most answers that are kept.
const MOST_ENTRIES: usize = 2000;

/// The most bytes that they have together, without what finds them.
const MOST_BYTES: usize = 2 << 20;

/// Answers longer than this are not kept.
const MOST_ENTRY_BYTES: usize = 8 << 10;

/// The longest that an answer is kept, whatever it says: what holds for days elsewhere is asked for again after this long.
const MOST_TTL: u32 = 300;

/// Answers by question.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Arc<Key>, Entry>,
    /// The questions by when their answers end, and a number that tells apart those that end at once.
    ends: BTreeMap<(Instant, u64), Arc<Key>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    answer: Box<[u8]>,
    /// Where in it the times are.
    ttls: Box<[usize]>,
    since: Instant,
    end: (Instant, u64),
}

impl Cache {
    /// The answer to a question, with what is left of its records' times.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(key).filter(|entry| entry.end.0 > now)?;
        let passed = u32::try_from(now.duration_since(entry.since).as_secs()).unwrap_or(u32::MAX);
        let mut answer = entry.answer.to_vec();
        for at in &entry.ttls {
            if let Some(field) = answer.get_mut(*at..).and_then(<[u8]>::first_chunk_mut) {
                *field = u32::from_be_bytes(*field).saturating_sub(passed).to_be_bytes();
            }
        }
        Some(answer)
    }

    /// Keeps an answer, if it says that it may be kept.
    pub(super) fn insert(&mut self, key: Key, answer: &[u8], now: Instant) {
        let Some((ttls, holds)) = holds(answer).filter(|_| answer.len() <= MOST_ENTRY_BYTES) else {
            return;
        };
        self.remove(&key);
        while let Some((end, _)) = self.ends.first_key_value()
            && (end.0 <= now || self.entries.len() >= MOST_ENTRIES || self.bytes + answer.len() > MOST_BYTES)
        {
            // What ends first goes first.
            if let Some((_, key)) = self.ends.pop_first()
                && let Some(entry) = self.entries.remove(&key)
            {
                self.bytes -= entry.answer.len();
            }
        }
        let key = Arc::new(key);
        let end = (now + Duration::from_secs(holds.into()), self.next);
        self.next += 1;
        self.bytes += answer.len();
        self.ends.insert(end, key.clone());
        let entry = Entry {
            answer: answer.into(),
            ttls: ttls.into(),
            since: now,
            end,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.answer.len();
            self.ends.remove(&entry.end);
        }
    }
}

/// For how many seconds an answer holds, and where it says so; `None` for one that is not to be kept. That there is nothing
/// holds for as long as the zone's SOA says.
fn holds(answer: &[u8]) -> Option<(Vec<usize>, u32)> {
    if is_truncated(answer) || !matches!(code(answer), Some(ResponseCode::NoError | ResponseCode::NXDomain)) {
        return None;
    }
    let ttls = ttls(answer)?;
    let message = Message::from_vec(answer).ok()?;
    let nothing = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.minimum),
        _ => None,
    });
    if message.answers.is_empty() && nothing.is_none() {
        return None;
    }
    let times = ttls
        .iter()
        .filter_map(|at| Some(u32::from_be_bytes(*answer.get(*at..)?.first_chunk()?)));
    let least = times.chain(nothing).min()?;
    // With the highest bit it means nothing (RFC 2181, 8).
    let least = if least > i32::MAX.unsigned_abs() { 0 } else { least };
    (least > 0).then_some((ttls, least.min(MOST_TTL)))
}

#[cfg(test)]
mod tests {
    use super::super::message::Question;
    use super::super::message::tests::{answering, asking, record};
    use super::*;
    use hickory_resolver::proto::rr::rdata::SOA;
    use hickory_resolver::proto::rr::{Name, Record, RecordType};

    fn soa(ttl: u32, minimum: u32) -> Record {
        let name = Name::from_ascii("example.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, minimum);
        Record::from_rdata(name, ttl, RData::SOA(soa))
    }

    fn key(name: &str) -> (Key, Vec<u8>) {
        let asked = asking(7, name, RecordType::A, None);
        (Question::read(&asked).unwrap().key(), asked)
    }

    #[test]
    fn an_answer_holds_as_long_as_it_says() {
        use ResponseCode::{NXDomain, NoError, Refused, ServFail};
        let long = record("a.example.", 100_000, "10.0.0.1");
        let (brief, odd) = (
            record("a.example.", 5, "10.0.0.1"),
            record("a.example.", 1 << 31, "10.0.0.1"),
        );
        let zero = record("a.example.", 0, "10.0.0.1");
        for (case, code, answers, authority, expected) in [
            ("one", NoError, vec![brief.clone()], vec![], Some(5)),
            (
                "the least of several",
                NoError,
                vec![long.clone(), brief],
                vec![],
                Some(5),
            ),
            ("at most so long", NoError, vec![long.clone()], vec![], Some(MOST_TTL)),
            ("none", NoError, vec![zero], vec![], None),
            ("no number", NoError, vec![odd], vec![], None),
            ("no such name", NXDomain, vec![], vec![soa(60, 30)], Some(30)),
            ("its SOA's own time", NXDomain, vec![], vec![soa(20, 30)], Some(20)),
            ("nothing of the name", NoError, vec![], vec![soa(60, 30)], Some(30)),
            ("nothing, and for how long nobody says", NXDomain, vec![], vec![], None),
            (
                "another name's nothing",
                NXDomain,
                vec![long],
                vec![soa(60, 30)],
                Some(30),
            ),
            ("failure", ServFail, vec![], vec![soa(60, 30)], None),
            ("refusal", Refused, vec![], vec![soa(60, 30)], None),
        ] {
            let (_, asked) = key("a.example.");
            let answer = answering(&asked, code, &answers, &authority);
            assert_eq!(holds(&answer).map(|it| it.1), expected, "{case}");
        }
        assert!(holds(b"nonsense").is_none());
    }

    #[test]
    fn times_run_down_and_answers_end() {
        let mut cache = Cache::default();
        let now = Instant::now();
        let (name, asked) = key("a.example.");
        let answer = answering(
            &asked,
            ResponseCode::NoError,
            &[record("a.example.", 30, "10.0.0.1")],
            &[],
        );
        cache.insert(name.clone(), &answer, now);
        let after = |seconds| cache.get(&name, now + Duration::from_secs(seconds));
        assert_eq!(after(0).unwrap(), answer);
        assert_eq!(Message::from_vec(&after(20).unwrap()).unwrap().answers[0].ttl, 10);
        assert!(after(30).is_none());
        assert!(cache.get(&key("b.example.").0, now).is_none());
    }

    #[test]
    fn room_is_bounded_and_what_ends_first_goes_first() {
        let mut cache = Cache::default();
        let now = Instant::now();
        for at in 0..MOST_ENTRIES + 10 {
            let name = format!("n{at}.example.");
            let (key, asked) = key(&name);
            // The later it comes, the earlier it ends, up to the last ten.
            let ttl = if at < MOST_ENTRIES {
                250 - u32::try_from(at / 10).unwrap()
            } else {
                260
            };
            let answer = answering(&asked, ResponseCode::NoError, &[record(&name, ttl, "10.0.0.1")], &[]);
            cache.insert(key.clone(), &answer, now);
            cache.insert(key, &answer, now);
        }
        assert_eq!((cache.entries.len(), cache.ends.len()), (MOST_ENTRIES, MOST_ENTRIES));
        assert_eq!(
            cache.bytes,
            cache.entries.values().map(|it| it.answer.len()).sum::<usize>()
        );
        assert!(cache.get(&key("n0.example.").0, now).is_some());
        assert!(
            cache
                .get(&key(&format!("n{}.example.", MOST_ENTRIES - 1)).0, now)
                .is_none()
        );
        // What has ended makes room for all that comes.
        let (name, asked) = key("late.example.");
        let answer = answering(
            &asked,
            ResponseCode::NoError,
            &[record("late.example.", 30, "10.0.0.1")],
            &[],
        );
        cache.insert(name, &answer, now + Duration::from_secs(600));
        assert_eq!((cache.entries.len(), cache.bytes), (1, answer.len()));
    }

    #[test]
    fn long_answers_are_bounded_by_bytes() {
        let mut cache = Cache::default();
        let now = Instant::now();
        let many: Vec<Record> = (0..300)
            .map(|at| record("a.example.", 60, &format!("10.0.{}.{}", at / 200, at % 200)))
            .collect();
        for at in 0..600 {
            let (key, asked) = key(&format!("n{at}.example."));
            cache.insert(key, &answering(&asked, ResponseCode::NoError, &many, &[]), now);
        }
        assert!(
            cache.bytes <= MOST_BYTES && cache.bytes > MOST_BYTES / 2,
            "{}",
            cache.bytes
        );
    }
}
