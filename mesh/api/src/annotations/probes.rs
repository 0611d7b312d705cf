//! Who is probed how: the sidecar's status port and readiness probe, and the application's probes through it.

use super::values;
use crate::Invalid;

/// Ports of the sidecar that its status port cannot be.
pub const SIDECAR_PORTS: [u16; 7] = [15000, 15001, 15006, 15008, 15021, 15053, 15090];

/// What is accepted for a status port.
pub(crate) const STATUS_PORT: &str = "a port from 1 to 65535 that is none of the sidecar's other ports (15000, 15001, 15006, 15008, 15021, 15053, 15090), \
     or 0 for no probes of the sidecar";

/// What a pod says of probes. `None` means "as the mesh is configured".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// [`super::REWRITE_APP_HTTP_PROBERS`].
    pub rewrite: Option<bool>,
    /// [`super::STATUS_PORT`]; 0 means that the sidecar has no probes.
    pub status_port: Option<u16>,
    /// [`super::READINESS_INITIAL_DELAY`], in seconds.
    pub initial_delay: Option<u32>,
    /// [`super::READINESS_PERIOD`], in seconds.
    pub period: Option<u32>,
    /// [`super::READINESS_FAILURE_THRESHOLD`].
    pub failure_threshold: Option<u32>,
}

impl Probes {
    /// Takes an annotation of this family; `false` when it is of another.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Invalid> {
        match name {
            super::REWRITE_APP_HTTP_PROBERS => self.rewrite = Some(values::boolean(name, value)?),
            super::STATUS_PORT => {
                let port = value.trim().parse().ok().and_then(status_port);
                self.status_port = Some(port.ok_or_else(|| Invalid::new(name, value, STATUS_PORT))?);
            }
            super::READINESS_INITIAL_DELAY => self.initial_delay = Some(values::number(name, value, 0)?),
            super::READINESS_PERIOD => self.period = Some(values::number(name, value, 1)?),
            super::READINESS_FAILURE_THRESHOLD => self.failure_threshold = Some(values::number(name, value, 1)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A number that can be the status port.
pub(crate) fn status_port(number: u64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| !SIDECAR_PORTS.contains(port))
}
