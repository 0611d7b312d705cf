//! A pod's annotations, parsed once before anything is injected.

use std::collections::BTreeMap;

use super::values::{self, IpRanges, Ports};
use crate::{Invalid, mesh_config::ProxyConfigOverride};

/// How a pod's traffic reaches its sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InterceptionMode {
    /// Connections are redirected by NAT rules.
    #[default]
    Redirect,
    /// Nothing is redirected: the application reaches the sidecar by itself.
    None,
}

/// What a pod's annotations say about its sidecar. `None` and empty mean "as the mesh is configured".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sidecar {
    /// [`super::INTERCEPTION_MODE`].
    pub interception_mode: InterceptionMode,
    /// [`super::INCLUDE_OUTBOUND_IP_RANGES`].
    pub include_outbound_ip_ranges: Option<IpRanges>,
    /// [`super::EXCLUDE_OUTBOUND_IP_RANGES`].
    pub exclude_outbound_ip_ranges: Option<IpRanges>,
    /// [`super::INCLUDE_OUTBOUND_PORTS`].
    pub include_outbound_ports: Option<Ports>,
    /// [`super::EXCLUDE_OUTBOUND_PORTS`].
    pub exclude_outbound_ports: Option<Ports>,
    /// [`super::INCLUDE_INBOUND_PORTS`].
    pub include_inbound_ports: Option<Ports>,
    /// [`super::EXCLUDE_INBOUND_PORTS`].
    pub exclude_inbound_ports: Option<Ports>,
    /// [`super::EXCLUDE_INTERFACES`], separated by commas.
    pub exclude_interfaces: Option<String>,
    /// [`super::REROUTE_VIRTUAL_INTERFACES`], or its deprecated name, separated by commas.
    pub reroute_virtual_interfaces: Option<String>,
    /// [`super::PROXY_CPU`].
    pub cpu: Option<String>,
    /// [`super::PROXY_CPU_LIMIT`].
    pub cpu_limit: Option<String>,
    /// [`super::PROXY_MEMORY`].
    pub memory: Option<String>,
    /// [`super::PROXY_MEMORY_LIMIT`].
    pub memory_limit: Option<String>,
    /// [`super::PROXY_IMAGE`].
    pub image: Option<String>,
    /// [`super::LOG_LEVEL`], in lower case.
    pub log_level: Option<String>,
    /// [`super::NATIVE_SIDECAR`].
    pub native: Option<bool>,
    /// [`super::REWRITE_APP_HTTP_PROBERS`].
    pub rewrite_probes: Option<bool>,
    /// [`super::READINESS_INITIAL_DELAY`], in seconds.
    pub readiness_initial_delay: Option<u32>,
    /// [`super::READINESS_PERIOD`], in seconds.
    pub readiness_period: Option<u32>,
    /// [`super::READINESS_FAILURE_THRESHOLD`].
    pub readiness_failure_threshold: Option<u32>,
    /// [`super::PROXY_CONFIG`].
    pub proxy_config: ProxyConfigOverride,
    /// What was accepted and changes nothing, one sentence each.
    pub warnings: Vec<String>,
}

