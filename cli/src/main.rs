//! `pinnace`: asks the mesh. A command line passes [`arguments`], is run by one of [`commands`], which asks the live proxies and
//! all of the operator's replicas through [`cluster`] (ports forwarded by the API server), or looks at files, and prints by
//! [`output`]. A failure
//! ends with its own exit status and says what to do ([`failure`]).

mod arguments;
mod cluster;
mod commands;
mod failure;
mod files;
mod output;
mod pages;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::CommandLine;
use failure::Failure;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match run(line) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            // Nobody is left to tell where standard error is closed.
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn run(line: CommandLine) -> Result<u8, Failure> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return Err(Failure::other("another cryptography provider was installed before"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("no runtime: {error}")))?;
    let status = runtime.block_on(commands::run(line));
    // A forwarded port that is still being closed is nothing to wait for.
    runtime.shutdown_background();
    status
}
