//! What one version of a destination's endpoints comes to, whoever of them is healthy.

use super::locality::Level;
use super::{Maglev, Ring};
use crate::traffic::{Balancer, HashAlgorithm};
use std::sync::Arc;

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// A hash of what it is, the same in every version.
    pub id: u64,
    /// Its weight.
    pub weight: u32,
}

/// A table of hashes.
#[derive(Debug)]
pub(super) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// One priority.
#[derive(Debug, Clone)]
pub(super) struct Rank {
    pub(super) shares: Level,
    /// The indices behind those of the table.
    pub(super) members: Arc<[u32]>,
    pub(super) table: Option<Arc<Table>>,
}

/// What one version of a destination's endpoints comes to.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) balancer: Balancer,
    pub(super) weights: Box<[u32]>,
    pub(super) ranks: Vec<Rank>,
}

impl Layout {
    /// Makes it, with what is costly of it: the tables of a consistent hash.
    #[must_use]
    pub fn new(balancer: &Balancer, members: &[Member], levels: Vec<Level>) -> Self {
        let table = |level: &Level| match balancer {
            Balancer::Hash(hash) => Some(Arc::new(table(hash.algorithm, &weighed(members, level)))),
            _ => None,
        };
        let ranks = levels.into_iter().map(|shares| Rank {
            table: table(&shares),
            members: shares.iter().flat_map(|share| &share.members).copied().collect(),
            shares,
        });
        Self {
            balancer: balancer.clone(),
            ranks: ranks.collect(),
            weights: members.iter().map(|member| member.weight.max(1)).collect(),
        }
    }
}

fn table(algorithm: HashAlgorithm, members: &[(u64, u32)]) -> Table {
    match algorithm {
        HashAlgorithm::Ring { minimum_size } => Table::Ring(Ring::new(members, minimum_size)),
        HashAlgorithm::Maglev { table_size } => Table::Maglev(Maglev::new(members, table_size)),
    }
}

/// The members of a priority, each with its share of the whole.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // Positive, and at most a million.
fn weighed(members: &[Member], level: &Level) -> Vec<(u64, u32)> {
    let of = |at: u32| members.get(at as usize).copied().unwrap_or(Member { id: 0, weight: 1 });
    let weight = |at: u32| f64::from(of(at).weight.max(1));
    if let [only] = &level[..] {
        return only.members.iter().map(|at| (of(*at).id, of(*at).weight)).collect();
    }
    let whole: f64 = level.iter().map(|share| f64::from(share.weight)).sum();
    let mut all = Vec::new();
    for share in level {
        let total: f64 = share.members.iter().map(|at| weight(*at)).sum();
        let part = f64::from(share.weight) / whole / total;
        let scaled = |at: &u32| (of(*at).id, (weight(*at) * part * 1e6).round().max(1.0) as u32);
        all.extend(share.members.iter().map(scaled));
    }
    all
}
