//! The series of one set of labels: what a worker counts of the requests and connections between the same two workloads.
//!
//! A request's counting must cost next to nothing, so a set of labels ([`Base`]) is resolved once and kept where it is used
//! again, and what varies from request to request (the code, the flags) is found in a short list, most used first as it were:
//! what came first comes most. The lists only grow, without locks; a whole set goes when it was idle for long.

use super::flags::Flags;
use super::histogram::{Counted, Counter, Histogram};
use std::sync::{Arc, OnceLock};

/// What varies between requests of one [`Base`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u64);

/// No gRPC status.
const NO_STATUS: u8 = u8::MAX;

impl Key {
    /// A request's: the response's code, 0 for none; for gRPC the status.
    #[must_use]
    pub fn http(code: u16, flags: Flags, grpc: Option<Option<u8>>) -> Self {
        let status = grpc.flatten().unwrap_or(NO_STATUS);
        Self(
            u64::from(code) << 48
                | u64::from(flags.bits()) << 16
                | u64::from(status) << 8
                | u64::from(grpc.is_some()) << 1
                | 1,
        )
    }

    /// A connection's.
    #[must_use]
    pub fn tcp(flags: Flags) -> Self {
        Self(u64::from(flags.bits()) << 16)
    }

    /// Whether it is a request's.
    #[must_use]
    pub fn is_http(self) -> bool {
        self.0 & 1 == 1
    }

    /// Whether it is a gRPC request's.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        self.0 & 2 == 2
    }

    /// The response's code.
    #[must_use]
    pub fn code(self) -> u16 {
        u16::try_from(self.0 >> 48).unwrap_or_default()
    }

    /// The flags.
    #[must_use]
    pub fn flags(self) -> Flags {
        Flags::from_bits(u32::try_from(self.0 >> 16 & 0xffff_ffff).unwrap_or_default())
    }

    /// gRPC's status, where there is one.
    #[must_use]
    pub fn status(self) -> Option<u8> {
        u8::try_from(self.0 >> 8 & 0xff)
            .ok()
            .filter(|status| *status != NO_STATUS)
    }
}

/// What is counted of requests.
#[derive(Debug, Default)]
pub struct Requests {
    /// Milliseconds, in thousandths.
    pub duration: Histogram,
    /// Bytes of request bodies, in thousandths.
    pub received: Histogram,
    /// Bytes of response bodies, in thousandths.
    pub sent: Histogram,
}

/// What is counted of connections.
#[derive(Debug, Default)]
pub struct Connections {
    /// Opened.
    pub opened: Counter,
    /// Closed.
    pub closed: Counter,
    /// Bytes from the initiator.
    pub received: Counter,
    /// Bytes to the initiator.
    pub sent: Counter,
}

/// One key's counters.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "each stands in a box of its own")]
pub enum Series {
    /// Of requests.
    Requests(Requests),
    /// Of connections.
    Connections(Connections),
}

impl Series {
    fn new(key: Key) -> Self {
        if key.is_http() {
            Self::Requests(Requests::default())
        } else {
            Self::Connections(Connections::default())
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Totals {
        match self {
            Self::Requests(requests) => Totals::Requests(Box::new([
                requests.duration.read(),
                requests.received.read(),
                requests.sent.read(),
            ])),
            Self::Connections(connections) => Totals::Connections([
                connections.opened.get(),
                connections.closed.get(),
                connections.received.get(),
                connections.sent.get(),
            ]),
        }
    }

    /// A number that grows with every use.
    fn used(&self) -> u64 {
        match self {
            Self::Requests(requests) => requests.duration.read().count(),
            Self::Connections(it) => [&it.opened, &it.closed, &it.received, &it.sent]
                .into_iter()
                .fold(0, |sum, counter| counter.get().wrapping_add(sum)),
        }
    }
}

/// A series' values, of one worker or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Totals {
    /// Durations, request bytes, response bytes.
    Requests(Box<[Counted; 3]>),
    /// Opened, closed, received, sent.
    Connections([u64; 4]),
}

impl Totals {
    /// Adds another worker's of the same key.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Requests(to), Self::Requests(from)) => {
                for (to, from) in to.iter_mut().zip(&**from) {
                    to.merge(from);
                }
            }
            (Self::Connections(to), Self::Connections(from)) => {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = to.wrapping_add(*from);
                }
            }
            // One key is of one kind.
            _ => {}
        }
    }
}

