//! `connectionPool`.

use super::Report;
use crate::destination_rule::resource::{ConnectionPool, Http, Tcp};

const MOST: i64 = i32::MAX as i64;

/// Checks a pool, of a rule or of what a workload accepts.
pub(crate) fn check(path: &str, pool: &ConnectionPool, report: &mut Report) {
    if pool.tcp.is_none() && pool.http.is_none() {
        report.refuse(path, "{}", "at least one of tcp and http");
    }
    if let Some(tcp) = &pool.tcp {
        check_tcp(&format!("{path}.tcp"), tcp, report);
    }
    if let Some(http) = &pool.http {
        check_http(&format!("{path}.http"), http, report);
    }
}

fn check_tcp(path: &str, tcp: &Tcp, report: &mut Report) {
    report.range(format!("{path}.maxConnections"), tcp.max_connections, 0, MOST);
    report.duration(format!("{path}.connectTimeout"), tcp.connect_timeout.as_deref());
    report.duration(
        format!("{path}.maxConnectionDuration"),
        tcp.max_connection_duration.as_deref(),
    );
    // 0s is no limit.
    let zero = |text: &&str| crate::duration::parse(text).is_some_and(|duration| duration.is_zero());
    let idle = tcp.idle_timeout.as_deref().filter(|text| !zero(text));
    report.duration(format!("{path}.idleTimeout"), idle);
    if let Some(keepalive) = &tcp.tcp_keepalive {
        let path = format!("{path}.tcpKeepalive");
        report.range(format!("{path}.probes"), keepalive.probes, 0, u32::MAX.into());
        report.duration(format!("{path}.time"), keepalive.time.as_deref());
        report.duration(format!("{path}.interval"), keepalive.interval.as_deref());
    }
}

fn check_http(path: &str, http: &Http, report: &mut Report) {
    for (name, value) in [
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ] {
        report.range(format!("{path}.{name}"), value, 0, MOST);
    }
    report.duration(format!("{path}.idleTimeout"), http.idle_timeout.as_deref());
    let policy = http.h2_upgrade_policy.as_deref();
    report.one_of(
        format!("{path}.h2UpgradePolicy"),
        policy,
        &["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"],
    );
    if policy == Some("UPGRADE") && http.use_client_protocol == Some(true) {
        report.refuse(
            format!("{path}.useClientProtocol"),
            true,
            "false where h2UpgradePolicy is UPGRADE",
        );
    }
    if let Some(keepalive) = &http.http2_keep_alive {
        let path = format!("{path}.http2KeepAlive");
        for (name, value) in [("interval", &keepalive.interval), ("timeout", &keepalive.timeout)] {
            // Both are needed.
            report.duration(format!("{path}.{name}"), Some(value.as_deref().unwrap_or_default()));
        }
    }
}
