//! `localityLbSetting`: which endpoints come first for a client, and what share each place takes.

use crate::labels::Labels;
use crate::traffic::{Distribute, Locality, LocalitySetting};
use std::collections::BTreeMap;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Where it is; `None` where that is not known.
    pub locality: Option<&'a Locality>,
    /// Its labels.
    pub labels: &'a Labels,
}

/// An endpoint, as far as places go.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// Where it is.
    pub locality: Option<&'a Locality>,
    /// What it has of the labels of `failoverPriority`, in their order.
    pub ranks: &'a [Box<str>],
    /// Its weight.
    pub weight: u32,
}

/// Endpoints that share what is given to them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What they take beside other shares of the same priority.
    pub weight: u32,
    /// Their indices, ascending.
    pub members: Vec<u32>,
}

/// One priority: its shares, none of which is empty.
pub type Level = Vec<Share>;

/// The labels that say where a workload is, for what it has not as labels.
const TOPOLOGY: [&str; 3] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];

/// Spreads endpoints over priorities and shares, as Istio does. `falls_over` is whether priorities are made at all: endpoints must
/// be found unhealthy for another priority to be used (`outlierDetection`).
#[must_use]
pub fn spread(
    setting: Option<&LocalitySetting>,
    falls_over: bool,
    client: Client<'_>,
    endpoints: &[Placed<'_>],
) -> Vec<Level> {
    let Some(setting) = setting else {
        return flat(endpoints);
    };
    if !setting.distribute.is_empty() {
        let own = setting.distribute.iter().find(|it| matches(&it.from, client.locality));
        return own.map_or_else(|| flat(endpoints), |own| vec![distributed(own, endpoints)]);
    }
    if !falls_over && !setting.always {
        return flat(endpoints);
    }
    let by_labels = !setting.failover_priority.is_empty();
    let by_place = !by_labels || !setting.failover.is_empty();
    let mut levels: BTreeMap<(usize, u8), Vec<u32>> = BTreeMap::new();
    for (endpoint, at) in endpoints.iter().zip(0..) {
        let labels = if by_labels {
            by_label(setting, client, endpoint)
        } else {
            0
        };
        let place = if by_place {
            by_distance(setting, client, endpoint)
        } else {
            0
        };
        levels.entry((labels, place)).or_default().push(at);
    }
    levels
        .into_values()
        .map(|members| vec![Share { weight: 1, members }])
        .collect()
}

fn flat(endpoints: &[Placed<'_>]) -> Vec<Level> {
    let members: Vec<u32> = (0..).take(endpoints.len()).collect();
    if members.is_empty() {
        return Vec::new();
    }
    vec![vec![Share { weight: 1, members }]]
}

/// `distribute`: what no entry names takes nothing.
#[allow(clippy::cast_possible_truncation)] // At most the entry's weight.
fn distributed(rule: &Distribute, endpoints: &[Placed<'_>]) -> Level {
    let mut places: BTreeMap<Option<&Locality>, (u64, Vec<u32>)> = BTreeMap::new();
    for (endpoint, at) in endpoints.iter().zip(0..) {
        let place = places.entry(endpoint.locality).or_default();
        place.0 += u64::from(endpoint.weight.max(1));
        place.1.push(at);
    }
    let mut shares = Vec::new();
    for (to, weight) in &rule.to {
        let mut taken = Vec::new();
        places.retain(|locality, place| {
            let takes = matches(to, *locality);
            if takes {
                taken.push(std::mem::take(place));
            }
            !takes
        });
        let total: u64 = taken.iter().map(|(weight, _)| weight).sum();
        shares.extend(taken.into_iter().filter(|_| *weight > 0).map(|(own, members)| Share {
            weight: (own * u64::from(*weight)).div_ceil(total) as u32,
            members,
        }));
    }
    shares
}

/// Whether a place is one that a rule names: `REGION/ZONE/SUBZONE`, of which what is absent or `*` is anything.
fn matches(rule: &str, locality: Option<&Locality>) -> bool {
    let nowhere = Locality::default();
    let locality = locality.unwrap_or(&nowhere);
    let rule = Locality::parse(rule);
    let part = |rule: &str, is: &str, any: bool| rule == "*" || (any && rule.is_empty()) || rule == is;
    part(&rule.region, &locality.region, false)
        && part(&rule.zone, &locality.zone, true)
        && part(&rule.subzone, &locality.subzone, true)
}

/// `failoverPriority`: who has more of the labels in common with the client, from the first on, comes first.
fn by_label(setting: &LocalitySetting, client: Client<'_>, endpoint: &Placed<'_>) -> usize {
    let labels = &setting.failover_priority;
    let differs = labels.iter().enumerate().find(|(at, label)| {
        let of_client = match label.split_once('=') {
            Some((_, value)) => value,
            None => label_of(client, label),
        };
        of_client != endpoint.ranks.get(*at).map_or("", AsRef::as_ref)
    });
    differs.map_or(0, |(at, _)| labels.len() - at)
}

fn label_of<'a>(client: Client<'a>, label: &str) -> &'a str {
    if let Some(value) = client.labels.get(label) {
        return value;
    }
    let Some(locality) = client.locality else { return "" };
    let parts = [&locality.region, &locality.zone, &locality.subzone];
    let at = TOPOLOGY.iter().position(|name| *name == label);
    at.and_then(|at| parts.get(at)).map_or("", |part| part)
}

/// Region, zone and subzone; then the region to which `failover` leads; then all others.
fn by_distance(setting: &LocalitySetting, client: Client<'_>, endpoint: &Placed<'_>) -> u8 {
    let nowhere = Locality::default();
    let (from, to) = (
        client.locality.unwrap_or(&nowhere),
        endpoint.locality.unwrap_or(&nowhere),
    );
    if from.region != to.region {
        let rule = setting.failover.iter().find(|rule| rule.from == from.region);
        return match rule {
            Some(rule) if rule.to != to.region => 4,
            _ => 3,
        };
    }
    match (from.zone == to.zone, from.subzone == to.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Failover;

    const PLACES: [&str; 6] = ["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1", "r3/z1/s1", ""];

    fn spread_of(setting: &LocalitySetting, falls_over: bool, client: &str, labels: &[(&str, &str)]) -> Vec<Vec<u32>> {
        levels(setting, falls_over, client, labels)
            .into_iter()
            .map(|level| level.into_iter().flat_map(|share| share.members).collect())
            .collect()
    }

    fn levels(setting: &LocalitySetting, falls_over: bool, client: &str, labels: &[(&str, &str)]) -> Vec<Level> {
        let own = Locality::parse(client);
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let places: Vec<Option<Locality>> = PLACES
            .iter()
            .map(|place| (!place.is_empty()).then(|| Locality::parse(place)))
            .collect();
        // Of `failoverPriority: [network, version]`.
        let ranks: Vec<Box<[Box<str>]>> = [
            ["n1", "v1"],
            ["n1", "v2"],
            ["n2", "v1"],
            ["n2", "v2"],
            ["n1", "v1"],
            ["", ""],
        ]
        .iter()
        .map(|ranks| ranks.iter().map(|rank| (*rank).into()).collect())
        .collect();
        let endpoints: Vec<Placed<'_>> = places
            .iter()
            .zip(&ranks)
            .map(|(locality, ranks)| Placed {
                locality: locality.as_ref(),
                ranks,
                weight: 1,
            })
            .collect();
        let client = Client {
            locality: (!client.is_empty()).then_some(&own),
            labels: &labels,
        };
        spread(Some(setting), falls_over, client, &endpoints)
    }

    #[test]
    fn near_ones_come_first_where_failures_are_looked_for() {
        let default = LocalitySetting::default();
        let failover = LocalitySetting {
            failover: vec![Failover {
                from: "r1".into(),
                to: "r3".into(),
            }],
            ..default.clone()
        };
        let always = LocalitySetting {
            always: true,
            ..default.clone()
        };
        let all = || vec![vec![0, 1, 2, 3, 4, 5]];
        for (case, setting, falls_over, client, expected) in [
            (
                "the default order",
                &default,
                true,
                "r1/z1/s1",
                vec![vec![0], vec![1], vec![2], vec![3, 4, 5]],
            ),
            (
                "another zone",
                &default,
                true,
                "r1/z2/s1",
                vec![vec![2], vec![0, 1], vec![3, 4, 5]],
            ),
            ("another region", &default, true, "r9", vec![vec![0, 1, 2, 3, 4, 5]]),
            ("nowhere", &default, true, "", vec![vec![5], vec![0, 1, 2, 3, 4]]),
            ("no outlier detection", &default, false, "r1/z1/s1", all()),
            (
                "traffic distribution",
                &always,
                false,
                "r1/z2/s1",
                vec![vec![2], vec![0, 1], vec![3, 4, 5]],
            ),
            (
                "a region's failover",
                &failover,
                true,
                "r1/z1/s1",
                vec![vec![0], vec![1], vec![2], vec![4], vec![3, 5]],
            ),
            (
                "another region's",
                &failover,
                true,
                "r2/z1/s1",
                vec![vec![3], vec![0, 1, 2, 4, 5]],
            ),
        ] {
            assert_eq!(spread_of(setting, falls_over, client, &[]), expected, "{case}");
        }
    }

    #[test]
    fn labels_in_common_decide() {
        let priority = |labels: &[&str]| LocalitySetting {
            failover_priority: labels.iter().map(|label| (*label).into()).collect(),
            ..LocalitySetting::default()
        };
        let both = priority(&["network", "version"]);
        let regions = LocalitySetting {
            failover: vec![Failover {
                from: "r1".into(),
                to: "r3".into(),
            }],
            ..priority(&["network"])
        };
        for (case, setting, labels, expected) in [
            (
                "both",
                &both,
                &[("network", "n1"), ("version", "v1")][..],
                vec![vec![0, 4], vec![1], vec![2, 3, 5]],
            ),
            (
                "the first differs",
                &both,
                &[("network", "n3"), ("version", "v1")],
                vec![vec![0, 1, 2, 3, 4, 5]],
            ),
            (
                "a value of the rule's",
                &priority(&["network=n2", "version"]),
                &[("version", "v2")],
                vec![vec![3], vec![2], vec![0, 1, 4, 5]],
            ),
            (
                "absent on both sides is the same",
                &priority(&["network"]),
                &[("a", "b")],
                vec![vec![5], vec![0, 1, 2, 3, 4]],
            ),
            (
                "regions within",
                &regions,
                &[("network", "n1")],
                vec![vec![0], vec![1], vec![4], vec![2], vec![3, 5]],
            ),
        ] {
            assert_eq!(spread_of(setting, true, "r1/z1/s1", labels), expected, "{case}");
        }
    }

    #[test]
    fn the_client_s_place_stands_for_labels_that_it_has_not() {
        let own = Locality::parse("r1/z1/s1");
        let labels = Labels::from([("topology.kubernetes.io/zone".to_owned(), "other".to_owned())]);
        let client = Client {
            locality: Some(&own),
            labels: &labels,
        };
        for (label, expected) in [
            ("topology.kubernetes.io/region", "r1"),
            ("topology.kubernetes.io/zone", "other"),
            ("topology.istio.io/subzone", "s1"),
            ("app", ""),
        ] {
            assert_eq!(label_of(client, label), expected, "{label}");
        }
    }

    #[test]
    fn shares_go_where_they_are_distributed() {
        let rule = |from: &str, to: &[(&str, u32)]| Distribute {
            from: from.into(),
            to: to.iter().map(|(place, weight)| ((*place).into(), *weight)).collect(),
        };
        let setting = LocalitySetting {
            distribute: vec![
                rule("r1/z1/*", &[("r1/z1/*", 80), ("r2/*", 20)]),
                rule("r1/*", &[("r1/z1/s1", 0), ("r1", 70), ("*", 30)]),
            ],
            ..LocalitySetting::default()
        };
        let shares = |client| -> Vec<Vec<(u32, Vec<u32>)>> {
            let levels = levels(&setting, true, client, &[]);
            let share = |share: Share| (share.weight, share.members);
            levels
                .into_iter()
                .map(|level| level.into_iter().map(share).collect())
                .collect()
        };
        assert_eq!(shares("r1/z1/s9"), [vec![(40, vec![0]), (40, vec![1]), (20, vec![3])]]);
        let mut other = shares("r1/z2/s1");
        other[0].sort_unstable_by_key(|share| share.1.clone());
        // Each place goes to one entry alone, in the order of their names.
        assert_eq!(
            other,
            [vec![
                (5, vec![0]),
                (5, vec![1]),
                (5, vec![2]),
                (5, vec![3]),
                (5, vec![4]),
                (5, vec![5])
            ]]
        );
        assert_eq!(shares("r7"), [vec![(1, vec![0, 1, 2, 3, 4, 5])]]);
    }

    #[test]
    fn without_a_setting_or_endpoints_there_is_nothing_to_decide() {
        let labels = Labels::new();
        let client = Client {
            locality: None,
            labels: &labels,
        };
        assert!(spread(None, true, client, &[]).is_empty());
        assert!(spread(Some(&LocalitySetting::default()), true, client, &[]).is_empty());
        let one = [Placed {
            locality: None,
            ranks: &[],
            weight: 5,
        }];
        let whole = vec![vec![Share {
            weight: 1,
            members: vec![0],
        }]];
        assert_eq!(spread(None, true, client, &one), whole);
    }
}
