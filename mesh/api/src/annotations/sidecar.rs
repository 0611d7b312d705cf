//! A pod's annotations, parsed once before anything is injected.

use std::collections::BTreeMap;

use super::{
    capture::Capture, container::Container, logging::Logging, probes::Probes, prometheus::Prometheus, surface,
    templates, values,
};
use crate::{Invalid, mesh_config::ProxyConfigOverride};

/// What a pod's annotations say about its sidecar, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sidecar {
    /// What is redirected.
    pub capture: Capture,
    /// The sidecar's container.
    pub container: Container,
    /// Its log.
    pub logging: Logging,
    /// Its probes, and the application's.
    pub probes: Probes,
    /// Where metrics are scraped.
    pub prometheus: Prometheus,
    /// [`super::PROXY_CONFIG`].
    pub proxy_config: ProxyConfigOverride,
    /// [`super::PRE_STOP_SLEEP`], in seconds.
    pub pre_stop_sleep: Option<u32>,
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
        let taken = self.capture.take(name, value)?
            || self.container.take(name, value)?
            || self.logging.take(name, value, &mut self.warnings)?
            || self.probes.take(name, value)?
            || self.prometheus.take(name, value)?;
        match name {
            _ if taken => {}
            super::PROXY_CONFIG => {
                let (proxy_config, ignored) = ProxyConfigOverride::parse(name, value)?;
                self.proxy_config = proxy_config;
                let told = ignored.iter().map(|ignored| format!("annotation {ignored}"));
                self.warnings.extend(told);
            }
            super::TEMPLATES => templates::check(name, value)?,
            super::PRE_STOP_SLEEP => self.pre_stop_sleep = Some(values::seconds(name, value)?),
            super::CAP_NET_BIND_SERVICE if value == "false" => {}
            _ => self.warnings.extend(surface::warning(name)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::{self as names, InterceptionMode, Ports};

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
            (names::PROXY_CONFIG, "concurrency: 4\ntracing: {}\ncolour: red\n"),
            ("sidecar.istio.io/bootstrapOverride", "x"),
            ("sidecar.istio.io/proxyCpu", "1"),
        ])
        .unwrap();
        assert_eq!(sidecar.capture.mode, Some(InterceptionMode::None));
        assert_eq!(
            sidecar.capture.include_outbound_ip_ranges.unwrap().to_string(),
            "10.0.0.0/8"
        );
        assert_eq!(sidecar.capture.exclude_inbound_ports, Some(Ports::List(vec![9000])));
        assert_eq!(sidecar.container.cpu.as_deref(), Some("250m"));
        assert_eq!(sidecar.logging.level, Some("warn"));
        assert_eq!(sidecar.container.native, Some(false));
        assert_eq!(sidecar.capture.reroute_virtual_interfaces.as_deref(), Some("net1,net2"));
        assert_eq!(sidecar.proxy_config.concurrency, Some(4));
        let begins = [
            "annotation proxy.istio.io/config.colour is no field",
            "annotation proxy.istio.io/config.tracing has no effect",
            "annotation sidecar.istio.io/bootstrapOverride has no effect: ",
            "annotation sidecar.istio.io/proxyCpu is not known",
        ];
        for (warning, begin) in sidecar.warnings.iter().zip(begins) {
            assert!(warning.starts_with(begin), "{warning}");
        }
        assert_eq!(sidecar.warnings.len(), begins.len(), "{:?}", sidecar.warnings);
    }

    #[test]
    fn the_newer_name_of_rerouted_interfaces_wins() {
        for pair in [
            [
                (names::REROUTE_VIRTUAL_INTERFACES, "a"),
                (names::KUBEVIRT_INTERFACES, "b"),
            ],
            [
                (names::KUBEVIRT_INTERFACES, "b"),
                (names::REROUTE_VIRTUAL_INTERFACES, "a"),
            ],
        ] {
            let sidecar = parse(&pair).unwrap();
            assert_eq!(sidecar.capture.reroute_virtual_interfaces.as_deref(), Some("a"));
        }
    }

    #[test]
    fn several_bad_annotations_are_all_named() {
        let message = parse(&[(names::PROXY_CONFIG, "concurrency: many"), (names::PROXY_CPU, "many")]).unwrap_err();
        assert!(
            message.starts_with("proxy.istio.io/config.concurrency: \"many\""),
            "{message}"
        );
        assert!(message.contains("; sidecar.istio.io/proxyCPU: "), "{message}");
    }
}
