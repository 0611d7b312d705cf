//! Where endpoints and clients are, and `loadBalancer.localityLbSetting`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place: `region/zone/subzone`, each of which may be empty. Of a pod it is its node's labels `topology.kubernetes.io/region`,
/// `topology.kubernetes.io/zone` and `topology.istio.io/subzone`, or its own label `istio-locality`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone.
    pub zone: Arc<str>,
    /// The subzone.
    pub subzone: Arc<str>,
}

impl Locality {
    /// Reads `region`, `region/zone` or `region/zone/subzone`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default().into();
        Self {
            region: part(),
            zone: part(),
            subzone: part(),
        }
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() || !self.subzone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.subzone.is_empty() {
            write!(f, "/{}", self.subzone)?;
        }
        Ok(())
    }
}

/// `localityLbSetting`, in force: one that is not enabled is not there, and without `distribute` neither is one that has
/// no outlier detection beside it, unless a Service asks for it, since nothing would ever fail over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalitySetting {
    /// `distribute`.
    pub distribute: Vec<Distribute>,
    /// `failover`.
    pub failover: Vec<Failover>,
    /// `failoverPriority`: labels, or labels with the value that stands for the client's (`key=value`), as written.
    pub failover_priority: Vec<Arc<str>>,
    /// Whether endpoints have priorities even without outlier detection, by which Istio's `failover` and `failoverPriority`
    /// need to be told that a priority has failed: a Service's traffic distribution.
    pub always: bool,
}

impl LocalitySetting {
    /// The label that an entry of `failoverPriority` names, and the value that stands for the client's own, if it has one.
    #[must_use]
    pub fn label(entry: &str) -> (&str, Option<&str>) {
        match entry.split_once('=') {
            Some((label, value)) => (label, Some(value)),
            None => (entry, None),
        }
    }
}

/// Clients in `from` send these shares, in percent, to these places. Both may end in `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribute {
    /// `from`.
    pub from: Arc<str>,
    /// `to`.
    pub to: BTreeMap<Arc<str>, u32>,
}

/// Clients whose region has failed go to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// `from`.
    pub from: Arc<str>,
    /// `to`.
    pub to: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_read_and_written() {
        for text in ["", "r", "r/z", "r/z/s", "r//s"] {
            assert_eq!(Locality::parse(text).to_string(), text);
        }
    }
}
