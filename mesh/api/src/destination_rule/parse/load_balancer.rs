//! `loadBalancer`.

use std::collections::BTreeSet;

use mesh_core::destination_rule;
use mesh_core::traffic::{self, Balancer, Cookie, HashAlgorithm, HashKey};

use super::{Report, locality};
use crate::destination_rule::resource::{ConsistentHash, HttpCookie, LoadBalancer};
use crate::duration;

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

/// The points of a ring where none are said, and the most that Envoy takes.
const RING: u32 = 1024;
const MOST_POINTS: i64 = 8 << 20;

/// What a new endpoint begins with, in percent.
const WARMUP_PERCENT: f64 = 10.0;

/// `outliers` is whether there is an outlierDetection beside it.
pub(super) fn parse(
    path: &str,
    balancer: &LoadBalancer,
    outliers: bool,
    report: &mut Report,
) -> destination_rule::LoadBalancer {
    check(path, balancer, outliers, report);
    let time = |text: Option<&String>| text.and_then(|text| duration::parse(text));
    let warmup = match &balancer.warmup {
        Some(warmup) => time(warmup.duration.as_ref()).map(|duration| traffic::Warmup {
            duration,
            minimum_percent: warmup.minimum_percent.unwrap_or(WARMUP_PERCENT),
            aggression: warmup.aggression.unwrap_or(1.0),
        }),
        None => time(balancer.warmup_duration_secs.as_ref()).map(|duration| traffic::Warmup {
            duration,
            minimum_percent: WARMUP_PERCENT,
            aggression: 1.0,
        }),
    };
    let simple = match balancer.simple.as_deref() {
        Some("ROUND_ROBIN") => Balancer::RoundRobin,
        Some("RANDOM") => Balancer::Random,
        Some("PASSTHROUGH") => Balancer::Passthrough,
        // LEAST_CONN is its older name.
        _ => Balancer::LeastRequest,
    };
    destination_rule::LoadBalancer {
        balancer: balancer.consistent_hash.as_ref().map_or(simple, consistent),
        locality: balancer
            .locality_lb_setting
            .as_ref()
            .map(locality::parse)
            .unwrap_or_default(),
        warmup,
    }
}

fn consistent(hash: &ConsistentHash) -> Balancer {
    let cookie = |cookie: &HttpCookie| Cookie {
        name: cookie.name.as_str().into(),
        path: cookie.path.as_deref().filter(|path| !path.is_empty()).map(Into::into),
        ttl: cookie.ttl.as_deref().and_then(duration::parse),
        attributes: cookie
            .attributes
            .iter()
            .flatten()
            .map(|it| (it.name.as_str().into(), it.value.as_deref().unwrap_or_default().into()))
            .collect(),
    };
    let header = hash.http_header_name.as_deref().filter(|name| !name.is_empty());
    let parameter = hash
        .http_query_parameter_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let key = header
        .map(|name| HashKey::Header(name.to_ascii_lowercase().into()))
        .or_else(|| hash.http_cookie.as_ref().map(|it| HashKey::Cookie(cookie(it))))
        .or_else(|| (hash.use_source_ip == Some(true)).then_some(HashKey::SourceIp))
        .or_else(|| parameter.map(|name| HashKey::QueryParameter(name.into())));
    // With nothing to hash any place will do.
    let Some(key) = key else {
        return Balancer::Random;
    };
    let algorithm = match &hash.maglev {
        Some(maglev) => HashAlgorithm::Maglev {
            table_size: maglev
                .table_size
                .and_then(|size| u32::try_from(size).ok())
                .unwrap_or(65537),
        },
        None => {
            let ring = hash.ring_hash.as_ref().map(|ring| ring.minimum_ring_size);
            let size = ring.unwrap_or(hash.minimum_ring_size).filter(|size| *size > 0);
            let size = size.and_then(|size| u32::try_from(size.min(MOST_POINTS)).ok());
            HashAlgorithm::Ring {
                minimum_size: size.unwrap_or(RING),
            }
        }
    };
    Balancer::Hash(traffic::ConsistentHash { key, algorithm })
}

fn check(path: &str, balancer: &LoadBalancer, outliers: bool, report: &mut Report) {
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
    if let Some(ttl) = cookie.ttl.as_deref().filter(|ttl| duration::parse(ttl).is_none()) {
        report.refuse(format!("{path}.ttl"), ttl, duration::ACCEPTED);
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
