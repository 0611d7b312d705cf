//! `proxy sidecar`: puts the parts together, and takes them apart in order.
//!
//! Traffic is carried by worker threads with a runtime each; certificates, discovery and the administration pages live on
//! the main thread's runtime, so that neither waits for the other. [`drain`] is how it ends.

mod config;
mod drain;
mod shown;
mod view;
mod workers;

pub use config::{Config, ConfigError, Flags};

use crate::admin::{self, Handles, LogControl, Phase};
use crate::denials::Denials;
use crate::discovery::{self, Backoff, Client, Limits, Mesh};
use crate::dns::{self, RESOLV_CONF, ResolvConf};
use crate::ext_authz::Calls;
use crate::http::upstream::Pools;
use crate::identity::configs::Handling;
use crate::identity::{self, Identity};
use crate::kernel_tls;
use crate::metrics::Metrics;
use crate::net::listen::{self, Direction, Slots};
use crate::origination::{self, Originations};
use crate::refusals::{Reason, Refusals};
use crate::reports::{self, Reports};
use crate::resolve::Names;
use crate::telemetry::{AccessLog, Telemetry};
use crate::tried::Tried;
use crate::worker::Worker;
use anyhow::Context;
use rustls::crypto::CryptoProvider;
use socket2::SockRef;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use view::SidecarView;

/// The port to which the redirect rules send what the application dials.
pub const OUTBOUND_PORT: u16 = 15001;
/// The port to which they send what comes in.
pub const INBOUND_PORT: u16 = 15006;

/// Runs the sidecar until it is told to end.
///
/// # Errors
/// What keeps it from starting: a port that is taken, a kernel that gives no thread.
pub async fn run(config: Config, log: LogControl) -> anyhow::Result<()> {
    let provider = CryptoProvider::get_default()
        .context("no cryptography provider is installed")?
        .clone();
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&registry)?;
    let kernel_tls = kernel_tls::report(config.kernel_tls, config.tls_resumption, &registry)?;
    let refusals = Refusals::new(metrics.clone());
    let reports = Reports::default();
    let denials = Denials::new(&registry, reports.clone())?;
    let report_counters = reports::send::Counters::new(&registry)?;
    let tried = Tried::new(&registry)?;
    let identity = Identity::default();
    let (mesh, requests) = Mesh::new(Limits::default());
    if let Some(folder) = &config.snapshot_dir {
        let file = discovery::File::new(folder, &config.namespace, &config.pod_name);
        recall(&file, &mesh);
        tokio::spawn(file.keep(mesh.clone()));
    }
    let access_log = AccessLog::new(&config.pod_name).context("the access log cannot start")?;
    let telemetry = Telemetry::new(mesh.clone(), identity.clone(), access_log);
    let phase = watch::Sender::new(Phase::Serving);
    let (stop, stopped) = watch::channel(false);
    let pages_end = CancellationToken::new();

    let handles = Handles {
        view: Arc::new(SidecarView {
            mesh: mesh.clone(),
            identity: identity.clone(),
            refusals: refusals.clone(),
            denials: denials.clone(),
            tried: tried.clone(),
            telemetry: telemetry.clone(),
        }),
        phase: phase.clone(),
        registry,
        log,
    };
    let [pod_ip, ..] = config.pod_ips[..] else {
        anyhow::bail!("INSTANCE_IPS holds no address")
    };
    let pages = admin::Servers::bind(
        admin::Config {
            addresses: admin::Addresses {
                agent: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), config.status_port),
                ..admin::Addresses::default()
            },
            probes: config.probes,
            application: config.application,
            pod_address: pod_ip,
            name: format!("{}.{}", config.pod_name, config.namespace),
            kernel_tls: kernel_tls.clone(),
        },
        handles.clone(),
    )
    .context("the administration servers cannot start")?;
    let outbound = listen::bind(OUTBOUND_PORT).with_context(|| format!("port {OUTBOUND_PORT}"))?;
    let inbound = listen::bind(INBOUND_PORT).with_context(|| format!("port {INBOUND_PORT}"))?;

    if config.dns_capture {
        let conf = ResolvConf::read().with_context(|| format!("{RESOLV_CONF}, whose resolvers DNS capture needs"))?;
        let counters = dns::Counters::new(&handles.registry)?;
        let server = dns::Server::bind(mesh.clone(), &conf, counters)
            .await
            .with_context(|| format!("port {} for DNS", dns::PORT))?;
        tokio::spawn(server.run());
    }

    let originations = Originations::new(
        provider.clone(),
        kernel_tls.in_use().is_some(),
        origination::Counters {
            loaded: metrics.rules_loaded.clone(),
            refused: metrics.rules_refused.clone(),
        },
    );
    let names = Names::new();
    let drains = drain::Drains::new(&phase);
    let context = || {
        Arc::new(Worker {
            mesh: mesh.clone(),
            identity: identity.clone(),
            originations: originations.clone(),
            names: names.clone(),
            kernel_tls: kernel_tls.in_use(),
            upstreams: Pools::default(),
            application: Pools::default(),
            metrics: metrics.clone(),
            telemetry: telemetry.recorder(),
            refusals: refusals.clone(),
            denials: denials.clone(),
            reports: reports.clone(),
            tried: tried.clone(),
            authorizers: Calls::default(),
            tells_denial_ids: config.tells_denial_ids,
            drains_inbound: drains.inbound.subscribe(),
            drains_outbound: drains.outbound.subscribe(),
            own_ports: [OUTBOUND_PORT, INBOUND_PORT],
        })
    };
    let slots = Slots::new(config.max_connections);
    let senders = workers::start(config.concurrency, context).context("the workers cannot start")?;
    let limit = metrics.refused.with_label_values(&[Reason::Limit.as_str()]);
    tokio::spawn(end_inbound(
        inbound.try_clone().context("the inbound listener")?,
        phase.subscribe(),
        config.takes_while_draining,
    ));
    workers::accept(
        outbound,
        Direction::Outbound,
        slots.clone(),
        senders.clone(),
        limit.clone(),
    )?;
    workers::accept(inbound, Direction::Inbound, slots.clone(), senders, limit)?;

    let pages = tokio::spawn(pages.run(pages_end.clone()));
    let holder = identity::watch::Holder {
        namespace: config.namespace.clone(),
        service_account: config.service_account,
        handling: Handling {
            resumption: config.tls_resumption,
            extraction: kernel_tls.in_use().is_some(),
        },
    };
    let counters = identity::watch::Counters {
        loaded: metrics.certificates_loaded.clone(),
        refused: metrics.certificates_refused.clone(),
        expiry: metrics.certificate_expiry.clone(),
    };
    let watching = identity::watch::run(
        config.cert_dir,
        holder,
        identity.clone(),
        mesh.trust(),
        provider,
        counters,
    );
    tokio::spawn(watching);
    let connection = watch::Sender::new(None);
    let sender = reports::send::Sender {
        reports,
        namespace: config.namespace.clone(),
        pod_name: config.pod_name.clone(),
        interval: config.report_interval,
        connection: connection.subscribe(),
        counters: report_counters,
    };
    let reporting = tokio::spawn(sender.run(stopped.clone()));
    let client = Client {
        namespace: config.namespace,
        pod_name: config.pod_name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: config.discovery_address,
        operator: config.operator,
        backoff: Backoff::default(),
        connection,
    };
    let discovery = tokio::spawn(client.run(mesh.clone(), requests, identity.discovery(), stopped));
    tokio::spawn(telemetry.clone().follow());
    tokio::spawn(mesh.clusters().clone().look_after());
    let open = tokio::spawn(measure(slots.clone(), mesh.clone(), metrics.clone()));

    until_the_end(&handles).await?;
    drains.run(&slots, config.drain).await;
    stop.send_replace(true);
    let _ = tokio::join!(discovery, reporting);
    pages_end.cancel();
    let _ = pages.await;
    open.abort();
    telemetry.log().flush();
    Ok(())
}

