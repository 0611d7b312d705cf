//! `trafficPolicy`, of the rule or of a subset, and its ports.

use std::collections::BTreeMap;

use mesh_core::destination_rule::{PortPolicy, Settings, TrafficPolicy};
use mesh_core::traffic::{ProxyProtocol, RetryBudget};

use super::{Report, connection_pool, load_balancer, outlier_detection, tls};
use crate::destination_rule::resource;
use crate::{duration, names};

pub(super) fn parse(
    path: &str,
    policy: &resource::TrafficPolicy,
    selected: bool,
    report: &mut Report,
) -> TrafficPolicy {
    if *policy == resource::TrafficPolicy::default() {
        report.refuse(path, "{}", "at least one field, or no trafficPolicy");
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        report.refuse(path, "tunnel, proxyProtocol", "one of tunnel and proxyProtocol");
    }
    let settings = settings(
        path,
        &Given {
            load_balancer: policy.load_balancer.as_ref(),
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
        },
        report,
    );
    if let Some(tunnel) = &policy.tunnel {
        check_tunnel(&format!("{path}.tunnel"), tunnel, report);
    }
    let version = policy.proxy_protocol.as_ref().and_then(|it| it.version.as_deref());
    report.one_of(format!("{path}.proxyProtocol.version"), version, &["V1", "V2"]);
    let budget = policy.retry_budget.as_ref();
    let retry_budget = budget.map(|budget| retry_budget(&format!("{path}.retryBudget"), budget, report));
    let tls = policy
        .tls
        .as_ref()
        .map(|settings| tls::parse(&format!("{path}.tls"), settings, selected, report).into());
    let ports = policy.port_level_settings.as_deref().unwrap_or_default();
    TrafficPolicy {
        tls,
        settings,
        proxy_protocol: policy.proxy_protocol.as_ref().map(|_| match version {
            Some("V2") => ProxyProtocol::V2,
            _ => ProxyProtocol::V1,
        }),
        retry_budget,
        ports: port_level(&format!("{path}.portLevelSettings"), ports, selected, report),
    }
}

fn port_level(
    path: &str,
    list: &[resource::PortTrafficPolicy],
    selected: bool,
    report: &mut Report,
) -> BTreeMap<u16, PortPolicy> {
    let mut ports = BTreeMap::new();
    for (at, entry) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let number = entry.port.as_ref().and_then(|port| port.number);
        let port = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|port| *port != 0);
        if port.is_none() {
            let given = number.map(|number| number.to_string()).unwrap_or_default();
            report.refuse(format!("{path}.port.number"), given, "a Service's port, 1 to 65535");
        }
        let bare = resource::PortTrafficPolicy {
            port: entry.port.clone(),
            ..Default::default()
        };
        if *entry == bare {
            report.refuse(
                &path,
                "port",
                "at least one of loadBalancer, connectionPool, outlierDetection, tls beside it",
            );
        }
        let settings = settings(
            &path,
            &Given {
                load_balancer: entry.load_balancer.as_ref(),
                connection_pool: entry.connection_pool.as_ref(),
                outlier_detection: entry.outlier_detection.as_ref(),
            },
            report,
        );
        let tls = entry
            .tls
            .as_ref()
            .map(|settings| tls::parse(&format!("{path}.tls"), settings, selected, report).into());
        // Of several for one port Istio takes the first.
        if let Some(port) = port {
            if ports.contains_key(&port) {
                report.warn(format!("{path}: port {port} has settings before; the first ones count"));
            }
            ports.entry(port).or_insert(PortPolicy { tls, settings });
        }
    }
    ports
}

/// What a policy and a port's settings have alike.
struct Given<'a> {
    load_balancer: Option<&'a resource::LoadBalancer>,
    connection_pool: Option<&'a resource::ConnectionPool>,
    outlier_detection: Option<&'a resource::OutlierDetection>,
}

fn settings(path: &str, given: &Given<'_>, report: &mut Report) -> Settings {
    let outliers = given.outlier_detection.is_some();
    Settings {
        balancer: given
            .load_balancer
            .map(|balancer| load_balancer::parse(&format!("{path}.loadBalancer"), balancer, outliers, report)),
        pool: given
            .connection_pool
            .map(|pool| connection_pool::parse(&format!("{path}.connectionPool"), pool, report)),
        outliers: given
            .outlier_detection
            .map(|outliers| outlier_detection::parse(&format!("{path}.outlierDetection"), outliers, report)),
    }
}

fn check_tunnel(path: &str, tunnel: &resource::Tunnel, report: &mut Report) {
    let protocol = tunnel.protocol.as_deref().filter(|text| !text.is_empty());
    report.one_of(format!("{path}.protocol"), protocol, &["CONNECT", "POST"]);
    if !names::is_name_or_address(&tunnel.target_host) {
        report.refuse(
            format!("{path}.targetHost"),
            &tunnel.target_host,
            "a fully qualified name or an address",
        );
    }
    report.range(
        format!("{path}.targetPort"),
        Some(tunnel.target_port.unwrap_or(0)),
        1,
        65535,
    );
}

fn retry_budget(path: &str, budget: &resource::RetryBudget, report: &mut Report) -> RetryBudget {
    if let Some(percent) = budget.percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
        report.refuse(format!("{path}.percent"), percent, "0 to 100");
    }
    report.range(
        format!("{path}.minRetryConcurrency"),
        budget.min_retry_concurrency,
        0,
        u32::MAX.into(),
    );
    report.duration(format!("{path}.budgetInterval"), budget.budget_interval.as_deref());
    let least = budget
        .min_retry_concurrency
        .and_then(|number| u32::try_from(number).ok());
    RetryBudget {
        percent: budget.percent.unwrap_or(20.0),
        // Zero is as good as absent to Istio.
        min_concurrency: least.filter(|number| *number > 0).unwrap_or(3),
        interval: budget.budget_interval.as_deref().and_then(duration::parse),
    }
}
