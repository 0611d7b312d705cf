//! What the sidecar is told at its start: by environment variables that the webhook writes, or the flags of the same names.
//! All of it is parsed before anything begins, and every mistake is reported at once.

use crate::admin::{ProbeError, Probes, TargetError, Targets};
use crate::kernel_tls;
use clap::Args;
use mesh_core::identity::SpiffeId;
use mesh_core::switch;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// As it is written, unparsed.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// The pod's name.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pod_name: String,
    /// The pod's namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    pod_namespace: String,
    /// The pod's service account.
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "")]
    service_account: String,
    /// The pod's addresses, separated by commas.
    #[arg(long, env = "INSTANCE_IPS", default_value = "")]
    instance_ips: String,
    /// The operator: HOST:PORT.
    #[arg(
        long,
        env = "DISCOVERY_ADDRESS",
        default_value = "pinnace-operator.istio-system.svc:15012"
    )]
    discovery_address: String,
    /// Whom the operator must prove to be.
    #[arg(
        long,
        env = "DISCOVERY_SPIFFE_ID",
        default_value = "spiffe://cluster.local/ns/istio-system/sa/pinnace-operator"
    )]
    discovery_spiffe_id: String,
    /// Where the certificate is mounted: tls.crt, tls.key, ca.crt.
    #[arg(long, env = "CERT_DIR", default_value = "/etc/certs")]
    cert_dir: PathBuf,
    /// Where the last good configuration is kept over a restart; nowhere if empty.
    #[arg(long, env = "SNAPSHOT_DIR", default_value = "")]
    snapshot_dir: String,
    /// Threads that carry traffic; at most the machine's processors.
    #[arg(long, env = "PROXY_CONCURRENCY", default_value = "2")]
    proxy_concurrency: String,
    /// Connections open at once; more are refused.
    #[arg(long, env = "PROXY_MAX_CONNECTIONS", default_value = "20000")]
    proxy_max_connections: String,
    /// Whether handshakes with a peer that is known already may resume its session: on, or off to verify every chain anew.
    #[arg(long, env = "TLS_RESUMPTION", default_value = "on")]
    tls_resumption: String,
    /// The port of readiness, merged metrics and the application's probes.
    #[arg(long, env = "STATUS_PORT", default_value = "15020")]
    status_port: String,
    /// How long new connections are taken after `/drain`, in seconds.
    #[arg(long, env = "DRAIN_DURATION_SECONDS", default_value = "45")]
    drain_duration_seconds: String,
    /// How long open connections may go on once the pod ends, in seconds.
    #[arg(long, env = "TERMINATION_DRAIN_DURATION_SECONDS", default_value = "5")]
    termination_drain_duration_seconds: String,
    /// Whether callers of the mesh are told the id of the record of their denial: on or off.
    #[arg(long, env = "DENIAL_ID_HEADER", default_value = "off")]
    denial_id_header: String,
    /// How often the operator is told of denials and of callers in the clear, where there were any, in seconds.
    #[arg(long, env = "REPORT_INTERVAL_SECONDS", default_value = "10")]
    report_interval_seconds: String,
    /// TLS by the kernel: auto (where it can be) or off.
    #[arg(long, env = "KERNEL_TLS", default_value = "off")]
    kernel_tls: String,
    /// Whether the pod's DNS questions are answered here: true or false.
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", default_value = "false")]
    dns_capture: String,
    /// The probes and hooks that the webhook redirected, JSON.
    #[arg(long, env = "ISTIO_KUBE_APP_PROBERS", default_value = "{}")]
    istio_kube_app_probers: String,
    /// Where the application's own metrics are, from the pod's prometheus.io annotations, JSON.
    #[arg(long, env = "ISTIO_PROMETHEUS_ANNOTATIONS", default_value = "")]
    istio_prometheus_annotations: String,
}