/// Starts from what an earlier process of this pod left behind, if it did.
fn recall(file: &discovery::File, mesh: &Mesh) {
    match file.load(mesh) {
        Ok(None) => {}
        Ok(Some(age)) => tracing::warn!(
            age_seconds = age.as_secs(),
            "starts from the last good configuration that was kept, until the control plane answers"
        ),
        Err(reason) => tracing::warn!(%reason, "the configuration that was kept is not used"),
    }
}

/// Returns once the proxy is to end: by signal or by `/quitquitquit`. `/drain` alone lets it run on.
async fn until_the_end(handles: &Handles) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut phase = handles.phase.subscribe();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        _ = phase.wait_for(|phase| *phase == Phase::Quitting) => tracing::info!("told to quit: draining"),
    }
    handles.advance(Phase::Draining);
    Ok(())
}

/// Takes no more connections from outside once the proxy has drained for this long (Istio's `drainDuration`, after which
/// Envoy closes its listeners too): whoever connects is refused by the kernel and goes elsewhere. The application's own
/// connections are taken to the end.
async fn end_inbound(listener: TcpListener, mut phase: watch::Receiver<Phase>, after: Duration) {
    if phase.wait_for(|phase| *phase != Phase::Serving).await.is_err() {
        return;
    }
    tokio::time::sleep(after).await;
    match SockRef::from(&listener).shutdown(Shutdown::Both) {
        Ok(()) => tracing::info!(after_s = after.as_secs(), "drained: no further connections are taken"),
        Err(error) => tracing::warn!(%error, "the inbound listener cannot be shut down"),
    }
}

async fn measure(slots: Slots, mesh: Mesh, metrics: Metrics) {
    loop {
        metrics.open.set(i64::try_from(slots.open()).unwrap_or(i64::MAX));
        metrics
            .configuration_age
            .set(mesh.age().unwrap_or_default().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
