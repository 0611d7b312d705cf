//! The proxy's own small HTTP servers: readiness for the kubelet (15021), probes on behalf of the kubelet and the
//! application's hooks (15020), metrics (15090) and administration (127.0.0.1:15000).
//!
//! They run on the administration runtime, apart from the data path, and reach the rest of the proxy through
//! [`Handles`] only.

mod application;
mod handles;
mod listen;
pub mod logging;
mod pages;
mod probes;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use application::{TargetError, Targets};
pub use handles::{Certificate, CertificateKind, Handles, Phase, Readiness, View};
pub use logging::LogControl;
pub use probes::{ProbeError, Probes};

use crate::kernel_tls;
use pages::{Pages, Server};

/// What the servers need to know at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where they listen.
    pub addresses: Addresses,
    /// The application's probes and hooks, from `ISTIO_KUBE_APP_PROBERS`.
    pub probes: Probes,
    /// Where the application's own metrics are, from `ISTIO_PROMETHEUS_ANNOTATIONS`.
    pub application: Targets,
    /// The pod's address, which the probes are sent to (`INSTANCE_IP`).
    pub pod_address: IpAddr,
    /// How the proxy is called on `/server_info`: `POD.NAMESPACE`.
    pub name: String,
    /// What was found of TLS by the kernel, for `/server_info`.
    pub kernel_tls: kernel_tls::Found,
}

/// Where the servers listen.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Administration; loopback only, since it changes things.
    pub admin: SocketAddr,
    /// Readiness, probes, hooks and metrics.
    pub agent: SocketAddr,
    /// Readiness for the kubelet.
    pub health: SocketAddr,
    /// The proxy's own metrics.
    pub metrics: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        Self {
            admin: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 15000),
            agent: any(15020),
            health: any(15021),
            metrics: any(15090),
        }
    }
}

/// The servers, bound and not yet serving.
pub struct Servers {
    listeners: Vec<(Server, TcpListener)>,
    pages: Arc<Pages>,
    longest_probe: Duration,
}

impl Servers {
    /// Binds all of them.
    ///
    /// # Errors
    /// A port is taken, or TLS for HTTPS probes cannot be set up.
    pub fn bind(config: Config, handles: Handles) -> io::Result<Self> {
        let Config {
            addresses,
            probes,
            application,
            pod_address,
            name,
            kernel_tls,
        } = config;
        let listeners = [
            (Server::Admin, addresses.admin),
            (Server::Agent, addresses.agent),
            (Server::Health, addresses.health),
            (Server::Metrics, addresses.metrics),
        ]
        .into_iter()
        .map(|(server, address)| Ok((server, listen::bind(address)?)))
        .collect::<io::Result<_>>()?;
        let longest_probe = probes.longest().max(application::MOST_TIME);
        let prober = probes::Prober::new(probes, pod_address).map_err(io::Error::other)?;
        let application = application::Application::new(application, pod_address, &handles.registry);
        let pages = Arc::new(Pages {
            application: application.map_err(io::Error::other)?,
            handles,
            prober,
            name,
            kernel_tls,
            started: Instant::now(),
        });
        Ok(Self {
            listeners,
            pages,
            longest_probe,
        })
    }

    /// Where they listen, with the ports that the system chose for port 0.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addresses(&self) -> io::Result<Addresses> {
        let mut found = Addresses::default();
        for (server, listener) in &self.listeners {
            let address = listener.local_addr()?;
            match server {
                Server::Admin => found.admin = address,
                Server::Agent => found.agent = address,
                Server::Health => found.health = address,
                Server::Metrics => found.metrics = address,
            }
        }
        Ok(found)
    }

    /// Serves until `shutdown`, then lets open requests end for a second.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut serving = JoinSet::new();
        for (server, listener) in self.listeners {
            let pages = Arc::clone(&self.pages);
            let page_time = if server == Server::Agent {
                self.longest_probe
            } else {
                Duration::ZERO
            };
            let answer = move |peer, request: http::Request<hyper::body::Incoming>| {
                let pages = Arc::clone(&pages);
                async move {
                    let (head, _body) = request.into_parts();
                    pages.answer(server, peer, &head.method, &head.uri, &head.headers).await
                }
            };
            serving.spawn(listen::serve(listener, page_time, answer, shutdown.clone()));
        }
        while serving.join_next().await.is_some() {}
    }
}

/// Binds and serves until `shutdown`; on the administration runtime.
///
/// # Errors
/// As [`Servers::bind`].
pub async fn serve(config: Config, handles: Handles, shutdown: CancellationToken) -> io::Result<()> {
    Servers::bind(config, handles)?.run(shutdown).await;
    Ok(())
}

#[cfg(test)]
mod tests;
