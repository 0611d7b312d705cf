//! `ISTIO_KUBE_APP_PROBERS`: a JSON object from path to the original probe, written by the webhook. A mistake in it
//! is fatal at start and names the entry and the field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Action, Probe, Probes};

/// Kubernetes' default for `timeoutSeconds` of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A hook has no time-out of its own in Kubernetes; the kubelet hangs up when the grace period ends.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);

/// What is wrong with `ISTIO_KUBE_APP_PROBERS`.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not a JSON object of probes.
    #[error("ISTIO_KUBE_APP_PROBERS does not parse: {0}")]
    Json(#[from] serde_json::Error),
    /// A field is not understood.
    #[error("ISTIO_KUBE_APP_PROBERS[\"{path}\"].{field}: {reason}")]
    Field {
        /// The entry.
        path: String,
        /// The field in it.
        field: &'static str,
        /// The value and what is accepted.
        reason: String,
    },
    /// The key is not a path that the webhook writes.
    #[error(
        "ISTIO_KUBE_APP_PROBERS has the path \"{0}\"; accepted are /app-health/CONTAINER/{{readyz,livez,startupz}} \
         and /app-lifecycle/CONTAINER/{{prestopz,poststartz}}"
    )]
    Path(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    timeout_seconds: Option<i64>,
    // The kubelet's part of a probe, should the webhook copy it whole.
    #[serde(rename = "initialDelaySeconds")]
    _initial_delay_seconds: Option<IgnoredAny>,
    #[serde(rename = "periodSeconds")]
    _period_seconds: Option<IgnoredAny>,
    #[serde(rename = "successThreshold")]
    _success_threshold: Option<IgnoredAny>,
    #[serde(rename = "failureThreshold")]
    _failure_threshold: Option<IgnoredAny>,
    #[serde(rename = "terminationGracePeriodSeconds")]
    _termination_grace_period_seconds: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpGet {
    path: Option<String>,
    port: Port,
    host: Option<String>,
    scheme: Option<String>,
    http_headers: Option<Vec<Header>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpSocket {
    port: Port,
    host: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grpc {
    port: Port,
    service: Option<String>,
}

/// Kubernetes' IntOrString; the webhook resolves names of ports.
#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(i64),
    Text(String),
}

impl Probes {
    /// Reads the value of `ISTIO_KUBE_APP_PROBERS`; an empty one has no probes.
    ///
    /// # Errors
    /// It is no JSON object, or a field in it is not understood.
    pub fn parse(json: &str) -> Result<Self, ProbeError> {
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        // Entries are read one by one, so that an unknown or missing field is reported with its entry.
        let entries: BTreeMap<String, serde_json::Value> = serde_json::from_str(json)?;
        let mut by_path = std::collections::HashMap::with_capacity(entries.len());
        for (path, value) in entries {
            let hook = kind(&path).ok_or_else(|| ProbeError::Path(path.clone()))?;
            let entry: Entry = serde_json::from_value(value).map_err(|e| ProbeError::Field {
                path: path.clone(),
                field: "*",
                reason: e.to_string(),
            })?;
            let probe = entry.read(hook).map_err(|(field, reason)| ProbeError::Field {
                path: path.clone(),
                field,
                reason,
            })?;
            by_path.insert(path, probe);
        }
        Ok(Self { by_path })
    }
}

/// Whether the path is that of a hook (true) or of a probe (false).
fn kind(path: &str) -> Option<bool> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let (kind, container, name) = (parts.next()?, parts.next()?, parts.next()?);
    if container.is_empty() || parts.next().is_some() {
        return None;
    }
    match (kind, name) {
        ("app-health", "readyz" | "livez" | "startupz") => Some(false),
        ("app-lifecycle", "prestopz" | "poststartz") => Some(true),
        _ => None,
    }
}

type Refused = (&'static str, String);

impl Entry {
    fn read(self, hook: bool) -> Result<Probe, Refused> {
        let timeout = match self.timeout_seconds {
            None | Some(0) if hook => HOOK_TIMEOUT,
            None | Some(0) => PROBE_TIMEOUT,
            // The API server takes any number, and the kubelet hangs up when it has waited for long enough.
            Some(seconds) => u64::try_from(seconds)
                .map(|seconds| Duration::from_secs(seconds).min(HOOK_TIMEOUT))
                .map_err(|_| ("timeoutSeconds", format!("{seconds} is not a number from 0 on")))?,
        };
        let action = match (self.http_get, self.tcp_socket, self.grpc) {
            (Some(http), None, None) => http.read()?,
            (None, Some(tcp), None) => Action::Tcp {
                port: tcp.port.read("tcpSocket.port")?,
                host: host("tcpSocket.host", tcp.host)?,
            },
            (None, None, Some(grpc)) => Action::Grpc {
                port: grpc.port.read("grpc.port")?,
                service: grpc.service.unwrap_or_default(),
            },
            _ => {
                return Err((
                    "httpGet",
                    "exactly one of httpGet, tcpSocket and grpc is accepted".to_owned(),
                ));
            }
        };
        Ok(Probe { action, timeout })
    }
}

impl HttpGet {
    fn read(self) -> Result<Action, Refused> {
        let https = match self.scheme.as_deref().unwrap_or_default().to_ascii_uppercase().as_str() {
            "" | "HTTP" => false,
            "HTTPS" => true,
            other => return Err(("httpGet.scheme", format!("`{other}` is not HTTP or HTTPS"))),
        };
        let path = self.path.unwrap_or_default();
        let path = if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        let path: PathAndQuery = path
            .parse()
            .map_err(|_| ("httpGet.path", format!("`{path}` is not the path of a URL")))?;
        let mut authority = None;
        let mut headers = Vec::new();
        for Header { name, value } in self.http_headers.unwrap_or_default() {
            let value = value.unwrap_or_default();
            let parsed = HeaderValue::from_str(&value).map_err(|_| {
                (
                    "httpGet.httpHeaders",
                    format!("`{value:?}` is not the value of a header"),
                )
            })?;
            let name: HeaderName = name
                .parse()
                .map_err(|_| ("httpGet.httpHeaders", format!("`{name}` is not the name of a header")))?;
            if name == http::header::HOST {
                authority = Some(parsed);
            } else {
                headers.push((name, parsed));
            }
        }
        Ok(Action::Http {
            host: host("httpGet.host", self.host)?,
            port: self.port.read("httpGet.port")?,
            path,
            https,
            authority,
            headers,
        })
    }
}

impl Port {
    fn read(&self, field: &'static str) -> Result<u16, Refused> {
        let (shown, number) = match self {
            Self::Number(n) => (n.to_string(), u16::try_from(*n).ok()),
            Self::Text(text) => (text.clone(), text.parse().ok()),
        };
        number.filter(|n| *n != 0).ok_or_else(|| {
            (
                field,
                format!("`{shown}` is not a port from 1 to 65535 (names are resolved at injection)"),
            )
        })
    }
}

fn host(field: &'static str, host: Option<String>) -> Result<Option<IpAddr>, Refused> {
    host.filter(|h| !h.is_empty())
        .map(|h| h.parse().map_err(|_| (field, format!("`{h}` is not an IP address"))))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read() {
        let probes = Probes::parse(
            r#"{
              "/app-health/web/readyz": {"httpGet": {"path": "ready?x=1", "port": 8080, "scheme": "HTTPS",
                "httpHeaders": [{"name": "host", "value": "shop.example"}, {"name": "X-A", "value": "b"}]},
                "timeoutSeconds": 3, "periodSeconds": 5},
              "/app-health/web/livez": {"tcpSocket": {"port": "9090"}},
              "/app-health/slow/livez": {"tcpSocket": {"port": 9090}, "timeoutSeconds": 2147483647},
              "/app-health/web/startupz": {"grpc": {"port": 7070, "service": "books"}},
              "/app-lifecycle/web/prestopz": {"httpGet": {"port": 8080}}
            }"#,
        )
        .unwrap();
        assert_eq!(probes.len(), 5);
        assert_eq!(probes.by_path["/app-health/slow/livez"].timeout, HOOK_TIMEOUT);
        let Probe { action, timeout } = &probes.by_path["/app-health/web/readyz"];
        assert_eq!(*timeout, Duration::from_secs(3));
        let Action::Http {
            host: None,
            port: 8080,
            path,
            https: true,
            authority: Some(authority),
            headers,
        } = action
        else {
            panic!("{action:?}");
        };
        assert_eq!(
            (path.as_str(), authority.to_str().unwrap(), headers.len()),
            ("/ready?x=1", "shop.example", 1)
        );
        let live = &probes.by_path["/app-health/web/livez"];
        assert_eq!(
            *live,
            Probe {
                action: Action::Tcp { host: None, port: 9090 },
                timeout: Duration::from_secs(1)
            }
        );
        assert_eq!(probes.by_path["/app-lifecycle/web/prestopz"].timeout, HOOK_TIMEOUT);
        assert!(Probes::parse("").unwrap().is_empty());
        assert!(Probes::parse("{}").unwrap().is_empty());
    }

    #[test]
    fn mistakes_name_entry_and_field() {
        let ready = "/app-health/web/readyz";
        for (entry, says) in [
            (
                r#"{"httpGet": {"port": 0}}"#,
                &["httpGet.port", "`0`", "1 to 65535"][..],
            ),
            (r#"{"httpGet": {"port": "http"}}"#, &["httpGet.port", "`http`"]),
            (r#"{"httpGet": {}}"#, &["port"]),
            (
                r#"{"httpGet": {"port": 80, "scheme": "FTP"}}"#,
                &["httpGet.scheme", "`FTP`", "HTTPS"],
            ),
            (
                r#"{"httpGet": {"port": 80, "path": "/a b"}}"#,
                &["httpGet.path", "`/a b`"],
            ),
            (
                r#"{"httpGet": {"port": 80, "host": "example.com"}}"#,
                &["httpGet.host", "`example.com`"],
            ),
            (
                r#"{"httpGet": {"port": 80, "httpHeaders": [{"name": "a b"}]}}"#,
                &["httpGet.httpHeaders", "`a b`"],
            ),
            (r#"{"tcpSocket": {"port": 65536}}"#, &["tcpSocket.port", "`65536`"]),
            (r#"{"grpc": {"port": -1}}"#, &["grpc.port", "`-1`"]),
            (r#"{"exec": {"command": ["true"]}}"#, &["exec"]),
            (
                r#"{"tcpSocket": {"port": 1}, "grpc": {"port": 1}}"#,
                &["exactly one of"],
            ),
            (r"{}", &["exactly one of"]),
            (
                r#"{"tcpSocket": {"port": 1}, "timeoutSeconds": -1}"#,
                &["timeoutSeconds", "-1"],
            ),
        ] {
            let error = Probes::parse(&format!("{{\"{ready}\": {entry}}}"))
                .unwrap_err()
                .to_string();
            for part in says.iter().chain(&[ready]) {
                assert!(error.contains(part), "`{part}` is missing in: {error}");
            }
        }
        for path in [
            "/app-health/web/other",
            "/app-health//readyz",
            "/app-health/web/readyz/x",
            "readyz",
            "/x/web/readyz",
        ] {
            let error = Probes::parse(&format!(r#"{{"{path}": {{"tcpSocket": {{"port": 1}}}}}}"#)).unwrap_err();
            assert!(error.to_string().contains("accepted are"), "{error}");
        }
        assert!(Probes::parse("[]").is_err());
    }
}
