//! Where a pod's metrics are scraped: its `prometheus.io/*` annotations, which move to the sidecar when it merges the
//! application's metrics into its own, and Istio's `prometheus.istio.io/*`.

use super::values;
use crate::Invalid;

/// One page of metrics of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// The port it is on.
    pub port: u16,
    /// Its path.
    pub path: String,
}

/// What a pod says of its metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prometheus {
    /// [`super::MERGE_METRICS`]; `None` means "as the mesh is configured".
    pub merge: Option<bool>,
    /// [`super::SCRAPE_TARGETS`].
    pub targets: Vec<ScrapeTarget>,
    /// `prometheus.io/scrape` as it was given.
    pub scrape: Option<String>,
    /// `prometheus.io/port` as it was given.
    pub port: Option<String>,
    /// `prometheus.io/path`.
    pub path: Option<String>,
    /// The annotations' own names, which differ in spelling: they are replaced when metrics are merged.
    pub spelled: Vec<String>,
}

/// The three annotations by which Prometheus finds pods, as it names them in its relabelling.
const SCRAPE: &str = "prometheus_io_scrape";
const PORT: &str = "prometheus_io_port";
const PATH: &str = "prometheus_io_path";

const PORT_ACCEPTED: &str = "a port of the application, 1 to 65535: the sidecar's own ports are not scraped through it, its metrics are there anyway";
const TARGETS: &str = "PORT:PATH separated by commas, such as 8080:/metrics,9090:/stats, of ports of the application";

impl Prometheus {
    /// Takes an annotation of this family; `false` when it is of another. The port is looked at by [`Self::check`], since
    /// it matters only where metrics are merged.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Invalid> {
        let kind = relabelled(name);
        match (name, kind.as_str()) {
            (super::MERGE_METRICS, _) => {
                self.merge = Some(values::boolean(name, value)?);
                return Ok(true);
            }
            (super::SCRAPE_TARGETS, _) => self.targets = targets(name, value)?,
            (_, SCRAPE) => self.scrape = Some(value.to_owned()),
            (_, PORT) => self.port = Some(value.to_owned()),
            (_, PATH) => self.path = Some(value.to_owned()),
            _ => return Ok(false),
        }
        self.spelled.push(name.to_owned());
        Ok(true)
    }

    /// Whether the sidecar merges the application's metrics into its own, given what the mesh says.
    #[must_use]
    pub fn merges(&self, mesh: bool) -> bool {
        let scraped = self
            .scrape
            .as_deref()
            .is_none_or(|text| values::boolean(SCRAPE, text) != Ok(false));
        scraped && self.merge.unwrap_or(mesh)
    }

    /// Refuses ports to scrape that are none, or the sidecar's own.
    ///
    /// # Errors
    /// The first such port.
    pub fn check(&self, status_port: u16) -> Result<(), Invalid> {
        let of_application = |port: u16| !super::SIDECAR_PORTS.contains(&port) && port != status_port && port != 0;
        if let Some(target) = self.targets.iter().find(|target| !of_application(target.port)) {
            return Err(Invalid::new(super::SCRAPE_TARGETS, target.port, PORT_ACCEPTED));
        }
        match &self.port {
            Some(text) if !text.trim().parse().is_ok_and(of_application) => {
                Err(Invalid::new("prometheus.io/port", text, PORT_ACCEPTED))
            }
            _ => Ok(()),
        }
    }
}

/// An annotation's name as Prometheus' relabelling has it: every character but letters, digits and underscores becomes
/// an underscore, so that `prometheus.io/port` and `prometheus.io.port` are one.
fn relabelled(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

fn targets(name: &str, value: &str) -> Result<Vec<ScrapeTarget>, Invalid> {
    let target = |part: &str| {
        let (port, path) = part.split_once(':').unwrap_or((part, ""));
        let path = path.trim();
        let path = if path.is_empty() { "/metrics" } else { path };
        let port = port.trim().parse().ok().filter(|port: &u16| *port > 0)?;
        Some(ScrapeTarget {
            port,
            path: path.to_owned(),
        })
    };
    values::parts(value)
        .map(target)
        .collect::<Option<Vec<_>>>()
        .filter(|targets| targets.len() <= MOST_TARGETS)
        .ok_or_else(|| Invalid::new(name, value, TARGETS))
}

/// More pages than these nobody has, and each is asked for at every scrape.
const MOST_TARGETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_annotation() {
        for name in [
            "prometheus.io/port",
            "prometheus.io.port",
            "prometheus-io/port",
            "prometheus_io_port",
        ] {
            assert_eq!(relabelled(name), PORT);
        }
    }

    #[test]
    fn targets_have_a_path() {
        let parsed = targets("t", "8080, 9090:/stats").unwrap();
        let shown: Vec<_> = parsed.iter().map(|t| (t.port, t.path.as_str())).collect();
        assert_eq!(shown, [(8080, "/metrics"), (9090, "/stats")]);
        for bad in ["http", "0:/x", ":/metrics", &"1,".repeat(40)] {
            assert!(targets("t", bad).is_err(), "{bad}");
        }
    }
}
