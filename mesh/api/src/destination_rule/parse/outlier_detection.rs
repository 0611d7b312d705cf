//! `outlierDetection`.

use super::Report;
use crate::destination_rule::resource::OutlierDetection;

pub(super) fn check(path: &str, outliers: &OutlierDetection, report: &mut Report) {
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
