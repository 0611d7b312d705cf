//! `retries`.

use std::time::Duration;

use mesh_core::routing::{Backoff, Retries, RetryOn};

use super::Report;
use crate::duration;
use crate::virtual_service::resource;

/// Istio's wait before the first retry.
const BACKOFF: Duration = Duration::from_millis(25);

/// What there is a retry on where nothing is said: Istio's `connect-failure,refused-stream,unavailable,cancelled,
/// retriable-status-codes`, the last of which says nothing without numbers.
const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// Every name that is accepted beside the numbers of statuses.
const NAMES: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

pub(super) fn parse(path: &str, retries: &resource::Retries, report: &mut Report) -> Retries {
    let attempts = retries.attempts.unwrap_or(0);
    if !(0..=i64::from(i32::MAX)).contains(&attempts) {
        report.refuse(format!("{path}.attempts"), attempts, "0 or more");
    }
    let on = retries.retry_on.as_deref().filter(|text| !text.is_empty());
    for (name, given) in [
        ("perTryTimeout", retries.per_try_timeout.is_some()),
        ("retryOn", on.is_some()),
        ("retryRemoteLocalities", retries.retry_remote_localities.is_some()),
    ] {
        if attempts == 0 && given {
            report.refuse(
                format!("{path}.{name}"),
                "given",
                "none where attempts is 0, which is no retry",
            );
        }
    }
    report.duration(format!("{path}.perTryTimeout"), retries.per_try_timeout.as_deref());
    report.duration(format!("{path}.backoff"), retries.backoff.as_deref());
    Retries {
        attempts: u32::try_from(attempts).unwrap_or(0),
        per_try_timeout: retries.per_try_timeout.as_deref().and_then(duration::parse),
        on: retry_on(&format!("{path}.retryOn"), on.unwrap_or(DEFAULT), report),
        remote_localities: retries.retry_remote_localities.unwrap_or(false),
        avoid_previous: retries.retry_ignore_previous_hosts.unwrap_or(true),
        backoff: Backoff {
            base: retries.backoff.as_deref().and_then(duration::parse).unwrap_or(BACKOFF),
        },
    }
}

fn retry_on(field: &str, text: &str, report: &mut Report) -> RetryOn {
    let mut on = RetryOn::default();
    for name in text.split(',') {
        match name {
            "5xx" => on.server_errors = true,
            "gateway-error" => on.gateway_errors = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "connect-failure" => on.connect_failure = true,
            "retriable-4xx" => on.conflict = true,
            "refused-stream" => on.refused_stream = true,
            "envoy-ratelimited" => on.rate_limited = true,
            "cancelled" => on.grpc.push(1),
            "deadline-exceeded" => on.grpc.push(4),
            "resource-exhausted" => on.grpc.push(8),
            "internal" => on.grpc.push(13),
            "unavailable" => on.grpc.push(14),
            // Without numbers beside it, headers that no field names, or HTTP/3 there is nothing to try again on.
            "retriable-status-codes" | "retriable-headers" | "http3-post-connect-failure" => {}
            number => match number.parse().ok().filter(|code| is_status(*code)) {
                Some(code) => on.statuses.push(code),
                None => report.refuse(
                    field,
                    number,
                    format!(
                        "{}, or the number of a status, with commas and no spaces between",
                        NAMES.join(", ")
                    ),
                ),
            },
        }
    }
    on.grpc.sort_unstable();
    on.grpc.dedup();
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on
}

/// Whether a status has a name (IANA's registry, as Go's library has it).
fn is_status(code: u16) -> bool {
    matches!(
        code,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511
    )
}