/// gRPC messages, which are counted without the labels that a key makes.
#[derive(Debug, Default)]
pub struct Messages {
    /// Of requests.
    pub request: Counter,
    /// Of responses.
    pub response: Counter,
}

#[derive(Debug)]
struct Node {
    key: Key,
    series: Series,
    next: OnceLock<Box<Node>>,
}

/// A set of labels with its series, of one worker.
#[derive(Debug)]
pub struct Base {
    /// The labels as they are written, without braces, and whatever a key adds.
    pub labels: Labels,
    /// gRPC messages.
    pub messages: Messages,
    head: OnceLock<Box<Node>>,
}

/// Labels as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    /// Those that every family has.
    pub common: Arc<str>,
    /// The value of `connection_security_policy`.
    pub security: &'static str,
}

impl Base {
    /// A set of labels of which nothing was counted yet.
    #[must_use]
    pub fn new(labels: Labels) -> Self {
        Self {
            labels,
            messages: Messages::default(),
            head: OnceLock::new(),
        }
    }

    /// The series of a key, if there is one.
    #[must_use]
    pub fn find(&self, key: Key) -> Option<&Series> {
        let mut next = self.head.get();
        while let Some(node) = next {
            if node.key == key {
                return Some(&node.series);
            }
            next = node.next.get();
        }
        None
    }

    /// The series of a key, made if need be.
    pub fn find_or_add(&self, key: Key) -> &Series {
        let mut place = &self.head;
        loop {
            let node = place.get_or_init(|| {
                Box::new(Node {
                    key,
                    series: Series::new(key),
                    next: OnceLock::new(),
                })
            });
            if node.key == key {
                return &node.series;
            }
            place = &node.next;
        }
    }

    /// All series.
    pub fn all(&self) -> impl Iterator<Item = (Key, &Series)> {
        std::iter::successors(self.head.get(), |node| node.next.get()).map(|node| (node.key, &node.series))
    }

    /// A number that grows with every use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.all().fold(0, |sum, (_, series)| series.used().wrapping_add(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_what_it_was_made_of() {
        for (code, flags, grpc) in [
            (200, Flags::NONE, None),
            (0, Flags::DC, None),
            (503, Flags::UF.and(Flags::URX), Some(Some(14))),
            (200, Flags::DO, Some(None)),
            (999, Flags::LH, Some(Some(0))),
        ] {
            let key = Key::http(code, flags, grpc);
            assert!(key.is_http());
            let again = (key.code(), key.flags(), key.is_grpc().then(|| key.status()));
            assert_eq!(again, (code, flags, grpc));
        }
        let tcp = Key::tcp(Flags::UF);
        assert_eq!((tcp.is_http(), tcp.flags()), (false, Flags::UF));
        assert_ne!(tcp, Key::http(0, Flags::UF, None));
    }

    #[test]
    fn series_are_found_again() {
        let base = Base::new(Labels {
            common: "".into(),
            security: "none",
        });
        let keys = [200, 503, 404].map(|code| Key::http(code, Flags::NONE, None));
        for (n, key) in keys.into_iter().enumerate() {
            assert!(base.find(key).is_none());
            for _ in 0..=n {
                let Series::Requests(requests) = base.find_or_add(key) else {
                    panic!("requests")
                };
                requests.duration.observe(1);
            }
        }
        let counts: Vec<_> = base
            .all()
            .map(|(key, series)| match series.read() {
                Totals::Requests(totals) => (key.code(), totals[0].count()),
                Totals::Connections(_) => panic!("requests"),
            })
            .collect();
        assert_eq!(counts, [(200, 1), (503, 2), (404, 3)]);
        assert_eq!(base.used(), 6);
    }
}