/// Parsed.
#[derive(Debug)]
pub struct Config {
    /// The pod's name.
    pub pod_name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's service account.
    pub service_account: String,
    /// The pod's addresses, at least one; the first is the primary.
    pub pod_ips: Vec<IpAddr>,
    /// HOST:PORT.
    pub discovery_address: String,
    /// Whom the operator must prove to be.
    pub operator: SpiffeId,
    /// Where the certificate is mounted.
    pub cert_dir: PathBuf,
    /// Where the last good configuration is kept over a restart.
    pub snapshot_dir: Option<PathBuf>,
    /// Threads that carry traffic.
    pub concurrency: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// Whether TLS sessions may be resumed.
    pub tls_resumption: bool,
    /// The port of readiness, merged metrics and the application's probes.
    pub status_port: u16,
    /// How long new connections are taken once the proxy was told to drain.
    pub takes_while_draining: Duration,
    /// How long open connections may go on once the pod ends.
    pub drain: Duration,
    /// Whether callers of the mesh are told the id of the record of their denial.
    pub tells_denial_ids: bool,
    /// How often the operator is told of what was seen.
    pub report_interval: Duration,
    /// What was asked of TLS by the kernel.
    pub kernel_tls: kernel_tls::Setting,
    /// Whether the pod's DNS questions are answered here.
    pub dns_capture: bool,
    /// Probes and hooks.
    pub probes: Probes,
    /// Where the application's own metrics are.
    pub application: Targets,
}

/// One mistake; the text names the variable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Something must be there.
    #[error("{0} is not set; the webhook sets it in every pod that it injects")]
    Missing(&'static str),
    /// A value that is not understood.
    #[error("{name} {value:?}: expected {expected}")]
    Value {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The application's metrics.
    #[error("ISTIO_PROMETHEUS_ANNOTATIONS: {0}")]
    Application(#[from] TargetError),
    /// The probes.
    #[error("ISTIO_KUBE_APP_PROBERS: {0}")]
    Probes(#[from] ProbeError),
}

impl Config {
    /// Parses everything.
    ///
    /// # Errors
    /// Every mistake there is.
    pub fn parse(flags: &Flags) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        for (name, value) in [
            ("POD_NAME", &flags.pod_name),
            ("POD_NAMESPACE", &flags.pod_namespace),
            ("SERVICE_ACCOUNT", &flags.service_account),
            ("INSTANCE_IPS", &flags.instance_ips),
        ] {
            if value.is_empty() {
                errors.push(ConfigError::Missing(name));
            }
        }
        let mut value = |name, value: &str, expected| {
            errors.push(ConfigError::Value {
                name,
                value: value.to_owned(),
                expected,
            });
        };
        let mut pod_ips = Vec::new();
        for text in flags
            .instance_ips
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            match text.parse() {
                Ok(ip) => pod_ips.push(ip),
                Err(_) => value("INSTANCE_IPS", text, "IP addresses separated by commas"),
            }
        }
        let operator = flags.discovery_spiffe_id.parse::<SpiffeId>();
        if operator.is_err() {
            let expected = "spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT";
            value("DISCOVERY_SPIFFE_ID", &flags.discovery_spiffe_id, expected);
        }
        let address = flags.discovery_address.rsplit_once(':');
        if address.is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            value("DISCOVERY_ADDRESS", &flags.discovery_address, "HOST:PORT");
        }
        if !matches!(flags.tls_resumption.as_str(), "on" | "off") {
            value("TLS_RESUMPTION", &flags.tls_resumption, "on or off");
        }
        if !matches!(flags.denial_id_header.as_str(), "on" | "off") {
            value("DENIAL_ID_HEADER", &flags.denial_id_header, "on or off");
        }
        let kernel_tls = flags.kernel_tls.parse().unwrap_or_else(|()| {
            value("KERNEL_TLS", &flags.kernel_tls, "auto or off");
            kernel_tls::Setting::Off
        });
        let dns_capture = switch::parse(&flags.dns_capture).unwrap_or_else(|| {
            value("ISTIO_META_DNS_CAPTURE", &flags.dns_capture, switch::ACCEPTED);
            false
        });
        let mut number = |name, text: &str, least: u64, most: u64, expected| match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                value(name, text, expected);
                least
            }
        };
        let concurrency = number(
            "PROXY_CONCURRENCY",
            &flags.proxy_concurrency,
            0,
            256,
            "a number of threads, 0 to 256",
        );
        let max_connections = number(
            "PROXY_MAX_CONNECTIONS",
            &flags.proxy_max_connections,
            1,
            1_000_000,
            "a number of connections, 1 to 1000000",
        );
        let status_port = number("STATUS_PORT", &flags.status_port, 1, 65535, "a port from 1 to 65535");
        let takes_while_draining = number(
            "DRAIN_DURATION_SECONDS",
            &flags.drain_duration_seconds,
            0,
            3600,
            "seconds, 0 to 3600",
        );
        let drain = number(
            "TERMINATION_DRAIN_DURATION_SECONDS",
            &flags.termination_drain_duration_seconds,
            0,
            3600,
            "seconds, 0 to 3600",
        );
        let report_interval = number(
            "REPORT_INTERVAL_SECONDS",
            &flags.report_interval_seconds,
            1,
            3600,
            "seconds, 1 to 3600",
        );
        let probes = Probes::parse(&flags.istio_kube_app_probers).map_err(|error| errors.push(error.into()));
        let application =
            Targets::parse(&flags.istio_prometheus_annotations).map_err(|error| errors.push(error.into()));
        match (operator, probes, application) {
            (Ok(operator), Ok(probes), Ok(application)) if errors.is_empty() => Ok(Self {
                pod_name: flags.pod_name.clone(),
                namespace: flags.pod_namespace.clone(),
                service_account: flags.service_account.clone(),
                pod_ips,
                discovery_address: flags.discovery_address.clone(),
                operator,
                cert_dir: flags.cert_dir.clone(),
                snapshot_dir: Some(PathBuf::from(&flags.snapshot_dir)).filter(|folder| !folder.as_os_str().is_empty()),
                concurrency: threads(concurrency),
                max_connections: usize::try_from(max_connections).unwrap_or(usize::MAX),
                tls_resumption: flags.tls_resumption == "on",
                tells_denial_ids: flags.denial_id_header == "on",
                status_port: u16::try_from(status_port).unwrap_or(15020),
                takes_while_draining: Duration::from_secs(takes_while_draining),
                drain: Duration::from_secs(drain),
                report_interval: Duration::from_secs(report_interval),
                kernel_tls,
                dns_capture,
                probes,
                application,
            }),
            _ => Err(errors),
        }
    }
}

