//! Messages (RFC 1035): a client's question, the answers made here, and what of a resolver's answer must be changed before a
//! client gets it. A resolver's answer otherwise passes as it came, whatever it holds.

use std::net::IpAddr;

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Bytes of a message's header.
pub(super) const HEADER: usize = 12;

/// What an answer by UDP may have where the client does not say more (RFC 1035, 4.2.1).
const LEAST_UDP: u16 = 512;

/// The most that a client is sent by UDP, whatever it says: what passes every network in one piece but for the odd one.
const MOST_UDP: u16 = 4096;

/// What resolvers are told to send by UDP at most (DNS flag day 2020).
const ASKED_UDP: u16 = 1232;

/// How long the mesh's answers hold, in seconds; Istio's.
pub(super) const TTL: u32 = 30;

/// A client's question, one as everywhere.
#[derive(Debug, Clone)]
pub(super) struct Question {
    id: u16,
    query: Query,
    /// The question's bytes as they came, with the case of their letters.
    raw: Box<[u8]>,
    recursion_desired: bool,
    checking_disabled: bool,
    authentic_data: bool,
    edns: Option<ClientEdns>,
}

/// What a client says by EDNS (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ClientEdns {
    payload: u16,
    dnssec_ok: bool,
}

/// What makes two questions one: the answer to either is the other's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    query: Query,
    recursion_desired: bool,
    checking_disabled: bool,
    authentic_data: bool,
    /// Whether there is EDNS, and whether DNSSEC's records are wanted.
    edns: Option<bool>,
}

/// Why there is no question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is answered with this.
    Answer(Vec<u8>),
    /// It is not even that: silence.
    Nothing,
}

