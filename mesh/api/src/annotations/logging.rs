//! The sidecar's log levels. Istio has two programs and Envoy's components; here one process has a level for all and
//! levels for its modules, which the annotations' names are mapped to.

use std::fmt::Write as _;

use super::values;
use crate::Invalid;

/// What a pod says of its sidecar's log. `None` means "as the mesh is configured".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// [`super::LOG_LEVEL`], as the proxy names it.
    pub level: Option<&'static str>,
    /// [`super::AGENT_LOG_LEVEL`] and [`super::COMPONENT_LOG_LEVEL`]: a module of the proxy and its level.
    pub modules: Vec<(&'static str, &'static str)>,
}

/// The proxy's modules that do what Istio's agent does.
const AGENT: [&str; 3] = ["proxy::identity", "proxy::discovery", "proxy::admin"];

/// Scopes of Istio's agent, and the modules that do the same.
const SCOPES: &[(&str, &str)] = &[
    ("ads", "proxy::discovery"),
    ("cache", "proxy::identity"),
    ("citadelclient", "proxy::identity"),
    ("healthcheck", "proxy::admin"),
    ("iptables", "proxy::capture"),
    ("sds", "proxy::identity"),
    ("secretcache", "proxy::identity"),
    ("security", "proxy::identity"),
    ("status", "proxy::admin"),
    ("xdsproxy", "proxy::discovery"),
];

/// Envoy's components, and the modules that do the same.
const COMPONENTS: &[(&str, &str)] = &[
    ("admin", "proxy::admin"),
    ("config", "proxy::discovery"),
    ("conn_handler", "proxy::net"),
    ("connection", "proxy::net"),
    ("filter", "proxy::inbound"),
    ("grpc", "proxy::discovery"),
    ("health_checker", "proxy::admin"),
    ("http", "proxy::http"),
    ("http2", "proxy::http"),
    ("init", "proxy::sidecar"),
    ("main", "proxy::sidecar"),
    ("pool", "proxy::http"),
    ("rbac", "proxy::inbound"),
    ("router", "proxy::outbound"),
    ("secret", "proxy::identity"),
    ("tcp_proxy", "proxy::net"),
    ("upstream", "proxy::outbound"),
];

const LEVELS: &str = "one of trace, debug, info, warning, error, critical, off";
const COMPONENT_LEVELS: &str = "COMPONENT:LEVEL separated by commas, such as http:debug,rbac:trace";
const AGENT_LEVELS: &str = "SCOPE:LEVEL separated by commas, or a level alone, such as default:info,xdsproxy:debug; \
                            levels are none, error, warn, info, debug";

impl Logging {
    /// Takes an annotation of this family; `false` when it is of another. What has no counterpart is told in `warnings`.
    pub(super) fn take(&mut self, name: &str, value: &str, warnings: &mut Vec<String>) -> Result<bool, Invalid> {
        match name {
            super::LOG_LEVEL => {
                self.level = Some(level(value).ok_or_else(|| Invalid::new(name, value, LEVELS))?);
            }
            super::AGENT_LOG_LEVEL => {
                self.modules.extend(agent(name, value, warnings)?);
            }
            super::COMPONENT_LOG_LEVEL => {
                self.modules.extend(components(name, value, warnings)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The directives for the proxy, `info,proxy::http=debug`, over the mesh's own level.
    #[must_use]
    pub fn directives(&self, mesh: &str) -> String {
        let mut text = self.level.unwrap_or(mesh).to_owned();
        for (module, level) in &self.modules {
            // Writing to text does not fail.
            let _ = write!(text, ",{module}={level}");
        }
        text
    }
}

/// Istio's and Envoy's names of levels, and the proxy's for the same.
fn level(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "trace" => Some("trace"),
        "debug" => Some("debug"),
        "info" => Some("info"),
        "warning" | "warn" => Some("warn"),
        "error" | "critical" | "fatal" => Some("error"),
        "off" | "none" => Some("off"),
        _ => None,
    }
}

fn components(
    name: &str,
    value: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static str, &'static str)>, Invalid> {
    let refuse = || Invalid::new(name, value, COMPONENT_LEVELS);
    let mut modules = Vec::new();
    for part in values::parts(value) {
        let (component, text) = part.split_once(':').ok_or_else(refuse)?;
        let level = level(text.trim()).ok_or_else(refuse)?;
        match of(COMPONENTS, component.trim()) {
            Some(module) => modules.push((module, level)),
            // What every installation of Istio says by itself.
            None if component.trim() == "misc" => {}
            None => warnings.push(format!(
                "annotation {name}: the component {:?} has no counterpart and no effect",
                component.trim()
            )),
        }
    }
    Ok(modules)
}

fn agent(name: &str, value: &str, warnings: &mut Vec<String>) -> Result<Vec<(&'static str, &'static str)>, Invalid> {
    let refuse = || Invalid::new(name, value, AGENT_LEVELS);
    let mut modules = Vec::new();
    for part in values::parts(value) {
        let (scope, text) = part.split_once(':').unwrap_or(("default", part));
        let level = level(text.trim()).ok_or_else(refuse)?;
        match (scope.trim(), of(SCOPES, scope.trim())) {
            ("default" | "all", _) => modules.extend(AGENT.map(|module| (module, level))),
            (_, Some(module)) => modules.push((module, level)),
            (scope, None) => warnings.push(format!(
                "annotation {name}: the scope {scope:?} has no counterpart and no effect"
            )),
        }
    }
    Ok(modules)
}

fn of(table: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    table
        .iter()
        .find_map(|(known, module)| (*known == name).then_some(*module))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations as names;

    #[test]
    fn levels_become_directives() {
        let mut logging = Logging::default();
        let mut warnings = Vec::new();
        assert_eq!(logging.directives("warn"), "warn");
        for (name, value) in [
            (names::COMPONENT_LOG_LEVEL, "misc:error, http:debug,wasm:info"),
            (names::AGENT_LOG_LEVEL, "default:error,xdsproxy:debug,wle:info"),
            (names::LOG_LEVEL, "Warning"),
        ] {
            assert_eq!(logging.take(name, value, &mut warnings), Ok(true));
        }
        assert_eq!(
            logging.directives("info"),
            "warn,proxy::http=debug,proxy::identity=error,proxy::discovery=error,proxy::admin=error,\
             proxy::discovery=debug"
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("\"wasm\"") && warnings[1].contains("\"wle\""));
    }
}
