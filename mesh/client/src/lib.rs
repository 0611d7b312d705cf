//! The client of the API server, for every program that runs in the cluster. A static binary's C library cannot resolve names, so where the API server is known by
//! one (KUBERNETES_SERVICE_HOST is a name on some managed clusters), it is resolved here.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use kube::client::{ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

/// Makes a client from the pod's service account, or from KUBECONFIG.
///
/// # Errors
/// When neither is there, or does not make sense.
pub async fn connect() -> anyhow::Result<Client> {
    of(Config::infer().await.context("no way to the API server")?)
}

/// Makes a client from a configuration.
///
/// # Errors
/// When it does not make sense.
pub fn of(config: Config) -> anyhow::Result<Client> {
    let host = config.cluster_url.host().unwrap_or_default();
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Client::try_from(config).context("no client of the API server");
    }
    by_name(&config)
}

/// A client that resolves the API server's name.
fn by_name(config: &Config) -> anyhow::Result<Client> {
    let resolver = TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .context("/etc/resolv.conf")?;
    let mut tcp = HttpConnector::new_with_resolver(Resolver(resolver));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config
        .rustls_https_connector_with_connector(tcp)
        .context("TLS to the API server")?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("credentials for the API server")?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// Resolves names for connections.
#[derive(Clone)]
struct Resolver(TokioResolver);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await?;
            // The connector puts the port in.
            Ok(found
                .iter()
                .map(|address| SocketAddr::new(address, 0))
                .collect::<Vec<_>>()
                .into_iter())
        })
    }
}