impl Question {
    /// Reads a client's message.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unusable> {
        let Some(&[high, low, flags]) = bytes.get(..3) else {
            return Err(Unusable::Nothing);
        };
        // An answer is answered by nobody, or two servers would talk for ever.
        if bytes.len() < HEADER || flags & 0x80 != 0 {
            return Err(Unusable::Nothing);
        }
        let id = u16::from_be_bytes([high, low]);
        let refuse = |code| Unusable::Answer(encode(&Message::error_msg(id, OpCode::Query, code)));
        let message = Message::from_vec(bytes).map_err(|_| refuse(ResponseCode::FormErr))?;
        if message.metadata.op_code != OpCode::Query {
            return Err(refuse(ResponseCode::NotImp));
        }
        let [query] = &message.queries[..] else {
            return Err(refuse(ResponseCode::FormErr));
        };
        let raw = question(bytes).ok_or_else(|| refuse(ResponseCode::FormErr))?;
        let edns = message.edns.as_ref().map(|edns| ClientEdns {
            payload: edns.max_payload(),
            dnssec_ok: edns.flags().dnssec_ok,
        });
        Ok(Self {
            id,
            query: query.clone(),
            raw: raw.into(),
            recursion_desired: message.metadata.recursion_desired,
            checking_disabled: message.metadata.checking_disabled,
            authentic_data: message.metadata.authentic_data,
            edns,
        })
    }

    /// What is asked for, where it is the addresses of a name.
    pub(super) fn addresses_of(&self) -> Option<(&Name, RecordType)> {
        let kind = self.query.query_type;
        let addresses = matches!(kind, RecordType::A | RecordType::AAAA);
        (addresses && self.query.query_class == DNSClass::IN).then_some((&self.query.name, kind))
    }

    pub(super) fn key(&self) -> Key {
        Key {
            query: self.query.clone(),
            recursion_desired: self.recursion_desired,
            checking_disabled: self.checking_disabled,
            authentic_data: self.authentic_data,
            edns: self.edns.map(|edns| edns.dnssec_ok),
        }
    }

    /// The same question to a resolver, under another id. Of EDNS no option is handed on: they are between two neighbours.
    pub(super) fn to_resolver(&self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authentic_data = self.authentic_data;
        message.add_query(self.query.clone());
        if let Some(ClientEdns { dnssec_ok, .. }) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(ASKED_UDP).set_dnssec_ok(dnssec_ok);
            message.set_edns(edns);
        }
        encode(&message)
    }

    /// Whether this is an answer to the question under that id, as it was put to a resolver.
    pub(super) fn is_answered_by(&self, id: u16, bytes: &[u8]) -> bool {
        let header = bytes.get(..HEADER);
        let head = header.is_some_and(|header| header.starts_with(&id.to_be_bytes()) && header.get(2) >= Some(&0x80));
        // A server that refuses a question need not repeat it.
        head && match question(bytes) {
            Some(raw) => raw.eq_ignore_ascii_case(&self.raw),
            None => bytes.len() == HEADER && code(bytes) != Some(ResponseCode::NoError),
        }
    }

    /// A resolver's answer as this client gets it: under its id, with its question letter for letter.
    pub(super) fn adopt(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (to, from) in bytes.iter_mut().zip(self.id.to_be_bytes()) {
            *to = from;
        }
        if question(&bytes).is_some_and(|raw| raw.len() == self.raw.len()) {
            for (to, from) in bytes.iter_mut().skip(HEADER).zip(&self.raw) {
                *to = *from;
            }
        }
        bytes
    }

    /// The mesh's answer: the addresses of the name, or of the name that it is another one for.
    pub(super) fn addresses(&self, alias_of: Option<Name>, addresses: impl Iterator<Item = IpAddr>) -> Vec<u8> {
        let mut message = self.answer(ResponseCode::NoError);
        message.metadata.authoritative = true;
        let mut name = self.query.name.clone();
        if let Some(canonical) = alias_of {
            let data = RData::CNAME(CNAME(canonical.clone()));
            message.add_answer(Record::from_rdata(name, TTL, data));
            name = canonical;
        }
        for address in addresses {
            let data = match (address, self.query.query_type) {
                (IpAddr::V4(address), RecordType::A) => RData::A(A(address)),
                (IpAddr::V6(address), RecordType::AAAA) => RData::AAAA(AAAA(address)),
                _ => continue,
            };
            message.add_answer(Record::from_rdata(name.clone(), TTL, data));
        }
        encode(&message)
    }

    /// That there is no answer.
    pub(super) fn failed(&self) -> Vec<u8> {
        encode(&self.answer(ResponseCode::ServFail))
    }

    fn answer(&self, code: ResponseCode) -> Message {
        let mut message = Message::error_msg(self.id, OpCode::Query, code);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(self.query.clone());
        if let Some(ClientEdns { dnssec_ok, .. }) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(ASKED_UDP).set_dnssec_ok(dnssec_ok);
            message.set_edns(edns);
        }
        message
    }

    /// An answer by UDP: as it is where it fits into what the client takes, else the word that it does not (RFC 2181, 9),
    /// upon which the client asks by TCP.
    pub(super) fn fit(&self, bytes: Vec<u8>) -> Vec<u8> {
        let takes = self
            .edns
            .map_or(LEAST_UDP, |edns| edns.payload.clamp(LEAST_UDP, MOST_UDP));
        if bytes.len() <= usize::from(takes) {
            return bytes;
        }
        let mut message = self.answer(code(&bytes).unwrap_or(ResponseCode::NoError));
        message.metadata.truncation = true;
        encode(&message)
    }
}

