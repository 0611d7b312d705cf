//! A request as it is asked about, a line of JSON. What is not known in it is passed over, so that a line may say more.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use mesh_core::identity::SpiffeId;
use mesh_core::labels::Labels;
use mesh_core::request::headers;
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
    #[serde(default)]
    method: Option<String>,
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
    service_account: Option<String>,
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::More(values) => values,
        }
    }
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
    /// Who calls, where the line says it and not the headers alone.
    pub(super) remote: Option<IpAddr>,
    pub(super) destination: SocketAddr,
    pub(super) namespace: String,
    pub(super) labels: Labels,
    /// The called workload's.
    pub(super) service_account: String,
    pub(super) server_name: Option<String>,
    pub(super) method: String,
    /// The path with its query, as received.
    pub(super) target: String,
    pub(super) host: String,
    /// Whom the target itself names: the absolute form, and HTTP/2.
    authority: Option<String>,
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
            for value in values.as_slice() {
                let value = HeaderValue::from_str(value).map_err(|error| bad(error.to_string()))?;
                headers.append(parsed.clone(), value);
            }
        }
        if let Some(token) = &asked.jwt {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| format!("jwt: {error}"))?;
            headers.insert(AUTHORIZATION, value);
        }
        // The absolute form says the host itself.
        let (mut authority, mut target) = match asked.path.split_once("://") {
            Some(("http" | "https", rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, target) = rest.split_at(end);
                let slash = if target.starts_with('/') { "" } else { "/" };
                (Some(authority.to_owned()), format!("{slash}{target}"))
            }
            _ => (None, asked.path),
        };
        // HTTP/2's own reader leaves a fragment out, so that nobody sees it.
        if matches!(asked.protocol, Protocol::Http2 | Protocol::Grpc)
            && let Some(fragment) = target.find('#')
        {
            target.truncate(fragment);
        }
        if let Some(host) = asked.host {
            if asked.protocol == Protocol::Http {
                let value = HeaderValue::from_str(&host).map_err(|error| format!("host: {error}"))?;
                // Said once more among the headers it is the same.
                if headers.get_all(HOST).iter().all(|other| *other != value) {
                    headers.append(HOST, value);
                }
            } else {
                authority.get_or_insert(host);
            }
        }
        let grpc = asked.protocol == Protocol::Grpc;
        if grpc && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        let method = asked
            .method
            .unwrap_or_else(|| if grpc { "POST" } else { "GET" }.to_owned());
        let source = asked.source.ip.unwrap_or(unknown).to_canonical();
        let destination = &asked.destination;
        Ok(Self {
            protocol: asked.protocol,
            mutual_tls,
            identity: identity.transpose()?,
            source,
            remote: asked.remote_ip.map(|ip| ip.to_canonical()),
            destination: SocketAddr::new(
                destination.ip.unwrap_or(unknown).to_canonical(),
                destination.port.unwrap_or(80),
            ),
            namespace: asked.destination.namespace.unwrap_or_else(|| namespace.to_owned()),
            labels: asked.destination.labels,
            service_account: asked
                .destination
                .service_account
                .unwrap_or_else(|| "default".to_owned()),
            server_name: asked.sni,
            method,
            target,
            host: String::new(),
            authority,
            headers,
        })
    }

    /// Makes the head what policies see of it, as a sidecar does: whom it is meant for, without what ends at this hop or only the
    /// mesh may say, and with what the sidecar says itself. `own` is the sidecar's identity. False for a request that must be
    /// refused with 400.
    pub(super) fn settle(&mut self, own: &str) -> bool {
        let mut request = http::Request::new(());
        if let Some(authority) = &self.authority {
            let uri = Uri::builder()
                .scheme("http")
                .authority(authority.as_str())
                .path_and_query("/");
            let Ok(uri) = uri.build() else { return false };
            *request.uri_mut() = uri;
        }
        let http1 = self.protocol == Protocol::Http;
        *request.version_mut() = if http1 { Version::HTTP_11 } else { Version::HTTP_2 };
        *request.headers_mut() = std::mem::take(&mut self.headers);
        // A line need not say what does not matter in it.
        let said = self.authority.is_some() || request.headers().contains_key(HOST);
        let fit = !said || headers::settle_host(&mut request, self.destination);
        let map = &mut self.headers;
        *map = std::mem::take(request.headers_mut());
        if http1 {
            let upgrade = headers::is_upgrade(map);
            headers::strip_hop_by_hop(map, upgrade);
        }
        let written = map.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        self.host = self.authority.clone().or(written).unwrap_or_default();
        for name in [headers::PEER_METADATA, headers::PEER_METADATA_ID] {
            map.remove(name);
        }
        match &self.identity {
            // The hash of the caller's certificate is not known here.
            Some(identity) => {
                let own = format!("By={own};Hash=;Subject=\"\";URI={identity}");
                let before = map
                    .get(headers::X_FORWARDED_CLIENT_CERT)
                    .and_then(|it| it.to_str().ok());
                let value = before.map_or(own.clone(), |before| format!("{before},{own}"));
                if let Ok(value) = HeaderValue::try_from(value) {
                    map.insert(headers::X_FORWARDED_CLIENT_CERT, value);
                }
            }
            None => {
                map.remove(headers::X_FORWARDED_CLIENT_CERT);
                headers::strip_mesh_only(map);
            }
        }
        for (name, value) in [
            (headers::X_REQUEST_ID, "00000000-0000-4000-8000-000000000000"),
            (headers::X_FORWARDED_PROTO, "http"),
        ] {
            map.entry(name).or_insert(HeaderValue::from_static(value));
        }
        fit
    }
}
