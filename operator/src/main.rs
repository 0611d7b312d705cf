//! The operator's process: flags, logs, signals, and the run until one of them ends it.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use operator::run::run;
use operator::settings::{LogFormat, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let filter = EnvFilter::try_new(&settings.log_level).context("--log-level")?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => logs.init(),
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if provider.clone().install_default().is_err() {
        anyhow::bail!("another cryptography provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(async {
        let (stop_in, stop) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop_in.send_replace(true);
            // The sender stays until the process ends, so that nobody takes its end for another signal.
            std::future::pending::<()>().await;
        });
        run(settings, Arc::new(provider), stop).await
    })
}