/// 0 means one per processor, as in Istio; more than there are processors helps nobody.
fn threads(asked: u64) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match usize::try_from(asked).unwrap_or(usize::MAX) {
        0 => processors,
        asked => asked.min(processors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(arguments: &[&str]) -> Result<Config, Vec<String>> {
        let line = Line::parse_from(["proxy"].iter().chain(arguments));
        Config::parse(&line.flags).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    const GOOD: [&str; 4] = [
        "--pod-name=a-1",
        "--pod-namespace=shop",
        "--service-account=a",
        "--instance-ips=10.0.0.1,fd00::1",
    ];

    #[test]
    fn a_good_environment_parses() {
        let config = parse(&GOOD).unwrap();
        assert_eq!((config.pod_ips.len(), config.drain), (2, Duration::from_secs(5)));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let errors = parse(&[
            "--pod-name=a-1",
            "--instance-ips=10.0.0.1,x",
            "--discovery-address=nowhere",
            "--discovery-spiffe-id=x",
            "--tls-resumption=perhaps",
            "--dns-capture=yes",
            "--proxy-concurrency=many",
            "--istio-kube-app-probers=[",
        ])
        .unwrap_err();
        for (at, start) in [
            "POD_NAMESPACE is not set",
            "SERVICE_ACCOUNT is not set",
            "INSTANCE_IPS \"x\"",
            "DISCOVERY_SPIFFE_ID \"x\"",
            "DISCOVERY_ADDRESS \"nowhere\"",
            "TLS_RESUMPTION \"perhaps\": expected on or off",
            "ISTIO_META_DNS_CAPTURE \"yes\": expected true or false",
            "PROXY_CONCURRENCY \"many\"",
            "ISTIO_KUBE_APP_PROBERS",
        ]
        .iter()
        .enumerate()
        {
            assert!(
                errors[at].starts_with(start),
                "{} should start with {start}",
                errors[at]
            );
        }
        assert_eq!(errors.len(), 9);
    }
}