impl Sidecar {
    /// Parses a pod's annotations.
    ///
    /// # Errors
    /// Every annotation that takes effect and does not parse, with its name, its value and what is accepted.
    pub fn parse(annotations: &BTreeMap<String, String>) -> Result<Self, Vec<Invalid>> {
        let mut sidecar = Self::default();
        let mut errors = Vec::new();
        for (name, value) in annotations {
            if let Err(error) = sidecar.take(name, value) {
                errors.extend(error);
            }
        }
        if errors.is_empty() { Ok(sidecar) } else { Err(errors) }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Vec<Invalid>> {
        match name {
            super::INTERCEPTION_MODE => self.interception_mode = interception_mode(value)?,
            super::INCLUDE_OUTBOUND_IP_RANGES => {
                self.include_outbound_ip_ranges = Some(values::ranges_or_all(name, value)?);
            }
            super::EXCLUDE_OUTBOUND_IP_RANGES => self.exclude_outbound_ip_ranges = Some(values::ranges(name, value)?),
            super::INCLUDE_OUTBOUND_PORTS => self.include_outbound_ports = Some(values::ports(name, value)?),
            super::EXCLUDE_OUTBOUND_PORTS => self.exclude_outbound_ports = Some(values::ports(name, value)?),
            super::INCLUDE_INBOUND_PORTS => self.include_inbound_ports = Some(values::ports_or_all(name, value)?),
            super::EXCLUDE_INBOUND_PORTS => self.exclude_inbound_ports = Some(values::ports(name, value)?),
            super::EXCLUDE_INTERFACES => self.exclude_interfaces = Some(values::interfaces(name, value)?),
            super::REROUTE_VIRTUAL_INTERFACES => {
                self.reroute_virtual_interfaces = Some(values::interfaces(name, value)?);
            }
            super::KUBEVIRT_INTERFACES => {
                let interfaces = values::interfaces(name, value)?;
                self.reroute_virtual_interfaces.get_or_insert(interfaces);
            }
            super::PROXY_CPU => self.cpu = Some(values::quantity(name, value)?),
            super::PROXY_CPU_LIMIT => self.cpu_limit = Some(values::quantity(name, value)?),
            super::PROXY_MEMORY => self.memory = Some(values::quantity(name, value)?),
            super::PROXY_MEMORY_LIMIT => self.memory_limit = Some(values::quantity(name, value)?),
            super::PROXY_IMAGE => self.image = Some(image(value)?),
            super::LOG_LEVEL => self.log_level = Some(log_level(value)?),
            super::NATIVE_SIDECAR => self.native = Some(values::boolean(name, value)?),
            super::REWRITE_APP_HTTP_PROBERS => self.rewrite_probes = Some(values::boolean(name, value)?),
            super::READINESS_INITIAL_DELAY => self.readiness_initial_delay = Some(values::number(name, value, 0)?),
            super::READINESS_PERIOD => self.readiness_period = Some(values::number(name, value, 1)?),
            super::READINESS_FAILURE_THRESHOLD => {
                self.readiness_failure_threshold = Some(values::number(name, value, 1)?);
            }
            super::PROXY_CONFIG => {
                let (proxy_config, ignored) = ProxyConfigOverride::parse(name, value)?;
                self.proxy_config = proxy_config;
                self.warnings
                    .extend(ignored.iter().map(|field| format!("annotation {field} has no effect")));
            }
            _ if super::WITHOUT_EFFECT.contains(&name) => {
                self.warnings.push(format!("annotation {name} has no effect"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn interception_mode(value: &str) -> Result<InterceptionMode, Invalid> {
    match value {
        "REDIRECT" => Ok(InterceptionMode::Redirect),
        "NONE" => Ok(InterceptionMode::None),
        "TPROXY" => Err(Invalid::new(
            super::INTERCEPTION_MODE,
            value,
            "REDIRECT or NONE: TPROXY would need the sidecar to run as root with NET_ADMIN",
        )),
        _ => Err(Invalid::new(super::INTERCEPTION_MODE, value, "REDIRECT or NONE")),
    }
}

fn image(value: &str) -> Result<String, Invalid> {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic());
    if plain {
        Ok(value.to_owned())
    } else {
        Err(Invalid::new(super::PROXY_IMAGE, value, "an image reference"))
    }
}

fn log_level(value: &str) -> Result<String, Invalid> {
    match value.to_ascii_lowercase().as_str() {
        // Envoy's names, which Istio's users write, and the ones that the proxy's log has for the same.
        "trace" => Ok("trace".to_owned()),
        "debug" => Ok("debug".to_owned()),
        "info" => Ok("info".to_owned()),
        "warning" | "warn" => Ok("warn".to_owned()),
        "error" | "critical" => Ok("error".to_owned()),
        "off" => Ok("off".to_owned()),
        _ => Err(Invalid::new(
            super::LOG_LEVEL,
            value,
            "one of trace, debug, info, warning, error, critical, off",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations as names;

    fn parse(annotations: &[(&str, &str)]) -> Result<Sidecar, String> {
        let annotations = annotations
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Sidecar::parse(&annotations).map_err(|errors| crate::join(&errors))
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(parse(&[("example.org/other", "x")]), Ok(Sidecar::default()));
    }

    #[test]
    fn what_takes_effect() {
        let sidecar = parse(&[
            (names::INTERCEPTION_MODE, "NONE"),
            (names::INCLUDE_OUTBOUND_IP_RANGES, "10.0.0.0/8"),
            (names::EXCLUDE_INBOUND_PORTS, "9000"),
            (names::PROXY_CPU, "250m"),
            (names::LOG_LEVEL, "Warning"),
            (names::NATIVE_SIDECAR, "False"),
            (names::KUBEVIRT_INTERFACES, "net1, net2"),
            (names::PROXY_CONFIG, "concurrency: 4\ntracing: {}\n"),
            ("sidecar.istio.io/userVolume", "{}"),
        ])
        .unwrap();
        assert_eq!(sidecar.interception_mode, InterceptionMode::None);
        assert_eq!(sidecar.include_outbound_ip_ranges.unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(sidecar.exclude_inbound_ports, Some(Ports::List(vec![9000])));
        assert_eq!(sidecar.cpu.as_deref(), Some("250m"));
        assert_eq!(sidecar.log_level.as_deref(), Some("warn"));
        assert_eq!(sidecar.native, Some(false));
        assert_eq!(sidecar.reroute_virtual_interfaces.as_deref(), Some("net1,net2"));
        assert_eq!(sidecar.proxy_config.concurrency, Some(4));
        assert_eq!(
            sidecar.warnings,
            [
                "annotation proxy.istio.io/config.tracing has no effect",
                "annotation sidecar.istio.io/userVolume has no effect"
            ]
        );
    }

    #[test]
    fn every_bad_annotation_is_named_with_what_is_accepted() {
        for (name, value, accepted) in [
            (
                names::INTERCEPTION_MODE,
                "TPROXY",
                "REDIRECT or NONE: TPROXY would need",
            ),
            (names::INTERCEPTION_MODE, "redirect", "REDIRECT or NONE"),
            (names::INCLUDE_OUTBOUND_IP_RANGES, "10.0.0.1", "* or CIDR ranges"),
            (names::EXCLUDE_OUTBOUND_IP_RANGES, "*", "CIDR ranges"),
            (names::INCLUDE_OUTBOUND_PORTS, "http", "ports 1 to 65535"),
            (names::EXCLUDE_OUTBOUND_PORTS, "70000", "ports 1 to 65535"),
            (names::INCLUDE_INBOUND_PORTS, "80;81", "* or ports 1 to 65535"),
            (names::EXCLUDE_INBOUND_PORTS, "0", "ports 1 to 65535"),
            (names::EXCLUDE_INTERFACES, "a b", "names of network interfaces"),
            (names::PROXY_CPU, "many", "a Kubernetes quantity"),
            (names::PROXY_MEMORY_LIMIT, "1GB", "a Kubernetes quantity"),
            (names::PROXY_IMAGE, "", "an image reference"),
            (names::LOG_LEVEL, "loud", "one of trace"),
            (names::NATIVE_SIDECAR, "yes", "true or false"),
            (names::REWRITE_APP_HTTP_PROBERS, "no", "true or false"),
            (names::READINESS_PERIOD, "0", "a whole number from 1"),
            (names::PROXY_CONFIG, "[", "ProxyConfig as YAML"),
        ] {
            let message = parse(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(name), "{message}");
            assert!(message.contains(&format!("expected {accepted}")), "{message}");
        }
        let message = parse(&[(names::PROXY_CONFIG, "concurrency: many"), (names::PROXY_CPU, "many")]).unwrap_err();
        assert!(
            message.starts_with("proxy.istio.io/config.concurrency: \"many\""),
            "{message}"
        );
        assert!(message.contains("; sidecar.istio.io/proxyCPU: "), "{message}");
    }
}
