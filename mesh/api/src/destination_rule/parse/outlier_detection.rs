//! `outlierDetection`.

use std::collections::BTreeSet;

use mesh_core::traffic;

use super::Report;
use crate::destination_rule::resource::OutlierDetection;
use crate::duration;

pub(super) fn parse(path: &str, outliers: &OutlierDetection, report: &mut Report) -> traffic::OutlierDetection {
    check(path, outliers, report);
    let count = |value: Option<i64>| value.and_then(|number| u32::try_from(number).ok());
    // What Istio cannot tell from absent.
    let some = |value: Option<i64>| count(value).filter(|number| *number > 0);
    let time = |text: &Option<String>| text.as_deref().and_then(duration::parse);
    let default = traffic::OutlierDetection::default();
    let codes = outliers.outlier_detection_http_error_codes.iter().flatten();
    let codes: BTreeSet<u16> = codes.filter_map(|code| u16::try_from(*code).ok()).collect();
    traffic::OutlierDetection {
        split_local_errors: outliers.split_external_local_origin_errors == Some(true),
        consecutive_local: some(outliers.consecutive_local_origin_failures).unwrap_or(default.consecutive_local),
        consecutive_gateway: count(outliers.consecutive_gateway_errors).unwrap_or(default.consecutive_gateway),
        consecutive_5xx: count(outliers.consecutive_5xx_errors).unwrap_or(default.consecutive_5xx),
        interval: time(&outliers.interval).unwrap_or(default.interval),
        base_ejection_time: time(&outliers.base_ejection_time).unwrap_or(default.base_ejection_time),
        max_ejection_percent: some(outliers.max_ejection_percent).unwrap_or(default.max_ejection_percent),
        min_health_percent: count(outliers.min_health_percent).unwrap_or(default.min_health_percent),
        error_codes: codes.into_iter().collect(),
    }
}

fn check(path: &str, outliers: &OutlierDetection, report: &mut Report) {
    if outliers.consecutive_errors.is_some_and(|count| count != 0) {
        report.warn(format!(
            "{path}.consecutiveErrors is deprecated: use consecutiveGatewayErrors or consecutive5xxErrors"
        ));
    }
    for (name, value) in [
        (
            "consecutiveLocalOriginFailures",
            outliers.consecutive_local_origin_failures,
        ),
        ("consecutiveGatewayErrors", outliers.consecutive_gateway_errors),
        ("consecutive5xxErrors", outliers.consecutive_5xx_errors),
    ] {
        report.range(format!("{path}.{name}"), value, 0, u32::MAX.into());
    }
    if let Some(count) = outliers.consecutive_local_origin_failures
        && count > 0
        && outliers.split_external_local_origin_errors != Some(true)
    {
        report.refuse(
            format!("{path}.consecutiveLocalOriginFailures"),
            count,
            "0, or splitExternalLocalOriginErrors: true beside it",
        );
    }
    report.duration(format!("{path}.interval"), outliers.interval.as_deref());
    report.duration(
        format!("{path}.baseEjectionTime"),
        outliers.base_ejection_time.as_deref(),
    );
    report.range(
        format!("{path}.maxEjectionPercent"),
        outliers.max_ejection_percent,
        0,
        100,
    );
    report.range(format!("{path}.minHealthPercent"), outliers.min_health_percent, 0, 100);
    let codes = outliers.outlier_detection_http_error_codes.iter().flatten();
    for (at, code) in codes.enumerate() {
        report.range(
            format!("{path}.outlierDetectionHttpErrorCodes[{at}]"),
            Some(*code),
            100,
            599,
        );
    }
}
