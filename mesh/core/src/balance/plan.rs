//! How endpoints are chosen while the same of them are healthy.

use super::layout::{Layout, Table};
use super::locality::Share;
use super::priorities::{Standing, loads};
use super::weights::{Weights, below};
use super::{Rota, least_request};
use crate::traffic::Balancer;
use std::sync::Arc;

/// By how much weights are multiplied where endpoints warm up, so that small ones can shrink.
const WARMING_SCALE: f64 = 1000.0;

/// By how much shares are multiplied, so that they can shrink with what is healthy of them.
const SHARE_SCALE: u64 = 1000;

/// What of chance goes into a choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Draws {
    /// The key's hash, where there is one.
    pub hash: Option<u64>,
    /// Any numbers.
    pub random: [u32; 2],
    /// How many choices there were before.
    pub turn: usize,
}

/// How endpoints are chosen.
#[derive(Debug)]
pub struct Plan {
    ranks: Box<[Rank]>,
    /// The percents of the ranks summed up, where it is not always the first.
    percents: Option<Box<[u32]>>,
    choice: Choice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    LeastRequest,
    RoundRobin,
    Random,
}

#[derive(Debug)]
struct Rank {
    groups: Box<[Group]>,
    shares: Option<Weights>,
    hashed: Option<Hashed>,
}

#[derive(Debug)]
struct Hashed {
    table: Arc<Table>,
    members: Arc<[u32]>,
    /// Whether a member takes part, by its index in the table; `None`: all do.
    taken: Option<Box<[bool]>>,
}

#[derive(Debug)]
struct Group {
    members: Box<[u32]>,
    weights: Option<Weights>,
    rota: Option<Rota>,
}

impl Plan {
    /// Makes a plan. `healthy` is whether an endpoint takes part, `factor` the share of its weight that it takes (`None` where
    /// nobody warms up), `panic_below` is `minHealthPercent`.
    #[must_use]
    pub fn new(
        layout: &Layout,
        panic_below: u32,
        healthy: impl Fn(usize) -> bool,
        factor: Option<&dyn Fn(usize) -> f64>,
    ) -> Self {
        let choice = match layout.balancer {
            Balancer::LeastRequest => Choice::LeastRequest,
            Balancer::RoundRobin => Choice::RoundRobin,
            Balancer::Random | Balancer::Hash(_) | Balancer::Passthrough => Choice::Random,
        };
        let healthy = |at: u32| healthy(at as usize);
        let standings: Vec<Standing> = layout
            .ranks
            .iter()
            .map(|rank| Standing {
                healthy: count(rank.members.iter().filter(|at| healthy(**at))),
                total: count(rank.members.iter()),
            })
            .collect();
        let loads = loads(&standings, panic_below);
        let mut sum = 0;
        let percents: Box<[u32]> = loads
            .iter()
            .map(|load| {
                sum += load.percent;
                sum
            })
            .collect();
        let ranks = layout.ranks.iter().zip(&loads).map(|(rank, load)| {
            let takes = |at: u32| load.panics || healthy(at);
            let groups: Vec<(u32, Group)> = rank
                .shares
                .iter()
                .filter_map(|share| {
                    let members: Box<[u32]> = share.members.iter().copied().filter(|at| takes(*at)).collect();
                    let weight = shrunk(share, members.len());
                    (!members.is_empty()).then(|| (weight, Group::new(members, layout, choice, factor)))
                })
                .collect();
            let shares: Vec<u32> = groups.iter().map(|(weight, _)| *weight).collect();
            let all = rank.members.iter().all(|at| takes(*at));
            Rank {
                groups: groups.into_iter().map(|(_, group)| group).collect(),
                shares: Weights::new(&shares),
                hashed: rank.table.clone().map(|table| Hashed {
                    table,
                    members: rank.members.clone(),
                    taken: (!all).then(|| rank.members.iter().map(|at| takes(*at)).collect()),
                }),
            }
        });
        let first = loads.first().is_some_and(|load| load.percent == 100);
        Self {
            ranks: ranks.collect(),
            percents: (!first).then_some(percents),
            choice,
        }
    }

    /// Chooses an endpoint; `load` is how much is under way to one. `None` where none takes part.
    #[must_use]
    pub fn choose(&self, draws: &Draws, load: impl Fn(usize) -> u32) -> Option<usize> {
        let rank = match &self.percents {
            None => self.ranks.first()?,
            Some(percents) => {
                let draw = match draws.hash {
                    Some(hash) => u32::try_from(hash % 100).unwrap_or_default(),
                    // What is left of it serves the choice within the rank.
                    None => draws.random[0].swap_bytes() % 100,
                };
                self.ranks.get(percents.iter().position(|sum| draw < *sum)?)?
            }
        };
        rank.choose(self.choice, draws, load)
    }

