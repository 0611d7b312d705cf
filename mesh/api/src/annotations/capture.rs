//! Which of a pod's traffic passes its sidecar: `traffic.sidecar.istio.io/*` and the interception mode.

use super::values::{self, IpRanges, Ports};
use crate::Invalid;

/// How a pod's traffic reaches its sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InterceptionMode {
    /// Connections are redirected by NAT rules.
    #[default]
    Redirect,
    /// Nothing is redirected: the application reaches the sidecar by itself.
    None,
}

impl InterceptionMode {
    /// What [`Self::parse`] accepts, for messages.
    pub(crate) const ACCEPTED: &str = "REDIRECT or NONE: TPROXY would need the sidecar to run as root with NET_ADMIN";

    /// Reads Istio's name of a mode.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "REDIRECT" => Some(Self::Redirect),
            "NONE" => Some(Self::None),
            _ => None,
        }
    }
}

/// What is redirected. `None` means "as the mesh is configured"; an empty list is an answer: it names nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// [`super::INTERCEPTION_MODE`].
    pub mode: Option<InterceptionMode>,
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
}

impl Capture {
    /// Takes an annotation of this family; `false` when it is of another.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Invalid> {
        match name {
            super::INTERCEPTION_MODE => {
                let mode = InterceptionMode::parse(value);
                self.mode = Some(mode.ok_or_else(|| Invalid::new(name, value, InterceptionMode::ACCEPTED))?);
            }
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
            // Annotations come in the order of their names, so that the newer name is there already.
            super::KUBEVIRT_INTERFACES => {
                let interfaces = values::interfaces(name, value)?;
                self.reroute_virtual_interfaces.get_or_insert(interfaces);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads the same settings as the chart has them, under `global.proxy`: text under Istio's names of values.
    ///
    /// # Errors
    /// The first value that does not parse.
    pub fn of_values<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Invalid> {
        let mut capture = Self::default();
        for (name, value) in settings {
            let at = format!("global.proxy.{name}");
            match name {
                "includeIPRanges" => capture.include_outbound_ip_ranges = Some(values::ranges_or_all(&at, value)?),
                "excludeIPRanges" => capture.exclude_outbound_ip_ranges = Some(values::ranges(&at, value)?),
                "includeOutboundPorts" => capture.include_outbound_ports = Some(values::ports(&at, value)?),
                "excludeOutboundPorts" => capture.exclude_outbound_ports = Some(values::ports(&at, value)?),
                "includeInboundPorts" => capture.include_inbound_ports = Some(values::ports_or_all(&at, value)?),
                "excludeInboundPorts" => capture.exclude_inbound_ports = Some(values::ports(&at, value)?),
                _ => {}
            }
        }
        Ok(capture)
    }

    /// These settings where they say something, else the others.
    #[must_use]
    pub fn over(self, base: &Self) -> Self {
        Self {
            mode: self.mode.or(base.mode),
            include_outbound_ip_ranges: self
                .include_outbound_ip_ranges
                .or_else(|| base.include_outbound_ip_ranges.clone()),
            exclude_outbound_ip_ranges: self
                .exclude_outbound_ip_ranges
                .or_else(|| base.exclude_outbound_ip_ranges.clone()),
            include_outbound_ports: self
                .include_outbound_ports
                .or_else(|| base.include_outbound_ports.clone()),
            exclude_outbound_ports: self
                .exclude_outbound_ports
                .or_else(|| base.exclude_outbound_ports.clone()),
            include_inbound_ports: self
                .include_inbound_ports
                .or_else(|| base.include_inbound_ports.clone()),
            exclude_inbound_ports: self
                .exclude_inbound_ports
                .or_else(|| base.exclude_inbound_ports.clone()),
            exclude_interfaces: self.exclude_interfaces.or_else(|| base.exclude_interfaces.clone()),
            reroute_virtual_interfaces: self
                .reroute_virtual_interfaces
                .or_else(|| base.reroute_virtual_interfaces.clone()),
        }
    }
}
