//! The operator's flags and environment, parsed into values that cannot be wrong. Nothing is read from the
//! environment anywhere else, except by the Kubernetes client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mesh_core::authorization::matches::AddressRange;

/// The shortest lifetime of a workload certificate that may be asked for. Renewal happens at half of it, and the
/// kubelet, the proxy and the API server need some seconds each.
pub const SHORTEST_TTL: Duration = Duration::from_secs(20);

/// The longest lifetime of a workload certificate that may be asked for: Istio's `MAX_WORKLOAD_CERT_TTL`, 90 days.
pub const LONGEST_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Plain text.
    Text,
}

/// The operator of the Pinnace service mesh: certificate authority, reconcilers and discovery server.
#[derive(Debug, Clone, Parser)]
#[command(name = "operator", version)]
pub struct Settings {
    /// The namespace that the mesh is installed in (also the root namespace unless meshConfig names another).
    #[arg(long, env = "POD_NAMESPACE", default_value = "istio-system")]
    pub namespace: String,
    /// The name of this replica, which holds the lease under it.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// The service account that this operator runs as; names its certificate's SPIFFE ID.
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "pinnace-operator")]
    pub service_account: String,
    /// The revision of this control plane; empty for the default one.
    #[arg(long, env = "REVISION", default_value = "")]
    pub revision: String,
    /// The cluster's DNS domain.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where discovery is served, over mutual TLS.
    #[arg(long, env = "DISCOVERY_ADDR", default_value = "0.0.0.0:15012")]
    pub discovery_addr: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served, over plain HTTP.
    #[arg(long, env = "METRICS_ADDR", default_value = "0.0.0.0:15014")]
    pub metrics_addr: SocketAddr,
    /// Where the debug pages are served, over plain HTTP and on loopback only: they are reached by port-forwarding.
    #[arg(long, env = "DEBUG_ADDR", default_value = "127.0.0.1:15013", value_parser = crate::debug::loopback)]
    pub debug_addr: SocketAddr,
    /// How long workload certificates are valid, for example 60s, 15m or 24h.
    #[arg(long, env = "WORKLOAD_CERT_TTL", default_value = "24h", value_parser = certificate_ttl)]
    pub workload_cert_ttl: Duration,
    /// The namespaces whose service accounts get certificates, separated by commas; all when there is none. For an
    /// operator whose right to Secrets is confined to them.
    #[arg(long, env = "SECRET_NAMESPACES", value_delimiter = ',')]
    pub secret_namespaces: Vec<String>,
    /// Addresses and ranges that keys of end-user tokens are never fetched from, separated by commas, beside those that
    /// never are: loopback, link-local, the nodes and the API server.
    #[arg(long, env = "JWKS_BLOCKED_CIDRS", value_delimiter = ',', value_parser = AddressRange::parse)]
    pub jwks_blocked_cidrs: Vec<AddressRange>,
    /// A PEM file of roots that servers of such keys are trusted by, beside those of the public web.
    #[arg(long, env = "JWKS_EXTRA_ROOT_CA")]
    pub jwks_extra_root_ca: Option<PathBuf>,
    /// How often such keys are fetched.
    #[arg(long, env = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", default_value = "20m", value_parser = refresh_interval)]
    pub jwks_refresh_interval: Duration,
    /// For how long nobody may have called a namespace in the clear before `policy.pinnace.dev/strict=when-ready` turns it
    /// STRICT, where it does not say by itself.
    #[arg(long, env = "STRICT_WHEN_READY_QUIET", default_value = "24h", value_parser = quiet_period)]
    pub strict_when_ready_quiet: Duration,
    /// Further names by which namespaces select this control plane (`istio.io/rev`), separated by commas.
    #[arg(long, env = "REVISION_TAGS", value_delimiter = ',')]
    pub revision_tags: Vec<String>,
    /// How log lines are written.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged: a level, or directives as in `RUST_LOG`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

impl Settings {
    /// A resource name of this control plane: `base`, with the revision appended when there is one.
    #[must_use]
    pub fn revisioned(&self, base: &str) -> String {
        if self.revision.is_empty() {
            base.to_owned()
        } else {
            format!("{base}-{}", self.revision)
        }
    }
}

/// Parses a duration in Go's notation as far as `meshConfig` and Istio's environment use it: a sequence of decimal
/// numbers with the units `ms`, `s`, `m` and `h`.
///
/// # Errors
/// A sentence that names the value and what is accepted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refuse =
        || format!("{text:?} is no duration; accepted are numbers with a unit, such as 60s, 15m, 24h or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            _ => return Err(refuse()),
        };
        let part = number
            .checked_mul(milliseconds)
            .map(Duration::from_millis)
            .ok_or_else(refuse)?;
        total = total.checked_add(part).ok_or_else(refuse)?;
        rest = tail;
    }
    Ok(total)
}

/// Parses the lifetime of workload certificates: a [`duration`] between [`SHORTEST_TTL`] and [`LONGEST_TTL`].
fn certificate_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if ttl < SHORTEST_TTL || ttl > LONGEST_TTL {
        return Err(format!(
            "{text:?} is out of range; accepted are {} s to {} h",
            SHORTEST_TTL.as_secs(),
            LONGEST_TTL.as_secs() / 3600
        ));
    }
    Ok(ttl)
}

/// Parses for how long nobody may have called in the clear: a [`duration`] between 10 seconds and 90 days.
///
/// # Errors
/// A sentence that names the value and what is accepted.
pub fn quiet_period(text: &str) -> Result<Duration, String> {
    let period = duration(text)?;
    if !(Duration::from_secs(10)..=Duration::from_secs(90 * 24 * 3600)).contains(&period) {
        return Err(format!("{text:?} is out of range; accepted are 10s to 2160h"));
    }
    Ok(period)
}

/// Parses how often keys are fetched: a [`duration`] between 10 seconds and a day.
fn refresh_interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if !(Duration::from_secs(10)..=Duration::from_secs(24 * 3600)).contains(&interval) {
        return Err(format!("{text:?} is out of range; accepted are 10 s to 24 h"));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("60s", Some(60_000)),
            ("15m", Some(900_000)),
            ("24h", Some(86_400_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("", None),
            ("60", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("99999999999999999999h", None),
            ("9999999999999999h", None),
        ] {
            let got = duration(text);
            match want {
                Some(milliseconds) => assert_eq!(got, Ok(Duration::from_millis(milliseconds)), "{text}"),
                None => assert!(got.is_err_and(|error| error.contains(text)), "{text}"),
            }
        }
    }

    #[test]
    fn lifetimes_out_of_range_are_refused() {
        for text in ["5s", "2161h"] {
            assert!(
                certificate_ttl(text).is_err_and(|error| error.contains("out of range")),
                "{text}"
            );
        }
        assert_eq!(certificate_ttl("60s"), Ok(Duration::from_secs(60)));
    }

    #[test]
    fn quiet_periods() {
        for text in ["9s", "2161h", "soon", ""] {
            assert!(quiet_period(text).is_err_and(|error| error.contains(text)), "{text}");
        }
        assert_eq!(quiet_period("24h"), Ok(Duration::from_secs(24 * 3600)));
    }

    #[test]
    fn names_carry_the_revision() {
        let mut settings = Settings::parse_from(["operator", "--pod-name", "a"]);
        assert_eq!(settings.revisioned("istio"), "istio");
        settings.revision = "canary".to_owned();
        assert_eq!(settings.revisioned("istio"), "istio-canary");
    }
}