    /// The same, but of the first priority of which `tried` has none; `None` where there is no such.
    #[must_use]
    pub fn choose_elsewhere(&self, tried: &[usize], draws: &Draws, load: impl Fn(usize) -> u32) -> Option<usize> {
        let untouched = |rank: &&Rank| !rank.members().any(|at| tried.contains(&at));
        let mut ranks = self.ranks.iter().filter(untouched);
        ranks.find_map(|rank| rank.choose(self.choice, draws, &load))
    }

    /// All endpoints that take part, those of the first priority first.
    pub fn members(&self) -> impl Iterator<Item = usize> {
        self.ranks.iter().flat_map(Rank::members)
    }
}

impl Rank {
    fn members(&self) -> impl Iterator<Item = usize> {
        self.groups
            .iter()
            .flat_map(|group| group.members.iter().map(|at| *at as usize))
    }

    fn choose(&self, choice: Choice, draws: &Draws, load: impl Fn(usize) -> u32) -> Option<usize> {
        if let (Some(hashed), Some(hash)) = (&self.hashed, draws.hash) {
            return hashed.find(hash);
        }
        let group = match &self.groups[..] {
            [only] => only,
            groups => {
                let draw = draws.random[0].wrapping_add(draws.random[1]).rotate_left(16);
                let at = match &self.shares {
                    Some(shares) => shares.draw(draw),
                    None => below(groups.len(), draw),
                };
                groups.get(at)?
            }
        };
        let len = group.members.len();
        let at = match (choice, &group.rota, &group.weights) {
            (Choice::LeastRequest, _, weights) => {
                let load = |at: usize| group.members.get(at).map_or(u32::MAX, |at| load(*at as usize));
                least_request(len, weights.as_ref(), draws.random, load)?
            }
            (Choice::RoundRobin, Some(rota), _) => rota.at(draws.turn),
            (Choice::RoundRobin, None, _) => draws.turn % len.max(1),
            (Choice::Random, _, Some(weights)) => weights.draw(draws.random[0]),
            (Choice::Random, _, None) => below(len, draws.random[0]),
        };
        group.members.get(at).map(|at| *at as usize)
    }
}

impl Hashed {
    fn find(&self, hash: u64) -> Option<usize> {
        let taken = |at: usize| match &self.taken {
            None => true,
            Some(taken) => taken.get(at).copied().unwrap_or_default(),
        };
        let at = match &*self.table {
            Table::Ring(ring) => ring.find(hash, taken),
            Table::Maglev(maglev) => maglev.find(hash, taken),
        }?;
        self.members.get(at).map(|at| *at as usize)
    }
}

impl Group {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates, and is positive.
    fn new(members: Box<[u32]>, layout: &Layout, choice: Choice, factor: Option<&dyn Fn(usize) -> f64>) -> Self {
        let weight = |at: usize| layout.weights.get(at).copied().unwrap_or(1);
        let weights: Vec<u32> = members
            .iter()
            .map(|at| *at as usize)
            .map(|at| match factor {
                None => weight(at),
                Some(factor) => (f64::from(weight(at)) * factor(at) * WARMING_SCALE) as u32,
            })
            .collect();
        let summed = Weights::new(&weights);
        let rota = (choice == Choice::RoundRobin && summed.is_some()).then(|| Rota::new(&weights));
        Self {
            members,
            weights: summed,
            rota,
        }
    }
}

/// A share's weight by what is left of it: as with priorities, it may be short of some.
#[allow(clippy::cast_possible_truncation)] // Saturates.
fn shrunk(share: &Share, left: usize) -> u32 {
    let total = share.members.len().max(1) as u64;
    let part = (140 * left as u64 / total).min(100);
    (u64::from(share.weight) * SHARE_SCALE * part / 100).min(u64::from(u32::MAX)) as u32
}

