//! `trafficPolicy.loadBalancer`: which endpoint takes the next request.

use std::sync::Arc;
use std::time::Duration;

/// `simple`, or `consistentHash`.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Balancer {
    /// Of two drawn at random the one with fewer requests under way: Istio's default.
    #[default]
    LeastRequest,
    /// Each in turn.
    RoundRobin,
    /// Any.
    Random,
    /// The address that the client dialled.
    Passthrough,
    /// The same endpoint for the same key, as long as it is there.
    Hash(ConsistentHash),
}

impl Balancer {
    /// Envoy's name of it, its `lb_policy`.
    #[must_use]
    pub fn lb_policy(&self) -> &'static str {
        match self {
            Self::LeastRequest => "LEAST_REQUEST",
            Self::RoundRobin => "ROUND_ROBIN",
            Self::Random => "RANDOM",
            Self::Passthrough => "CLUSTER_PROVIDED",
            Self::Hash(hash) => match hash.algorithm {
                HashAlgorithm::Ring { .. } => "RING_HASH",
                HashAlgorithm::Maglev { .. } => "MAGLEV",
            },
        }
    }
}

/// `consistentHash`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// How keys are spread.
    pub algorithm: HashAlgorithm,
}

/// What requests with the same value of go to the same endpoint. Where a request has none, any endpoint is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// `httpHeaderName`, in lower case.
    Header(Arc<str>),
    /// `httpCookie`.
    Cookie(Cookie),
    /// `useSourceIp`.
    SourceIp,
    /// `httpQueryParameterName`.
    QueryParameter(Arc<str>),
}

/// `httpCookie`: made by the proxy where a client has none and `ttl` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// `name`.
    pub name: Arc<str>,
    /// `path`.
    pub path: Option<Arc<str>>,
    /// `ttl`; zero is a session's cookie, `None` lets none be made.
    pub ttl: Option<Duration>,
    /// `attributes`: names and values, as they stand.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
}

/// `ringHash` or `maglev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// A ring with at least so many points (`minimumRingSize`, 1024 where it is absent).
    Ring {
        /// The points.
        minimum_size: u32,
    },
    /// Maglev's table of so many places, a prime (`tableSize`, 65537 where it is absent).
    Maglev {
        /// The places.
        table_size: u32,
    },
}

/// `warmup`: an endpoint that is new takes less at first.
#[derive(Debug, Clone, PartialEq)]
pub struct Warmup {
    /// For how long.
    pub duration: Duration,
    /// What it begins with, in percent of its share (10 where it is absent).
    pub minimum_percent: f64,
    /// The exponent with which it grows; 1 is a straight line.
    pub aggression: f64,
}
