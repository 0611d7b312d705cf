//! The access log: which requests and connections are written, by which layout, and to where. It can change while the proxy
//! runs. Lines go through a bounded queue to a thread of their own; what finds no room is counted and lost.

use super::facts::Facts;
use super::layout::Layout;
use super::writer::Writer;
use arc_swap::{ArcSwap, Guard};
use mesh_wire::convert::AccessLog as Config;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The access log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether every request and connection is written, and not only what went wrong.
    all: AtomicBool,
    layout: ArcSwap<Layout>,
    writer: Writer,
    hostname: Box<str>,
    written: AtomicU64,
    configured: Mutex<Option<Config>>,
}

/// Lines written, and lines lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Handed to the writer.
    pub written: u64,
    /// Lost because the writer had no room, or could not write.
    pub lost: u64,
}

impl AccessLog {
    /// A log of what goes wrong, in Istio's format, to standard output. `hostname` is the pod's name.
    ///
    /// # Errors
    /// The writer's thread cannot be made.
    pub fn new(hostname: &str) -> std::io::Result<Self> {
        Self::to(Writer::start()?, hostname)
    }

    fn to(writer: Writer, hostname: &str) -> std::io::Result<Self> {
        let layout = Layout::new(&Config::default()).map_err(std::io::Error::other)?;
        Ok(Self(Arc::new(Shared {
            all: AtomicBool::new(false),
            layout: ArcSwap::from_pointee(layout),
            writer,
            hostname: hostname.into(),
            written: AtomicU64::new(0),
            configured: Mutex::new(None),
        })))
    }

    /// Takes a configuration. One that does not parse is refused, and the last good one stays.
    pub fn configure(&self, config: &Config) {
        let mut configured = self.0.configured.lock().unwrap_or_else(PoisonError::into_inner);
        if configured.as_ref() == Some(config) {
            return;
        }
        match Layout::new(config) {
            Ok(layout) => {
                self.0.layout.store(Arc::new(layout));
                self.0.writer.open(&config.file);
                self.0.all.store(!config.file.is_empty(), Ordering::Relaxed);
                tracing::info!(file = config.file, json = config.json, "the access log is configured");
                *configured = Some(config.clone());
            }
            Err(error) => tracing::warn!(error, "the access log's format is refused; the last one stays"),
        }
    }

    /// Whether every request and connection is written.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.0.all.load(Ordering::Relaxed)
    }

    /// The layout in force.
    #[must_use]
    pub fn layout(&self) -> Guard<Arc<Layout>> {
        self.0.layout.load()
    }

    /// Writes a line.
    pub fn line(&self, facts: &Facts) {
        let line = self.layout().write(facts, &self.0.hostname);
        if self.0.writer.send(line) {
            self.0.written.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were written and lost.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            written: self.0.written.load(Ordering::Relaxed),
            lost: self.0.writer.lost(),
        }
    }

    /// Waits, not for long, until what was queued is written.
    pub fn flush(&self) {
        self.0.writer.flush();
    }
}
