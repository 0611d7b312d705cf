//! The webhook's process: flags, logs, watches, two listeners, and an end that cuts no review.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use webhook::{
    metrics::Metrics,
    server::{self, Context},
    state::State,
    watch::{self, Place},
};

/// How long reviews are still taken after the process was told to end: as long as it takes until no API server sends
/// any more.
const LAME_DUCK: Duration = Duration::from_secs(5);

/// The admission webhook of Pinnace: injects sidecars and validates the mesh's resources.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Where reviews are taken, over HTTPS.
    #[arg(long, env = "ADDR", default_value = "0.0.0.0:15017")]
    addr: SocketAddr,
    /// Where health and metrics are served, in the clear.
    #[arg(long, env = "METRICS_ADDR", default_value = "0.0.0.0:15014")]
    metrics_addr: SocketAddr,
    /// The control plane's namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "istio-system")]
    namespace: String,
    /// The control plane's revision; empty is the default one.
    #[arg(long, env = "REVISION", default_value = "")]
    revision: String,
    /// error, warn, info, debug or trace, or directives such as info,webhook=debug.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    log_level: String,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("webhook: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .parse(&flags.log_level)
        .context("--log-level")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another cryptography provider was installed before");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(flags))
}

async fn serve(flags: Flags) -> anyhow::Result<()> {
    let client = mesh_client::connect().await?;
    if let Ok(version) = watch::version(&client).await {
        version.check().map_err(anyhow::Error::msg)?;
    }
    let state = Arc::new(State::default());
    let metrics = Metrics::new()?;
    let context = Context::new(Arc::clone(&state), metrics.clone(), &flags.namespace);
    let place = Place {
        namespace: flags.namespace,
        revision: flags.revision,
    };
    let reviews = TcpListener::bind(flags.addr)
        .await
        .with_context(|| format!("--addr {}", flags.addr))?;
    let health = TcpListener::bind(flags.metrics_addr)
        .await
        .with_context(|| format!("--metrics-addr {}", flags.metrics_addr))?;
    tracing::info!(reviews = %flags.addr, metrics = %flags.metrics_addr, namespace = place.namespace, "listening");

    let watches = tokio::spawn(async move { watch::run(client, &place, &state, &metrics).await });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which is an end too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let health = tokio::spawn(server::serve_metrics(health, context.clone(), until(stopped.clone())));
    let reviews = tokio::spawn(server::serve_reviews(reviews, context.clone(), until(stopped)));

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = watches => {
            ended.context("the watches")?;
            anyhow::bail!("the watches ended");
        }
    }
    tracing::info!("ending: reviews are taken for {} s more", LAME_DUCK.as_secs());
    context.ending.store(true, Ordering::Relaxed);
    tokio::time::sleep(LAME_DUCK).await;
    stop.send_replace(true);
    reviews.await??;
    health.await??;
    Ok(())
}
