//! Which fields of a resource are accepted and not followed by anything yet.

use super::resource::{DestinationRuleSpec, TrafficPolicy};

/// The paths of the fields that are there and have no effect in this version, in the order of the resource.
#[must_use]
pub fn later(spec: &DestinationRuleSpec) -> Vec<String> {
    let mut paths = Vec::new();
    if let Some(policy) = &spec.traffic_policy {
        of_policy("spec.trafficPolicy", policy, &mut paths);
    }
    if spec.subsets.as_ref().is_some_and(|subsets| !subsets.is_empty()) {
        paths.push("spec.subsets".to_owned());
    }
    paths
}

fn of_policy(path: &str, policy: &TrafficPolicy, paths: &mut Vec<String>) {
    let mut say = |name: &str, there: bool| {
        if there {
            paths.push(format!("{path}.{name}"));
        }
    };
    say("loadBalancer", policy.load_balancer.is_some());
    say("connectionPool", policy.connection_pool.is_some());
    say("outlierDetection", policy.outlier_detection.is_some());
    for (at, port) in policy.port_level_settings.iter().flatten().enumerate() {
        let path = |name: &str| format!("portLevelSettings[{at}].{name}");
        say(&path("loadBalancer"), port.load_balancer.is_some());
        say(&path("connectionPool"), port.connection_pool.is_some());
        say(&path("outlierDetection"), port.outlier_detection.is_some());
    }
    say("tunnel", policy.tunnel.is_some());
    say("proxyProtocol", policy.proxy_protocol.is_some());
    say("retryBudget", policy.retry_budget.is_some());
}
