//! A request as it is asked about, a line of JSON. What is not known in it is passed over, so that a line may say more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::labels::Labels;
use serde::Deserialize;
use serde_json::Value;

use super::super::request::{OneOrMore, Protocol};

/// A line.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    source: Source,
    #[serde(default)]
    destination: Destination,
    #[serde(default)]
    method: Option<String>,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    sni: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Source {
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    ip: Option<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
struct Destination {
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    port: Option<u16>,
}

fn root() -> String {
    "/".to_owned()
}

/// A request as the client's sidecar meets it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: Value,
    /// Whether it is a request, and not a connection of opaque bytes.
    pub(super) http: bool,
    pub(super) grpc: bool,
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) source: IpAddr,
    /// The address that is dialled.
    pub(super) address: IpAddr,
    /// The port that is dialled.
    pub(super) port: u16,
    pub(super) server_name: Option<String>,
    pub(super) method: String,
    /// The path with its query.
    pub(super) target: String,
    /// The host as it is sent, perhaps with a port.
    pub(super) host: String,
    pub(super) headers: HeaderMap,
}

impl Request {
    /// Reads a line. The error names the field.
    pub(super) fn new(asked: Asked, namespace: &str) -> Result<Self, String> {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut headers = HeaderMap::new();
        for (name, values) in &asked.headers {
            let bad = |error: String| format!("headers[{name}]: {error}");
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(error.to_string()))?;
            for value in values.as_slice() {
                let value = HeaderValue::from_str(value).map_err(|error| bad(error.to_string()))?;
                headers.append(parsed.clone(), value);
            }
        }
        let grpc = asked.protocol == Protocol::Grpc;
        if grpc && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        let among_headers = headers
            .remove(HOST)
            .and_then(|host| host.to_str().ok().map(str::to_owned));
        let mut host = if asked.host.is_empty() {
            among_headers.unwrap_or_default()
        } else {
            asked.host
        };
        // The absolute form says the host itself.
        let mut target = asked.path;
        if let Some(("http" | "https", rest)) = target.split_once("://") {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let slash = if path.starts_with('/') { "" } else { "/" };
            (host, target) = (authority.to_owned(), format!("{slash}{path}"));
        }
        if host.is_empty() {
            return Err("host: none is given".to_owned());
        }
        let (_, written) = split(&host);
        let port = asked.port.or(asked.destination.port).or(written).unwrap_or(80);
        Ok(Self {
            id: asked.id,
            http: asked.protocol != Protocol::Tcp,
            grpc,
            namespace: asked.source.namespace.unwrap_or_else(|| namespace.to_owned()),
            labels: asked.source.labels,
            source: asked.source.ip.unwrap_or(unknown).to_canonical(),
            address: asked.destination.ip.unwrap_or(unknown).to_canonical(),
            port,
            server_name: asked.sni,
            method: asked
                .method
                .unwrap_or_else(|| if grpc { "POST" } else { "GET" }.to_owned()),
            target,
            host,
            headers,
        })
    }

    /// The host without a port, in lower case.
    pub(super) fn host_name(&self) -> String {
        let (host, _) = split(&self.host);
        host.strip_suffix('.').unwrap_or(&host).to_ascii_lowercase()
    }
}

/// A host and its port.
fn split(host: &str) -> (Cow<'_, str>, Option<u16>) {
    let colon = host.rfind(':').filter(|at| !host[*at..].contains(']'));
    match colon.map(|at| (&host[..at], host[at + 1..].parse())) {
        Some((name, Ok(port))) => (name.into(), Some(port)),
        _ => (host.into(), None),
    }
}
