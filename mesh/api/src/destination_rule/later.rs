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
    settings(
        path,
        policy.load_balancer.as_ref(),
        policy.outlier_detection.as_ref(),
        paths,
    );
    for (at, port) in policy.port_level_settings.iter().flatten().enumerate() {
        settings(
            &format!("{path}.portLevelSettings[{at}]"),
            port.load_balancer.as_ref(),
            port.outlier_detection.as_ref(),
            paths,
        );
    }
    if policy.tunnel.is_some() {
        paths.push(format!("{path}.tunnel"));
    }
}

fn settings(path: &str, balancer: Option<&LoadBalancer>, outliers: Option<&OutlierDetection>, paths: &mut Vec<String>) {
    if balancer.is_some_and(|balancer| balancer.zone_aware_lb_setting.is_some()) {
        paths.push(format!("{path}.loadBalancer.zoneAwareLbSetting"));
    }
    if outliers.is_some_and(|outliers| outliers.consecutive_errors.is_some_and(|count| count != 0)) {
        paths.push(format!("{path}.outlierDetection.consecutiveErrors"));
    }
}
