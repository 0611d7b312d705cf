//! What became of connections that the kernel could carry: counted under names that the code alone gives.

use crate::net::listen::Direction;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use std::array::from_fn;
use std::collections::BTreeMap;

/// What became of a connection that was to be handed over. All but the first and the last go on as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The kernel carries it.
    Kernel,
    /// It negotiated what this kernel does not have.
    CipherSuite,
    /// An end of it was closed before.
    Closing,
    /// The kernel takes it not.
    Refused,
    /// The kernel failed when the keys were given away already: the connection is broken off.
    Failed,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Kernel,
        Self::CipherSuite,
        Self::Closing,
        Self::Refused,
        Self::Failed,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::CipherSuite => "cipher_suite",
            Self::Closing => "closing",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Why a connection that the kernel carries is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// The peer changes its keys, which kernels before 6.14 cannot follow.
    #[error("the peer changes its keys (KeyUpdate), which TLS by the kernel does not follow")]
    KeyUpdate,
    /// So much was sent that the keys would have to be changed.
    #[error("as much was sent under one key as is safe")]
    KeyLimit,
    /// The peer says that something is wrong.
    #[error("the peer broke off with an alert")]
    Alert,
    /// The peer says what has no place here.
    #[error("the peer sent records that have no place after the handshake")]
    Unexpected,
    /// A record does not verify.
    #[error("a record does not decrypt")]
    Undecipherable,
}

impl Ended {
    const ALL: [Self; 5] = [
        Self::KeyUpdate,
        Self::KeyLimit,
        Self::Alert,
        Self::Unexpected,
        Self::Undecipherable,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::KeyUpdate => "key_update",
            Self::KeyLimit => "key_limit",
            Self::Alert => "alert",
            Self::Unexpected => "unexpected_record",
            Self::Undecipherable => "undecipherable",
        }
    }
}

/// The counters, looked up once.
#[derive(Debug)]
pub(super) struct Counts {
    outcomes: [[IntCounter; Outcome::ALL.len()]; 2],
    ended: [IntCounter; Ended::ALL.len()],
}

impl Counts {
    /// Makes and registers them.
    ///
    /// # Errors
    /// That of the registry, for a name that is taken.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let outcomes = counters(
            "pinnace_proxy_kernel_tls_connections_total",
            "Connections that the kernel was to carry, and what became of it.",
            &["direction", "result"],
        )?;
        let ended = counters(
            "pinnace_proxy_kernel_tls_broken_off_total",
            "Connections carried by the kernel that were broken off.",
            &["reason"],
        )?;
        Ok(Self {
            outcomes: from_fn(|direction| {
                let direction = ["inbound", "outbound"][direction];
                from_fn(|at| outcomes.with_label_values(&[direction, Outcome::ALL[at].as_str()]))
            }),
            ended: from_fn(|at| ended.with_label_values(&[Ended::ALL[at].as_str()])),
        })
    }

    pub(super) fn outcome(&self, direction: Direction, outcome: Outcome) {
        let direction = match direction {
            Direction::Inbound => 0,
            Direction::Outbound => 1,
        };
        self.outcomes[direction][outcome as usize].inc();
    }

    pub(super) fn ended(&self, reason: Ended) {
        self.ended[reason as usize].inc();
    }

    /// Both by name, for the administration page; in both directions together.
    pub(super) fn shown(&self) -> [BTreeMap<String, u64>; 2] {
        let [inbound, outbound] = &self.outcomes;
        let outcomes = Outcome::ALL.iter().zip(inbound.iter().zip(outbound));
        let ended = Ended::ALL.iter().zip(&self.ended);
        [
            outcomes
                .map(|(outcome, (inbound, outbound))| (outcome.as_str().to_owned(), inbound.get() + outbound.get()))
                .collect(),
            ended
                .map(|(reason, counter)| (reason.as_str().to_owned(), counter.get()))
                .collect(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_counter_of_its_own() {
        let counts = Counts::new(&Registry::new()).unwrap();
        for outcome in Outcome::ALL {
            counts.outcome(Direction::Inbound, outcome);
            counts.outcome(Direction::Outbound, outcome);
        }
        Ended::ALL.into_iter().for_each(|reason| counts.ended(reason));
        let [outcomes, ended] = counts.shown();
        assert_eq!(outcomes.len(), Outcome::ALL.len());
        assert!(outcomes.values().all(|count| *count == 2), "{outcomes:?}");
        assert_eq!(ended.len(), Ended::ALL.len());
        assert!(ended.values().all(|count| *count == 1), "{ended:?}");
    }
}
