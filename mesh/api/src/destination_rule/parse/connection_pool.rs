//! `connectionPool`.

use mesh_core::destination_rule;
use mesh_core::traffic::{Http2KeepAlive, HttpLimits, Keepalive, TcpLimits, UpgradePolicy};

use super::Report;
use crate::destination_rule::resource::{ConnectionPool, Http, Tcp};
use crate::duration;

const MOST: i64 = i32::MAX as i64;

pub(super) fn parse(path: &str, pool: &ConnectionPool, report: &mut Report) -> destination_rule::ConnectionPool {
    check(path, pool, report);
    destination_rule::ConnectionPool {
        tcp: pool.tcp.as_ref().map(tcp_limits).unwrap_or_default(),
        http: pool.http.as_ref().map(http_limits).unwrap_or_default(),
    }
}

/// A number of which zero is none, as Istio has it.
fn limit(value: Option<i64>) -> Option<u32> {
    value
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0)
}

fn time(text: Option<&String>) -> Option<std::time::Duration> {
    text.and_then(|text| duration::parse(text))
}

fn tcp_limits(tcp: &Tcp) -> TcpLimits {
    TcpLimits {
        max_connections: limit(tcp.max_connections),
        connect_timeout: time(tcp.connect_timeout.as_ref()),
        keepalive: tcp.tcp_keepalive.as_ref().map(|keepalive| Keepalive {
            probes: limit(keepalive.probes),
            time: time(keepalive.time.as_ref()),
            interval: time(keepalive.interval.as_ref()),
        }),
        max_connection_duration: time(tcp.max_connection_duration.as_ref()),
        idle_timeout: time(tcp.idle_timeout.as_ref()),
    }
}

fn http_limits(http: &Http) -> HttpLimits {
    HttpLimits {
        max_pending: limit(http.http1_max_pending_requests),
        max_requests: limit(http.http2_max_requests),
        max_requests_per_connection: limit(http.max_requests_per_connection),
        max_retries: limit(http.max_retries),
        idle_timeout: time(http.idle_timeout.as_ref()),
        upgrade: match http.h2_upgrade_policy.as_deref() {
            Some("UPGRADE") => UpgradePolicy::Upgrade,
            Some("DO_NOT_UPGRADE") => UpgradePolicy::DoNotUpgrade,
            _ => UpgradePolicy::Default,
        },
        use_client_protocol: http.use_client_protocol == Some(true),
        max_concurrent_streams: limit(http.max_concurrent_streams),
        http2_keep_alive: http.http2_keep_alive.as_ref().and_then(|pings| {
            Some(Http2KeepAlive {
                interval: time(pings.interval.as_ref())?,
                timeout: time(pings.timeout.as_ref())?,
            })
        }),
    }
}

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
    let zero = |text: &&str| duration::parse(text).is_some_and(|duration| duration.is_zero());
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
