//! Gets a document over HTTP or HTTPS: bounded in time and size, from addresses that the guard lets through, at every
//! redirect anew.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use mesh_core::jwt::{KeyOrigin, KeyPlace, Keys, MAX_JWKS_LENGTH};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::warn;

use super::guard::{Guard, Refused};
use super::names::Names;

/// The longest discovery document that is read, in bytes.
const MAX_DISCOVERY_LENGTH: usize = 64 * 1024;

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// Where an issuer's discovery document is (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Fetches keys.
#[derive(Debug)]
pub struct Client {
    guard: Arc<Guard>,
    names: Names,
    provider: Arc<CryptoProvider>,
    /// Roots beside those of the public web, PEM; read for each fetch, so that it may change.
    extra_roots: Option<PathBuf>,
}

impl Client {
    /// A client that asks the guard, and trusts the public web's roots and those of a file.
    #[must_use]
    pub fn new(guard: Arc<Guard>, names: Names, provider: Arc<CryptoProvider>, extra_roots: Option<PathBuf>) -> Self {
        Self {
            guard,
            names,
            provider,
            extra_roots,
        }
    }

    /// Fetches the keys of an origin. What comes back is a key set that a sidecar can use.
    ///
    /// # Errors
    /// When the origin cannot be asked, is refused, or does not answer with a key set in time.
    pub async fn fetch(&self, origin: &KeyOrigin, timeout: Duration) -> anyhow::Result<Arc<str>> {
        let jwks_uri = match &origin.place {
            KeyPlace::Uri(uri) => uri.to_string(),
            KeyPlace::Issuer(issuer) => self.discover(issuer, &origin.namespace, timeout).await?,
        };
        let body = self
            .get_in_time(&jwks_uri, &origin.namespace, MAX_JWKS_LENGTH, timeout)
            .await?;
        let jwks = std::str::from_utf8(&body).with_context(|| format!("{jwks_uri}: not UTF-8"))?;
        Keys::parse(jwks).with_context(|| jwks_uri.clone())?;
        Ok(jwks.into())
    }

    async fn discover(&self, issuer: &str, namespace: &str, timeout: Duration) -> anyhow::Result<String> {
        let address = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        let body = self
            .get_in_time(&address, namespace, MAX_DISCOVERY_LENGTH, timeout)
            .await?;
        let document: serde_json::Value =
            serde_json::from_slice(&body).with_context(|| format!("{address}: not JSON"))?;
        let jwks_uri = document.get("jwks_uri").and_then(serde_json::Value::as_str);
        Ok(jwks_uri
            .with_context(|| format!("{address}: no text \"jwks_uri\""))?
            .to_owned())
    }

    async fn get_in_time(
        &self,
        address: &str,
        namespace: &str,
        most: usize,
        timeout: Duration,
    ) -> anyhow::Result<Bytes> {
        match tokio::time::timeout(timeout, self.get(address, namespace, most)).await {
            Ok(answer) => answer.with_context(|| address.to_owned()),
            Err(_) => Err(anyhow!("{address}: no answer within {timeout:?}")),
        }
    }

    async fn get(&self, address: &str, namespace: &str, most: usize) -> anyhow::Result<Bytes> {
        let mut uri: Uri = address.parse().context("not an address")?;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.ask(&uri, namespace).await?;
            let status = answer.status();
            if !status.is_redirection() {
                ensure!(status.is_success(), "status {}", status.as_u16());
                return read(answer.into_body(), most).await;
            }
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.with_context(|| format!("status {} without a usable Location", status.as_u16()))?;
            uri = redirected(&uri, to).with_context(|| format!("redirected to {to:?}"))?;
        }
        bail!("more than {MAX_REDIRECTS} redirects")
    }

    /// Sends one request to an address that the guard lets through.
    async fn ask(&self, uri: &Uri, namespace: &str) -> anyhow::Result<Response<Incoming>> {
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => bail!("not an http or https address"),
        };
        let authority = uri.authority().context("no host")?;
        ensure!(
            !authority.as_str().contains('@'),
            "credentials in an address are not accepted"
        );
        let host = uri.host().filter(|host| !host.is_empty()).context("no host")?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = self.dial(host, port, namespace).await?;
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("pinnace-operator/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Empty::new())?;
        if secure {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).trim_end_matches('.').to_owned())
                .context("no name of a TLS server")?;
            let tls = TlsConnector::from(self.tls().await?)
                .connect(name, tcp)
                .await
                .context("TLS")?;
            exchange(tls, request).await
        } else {
            exchange(tcp, request).await
        }
    }

    /// Connects to the first address that is not refused and answers.
    async fn dial(&self, host: &str, port: u16, namespace: &str) -> anyhow::Result<TcpStream> {
        let mut last: Option<anyhow::Error> = None;
        for address in self.names.resolve(host, namespace).await? {
            if let Err(refused) = self.guard.check(address) {
                last = Some(refused.into());
                continue;
            }
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(anyhow!("{address}:{port}: {error}")),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("the host {host} has no address")))
    }

    async fn tls(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        if let Some(path) = &self.extra_roots {
            match tokio::fs::read(path).await {
                Ok(pem) => {
                    for certificate in CertificateDer::pem_slice_iter(&pem) {
                        let certificate = certificate.with_context(|| path.display().to_string())?;
                        roots.add(certificate).with_context(|| path.display().to_string())?;
                    }
                }
                // The public web's are still good for its own.
                Err(error) => warn!(path = %path.display(), %error, "the roots of key servers cannot be read"),
            }
        }
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// Whether a fetch failed because its address is refused.
#[must_use]
pub fn is_refused(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Refused>())
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response's body, or with the sender and the body when the time is over.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn read(mut body: Incoming, most: usize) -> anyhow::Result<Bytes> {
    let too_long = || anyhow!("the answer is longer than {most} bytes");
    ensure!(body.size_hint().lower() <= most as u64, too_long());
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            ensure!(all.len() + data.len() <= most, too_long());
            all.extend_from_slice(data);
        }
    }
    Ok(all.freeze())
}

/// Where a redirect leads: an address, or a path on the same server; never from HTTPS to HTTP.
fn redirected(from: &Uri, to: &str) -> anyhow::Result<Uri> {
    let to: Uri = to.parse().context("not an address")?;
    let to = if to.scheme().is_some() {
        to
    } else {
        ensure!(
            to.authority().is_none() && to.path().starts_with('/') && !to.path().starts_with("//"),
            "only addresses and absolute paths are followed"
        );
        let mut parts = from.clone().into_parts();
        parts.path_and_query = to.into_parts().path_and_query;
        Uri::from_parts(parts)?
    };
    let downgraded = from.scheme() == Some(&Scheme::HTTPS) && to.scheme() != Some(&Scheme::HTTPS);
    ensure!(!downgraded, "a redirect from https to http is not followed");
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_redirects_lead() {
        for (from, to, expected) in [
            ("https://a/x", "https://b/y", Some("https://b/y")),
            ("https://a:8443/x", "/y?z", Some("https://a:8443/y?z")),
            ("http://a/x", "https://a/x", Some("https://a/x")),
            ("https://a/x", "http://a/x", None),
            ("https://a/x", "y", None),
            ("https://a/x", "//b/y", None),
        ] {
            let found = redirected(&from.parse().unwrap(), to).ok().map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{from} {to}");
        }
    }
}
