//! The proxy's command line: `capture` (init container), `sidecar`, `wait` (hook of a classic sidecar).

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use proxy::admin::logging;
use proxy::{capture, sidecar, wait};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's options, which it looks for under this name. Two arenas, since two workers are the default; a burst's memory
/// goes back within a second, and no thread keeps more than 8 KiB buffers for itself.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_OPTIONS: &[u8; 64] = b"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,lg_tcache_max:13\0";

#[derive(Parser)]
#[command(name = "proxy", version, about = "The sidecar of a service mesh")]
struct CommandLine {
    /// Log level: off, error, warn, info, debug, trace, or directives such as info,proxy::inbound=debug.
    #[arg(long, global = true, env = "PROXY_LOG_LEVEL", default_value = "info")]
    log_level: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the rules that send the pod's connections through the sidecar, and prove them.
    #[command(after_help = capture::EXIT_STATUSES)]
    Capture(capture::Flags),
    /// Carry the pod's connections.
    Sidecar(Box<sidecar::Flags>),
    /// Wait until a URL answers 200.
    Wait(wait::Flags),
}

fn main() -> ExitCode {
    let CommandLine { log_level, command } = CommandLine::parse();
    let log = match logging::init(&log_level) {
        Ok(log) => log,
        Err(error) => return fail(&error, 2),
    };
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return fail(&"another cryptography provider was installed before", 1);
    }
    match command {
        Command::Capture(flags) => match small_runtime().map(|r| r.block_on(capture::run(&flags))) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => fail(&error, error.exit_status()),
            Err(error) => fail(&error, 1),
        },
        Command::Sidecar(flags) => match sidecar::Config::parse(&flags) {
            Ok(config) => match small_runtime()
                .map_err(Into::into)
                .and_then(|r| r.block_on(sidecar::run(config, log)))
            {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error, 1),
            },
            Err(errors) => {
                errors.iter().for_each(|error| eprintln!("proxy: {error}"));
                ExitCode::from(2)
            }
        },
        Command::Wait(flags) => match small_runtime()
            .map_err(Into::into)
            .and_then(|r| r.block_on(wait::run(&flags)))
        {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
    }
}

/// For a command that does one thing at a time.
fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn fail(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    eprintln!("proxy: {error:#}");
    ExitCode::from(status)
}
