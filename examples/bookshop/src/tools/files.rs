//! `bookshop files`: what a folder holds, over HTTPS. With a discovery document and a key set in it, that is all of an OpenID
//! provider that a mesh sees.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::lifecycle::{OnTerminate, phases};
use crate::server::{self, Answer, Ends, Service};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to serve HTTPS on
    #[arg(long, default_value_t = 9443)]
    port: u16,
    /// The folder: /a/b is its file a/b, or a_b where a folder cannot hold folders (a ConfigMap)
    #[arg(long)]
    folder: PathBuf,
    /// The server's certificate and those that it was issued by, PEM
    #[arg(long)]
    tls_certificate: PathBuf,
    /// Its key, PEM
    #[arg(long)]
    tls_key: PathBuf,
}

/// Serves until asked to terminate.
///
/// # Errors
/// When the certificate, the key or the port cannot be had.
pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    // Fails where one is installed already, which is as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chain: Vec<_> = CertificateDer::pem_file_iter(&arguments.tls_certificate)
        .and_then(Iterator::collect)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&arguments.tls_key).map_err(io::Error::other)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    let listener = server::listen(arguments.port).await?;
    let files = Files {
        folder: arguments.folder,
    };
    let tls = TlsAcceptor::from(Arc::new(config));
    server::https(listener, tls, files, phases(OnTerminate::Exit)?).await;
    Ok(())
}

struct Files {
    folder: PathBuf,
}

impl Service for Files {
    async fn answer(&self, request: Request<Incoming>, _: Ends) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return server::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        let Some(path) = below(request.uri().path()) else {
            return server::text(StatusCode::BAD_REQUEST, "a path has no . or .. in it\n");
        };
        let flat = path.to_string_lossy().replace('/', "_");
        for name in [path.as_path(), Path::new(&flat)] {
            if let Ok(text) = tokio::fs::read_to_string(self.folder.join(name)).await {
                return server::of_type(StatusCode::OK, "application/json", text);
            }
        }
        server::text(StatusCode::NOT_FOUND, "no such file\n")
    }
}

/// A request's path as one below a folder.
fn below(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(path.trim_start_matches('/'));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_folder() {
        for (path, expected) in [
            ("/keys", Some("keys")),
            (
                "/auth/.well-known/openid-configuration",
                Some("auth/.well-known/openid-configuration"),
            ),
            ("//etc/passwd", Some("etc/passwd")),
            ("/../key.pem", None),
            ("/a/../../key.pem", None),
            ("/", None),
        ] {
            assert_eq!(below(path), expected.map(PathBuf::from), "{path}");
        }
    }
}
