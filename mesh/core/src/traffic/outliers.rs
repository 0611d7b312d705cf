//! `trafficPolicy.outlierDetection`: endpoints that fail are left out for a while.

use std::time::Duration;

/// `outlierDetection`, with Istio's and Envoy's values for what is absent. A threshold of zero is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `splitExternalLocalOriginErrors`: what fails before an answer counts by itself.
    pub split_local_errors: bool,
    /// `consecutiveLocalOriginFailures` (5).
    pub consecutive_local: u32,
    /// `consecutiveGatewayErrors`: 502, 503, 504, and failures to connect unless they count by themselves (0).
    pub consecutive_gateway: u32,
    /// `consecutive5xxErrors` (5).
    pub consecutive_5xx: u32,
    /// `interval` (10 s): how often ejections are ended.
    pub interval: Duration,
    /// `baseEjectionTime` (30 s): times the number of ejections so far is how long one lasts.
    pub base_ejection_time: Duration,
    /// `maxEjectionPercent` (10); one endpoint may always be ejected.
    pub max_ejection_percent: u32,
    /// `minHealthPercent` (0): with fewer than these left, all take part again.
    pub min_health_percent: u32,
    /// `outlierDetectionHttpErrorCodes`: codes that count as 5xx errors; empty is 500 to 599.
    pub error_codes: Vec<u16>,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            split_local_errors: false,
            consecutive_local: 5,
            consecutive_gateway: 0,
            consecutive_5xx: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
            error_codes: Vec::new(),
        }
    }
}
