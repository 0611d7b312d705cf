//! `loadBalancer`.

use std::collections::BTreeSet;

use super::{Report, locality};
use crate::destination_rule::resource::{ConsistentHash, HttpCookie, LoadBalancer};

const SIMPLE: [&str; 6] = [
    "UNSPECIFIED",
    "LEAST_CONN",
    "RANDOM",
    "PASSTHROUGH",
    "ROUND_ROBIN",
    "LEAST_REQUEST",
];

/// The size from which on Maglev's table is refused.
const MAGLEV_LIMIT: i64 = 5_000_011;

/// `outliers` is whether there is an outlierDetection beside it.
pub(super) fn check(path: &str, balancer: &LoadBalancer, outliers: bool, report: &mut Report) {
    report.one_of(format!("{path}.simple"), balancer.simple.as_deref(), &SIMPLE);
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        report.refuse(path, "simple, consistentHash", "one of simple and consistentHash");
    }
    if balancer.simple.as_deref() == Some("LEAST_CONN") {
        report.warn(format!("{path}.simple: LEAST_CONN is deprecated: use LEAST_REQUEST"));
    }
    if let Some(hash) = &balancer.consistent_hash {
        check_hash(&format!("{path}.consistentHash"), hash, report);
    }
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        report.refuse(
            path,
            "localityLbSetting, zoneAwareLbSetting",
            "one of localityLbSetting and zoneAwareLbSetting",
        );
    }
    if let Some(setting) = &balancer.locality_lb_setting {
        locality::check(&format!("{path}.localityLbSetting"), setting, outliers, report);
    }
    if let Some(setting) = &balancer.zone_aware_lb_setting {
        locality::check_zones(&format!("{path}.zoneAwareLbSetting"), setting, outliers, report);
    }
    report.duration(
        format!("{path}.warmupDurationSecs"),
        balancer.warmup_duration_secs.as_deref(),
    );
    if let Some(warmup) = &balancer.warmup {
        let path = format!("{path}.warmup");
        let duration = warmup.duration.as_deref().unwrap_or_default();
        report.duration(format!("{path}.duration"), Some(duration));
        if let Some(percent) = warmup
            .minimum_percent
            .filter(|percent| !(0.0..=100.0).contains(percent))
        {
            report.refuse(format!("{path}.minimumPercent"), percent, "0 to 100");
        }
        if let Some(aggression) = warmup.aggression.filter(|aggression| *aggression <= 0.0) {
            report.refuse(format!("{path}.aggression"), aggression, "more than 0");
        }
    }
}

fn check_hash(path: &str, hash: &ConsistentHash, report: &mut Report) {
    let keys = [
        ("httpHeaderName", hash.http_header_name.is_some()),
        ("httpCookie", hash.http_cookie.is_some()),
        ("useSourceIp", hash.use_source_ip.is_some()),
        ("httpQueryParameterName", hash.http_query_parameter_name.is_some()),
    ];
    let given: Vec<&str> = keys.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    if given.len() > 1 {
        report.refuse(
            path,
            given.join(", "),
            "one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName",
        );
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        report.refuse(path, "ringHash, maglev", "one of ringHash and maglev");
    }
    if let Some(size) = hash.minimum_ring_size.filter(|size| *size != 0) {
        report.warn(format!(
            "{path}.minimumRingSize is deprecated: use ringHash.minimumRingSize"
        ));
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            report.refuse(
                format!("{path}.minimumRingSize"),
                size,
                "none beside ringHash or maglev",
            );
        }
    }
    if let Some(cookie) = &hash.http_cookie {
        check_cookie(&format!("{path}.httpCookie"), cookie, report);
    }
    if let Some(maglev) = &hash.maglev {
        let size = maglev.table_size.unwrap_or(0);
        if !(1..MAGLEV_LIMIT).contains(&size) || !is_prime(size) {
            report.refuse(format!("{path}.maglev.tableSize"), size, "a prime less than 5000011");
        }
    }
}

fn check_cookie(path: &str, cookie: &HttpCookie, report: &mut Report) {
    if cookie.name.is_empty() {
        report.refuse(format!("{path}.name"), "", "a name");
    }
    if let Some(ttl) = cookie
        .ttl
        .as_deref()
        .filter(|ttl| crate::duration::parse(ttl).is_none())
    {
        report.refuse(format!("{path}.ttl"), ttl, crate::duration::ACCEPTED);
    }
    let mut names = BTreeSet::new();
    for (at, attribute) in cookie.attributes.iter().flatten().enumerate() {
        let field = format!("{path}.attributes[{at}].name");
        if attribute.name.is_empty() {
            report.refuse(field, "", "a name");
        } else if !names.insert(&attribute.name) {
            report.refuse(field, &attribute.name, "each name once");
        }
    }
}

/// Envoy's idea of a prime, which has 1 among them.
fn is_prime(number: i64) -> bool {
    number < 4
        || (number % 2 != 0
            && (3..)
                .step_by(2)
                .take_while(|n| n * n <= number)
                .all(|n| number % n != 0))
}
