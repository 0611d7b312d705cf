//! Which fields of a resource are accepted and followed by nothing.

use super::resource::{DestinationRuleSpec, LoadBalancer, OutlierDetection, TrafficPolicy};

/// The paths of the fields that are there and have no effect in this version, in the order of the resource.
#[must_use]
pub fn later(spec: &DestinationRuleSpec) -> Vec<String> {
    let mut paths = Vec::new();
    if let Some(policy) = &spec.traffic_policy {
        of_policy("spec.trafficPolicy", policy, &mut paths);
    }
    for (at, subset) in spec.subsets.iter().flatten().enumerate() {
        if let Some(policy) = &subset.traffic_policy {
            of_policy(&format!("spec.subsets[{at}].trafficPolicy"), policy, &mut paths);
        }
    }
    paths
}

fn of_policy(path: &str, policy: &TrafficPolicy, paths: &mut Vec<String>) {
    let balancer = policy.load_balancer.as_ref();
    let pool = policy.connection_pool.is_some();
    settings(path, balancer, pool, policy.outlier_detection.as_ref(), paths);
    for (at, port) in policy.port_level_settings.iter().flatten().enumerate() {
        let path = format!("{path}.portLevelSettings[{at}]");
        let (balancer, outliers) = (port.load_balancer.as_ref(), port.outlier_detection.as_ref());
        settings(&path, balancer, port.connection_pool.is_some(), outliers, paths);
    }
    for (name, there) in [
        ("tunnel", policy.tunnel.is_some()),
        ("proxyProtocol", policy.proxy_protocol.is_some()),
        ("retryBudget", policy.retry_budget.is_some()),
    ] {
        if there {
            paths.push(format!("{path}.{name}"));
        }
    }
}

fn settings(
    path: &str,
    balancer: Option<&LoadBalancer>,
    pool: bool,
    outliers: Option<&OutlierDetection>,
    paths: &mut Vec<String>,
) {
    let mut say = |name: &str, there: bool| {
        if there {
            paths.push(format!("{path}.{name}"));
        }
    };
    let hash = balancer.is_some_and(|balancer| balancer.consistent_hash.is_some());
    let zones = balancer.is_some_and(|balancer| balancer.zone_aware_lb_setting.is_some());
    let older = outliers.is_some_and(|outliers| outliers.consecutive_errors.is_some_and(|count| count != 0));
    say("loadBalancer.consistentHash", hash);
    say("loadBalancer.zoneAwareLbSetting", zones);
    say("connectionPool", pool);
    say("outlierDetection.consecutiveErrors", older);
}
