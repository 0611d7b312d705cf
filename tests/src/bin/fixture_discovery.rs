//! Serves discovery to proxies from a directory of fixtures, without a cluster. `tests::fixtures` says how they are
//! written.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tests::fixtures::{Options, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Parser)]
#[command(
    name = "fixture-discovery",
    about = "A discovery server that serves fixtures from a directory"
)]
struct Flags {
    /// The directory of fixtures, *.yaml; changes are pushed.
    #[arg(long)]
    dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:15012")]
    addr: SocketAddr,
    /// The directory of the server's tls.crt, tls.key and ca.crt; ca.crt is also the trust bundle that it serves.
    #[arg(long)]
    cert_dir: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another cryptography provider was installed before");
    }
    let options = Options {
        fixtures: flags.dir,
        certificates: flags.cert_dir,
        address: flags.addr,
    };
    let server = Server::new(options).await?;
    // Scripts wait for this line.
    println!("listening on {}", server.address()?);
    let (stop, stopped) = watch::channel(false);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    });
    server.run(stopped).await
}