/// Whether a resolver cut its answer short.
pub(super) fn is_truncated(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// The low bits of an answer's code.
pub(super) fn code(bytes: &[u8]) -> Option<ResponseCode> {
    bytes.get(3).map(|flags| ResponseCode::from(0, flags & 0x0f))
}

/// A message that was made here encodes; one that would not is none.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

/// The bytes of a message's only question. Its name can have no pointer: there is nothing before it to point to.
fn question(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.get(4..6)? != [0, 1] {
        return None;
    }
    let end = skip_name(bytes, HEADER, false)? + 4;
    bytes.get(HEADER..end)
}

/// Where the name that begins at `at` ends.
fn skip_name(bytes: &[u8], mut at: usize, pointers: bool) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            192.. if pointers => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Where the records of an answer say how long they hold. EDNS's record has something else in that place.
pub(super) fn ttls(bytes: &[u8]) -> Option<Vec<usize>> {
    const OPT: [u8; 2] = [0, 41];
    let count = |at| Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)));
    let mut at = HEADER;
    for _ in 0..count(4)? {
        at = skip_name(bytes, at, true)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..count(6)? + count(8)? + count(10)? {
        at = skip_name(bytes, at, true)?;
        if bytes.get(at..at + 2)? != OPT {
            found.push(at + 4);
        }
        at += 10 + count(at + 8)?;
    }
    (at <= bytes.len()).then_some(found)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A client's message.
    pub(in crate::dns) fn asking(id: u16, name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    /// A resolver's answer to a message.
    pub(in crate::dns) fn answering(
        asked: &[u8],
        code: ResponseCode,
        answers: &[Record],
        authority: &[Record],
    ) -> Vec<u8> {
        let asked = Message::from_vec(asked).unwrap();
        let mut message = Message::error_msg(asked.metadata.id, OpCode::Query, code);
        message.add_queries(asked.queries.clone());
        message.add_answers(answers.iter().cloned());
        message.add_authorities(authority.iter().cloned());
        if let Some(edns) = asked.edns {
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    pub(in crate::dns) fn record(name: &str, ttl: u32, address: &str) -> Record {
        let data = match address.parse().unwrap() {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)
    }

    #[test]
    fn what_is_no_question() {
        let good = asking(7, "a.example.", RecordType::A, None);
        let mut answer = good.clone();
        answer[2] |= 0x80;
        let mut two = good.clone();
        two[5] = 2;
        let mut none = good[..HEADER].to_vec();
        none[5] = 0;
        let mut update = good.clone();
        update[2] |= 5 << 3;
        let mut pointer = good.clone();
        pointer.truncate(HEADER);
        pointer.extend([0xc0, 12, 0, 1, 0, 1]);
        for (case, bytes, expected) in [
            ("nothing", vec![], None),
            ("half a header", good[..8].to_vec(), None),
            ("an answer", answer, None),
            ("a header alone", none, Some(ResponseCode::FormErr)),
            ("a question less than said", two, Some(ResponseCode::FormErr)),
            ("cut off", good[..good.len() - 3].to_vec(), Some(ResponseCode::FormErr)),
            ("a pointer to itself", pointer, Some(ResponseCode::FormErr)),
            ("an update", update, Some(ResponseCode::NotImp)),
        ] {
            match (Question::read(&bytes).unwrap_err(), expected) {
                (Unusable::Nothing, None) => {}
                (Unusable::Answer(answer), Some(expected)) => {
                    assert_eq!(
                        (answer[..2].to_vec(), code(&answer)),
                        (vec![0, 7], Some(expected)),
                        "{case}"
                    );
                }
                other => panic!("{case}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_question_is_handed_on_and_its_answer_back() {
        let question = Question::read(&asking(7, "A.eXample.", RecordType::A, Some(1400))).unwrap();
        let asked = question.to_resolver(99);
        let mut answer = answering(
            &asked,
            ResponseCode::NoError,
            &[record("a.example.", 60, "10.0.0.1")],
            &[],
        );
        assert!(question.is_answered_by(99, &answer) && !question.is_answered_by(98, &answer));
        assert!(!question.is_answered_by(99, &asked), "a question is no answer");
        let other = Question::read(&asking(7, "b.example.", RecordType::A, None)).unwrap();
        assert!(!other.is_answered_by(99, &answer));
        // A resolver may answer in small letters; the client gets its own.
        answer.make_ascii_lowercase();
        let adopted = Message::from_vec(&question.adopt(answer)).unwrap();
        assert_eq!(adopted.metadata.id, 7);
        assert_eq!(adopted.queries[0].name.to_ascii(), "A.eXample.");
        assert_eq!(adopted.answers.len(), 1);
    }

    #[test]
    fn one_key_for_questions_that_differ_in_case_and_id_alone() {
        let key = |id, name, kind, payload| Question::read(&asking(id, name, kind, payload)).unwrap().key();
        let first = key(1, "a.example.", RecordType::A, None);
        assert_eq!(first, key(2, "A.Example.", RecordType::A, None));
        assert_ne!(first, key(1, "b.example.", RecordType::A, None));
        assert_ne!(first, key(1, "a.example.", RecordType::AAAA, None));
        assert_ne!(first, key(1, "a.example.", RecordType::A, Some(1232)));
        assert_eq!(
            key(1, "a.example.", RecordType::A, Some(4096)),
            key(1, "a.example.", RecordType::A, Some(1232))
        );
    }

    #[test]
    fn the_meshs_answer() {
        let addresses: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|it| it.parse().unwrap()).into();
        for (kind, found) in [(RecordType::A, 2), (RecordType::AAAA, 1)] {
            let question = Question::read(&asking(7, "db.shop.", kind, None)).unwrap();
            let answer = Message::from_vec(&question.addresses(None, addresses.iter().copied())).unwrap();
            assert_eq!(answer.answers.len(), found);
            assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
            assert!(
                answer
                    .answers
                    .iter()
                    .all(|it| it.ttl == TTL && it.name.to_ascii() == "db.shop.")
            );
        }
        let question = Question::read(&asking(7, "a.example.shop.", RecordType::A, None)).unwrap();
        let canonical = Name::from_ascii("a.example.").unwrap();
        let answer = Message::from_vec(&question.addresses(Some(canonical), addresses[..1].iter().copied())).unwrap();
        let shown: Vec<String> = answer.answers.iter().map(|it| it.name.to_ascii()).collect();
        assert_eq!(shown, ["a.example.shop.", "a.example."]);
    }

    #[test]
    fn what_does_not_fit_is_cut_down_to_the_word_that_it_does_not() {
        let many: Vec<Record> = (1..=100)
            .map(|last| record("many.example.", 60, &format!("10.0.0.{last}")))
            .collect();
        for (payload, fits) in [
            (None, false),
            (Some(100), false),
            (Some(1700), true),
            (Some(65535), true),
        ] {
            let question = Question::read(&asking(7, "many.example.", RecordType::A, payload)).unwrap();
            let whole = answering(&question.to_resolver(7), ResponseCode::NoError, &many, &[]);
            let sent = question.fit(whole.clone());
            assert_eq!(is_truncated(&sent), !fits, "{payload:?}");
            assert_eq!(sent == whole, fits);
            assert!(sent.len() <= usize::from(payload.unwrap_or(512).max(512)));
            assert_eq!(Message::from_vec(&sent).unwrap().metadata.id, 7);
        }
    }

    #[test]
    fn ttls_are_found_and_no_others() {
        let question = Question::read(&asking(7, "a.example.", RecordType::A, Some(1232))).unwrap();
        let records = [
            record("a.example.", 60, "10.0.0.1"),
            record("b.example.", 61, "fd00::1"),
        ];
        let bytes = answering(&question.to_resolver(7), ResponseCode::NoError, &records, &records[..1]);
        let at = ttls(&bytes).unwrap();
        let values: Vec<u32> = at
            .iter()
            .map(|at| u32::from_be_bytes(*bytes[*at..].first_chunk().unwrap()))
            .collect();
        assert_eq!(values, [60, 61, 60]);
        for end in 0..bytes.len() {
            assert_eq!(ttls(&bytes[..end]), None, "{end}");
        }
    }
}
