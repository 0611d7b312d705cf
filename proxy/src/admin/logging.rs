//! The process's log: how it is set up at start, and how `/logging` changes its level while it runs.

use std::sync::Arc;
use std::sync::Mutex;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

type Apply = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// Bytes of a list of directives.
const LONGEST: usize = 4096;

/// Shows and changes the log level of the running process. Cloned freely; all clones act on the same log.
#[derive(Clone)]
pub struct LogControl {
    current: Arc<Mutex<String>>,
    apply: Arc<Apply>,
}

/// Why a level was refused.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level and not a list of `module=level`.
    #[error(
        "log level `{value}` is not understood: {reason}; accepted are off, error, warn, info, debug, trace, \
         or directives such as `info,proxy::inbound=debug`"
    )]
    Level {
        /// The text as it was given.
        value: String,
        /// The parser's reason.
        reason: String,
    },
    /// The log was set up a second time, or its writer is gone.
    #[error("the log cannot be set up: {0}")]
    Setup(String),
}

/// Sets up the process's log: one line per event on standard output, at `level` (Istio's `warning` is taken as `warn`,
/// `critical` as `error`).
///
/// # Errors
/// The level does not parse, or a log was set up already.
pub fn init(level: &str) -> Result<LogControl, LogError> {
    let (filter, shown) = parse(level)?;
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_ansi(false))
        .try_init()
        .map_err(|e| LogError::Setup(e.to_string()))?;
    Ok(LogControl {
        current: Arc::new(Mutex::new(shown)),
        apply: Arc::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())),
    })
}

impl LogControl {
    /// A control whose level is only shown: changes are remembered and reach no log (for a process whose log is
    /// set up by someone else, such as a test).
    pub fn fixed(level: &str) -> Self {
        Self {
            current: Arc::new(Mutex::new(level.to_owned())),
            apply: Arc::new(|_| Ok(())),
        }
    }

    /// The directives in force.
    pub fn level(&self) -> String {
        self.current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Puts `level` in force for one module (`proxy::inbound`), and leaves the rest as it is.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_module(&self, module: &str, level: &str) -> Result<(), LogError> {
        let current = self.level();
        let others = current
            .split(',')
            .filter(|part| part.split_once('=').is_none_or(|(name, _)| name != module));
        let directive = format!("{module}={level}");
        self.set(&others.chain([directive.as_str()]).collect::<Vec<_>>().join(","))
    }

    /// Puts `level` in force at once.
    ///
    /// # Errors
    /// The level does not parse; the one in force stays.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let (filter, shown) = parse(level)?;
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (self.apply)(filter).map_err(LogError::Setup)?;
        *current = shown;
        Ok(())
    }
}

fn parse(level: &str) -> Result<(EnvFilter, String), LogError> {
    let text = match level.trim() {
        "warning" => "warn",
        "critical" => "error",
        other => other,
    };
    let refuse = |reason: String| LogError::Level {
        value: level.to_owned(),
        reason,
    };
    if text.is_empty() {
        return Err(refuse("it is empty".to_owned()));
    }
    if text.len() > LONGEST {
        return Err(refuse(format!("it is longer than {LONGEST} bytes")));
    }
    // A bare word that is no level would be taken as the name of a module and silence everything else.
    for part in text.split(',') {
        if !part.contains('=') && part.trim().parse::<tracing::level_filters::LevelFilter>().is_err() {
            return Err(refuse(format!("`{}` is no level", part.trim())));
        }
    }
    let filter = EnvFilter::builder().parse(text).map_err(|e| refuse(e.to_string()))?;
    Ok((filter, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_set_beside_the_others() {
        let log = LogControl::fixed("info");
        for (module, level, shown) in [
            ("proxy::inbound", "debug", "info,proxy::inbound=debug"),
            ("h2", "off", "info,proxy::inbound=debug,h2=off"),
            ("proxy::inbound", "trace", "info,h2=off,proxy::inbound=trace"),
        ] {
            log.set_module(module, level).unwrap();
            assert_eq!(log.level(), shown);
        }
        assert!(log.set_module("h2", "loud").is_err());
        assert!(
            log.set(&"info,".repeat(2000))
                .unwrap_err()
                .to_string()
                .contains("longer than")
        );
    }

    #[test]
    fn levels() {
        let log = LogControl::fixed("info");
        for (given, outcome) in [
            ("debug", Some("debug")),
            ("warning", Some("warn")),
            ("info,proxy::inbound=trace", Some("info,proxy::inbound=trace")),
            ("loud", None),
            ("", None),
            ("proxy=loud", None),
        ] {
            let before = log.level();
            match outcome {
                Some(shown) => {
                    log.set(given).unwrap();
                    assert_eq!(log.level(), shown);
                }
                None => {
                    let error = log.set(given).unwrap_err().to_string();
                    assert!(
                        error.contains(&format!("`{given}`")) && error.contains("accepted"),
                        "{error}"
                    );
                    assert_eq!(log.level(), before, "a refused level changes nothing");
                }
            }
        }
    }
}
