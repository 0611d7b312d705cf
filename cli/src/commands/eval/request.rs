//! A request as it is asked about, a line of JSON. What is not known in it is passed over, so that a line may say more.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::identity::SpiffeId;
use mesh_core::labels::Labels;
use serde::Deserialize;
use serde_json::Value;

/// A line.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    pub(super) id: Value,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    source: Source,
    #[serde(default)]
    destination: Destination,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    sni: Option<String>,
    #[serde(default)]
    remote_ip: Option<IpAddr>,
    #[serde(default)]
    jwt: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    #[default]
    Http,
    Http2,
    Grpc,
    Tcp,
}

#[derive(Debug, Default, Deserialize)]
struct Source {
    #[serde(default)]
    principal: Option<String>,
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    mtls: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct Destination {
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

/// A request as a sidecar meets it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) protocol: Protocol,
    /// Whether it came under mutual TLS.
    pub(super) mutual_tls: bool,
    pub(super) identity: Option<SpiffeId>,
    pub(super) source: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) destination: SocketAddr,
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) server_name: Option<String>,
    pub(super) method: String,
    /// The path with its query, as received.
    pub(super) target: String,
    pub(super) host: String,
    pub(super) headers: HeaderMap,
}

impl Request {
    /// Reads a line. The error names the field.
    pub(super) fn new(asked: Asked, namespace: &str) -> Result<Self, String> {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mutual_tls = asked.source.mtls.unwrap_or(asked.source.principal.is_some());
        let identity = asked
            .source
            .principal
            .as_deref()
            .filter(|_| mutual_tls)
            .map(|principal| {
                let id = format!("spiffe://{}", principal.trim_start_matches("spiffe://"));
                id.parse::<SpiffeId>()
                    .map_err(|error| format!("source.principal: {error}"))
            });
        let mut headers = HeaderMap::new();
        for (name, values) in &asked.headers {
            let bad = |error: String| format!("headers[{name}]: {error}");
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(error.to_string()))?;
            let values = match values {
                OneOrMore::One(value) => std::slice::from_ref(value),
                OneOrMore::More(values) => values,
            };
            for value in values {
                let value = HeaderValue::from_str(value).map_err(|error| bad(error.to_string()))?;
                headers.append(parsed.clone(), value);
            }
        }
        if let Some(token) = &asked.jwt {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| format!("jwt: {error}"))?;
            headers.insert(AUTHORIZATION, value);
        }
        let named = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = asked.host.or(named.map(str::to_owned)).unwrap_or_default();
        // The absolute form says the host itself.
        let (host, target) = match asked.path.split_once("://") {
            Some(("http" | "https", rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, target) = rest.split_at(end);
                let slash = if target.starts_with('/') { "" } else { "/" };
                (authority.to_owned(), format!("{slash}{target}"))
            }
            _ => (host, asked.path),
        };
        let source = asked.source.ip.unwrap_or(unknown).to_canonical();
        let destination = &asked.destination;
        Ok(Self {
            protocol: asked.protocol,
            mutual_tls,
            identity: identity.transpose()?,
            source,
            remote: asked.remote_ip.map_or(source, |ip| ip.to_canonical()),
            destination: SocketAddr::new(
                destination.ip.unwrap_or(unknown).to_canonical(),
                destination.port.unwrap_or(80),
            ),
            namespace: asked.destination.namespace.unwrap_or_else(|| namespace.to_owned()),
            labels: asked.destination.labels,
            server_name: asked.sni,
            method: asked.method,
            target,
            host,
            headers,
        })
    }
}
