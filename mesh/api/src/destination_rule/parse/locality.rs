//! `localityLbSetting` and `zoneAwareLbSetting`.

use mesh_core::destination_rule::LocalityRule;
use mesh_core::traffic::{self, LocalitySetting};

use super::Report;
use crate::destination_rule::resource::{Failover, LocalityLbSetting, ZoneAwareLbSetting};

/// Labels that say where an endpoint is.
const TOPOLOGY: [&str; 3] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];

const NEEDS_OUTLIERS: &str = "has no effect without outlierDetection beside it";

pub(super) fn parse(setting: &LocalityLbSetting) -> LocalityRule {
    if setting.enabled == Some(false) {
        return LocalityRule::Off;
    }
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    let distribute = setting.distribute.iter().flatten().map(|entry| traffic::Distribute {
        from: text(&entry.from),
        to: entry
            .to
            .iter()
            .flatten()
            .map(|(place, weight)| (place.as_str().into(), u32::try_from(*weight).unwrap_or_default()))
            .collect(),
    });
    let failover = setting.failover.iter().flatten().map(|entry| traffic::Failover {
        from: text(&entry.from),
        to: text(&entry.to),
    });
    let priority = setting.failover_priority.iter().flatten();
    LocalityRule::Set(LocalitySetting {
        distribute: distribute.collect(),
        failover: failover.collect(),
        failover_priority: priority.map(|label| label.as_str().into()).collect(),
        always: false,
    })
}

pub(super) fn check(path: &str, setting: &LocalityLbSetting, outliers: bool, report: &mut Report) {
    let distribute = setting.distribute.as_deref().unwrap_or_default();
    let failover = setting.failover.as_deref().unwrap_or_default();
    let priority = setting.failover_priority.as_deref().unwrap_or_default();
    if !distribute.is_empty() && !failover.is_empty() {
        report.refuse(path, "distribute, failover", "one of distribute and failover");
    }
    for (at, label) in priority.iter().enumerate() {
        if !failover.is_empty() && TOPOLOGY.contains(&label.as_str()) {
            let field = format!("{path}.failoverPriority[{at}]");
            report.refuse(field, label, "no label of the topology beside failover");
        }
    }
    let mut from = Vec::new();
    for (at, entry) in distribute.iter().enumerate() {
        let path = format!("{path}.distribute[{at}]");
        let origin = entry.from.as_deref().unwrap_or_default();
        check_locality(&format!("{path}.from"), origin, &from, report);
        from.push(origin);
        let (mut sum, mut to) = (0, Vec::new());
        for (locality, weight) in entry.to.iter().flatten() {
            report.range(format!("{path}.to[{locality}]"), Some(*weight), 1, 100);
            check_locality(&format!("{path}.to"), locality, &to, report);
            to.push(locality);
            sum += weight.clamp(&0, &1000);
        }
        if sum != 100 {
            report.refuse(format!("{path}.to"), sum, "weights that make 100 in all");
        }
    }
    let fails_over = !failover.is_empty() || !priority.is_empty();
    if fails_over && !outliers {
        report.warn(format!("{path}: failover {NEEDS_OUTLIERS}"));
    }
    check_failover(path, failover, report);
}

pub(super) fn check_zones(path: &str, setting: &ZoneAwareLbSetting, outliers: bool, report: &mut Report) {
    let failover = setting.failover.as_deref().unwrap_or_default();
    let priority = setting.failover_priority.as_deref().unwrap_or_default();
    for (at, label) in priority.iter().enumerate() {
        if TOPOLOGY.contains(&label.as_str()) {
            let field = format!("{path}.failoverPriority[{at}]");
            report.refuse(
                field,
                label,
                "labels other than the topology's, which count by themselves",
            );
        }
    }
    report.range(format!("{path}.minClusterSize"), setting.min_cluster_size, 1, i64::MAX);
    let fails_over = !failover.is_empty() || !priority.is_empty();
    if fails_over && !outliers {
        report.warn(format!("{path}: failover {NEEDS_OUTLIERS}"));
    }
    check_failover(path, failover, report);
}

fn check_failover(path: &str, list: &[Failover], report: &mut Report) {
    for (at, entry) in list.iter().enumerate() {
        let path = format!("{path}.failover[{at}]");
        let [from, to] = [&entry.from, &entry.to].map(|region| region.as_deref().unwrap_or_default());
        if from == to {
            report.refuse(&path, format!("{from} to {to}"), "two regions that differ");
        }
        for (name, region) in [("from", from), ("to", to)] {
            if region.contains(['/', '*']) {
                report.refuse(format!("{path}.{name}"), region, "a region, without zone and wildcard");
            }
        }
    }
}

/// A locality is up to three names with `/` between, the last of which may be or end in a wildcard; none may cover another.
fn check_locality(field: &str, locality: &str, before: &[impl AsRef<str>], report: &mut Report) {
    let parts: Vec<&str> = locality.splitn(3, '/').collect();
    let stars = locality.matches('*').count();
    if parts.iter().any(|part| part.is_empty()) || stars > 1 || (stars == 1 && !locality.ends_with('*')) {
        report.refuse(
            field,
            locality,
            "REGION, REGION/ZONE or REGION/ZONE/SUBZONE, with * at the end at most",
        );
        return;
    }
    let covers = |general: &str, special: &str| {
        let general: Vec<&str> = general.splitn(3, '/').collect();
        let special: Vec<&str> = special.splitn(3, '/').collect();
        let same = |at: usize| {
            general
                .get(at)
                .is_none_or(|part| *part == "*" || special.get(at) == Some(part))
        };
        (0..3).all(same)
    };
    if let Some(other) = before
        .iter()
        .map(AsRef::as_ref)
        .find(|other| covers(other, locality) || covers(locality, other))
    {
        report.refuse(
            field,
            locality,
            format!("localities that do not overlap: {other} is there before"),
        );
    }
}