fn count<'a>(members: impl Iterator<Item = &'a u32>) -> u32 {
    u32::try_from(members.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // Of small numbers.
mod tests {
    use super::*;
    use crate::balance::{Level, Member, hash, rehash};
    use crate::traffic::{ConsistentHash, HashAlgorithm, HashKey};

    fn hashed(algorithm: HashAlgorithm) -> Balancer {
        Balancer::Hash(ConsistentHash {
            key: HashKey::SourceIp,
            algorithm,
        })
    }

    fn ring() -> Balancer {
        hashed(HashAlgorithm::Ring { minimum_size: 1024 })
    }

    fn maglev() -> Balancer {
        hashed(HashAlgorithm::Maglev { table_size: 65_537 })
    }

    fn members(weights: &[u32]) -> Vec<Member> {
        let id = |at: usize| hash(format!("10.0.0.{at}:80").as_bytes());
        weights
            .iter()
            .enumerate()
            .map(|(at, weight)| Member {
                id: id(at),
                weight: *weight,
            })
            .collect()
    }

    fn one_level(len: u32) -> Vec<Level> {
        vec![vec![Share {
            weight: 1,
            members: (0..len).collect(),
        }]]
    }

    /// How often each of `len` is chosen of many times, in percent.
    fn shares(plan: &Plan, len: usize) -> Vec<u32> {
        let mut counts = vec![0_u32; len];
        for turn in 0..40_000_u32 {
            let random = rehash(u64::from(turn), 7);
            let draws = Draws {
                hash: Some(rehash(u64::from(turn), 3)),
                random: [random as u32, (random >> 32) as u32],
                turn: turn as usize,
            };
            counts[plan.choose(&draws, |_| 0).unwrap()] += 1;
        }
        counts.iter().map(|count| (count + 200) / 400).collect()
    }

    #[test]
    fn every_balancer_gives_each_what_it_weighs() {
        for balancer in [
            Balancer::LeastRequest,
            Balancer::RoundRobin,
            Balancer::Random,
            ring(),
            maglev(),
        ] {
            for (weights, expected) in [
                (&[1, 1, 1, 1][..], &[25, 25, 25, 25][..]),
                (&[1, 3], &[25, 75]),
                (&[7], &[100]),
            ] {
                let len = weights.len();
                let layout = Layout::new(&balancer, &members(weights), one_level(len as u32));
                let got = shares(&Plan::new(&layout, 0, |_| true, None), len);
                let slack = if matches!(balancer, Balancer::Hash(_)) { 5 } else { 1 };
                let fits = got
                    .iter()
                    .zip(expected)
                    .all(|(got, expected)| got.abs_diff(*expected) <= slack);
                assert!(fits, "{balancer:?} {weights:?}: {got:?}");
            }
        }
    }

    #[test]
    fn whoever_is_not_healthy_is_not_chosen() {
        for balancer in [
            Balancer::LeastRequest,
            Balancer::RoundRobin,
            Balancer::Random,
            ring(),
            maglev(),
        ] {
            let layout = Layout::new(&balancer, &members(&[1; 5]), one_level(5));
            for left_out in 0..5 {
                let got = shares(&Plan::new(&layout, 0, |at| at != left_out, None), 5);
                assert!(
                    got.iter()
                        .enumerate()
                        .all(|(at, share)| (at == left_out) == (*share == 0)),
                    "{balancer:?} {got:?}"
                );
            }
            let none = Plan::new(&layout, 0, |_| false, None);
            assert_eq!(none.choose(&Draws::default(), |_| 0), None, "{balancer:?}");
            assert_eq!(
                none.choose(
                    &Draws {
                        hash: Some(1),
                        ..Draws::default()
                    },
                    |_| 0
                ),
                None,
                "{balancer:?}"
            );
            let panic = Plan::new(&layout, 1, |_| false, None);
            assert!(shares(&panic, 5).iter().all(|share| *share > 10), "{balancer:?}");
        }
    }

    #[test]
    fn few_keys_move_when_an_endpoint_leaves_or_fails() {
        const KEYS: u64 = 20_000;
        for balancer in [ring(), maglev()] {
            for len in [2_u32, 3, 10, 30] {
                let all = members(&vec![1; len as usize]);
                let find = |plan: &Plan, ids: &[Member], key: u64| {
                    let draws = Draws {
                        hash: Some(rehash(key, 1)),
                        ..Draws::default()
                    };
                    ids[plan.choose(&draws, |_| 0).unwrap()].id
                };
                let before = Plan::new(&Layout::new(&balancer, &all, one_level(len)), 0, |_| true, None);
                for gone in [0, len as usize - 1] {
                    let mut fewer = all.clone();
                    let left = fewer.remove(gone).id;
                    let after = Plan::new(&Layout::new(&balancer, &fewer, one_level(len - 1)), 0, |_| true, None);
                    let failed = Plan::new(&Layout::new(&balancer, &all, one_level(len)), 0, |at| at != gone, None);
                    let moved = |plan: &Plan, ids: &[Member]| {
                        (0..KEYS)
                            .filter(|key| find(plan, ids, *key) != find(&before, &all, *key))
                            .count() as f64
                            / KEYS as f64
                    };
                    let most = 1.0 / f64::from(len) + 0.05;
                    let (moved_left, moved_failed) = (moved(&after, &fewer), moved(&failed, &all));
                    assert!(moved_left < most, "{balancer:?} {len}: {moved_left}");
                    assert!(moved_failed < most, "{balancer:?} {len}: {moved_failed}");
                    // Only those of the one that failed.
                    let kept = |key: &u64| find(&before, &all, *key) != left;
                    assert!(
                        (0..KEYS)
                            .filter(kept)
                            .all(|key| find(&failed, &all, key) == find(&before, &all, key))
                    );
                }
            }
        }
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter_to_a_ring() {
        let all = members(&[1; 7]);
        let mut turned = all.clone();
        turned.rotate_left(3);
        for balancer in [ring(), maglev()] {
            let [one, other] =
                [&all, &turned].map(|ids| Plan::new(&Layout::new(&balancer, ids, one_level(7)), 0, |_| true, None));
            let same = (0..1000_u64).filter(|key| {
                let draws = Draws {
                    hash: Some(rehash(*key, 1)),
                    ..Draws::default()
                };
                all[one.choose(&draws, |_| 0).unwrap()] == turned[other.choose(&draws, |_| 0).unwrap()]
            });
            assert!(same.count() >= 980, "{balancer:?}");
        }
    }

    #[test]
    fn a_lower_priority_takes_what_the_first_cannot() {
        let levels = || -> Vec<Level> {
            [0..4_u32, 4..6]
                .map(|members| {
                    vec![Share {
                        weight: 1,
                        members: members.collect(),
                    }]
                })
                .into()
        };
        for balancer in [
            Balancer::LeastRequest,
            Balancer::RoundRobin,
            Balancer::Random,
            ring(),
            maglev(),
        ] {
            let layout = Layout::new(&balancer, &members(&[1; 6]), levels());
            for (failed, first) in [(0, 100), (1, 100), (2, 70), (3, 35), (4, 0)] {
                let plan = Plan::new(&layout, 0, |at| at >= failed, None);
                let got = shares(&plan, 6);
                let share: u32 = got[..4].iter().sum();
                assert!(share.abs_diff(first) <= 2, "{balancer:?} {failed}: {got:?}");
            }
            let plan = Plan::new(&layout, 0, |_| true, None);
            let beyond = plan.choose_elsewhere(&[2], &Draws::default(), |_| 0);
            assert!(beyond.is_some_and(|at| at >= 4), "{balancer:?}");
            assert_eq!(plan.choose_elsewhere(&[2, 5], &Draws::default(), |_| 0), None);
            assert_eq!(plan.members().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn places_take_the_shares_that_they_are_given() {
        let level = |weights: [u32; 2]| -> Vec<Level> {
            let share = |weight, members: std::ops::Range<u32>| Share {
                weight,
                members: members.collect(),
            };
            vec![vec![share(weights[0], 0..1), share(weights[1], 1..4)]]
        };
        for balancer in [
            Balancer::LeastRequest,
            Balancer::RoundRobin,
            Balancer::Random,
            ring(),
            maglev(),
        ] {
            let layout = Layout::new(&balancer, &members(&[1; 4]), level([80, 20]));
            let got = shares(&Plan::new(&layout, 0, |_| true, None), 4);
            assert!(got[0].abs_diff(80) <= 4, "{balancer:?} {got:?}");
            // What fails leaves its share to the others.
            let got = shares(&Plan::new(&layout, 0, |at| at != 0, None), 4);
            assert_eq!(got[0], 0, "{balancer:?}");
        }
    }

    #[test]
    fn who_warms_up_takes_less() {
        for balancer in [Balancer::LeastRequest, Balancer::RoundRobin, Balancer::Random] {
            let layout = Layout::new(&balancer, &members(&[1, 1]), one_level(2));
            let factor = |at: usize| if at == 0 { 1.0 } else { 0.25 };
            let got = shares(&Plan::new(&layout, 0, |_| true, Some(&factor)), 2);
            assert!(got[1].abs_diff(20) <= 1, "{balancer:?} {got:?}");
        }
    }
}
